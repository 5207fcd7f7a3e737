# SPDX-License-Identifier: Apache-2.0
"""The probe graph: small sizes that tell the free dimensions of a model apart, and all tensors of the model on it."""

from collections.abc import Iterator, Mapping
from itertools import count
from typing import Any

import numpy as np
import onnx
import onnx.helper
import onnx.numpy_helper

from hetfab.overlay.model.lifting.raw_inputs import RawEdges, RawFeatures, RawInputs, RawKinds
from hetfab.overlay.model.lifting.values import Array
from hetfab.overlay.model.runtime import run_inner

#: Ids of the probe graph's edges are smaller, so that none is a size.
_LARGEST_ID = 7


def free_sizes(model: onnx.ModelProto) -> Iterator[int]:
    """Sizes that no constant of the model has."""
    taken = {size for tensor in model.graph.initializer for size in tensor.dims}
    for value in model.graph.input:
        taken |= {dim.dim_value for dim in value.type.tensor_type.shape.dim}
    return (size for size in count(11) if size not in taken and all(size % k for k in range(2, size)))


def probe_feed(model: onnx.ModelProto, raw: RawInputs, sizes: Mapping[str, int], seed: int = 0) -> dict[str, Array]:
    """Random inputs of given sizes; every type of edges occurs, and a node's edges to itself.

    Args:
        model: The exported model.
        raw: What its inputs are.
        sizes: Nodes or edges of each input, by its name.
        seed: Of the random numbers.
    """
    random = np.random.default_rng(seed)
    feed: dict[str, Array] = {}
    for name, meaning in raw.items():
        match meaning:
            case RawFeatures(_, width):
                feed[name] = random.normal(size=(sizes[name], width)).astype(np.float32)
            case RawEdges():
                feed[name] = random.integers(0, _LARGEST_ID, (2, sizes[name]))
                feed[name][:, 0] = 0
            case RawKinds(_, kinds):
                feed[name] = np.arange(sizes[name]) % max(kinds, 1)
    return feed


def without_branches(model: onnx.ModelProto, feed: Mapping[str, Array]) -> onnx.ModelProto:
    """The model with the branch of each ``If`` that it takes on the probe graph in the If's place.

    The TorchScript exporter asks so whether a tensor has no dimensions at all.
    """
    model = _copy(model)
    while branches := [node for node in model.graph.node if node.op_type == "If"]:
        conditions = run_inner(model, feed, [node.input[0] for node in branches])
        conditions |= {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
        nodes = list(model.graph.node)
        del model.graph.node[:]
        for node in nodes:
            if node.op_type != "If":
                model.graph.node.append(node)
                continue
            taken = "then_branch" if bool(np.all(conditions[node.input[0]])) else "else_branch"
            model.graph.node.extend(_inlined(node, taken, model))
    return model


def _inlined(node: onnx.NodeProto, taken: str, model: onnx.ModelProto) -> Iterator[onnx.NodeProto]:
    """The nodes of a branch; names that it makes are its own in ONNX already."""
    branch = next(attribute.g for attribute in node.attribute if attribute.name == taken)
    model.graph.initializer.extend(branch.initializer)
    yield from branch.node
    for inner, outer in zip(branch.output, node.output, strict=True):
        yield onnx.helper.make_node("Identity", [inner.name], [outer])


def all_tensors(model: onnx.ModelProto, feed: Mapping[str, Array]) -> dict[str, Array]:
    """Every tensor of a model: constants, inputs and results."""
    arrays: dict[str, Any] = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    names = [name for node in model.graph.node for name in node.output if name]
    return arrays | dict(feed) | run_inner(model, feed, names)


def _copy(model: onnx.ModelProto) -> onnx.ModelProto:
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    return copy
