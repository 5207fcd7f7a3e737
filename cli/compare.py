# SPDX-License-Identifier: Apache-2.0
"""``hetfab compare``: every stored tensor of the float model, of the quantized model and of the overlay."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from hetfab.cli.output import Result, common_options, print_table

if TYPE_CHECKING:
    from hetfab.driver.comparison import Reference
    from hetfab.overlay.bind import BoundProgram
    from hetfab.overlay.program import Program


@click.command()
@click.argument("model", type=click.Path(path_type=Path))
@click.argument("quantized", type=click.Path(path_type=Path))
@click.argument("program", type=click.Path(path_type=Path))
@click.option("--graph", type=click.Path(path_type=Path), help="Graph to run on.")
@click.option("--samples", type=click.Path(path_type=Path), help="Samples (.npz) of a network on samples.")
@click.option("--sample", type=click.IntRange(min=0), default=0, show_default=True, help="Which one, with --samples.")
@click.option("--bind", type=click.Path(path_type=Path), help="JSON file with the meaning of MODEL's inputs.")
@common_options
def command(
    model: Path,
    quantized: Path,
    program: Path,
    graph: Path | None,
    samples: Path | None,
    sample: int,
    bind: Path | None,
) -> Result:
    """Compare all tensors of MODEL, of QUANTIZED and of PROGRAM on the emulated overlay."""
    if (graph is None) == (samples is None):
        raise click.UsageError("Give one of --graph GRAPH and --samples SAMPLES.")
    from hetfab.driver.comparison import compare_tensors, comparison_report, comparison_rows, verdict
    from hetfab.driver.emulated import EmulatedTransport
    from hetfab.driver.session import Session
    from hetfab.overlay.program import read_program

    read = read_program(program)
    if graph is not None:
        bound, reference = _on_graph(model, quantized, read, graph, bind)
    else:
        assert samples is not None
        bound, reference = _on_sample(model, quantized, read, samples, sample, bind)
    with EmulatedTransport(read.design) as transport:
        tensors = compare_tensors(Session(transport, read.design), bound, reference)
    headings = ["tensor", "layer", "integers", "quantized, dB", "overlay, dB", "differ", "steps"]
    print_table(headings, comparison_rows(tensors))
    click.echo(f"\n{verdict(tensors)}")
    return comparison_report(tensors)


def _on_graph(
    model: Path, quantized: Path, program: "Program", graph: Path, bind: Path | None
) -> "tuple[BoundProgram, Reference]":
    from hetfab.driver.comparison import Reference
    from hetfab.driver.graph.arrays import graph_arrays
    from hetfab.driver.graph.formats import read_graph
    from hetfab.driver.graph.model_inputs import open_model, with_hops
    from hetfab.driver.report import open_reference
    from hetfab.overlay.bind import bind as bind_program
    from hetfab.overlay.model.binding import read_bindings
    from hetfab.quantize.post_training import rewritten

    opened = read_graph(graph)
    compared = open_reference(quantized, program, opened)
    source = open_model(model, opened, None if bind is None else read_bindings(bind))
    in_float = rewritten(with_hops(source, opened))
    reference = Reference(in_float.model, next(in_float.samples()), compared.model, next(compared.samples()))
    return bind_program(program, graph_arrays(program, opened)), reference


def _on_sample(
    model: Path, quantized: Path, program: "Program", samples: Path, sample: int, bind: Path | None
) -> "tuple[BoundProgram, Reference]":
    from hetfab.driver.comparison import Reference
    from hetfab.driver.report import open_quantized
    from hetfab.driver.samples import one_sample, open_with_samples
    from hetfab.overlay.bind_samples import bind_sample
    from hetfab.overlay.model.binding import read_bindings
    from hetfab.quantize.study import check_float

    compared = open_quantized(quantized, program)
    source, read = open_with_samples(model, samples, None if bind is None else read_bindings(bind))
    check_float(source.model)
    chosen = one_sample(read, sample)
    feeds = [{each.graph.input[0].name: chosen} for each in (source.model, compared)]
    return bind_sample(program, chosen[0]), Reference(source.model, feeds[0], compared, feeds[1])
