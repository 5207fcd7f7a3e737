# SPDX-License-Identifier: Apache-2.0
"""Reads QDQ and QCDQ models, as onnxruntime's ``quantize_static`` and others write them.

A tensor goes through ``QuantizeLinear``, in QCDQ through ``Clip``, and ``DequantizeLinear``; weights are integers in
front of a ``DequantizeLinear``.
"""

from dataclasses import dataclass

import numpy as np
import onnx
import onnx.helper

from hetfab.overlay.errors import OperatorsUnsupportedError
from hetfab.overlay.model.layers import attributes, describe, type_name
from hetfab.quantize.formats.foreign import (
    Array,
    Foreign,
    RefusedError,
    RoundedConstant,
    Rounding,
    Rule,
    Stripper,
    strip,
)

#: onnxruntime has the operators in a domain of its own too.
DOMAINS = frozenset({"com.microsoft"})
_KINDS: dict[int, tuple[int, bool]] = {
    onnx.TensorProto.INT4: (4, True),
    onnx.TensorProto.UINT4: (4, False),
    onnx.TensorProto.INT8: (8, True),
    onnx.TensorProto.UINT8: (8, False),
    onnx.TensorProto.INT16: (16, True),
    onnx.TensorProto.UINT16: (16, False),
    onnx.TensorProto.INT32: (32, True),
}
_LARGEST_BITS = 8


@dataclass(frozen=True, eq=False)
class _Steps:
    """A tensor between its ``QuantizeLinear`` and its ``DequantizeLinear``: the integers that it may be."""

    source: str
    lowest: int
    highest: int


def uses_qdq(model: onnx.ModelProto) -> bool:
    """Whether a model has QDQ roundings."""
    return any(node.op_type in ("QuantizeLinear", "DequantizeLinear") for node in model.graph.node)


def read_qdq(model: onnx.ModelProto) -> Foreign:
    """Takes the roundings out of a QDQ or QCDQ model.

    Raises:
        OperatorsUnsupportedError: Roundings that are not read, all at once, or operators on integers.
    """
    fused = [describe(node) for node in model.graph.node if node.op_type.startswith("QLinear")]
    if fused:
        raise OperatorsUnsupportedError(
            "the model has operators on integers:",
            "QuantizeLinear and DequantizeLinear around operators on floats",
            "quantize it with `quant_format=QuantFormat.QDQ`",
            fused,
        )
    return strip(model, _rule_of(model), DOMAINS)


def _rule_of(model: onnx.ModelProto) -> Rule:
    kinds: dict[str, int] = {}
    between: dict[str, _Steps] = {}

    def rule(stripper: Stripper, node: onnx.NodeProto) -> bool:
        if node.op_type == "QuantizeLinear":
            _quantize(stripper, node, kinds, between)
        elif node.op_type == "Clip" and node.input[0] in between:
            _clip(stripper, node, between)
        elif node.op_type == "Clip" and _is_integer(stripper.constants.get(node.input[0])):
            low, high = _ends(stripper, node)
            stripper.constants[node.output[0]] = np.clip(stripper.constants[node.input[0]], low, high)
            if node.input[0] in kinds:
                kinds[node.output[0]] = kinds[node.input[0]]
        elif node.op_type == "DequantizeLinear":
            _dequantize(stripper, node, kinds, between)
        else:
            return False
        return True

    return rule


def _quantize(stripper: Stripper, node: onnx.NodeProto, kinds: dict[str, int], between: dict[str, _Steps]) -> None:
    kind = attributes(node).get("output_dtype") or onnx.TensorProto.UINT8
    assert isinstance(kind, int)
    if len(node.input) > 2 and node.input[2]:
        kind = _kind(stripper.constant(node.input[2]))
    bits, signed = _integer(kind)
    lowest, highest = (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) if signed else (0, (1 << bits) - 1)
    source, output = node.input[0], node.output[0]
    if source in stripper.constants:
        array = stripper.constant(source)
        scale, offset = _along(stripper, node, array)
        steps = np.clip(np.rint(array.astype(np.float64) / scale) + offset, lowest, highest)
        stripper.constants[output] = steps.astype(np.int64)
        kinds[output] = kind
    else:
        between[output] = _Steps(stripper.name(source), lowest, highest)


