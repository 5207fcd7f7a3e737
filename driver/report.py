# SPDX-License-Identifier: Apache-2.0
"""What is said of a run: scores against labels and a reference, counters, where each layer ran, saved predictions."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TypeAlias

import numpy as np
import numpy.typing as npt

from hetfab.driver.graph.heterograph import HeteroGraph
from hetfab.driver.layer_runs import Outcome, RunPlan
from hetfab.driver.node_runs import NodeResult
from hetfab.driver.scores import F1, agreement, f1_scores, predictions
from hetfab.driver.session import RunResult
from hetfab.overlay.bind import BoundProgram
from hetfab.overlay.costs.program_cost import expected_log
from hetfab.overlay.design import Design
from hetfab.overlay.errors import ReferenceMismatchError, counted
from hetfab.overlay.files import write_atomic
from hetfab.overlay.host_nodes import HostUse
from hetfab.overlay.isa.counter_table import counter_table
from hetfab.overlay.program import LayerInfo, Program
from hetfab.overlay.timeline.summary import Summary, summarise

if TYPE_CHECKING:
    import onnx

    from hetfab.overlay.model.bound_model import FedModel  # A board has no onnx.

Nodes: TypeAlias = npt.NDArray[np.int64]


def open_reference(path: Path, program: Program, graph: HeteroGraph) -> "FedModel":
    """The quantized model that a program was compiled from, ready to run in onnxruntime.

    Raises:
        ReferenceMismatchError: The program was compiled from another model; names both.
        InputError: The reference cannot be read, or does not fit the graph.
    """
    from hetfab.driver.graph.model_inputs import open_model

    open_quantized(path, program)
    return open_model(path, graph)


def open_quantized(path: Path, program: Program) -> "onnx.ModelProto":
    """The quantized model that a program was compiled from.

    Raises:
        ReferenceMismatchError: The program was compiled from another model; names both.
        InputError: The reference cannot be read.
    """
    from hetfab.overlay.model.reader import is_quantized, model_hash, read_model

    read = read_model(path)
    found = model_hash(read)
    if found != program.model_hash:
        kind = "" if is_quantized(read) else ", a float model,"
        raise ReferenceMismatchError(
            f"the reference '{path}'{kind} with SHA-256 {found[:16]} is not what the program was compiled from",
            f"the model '{program.model_name}' with SHA-256 {program.model_hash[:16]}",
            "give that quantized model, or compile this one",
        )
    return read


def report(
    result: RunResult,
    bound: BoundProgram,
    graph: HeteroGraph,
    reference: "FedModel | None" = None,
    of_float: "FedModel | None" = None,
) -> dict[str, Any]:
    """Scores of a run.

    Args:
        result: The run.
        bound: What was run.
        graph: What it was run on.
        reference: As ``open_reference`` gives it, to run in onnxruntime and compare with.
        of_float: The float model, to run in onnxruntime.

    Returns:
        ``micro_f1``, ``macro_f1`` (fractions on the test split, else on all labelled nodes; None without labels)
        and ``f1_part``; with a float model ``float_micro_f1`` and ``float_macro_f1``; with a reference its
        ``reference_micro_f1`` and ``reference_macro_f1``, ``agreement`` (over all target nodes; where multilabel, all
        labels of a node) and ``max_logit_lsb`` (in steps of the last stored tensor); ``instructions``,
        ``stream_hash`` and ``counters`` (by name).
    """
    node_type = bound.program.tensor(bound.program.output.tensor).node_type
    scores = f1_scores(graph, node_type, result.values)
    of_others, compared = _beside(result, bound.program, graph, reference, of_float)
    found = of_others | _scores(scores) | {"f1_part": None if scores is None else scores.part} | compared
    found |= {"instructions": result.instructions, "stream_hash": result.stream_hash}
    return found | {"counters": asdict(result.counters)}


def _beside(
    result: RunResult,
    program: Program,
    graph: HeteroGraph,
    reference: "FedModel | None",
    of_float: "FedModel | None",
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Scores of the float model and of the reference, and how near a run is to the latter; empty without them."""
    node_type = program.tensor(program.output.tensor).node_type
    scores = {} if of_float is None else _scores(f1_scores(graph, node_type, of_float.logits()), "float_")
    if reference is None:
        return scores, {}
    logits = reference.logits()
    compared = {
        "agreement": agreement(result.values, logits, multilabel=is_multilabel(graph, node_type)),
        "max_logit_lsb": float(np.abs(result.values - logits).max(initial=0.0) / program.output.lsb),
    }
    return scores | _scores(f1_scores(graph, node_type, logits), "reference_"), compared


