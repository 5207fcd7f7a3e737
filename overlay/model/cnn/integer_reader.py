# SPDX-License-Identifier: Apache-2.0
"""Reads ``model.q.onnx`` of a convolutional network into integer layers.

The nodes are interpreted in order; each tensor gets a value that says what is known of it. A ``Quant`` of a computed
tensor, and the model's output, end a layer. The arithmetic is that of docs/convolution.md.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import onnx

from hetfab.overlay.errors import (
    ModelStructureError,
    NotQuantizedError,
    OperatorsUnsupportedError,
    OverflowPossibleError,
    counted,
)
from hetfab.overlay.isa.arithmetic import (
    ACCUMULATOR_BITS,
    ACTIVATION_BITS,
    Q8_BITS,
    TERM_BITS,
    WEIGHT_BITS,
    Integers,
)
from hetfab.overlay.model import hgnn
from hetfab.overlay.model.cnn.integer import IntegerCnn, IntegerLayer, Largest, Stored, largest_sum
from hetfab.overlay.model.cnn.integer_ends import (
    Accumulators,
    Q8Terms,
    Rectified,
    exported_layer,
    rounded_layer,
)
from hetfab.overlay.model.cnn.rounded_output import with_sums
from hetfab.overlay.model.cnn.window import Window
from hetfab.overlay.model.layers import attributes, constants_of, describe
from hetfab.overlay.model.reader import graph_inputs, is_quantized
from hetfab.overlay.model.scales import Scales, exact_scales


@dataclass(frozen=True)
class _FloatInput:
    name: str
    shape: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class _Constant:
    """A constant, and its integers once it is rounded."""

    array: npt.NDArray[Any]
    integers: Integers | None = None
    scales: Scales | None = None
    bits: int = 0
    narrow: bool = True


@dataclass(frozen=True, eq=False)
class _Weights:
    """Weights as ONNX has them, with the scale and the width of each output channel."""

    values: Integers
    scales: Scales
    bits: Integers


@dataclass(frozen=True, eq=False)
class _Moved:
    """Stored integers as the columns of a row, channel by channel (Flatten)."""

    of: Stored


_Value: TypeAlias = _FloatInput | _Constant | _Weights | Stored | _Moved | Accumulators | Q8Terms | Rectified


@dataclass
class _Draft:
    """What the interpretation of the nodes fills."""

    values: dict[str, _Value]
    layers: list[IntegerLayer] = field(default_factory=list)
    stored: dict[str, Stored] = field(default_factory=dict)

    def store(self, tensor: Stored) -> Stored:
        self.stored[tensor.name] = tensor
        return tensor

    def constant(self, name: str) -> npt.NDArray[Any]:
        value = self.values.get(name)
        if not isinstance(value, _Constant):
            raise _RefusedError(f"'{name}' is not a constant")
        return value.array

    def read(self, name: str) -> Stored:
        value = self.values.get(name)
        if not isinstance(value, Stored):
            raise _RefusedError(
                f"'{name}' is not a tensor of {ACTIVATION_BITS[0]} to {ACTIVATION_BITS[-1]} bits behind its Quant"
            )
        return value


class _RefusedError(Exception):
    """A node's form is not handled; caught where all are collected."""


def read_integers(model: onnx.ModelProto) -> IntegerCnn:
    """Reads a quantized convolutional network.

    Args:
        model: As ``hetfab quantize`` writes it.

    Raises:
        NotQuantizedError: It has no ``Quant`` operator.
        OperatorsUnsupportedError: Operators that no layer covers, all at once.
        OverflowPossibleError: A sum could leave 32 bits.
        ModelStructureError: A scale has no form that the overlay applies exactly, or scales are too far apart.
    """
    if not is_quantized(model):
        raise NotQuantizedError(
            "the model has no 'Quant' operator",
            "a quantized model, as `hetfab quantize` writes it",
            "run `hetfab quantize MODEL --samples SAMPLES -o QUANTIZED`",
        )
    model = with_sums(model)
    draft = _Draft({name: _Constant(array) for name, array in constants_of(model).items()})
    (value,) = graph_inputs(model)
    draft.values[value.name] = _FloatInput(value.name, _channels_last(value))
    refused, unknown = [], set[str]()
    for node in model.graph.node:
        if any(name in unknown for name in node.input):
            unknown.update(node.output)
            continue
        try:
            draft.values[node.output[0]] = _RULES.get((node.domain, node.op_type), _refuse)(draft, node)
        except _RefusedError as error:
            refused.append(f"{describe(node)}: {error}")
            unknown.update(node.output)
    if refused:
        raise OperatorsUnsupportedError(
            f"{counted(len(refused), 'operator')} cannot be executed in integers:",
            "the layers that `hetfab quantize` writes",
            "quantize the float model again with this hetfab",
            refused,
        )
    name = model.graph.output[0].name
    last, lsb = exported_layer(draft.values.get(name), name)
    draft.store(last.output)
    return IntegerCnn(draft.stored[value.name], (*draft.layers, last), draft.stored, last.output, lsb)


