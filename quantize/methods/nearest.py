# SPDX-License-Identifier: Apache-2.0
"""Weights rounded to nearest."""

from hetfab.quantize.methods.layer_problem import LayerProblem
from hetfab.quantize.weights import QuantizedWeights, on_lowest, round_to_nearest


def nearest(problem: LayerProblem) -> QuantizedWeights:
    """Each channel's scale has the least square error of the weights; what the layer reads is not looked at."""
    found = round_to_nearest(problem.weight, bits=problem.bits, shared_scale=problem.shared_scale)
    return on_lowest(problem.weight, found, problem.lowest_exponent, problem.significance)
