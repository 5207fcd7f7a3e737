# SPDX-License-Identifier: Apache-2.0
"""The processing elements of hls/verilog by their sizes: a module's name and parameters."""

from hetfab.hls.build.yosys import Module, module
from hetfab.overlay.costs.elements import WEIGHT_BITS, Form, tree_levels


def plane_sizes(lanes: int, slice_bits: int) -> dict[str, int]:
    """Parameters of plane_dot.v that follow from the number of lanes and the bits of a slice."""
    return {
        "LANES": lanes,
        "SLICE": slice_bits,
        "SUM": (lanes * ((1 << slice_bits) - 1)).bit_length(),
        "LEVELS": len(tree_levels(lanes // 2, slice_bits + 1)),
    }


def plane_dot_module(lanes: int, slice_bits: int, acc_bits: int, form: Form) -> Module:
    """GEMM-L's processing element.

    Args:
        lanes: Channels of a step, even.
        slice_bits: Activation bits of a step.
        acc_bits: Of the outer accumulator.
        form: How it is written.
    """
    parameters = plane_sizes(lanes, slice_bits)
    inner = parameters["SUM"] + WEIGHT_BITS
    return module("plane_dot", **parameters, INNER=inner, OUTER=acc_bits, MAPPED=int(form is Form.MAPPED))


def chain_module(rows: int, cols: int, acc_bits: int, form: Form) -> Module:
    """GEMM-D's array.

    Args:
        rows: Even.
        cols: Even.
        acc_bits: Of an accumulator.
        form: How the accumulators are written.
    """
    return module("chain_array", ROWS=rows, COLS=cols, WIDTH=acc_bits, MAPPED=int(form is Form.MAPPED))
