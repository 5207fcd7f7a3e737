# SPDX-License-Identifier: Apache-2.0
"""What is said of a run: scores against labels and a reference, counters, where each layer ran, saved predictions."""

from dataclasses import asdict
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from hetfab.driver.graph.heterograph import HeteroGraph
from hetfab.driver.scores import agreement, f1_scores, predictions
from hetfab.driver.session import RunResult
from hetfab.overlay.bind import BoundProgram
from hetfab.overlay.costs.program_cost import expected_log
from hetfab.overlay.design import Design
from hetfab.overlay.files import write_atomic
from hetfab.overlay.isa.counter_table import counter_table
from hetfab.overlay.program import Program
from hetfab.overlay.timeline.summary import Summary, summarise


def report(result: RunResult, bound: BoundProgram, graph: HeteroGraph, reference: Path | None = None) -> dict[str, Any]:
    """Scores of a run.

    Args:
        result: The run.
        bound: What was run.
        graph: What it was run on.
        reference: The quantized model, to run in onnxruntime and compare with.

    Returns:
        ``micro_f1``, ``macro_f1`` (fractions on the test split, else on all labelled vertices; None without labels)
        and ``f1_part``; with a reference ``agreement`` (over all target vertices; where multilabel, all labels of a
        vertex) and ``max_logit_lsb`` (in steps of the last 8-bit tensor); ``instructions``, ``stream_hash`` and
        ``counters`` (by name).
    """
    node_type = bound.program.tensor(bound.program.output.tensor).node_type
    scores = f1_scores(graph, node_type, result.values)
    found: dict[str, Any] = {
        "micro_f1": None if scores is None else scores.micro,
        "macro_f1": None if scores is None else scores.macro,
        "f1_part": None if scores is None else scores.part,
    }
    if reference is not None:
        found |= _compare(result, bound, graph, reference, node_type)
    found |= {"instructions": result.instructions, "stream_hash": result.stream_hash}
    return found | {"counters": asdict(result.counters)}


def _compare(
    result: RunResult, bound: BoundProgram, graph: HeteroGraph, reference: Path, node_type: str
) -> dict[str, float]:
    from hetfab.driver.graph.model_inputs import model_bindings, model_feeds
    from hetfab.overlay.model.reader import read_model
    from hetfab.overlay.model.runtime import run_model

    model = read_model(reference)
    feed = model_feeds(model, model_bindings(model, graph), graph)
    logits = run_model(model, feed, [model.graph.output[0].name])[0]
    distance = np.abs(result.values - logits).max(initial=0.0)
    return {
        "agreement": agreement(result.values, logits, multilabel=is_multilabel(graph, node_type)),
        "max_logit_lsb": float(distance / bound.program.output.lsb),
    }


def is_multilabel(graph: HeteroGraph, node_type: str) -> bool:
    """Whether each class of a node type is a decision of its own."""
    labels = graph.labels.get(node_type)
    return labels is not None and labels.ndim == 2


def value_rows(found: dict[str, Any]) -> list[list[object]]:
    """Table of a report's single values: name and value; what is None is left out, and so are the counters."""
    return [
        [name.replace("_", " "), value] for name, value in found.items() if value is not None and name != "counters"
    ]


def counter_rows(result: RunResult) -> list[list[object]]:
    """Table of the event counters: name, value and unit."""
    return [
        [counter.name.replace("_", " "), getattr(result.counters, counter.name), counter.unit]
        for counter in counter_table().counters
    ]


def layer_rows(result: RunResult, bound: BoundProgram) -> list[list[object]]:
    """Table of layers: name, node type, engines, instructions, MACs and edges (counts, not times)."""
    layers = bound.program.layers
    counts = np.bincount(bound.layers, minlength=len(layers))
    macs, edges = np.zeros(len(layers), np.int64), np.zeros(len(layers), np.int64)
    if result.run_log is not None:
        np.add.at(macs, result.run_log["layer"], result.run_log["macs"].astype(np.int64))
        np.add.at(edges, result.run_log["layer"], result.run_log["edges"].astype(np.int64))
    return [
        [layer.name, layer.node_type, " ".join(layer.engines), int(counts[i]), int(macs[i]), int(edges[i])]
        for i, layer in enumerate(layers)
    ]


def time_run(result: RunResult, bound: BoundProgram, design: Design) -> Summary:
    """The modelled time of a run: by its run log, or by the cost functions where there is none.

    Args:
        result: The run.
        bound: What was run.
        design: Of the overlay.
    """
    log = expected_log(bound) if result.run_log is None else result.run_log
    return summarise(bound, log, design)


def save_predictions(path: Path, result: RunResult, program: Program, graph: HeteroGraph) -> None:
    """Writes ``logits`` (int32), ``scale``, ``predictions`` and ``node_type`` to an .npz file.

    Where the graph has them, also ``ids`` (text [N], of the rows) and ``classes`` (text [C], of the columns).

    Raises:
        OutputUnwritableError: The path cannot be written.
    """
    node_type = program.tensor(program.output.tensor).node_type
    names: dict[str, Any] = {"ids": graph.ids[node_type]} if node_type in graph.ids else {}
    if node_type in graph.classes:
        names["classes"] = np.array(graph.classes[node_type], dtype=np.str_)

    def write(file: BinaryIO) -> None:
        np.savez_compressed(
            file,
            logits=result.logits,
            scale=np.float64(result.scale),
            predictions=predictions(result.values, multilabel=is_multilabel(graph, node_type)),
            node_type=np.array(node_type),
            **names,
        )

    write_atomic(path, write)
