# SPDX-License-Identifier: Apache-2.0
"""An RGCN on a generated graph that is larger than a board's contiguous memory, on the emulated overlay, in parts.

The model has two layers of 64 channels over five relations of three node types, with random weights, and is quantized
on a small graph of the same kind. Every layer runs on the PYNQ-Z2's design in parts that are planned beforehand; the
emulated board has its 128 MB of contiguous memory and refuses more. Seconds are of planning and running; peak memory is
the whole process's.
"""

import resource
import time
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx.helper
import onnx.numpy_helper

from benchmarks.report import Report, argument_parser, publish
from hetfab.driver.emulated import EmulatedBuffer, EmulatedTransport
from hetfab.driver.graph.graph_rows import GraphRows
from hetfab.driver.graph.heterograph import Edges, HeteroGraph
from hetfab.driver.graph.model_inputs import model_bindings, model_feeds
from hetfab.driver.layer_runs import LayerRuns
from hetfab.driver.session import Session
from hetfab.overlay.board import read_board
from hetfab.overlay.compiler.compile import compile_model
from hetfab.overlay.design import default_design
from hetfab.overlay.model import hgnn
from hetfab.overlay.model.bound_model import FedModel
from hetfab.overlay.model.schema import Relation
from hetfab.overlay.program import Program
from hetfab.quantize.post_training import quantize

BOARD = "pynq-z2"
WIDTH, CLASSES, LAYERS, OPSET = 64, 8, 2, 20
TARGET = "item"
#: Of all nodes and edges, the shares of each type and relation.
TYPES = {"person": 0.5, "item": 0.4, "tag": 0.1}
RELATIONS = {
    Relation("person", "follows", "person"): 0.3,
    Relation("person", "buys", "item"): 0.25,
    Relation("item", "bought_by", "person"): 0.25,
    Relation("item", "has", "tag"): 0.1,
    Relation("tag", "of", "item"): 0.1,
}
_MB = 1 << 20


def large_graph(nodes: int, edges: int, seed: int = 1) -> HeteroGraph:
    """A graph of about so many nodes and edges, ends drawn evenly, with dense features."""
    rng = np.random.default_rng(seed)
    counts = {name: max(round(share * nodes), 1) for name, share in TYPES.items()}
    relations = {
        relation: Edges(
            rng.integers(0, counts[relation.source], round(share * edges), dtype=np.int32),
            rng.integers(0, counts[relation.destination], round(share * edges), dtype=np.int32),
        )
        for relation, share in RELATIONS.items()
    }
    features = {name: rng.standard_normal((count, WIDTH), dtype=np.float32) for name, count in counts.items()}
    return HeteroGraph("large", TARGET, counts, relations, features)


def rgcn(seed: int = 2) -> onnx.ModelProto:
    """The model: in each layer a product of a type's own rows, and for each relation the mean of a product."""
    rng = np.random.default_rng(seed)
    nodes: list[onnx.NodeProto] = []
    initializers: list[onnx.TensorProto] = []

    def add(operator: str, *inputs: str, domain: str = "") -> str:
        nodes.append(onnx.helper.make_node(operator, inputs, [f"t{len(nodes)}"], domain=domain))
        return f"t{len(nodes) - 1}"

    def product(rows: str, width: int) -> str:
        weight = (rng.standard_normal((WIDTH, width)) / np.sqrt(WIDTH)).astype(np.float32)
        initializers.append(onnx.numpy_helper.from_array(weight, f"w{len(initializers)}"))
        return add("MatMul", rows, initializers[-1].name)

    rows = {name: f"x_{name}" for name in TYPES}
    for layer in range(LAYERS):
        last = layer == LAYERS - 1
        after = {}
        for name in (TARGET,) if last else TYPES:
            total = product(rows[name], WIDTH)
            for relation in (each for each in RELATIONS if each.destination == name):
                ends = [f"{end}_{relation.name}" for end in ("src", "dst")]
                mean = add("SegMean", product(rows[relation.source], WIDTH), *ends, f"n_{name}", domain=hgnn.DOMAIN)
                total = add("Add", total, mean)
            after[name] = add("Relu", total)
        rows = after
    logits = product(rows[TARGET], CLASSES)
    return _model(nodes, initializers, logits)


