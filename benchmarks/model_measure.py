# SPDX-License-Identifier: Apache-2.0
"""The figures of one public model in three parts, each a process of its own: ``benchmarks.models`` starts them.

*Prepare* quantizes and compiles, *overlay* times the program and saves its logits, *compare* does the rest. A process
that another one starts counts that one's memory as its peak, so all three are started by a process that holds little.

*Edges given*: the program is bound and in device memory; time is from dense float features in host memory to logits in
host memory, on both sides. *With SGB*: nothing but the graph and the program is there. The overlay's side builds the
semantic graphs by SGB, reads them back, binds features and edges, loads and runs; onnxruntime's side builds the same
graphs with scipy, each in the order of products that is fastest for it, and takes their edges to its inputs. Metapath
means that are a model's inputs are computed with scipy on its side; on the overlay the program computes them relation
by relation, and binds the relations. A model that reads neither has no semantic graphs to build: there both columns
are the same measurement.
"""

import argparse
import json
import resource
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime

from benchmarks.semantic_peers import scipy_ways
from hetfab.driver.emulated import EmulatedTransport
from hetfab.driver.graph.arrays import graph_arrays, metapaths_of
from hetfab.driver.graph.facts import graph_facts
from hetfab.driver.graph.feeds import feeds
from hetfab.driver.graph.heterograph import HeteroGraph
from hetfab.driver.graph.model_inputs import model_bindings, model_feeds, open_model, with_hops
from hetfab.driver.graph.npz import read_graph
from hetfab.driver.graph.semantic import adjacencies
from hetfab.driver.graph.summary import reverse_pairs
from hetfab.driver.scores import agreement, f1_scores
from hetfab.driver.semantic_graphs import bound_metapaths, program_graphs
from hetfab.driver.session import Session
from hetfab.overlay.bind import bind
from hetfab.overlay.compiler.compile import compile_model
from hetfab.overlay.compiler.lowering import lower
from hetfab.overlay.compiler.model_plan import plan_model
from hetfab.overlay.costs.resources import check_fits
from hetfab.overlay.design import Design, default_design
from hetfab.overlay.model.binding import Binding, MetapathMean
from hetfab.overlay.model.bound_model import BoundModel
from hetfab.overlay.model.reader import read_model
from hetfab.overlay.program import Program, read_program, write_program
from hetfab.quantize.post_training import quantize

_REPEATS = 5


def design_with_sgb(board: str) -> Design:
    """The board's default design with SGB, which fits it."""
    default = default_design(board)
    if "sgb" in default.geometry.engines:
        return default
    geometry = replace(default.geometry, engines=(*default.geometry.engines, "sgb"))
    found = replace(default, name=f"{board}-sgb", origin=f"{board} with SGB", geometry=geometry)
    check_fits(found)
    return found


def median_seconds(work: Callable[[], object]) -> float:
    """Median processor time of this thread, after one run that is not counted."""
    work()
    return statistics.median(seconds(work) for _ in range(_REPEATS))


def seconds(work: Callable[[], object]) -> float:
    """Processor time of this thread."""
    begin = time.thread_time()
    work()
    return time.thread_time() - begin


def measure_overlay(program_path: Path, graph_path: Path, logits: Path) -> dict[str, float]:
    """Seconds of an inference and peak memory of this process; the logits are saved."""
    program, graph = read_program(program_path), read_graph(graph_path)
    read = [tensor for tensor in program.tensors if tensor.segment in ("features", "graph") and tensor.node_type]
    features = {tensor.name: graph.dense_features(tensor.node_type) for tensor in read}
    with EmulatedTransport(program.design) as transport:
        session = Session(transport, program.design)
        graphs = program_graphs(program, graph, session)
        with session.load(bind(program, graph_arrays(program, graph, graphs))) as resident:

            def inference() -> None:
                resident.replace_graph_features(features)
                np.save(logits, resident.run().values)

            given = median_seconds(inference)
            saved = np.load(logits)
        del graphs
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        whole = median_seconds(lambda: _check_equal(saved, run_with_sgb(program, graph, session)))
    found = {"seconds": given, "peak_mb": peak}
    return found | {"seconds_with_sgb": whole if metapaths_of(program) else given}


def run_with_sgb(program: Program, graph: HeteroGraph, session: Session) -> Any:
    """Logits from a graph and a program alone."""
    bound = bind(program, graph_arrays(program, graph, program_graphs(program, graph, session)))
    return session.run(bound).values


def _check_equal(expected: Any, found: Any) -> None:
    if not np.array_equal(expected, found):
        raise AssertionError("logits of graphs that SGB built differ from those of given edges")


