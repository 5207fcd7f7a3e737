# SPDX-License-Identifier: Apache-2.0
"""The public models at W8A8 on the emulated overlay: accuracy, exactness, time and memory, beside onnxruntime.

Time is of a program that is bound and in device memory, from dense float features in host memory to logits in host
memory; onnxruntime runs the float model from the same features. One thread each, median of five, edges given. The
overlay runs in a process of its own, whose peak memory counts graph, binding and emulator.
"""

import json
import math
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime

from benchmarks.report import Report, argument_parser, publish
from hetfab.driver.emulated import EmulatedTransport
from hetfab.driver.graph.arrays import graph_arrays
from hetfab.driver.graph.facts import graph_facts
from hetfab.driver.graph.heterograph import HeteroGraph
from hetfab.driver.graph.model_inputs import model_bindings, model_feeds, open_model, with_hops
from hetfab.driver.graph.npz import read_graph
from hetfab.driver.scores import agreement, f1_scores
from hetfab.driver.session import Session
from hetfab.overlay.bind import bind
from hetfab.overlay.compiler.compile import compile_model
from hetfab.overlay.compiler.lowering import lower
from hetfab.overlay.compiler.model_plan import plan_model
from hetfab.overlay.design import default_design
from hetfab.overlay.model.bound_model import BoundModel
from hetfab.overlay.model.reader import read_model
from hetfab.overlay.program import read_program, write_program
from hetfab.quantize.post_training import quantize

_GRAPHS, _KINDS = ("acm", "dblp", "imdb"), ("rgcn", "rgat", "han", "simplehgn", "sehgnn")
_REPEATS = 5
_HEADINGS = ("model", "F1 float", "quantized", "overlay", "agreement", "LSB", "s", "onnxruntime s", "ratio", "MB")


def measure_overlay(program: Path, graph: Path, logits: Path) -> dict[str, float]:
    """Seconds of an inference and peak memory of this process; the logits are saved."""
    read, opened = read_program(program), read_graph(graph)
    bound = bind(read, graph_arrays(read, opened))
    names = {tensor.name: tensor.node_type for tensor in read.tensors if tensor.name.startswith("x_")}
    features = {name: opened.dense_features(node_type) for name, node_type in names.items()}
    with EmulatedTransport(read.design) as transport, Session(transport, read.design).load(bound) as resident:

        def inference() -> None:
            resident.replace_graph_features(features)
            np.save(logits, resident.run().values)

        seconds = median_seconds(inference)
    return {"seconds": seconds, "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}


def median_seconds(work: Callable[[], object]) -> float:
    """Median processor time of this thread, after one run that is not counted."""
    work()
    found = []
    for _ in range(_REPEATS):
        begin = time.thread_time()
        work()
        found.append(time.thread_time() - begin)
    return statistics.median(found)


def compiled_files(name: str, folder: Path, graph: HeteroGraph, data: Path, board: str) -> tuple[Path, Path]:
    """The quantized model and its program, made anew unless the folder has them."""
    quantized, program = folder / f"{name}.q.onnx", folder / f"{name}.hfp"
    if not quantized.exists():
        opened = open_model(data / "models" / f"{name}.onnx", graph)
        onnx.save(quantize(with_hops(opened, graph)).model, quantized)
    if not program.exists():
        design, model = default_design(board), read_model(quantized)
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


def measure(name: str, folder: Path, data: Path, board: str) -> dict[str, Any]:
    """All figures of one model."""
    graph_path = data / name.partition("_")[0] / "graph.npz"
    graph = read_graph(graph_path)
    quantized_path, program_path = compiled_files(name, folder, graph, data, board)
    saved = folder / f"{name}.npy"
    command = [sys.executable, "-m", "benchmarks.models", "--measure", *map(str, (program_path, graph_path, saved))]
    found: dict[str, Any] = json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)
    target, lsb = graph.target or "", read_program(program_path).output.lsb
    multilabel, logits = graph.labels[target].ndim == 2, np.load(saved)
    float_model, quantized = read_model(data / "models" / f"{name}.onnx"), logits_of(read_model(quantized_path), graph)
    session = onnxruntime_session(float_model)
    feed = model_feeds(float_model, model_bindings(float_model, graph), graph)
    feed = {value.name: feed[value.name] for value in session.get_inputs()}
    logits_by = {"float": session.run(None, feed)[0], "quantized": quantized, "overlay": logits}
    scores = {
        f"{key}_f1": found_f1.micro for key, each in logits_by.items() if (found_f1 := f1_scores(graph, target, each))
    }
    return (
        scores
        | found
        | {
            "agreement": agreement(logits, quantized, multilabel=multilabel),
            "max_logit_lsb": float(np.abs(logits - quantized).max() / lsb),
            "onnxruntime_seconds": median_seconds(lambda: session.run(None, feed)),
        }
    )


def report(models: dict[str, dict[str, Any]]) -> Report:
    """Figures of each model and of all."""
    ratios = {name: each["seconds"] / each["onnxruntime_seconds"] for name, each in models.items()}
    keys = ("float_f1", "quantized_f1", "overlay_f1", "agreement", "max_logit_lsb", "seconds", "onnxruntime_seconds")
    rows = [[name, *(each[key] for key in keys), ratios[name], each["peak_mb"]] for name, each in models.items()]
    values: dict[str, Any] = {
        "min_agreement": min(each["agreement"] for each in models.values()),
        "max_logit_lsb": max(each["max_logit_lsb"] for each in models.values()),
        "max_f1_drop": max(each["float_f1"] - each["overlay_f1"] for each in models.values()),
        "geomean_time_ratio": math.exp(statistics.fmean(math.log(ratio) for ratio in ratios.values())),
        "time_ratios": ratios,
        "dblp_han_time_ratio": ratios.get("dblp_han"),
        "peak_mb": max(each["peak_mb"] for each in models.values()),
        "models": models,
    }
    return Report(f"{len(models)} models at W8A8 on the emulated overlay, measured", _HEADINGS, rows, values)


def _names(asked: str) -> Iterator[str]:
    return (name for name in (f"{graph}_{kind}" for kind in _KINDS for graph in _GRAPHS) if asked in name)


def main() -> None:
    """Runs the benchmark."""
    parser = argument_parser(__doc__)
    parser.add_argument("--board", default="zcu104", help="board of the default design (default zcu104)")
    parser.add_argument("--only", default="", help="models whose name holds this")
    parser.add_argument("--folder", type=Path, help="where quantized models and programs are kept for further runs")
    parser.add_argument("--measure", nargs=3, type=Path, help="program, graph and logits of one model: its own part")
    arguments = parser.parse_args()
    if arguments.measure:
        print(json.dumps(measure_overlay(*arguments.measure)))
        return
    data = Path(os.environ["HETFAB_DATA"])
    with tempfile.TemporaryDirectory() as scratch:
        folder = arguments.folder or Path(scratch)
        found = {name: measure(name, folder, data, arguments.board) for name in _names(arguments.only)}
    publish(report(found), arguments.as_json)


if __name__ == "__main__":
    main()
