# SPDX-License-Identifier: Apache-2.0
"""What a convolutional model's names stand for: constants, tensors that are only renamed, and inferred shapes."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import onnx
import onnx.helper
import onnx.numpy_helper
import onnx.shape_inference

from hetfab.overlay.errors import ModelStructureError
from hetfab.overlay.model.cnn.layers import Shape
from hetfab.overlay.model.layers import constants_of

Array: TypeAlias = npt.NDArray[np.generic]

#: Numbers of a constant whose values may be needed to infer shapes.
_LARGEST_COPIED = 64

#: Operators that pass a tensor on when a trained model runs.
_RENAMING = ("Identity", "Dropout")


@dataclass(frozen=True)
class Names:
    """The names of a model.

    Attributes:
        constants: Initializers and constants, under each of their names.
        shapes: Shape of one sample of each tensor, where ONNX's shape inference finds it.
        idle: Positions of operators that only rename, or compute shapes.
    """

    constants: Mapping[str, Array]
    shapes: Mapping[str, Shape]
    idle: frozenset[int]
    _of: Mapping[str, str]

    def resolve(self, name: str) -> str:
        """The one name of a tensor that Identity and Dropout give several."""
        return self._of.get(name, name)


def read_names(model: onnx.ModelProto) -> Names:
    """Finds what the names of a model stand for.

    Raises:
        ModelStructureError: A floating-point initializer is not finite.
    """
    constants = dict(constants_of(model))
    of: dict[str, str] = {}
    idle: set[int] = set()
    sizes: set[str] = set()
    for position, node in enumerate(model.graph.node):
        if node.op_type in _RENAMING and node.domain == "" and not _drops(node, constants):
            source = of.get(node.input[0], node.input[0])
            of[node.output[0]] = source
            idle.add(position)
            if source in constants:
                constants[node.output[0]] = constants[source]
        elif _computes_shape(node, constants, sizes):
            sizes.update(node.output)
            idle.add(position)
    output = model.graph.output[0].name
    if output in of:  # The name that users know is kept.
        inner = of[output]
        of = {name: output if source == inner else source for name, source in of.items()} | {inner: output}
        del of[output]
    shapes = _inferred(model, constants)
    return Names(constants, {of.get(name, name): shape for name, shape in shapes.items()}, frozenset(idle), of)


def _drops(node: onnx.NodeProto, constants: Mapping[str, Array]) -> bool:
    """Whether a Dropout is exported for training."""
    training = constants.get(node.input[2]) if len(node.input) > 2 and node.input[2] else None
    return training is not None and bool(training)


def _computes_shape(node: onnx.NodeProto, constants: Mapping[str, Array], sizes: set[str]) -> bool:
    """Whether an operator reads sizes, or what is computed from them, and nothing else."""
    variable = [name for name in node.input if name and name not in constants]
    return node.op_type == "Shape" or (bool(variable) and all(name in sizes for name in variable))


def _inferred(model: onnx.ModelProto, constants: Mapping[str, Array]) -> dict[str, Shape]:
    """Shapes of one sample; a free batch is taken as one, since computed shapes stay unknown with it.

    Inference follows no constant through Identity, and would copy all weights: constants stand in its place, large ones
    by their form alone.
    """
    graph = model.graph
    inputs = [_of_one_sample(value) for value in graph.input if value.name not in constants]
    small, large = [], []
    for name, array in constants.items():
        if array.size <= _LARGEST_COPIED:
            small.append(onnx.numpy_helper.from_array(np.asarray(array), name))
        else:
            kind = onnx.helper.np_dtype_to_tensor_dtype(array.dtype)
            large.append(onnx.helper.make_tensor_value_info(name, kind, array.shape))
    outputs = [onnx.helper.make_tensor_value_info(value.name, onnx.TensorProto.FLOAT, None) for value in graph.output]
    nodes = [node for node in graph.node if node.output[0] not in constants]
    single = onnx.helper.make_model(
        onnx.helper.make_graph(nodes, "single", [*inputs, *large], outputs, small),
        opset_imports=list(model.opset_import),
        functions=list(model.functions),
    )
    try:
        inferred = onnx.shape_inference.infer_shapes(single, data_prop=True).graph
    except onnx.shape_inference.InferenceError as error:
        raise ModelStructureError(
            f"the shapes of the model's tensors cannot be inferred: {str(error).splitlines()[0]}",
            "operators of ONNX, and of hetfab, QONNX and QDQ",
            "correct the export",
        ) from error
    shapes = {}
    for value in [*inferred.input, *inferred.value_info, *inferred.output]:
        dims = value.type.tensor_type.shape.dim
        if len(dims) > 1 and all(dim.dim_value > 0 for dim in dims):
            shapes[value.name] = tuple(dim.dim_value for dim in dims[1:])
    return shapes


def _of_one_sample(value: onnx.ValueInfoProto) -> onnx.ValueInfoProto:
    """The input with a batch of one where its batch is free."""
    single = onnx.ValueInfoProto()
    single.CopyFrom(value)
    dims = single.type.tensor_type.shape.dim
    if len(dims) > 1 and not dims[0].dim_value:
        dims[0].Clear()
        dims[0].dim_value = 1
    return single
