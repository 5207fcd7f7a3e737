# SPDX-License-Identifier: Apache-2.0
"""Random RGCN models as float ONNX files, and random graphs that they run on."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx.helper
import onnx.numpy_helper

from hetfab.driver.graph.heterograph import CsrFeatures, Edges, FeatureTable, HeteroGraph
from hetfab.overlay.model import hgnn
from hetfab.overlay.model.schema import Relation

Random = np.random.Generator
COUNTS = (0, 1, 2, 3, 5, 17, 33, 64, 65, 100, 130)
WIDTHS = (1, 5, 17, 64, 65, 130)
LARGEST_DEPTH = 4


@dataclass(frozen=True)
class Case:
    """A float model and a graph that it runs on."""

    model: onnx.ModelProto
    graph: HeteroGraph


class ModelBuilder:
    """Builds a float model node by node; methods take and return names of tensors."""

    def __init__(self, random: Random, graph: HeteroGraph, *, opset: int = 20, fixed_counts: bool = False) -> None:
        self._random = random
        self._graph = graph
        self._opset = opset
        self._fixed_counts = fixed_counts
        self._nodes: list[onnx.NodeProto] = []
        self._inputs: dict[str, onnx.ValueInfoProto] = {}
        self._initializers: list[onnx.TensorProto] = []
        self.widths: dict[str, int] = {}

    def features(self, node_type: str) -> str:
        """The features of a type."""
        name, width = f"x_{node_type}", self._graph.schema().feature_widths[node_type]
        self._input(name, onnx.TensorProto.FLOAT, [f"N_{node_type}", width])
        return self._sized(name, width)

    def table(self, node_type: str, width: int) -> str:
        """A learned table of a type."""
        values = self._random.normal(size=(self._graph.counts[node_type], width)) * self._random.choice([0.1, 1, 7])
        return self._sized(self.constant(values), width)

    def dense(self, rows: str, width: int, *, bias: bool = True) -> str:
        """A dense layer, as MatMul, MatMul and Add, or Gemm; columns of different magnitude."""
        shape = self.widths[rows], width
        weight = self._random.normal(size=shape) / np.sqrt(shape[0]) * 2.0 ** self._random.integers(-3, 2, width)
        vector = self._random.normal(size=width)
        if bias and self._random.random() < 0.5:
            return self._sized(
                self._node("Gemm", rows, self.constant(weight.T), self.constant(vector), transB=1), width
            )
        products = self._node("MatMul", rows, self.constant(weight))
        return self._sized(self._node("Add", products, self.constant(vector)) if bias else products, width)

    def product(self, rows: str, weight: str, width: int) -> str:
        """A dense layer with weights that others may have too, without bias."""
        return self._sized(self._node("MatMul", rows, weight), width)

    def relu(self, rows: str) -> str:
        """Negative values become 0."""
        return self._sized(self._node("Relu", rows), self.widths[rows])

    def operator(self, operator: str, *inputs: str, width: int = 0, **attributes: Any) -> str:
        """Any standard operator on rows; as wide as its first input if no width is given."""
        return self._sized(self._node(operator, *inputs, **attributes), width or self.widths[inputs[0]])

    def mean(self, rows: str, edges: str, node_type: str, operator: str = "SegMean") -> str:
        """The mean, or sum, over a relation or metapath into a type."""
        ends = [f"{end}_{edges}" for end in ("src", "dst")]
        for end in ends:
            self._input(end, onnx.TensorProto.INT64, [f"E_{edges}"])
        inputs = [rows, *ends, self._count(node_type)]
        return self._sized(self._node(operator, *inputs, domain=hgnn.DOMAIN), self.widths[rows])

    def weighted_sum(self, rows: str, relation: str, node_type: str) -> str:
        """The sum over a relation into a type, times weights by the ends' degrees."""
        ends = [f"{end}_{relation}" for end in ("src", "dst")]
        for end in ends:
            self._input(end, onnx.TensorProto.INT64, [f"E_{relation}"])
        self._input(f"w_{relation}", onnx.TensorProto.FLOAT, [f"E_{relation}"])
        inputs = [rows, *ends, f"w_{relation}", self._count(node_type)]
        return self._sized(self._node("SegSumWeighted", *inputs, domain=hgnn.DOMAIN), self.widths[rows])

    def total(self, terms: list[str]) -> str:
        """The sum of terms of one shape."""
        result = terms[0]
        for term in terms[1:]:
            result = self._sized(self._node("Add", result, term), self.widths[result])
        return result

    def finish(self, output: str) -> onnx.ModelProto:
        """The model whose logits are ``output``."""
        logits = onnx.helper.make_tensor_value_info(output, onnx.TensorProto.FLOAT, ["rows", self.widths[output]])
        graph = onnx.helper.make_graph(self._nodes, "float", list(self._inputs.values()), [logits], self._initializers)
        domains = [
            onnx.helper.make_opsetid("", self._opset),
            onnx.helper.make_opsetid(hgnn.DOMAIN, hgnn.DOMAIN_VERSION),
        ]
        used = sorted({node.op_type for node in self._nodes if node.domain == hgnn.DOMAIN})
        bodies = [hgnn.function(name, self._opset) for name in used]
        return onnx.helper.make_model(graph, opset_imports=domains, ir_version=10, functions=bodies)

    def constant(self, values: npt.ArrayLike) -> str:
        """An initializer of float32."""
        name = f"c{len(self._initializers)}"
        self._initializers.append(onnx.numpy_helper.from_array(np.asarray(values, np.float32), name))
        return name

    def _count(self, node_type: str) -> str:
        name = f"n_{node_type}"
        if not self._fixed_counts:
            self._input(name, onnx.TensorProto.INT64, [])
        elif name not in [tensor.name for tensor in self._initializers]:
            count = np.array(self._graph.counts[node_type], np.int64)
            self._initializers.append(onnx.numpy_helper.from_array(count, name))
        return name

    def _input(self, name: str, kind: int, shape: list[str | int]) -> None:
        self._inputs[name] = onnx.helper.make_tensor_value_info(name, kind, shape)

    def _node(self, operator: str, *inputs: str, domain: str = "", **attributes: Any) -> str:
        output = f"t{len(self._nodes)}"
        self._nodes.append(onnx.helper.make_node(operator, inputs, [output], domain=domain, **attributes))
        return output

    def _sized(self, name: str, width: int) -> str:
        self.widths[name] = width
        return name


