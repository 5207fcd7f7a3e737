# SPDX-License-Identifier: Apache-2.0
"""Runs a quantized convolutional network layer by layer with the golden functions: the reference of every execution."""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from hetfab.overlay.isa.arithmetic import Q8_BITS, Integers, requantize, saturate, wrap32
from hetfab.overlay.model.cnn.golden import add_q8, average_q8, convolve, max_pool, multiply
from hetfab.overlay.model.cnn.integer import (
    Average,
    Ending,
    Finish,
    IntegerCnn,
    IntegerLayer,
    Largest,
    Product,
    Stored,
    Sum,
)


def round_samples(samples: npt.NDArray[np.float32], given: Stored) -> Integers:
    """Samples as integers in the overlay's order.

    Args:
        samples: float32 [N, channels, rows, columns] or [N, columns], as the model takes them.
        given: The model's input.

    Returns:
        int64 [N, *given.shape].
    """
    steps = np.rint(np.clip(samples.astype(np.float64) / given.scale, given.lowest, given.highest)).astype(np.int64)
    return steps.transpose(0, 2, 3, 1) if steps.ndim == 4 else steps


def run_integers(model: IntegerCnn, samples: npt.NDArray[np.float32]) -> Iterator[tuple[Stored, Integers]]:
    """Yields every tensor of a run, the samples first, the logits last; int64 [N, *shape] each.

    Args:
        model: The network.
        samples: float32, as the model takes them.
    """
    tensors = {model.input.name: round_samples(samples, model.input)}
    yield model.input, tensors[model.input.name]
    last = {read.name: index for index, layer in enumerate(model.layers) for read in reads(layer)}
    for index, layer in enumerate(model.layers):
        found = run_layer(layer, *(tensors[read.name] for read in reads(layer)))
        tensors = {name: values for name, values in tensors.items() if last[name] > index}
        if layer.output.name in last:
            tensors[layer.output.name] = found
        yield layer.output, found


def logits(model: IntegerCnn, samples: npt.NDArray[np.float32]) -> Integers:
    """The integer logits, int64 [N, *shape of the output]."""
    return next(values for tensor, values in run_integers(model, samples) if tensor is model.output)


def reads(layer: IntegerLayer) -> tuple[Stored, ...]:
    """The tensors that a layer reads."""
    match layer:
        case Sum(left=left, right=right):
            return left, right
        case Product(input=read, residual=Stored() as residual):
            return read, residual
    return (layer.input,)


def run_layer(layer: IntegerLayer, *operands: Integers) -> Integers:
    """The result of a layer from what it reads, int64 [N, *shape]."""
    match layer:
        case Largest(input=read, window=window):
            return max_pool(operands[0], window, read.lowest)
        case Sum(output=output, finish=finish):
            left, right = operands
            return _finished((left + right) << Q8_BITS, finish, output)
        case Average(output=output, window=window, divisors=divisors, finish=finish):
            return _finished(average_q8(operands[0], window, divisors), finish, output)
    return _product(layer, *operands)


def _product(layer: Product, read: Integers, residual: Integers | None = None) -> Integers:
    if layer.window is None:
        sums = multiply(read.reshape(len(read), -1), layer.weight[0, 0])
    else:
        sums = convolve(read, layer.weight, layer.window, groups=layer.groups)
    biased = wrap32(sums + layer.bias)
    if residual is not None:
        return _finished(add_q8(residual, biased, layer.multiplier, layer.shift), layer.finish, layer.output)
    if layer.finish.ending is Ending.EXPORT_ACCUMULATORS:
        return biased.reshape(len(biased), *layer.output.shape)
    return _limited(requantize(biased, layer.multiplier, layer.shift), layer.finish, layer.output)


def _finished(q8: Integers, finish: Finish, output: Stored) -> Integers:
    """A sum in Q.8 as the layer's result."""
    if finish.ending is Ending.EXPORT_SUMS:
        return q8.reshape(len(q8), *output.shape)
    return _limited(requantize(q8, 1 << finish.post_left, finish.post_shift), finish, output)


def _limited(rounded: Integers, finish: Finish, output: Stored) -> Integers:
    lowest = 0 if finish.rectified else output.lowest
    return np.clip(saturate(rounded, output.bits, unsigned=not output.signed), lowest, finish.highest)
