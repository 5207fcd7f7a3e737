# SPDX-License-Identifier: Apache-2.0
"""LUTs and DSPs of the processing elements of GEMM-D and GEMM-L, by sizes and form.

A count of adder bits and the like times constants that ``benchmarks.area`` fits to what Yosys maps; docs/area.md
has the measurements and their errors.
"""

from collections.abc import Mapping
from enum import Enum

from hetfab.overlay.costs.area import area_constant

#: Planes of the widest word of weights.
WEIGHT_BITS = 8
_CHAIN_LENGTH = 8


class Form(str, Enum):
    """How an element is written."""

    #: LUTs and carry chains instantiated: hls/verilog as a black box.
    MAPPED = "mapped"
    #: As a synthesis tool builds it from C++.
    PLAIN = "plain"


def plane_dot_terms(lanes: int, slice_bits: int, acc_bits: int, form: Form) -> dict[str, float]:
    """How often a processing element of GEMM-L has each constant of its area."""
    sum_bits = (lanes * ((1 << slice_bits) - 1)).bit_length()
    prefix = f"lut_plane_dot_{form.value}"
    return {
        f"{prefix}_per_gate": lanes * slice_bits / 2,
        f"{prefix}_per_tree_bit": sum(n * (bits + 1) for n, bits in tree_levels(lanes // 2, slice_bits + 1)),
        f"{prefix}_per_accumulator_bit": sum_bits + WEIGHT_BITS + acc_bits,
        f"{prefix}_control": 1,
    }


def chain_terms(rows: int, cols: int, acc_bits: int, form: Form) -> dict[str, float]:
    """How often GEMM-D's array has each constant of its area."""
    return {
        "lut_chain_per_row_pair": rows / 2,
        "lut_chain_per_column_pair": cols / 2,
        f"lut_chain_{form.value}_per_sum_bit": rows * cols * acc_bits,
        f"lut_chain_{form.value}_per_sum": rows * cols,
    }


def plane_dot_luts(lanes: int, slice_bits: int, acc_bits: int, form: Form) -> float:
    """LUTs of a processing element of GEMM-L.

    Args:
        lanes: Channels of a step, even.
        slice_bits: Activation bits of a step.
        acc_bits: Of the outer accumulator.
        form: How it is written.
    """
    return _weighted(plane_dot_terms(lanes, slice_bits, acc_bits, form))


def chain_luts(rows: int, cols: int, acc_bits: int, form: Form) -> float:
    """LUTs of GEMM-D's chains with their operands and accumulators, without memories, drain and control.

    Args:
        rows: Of the array, even.
        cols: Of the array, even.
        acc_bits: Of an accumulator.
        form: How the accumulators are written.
    """
    return _weighted(chain_terms(rows, cols, acc_bits, form))


def chain_dsps(rows: int, cols: int) -> int:
    """DSPs of GEMM-D's chains: 8 for every 2 x 2 sums."""
    return _CHAIN_LENGTH * rows * cols // 4


def tree_levels(count: int, width: int) -> list[tuple[int, int]]:
    """Adders of each level of ternary adders that reduces values to two, and the bits of their operands.

    Args:
        count: Values.
        width: Bits of a value.
    """
    levels = []
    while count > 2:
        levels.append((count // 3, width))
        count, width = count // 3 + count % 3, width + 2
    return levels


def _weighted(terms: Mapping[str, float]) -> float:
    return sum(times * area_constant(name) for name, times in terms.items())
