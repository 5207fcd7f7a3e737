# SPDX-License-Identifier: Apache-2.0
"""Compares a lifted model with the exported one in onnxruntime, on random graphs of several sizes."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx

from hetfab.overlay.errors import BindingInvalidError, ModelStructureError
from hetfab.overlay.model import runtime
from hetfab.overlay.model.binding import End
from hetfab.overlay.model.lifting.linear import Space
from hetfab.overlay.model.lifting.raw_inputs import RawFeatures, RawInputs, RawKinds
from hetfab.overlay.model.lifting.values import Array, Block, Blocks, EdgeInput, Loops

#: Nodes of each type, and edges for each node, of the graphs that are compared on.
_SIZES = ((9, 3), (40, 2), (23, 12))
LARGEST_DIFFERENCE = 1e-4


@dataclass(frozen=True, eq=False)
class Pair:
    """An exported model and the lifted one.

    Attributes:
        exported: As it was.
        lifted: In the domain ``hgnn``.
        raw: What the exported model's inputs are.
        blocks: Edges that the lifted model reads, by name.
    """

    exported: onnx.ModelProto
    lifted: onnx.ModelProto
    raw: RawInputs
    blocks: Mapping[str, Blocks]


def check_lifted(pair: Pair, edges: Mapping[str, EdgeInput]) -> tuple[float, int]:
    """Runs both models on random graphs.

    Args:
        pair: The models.
        edges: What is known of the ends of each input with edges.

    Returns:
        The largest difference relative to the largest output, and the number of graphs.

    Raises:
        ModelStructureError: They differ, or the exported model does not run on graphs of other sizes.
    """
    worst, output = 0.0, pair.exported.graph.output[0].name
    for seed, (nodes, degree) in enumerate(_SIZES):
        feed = _random_feed(pair, edges, nodes, degree, np.random.default_rng(seed))
        expected = runtime.run_model(pair.exported, feed, [output])[0]
        found = runtime.run_model(pair.lifted, lifted_feed(pair, feed), [output])[0]
        scale = max(float(np.abs(expected).max(initial=0)), 1e-6)
        same = expected.shape == found.shape
        difference = float(np.abs(expected - found).max(initial=0)) / scale if same else float("inf")
        worst = max(worst, difference)
        if not difference <= LARGEST_DIFFERENCE:
            raise ModelStructureError(
                f"the lifted model differs from the exported one by {difference:.1e} of the largest output on a random "
                f"graph with {nodes} nodes of a type",
                f"at most {LARGEST_DIFFERENCE:.0e}, on graphs of any size",
                "export the model with free numbers of nodes and edges (dynamic_axes or dynamic_shapes); if it is, "
                "build it of the operators of docs/attention-models.md",
            )
    return worst, len(_SIZES)


def _random_feed(
    pair: Pair, edges: Mapping[str, EdgeInput], nodes: int, degree: int, random: np.random.Generator
) -> dict[str, Array]:
    """Inputs of the exported model: duplicate edges, nodes without edges, nodes' edges to themselves."""
    inputs = pair.exported.graph.input
    fixed = {value.name: [dim.dim_value for dim in value.type.tensor_type.shape.dim] for value in inputs}
    counts: dict[str, int] = {}
    feed: dict[str, Array] = {}
    for name, meaning in pair.raw.items():
        if isinstance(meaning, RawFeatures):
            counts.setdefault(meaning.type, fixed[name][0] or nodes + 2 * len(counts))
            feed[name] = random.normal(size=(counts[meaning.type], meaning.width)).astype(np.float32)
    for name, found in edges.items():
        ends = [_count(space, counts) for space in (found.source, found.destination)]
        number = fixed[name][1] or degree * max(ends)
        ids: list[Array] = [random.integers(0, max(end - 2, 1), number) for end in ends]
        feed[name] = np.stack(ids)
    for name, meaning in pair.raw.items():
        if isinstance(meaning, RawKinds):
            feed[name] = random.integers(0, max(meaning.kinds, 1), (feed[meaning.of].shape[1],))
    return feed


def _count(space: Space, counts: Mapping[str, int]) -> int:
    if space.node_type is None:
        return space.rows or min(counts.values(), default=1)
    found = counts.get(space.node_type, space.rows)
    if found is None:
        raise BindingInvalidError(
            f"edges lead from or to nodes of the type '{space.node_type}', of which the model reads no rows",
            f"relations between the types of the model's features: {', '.join(sorted(counts)) or 'there are none'}",
            "say what the inputs mean with --bind FILE (docs/pyg.md)",
        )
    return found


def lifted_feed(pair: Pair, feed: Mapping[str, Array]) -> dict[str, Array]:
    """The same graph as inputs of the lifted model."""
    counts = {raw.type: len(feed[name]) for name, raw in pair.raw.items() if isinstance(raw, RawFeatures)}
    for space in {block.space(end) for blocks in pair.blocks.values() for block in blocks for end in End}:
        if space.node_type is not None:
            counts.setdefault(space.node_type, _count(space, counts))
    found: dict[str, Array] = {f"n_{node_type}": np.array(count, np.int64) for node_type, count in counts.items()}
    found |= {name: feed[name] for name, raw in pair.raw.items() if isinstance(raw, RawFeatures)}
    for name, blocks in pair.blocks.items():
        source, destination = _joined_ends(blocks, feed, counts)
        found |= {f"src_{name}": source, f"dst_{name}": destination}
        if len(blocks) == 1:
            nodes = int(max(source.max(initial=0), destination.max(initial=0))) + 1
            into: Array = np.bincount(destination, minlength=nodes)
            roots: Array = np.divide(1, np.sqrt(into), out=np.zeros(len(into)), where=into > 0)
            found[f"w_{name}"] = (roots[source] * roots[destination]).astype(np.float32)
    return found


def _joined_ends(blocks: Blocks, feed: Mapping[str, Array], counts: Mapping[str, int]) -> tuple[Array, Array]:
    """Ids of both ends of several blocks' edges, whose sources are rows of one table."""
    ends, start = [], 0
    for block in blocks:
        source, destination = _ends(block, feed, _count(block.edges.destination, counts))
        ends.append((source + start, destination))
        start += _count(block.edges.source, counts)
    return np.concatenate([source for source, _ in ends]), np.concatenate([destination for _, destination in ends])


def _ends(block: Block, feed: Mapping[str, Array], nodes: int) -> tuple[Array, Array]:
    """Ids of both ends of a block's edges."""
    pairs = feed[block.edges.name]
    if block.kind is not None and block.edges.kinds is not None:
        pairs = pairs[:, feed[block.edges.kinds[0]] == block.kind]
    if block.loops is Loops.REPLACED:
        own = np.arange(nodes)
        pairs = np.concatenate([pairs[:, pairs[0] != pairs[1]], np.stack([own, own])], axis=1)
    return pairs[0], pairs[1]