def node_report(found: NodeResult, nodes: Nodes, program: Program, graph: HeteroGraph) -> dict[str, Any]:
    """What is said of predictions of some nodes.

    Returns:
        ``nodes``, ``predictions`` (the class of each node, or all its classes), ``vertices`` that were needed by type,
        ``rows`` that all layers computed, ``runs`` of the overlay, ``host`` (as ``host_report`` says),
        ``instructions``, ``stream_hash`` and ``counters``.
    """
    return {
        "nodes": nodes.tolist(),
        "predictions": _classes(found, program, graph),
        "vertices": dict(found.vertices),
        "rows": found.rows,
        "runs": found.runs,
        "host": host_report(found.result),
        "instructions": found.result.instructions,
        "stream_hash": found.result.stream_hash,
        "counters": asdict(found.result.counters),
    }


def node_rows(found: NodeResult, nodes: Nodes, program: Program, graph: HeteroGraph) -> list[list[object]]:
    """Table of predicted nodes: number or name, and its class or classes."""
    node_type = program.tensor(program.output.tensor).node_type
    names = graph.ids[node_type][nodes].tolist() if node_type in graph.ids else nodes.tolist()
    classes = graph.classes.get(node_type)

    def named(number: int) -> str:
        return str(number) if classes is None else classes[number]

    shown = [
        " ".join(map(named, each)) if isinstance(each, list) else named(each)
        for each in _classes(found, program, graph)
    ]
    return [[name, each] for name, each in zip(names, shown, strict=True)]


def _classes(found: NodeResult, program: Program, graph: HeteroGraph) -> list[Any]:
    """The class of each node; of several labels, all that it has."""
    multilabel = is_multilabel(graph, program.tensor(program.output.tensor).node_type)
    values = predictions(found.result.values, multilabel=multilabel)
    return [np.flatnonzero(row).tolist() for row in values] if multilabel else values.tolist()


def parts_report(
    outcome: Outcome,
    plan: RunPlan,
    program: Program,
    graph: HeteroGraph,
    reference: "FedModel | None" = None,
    of_float: "FedModel | None" = None,
) -> dict[str, Any]:
    """What is said of a run in parts, or with operators of the host.

    Scores and what is said of a reference and of a float model as of any run, ``parts`` and ``largest_part_bytes``,
    ``host``, counters.
    """
    result = outcome.result
    scores = f1_scores(graph, program.tensor(program.output.tensor).node_type, result.values)
    of_others, compared = _beside(result, program, graph, reference, of_float)
    return (
        of_others
        | _scores(scores)
        | compared
        | {
            "f1_part": None if scores is None else scores.part,
            "parts": plan.parts,
            "largest_part_bytes": plan.largest_bytes,
            "host": host_report(result),
            "instructions": result.instructions,
            "stream_hash": result.stream_hash,
            "counters": asdict(result.counters),
        }
    )


HOST_HEADINGS = ["on the host", "times", "rows", "ms", "bytes moved"]


def host_report(result: RunResult) -> list[dict[str, Any]]:
    """What operators of the host took: ``operator``, ``times``, ``rows``, ``milliseconds`` and ``bytes`` of each."""
    return [{"operator": name} | asdict(use) for name, use in result.host.items()]


def host_rows(result: RunResult) -> list[list[object]]:
    """The same as a table under ``HOST_HEADINGS``, and all together."""
    total = sum(result.host.values(), HostUse(0, 0, 0.0, 0))
    named = [*result.host.items(), (f"all {counted(len(result.host), 'operator')}", total)]
    return [[name, use.times, use.rows, use.milliseconds, use.bytes] for name, use in named]


def described(program: Program, design: Design, what: str) -> dict[str, Any]:
    """What ran on what, and where each layer was placed, as plain values.

    Args:
        program: The whole program.
        design: Of the overlay.
        what: ``graph``, ``nodes``, ``parts`` or ``samples``.

    Returns:
        ``program``, with names, hashes and the flow, and ``layers`` as the compiler placed them.
    """
    of_program = {
        "of": what,
        "model": program.model_name,
        "model_sha256": program.model_hash,
        "design": design.name,
        "board": design.board,
        "flow": "dataflow" if design.stages else "overlay",
        "geometry_sha256": design.geometry.hash(),
        "clock_mhz": design.clock_mhz,
        "scratchpad_bytes": design.geometry.feature_words * design.geometry.lanes,
        "engines": list(design.geometry.engines),
    }
    return {"program": of_program, "layers": [_placed(program, layer) for layer in program.layers]}


