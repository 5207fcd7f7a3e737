# SPDX-License-Identifier: Apache-2.0
"""Compares a lifted model with the exported one in onnxruntime, on random graphs of several sizes."""

from collections.abc import Mapping

import numpy as np
import onnx

from hetfab.overlay.errors import ModelStructureError
from hetfab.overlay.model.binding import Binding
from hetfab.overlay.model.lifting.context import Context
from hetfab.overlay.model.lifting.raw_inputs import RawEdges, RawFeatures, RawInputs, RawKinds
from hetfab.overlay.model.lifting.values import Array, EdgeIndex, EdgeKinds
from hetfab.overlay.model.runtime import run_model

#: Nodes of each type, and edges for each node, of the graphs that are compared on.
_SIZES = ((9, 3), (40, 2), (23, 12))
LARGEST_DIFFERENCE = 1e-4


def check_lifted(
    model: onnx.ModelProto,
    lifted: onnx.ModelProto,
    raw: RawInputs,
    bindings: Mapping[str, Binding],
    context: Context,
) -> tuple[float, int]:
    """Runs both models on random graphs.

    Returns:
        The largest difference relative to the largest output, and the number of graphs.

    Raises:
        ModelStructureError: They differ, or the exported model does not run on graphs of other sizes.
    """
    worst = 0.0
    for seed, (nodes, degree) in enumerate(_SIZES):
        feed = _random_feed(model, raw, context, nodes, degree, seed)
        output = model.graph.output[0].name
        expected = run_model(model, feed, [output])[0]
        found = run_model(lifted, lifted_feed(feed, raw, lifted, bindings, context), [output])[0]
        scale = max(float(np.abs(expected).max(initial=0)), 1e-6)
        same = expected.shape == found.shape
        difference = float(np.abs(expected - found).max(initial=0)) / scale if same else float("inf")
        worst = max(worst, difference)
        if not difference <= LARGEST_DIFFERENCE:
            raise ModelStructureError(
                f"the lifted model differs from the exported one by {difference:.1e} of the largest output on a random "
                f"graph with {nodes} nodes of a type",
                f"at most {LARGEST_DIFFERENCE:.0e}",
                "report the model; until then build it of the operators of docs/attention-models.md",
            )
    return worst, len(_SIZES)


def _random_feed(
    model: onnx.ModelProto, raw: RawInputs, context: Context, nodes: int, degree: int, seed: int
) -> dict[str, Array]:
    """Inputs of the exported model: duplicate edges, nodes without edges, a node's edges to itself."""
    random = np.random.default_rng(seed)
    counts: dict[str, int] = {}
    fixed = {value.name: [dim.dim_value for dim in value.type.tensor_type.shape.dim] for value in model.graph.input}
    feed: dict[str, Array] = {}
    for name, meaning in raw.items():
        if isinstance(meaning, RawFeatures):
            counts[meaning.type] = fixed[name][0] or nodes + 2 * len(counts)
            feed[name] = random.normal(size=(counts[meaning.type], meaning.width)).astype(np.float32)
    for name, meaning in raw.items():
        if isinstance(meaning, RawEdges):
            value = context.values[name]
            assert isinstance(value, EdgeIndex)
            edges = value.blocks[0].edges
            ends = [_count(space.node_type, space.rows, counts) for space in (edges.source, edges.destination)]
            number = fixed[name][1] or degree * max(ends)
            ids = [random.integers(0, max(end - 2, 1), number) for end in ends]
            feed[name] = np.stack(ids)
    for name, meaning in raw.items():
        if isinstance(meaning, RawKinds):
            feed[name] = random.integers(0, max(meaning.kinds, 1), feed[meaning.of].shape[1])
    return feed


def _count(node_type: str | None, rows: int | None, counts: Mapping[str, int]) -> int:
    if node_type is not None:
        return counts[node_type]
    return rows or min(counts.values())


def lifted_feed(
    feed: Mapping[str, Array],
    raw: RawInputs,
    lifted: onnx.ModelProto,
    bindings: Mapping[str, Binding],
    context: Context,
) -> dict[str, Array]:
    """The same graph as inputs of the lifted model."""
    from hetfab.overlay.model.binding import End, Features, NodeCount
    from hetfab.overlay.model.lifting.lift import _EdgeNames

    names = _EdgeNames(raw)
    found: dict[str, Array] = {}
    for name, binding in bindings.items():
        if isinstance(binding, Features):
            found[name] = feed[name]
    counts = {meaning.type: len(feed[name]) for name, meaning in raw.items() if isinstance(meaning, RawFeatures)}
    for name, binding in bindings.items():
        if isinstance(binding, NodeCount):
            found[name] = np.array(counts[binding.type], np.int64)
    for name in raw:
        value = context.values[name]
        if not isinstance(value, EdgeIndex):
            continue
        kinds_of = [other for other, v in context.values.items() if isinstance(v, EdgeKinds)]
        for block in value.blocks:
            pairs = feed[name]
            if block.kind is not None:
                [kinds] = [other for other in kinds_of if context.values[other].edges is block.edges]  # type: ignore[union-attr]
                pairs = pairs[:, feed[kinds] == block.kind]
            found[f"src_{names[block]}"], found[f"dst_{names[block]}"] = pairs[0], pairs[1]
    _ = End
    return found
