# SPDX-License-Identifier: Apache-2.0
"""A dense term's operands on the two cores: their formats, which cores can take them, and the offsets in the bias.

GEMM-D takes signed activations and GEMM-L unsigned ones; the others enter with their top bit flipped, that is with an
offset, and the bias makes up for what the offset adds (docs/gemm.md).
"""

from dataclasses import dataclass

import numpy as np

from hetfab.overlay.compiler.lowered import DenseTerm
from hetfab.overlay.design import Geometry
from hetfab.overlay.errors import OverflowPossibleError
from hetfab.overlay.isa.arithmetic import wrap32
from hetfab.overlay.layouts import IntArray

GEMM_D = "gemm_d"
GEMM_L = "gemm_l"


@dataclass(frozen=True)
class Operands:
    """Formats of a dense term.

    Attributes:
        packed: Whether activations are two a byte, and GEMM-D's weights int4.
        slices: Slices of 4 bits of an activation on GEMM-L.
        planes: Bits of a weight on GEMM-L.
        bipolar: Whether that bit means -1 or 1.
        cores: The cores of the design that can take them.
    """

    packed: bool
    slices: int
    planes: int
    bipolar: bool
    cores: frozenset[str]

    @property
    def activation_bits(self) -> int:
        """Bits of an activation as the cores see it."""
        return 4 if self.packed else 8

    def bias_on_d(self, dense: DenseTerm, columns: slice) -> IntArray:
        """Bias of output channels on GEMM-D, int32 range."""
        bias, sums = dense.bias[columns], dense.weight[:, columns].sum(axis=0)
        return wrap32(bias if dense.input.signed else bias + (sums << self.activation_bits - 1))

    def bias_on_l(self, dense: DenseTerm, columns: slice, inputs: int) -> IntArray:
        """Bias of output channels on GEMM-L, int32 range.

        Args:
            dense: The term.
            columns: The channels.
            inputs: Input channels with those that pad a row, whose bipolar weights are +1.
        """
        weight = dense.weight[:, columns]
        sums = weight.sum(axis=0) + (inputs - len(weight) if self.bipolar else 0)
        bias = dense.bias[columns] - ((sums << self.activation_bits - 1) if dense.input.signed else 0)
        if self.bipolar:
            bias = bias - ((1 << self.activation_bits) - 1) * (weight < 0).sum(axis=0)
        return wrap32(bias)


def operands_of(dense: DenseTerm, packed: bool, geometry: Geometry, name: str) -> Operands:
    """Chooses the formats.

    Args:
        dense: The term.
        packed: Whether its input is stored two channels a byte.
        geometry: The design's geometry.
        name: The layer, named in errors.

    Raises:
        OverflowPossibleError: The design has GEMM-L only, and its sums are too narrow.
    """
    bipolar = bool((dense.weight_bits == 1).all())
    # A bipolar weight beside wider ones is two's complement of 2 bits.
    planes = 1 if bipolar else int(np.maximum(dense.weight_bits, 2).max(initial=2))
    operands = Operands(packed, 1 if packed else 2, planes, bipolar, frozenset())
    reach = _reach(dense, operands)
    cores = {GEMM_D, GEMM_L} & set(geometry.engines)
    if reach >= 1 << geometry.gemm_l_acc_bits - 1:
        cores -= {GEMM_L}
    if not cores:
        raise OverflowPossibleError(
            f"the sums of '{name}' on GEMM-L can reach {reach}, which takes {reach.bit_length() + 1} bits",
            f"at most {geometry.gemm_l_acc_bits} bits, the design's gemm_l_acc_bits",
            "use a design with wider sums or with GEMM-D, or quantize with fewer bits",
        )
    return Operands(packed, operands.slices, planes, bipolar, frozenset(cores))


def _reach(dense: DenseTerm, operands: Operands) -> int:
    """The largest magnitude of a sum on GEMM-L, whose activations are 0 to 15 or 255."""
    largest = (1 << operands.activation_bits) - 1
    if operands.bipolar:
        return largest * len(dense.weight)
    up = np.maximum(dense.weight, 0).sum(axis=0).max(initial=0)
    down = np.maximum(-dense.weight, 0).sum(axis=0).max(initial=0)
    return largest * int(max(up, down))
