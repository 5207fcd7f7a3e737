# SPDX-License-Identifier: Apache-2.0
"""``hetfab demo``: the main job end to end, each step the command that a user types, and a page that shows it."""

import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from hetfab.cli import compile as compile_command
from hetfab.cli import inspect, quantize, run
from hetfab.cli.output import Result, common_options, format_table, print_next


def _step(context: click.Context, name: str, command: click.Command, **values: Any) -> None:
    """Prints a command line and runs it."""
    options = {parameter.name: parameter for parameter in command.params}
    words = []
    for key, value in values.items():
        parameter = options[key]
        words += [str(value)] if isinstance(parameter, click.Argument) else [parameter.opts[0], str(value)]
    click.echo(f"\n$ hetfab {name} {' '.join(words)}")
    context.invoke(command, **values)


@click.command()
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), help="Folder for the files, kept; else a temporary one."
)
@click.pass_context
@common_options
def command(context: click.Context, output: Path | None) -> Result:
    """Generate a graph, take a small model through all steps, and write a page that shows the run."""
    from hetfab.driver.demo import model_path
    from hetfab.driver.demo.outcome import DemoFiles, finish
    from hetfab.driver.graph.generate import academic
    from hetfab.driver.graph.npz import write_graph
    from hetfab.overlay.files import make_folder

    folder = Path(tempfile.mkdtemp(prefix="hetfab-demo-")) if output is None else make_folder(output)
    files = DemoFiles(folder / "academic.npz", model_path(), folder / "rgcn.q.onnx", folder / "rgcn.hfp")
    write_graph(files.graph, academic())
    click.echo(f"a generated graph of papers, authors, venues and terms: {files.graph}")
    _step(context, "inspect", inspect.command, model=files.model, graph=files.graph)
    _step(context, "quantize", quantize.command, model=files.model, graph=files.graph, output=files.quantized)
    _step(context, "compile", compile_command.command, model=files.quantized, graph=files.graph, output=files.program)
    _step(context, "run", run.command, program=files.program, graph=files.graph, reference=files.quantized)
    page = folder / "demo.html"
    outcome = finish(files, page)
    rows = [
        [row.model, row.runs_in, f"{row.micro_f1:.4f}", f"{outcome.instructions:,}" if row.model == "program" else ""]
        for row in outcome.accuracy
    ]
    click.echo("\n" + format_table(["model", "runs in", "test micro F1", "instructions"], rows))
    click.echo(
        f"overlay against onnxruntime on the quantized model: {outcome.agreement:.2%} of the predictions agree, "
        f"largest difference {outcome.max_logit_lsb:g} LSB"
    )
    click.echo(f"\npage of this run: {page}, beside the files of every step")
    print_next(f"hetfab graph {files.graph} --model {files.model}")
    return {"page": str(page), **asdict(outcome)}
