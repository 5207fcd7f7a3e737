# SPDX-License-Identifier: Apache-2.0
"""``hetfab run``: a program and a graph or samples in, predictions out."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hetfab.cli.fallback import fallback_option
from hetfab.cli.output import Result, common_options, print_table, progress
from hetfab.cli.target import chosen_target, place_options
from hetfab.overlay.host_nodes import Fallback, refuse_host

if TYPE_CHECKING:
    from hetfab.driver.board.address import Address
    from hetfab.driver.checks import Checks
    from hetfab.driver.graph.feeds import SemanticGraphs
    from hetfab.driver.graph.graph_rows import GraphRows
    from hetfab.driver.graph.heterograph import HeteroGraph
    from hetfab.driver.run_times import RunTimes
    from hetfab.driver.session import RunResult
    from hetfab.driver.target import Target
    from hetfab.overlay.design import Design
    from hetfab.overlay.model.bound_model import FedModel
    from hetfab.overlay.program import Program
    from hetfab.overlay.timeline.summary import Summary


def _seconds(context: click.Context, option: click.Parameter, value: float) -> float:
    if not value > 0:  # Also of NaN, which a wait would never reach.
        raise click.BadParameter(f"{value} is no time above 0", context, option)
    return value


def _checks(context: click.Context, option: click.Parameter, value: str) -> "Checks":
    from hetfab.driver.checks import Checks

    return Checks(value)


def _semantic_graphs(program: "Program", graph: "HeteroGraph", target: "Target", times: "RunTimes") -> "SemanticGraphs":
    """Those that the program reads, built on the overlay where it has the engine."""
    from hetfab.driver.graph.arrays import metapaths_of
    from hetfab.driver.semantic_graphs import program_graphs

    if not metapaths_of(program):
        return {}
    with target.session(times) as session:
        return program_graphs(program, graph, session)


@click.command()
@click.argument("program", type=click.Path(path_type=Path))
@click.option("--graph", type=click.Path(path_type=Path), help="Graph to run on.")
@click.option("--samples", type=click.Path(path_type=Path), help="Samples (.npz) to run on, of a network on samples.")
@place_options
@click.option(
    "--design", type=click.Path(path_type=Path), help="The emulated overlay's design; the program's own without it."
)
@click.option(
    "--reference", type=click.Path(path_type=Path), help="Quantized model of PROGRAM to compare with in onnxruntime."
)
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Where to save the predictions (.npz).")
@click.option("--nodes", help="Nodes to predict: numbers or names with commas, or a file with one in each line.")
@click.option("--batch", type=click.IntRange(1), help="With --nodes, how many to predict at once; all without it.")
@click.option(
    "--fusion", type=click.Path(path_type=Path), help="With --nodes, fusion weights (.npz) that --save-fusion wrote."
)
@click.option(
    "--save-fusion", type=click.Path(path_type=Path), help="Where to save the fusion weights of the whole graph (.npz)."
)
@fallback_option
@click.option("--trace", type=click.Path(path_type=Path), help="Where to save the modelled timeline, for Perfetto.")
@click.option("--float", "of_float", type=click.Path(path_type=Path), help="Float model to score in onnxruntime.")
@click.option("--report", "page", type=click.Path(path_type=Path), help="Where to save a page of the run (.html).")
@click.option(
    "--deadline", default=600.0, show_default=True, callback=_seconds, help="Seconds to wait for the run, above 0."
)
@click.option(
    "--checks",
    type=click.Choice(["state", "memory", "twice"]),
    default="memory",
    show_default=True,
    callback=_checks,
    help="What is looked at after a run: registers; what it read in memory too; a second run too.",
)
@common_options
def command(
    program: Path,
    graph: Path | None,
    samples: Path | None,
    to: "Address",
    package: str | None,
    design: Path | None,
    reference: Path | None,
    output: Path | None,
    nodes: str | None,
    batch: int | None,
    fusion: Path | None,
    save_fusion: Path | None,
    fallback: Fallback,
    trace: Path | None,
    of_float: Path | None,
    page: Path | None,
    deadline: float,
    checks: "Checks",
) -> Result:
    """Run PROGRAM on a graph or on samples, on the emulated overlay of its design or on a board."""
    if (graph is None) == (samples is None):
        raise click.UsageError("Give one of --graph GRAPH and --samples SAMPLES.")
    _check_node_options(samples, nodes, batch, fusion, save_fusion, [reference, trace, of_float])
    if samples is not None:
        if fallback is Fallback.HOST:
            raise click.UsageError("--fallback host goes with --graph.")
        where = to, package, design
        return _on_samples(program, samples, where, reference, of_float, output, trace, page, deadline, checks)
    assert graph is not None
    from hetfab.driver.edges_in_parts import make_parts
    from hetfab.driver.graph.formats import graph_files, read_graph
    from hetfab.driver.graph.graph_rows import GraphRows
    from hetfab.driver.host_runs import check_fallback
    from hetfab.driver.report import (
        counter_rows,
        described,
        layer_rows,
        open_reference,
        report,
        save_predictions,
        score_rows,
        value_rows,
    )
    from hetfab.driver.run_times import RunTimes
    from hetfab.driver.session import check_geometry
    from hetfab.overlay.bind import bind
    from hetfab.overlay.board import read_board
    from hetfab.overlay.files import check_outputs
    from hetfab.overlay.program import read_program
    from hetfab.overlay.timeline.summary import as_dict, tables
    from hetfab.overlay.timeline.trace import save_trace

    reads: dict[str, Any] = {"PROGRAM": program, "--graph": graph_files(graph), "--design": design}
    reads |= {"--reference": reference, "--fusion": fusion, "--float": of_float}
    check_outputs({"--output": output, "--save-fusion": save_fusion, "--trace": trace, "--report": page}, reads)
    read, opened = read_program(program), read_graph(graph)
    target = replace(chosen_target(to, design or read.design, package), checks=checks)
    chosen = target.design
    check_geometry(read.design, chosen)
    check_fallback(read, fallback)
    if trace is not None:
        refuse_host(read.host_nodes, "a timeline is of one stream", "leave --trace out")
    memory = read_board(chosen.board).assumed_contiguous_bytes
    times = RunTimes(read, chosen)
    rows = GraphRows(read, opened, _semantic_graphs(read, opened, target, times))
    if nodes is not None:
        return _on_nodes(rows, target, memory, nodes, batch, fusion, output, times, page, deadline)
    compared = None if reference is None else open_reference(reference, read, opened)
    beside = None if of_float is None else _opened_float(of_float, opened)
    too_large = trace is None and rows.whole_bytes() > memory
    if save_fusion is not None or read.host_nodes or too_large:
        return _in_parts(rows, target, memory, save_fusion, (compared, beside), output, times, page, deadline)
    bound = bind(read, rows.arrays(), make_parts=make_parts, side_by_side=True)
    with target.session(times) as session, progress("run", len(bound.words)) as advance:
        result = session.run(bound, deadline_seconds=deadline, progress=advance)
    timed = times.summary
    found = report(result, bound, opened, compared, beside) | described(read, chosen, "graph")
    found |= {"semantic_graphs": times.semantic_graphs(), "timeline": as_dict(timed)}
    if output is not None:
        save_predictions(output, result, read, opened)
    print_table(["layer", "rows of", "engines", "instructions", "MACs", "edges"], layer_rows(result, bound))
    print_table(["counter", "value", "unit"], counter_rows(result))
    scores = score_rows(found)
    if scores:
        print_table(["model", "runs in", f"{found['f1_part']} micro F1", "macro F1"], scores)
    print_table(["result", "value"], value_rows(found))
    click.echo(f"\ntime, modelled from trips of loops, bytes and semaphores; {_what_was_measured(chosen)}")
    for headings, lines in tables(timed):
        print_table(headings, lines)
    if output is not None:
        click.echo(f"predictions in {output}")
    if trace is not None:
        save_trace(trace, timed.board, bound)
        click.echo(f"modelled timeline in {trace}; https://ui.perfetto.dev opens it")
    _write_page(page, found, timed)
    return found


def _opened_float(model: Path, graph: "HeteroGraph") -> "FedModel":
    from hetfab.driver.graph.model_inputs import open_model  # A board has no onnx.

    return open_model(model, graph)


def _write_page(page: Path | None, found: Result, timed: "Summary") -> None:
    """Writes the page of a run, if one was asked for."""
    from hetfab.driver.page.run_page import write_page

    if page is not None:
        write_page(page, found, timed.board)
        click.echo(f"page of this run: {page}")


def _what_was_measured(design: "Design") -> str:
    from hetfab.overlay.timeline.machine import origin_text

    return origin_text(design.board) or "nothing here was measured on a board"


def _check_node_options(
    samples: Path | None,
    nodes: str | None,
    batch: int | None,
    fusion: Path | None,
    save_fusion: Path | None,
    of_whole_runs: Sequence[Path | None],
) -> None:
    """Refuses options that say nothing together."""
    if nodes is None and (batch is not None or fusion is not None):
        raise click.UsageError("--batch and --fusion are of --nodes.")
    if nodes is None and save_fusion is None:
        return
    if nodes is not None and save_fusion is not None:
        raise click.UsageError("--save-fusion is of a whole graph: leave --nodes out.")
    if samples is not None or any(path is not None for path in of_whole_runs):
        raise click.UsageError("--nodes and --save-fusion go with --graph, without --reference, --float and --trace.")


def _on_nodes(
    rows: "GraphRows",
    target: "Target",
    memory: int,
    nodes: str,
    batch: int | None,
    fusion: Path | None,
    output: Path | None,
    times: "RunTimes",
    page: Path | None,
    deadline: float,
) -> Result:
    """Predicts some nodes."""
    from hetfab.driver.asked_nodes import read_fusion, read_nodes
    from hetfab.driver.node_runs import NodeRuns
    from hetfab.driver.report import counter_rows, described, node_report, node_rows, save_predictions

    program, graph = rows.program, rows.graph
    asked = read_nodes(nodes, graph, program.tensor(program.output.tensor).node_type)
    weights = None if fusion is None else read_fusion(fusion, program)
    with target.session(None if page is None else times) as session:
        found = NodeRuns(rows, memory, weights).predict(session, asked, batch=batch, deadline_seconds=deadline)
    if output is not None:
        save_predictions(output, found.result, program, graph, asked)
    print_table(["node", "prediction"], node_rows(found, asked, program, graph))
    print_table(["counter", "value", "unit"], counter_rows(found.result))
    _print_host(found.result)
    if output is not None:
        click.echo(f"predictions in {output}")
    said = node_report(found, asked, program, graph)
    return said if page is None else _with_page(page, said | described(program, target.design, "nodes"), times)


def _with_page(page: Path, said: dict[str, Any], times: "RunTimes") -> Result:
    """What is said of several runs with what they take, which is also written as a page."""
    from hetfab.overlay.timeline.summary import as_dict

    timed = times.summary
    found = said | {"semantic_graphs": times.semantic_graphs(), "timeline": as_dict(timed)}
    _write_page(page, found, timed)
    return found


def _in_parts(
    rows: "GraphRows",
    target: "Target",
    memory: int,
    save_fusion: Path | None,
    beside: "tuple[FedModel | None, FedModel | None]",
    output: Path | None,
    times: "RunTimes",
    page: Path | None,
    deadline: float,
) -> Result:
    """Predicts all nodes layer by layer, in parts that fit the board's memory."""
    from hetfab.driver import asked_nodes
    from hetfab.driver.layer_runs import LayerRuns
    from hetfab.driver.report import counter_rows, described, parts_report, save_predictions, score_rows, value_rows

    runs = LayerRuns(rows, memory)
    plan = runs.plan()
    click.echo(f"{plan.parts} parts of at most {plan.largest_bytes:,} bytes of device memory, of {memory:,}")
    with target.session(None if page is None else times) as session, progress("run", plan.parts) as advance:
        outcome = runs.run(session, plan, deadline_seconds=deadline, progress=advance)
    found = parts_report(outcome, plan, rows.program, rows.graph, *beside)
    if output is not None:
        save_predictions(output, outcome.result, rows.program, rows.graph)
    if save_fusion is not None:
        asked_nodes.save_fusion(save_fusion, rows.program, outcome.fusion)
    print_table(["counter", "value", "unit"], counter_rows(outcome.result))
    _print_host(outcome.result)
    scores = score_rows(found)
    if scores:
        print_table(["model", "runs in", f"{found['f1_part']} micro F1", "macro F1"], scores)
    print_table(["result", "value"], value_rows(found))
    for what, path in (("predictions", output), ("fusion weights", save_fusion)):
        if path is not None:
            click.echo(f"{what} in {path}")
    return found if page is None else _with_page(page, found | described(rows.program, target.design, "parts"), times)


