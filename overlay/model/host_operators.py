# SPDX-License-Identifier: Apache-2.0
"""Which standard operators the host may run: those that make each row of their result of the same rows alone.

So a row's result does not depend on which other rows are computed, and some nodes, batches and parts of a graph give
the rows of the whole. Operators that move rows, or mix them, are not among them; graph operators neither.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import onnx
import onnx.helper
import onnx.numpy_helper

from hetfab.overlay.errors import ModelStructureError
from hetfab.overlay.host_nodes import ROW_UNIT, whole_units
from hetfab.overlay.model import hgnn
from hetfab.overlay.model.layers import HostOperator, attributes
from hetfab.overlay.model.runtime import run_model

Constants: TypeAlias = Mapping[str, npt.NDArray[np.generic]]
FloatArray: TypeAlias = npt.NDArray[np.float32]
#: The result of a model that ``host_model`` makes.
RESULT = "values"
_LARGEST_IR_VERSION = 10

_BY_ELEMENT = (
    *("Abs", "Acos", "Acosh", "Add", "Asin", "Asinh", "Atan", "Atanh", "Ceil", "Celu", "Clip", "Cos", "Cosh", "Div"),
    *("Elu", "Erf", "Exp", "Floor", "Gelu", "HardSigmoid", "HardSwish", "LeakyRelu", "Log", "Max", "Mean", "Min"),
    *("Mish", "Mul", "Neg", "PRelu", "Pow", "Reciprocal", "Relu", "Round", "Selu", "Shrink", "Sigmoid", "Sign"),
    *("Sin", "Sinh", "Softplus", "Softsign", "Sqrt", "Sub", "Sum", "Tan", "Tanh", "ThresholdedRelu"),
)
_ALONG_ROWS = ("Softmax", "LogSoftmax", "LayerNormalization", "LpNormalization")
_REDUCTIONS = ("ReduceL1", "ReduceL2", "ReduceLogSumExp", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceSum")
#: Whose results are never negative.
_POSITIVE = ("Abs", "Exp", "HardSigmoid", "ReduceL1", "ReduceL2", "Relu", "Sigmoid", "Softmax", "Softplus", "Sqrt")


def host_operator(
    node: onnx.NodeProto, rows: Mapping[str, int], constants: Constants, opset: int
) -> tuple[HostOperator, int] | None:
    """An operator as one of the host, and the channels of its result; None where the host must not run it.

    Args:
        node: Of a model.
        rows: Channels of each tensor that has a row for each node of a type.
        constants: The model's.
        opset: Version of the standard operators.
    """
    given = [name for name in node.input if name]
    if node.domain or len(node.output) != 1 or not given or any(n not in rows and n not in constants for n in given):
        return None
    reads = {name: rows[name] for name in given if name in rows}
    fixed = {name: constants[name] for name in given if name not in reads}
    if not reads or not _by_row(node, reads, fixed):
        return None
    operator = HostOperator(node.output[0], tuple(reads), node, fixed, opset)
    try:
        tried = run_operator(operator, [np.ones((ROW_UNIT, width), np.float32) for width in reads.values()])
    except ModelStructureError:
        return None
    if tried.dtype != np.float32 or tried.ndim != 2 or len(tried) != ROW_UNIT or not tried.shape[1]:
        return None
    return operator, tried.shape[1]


def never_negative(operator: HostOperator) -> bool:
    """Whether an operator's results are never below zero, whatever it reads."""
    return operator.node.op_type in _POSITIVE


def run_operator(operator: HostOperator, rows: Sequence[FloatArray]) -> FloatArray:
    """An operator's result, [N, C].

    Args:
        operator: The operator.
        rows: Its inputs, each [N, channels].

    Raises:
        ModelStructureError: onnxruntime refuses the operator.
    """
    reads = dict(zip(operator.inputs, (part.shape[1] for part in rows), strict=True))
    model = host_model([operator.node], reads, operator.constants, operator.opset)
    feed = {f"rows_{number}": whole_units(np.asarray(part, np.float32)) for number, part in enumerate(rows)}
    return np.asarray(run_model(model, feed, [RESULT])[0][: len(rows[0])])


