# SPDX-License-Identifier: Apache-2.0
"""``hetfab run``: a program and a graph or samples in, predictions out."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from hetfab.cli.output import Result, common_options, print_table, progress

if TYPE_CHECKING:
    from hetfab.driver.graph.feeds import SemanticGraphs
    from hetfab.driver.graph.heterograph import HeteroGraph
    from hetfab.overlay.design import Design
    from hetfab.overlay.program import Program


def _seconds(context: click.Context, option: click.Parameter, value: float) -> float:
    if not value > 0:  # Also of NaN, which a wait would never reach.
        raise click.BadParameter(f"{value} is no time above 0", context, option)
    return value


def _semantic_graphs(program: "Program", graph: "HeteroGraph", design: "Design") -> "SemanticGraphs":
    """Those that the program reads, built on an emulated overlay of the design where it has the engine."""
    from hetfab.driver.emulated import EmulatedTransport
    from hetfab.driver.graph.arrays import metapaths_of
    from hetfab.driver.semantic_graphs import program_graphs
    from hetfab.driver.session import Session

    if not metapaths_of(program):
        return {}
    with EmulatedTransport(design) as transport:
        return program_graphs(program, graph, Session(transport, design))


@click.command()
@click.argument("program", type=click.Path(path_type=Path))
@click.option("--graph", type=click.Path(path_type=Path), help="Graph to run on.")
@click.option("--samples", type=click.Path(path_type=Path), help="Samples (.npz) to run on, of a network on samples.")
@click.option("--design", type=click.Path(path_type=Path), help="The overlay's design; the program's own without it.")
@click.option(
    "--reference", type=click.Path(path_type=Path), help="Quantized model of PROGRAM to compare with in onnxruntime."
)
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Where to save the predictions (.npz).")
@click.option("--trace", type=click.Path(path_type=Path), help="Where to save the modelled timeline, for Perfetto.")
@click.option(
    "--deadline", default=600.0, show_default=True, callback=_seconds, help="Seconds to wait for the run, above 0."
)
@common_options
def command(
    program: Path,
    graph: Path | None,
    samples: Path | None,
    design: Path | None,
    reference: Path | None,
    output: Path | None,
    trace: Path | None,
    deadline: float,
) -> Result:
    """Run PROGRAM on a graph or on samples, on the emulated overlay of its design."""
    if (graph is None) == (samples is None):
        raise click.UsageError("Give one of --graph GRAPH and --samples SAMPLES.")
    if samples is not None:
        return _on_samples(program, samples, design, reference, output, trace, deadline)
    assert graph is not None
    from hetfab.driver.emulated import EmulatedTransport
    from hetfab.driver.graph.arrays import graph_arrays
    from hetfab.driver.graph.formats import graph_files, read_graph
    from hetfab.driver.report import (
        counter_rows,
        layer_rows,
        open_reference,
        report,
        save_predictions,
        score_rows,
        time_run,
        value_rows,
    )
    from hetfab.driver.session import Session, check_geometry
    from hetfab.overlay.bind import bind
    from hetfab.overlay.board import read_board
    from hetfab.overlay.design import read_design
    from hetfab.overlay.files import check_outputs
    from hetfab.overlay.program import read_program
    from hetfab.overlay.timeline.summary import as_dict, tables
    from hetfab.overlay.timeline.trace import save_trace

    check_outputs(
        {"--output": output, "--trace": trace},
        {"PROGRAM": program, "--graph": graph_files(graph), "--design": design, "--reference": reference},
    )
    read, opened = read_program(program), read_graph(graph)
    chosen = read.design if design is None else read_design(design)
    check_geometry(read.design, chosen)
    read_board(chosen.board)  # A name that no board has is found before the run.
    bound = bind(read, graph_arrays(read, opened, _semantic_graphs(read, opened, chosen)))
    compared = None if reference is None else open_reference(reference, read, opened)
    with EmulatedTransport(chosen) as transport, progress("run", len(bound.words)) as advance:
        result = Session(transport, chosen).run(bound, deadline_seconds=deadline, progress=advance)
    found = report(result, bound, opened, compared)
    timed = time_run(result, bound, chosen)
    if output is not None:
        save_predictions(output, result, read, opened)
    print_table(["layer", "rows of", "engines", "instructions", "MACs", "edges"], layer_rows(result, bound))
    print_table(["counter", "value", "unit"], counter_rows(result))
    scores = score_rows(found)
    if scores:
        print_table(["model", "runs in", f"{found['f1_part']} micro F1", "macro F1"], scores)
    print_table(["result", "value"], value_rows(found))
    click.echo("\ntime, modelled from trips of loops, bytes and semaphores; nothing here was measured on a board")
    for headings, rows in tables(timed):
        print_table(headings, rows)
    if output is not None:
        click.echo(f"predictions in {output}")
    if trace is not None:
        save_trace(trace, timed.board, bound.program)
        click.echo(f"modelled timeline in {trace}; https://ui.perfetto.dev opens it")
    return {**found, "timeline": as_dict(timed)}


def _on_samples(
    program: Path,
    samples: Path,
    design: Path | None,
    reference: Path | None,
    output: Path | None,
    trace: Path | None,
    deadline: float,
) -> Result:
    from hetfab.driver.emulated import EmulatedTransport
    from hetfab.driver.report import counter_rows, layer_rows, open_quantized, time_run, value_rows
    from hetfab.driver.sample_runs import run_samples, sample_report, save_classes
    from hetfab.driver.samples import read_samples
    from hetfab.driver.session import Session, check_geometry
    from hetfab.overlay.bind_samples import sample_shape
    from hetfab.overlay.board import read_board
    from hetfab.overlay.design import read_design
    from hetfab.overlay.files import check_outputs
    from hetfab.overlay.program import read_program
    from hetfab.overlay.timeline.summary import as_dict, tables
    from hetfab.overlay.timeline.trace import save_trace

    reads = {"PROGRAM": program, "--samples": samples, "--design": design, "--reference": reference}
    check_outputs({"--output": output, "--trace": trace}, reads)
    read = read_program(program)
    opened = read_samples(samples, sample_shape(read))
    chosen = read.design if design is None else read_design(design)
    check_geometry(read.design, chosen)
    read_board(chosen.board)  # A name that no board has is found before the run.
    compared = None if reference is None else open_quantized(reference, read)
    with EmulatedTransport(chosen) as transport, progress("run", len(opened.samples)) as advance:
        runs = run_samples(Session(transport, chosen), read, opened, deadline_seconds=deadline, progress=advance)
    found = sample_report(runs, opened, compared)
    timed = time_run(runs.last, runs.bound, chosen)
    if output is not None:
        save_classes(output, runs)
    print_table(["layer", "rows of", "engines", "instructions", "MACs", "edges"], layer_rows(runs.last, runs.bound))
    print_table(["counter of a sample", "value", "unit"], counter_rows(runs.last))
    shares = [(name, found.get(key)) for name, key in (("program", "accuracy"), ("reference", "reference_accuracy"))]
    rows = [[name, share] for name, share in shares if share is not None]
    if rows:
        print_table(["model", "right of the samples"], rows)
    print_table(["result", "value"], value_rows(found))
    click.echo(
        "\ntime of one sample, modelled from trips of loops, bytes and semaphores; nothing was measured on a board"
    )
    for headings, table in tables(timed):
        print_table(headings, table)
    if output is not None:
        click.echo(f"predictions in {output}")
    if trace is not None:
        save_trace(trace, timed.board, runs.bound.program)
        click.echo(f"modelled timeline in {trace}; https://ui.perfetto.dev opens it")
    return {**found, "timeline": as_dict(timed)}
