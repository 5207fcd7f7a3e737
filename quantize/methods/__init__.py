# SPDX-License-Identifier: Apache-2.0
"""Ways to choose numbers: ranges of activations, integers and scales of weights; a file for each."""

from hetfab.quantize.methods.alternation import alternation
from hetfab.quantize.methods.gptq import gptq
from hetfab.quantize.methods.kl import least_divergence
from hetfab.quantize.methods.layer_problem import LayerProblem, WeightMethod
from hetfab.quantize.methods.min_max import min_max
from hetfab.quantize.methods.nearest import nearest
from hetfab.quantize.methods.percentile import percentile
from hetfab.quantize.methods.square_error import least_square_error
from hetfab.quantize.methods.sub_layerwise import sub_layerwise
from hetfab.quantize.ranges import Criterion

#: Uniform or twin, by data; where no twin range is offered, as the least square error.
TWIN = "uniform or twin"
#: Ranges of activations, by name.
ACTIVATION_METHODS: dict[str, Criterion] = {
    "min-max": min_max,
    "percentile 99.9": percentile(99.9),
    "percentile 99.99": percentile(99.99),
    "least square error": least_square_error,
    "least divergence": least_divergence,
    TWIN: least_square_error,
}
#: Those that ``quantize`` compares unless it is told otherwise.
CRITERIA = {name: ACTIVATION_METHODS[name] for name in ("percentile 99.9", "percentile 99.99", "least square error")}
#: Integers of weights, by name.
WEIGHT_METHODS: dict[str, WeightMethod] = {
    "nearest": nearest,
    "gptq": gptq,
    "alternation": alternation,
    "sub-layerwise": sub_layerwise,
}

__all__ = ["ACTIVATION_METHODS", "CRITERIA", "TWIN", "WEIGHT_METHODS", "LayerProblem", "WeightMethod"]
