# SPDX-License-Identifier: Apache-2.0
"""Layers whose instructions are mixed, as far as the network alone tells: their feature maps need places of their own.

Convolutions of one tensor, and pooling of the last one's result, are emitted step by step in turn; what is left of the
pooling goes between the steps of the next ones, where these read what is pooled. What reads the result of a fused
convolution begins before that is complete.
"""

from collections.abc import Collection

from hetfab.overlay.compiler.cnn.depthwise_code import runs_on_dw
from hetfab.overlay.design import Geometry
from hetfab.overlay.model.cnn.integer import IntegerCnn, Product, Sum
from hetfab.overlay.model.cnn.interpreter import reads


def reading_ends(model: IntegerCnn, fused: Collection[int], geometry: Geometry) -> list[int]:
    """Of each layer the last one that may store something before that layer has read everything.

    Args:
        model: The network.
        fused: Layers that are fused with the next one.
        geometry: The design's geometry.
    """
    layers = model.layers
    on_cores = [
        isinstance(layer, Product | Sum) and not runs_on_dw(layer, geometry) and index not in fused
        for index, layer in enumerate(layers)
    ]
    ends = list(range(len(layers)))
    # From the last layer to the first: an end follows from those of the layers behind.
    for index in reversed(range(len(layers) - 1)):
        layer, following = layers[index : index + 2]
        takes = layer.output is reads(following)[0]
        if index in fused:
            ends[index] = ends[index + 1]
        elif index - 1 in fused:
            ends[index] = _convolutions_end(model, on_cores, index + 1) if takes and on_cores[index + 1] else index
        elif not on_cores[index]:
            ends[index] = ends[index + 1] if takes and on_cores[index + 1] else index
        elif on_cores[index + 1] and reads(layer)[0] is reads(following)[0]:
            ends[index] = ends[index + 1]
        elif takes and not on_cores[index + 1] and index + 1 not in fused:
            ends[index] = index + 1
    return ends


def _convolutions_end(model: IntegerCnn, on_cores: list[bool], first: int) -> int:
    """The last of consecutive convolutions that read one tensor."""
    source, last = reads(model.layers[first])[0], first
    while last + 1 < len(on_cores) and on_cores[last + 1] and reads(model.layers[last + 1])[0] is source:
        last += 1
    return last