def _channels_last(value: onnx.ValueInfoProto) -> tuple[int, ...]:
    sizes = tuple(dim.dim_value for dim in value.type.tensor_type.shape.dim[1:])
    return (*sizes[1:], sizes[0]) if len(sizes) == 3 else sizes


def _refuse(draft: _Draft, node: onnx.NodeProto) -> _Value:
    raise _RefusedError("the operator is not known")


def _exponent(scales: Scales, node: onnx.NodeProto) -> int:
    """The exponent of a tensor's one scale."""
    if scales.mantissas.size != 1 or scales.mantissas[0] != 1:
        raise ModelStructureError(
            f"{describe(node)} has a scale that is not one power of two",
            "one scale 2^e for each tensor; only weights have others",
            "quantize the float model again with this hetfab",
        )
    return int(scales.exponents[0])


def _quant(draft: _Draft, node: onnx.NodeProto) -> _Value:
    source, scale_name, zero_name, bits_name = node.input
    flags = attributes(node)
    signed, narrow = bool(flags.get("signed", 1)), bool(flags.get("narrow", 0))
    if np.any(draft.constant(zero_name) != 0) or flags.get("rounding_mode", b"ROUND") != b"ROUND":
        raise _RefusedError("only zero points of 0 and the rounding mode ROUND are executed")
    bits = int(draft.constant(bits_name))
    scale = draft.constant(scale_name)
    scales = exact_scales(scale, node)
    match draft.values.get(source):
        case _Constant(array, None) if signed:
            low, high = -(1 << (bits - 1)) + narrow, (1 << (bits - 1)) - 1
            steps = np.rint(np.clip(array.astype(np.float64) / scale.astype(np.float64), low, high))
            return _Constant(array, steps.astype(np.int64), scales, bits, narrow)
        case Accumulators() as products if bits == TERM_BITS and signed:
            return Q8Terms(_exponent(scales, node) + Q8_BITS, products.shape, products)
        case _ if bits not in ACTIVATION_BITS or narrow:
            raise _RefusedError(
                f"it rounds to {bits} bits{', narrow' if narrow else ''}; tensors have {ACTIVATION_BITS[0]} to "
                f"{ACTIVATION_BITS[-1]} bits, not narrow, terms of an addition {TERM_BITS}"
            )
        case _FloatInput(name, shape):
            return draft.store(Stored(name, shape, bits, signed, _exponent(scales, node)))
        case (Accumulators() | Q8Terms() | Rectified()) as value:
            inner = value.value if isinstance(value, Rectified) else value
            output = Stored(node.output[0], inner.shape, bits, signed, _exponent(scales, node))
            draft.layers.append(rounded_layer(value, draft.store(output)))
            return output
    raise _RefusedError(f"'{source}' is rounded twice, or is nothing that is rounded")


def _bipolar_quant(draft: _Draft, node: onnx.NodeProto) -> _Value:
    array, scale = (draft.constant(name) for name in node.input)
    return _Constant(array, np.where(array < 0, -1, 1).astype(np.int64), exact_scales(scale, node), 1)


def _weights(draft: _Draft, name: str) -> _Weights:
    """A constant as a layer's weights; output channels are the first axis of a convolution, the last of a matrix."""
    value = draft.values.get(name)
    if isinstance(value, _Weights):
        return value
    if not isinstance(value, _Constant) or value.integers is None or value.scales is None:
        raise _RefusedError(f"'{name}' is not a constant behind its Quant or BipolarQuant")
    if value.bits not in WEIGHT_BITS or not (value.narrow or value.bits == 2):
        raise _RefusedError(
            f"the weights '{name}' have {value.bits} bits, {'narrow' if value.narrow else 'not narrow'}; weights have "
            f"{WEIGHT_BITS[0]} to {WEIGHT_BITS[-1]} bits and, from 3 bits on, are narrow"
        )
    outputs = value.integers.shape[_outputs_axis(value.integers)]
    return _Weights(value.integers, value.scales.of_columns(outputs), np.full(outputs, value.bits))