def _model(nodes: list[onnx.NodeProto], initializers: list[onnx.TensorProto], logits: str) -> onnx.ModelProto:
    value, kinds = onnx.helper.make_tensor_value_info, onnx.TensorProto
    inputs = [value(f"x_{name}", kinds.FLOAT, [f"N_{name}", WIDTH]) for name in TYPES]
    used = {name for node in nodes for name in node.input}
    ends = [(f"{end}_{relation.name}", relation.name) for relation in RELATIONS for end in ("src", "dst")]
    inputs += [value(name, kinds.INT64, [f"E_{relation}"]) for name, relation in ends if name in used]
    inputs += [value(f"n_{name}", kinds.INT64, []) for name in TYPES if f"n_{name}" in used]
    output = value(logits, kinds.FLOAT, ["rows", CLASSES])
    graph = onnx.helper.make_graph(nodes, "rgcn", inputs, [output], initializers)
    domains = [onnx.helper.make_opsetid("", OPSET), onnx.helper.make_opsetid(hgnn.DOMAIN, hgnn.DOMAIN_VERSION)]
    bodies = [hgnn.function("SegMean", OPSET)]
    return onnx.helper.make_model(graph, opset_imports=domains, ir_version=10, functions=bodies)


def compiled_rgcn(board: str = BOARD) -> Program:
    """The model's program for a board's default design, quantized on a small graph."""
    small, model = large_graph(1000, 20_000), rgcn()
    bindings = model_bindings(model, small)
    quantized = quantize(FedModel(model, bindings, [model_feeds(model, bindings, small)]))
    return compile_model(quantized, default_design(board), name="rgcn")


class CountedTransport(EmulatedTransport):
    """An emulated overlay that notes how much contiguous memory was in use at most."""

    most_bytes = 0

    def allocate(self, size: int) -> EmulatedBuffer:
        """As the transport."""
        found = super().allocate(size)
        self.most_bytes = max(self.most_bytes, self.memory.used)
        return found


def measure(nodes: int, edges: int) -> dict[str, Any]:
    """Generates the graph, runs the model on it in parts, and says what that took."""
    program, graph = compiled_rgcn(), large_graph(nodes, edges)
    limit = read_board(BOARD).assumed_contiguous_bytes
    begin = time.perf_counter()
    runs = LayerRuns(GraphRows(program, graph), limit)
    plan = runs.plan()
    planned = time.perf_counter() - begin
    with CountedTransport(program.design) as transport:
        outcome = runs.run(Session(transport, program.design), plan, progress=lambda parts: None)
        most = transport.most_bytes
    seconds = time.perf_counter() - begin
    logits: npt.NDArray[np.int32] = outcome.result.logits
    return {
        "nodes": sum(graph.counts.values()),
        "edges": sum(len(found.source) for found in graph.relations.values()),
        "parts": plan.parts,
        "planned_mb_max": plan.largest_bytes / _MB,
        "cma_mb_max": most / _MB,
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "plan_seconds": planned,
        "seconds": seconds,
        "rows": len(logits),
        "edges_aggregated": outcome.result.counters.agg_edges,
    }


def report(found: dict[str, Any]) -> Report:
    """The figures as a table."""
    title = "An RGCN in parts on the emulated PYNQ-Z2: memory and seconds measured on this host"
    return Report(title, ["figure", "value"], [[name, value] for name, value in found.items()], found)


def main() -> None:
    """Runs the benchmark."""
    parser = argument_parser(__doc__)
    parser.add_argument("--nodes", type=int, default=1_000_000, help="nodes of the graph (default 1,000,000)")
    parser.add_argument("--edges", type=int, default=20_000_000, help="edges of the graph (default 20,000,000)")
    arguments = parser.parse_args()
    publish(report(measure(arguments.nodes, arguments.edges)), arguments.as_json)


if __name__ == "__main__":
    main()
