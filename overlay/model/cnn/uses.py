# SPDX-License-Identifier: Apache-2.0
"""Combinations of layers that have no integer form, each with what to change.

VEC rectifies once, when it rounds the sums of a convolution, a dense layer, an addition or an average. Pooling by
the largest pixel and Flatten move integers that are stored already.
"""

from collections.abc import Iterator, Set

from hetfab.overlay.model.cnn.layers import AveragePool, BatchNorm, Clip, CnnGraph, Conv, Flatten, Layer, MaxPool
from hetfab.overlay.model.layers import Add, Dense, Relu

#: What ends in sums that are yet to be rounded.
_SUMS = (Conv, Dense, BatchNorm, Add, AveragePool)


def refused_uses(graph: CnnGraph, gaps: Set[str]) -> Iterator[str]:
    """Yields a line for each combination of layers that is refused.

    Args:
        graph: The layers.
        gaps: Tensors of operators that were left out; what they hide is not refused.
    """
    for layer in graph.layers:
        match layer:
            case Relu() | Clip() if layer.input not in gaps:
                yield from _refused_rectifier(layer, graph)
            case Flatten():
                yield from _refused_flatten(layer, graph)
            case BatchNorm() if layer.input not in gaps:
                yield from _refused_batch_norm(layer, graph)
    if graph.output not in gaps:
        yield from _refused_output(graph)


def _refused_rectifier(layer: Relu | Clip, graph: CnnGraph) -> Iterator[str]:
    name = f"{type(layer).__name__} '{layer.output}'"
    match graph.producer(layer.input):
        case None:
            yield f"{name}: it reads the model's input; apply it to the samples beforehand"
        case Relu() | Clip():
            yield f"{name}: it follows another Relu or Clip; write both as one Clip"
        case MaxPool() | Flatten() as moved:
            yield f"{name}: it follows {type(moved).__name__}; put it before that, the result is the same"
    if layer.output == graph.output:
        yield f"{name}: it is the model's output; leave it out, predictions stay the same"


def _refused_flatten(layer: Flatten, graph: CnnGraph) -> Iterator[str]:
    """The overlay holds pixels with their channels side by side, so columns change their order; weights follow it."""
    shape = graph.shapes[layer.input]
    pixels = shape[1] * shape[2] if len(shape) == 3 else 1
    others = [reader for reader in graph.consumers(layer.output) if not isinstance(reader, Dense | BatchNorm)]
    if pixels > 1 and others:
        yield f"Flatten '{layer.output}': '{others[0].output}' reads its columns; only MatMul and Gemm may"


def _refused_batch_norm(layer: BatchNorm, graph: CnnGraph) -> Iterator[str]:
    flat = len(graph.shapes[layer.input]) == 1
    if flat and not folds(layer, graph):
        yield (
            f"BatchNormalization '{layer.output}': it normalises columns that no dense layer alone computes; "
            "put it behind one, or before Flatten"
        )


def folds(layer: BatchNorm, graph: CnnGraph) -> bool:
    """Whether the layer before it is a convolution or dense layer that nothing else reads."""
    before = graph.producer(layer.input)
    return isinstance(before, Conv | Dense) and len(graph.consumers(layer.input)) == 1 and layer.input != graph.output


def _refused_output(graph: CnnGraph) -> Iterator[str]:
    layer: Layer | None = graph.producer(graph.output)
    if isinstance(layer, Flatten):
        shape = graph.shapes[layer.input]
        if len(shape) == 3 and shape[1] * shape[2] > 1:
            yield f"output '{graph.output}': it flattens {shape[1]} x {shape[2]} pixels; end the model before Flatten"
        layer = graph.producer(layer.input)
    if layer is None or not isinstance(layer, (*_SUMS, Relu, Clip)):
        yield (
            f"output '{graph.output}': no layer with weights, sum or average computes it; "
            "end the model with a dense layer or an average"
        )
    if isinstance(layer, Relu | Clip) and layer.output != graph.output:
        yield (
            f"{type(layer).__name__} '{layer.output}': it is the model's output; "
            "leave it out, predictions stay the same"
        )
