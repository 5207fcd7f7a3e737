# SPDX-License-Identifier: Apache-2.0
"""Takes from a layer's bias what rounding its weights adds to the mean of its outputs.

``b' = b - E[x] (W' - W)`` (Nagel et al., Data-Free Quantization Through Weight Equalization and Bias Correction, ICCV
2019, section 4.2, with the mean observed). Weights that were rounded for what the layer reads leave little to correct.
"""

from dataclasses import replace

import numpy as np

from hetfab.overlay.model.layers import Dense
from hetfab.quantize.methods.layer_problem import LayerInputs
from hetfab.quantize.weights import LayerWeights


def corrected(layer: Dense, weights: LayerWeights, inputs: LayerInputs) -> LayerWeights:
    """Weights with a corrected bias; as they are where the layer has no bias.

    Args:
        layer: The float layer.
        weights: Its rounded weights.
        inputs: What it reads.
    """
    if layer.bias is None:
        return weights
    added = inputs.mean @ (weights.restored.astype(np.float64) - layer.weight)
    return replace(weights, bias=np.asarray(layer.bias - added, dtype=np.float32))