def random_graph(random: Random, *, largest_count: int = 130) -> HeteroGraph:
    """A graph of 1 to 4 node types with relations of every kind; ``t0`` is the target and has nodes."""
    counts_to_choose = [count for count in COUNTS if count <= largest_count]
    types = [f"t{i}" for i in range(random.integers(1, 5))]
    counts = {name: int(random.choice(counts_to_choose)) for name in types}
    counts["t0"] = max(counts["t0"], 1)
    relations = {}
    for number in range(random.integers(1, 8)):
        relation = Relation(str(random.choice(types)), f"r{number}", str(random.choice(types)))
        relations[relation] = random_edges(random, counts[relation.source], counts[relation.destination])
    features = {name: random_features(random, counts[name]) for name in types if random.random() < 0.8}
    paths = [
        (first.name, second.name) for first in relations for second in relations if first.destination == second.source
    ]
    metapaths = {"P0": paths[random.integers(len(paths))]} if paths else {}
    return HeteroGraph("random", "t0", counts, relations, features, metapaths=metapaths)


def academic_graph(random: Random, papers: int, authors: int, terms: int) -> HeteroGraph:
    """Papers, authors and terms; papers cite papers, and two relations join the same types."""
    counts = {"paper": papers, "author": authors, "term": terms}
    ends = [("author", "writes", "paper"), ("author", "reviews", "paper"), ("paper", "cites", "paper")]
    ends += [("term", "in", "paper"), ("paper", "by", "author")]
    relations = {Relation(*e): random_edges(random, counts[e[0]], counts[e[2]]) for e in ends}
    shapes = {"paper": (papers, 17), "author": (authors, 5)}
    features = {name: random.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    return HeteroGraph("academic", "paper", counts, relations, features)


def academic_case() -> Case:
    """Two layers with dense terms and means; no learned table."""
    random = np.random.default_rng(0)
    graph = academic_graph(random, 40, 30, 5)
    builder = ModelBuilder(random, graph)
    paper, author = builder.features("paper"), builder.features("author")
    first = [builder.mean(builder.dense(author, 9), "writes", "paper"), builder.dense(paper, 9)]
    hidden = builder.relu(builder.total(first))
    second = [builder.mean(hidden, "cites", "paper"), builder.dense(hidden, 9)]
    return Case(builder.finish(builder.total(second)), graph)


def random_edges(random: Random, sources: int, destinations: int) -> Edges:
    """Edges with duplicates, a few vertices of high degree, none now and then."""
    number = 0 if sources * destinations == 0 or random.random() < 0.15 else int(random.integers(1, 400))
    skewed = (random.random(number) ** random.choice([1, 4]) * destinations).astype(np.int64)
    return Edges(random.integers(0, max(sources, 1), number), skewed)


def random_features(random: Random, count: int) -> FeatureTable:
    """Whole numbers, real numbers or sparse ones."""
    shape = count, int(random.choice(WIDTHS))
    match random.integers(4):
        case 0:
            return random.integers(0, 4, shape).astype(np.float32)
        case 1:
            return random.integers(-9, 10, shape).astype(np.float32)
        case 2:
            return (random.normal(size=shape) * 2.0 ** random.integers(-6, 6)).astype(np.float32)
    present = random.random(shape) < 0.1
    indptr = np.concatenate([[0], np.cumsum(present.sum(axis=1))]).astype(np.int64)
    data = random.random(int(present.sum())).astype(np.float32)
    return CsrFeatures(indptr, np.nonzero(present)[1], data, shape[1])


def random_case(seed: int, *, opset: int = 20, largest_count: int = 130) -> Case:
    """A random model of depth 1 to 4 and its graph; the model has inputs."""
    random = np.random.default_rng(seed)
    while True:
        graph = random_graph(random, largest_count=largest_count)
        model = random_model(random, graph, opset)
        if model.graph.input:
            return Case(model, graph)


def random_model(random: Random, graph: HeteroGraph, opset: int) -> onnx.ModelProto:
    """A random model for a graph; its logits are a sum over relations or a plain dense layer."""
    builder = ModelBuilder(random, graph, opset=opset, fixed_counts=bool(random.random() < 0.3))
    layers = _Layers(random, graph, builder)
    depth, classes = int(random.integers(1, LARGEST_DEPTH + 1)), int(random.choice([1, 3, 17, 70]))
    if random.random() < 0.3:
        return builder.finish(builder.dense(layers.hidden("t0", depth), classes))
    return builder.finish(layers.layer("t0", depth, classes))


class _Layers:
    """Layers of each node type, each made where something reads it and shared by all that do."""

    def __init__(self, random: Random, graph: HeteroGraph, builder: ModelBuilder) -> None:
        self._random = random
        self._graph = graph
        self._builder = builder
        self._made: dict[tuple[str, int], str] = {}
        self._width = int(random.choice(WIDTHS))

    def hidden(self, node_type: str, depth: int) -> str:
        key = node_type, depth
        if key not in self._made:
            self._made[key] = self._first(node_type) if depth == 0 else self._inner(node_type, depth)
        return self._made[key]

    def layer(self, node_type: str, depth: int, width: int) -> str:
        """A sum over relations with a dense term, a table or neither; a dense layer where there is no relation."""
        terms = []
        for name, source in self._edges_into(node_type):
            rows = self.hidden(source, depth - 1)
            projected = self._builder.widths[rows] != width or self._chance(0.6)
            rows = self._builder.dense(rows, width, bias=self._chance(0.3)) if projected else rows
            terms.append(self._builder.mean(rows, name, node_type))
        # A table of one row reads like a bias, which belongs to a dense layer.
        if terms and self._graph.counts[node_type] != 1 and self._chance(0.3):
            terms.append(self._builder.table(node_type, width))
        elif not terms or self._chance(0.7):
            terms.append(self._builder.dense(self.hidden(node_type, depth - 1), width, bias=self._chance(0.7)))
        order = self._random.permutation(len(terms))
        return self._builder.total([terms[i] for i in order])

    def _inner(self, node_type: str, depth: int) -> str:
        rows = self.layer(node_type, depth, self._width)
        return self._builder.relu(rows) if self._chance(0.7) else rows

    def _first(self, node_type: str) -> str:
        if node_type in self._graph.features:
            rows = self._builder.features(node_type)
            return self._builder.relu(self._builder.dense(rows, self._width)) if self._chance(0.5) else rows
        table = self._builder.table(node_type, self._width)
        return self._builder.relu(table) if self._chance(0.2) else table

    def _edges_into(self, node_type: str) -> list[tuple[str, str]]:
        """Names and source types of the relations and metapaths into a type."""
        into = [(r.name, r.source) for r in self._graph.relations if r.destination == node_type]
        for name in self._graph.metapaths:
            path = self._graph.metapath(name)
            into += [(name, path[-1].destination)] if path[0].source == node_type else []
        return [entry for entry in into if self._chance(0.85)]

    def _chance(self, share: float) -> bool:
        return bool(self._random.random() < share)