def _outputs_axis(weight: Integers) -> int:
    return 0 if weight.ndim == 4 else 1


def _concat(draft: _Draft, node: onnx.NodeProto) -> _Value:
    """Weights of several widths, side by side: output channels of one layer."""
    parts = [_weights(draft, name) for name in node.input]
    axis = _outputs_axis(parts[0].values)
    if attributes(node).get("axis") not in (axis, axis - parts[0].values.ndim):
        raise _RefusedError(f"weights are joined along the output channels, axis {axis}")
    scales = Scales(
        np.concatenate([part.scales.mantissas for part in parts]),
        np.concatenate([part.scales.exponents for part in parts]),
    )
    values = np.concatenate([part.values for part in parts], axis=axis)
    return _Weights(values, scales, np.concatenate([part.bits for part in parts]))


def _biased(draft: _Draft, products: Accumulators, name: str) -> Accumulators:
    """Sums with a bias whose values are whole numbers at their scale, whatever its own scale and width."""
    value = draft.values.get(name)
    if not isinstance(value, _Constant) or value.integers is None or value.scales is None:
        raise _RefusedError(f"'{name}' is not a constant behind its Quant")
    steps = _steps(value.integers.reshape(-1), value.scales, products.scales)
    if any(step.denominator != 1 for step in steps):
        raise _RefusedError(f"the bias '{name}' has values between the steps of the products' scale")
    if any(abs(step) >= 1 << (ACCUMULATOR_BITS - 1) for step in steps):
        raise _RefusedError(f"the bias '{name}' takes more than {ACCUMULATOR_BITS} bits at the scale of the products")
    return replace(products, bias=products.bias + np.array([int(step) for step in steps]))


def _steps(integers: Integers, scales: Scales, target: Scales) -> list[Fraction]:
    """Integers at their scales in steps of other scales, [N] each."""
    count = target.mantissas.size
    own = scales.of_columns(count)
    rows = zip(
        np.broadcast_to(integers, count),
        own.mantissas,
        target.mantissas,
        own.exponents - target.exponents,
        strict=True,
    )
    return [Fraction(int(i) * int(m), int(of)) * Fraction(2) ** int(power) for i, m, of, power in rows]


def _checked(products: Accumulators, name: str) -> Accumulators:
    worst = largest_sum(products.weight, products.bias, products.read)
    if worst >= 1 << (ACCUMULATOR_BITS - 1):
        raise OverflowPossibleError(
            f"the sums of '{name}' can reach {worst}, which takes {math.ceil(math.log2(worst)) + 1} bits",
            f"at most {ACCUMULATOR_BITS} bits",
            "quantize with fewer bits or a larger weight scale",
        )
    return products


def _accumulators(
    read: Stored, weights: _Weights, laid_out: Integers, window: Window | None, groups: int
) -> Accumulators:
    """Sums of products, without a bias; ``laid_out`` is [rows, columns, inputs / groups, outputs]."""
    positions = () if window is None else window.positions((read.shape[0], read.shape[1]))
    return Accumulators(
        read,
        np.ascontiguousarray(laid_out),
        weights.bits,
        np.zeros(weights.bits.size, np.int64),
        window,
        groups,
        weights.scales.times_power(read.exponent),
        (*positions, weights.bits.size),
    )


def _window(node: onnx.NodeProto) -> Window:
    values: dict[str, Any] = attributes(node)
    rows, columns = values["kernel_shape"]
    above, left, below, right = values.get("pads", (0, 0, 0, 0))
    strides, dilations = (tuple(values.get(name, (1, 1))) for name in ("strides", "dilations"))
    if "auto_pad" in values or values.get("ceil_mode", 0):
        raise _RefusedError("auto_pad or ceil_mode leaves its padding open")
    return Window((rows, columns), (strides[0], strides[1]), (dilations[0], dilations[1]), (above, left, below, right))


def _conv(draft: _Draft, node: onnx.NodeProto) -> _Value:
    weights, read = _weights(draft, node.input[1]), draft.read(node.input[0])
    values: dict[str, Any] = attributes(node)
    laid_out = weights.values.transpose(2, 3, 1, 0)
    products = _accumulators(read, weights, laid_out, _window(node), int(values.get("group", 1)))
    if len(node.input) > 2:
        products = _biased(draft, products, node.input[2])
    return _checked(products, node.output[0])


