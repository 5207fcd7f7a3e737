# SPDX-License-Identifier: Apache-2.0
"""Trains a small RGCN (Schlichtkrull et al., 2018) on the generated academic graph and writes it as ONNX.

Run it in an environment of its own: ``pip install -r requirements.txt``, then ``pip install hetfab``.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn
from torch.nn import functional

from hetfab.driver.demo import model_path
from hetfab.driver.graph.feeds import feeds
from hetfab.driver.graph.generate import CLASSES, academic
from hetfab.driver.graph.heterograph import HeteroGraph
from hetfab.overlay.files import write_atomic
from hetfab.overlay.model import hgnn
from hetfab.overlay.model.binding import METADATA_KEY, Binding, End, Features, NodeCount, RelationEnd, to_json
from hetfab.overlay.model.runtime import run_model
from hetfab.overlay.model.schema import Relation

HIDDEN = 32
LAYERS = 2
EPOCHS = 150
DROPOUT = 0.5
OPSET = 20
IR_VERSION = 10

Ends = dict[Relation, tuple[torch.Tensor, torch.Tensor]]


class Rgcn(nn.Module):
    """h'_d = W_root h_d + b + sum over relations of the mean of W_r h_s over the incoming edges.

    A type without features has a learned table. The last layer computes only the target.
    """

    def __init__(self, graph: HeteroGraph, relations: tuple[Relation, ...]) -> None:
        """Makes the layers for a graph's schema; ``relations`` may be fewer than the graph's."""
        super().__init__()
        schema = graph.schema()
        assert schema.target is not None
        self.counts, self.target = schema.counts, schema.target
        self.project = nn.ModuleDict({t: nn.Linear(width, HIDDEN) for t, width in schema.feature_widths.items()})
        self.table = nn.ParameterDict(
            {t: 0.3 * torch.randn(schema.counts[t], HIDDEN) for t in schema.types if t not in schema.feature_widths}
        )
        self.steps = []
        self.root = nn.ModuleList()
        self.neighbour = nn.ModuleList()
        for layer in range(LAYERS):
            last = layer == LAYERS - 1
            width = CLASSES if last else HIDDEN
            used = tuple(r for r in relations if r.destination == self.target or not last)
            types = (self.target,) if last else schema.types
            self.steps.append((types, used))
            self.root.append(nn.ModuleDict({t: nn.Linear(HIDDEN, width) for t in types}))
            self.neighbour.append(nn.ModuleDict({r.name: nn.Linear(HIDDEN, width, bias=False) for r in used}))

    def forward(self, features: dict[str, torch.Tensor], ends: Ends) -> torch.Tensor:
        """Logits of the target, [N, CLASSES]."""
        hidden = {t: layer(features[t]) for t, layer in self.project.items()} | dict(self.table.items())
        for (types, relations), root, neighbour in zip(self.steps, self.root, self.neighbour, strict=True):
            hidden = {t: self._drop(functional.relu(value)) for t, value in hidden.items()}
            out = {t: root[t](hidden[t]) for t in types}
            for relation in relations:
                message = neighbour[relation.name](hidden[relation.source])
                mean = segment_mean(message, *ends[relation], self.counts[relation.destination])
                out[relation.destination] = out[relation.destination] + mean
            hidden = out
        return hidden[self.target]

    def _drop(self, value: torch.Tensor) -> torch.Tensor:
        return functional.dropout(value, DROPOUT, self.training)


def segment_mean(values: torch.Tensor, source: torch.Tensor, destination: torch.Tensor, count: int) -> torch.Tensor:
    """Mean of ``values[source]`` over each destination, 0 without edges, [count, width]."""
    sums = torch.zeros(count, values.shape[1]).index_add(0, destination, values[source])
    degree = torch.zeros(count).index_add(0, destination, torch.ones(len(destination)))
    return sums / degree.clamp(min=1).unsqueeze(1)


def train(graph: HeteroGraph, relations: tuple[Relation, ...], seed: int) -> tuple[Rgcn, npt.NDArray[np.float32]]:
    """Trains and returns the model of the best validation score with its logits."""
    torch.manual_seed(seed)
    model = Rgcn(graph, relations)
    features = {t: torch.from_numpy(graph.dense_features(t)) for t in graph.features}
    ends = {
        relation: (torch.from_numpy(edges.source).long(), torch.from_numpy(edges.destination).long())
        for relation, edges in graph.relations.items()
    }
    labels = torch.from_numpy(graph.labels[model.target]).long()
    learn = torch.from_numpy(graph.splits[model.target]["train"]).long()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01, weight_decay=5e-4)
    best, kept = -1.0, model.state_dict()
    for _ in range(EPOCHS):
        model.train()
        optimizer.zero_grad()
        functional.cross_entropy(model(features, ends)[learn], labels[learn]).backward()
        optimizer.step()
        model.eval()
        with torch.no_grad():
            score = accuracy(graph, model(features, ends).numpy(), "val")
        if score >= best:
            best, kept = score, {name: value.clone() for name, value in model.state_dict().items()}
    model.load_state_dict(kept)
    with torch.no_grad():
        return model, model(features, ends).numpy()


def accuracy(graph: HeteroGraph, logits: npt.NDArray[np.float32], part: str) -> float:
    """Share of right predictions of the target in a split; for one class a node it equals the micro F1."""
    assert graph.target is not None
    nodes = graph.splits[graph.target][part]
    return float((logits[nodes].argmax(1) == graph.labels[graph.target][nodes]).mean())


class Export:
    """Builds the ONNX graph of a trained model node by node."""

    def __init__(self, model: Rgcn, graph: HeteroGraph) -> None:
        """Writes the whole model into lists of nodes, inputs and initializers."""
        self.nodes: list[onnx.NodeProto] = []
        self.inputs: list[onnx.ValueInfoProto] = []
        self.weights: list[onnx.TensorProto] = []
        self.bindings: dict[str, Binding] = {}
        hidden = {}
        for node_type, width in graph.schema().feature_widths.items():
            shape: list[str | int] = [f"N_{node_type}", width]
            value = self._input(f"x_{node_type}", TensorProto.FLOAT, shape, Features(node_type))
            hidden[node_type] = self._linear(value, model.project[node_type], f"project.{node_type}")
        for node_type, table in model.table.items():
            hidden[node_type] = self._weight(f"table.{node_type}", table)
        for layer in range(LAYERS):
            hidden = self._layer(model, layer, hidden)
        self.nodes[-1].output[0] = "logits"
        logits_shape: list[str | int] = [f"N_{model.target}", CLASSES]
        self.output = helper.make_tensor_value_info("logits", TensorProto.FLOAT, logits_shape)

    def _layer(self, model: Rgcn, layer: int, hidden: dict[str, str]) -> dict[str, str]:
        hidden = {
            node_type: self._node("Relu", [value], f"relu.{layer}.{node_type}") for node_type, value in hidden.items()
        }
        types, relations = model.steps[layer]
        out = {t: self._linear(hidden[t], model.root[layer][t], f"root.{layer}.{t}") for t in types}
        for relation in relations:
            name = f"{layer}.{relation.name}"
            weights = model.neighbour[layer][relation.name]
            message = self._linear(hidden[relation.source], weights, f"neighbour.{name}")
            operands = [message, *self._ends(relation), self._count(relation.destination)]
            mean = self._node("SegMean", operands, f"mean.{name}", domain=hgnn.DOMAIN)
            out[relation.destination] = self._node("Add", [out[relation.destination], mean], f"sum.{name}")
        return out

    def _ends(self, relation: Relation) -> list[str]:
        shape = [f"E_{relation.name}"]
        return [
            self._input(f"{prefix}_{relation.name}", TensorProto.INT64, shape, RelationEnd(relation, end))
            for prefix, end in (("src", End.SOURCE), ("dst", End.DESTINATION))
        ]

    def _count(self, node_type: str) -> str:
        return self._input(f"n_{node_type}", TensorProto.INT64, [], NodeCount(node_type))

    def _input(self, name: str, element: int, shape: Sequence[str | int], binding: Binding) -> str:
        if name not in self.bindings:
            self.inputs.append(helper.make_tensor_value_info(name, element, shape))
            self.bindings[name] = binding
        return name

    def _linear(self, value: str, linear: nn.Module, name: str) -> str:
        operands = [value] + [self._weight(f"{name}.{part}", data) for part, data in linear.named_parameters()]
        self.nodes.append(helper.make_node("Gemm", operands, [name], name, transB=1))
        return name

    def _weight(self, name: str, data: torch.Tensor) -> str:
        self.weights.append(numpy_helper.from_array(data.detach().numpy(), name))
        return name

    def _node(self, operator: str, operands: list[str], name: str, domain: str = "") -> str:
        self.nodes.append(helper.make_node(operator, operands, [name], name, domain=domain))
        return name

    def model(self) -> onnx.ModelProto:
        """The ONNX model, checked in full."""
        graph = helper.make_graph(self.nodes, "rgcn", self.inputs, [self.output], self.weights)
        model = helper.make_model(
            graph,
            ir_version=IR_VERSION,
            opset_imports=[
                helper.make_opsetid("", OPSET),
                helper.make_opsetid(hgnn.DOMAIN, hgnn.DOMAIN_VERSION),
            ],
            functions=[hgnn.function("SegMean", OPSET)],
            producer_name="hetfab examples/academic",
        )
        helper.set_model_props(model, {METADATA_KEY: to_json(self.bindings)})
        onnx.checker.check_model(model, full_check=True)
        return model


def main() -> None:
    """Trains, compares with a model that sees no edges, exports and checks the file in onnxruntime."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-o", "--output", type=Path, default=model_path())
    parser.add_argument("--seed", type=int, default=7, help="seed of graph and training")
    options = parser.parse_args()
    torch.use_deterministic_algorithms(True)
    graph = academic(options.seed)
    _, alone = train(graph, (), options.seed)
    model, logits = train(graph, tuple(graph.relations), options.seed)
    print(f"test micro F1 without edges {accuracy(graph, alone, 'test'):.3f}")
    print(f"test micro F1 of the RGCN   {accuracy(graph, logits, 'test'):.3f}")
    export = Export(model, graph)
    exported = export.model()
    data = exported.SerializeToString(deterministic=True)
    [read] = run_model(exported, feeds(graph, export.bindings), [exported.graph.output[0].name])
    difference = np.abs(read - logits).max()
    print(f"largest difference between onnxruntime and PyTorch {difference:.1e}")

    def write(file: BinaryIO) -> None:
        file.write(data)

    write_atomic(options.output, write)
    print(f"{options.output}: {len(data)} bytes")


if __name__ == "__main__":
    main()
