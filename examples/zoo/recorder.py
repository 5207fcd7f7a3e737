# SPDX-License-Identifier: Apache-2.0
"""Layers that compute in PyTorch and are written as ONNX at the same time, so that a model is said once."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn
from torch.nn import functional

from hetfab.driver.graph.feeds import feeds
from hetfab.driver.graph.heterograph import HeteroGraph
from hetfab.overlay.model import hgnn
from hetfab.overlay.model.binding import (
    METADATA_KEY,
    Binding,
    EdgeWeights,
    End,
    Features,
    JoinedEnd,
    MetapathMean,
    NodeCount,
    RelationEnd,
    to_json,
)
from hetfab.overlay.model.schema import Relation

OPSET = 20
IR_VERSION = 10
DROPOUT = 0.5


@dataclass(frozen=True)
class Value:
    """A tensor and its name in the ONNX graph."""

    name: str
    tensor: torch.Tensor

    @property
    def width(self) -> int:
        """Its columns."""
        return int(self.tensor.shape[-1])


class Recorder:
    """One run of a model on a graph; parameters are made when a layer is first met, and kept from run to run."""

    def __init__(self, graph: HeteroGraph, parameters: nn.ParameterDict, *, training: bool = False) -> None:
        """Begins an empty ONNX graph."""
        self.graph, self.parameters, self.training = graph, parameters, training
        self.nodes: list[onnx.NodeProto] = []
        self.inputs: dict[str, onnx.ValueInfoProto] = {}
        self.weights: dict[str, onnx.TensorProto] = {}
        self.bindings: dict[str, Binding] = {}
        self._arrays: dict[str, torch.Tensor] = {}

    def features(self, node_type: str) -> Value:
        """A type's features."""
        width = self.graph.schema().feature_widths[node_type]
        return self._rows(f"x_{node_type}", width, Features(node_type))

    def metapath_mean(self, relations: tuple[Relation, ...], node_type: str) -> Value:
        """Features of ``node_type``, averaged along relations."""
        name = "M_" + ("_".join(relation.name for relation in relations) or "self")
        features = self.graph.schema().feature_widths
        width = features.get(node_type, self.graph.counts[node_type])
        return self._rows(name, width, MetapathMean(relations, node_type))

    def table(self, node_type: str, width: int) -> Value:
        """A learned row for each node."""
        return self._parameter(f"table.{node_type}", lambda: 0.3 * torch.randn(self.graph.counts[node_type], width))

    def dense(self, rows: Value, width: int, *, bias: bool = True) -> Value:
        """``x W + b``."""
        name = f"dense{len(self.nodes)}"
        spread = (6 / (rows.width + width)) ** 0.5
        weight = self._parameter(f"{name}.weight", lambda: spread * (2 * torch.rand(rows.width, width) - 1))
        operands, tensor = [rows, weight], rows.tensor @ weight.tensor
        if bias:
            operands.append(self._parameter(f"{name}.bias", lambda: torch.zeros(width)))
            tensor = tensor + operands[-1].tensor
        return self._add("Gemm", operands, tensor)

    def by_relation(self, rows: Value, linear: str, relation: str, heads: int, *, weigh: bool) -> Value:
        """A linear layer of the rows' type, then a matrix of the relation for each head: one dense layer.

        Args:
            rows: What is projected.
            linear: Name of the linear layer, which relations from one type share.
            relation: Name of the relation's matrices.
            heads: Number of heads.
            weigh: Whether a learned weight of the relation and 1 / sqrt of a head's width are multiplied too.
        """
        width = rows.width // heads
        spread = (3 / rows.width) ** 0.5
        weight = self._parameter(f"{linear}.weight", lambda: spread * (2 * torch.rand(rows.width, rows.width) - 1))
        bias = self._parameter(f"{linear}.bias", lambda: torch.zeros(rows.width))
        matrices = self._parameter(f"{relation}.matrix", lambda: torch.eye(width).repeat(heads, 1, 1)).tensor
        if weigh:
            prior = self._parameter(f"{relation}.prior", lambda: torch.ones(heads)).tensor
            matrices = matrices * (prior / width**0.5)[:, None, None]
        both = torch.cat([weight.tensor, bias.tensor.unsqueeze(0)]).reshape(-1, heads, width)
        product = torch.einsum("khd,hde->khe", both, matrices).reshape(-1, rows.width)
        return self._product(rows, product[:-1], product[-1])

    def gated(self, rows: Value, before: Value) -> Value:
        """A dense layer's result and what was there before, a learned share of each: one dense layer of both."""
        name = f"gated{len(self.nodes)}"
        width = before.width
        spread = (3 / width) ** 0.5
        weight = self._parameter(f"{name}.weight", lambda: spread * (2 * torch.rand(rows.width, width) - 1)).tensor
        bias = self._parameter(f"{name}.bias", lambda: torch.zeros(width)).tensor
        share = torch.sigmoid(self._parameter(f"{name}.skip", lambda: torch.ones(())).tensor)
        both = torch.cat([share * weight, (1 - share) * torch.eye(width)])
        return self._product(self.joined([rows, before]), both, share * bias)

    def biased(self, rows: Value) -> Value:
        """A bias of its own behind a sum."""
        bias = self._parameter(f"bias{len(self.nodes)}", lambda: torch.zeros(rows.width))
        return self._add("Add", [rows, bias], rows.tensor + bias.tensor)

    def scaled(self, rows: Value, factor: float) -> Value:
        """Times a number."""
        number = self._constant(f"factor{len(self.nodes)}", np.float32(factor))
        return self._add("Mul", [rows, number], rows.tensor * factor)

    def relu(self, rows: Value) -> Value:
        """Dropout in training, then negative values become 0."""
        dropped = functional.dropout(rows.tensor, DROPOUT, self.training)
        return self._add("Relu", [rows], functional.relu(dropped))

    def tanh(self, rows: Value) -> Value:
        """Hyperbolic tangent."""
        return self._add("Tanh", [rows], torch.tanh(rows.tensor))

    def elu(self, rows: Value) -> Value:
        """ELU."""
        return self._add("Elu", [rows], functional.elu(rows.tensor))

    def gelu(self, rows: Value) -> Value:
        """GELU."""
        return self._add("Gelu", [rows], functional.gelu(rows.tensor))

    def total(self, terms: Sequence[Value]) -> Value:
        """Their sum."""
        found = terms[0]
        for term in terms[1:]:
            found = self._add("Add", [found, term], found.tensor + term.tensor)
        return found

    def mean(self, rows: Value, relation: Relation) -> Value:
        """The mean over a relation."""
        ends, sums = self._ends(relation), self._sums(rows.tensor, relation)
        degree = self._sums(torch.ones(len(rows.tensor), 1), relation)
        operands = [rows, *ends, self._count(relation)]
        return self._add("SegMean", operands, sums / degree.clamp(min=1), hgnn.DOMAIN)

    def sum(self, rows: Value, relation: Relation) -> Value:
        """The sum over a relation."""
        operands = [rows, *self._ends(relation), self._count(relation)]
        return self._add("SegSum", operands, self._sums(rows.tensor, relation), hgnn.DOMAIN)

    def weighted_sum(self, rows: Value, relation: Relation) -> Value:
        """The sum over a relation, weighted by both ends' degrees."""
        weights = self._array(f"w_{relation.name}", EdgeWeights(relation), TensorProto.FLOAT, [f"E_{relation.name}"])
        operands = [rows, *self._ends(relation), weights, self._count(relation)]
        tensor = self._sums(rows.tensor, relation, weights.tensor.unsqueeze(1))
        return self._add("SegSumWeighted", operands, tensor, hgnn.DOMAIN)

    def attention(self, rows: Value, targets: Value, relation: Relation, heads: int) -> Value:
        """Additive attention (Velickovic et al., 2018); scores are a dense layer of the projected rows."""
        source, destination = (self.dense(view, heads, bias=False) for view in (rows, targets))
        view = self._heads(rows, heads)
        ends = self._ends(relation)
        logits = source.tensor[ends[0].tensor] + destination.tensor[ends[1].tensor]
        count = self.graph.counts[relation.destination]
        tensor = self._attended(view.tensor, functional.leaky_relu(logits, 0.2), ends, count)
        operands = [view, source, destination, *ends, self._count(relation)]
        return self._add("EdgeAtt", operands, tensor, hgnn.DOMAIN, slope=0.2)

    def dot_attention(
        self,
        queries: Value,
        keys: Sequence[Value],
        rows: Sequence[Value],
        relations: tuple[Relation, ...],
        heads: int,
    ) -> Value:
        """Attention by products of queries and keys, one softmax over the edges of all relations into a type.

        Args:
            queries: Of the type's nodes.
            keys: Of each relation's sources.
            rows: What is weighted, of each relation's sources.
            relations: They all lead to the type.
            heads: Number of heads.
        """
        views = [self._heads(value, heads) for value in (queries, self._stacked(keys), self._stacked(rows))]
        ends = self._joined_ends(relations)
        logits = (views[0].tensor[ends[1].tensor] * views[1].tensor[ends[0].tensor]).sum(-1)
        tensor = self._attended(views[2].tensor, logits, ends, self.graph.counts[relations[0].destination])
        return self._add("EdgeDot", [*views, *ends, self._count(relations[0])], tensor, hgnn.DOMAIN)

    def joined(self, parts: Sequence[Value]) -> Value:
        """Matrices of one width side by side."""
        axis = self._constant("axis1", np.array([1]))
        views = [self._add("Unsqueeze", [part, axis], part.tensor.unsqueeze(1)) for part in parts]
        stack = self._add("Concat", views, torch.cat([view.tensor for view in views], 1), axis=1)
        width = parts[0].width * len(parts)
        shape = self._constant(f"shape{width}", np.array([-1, width]))
        return self._add("Reshape", [stack, shape], stack.tensor.reshape(-1, width))

    def model(self, output: Value) -> onnx.ModelProto:
        """The ONNX model, checked in full."""
        self.nodes[-1].output[0] = "logits"
        logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["rows", output.width])
        read = {name for node in self.nodes for name in node.input}
        weights = [tensor for name, tensor in self.weights.items() if name in read]
        graph = helper.make_graph(self.nodes, "zoo", list(self.inputs.values()), [logits], weights)
        used = sorted({node.op_type for node in self.nodes if node.domain == hgnn.DOMAIN})
        model = helper.make_model(
            graph,
            ir_version=IR_VERSION,
            opset_imports=[helper.make_opsetid("", OPSET), helper.make_opsetid(hgnn.DOMAIN, hgnn.DOMAIN_VERSION)],
            functions=[hgnn.function(name, OPSET) for name in used],
            producer_name="hetfab examples/zoo",
        )
        helper.set_model_props(model, {METADATA_KEY: to_json(self.bindings)})
        onnx.checker.check_model(model, full_check=True)
        return model

    def _product(self, rows: Value, weight: torch.Tensor, bias: torch.Tensor) -> Value:
        """A dense layer whose weights are computed from parameters."""
        name = f"dense{len(self.nodes)}"
        operands = [self._computed(f"{name}.weight", weight), self._computed(f"{name}.bias", bias)]
        return self._add("Gemm", [rows, *operands], rows.tensor @ weight + bias)

    def _computed(self, name: str, tensor: torch.Tensor) -> Value:
        """An initializer that is not a parameter itself."""
        self.weights[name] = numpy_helper.from_array(tensor.detach().numpy(), name)
        return Value(name, tensor)

    def _heads(self, rows: Value, heads: int) -> Value:
        width = rows.width // heads
        shape = self._constant(f"heads{heads}.{width}", np.array([-1, heads, width]))
        return self._add("Reshape", [rows, shape], rows.tensor.reshape(-1, heads, width))

    def _attended(self, rows: torch.Tensor, logits: torch.Tensor, ends: Sequence[Value], count: int) -> torch.Tensor:
        """Rows [N, H, D] summed with a softmax of logits [E, H] over each of ``count`` destinations' edges."""
        source, destination = (end.tensor for end in ends)
        places = destination.unsqueeze(1).expand_as(logits)
        largest = torch.full((count, logits.shape[1]), -1e9).scatter_reduce(0, places, logits.detach(), "amax")
        weights = (logits - largest[destination]).exp()
        divisor = torch.zeros_like(largest).index_add(0, destination, weights)
        messages = rows[source] * weights.unsqueeze(-1)
        sums = torch.zeros(count, *rows.shape[1:]).index_add(0, destination, messages)
        return (sums / divisor.clamp(min=1e-9).unsqueeze(-1)).flatten(1)

    def _sums(self, rows: torch.Tensor, relation: Relation, weights: torch.Tensor | float = 1.0) -> torch.Tensor:
        source, destination = (end.tensor for end in self._ends(relation))
        sums = torch.zeros(self.graph.counts[relation.destination], rows.shape[1])
        return sums.index_add(0, destination, rows[source] * weights)

    def _ends(self, relation: Relation) -> list[Value]:
        shape = [f"E_{relation.name}"]
        return [
            self._array(f"{prefix}_{relation.name}", RelationEnd(relation, end), TensorProto.INT64, shape)
            for prefix, end in (("src", End.SOURCE), ("dst", End.DESTINATION))
        ]

    def _joined_ends(self, relations: tuple[Relation, ...]) -> list[Value]:
        into = relations[0].destination
        return [
            self._array(f"{prefix}_into_{into}", JoinedEnd(into, relations, end), TensorProto.INT64, [f"E_into_{into}"])
            for prefix, end in (("src", End.SOURCE), ("dst", End.DESTINATION))
        ]

    def _stacked(self, parts: Sequence[Value]) -> Value:
        """The rows of one matrix behind those of another."""
        return self._add("Concat", parts, torch.cat([part.tensor for part in parts]), axis=0)

    def _count(self, relation: Relation) -> Value:
        name = f"n_{relation.destination}"
        return self._array(name, NodeCount(relation.destination), TensorProto.INT64, [])

    def _rows(self, name: str, width: int, binding: Binding) -> Value:
        return self._array(name, binding, TensorProto.FLOAT, [f"N_{name}", width])

    def _array(self, name: str, binding: Binding, element: int, shape: Sequence[str | int]) -> Value:
        if name not in self.inputs:
            self.inputs[name] = helper.make_tensor_value_info(name, element, shape)
            self.bindings[name] = binding
            self._arrays[name] = torch.from_numpy(feeds(self.graph, {name: binding})[name])
        return Value(name, self._arrays[name])

    def _parameter(self, name: str, make: Any) -> Value:
        key = name.replace(".", "_")
        if key not in self.parameters:
            self.parameters[key] = nn.Parameter(make())
        return self._computed(name, self.parameters[key])

    def _constant(self, name: str, array: Any) -> Value:
        self.weights[name] = numpy_helper.from_array(np.asarray(array), name)
        return Value(name, torch.from_numpy(np.asarray(array)))

    def _add(
        self, operator: str, operands: Sequence[Value], tensor: torch.Tensor, domain: str = "", **values: Any
    ) -> Value:
        name = f"{operator.lower()}{len(self.nodes)}"
        names = [operand.name for operand in operands]
        self.nodes.append(helper.make_node(operator, names, [name], name, domain=domain, **values))
        return Value(name, tensor)
