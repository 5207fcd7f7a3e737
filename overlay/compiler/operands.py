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
from hetfab.overlay.isa.spec import isa
from hetfab.overlay.layouts import IntArray, padded

GEMM_D = "gemm_d"
GEMM_L = "gemm_l"
#: Planes of an output channel whose sums could leave GEMM-L's; more than any weight has.
NOT_ON_L = 99


@dataclass(frozen=True)
class Operands:
    """Formats of a dense term.

    Attributes:
        packed: Whether activations are two a byte, and GEMM-D's weights int4.
        slices: Slices of 4 bits of an activation on GEMM-L.
        planes: Bits of a weight of each output channel on GEMM-L, or ``NOT_ON_L``. Channels of one instruction take
            as many planes as the widest of them; one plane means -1 and 1.
        cores: The cores of the design.
    """

    packed: bool
    slices: int
    planes: tuple[int, ...]
    cores: frozenset[str]

    @property
    def activation_bits(self) -> int:
        """Bits of an activation as the cores see it."""
        return 4 if self.packed else 8

    def bias_on_d(self, dense: DenseTerm, columns: slice) -> IntArray:
        """Bias of output channels on GEMM-D, int32 range."""
        sums = dense.weight[~dense.signed_inputs, columns].sum(axis=0)
        return wrap32(dense.bias[columns] + (sums << self.activation_bits - 1))

    def bias_on_l(self, dense: DenseTerm, columns: slice, inputs: int, *, bipolar: bool) -> IntArray:
        """Bias of output channels on GEMM-L, int32 range.

        Args:
            dense: The term.
            columns: The channels.
            inputs: Input channels with those that pad a row, whose bipolar weights are +1.
            bipolar: Whether their weights are one plane.
        """
        weight = dense.weight[:, columns]
        sums = weight[dense.signed_inputs].sum(axis=0)
        sums += inputs - len(weight) if bipolar and dense.reads[-1].signed else 0
        bias = dense.bias[columns] - (sums << self.activation_bits - 1)
        if bipolar:
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
    bits = 4 if packed else 8
    reach = _reach(dense, bits)
    served = reach < 1 << geometry.gemm_l_acc_bits - 1
    cores = {GEMM_D, GEMM_L} & set(geometry.engines)
    if GEMM_D not in cores and not served.all():
        largest = int(reach.max())
        raise OverflowPossibleError(
            f"the sums of '{name}' on GEMM-L can reach {largest}, which takes {largest.bit_length() + 1} bits",
            f"at most {geometry.gemm_l_acc_bits} bits, the design's gemm_l_acc_bits",
            "use a design with wider sums or with GEMM-D, or quantize with fewer bits",
        )
    planes = np.where(served, dense.weight_bits, NOT_ON_L)
    return Operands(packed, 1 if packed else 2, tuple(planes.tolist()), frozenset(cores))


def _reach(dense: DenseTerm, activation_bits: int) -> IntArray:
    """The largest magnitude of each output channel's sums on GEMM-L, whose activations are 0 to 15 or 255.

    Bipolar weights add an activation or what it lacks to the largest one, those of channels that pad a row too.
    """
    largest = (1 << activation_bits) - 1
    bipolar = padded(dense.inputs, 8 * isa().block_bytes // activation_bits)
    return np.asarray(largest * np.where(dense.weight_bits == 1, bipolar, dense.largest_sums), np.int64)