def _placed(program: Program, layer: LayerInfo) -> dict[str, Any]:
    bits = _bits(program, layer)
    return {
        "name": layer.name,
        "node_type": layer.node_type,
        "inputs": layer.inputs,
        "channels": layer.channels,
        "channels_on_d": layer.channels_on_d,
        "channels_on_l": layer.channels_on_l,
        "weight_bits_on_d": list(layer.weight_bits_on_d),
        "weight_bits_on_l": list(layer.weight_bits_on_l),
        "output_bits": None if bits == "-" else bits,
        "aggregations": list(layer.aggregations),
        "from_nonzeros": layer.gathered,
        "leading": layer.leading,
        "engines": list(layer.engines),
        "tile_rows": layer.tile_rows,
    }


def _scores(scores: F1 | None, prefix: str = "") -> dict[str, float | None]:
    micro, macro = (None, None) if scores is None else (scores.micro, scores.macro)
    return {f"{prefix}micro_f1": micro, f"{prefix}macro_f1": macro}


def score_rows(found: dict[str, Any]) -> list[list[object]]:
    """Table of a report's F1 scores, in the order of the work: the reference, then the program; empty without any."""
    executions = (
        ("float model", "onnxruntime", "float_"),
        ("quantized model", "onnxruntime", "reference_"),
        ("program", "emulated overlay", ""),
    )
    return [
        [model, runs_in, found[f"{prefix}micro_f1"], found[f"{prefix}macro_f1"]]
        for model, runs_in, prefix in executions
        if found.get(f"{prefix}micro_f1") is not None
    ]


def is_multilabel(graph: HeteroGraph, node_type: str) -> bool:
    """Whether each class of a node type is a decision of its own."""
    labels = graph.labels.get(node_type)
    return labels is not None and labels.ndim == 2


def value_rows(found: dict[str, Any]) -> list[list[object]]:
    """Table of a report's other single values: name and value."""
    names = ("agreement", "max_logit_lsb", "instructions", "stream_hash")
    return [[name.replace("_", " "), found[name]] for name in names if name in found]


def counter_rows(result: RunResult) -> list[list[object]]:
    """Table of the event counters: name, value and unit."""
    return [
        [counter.name.replace("_", " "), getattr(result.counters, counter.name), counter.unit]
        for counter in counter_table().counters
    ]


def planned_rows(program: Program) -> list[list[object]]:
    """Table of layers as compiled: name, node type, channels in and out and on each core, bits, tiles, engines."""
    return [
        [
            layer.name,
            layer.node_type,
            layer.inputs or "-",
            layer.channels,
            layer.channels_on_d if layer.inputs else "-",
            layer.channels_on_l if layer.inputs else "-",
            _shown_widths(layer),
            _bits(program, layer),
            len(layer.aggregations),
            layer.tile_rows,
            " ".join(layer.engines),
        ]
        for layer in program.layers
    ]


def _bits(program: Program, layer: LayerInfo) -> object:
    """Width of what a layer writes to DRAM."""
    if not program.images:
        return program.tensor(layer.name).bits
    return next((image.bits for image in program.images if image.name == layer.name), "-")


def _shown_widths(layer: LayerInfo) -> object:
    """Widths of a layer's weights; where there are several, those on each core."""
    on_d, on_l = layer.weight_bits_on_d, layer.weight_bits_on_l
    if len({*on_d, *on_l}) < 2:
        return [*on_d, *on_l, "-"][0]
    parts = [f"{' + '.join(map(str, widths))} on {core}" for core, widths in (("D", on_d), ("L", on_l)) if widths]
    return ", ".join(parts)


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


def save_predictions(
    path: Path,
    result: RunResult,
    program: Program,
    graph: HeteroGraph,
    nodes: npt.NDArray[np.int64] | None = None,
) -> None:
    """Writes ``logits`` (int32), ``scale``, ``predictions`` and ``node_type`` to an .npz file.

    Where the graph has them, also ``ids`` (text [N], of the rows) and ``classes`` (text [C], of the columns); of
    some nodes their numbers, ``nodes`` (int64 [N]).

    Raises:
        OutputUnwritableError: The path cannot be written.
    """
    node_type = program.tensor(program.output.tensor).node_type
    rows = slice(None) if nodes is None else nodes
    names: dict[str, Any] = {"ids": graph.ids[node_type][rows]} if node_type in graph.ids else {}
    if nodes is not None:
        names["nodes"] = nodes
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
