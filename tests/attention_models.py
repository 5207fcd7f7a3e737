# SPDX-License-Identifier: Apache-2.0
"""Small attention models as exporters write them: RGAT, HAN, Simple-HGN, HGT and SeHGNN on the academic graph."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import onnx

from hetfab.driver.graph.heterograph import HeteroGraph
from hetfab.overlay.model import hgnn
from tests.random_models import Case, ModelBuilder, Random, academic_graph

HEADS, WIDTH = 2, 8
CHANNELS = HEADS * WIDTH
CLASSES = 3
INTO_PAPER = {"writes": "author", "cites": "paper", "in": "term"}
METAPATHS = {"PAP": ("by", "writes"), "PP": ("cites",)}


class AttentionBuilder(ModelBuilder):
    """Adds what exporters make of attention; methods take and return names of tensors."""

    def weights(self, *shape: int) -> str:
        """Random weights of a reasonable size."""
        return self.constant(self._random.normal(size=shape) / np.sqrt(shape[-1]))

    def whole(self, *values: int) -> str:
        """A constant of int64."""
        return self._constant(np.array(values, np.int64))

    def op(self, operator: str, *inputs: str, width: int | None = None, **values: Any) -> str:
        """An operator; its result is as wide as its first input unless said."""
        name = self._node(operator, *inputs, **values)
        return self._sized(name, self.widths[inputs[0]] if width is None else width)

    def heads(self, rows: str, heads: int = HEADS) -> str:
        """Columns divided into heads."""
        width = self.widths[rows]
        return self.op("Reshape", rows, self.whole(-1, heads, width // heads), allowzero=1)

    def scores(self, view: str, heads: int = HEADS) -> str:
        """Each head times a vector of its own."""
        vector = self.weights(heads, self.widths[view] // heads)
        return self.op("ReduceSum", self.op("Mul", view, vector), self.whole(-1), width=heads, keepdims=0)

    def attention(self, view: str, source: str, destination: str, edges: str, node_type: str, width: int) -> str:
        """Additive attention over a relation or metapath."""
        ends = [f"{end}_{edges}" for end in ("src", "dst")]
        for end in ends:
            self._input(end, onnx.TensorProto.INT64, [f"E_{edges}"])
        inputs = [view, source, destination, *ends, self._count(node_type)]
        return self._sized(self._node("EdgeAtt", *inputs, domain=hgnn.DOMAIN, slope=0.2), width)

    def typed_attention(self, view: str, types: int, heads: int, count: int) -> str:
        """Additive attention over all relations with self loops."""
        for name in ("src", "dst", "etype"):
            self._input(name, onnx.TensorProto.INT64, ["E"])
        inputs = [view, self.scores(view, heads), self.scores(view, heads), "src", "dst", "etype"]
        inputs += [self.weights(types, heads), self._constant(np.array(count, np.int64))]
        return self._sized(self._node("EdgeAttTyped", *inputs, domain=hgnn.DOMAIN, slope=0.05), self.widths[view])

    def joined_attention(self, queries: str, keys: list[str], rows: list[str], node_type: str) -> str:
        """Products of queries and keys, one softmax over the edges of all relations into a type."""
        ends = [f"{end}_into_{node_type}" for end in ("src", "dst")]
        for end in ends:
            self._input(end, onnx.TensorProto.INT64, [f"E_{node_type}"])
        stacks = [self.op("Concat", *parts, axis=0) for parts in (keys, rows)]
        inputs = [*(self.heads(view) for view in (queries, *stacks)), *ends, self._count(node_type)]
        return self._sized(self._node("EdgeDot", *inputs, domain=hgnn.DOMAIN), self.widths[rows[0]])

    def stack(self, parts: list[str]) -> str:
        """[N, M, F] of M matrices."""
        return self.op("Concat", *(self.op("Unsqueeze", part, self.whole(1)) for part in parts), axis=1)

    def mean_input(self, path: str, width: int) -> str:
        """A mean of features along a metapath."""
        self._input(f"M_{path}", onnx.TensorProto.FLOAT, ["N", width])
        return self._sized(f"M_{path}", width)

    def _constant(self, values: "np.ndarray[tuple[int, ...], np.dtype[np.int64]]") -> str:
        name = f"i{len(self._initializers)}"
        self._initializers.append(onnx.numpy_helper.from_array(values, name))
        return name


def rgat(random: Random, graph: HeteroGraph) -> onnx.ModelProto:
    """Attention over each relation into papers, a dense term, Elu; a learned table for terms."""
    builder = AttentionBuilder(random, graph)
    hidden = {name: builder.op("Elu", builder.dense(builder.features(name), CHANNELS)) for name in ("paper", "author")}
    hidden["term"] = builder.op("Elu", builder.table("term", CHANNELS), alpha=1.0)
    for width in (CHANNELS, CHANNELS):
        terms = [builder.dense(hidden["paper"], width)]
        for relation, source in INTO_PAPER.items():
            view = builder.heads(builder.dense(hidden[source], width, bias=False))
            of_paper = builder.dense(hidden["paper"], HEADS, bias=False)
            terms.append(builder.attention(view, builder.scores(view), of_paper, relation, "paper", width))
        hidden["paper"] = builder.op("Elu", builder.total(terms))
    return builder.finish(builder.dense(hidden["paper"], CLASSES))


def han(random: Random, graph: HeteroGraph) -> onnx.ModelProto:
    """Attention over metapaths, fused by a softmax over the metapaths."""
    builder = AttentionBuilder(random, graph)
    view = builder.heads(builder.dense(builder.features("paper"), CHANNELS))
    of_paths = [
        builder.relu(builder.attention(view, builder.scores(view), builder.scores(view), name, "paper", CHANNELS))
        for name in METAPATHS
    ]
    stack = builder.stack(of_paths)
    hidden = builder.op("Add", builder.product(stack, builder.weights(CHANNELS, 8), 8), builder.weights(8))
    weights = builder.product(builder.op("Tanh", hidden), builder.weights(8, 1), 1)
    share = builder.op("Softmax", builder.op("ReduceMean", weights, builder.whole(0), keepdims=0), axis=0)
    fused = builder.op("ReduceSum", builder.op("Mul", stack, share), builder.whole(1), keepdims=0)
    return builder.finish(builder.dense(fused, CLASSES))


def simple_hgn(random: Random, graph: HeteroGraph) -> onnx.ModelProto:
    """Attention with edge types over all types stacked; rows of length 1."""
    builder = AttentionBuilder(random, graph)
    parts = [builder.dense(builder.features(name), CHANNELS) for name in ("paper", "author")]
    rows = builder.op("Concat", *parts, builder.table("term", CHANNELS), axis=0)
    types, count = len(graph.relations) + 1, sum(graph.counts.values())
    for heads, width in ((HEADS, CHANNELS), (1, CLASSES)):
        view = builder.heads(builder.dense(rows, width, bias=False), heads)
        found = builder.total(
            [builder.typed_attention(view, types, heads, count), builder.dense(rows, width, bias=False)]
        )
        rows = builder.op("Elu", found) if width == CHANNELS else found
    limits = [builder.whole(0), builder.whole(graph.counts["paper"]), builder.whole(0), builder.whole(1)]
    sliced = builder.op("Slice", rows, *limits)
    length = builder.op("ReduceL2", sliced, builder.whole(1), keepdims=1)
    return builder.finish(builder.op("Div", sliced, builder.op("Clip", length, builder.constant(1e-12))))


def hgt(random: Random, graph: HeteroGraph) -> onnx.ModelProto:
    """Keys and values of each relation, one softmax over all relations into a type; what was there before joins."""
    builder = AttentionBuilder(random, graph)
    hidden = {name: builder.op("Tanh", builder.dense(builder.features(name), CHANNELS)) for name in ("paper", "author")}
    hidden["term"] = builder.op("Tanh", builder.table("term", CHANNELS))
    for types in (("paper", "author"), ("paper",)):
        after = {}
        for node_type in types:
            sources = [relation.source for relation in graph.relations if relation.destination == node_type]
            keys, rows = ([builder.dense(hidden[name], CHANNELS) for name in sources] for _ in range(2))
            queries = builder.dense(hidden[node_type], CHANNELS, bias=False)
            mixed = builder.op("Gelu", builder.joined_attention(queries, keys, rows, node_type))
            both = builder.op("Concat", mixed, hidden[node_type], width=2 * CHANNELS, axis=1)
            after[node_type] = builder.dense(both, CHANNELS)
        hidden |= after
    return builder.finish(builder.dense(hidden["paper"], CLASSES))


def sehgnn(random: Random, graph: HeteroGraph) -> onnx.ModelProto:
    """Means along metapaths as inputs, attention between their projections, norms."""
    builder = AttentionBuilder(random, graph)
    widths = {"self": 17, "cites": 17, "by": 5, "by_writes": 17}
    means = [builder.mean_input(path, width) for path, width in widths.items()]
    stack = builder.stack([builder.dense(mean, CHANNELS) for mean in means])
    tokens = builder.relu(_norm(builder, stack))
    queries, keys, values = (
        builder.op("Add", builder.product(tokens, builder.weights(CHANNELS, width), width), builder.weights(width))
        for width in (4, 4, CHANNELS)
    )
    logits = builder.op("MatMul", queries, builder.op("Transpose", keys, perm=[0, 2, 1]))
    shares = builder.op("Softmax", builder.op("Div", logits, builder.constant(2.0)), axis=-1)
    attended = builder.op("Mul", builder.constant(0.3), builder.op("MatMul", shares, values), width=CHANNELS)
    mixed = builder.op("Add", tokens, attended)
    joined = builder.op("Reshape", mixed, builder.whole(-1, len(means) * CHANNELS), width=len(means) * CHANNELS)
    return builder.finish(builder.dense(builder.relu(_norm(builder, builder.dense(joined, CHANNELS))), CLASSES))


def _norm(builder: AttentionBuilder, rows: str) -> str:
    width = builder.widths[rows]
    parameters = builder.constant(np.linspace(0.5, 2, width)), builder.constant(np.linspace(-0.3, 0.3, width))
    return builder.op("LayerNormalization", rows, *parameters, axis=-1, epsilon=1e-5)


MODELS: dict[str, Callable[[Random, HeteroGraph], onnx.ModelProto]] = {
    "rgat": rgat,
    "han": han,
    "simple-hgn": simple_hgn,
    "hgt": hgt,
    "sehgnn": sehgnn,
}


def attention_case(name: str, seed: int = 0) -> Case:
    """A model with random weights and the graph that it runs on, with metapaths."""
    random = np.random.default_rng(seed)
    graph = replace(academic_graph(random, 40, 30, 5), metapaths=METAPATHS)
    return Case(MODELS[name](random, graph), graph)