def _clip(stripper: Stripper, node: onnx.NodeProto, between: dict[str, _Steps]) -> None:
    steps = between[node.input[0]]
    low, high = _ends(stripper, node)
    lowest = steps.lowest if low is None else max(steps.lowest, low)
    highest = steps.highest if high is None else min(steps.highest, high)
    between[node.output[0]] = _Steps(steps.source, lowest, highest)


def _ends(stripper: Stripper, node: onnx.NodeProto) -> tuple[int | None, int | None]:
    """The limits of a Clip of integers."""
    names = [*node.input[1:], "", ""]
    low, high = (int(stripper.constant(name).reshape(-1)[0]) if name else None for name in names[:2])
    return low, high


def _is_integer(array: Array | None) -> bool:
    return array is not None and array.dtype.kind not in "fcO"


def _dequantize(stripper: Stripper, node: onnx.NodeProto, kinds: dict[str, int], between: dict[str, _Steps]) -> None:
    if node.input[0] in between:
        _round_tensor(stripper, node, between[node.input[0]])
        return
    integers = stripper.constant(node.input[0]).astype(np.int64)
    scale, offset = _along(stripper, node, integers)
    bits, _ = _integer(kinds.get(node.input[0]) or _kind(stripper.constant(node.input[0])))
    steps = integers - offset.astype(np.int64)
    if bits <= _LARGEST_BITS and (steps.min(initial=0) < -(1 << (bits - 1)) or steps.max(initial=0) >= 1 << (bits - 1)):
        raise RefusedError("weights with a zero point of their own; quantize them symmetrically")
    stripper.round_constant(node, RoundedConstant(steps, np.broadcast_to(scale, integers.shape), bits))


def _round_tensor(stripper: Stripper, node: onnx.NodeProto, steps: _Steps) -> None:
    source = onnx.helper.make_node("DequantizeLinear", [steps.source], [node.output[0]], name=node.name)
    scale = stripper.constant(node.input[1])
    zero = stripper.constant(node.input[2]) if len(node.input) > 2 and node.input[2] else np.zeros(1)
    if scale.size != 1:
        raise RefusedError("a computed tensor with several scales; give it one")
    offset = int(zero.reshape(-1)[0])
    if steps.highest - steps.lowest >= 1 << _LARGEST_BITS:
        stripper.leave_out(source, "more than 8 bits, which are more than stored tensors have")
    else:
        rounding = Rounding(float(scale.reshape(-1)[0]), steps.lowest - offset, steps.highest - offset)
        stripper.round_tensor(source, rounding)


def _kind(array: Array) -> int:
    return int(onnx.helper.np_dtype_to_tensor_dtype(array.dtype))


def _integer(kind: int) -> tuple[int, bool]:
    """Width and sign of a type of ONNX."""
    if kind not in _KINDS:
        raise RefusedError(f"it rounds to {type_name(kind)}; round to integers")
    return _KINDS[kind]


def _along(stripper: Stripper, node: onnx.NodeProto, array: Array) -> tuple[Array, Array]:
    """Scale and zero point, laid along the axis that they belong to."""
    scale = stripper.constant(node.input[1]).astype(np.float64)
    given = len(node.input) > 2 and node.input[2]
    zero = stripper.constant(node.input[2]).astype(np.float64) if given else np.zeros(scale.shape)
    if attributes(node).get("block_size", 0):
        raise RefusedError("scales of blocks; give each output channel one")
    if scale.size == 1:
        return scale.reshape(()), zero.reshape(())
    axis = attributes(node).get("axis", 1)
    assert isinstance(axis, int)
    shape = [1] * array.ndim
    shape[axis] = scale.size
    return scale.reshape(shape), zero.reshape(shape)
