# SPDX-License-Identifier: Apache-2.0
"""The table of packed products, ``isa/dsp_packing.json``: how many a DSP slice holds, and for how many additions.

``hls/include/hetfab/dsp_packing.hpp`` states the rows that GEMM-D's chain uses. Tests compare the two, and try every
row over all operands. ``docs/dsp-packing.md`` says how it works.
"""

import functools
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class DspSlice:
    """A kind of DSP slice; its numbers are signed.

    Attributes:
        name: As in a board's ``dsp``.
        weight_port: Bits of the multiplier's wide operand, behind the pre-adder.
        activation_port: Bits of the other operand.
        sum_port: Bits of the accumulator.
    """

    name: str
    weight_port: int
    activation_port: int
    sum_port: int


@dataclass(frozen=True)
class Packing:
    """Products of weights and activations in one slice, in fields of one sum.

    Attributes:
        dsp: Name of the slice.
        bits: Of weights and of activations.
        narrow: Whether weights leave out the most negative number.
        unsigned: Whether activations are unsigned.
        products: In one multiplication. 2: two weights share an activation. 4: two weights times two activations.
        spacing: Bits from a field to the next.
        accumulations: Multiplications whose sums the fields hold for all operands.
    """

    dsp: str
    bits: int
    narrow: bool
    unsigned: bool
    products: int
    spacing: int
    accumulations: int


def dsp_slices() -> tuple[DspSlice, ...]:
    """Every kind of slice."""
    return tuple(DspSlice(**entry) for entry in _table()["slices"])


def packings() -> tuple[Packing, ...]:
    """All rows, in the order of the file."""
    return tuple(Packing(**entry) for entry in _table()["packings"])


@functools.cache
def _table() -> dict[str, Any]:
    table: dict[str, Any] = json.loads((Path(__file__).parent / "dsp_packing.json").read_text(encoding="utf-8"))
    return table