def _print_host(result: "RunResult") -> None:
    from hetfab.driver.report import HOST_HEADINGS, host_rows

    if result.host:
        click.echo("\nin onnxruntime on this host, measured")
        print_table(HOST_HEADINGS, host_rows(result))


def _on_samples(
    program: Path,
    samples: Path,
    where: "tuple[Address, str | None, Path | None]",
    reference: Path | None,
    of_float: Path | None,
    output: Path | None,
    trace: Path | None,
    page: Path | None,
    deadline: float,
    checks: "Checks",
) -> Result:
    """Predicts samples on the overlay that ``--to``, ``--package`` and ``--design`` name."""
    from hetfab.driver.report import counter_rows, described, layer_rows, open_quantized, time_run, value_rows
    from hetfab.driver.run_times import RunTimes
    from hetfab.driver.sample_runs import accuracy_rows, run_samples, sample_report, save_classes
    from hetfab.driver.samples import read_samples
    from hetfab.driver.session import check_geometry
    from hetfab.overlay.bind_samples import sample_shape
    from hetfab.overlay.board import read_board
    from hetfab.overlay.files import check_outputs
    from hetfab.overlay.program import read_program
    from hetfab.overlay.timeline.summary import as_dict, tables
    from hetfab.overlay.timeline.trace import save_trace

    to, package, design = where
    reads = {"PROGRAM": program, "--samples": samples, "--design": design, "--reference": reference}
    check_outputs({"--output": output, "--trace": trace, "--report": page}, reads | {"--float": of_float})
    read = read_program(program)
    opened = read_samples(samples, sample_shape(read))
    target = replace(chosen_target(to, design or read.design, package), checks=checks)
    chosen = target.design
    check_geometry(read.design, chosen)
    read_board(chosen.board)  # A name that no board has is found before the run.
    compared = None if reference is None else open_quantized(reference, read)
    beside = None
    if of_float is not None:
        from hetfab.overlay.model.reader import read_model  # A board has no onnx.

        beside = read_model(of_float)
    with target.session() as session, progress("run", len(opened.samples)) as advance:
        runs = run_samples(session, read, opened, deadline_seconds=deadline, progress=advance)
    timed = time_run(runs.last, runs.bound, chosen)
    found = sample_report(runs, opened, compared, beside) | described(read, chosen, "samples")
    found |= {"semantic_graphs": RunTimes(read, chosen).semantic_graphs(), "timeline": as_dict(timed)}
    if output is not None:
        save_classes(output, runs)
    print_table(["layer", "rows of", "engines", "instructions", "MACs", "edges"], layer_rows(runs.last, runs.bound))
    print_table(["counter of a sample", "value", "unit"], counter_rows(runs.last))
    rows = accuracy_rows(found)
    if rows:
        print_table(["model", "right of the samples"], rows)
    print_table(["result", "value"], value_rows(found))
    click.echo(
        f"\ntime of one sample, modelled from trips of loops, bytes and semaphores; {_what_was_measured(chosen)}"
    )
    for headings, table in tables(timed):
        print_table(headings, table)
    if output is not None:
        click.echo(f"predictions in {output}")
    if trace is not None:
        save_trace(trace, timed.board, runs.bound)
        click.echo(f"modelled timeline in {trace}; https://ui.perfetto.dev opens it")
    _write_page(page, found, timed)
    return found