def host_model(
    nodes: Sequence[onnx.NodeProto], rows: Mapping[str, int], constants: Constants, opset: int
) -> onnx.ModelProto:
    """A model of a few operators, of which each reads the one before it.

    Args:
        nodes: Operators of a larger model.
        rows: Channels of what they read of it, which become the inputs ``rows_0``, ``rows_1``, ...
        constants: What else they read.
        opset: Version of the standard operators.
    """
    names = {name: f"rows_{number}" for number, name in enumerate(rows)} | {nodes[-1].output[0]: RESULT}
    renamed = []
    for node in nodes:
        copy = onnx.NodeProto()
        copy.CopyFrom(node)
        for field in (copy.input, copy.output):
            field[:] = [names.get(name, name) for name in field]
        renamed.append(copy)
    kind = onnx.TensorProto.FLOAT
    inputs = [onnx.helper.make_tensor_value_info(names[name], kind, ["rows", width]) for name, width in rows.items()]
    read = {name for node in nodes for name in node.input}
    model = onnx.helper.make_model(
        onnx.helper.make_graph(
            renamed,
            "host",
            inputs,
            [onnx.helper.make_tensor_value_info(RESULT, kind, ["rows", None])],
            [
                onnx.numpy_helper.from_array(np.asarray(array), name)
                for name, array in constants.items()
                if name in read
            ],
        ),
        opset_imports=[
            onnx.helper.make_opsetid("", opset),
            onnx.helper.make_opsetid(hgnn.QUANT_DOMAIN, hgnn.QUANT_DOMAIN_VERSION),
        ],
        ir_version=_LARGEST_IR_VERSION,
        functions=[hgnn.function(node.op_type, opset) for node in nodes if node.domain == hgnn.QUANT_DOMAIN],
    )
    return model


def _by_row(node: onnx.NodeProto, reads: Mapping[str, int], fixed: Constants) -> bool:
    values = attributes(node)
    rule = _RULES.get(node.op_type)
    return rule is not None and rule(node, values, reads, fixed)


def _by_element(node: onnx.NodeProto, values: dict[str, Any], reads: Mapping[str, int], fixed: Constants) -> bool:
    """Constants have one row at most, and widths are equal or 1."""
    shapes = [array.shape for array in fixed.values()]
    widths = {*reads.values(), *(shape[-1] for shape in shapes if shape)} - {1}
    return all(len(shape) < 2 or (len(shape) == 2 and shape[0] == 1) for shape in shapes) and len(widths) <= 1


def _along_rows(node: onnx.NodeProto, values: dict[str, Any], reads: Mapping[str, int], fixed: Constants) -> bool:
    return list(reads) == [node.input[0]] and values.get("axis", -1) in (1, -1)


def _reduction(node: onnx.NodeProto, values: dict[str, Any], reads: Mapping[str, int], fixed: Constants) -> bool:
    """Axes are an input from opset 18 on."""
    axes = fixed.get(node.input[1]) if len(node.input) > 1 else None
    kept = values.get("keepdims", 1) == 1 and "axes" not in values
    return list(reads) == [node.input[0]] and kept and axes is not None and axes.tolist() in ([1], [-1])


def _concat(node: onnx.NodeProto, values: dict[str, Any], reads: Mapping[str, int], fixed: Constants) -> bool:
    return not fixed and values.get("axis") in (1, -1)


def _slice(node: onnx.NodeProto, values: dict[str, Any], reads: Mapping[str, int], fixed: Constants) -> bool:
    axes = fixed.get(node.input[3]) if len(node.input) > 3 else None
    return list(reads) == [node.input[0]] and axes is not None and axes.tolist() in ([1], [-1])


def _batch_norm(node: onnx.NodeProto, values: dict[str, Any], reads: Mapping[str, int], fixed: Constants) -> bool:
    return list(reads) == [node.input[0]] and not values.get("training_mode", 0)


def _product(node: onnx.NodeProto, values: dict[str, Any], reads: Mapping[str, int], fixed: Constants) -> bool:
    weight = fixed.get(node.input[1])
    added = fixed.get(node.input[2]) if len(node.input) > 2 and node.input[2] else None
    one_row = added is None or added.ndim < 2 or added.shape[0] == 1
    return (
        list(reads) == [node.input[0]]
        and weight is not None
        and weight.ndim == 2
        and one_row
        and not values.get("transA", 0)
    )


_Rule: TypeAlias = Callable[[onnx.NodeProto, dict[str, Any], Mapping[str, int], Constants], bool]
_RULES: dict[str, _Rule] = {
    **dict.fromkeys(_BY_ELEMENT, _by_element),
    **dict.fromkeys(_ALONG_ROWS, _along_rows),
    **dict.fromkeys(_REDUCTIONS, _reduction),
    "Concat": _concat,
    "Slice": _slice,
    "BatchNormalization": _batch_norm,
    "MatMul": _product,
    "Gemm": _product,
}