def _matmul(draft: _Draft, node: onnx.NodeProto) -> _Value:
    """A dense layer; behind Flatten its rows change from the order of ONNX to that of the image's bytes."""
    weights, value = _weights(draft, node.input[1]), draft.values.get(node.input[0])
    read, laid_out = value.of if isinstance(value, _Moved) else draft.read(node.input[0]), weights.values
    if math.prod(read.shape) != len(laid_out):
        raise _RefusedError(f"it multiplies {read.shape} by {counted(len(laid_out), 'row')} of weights")
    if len(read.shape) == 3:
        rows, columns, channels = read.shape
        laid_out = laid_out.reshape(channels, rows, columns, -1).transpose(1, 2, 0, 3).reshape(laid_out.shape)
    return _checked(_accumulators(read, weights, laid_out[None, None], None, 1), node.output[0])


def _add(draft: _Draft, node: onnx.NodeProto) -> _Value:
    left, right = (draft.values.get(name) for name in node.input)
    if isinstance(left, Accumulators):
        return _checked(_biased(draft, left, node.input[1]), node.output[0])
    terms = [Q8Terms(v.exponent, v.shape, stored=(v,)) if isinstance(v, Stored) else v for v in (left, right)]
    match terms:
        case [Q8Terms(average=None) as first, Q8Terms(average=None) as second] if first.exponent == second.exponent:
            products, stored = first.products or second.products, first.stored + second.stored
            if len(stored) == (1 if products else 2):
                return Q8Terms(first.exponent, first.shape, products, stored)
    raise _RefusedError("it adds something other than a bias, or two terms of one scale with one stored at least")


def _rectify(draft: _Draft, node: onnx.NodeProto) -> _Value:
    highest = None
    if node.op_type == "Clip":
        lowest, highest = (float(draft.constant(name)) for name in node.input[1:])
        if lowest != 0.0:
            raise _RefusedError("it limits from something other than 0")
    match draft.values.get(node.input[0]):
        case (Accumulators() | Q8Terms()) as value:
            return Rectified(value, highest)
    raise _RefusedError("it does not follow sums that are yet to be rounded")


def _max_pool(draft: _Draft, node: onnx.NodeProto) -> _Value:
    read, window = draft.read(node.input[0]), _window(node)
    positions = window.positions((read.shape[0], read.shape[1]))
    output = draft.store(replace(read, name=node.output[0], shape=(*positions, read.shape[2])))
    draft.layers.append(Largest(output, read, window))
    return output


def _average_pool(draft: _Draft, node: onnx.NodeProto) -> _Value:
    read, window = draft.read(node.input[0]), _window(node)
    if _exponent(exact_scales(draft.constant(node.input[2]), node), node) != read.exponent:
        raise _RefusedError("its scale is not that of its input")
    numbers = draft.constant(node.input[1]).astype(np.int64)[0, 0]
    return Q8Terms(read.exponent, (*numbers.shape, read.shape[2]), average=(read, window, numbers))


def _flatten(draft: _Draft, node: onnx.NodeProto) -> _Value:
    """Stored integers stay where they are; sums on their way out lose their one row and column."""
    match draft.values.get(node.input[0]):
        case Stored() as read:
            return _Moved(read)
        case _Moved() as moved:
            return moved
        case (Accumulators() | Q8Terms()) as value if math.prod(value.shape[:-1]) == 1:
            return replace(value, shape=value.shape[-1:])
    raise _RefusedError("it flattens neither stored integers nor sums of one pixel")


#: (domain, operator) -> rule.
_RULES: dict[tuple[str, str], Callable[[_Draft, onnx.NodeProto], _Value]] = {
    (hgnn.QUANT_DOMAIN, "Quant"): _quant,
    (hgnn.QUANT_DOMAIN, "BipolarQuant"): _bipolar_quant,
    ("", "Concat"): _concat,
    ("", "Conv"): _conv,
    ("", "MatMul"): _matmul,
    ("", "Add"): _add,
    ("", "Relu"): _rectify,
    ("", "Clip"): _rectify,
    ("", "MaxPool"): _max_pool,
    ("", "Flatten"): _flatten,
    (hgnn.DOMAIN, "QAveragePool"): _average_pool,
}