def compiled_files(name: str, folder: Path, graph: HeteroGraph, data: Path, board: str) -> tuple[Path, Path]:
    """The quantized model and its program, made anew unless the folder has them."""
    quantized, program = folder / f"{name}.q.onnx", folder / f"{name}.{board}.hfp"
    if not quantized.exists():
        opened = open_model(data / "models" / f"{name}.onnx", graph)
        onnx.save(quantize(with_hops(opened, graph)).model, quantized)
    if not program.exists():
        design, model = design_with_sgb(board), read_model(quantized)
        given = BoundModel(model, model_bindings(model, graph))
        layers = lower(given.model, given.bindings)
        planned = plan_model(layers, design, graph_facts(graph, layers)).lowered
        write_program(program, compile_model(given, design, name=name, lowered=planned))
    return quantized, program


def onnxruntime_session(model: onnx.ModelProto) -> onnxruntime.InferenceSession:
    """A session on one thread."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 4
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def logits_of(model: onnx.ModelProto, graph: HeteroGraph) -> Any:
    """The logits of a model in onnxruntime."""
    session, feed = onnxruntime_session(model), model_feeds(model, model_bindings(model, graph), graph)
    return session.run(None, {value.name: feed[value.name] for value in session.get_inputs()})[0]


def scipy_seconds(graph: HeteroGraph, bindings: Mapping[str, Binding]) -> float:
    """Seconds in which scipy builds what a model reads along metapaths: semantic graphs' edges, means of features."""
    relations = adjacencies(graph)
    by_name = {relation.name: found for relation, found in relations.items()}
    reverses = reverse_pairs(graph)
    spent = 0.0
    for path in bound_metapaths(bindings):
        ways = scipy_ways(tuple(relation.name for relation in path), by_name, reverses)
        spent += min(median_seconds(lambda work=work: _edges(work())) for _, work in ways)  # type: ignore[misc]
    means = {name: found for name, found in bindings.items() if isinstance(found, MetapathMean)}
    return spent + (median_seconds(lambda: feeds(graph, means)) if means else 0.0)


def _edges(product: Any) -> tuple[Any, Any]:
    """Sources and destinations, as the model's inputs hold them."""
    rows = np.repeat(np.arange(product.shape[0], dtype=np.int64), np.diff(product.indptr))
    return product.indices.astype(np.int64), rows


def compare(name: str, folder: Path, data: Path, board: str) -> dict[str, Any]:
    """All figures of one model but those of the overlay, whose logits are in the folder."""
    graph = read_graph(data / name.partition("_")[0] / "graph.npz")
    quantized_path, program_path = compiled_files(name, folder, graph, data, board)
    target, lsb = graph.target or "", read_program(program_path).output.lsb
    multilabel, logits = graph.labels[target].ndim == 2, np.load(folder / f"{name}.npy")
    float_model, quantized = read_model(data / "models" / f"{name}.onnx"), logits_of(read_model(quantized_path), graph)
    session = onnxruntime_session(float_model)
    bindings = model_bindings(float_model, graph)
    feed = model_feeds(float_model, bindings, graph)
    feed = {value.name: feed[value.name] for value in session.get_inputs()}
    logits_by = {"float": session.run(None, feed)[0], "quantized": quantized, "overlay": logits}
    scores = {
        f"{key}_f1": found_f1.micro for key, each in logits_by.items() if (found_f1 := f1_scores(graph, target, each))
    }
    run, built = median_seconds(lambda: session.run(None, feed)), scipy_seconds(graph, bindings)
    return scores | {
        "agreement": agreement(logits, quantized, multilabel=multilabel),
        "max_logit_lsb": float(np.abs(logits - quantized).max() / lsb),
        "onnxruntime_seconds": run,
        "scipy_seconds": built,
        "onnxruntime_seconds_with_scipy": run + built,
    }


def main() -> None:
    """Prints the figures of a part as one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("part", choices=("prepare", "overlay", "compare"))
    parser.add_argument("name")
    parser.add_argument("folder", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("board")
    given = parser.parse_args()
    path = given.data / given.name.partition("_")[0] / "graph.npz"
    found: dict[str, Any] = {}
    if given.part == "prepare":
        compiled_files(given.name, given.folder, read_graph(path), given.data, given.board)
    elif given.part == "overlay":
        program = given.folder / f"{given.name}.{given.board}.hfp"
        found = measure_overlay(program, path, given.folder / f"{given.name}.npy")
    else:
        found = compare(given.name, given.folder, given.data, given.board)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
