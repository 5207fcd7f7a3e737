# SPDX-License-Identifier: Apache-2.0
"""``hetfab demo``: the main job end to end, each step the command that a user types, and a page that shows it."""

import tempfile
from pathlib import Path
from typing import Any

import click

from hetfab.cli import compile as compile_command
from hetfab.cli import inspect, quantize, run
from hetfab.cli.output import Result, common_options, format_table, print_next


def _step(context: click.Context, name: str, command: click.Command, **values: Any) -> Result:
    """Prints a command line, runs it, and returns what its ``--json`` would print."""
    options = {parameter.name: parameter for parameter in command.params}
    words = []
    for key, value in values.items():
        parameter = options[key]
        words += [str(value)] if isinstance(parameter, click.Argument) else [parameter.opts[0], str(value)]
    click.echo(f"\n$ hetfab {name} {' '.join(words)}")
    # Parsed as typed: ``context.invoke`` would leave out the callbacks of options that are not given.
    with command.make_context(name, words, parent=context) as called:
        found: Result = command.invoke(called)
    return found


@click.command()
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), help="Folder for the files, kept; else a temporary one."
)
@click.pass_context
@common_options
def command(context: click.Context, output: Path | None) -> Result:
    """Generate a graph, take a small model through all steps, and write a page that shows the run."""
    from hetfab.driver.demo import model_path
    from hetfab.driver.graph.generate import academic
    from hetfab.driver.graph.npz import write_graph
    from hetfab.driver.report import score_rows
    from hetfab.overlay.files import make_folder

    folder = Path(tempfile.mkdtemp(prefix="hetfab-demo-")) if output is None else make_folder(output)
    graph, model, page = folder / "academic.npz", model_path(), folder / "demo.html"
    quantized, program = folder / "rgcn.q.onnx", folder / "rgcn.hfp"
    write_graph(graph, academic())
    click.echo(f"a generated graph of papers, authors, venues and terms: {graph}")
    _step(context, "inspect", inspect.command, model=model, graph=graph)
    _step(context, "quantize", quantize.command, model=model, graph=graph, output=quantized)
    _step(context, "compile", compile_command.command, model=quantized, graph=graph, output=program)
    files = {"graph": graph, "reference": quantized, "of_float": model, "page": page}
    found = _step(context, "run", run.command, program=program, **files)
    named = {"quantized model": "quantized model, W8A8"}
    scores = [[named.get(str(name), name), *rest] for name, *rest in score_rows(dict(found))]
    rows = [
        [name, runs_in, f"{micro:.4f}", f"{found['instructions']:,}" if name == "program" else ""]
        for name, runs_in, micro, _ in scores
    ]
    click.echo("\n" + format_table(["model", "runs in", "test micro F1", "instructions"], rows))
    click.echo(
        f"overlay against onnxruntime on the quantized model: {found['agreement']:.2%} of the predictions agree, "
        f"largest difference {found['max_logit_lsb']:g} LSB"
    )
    click.echo(f"\npage of this run: {page}, beside the files of every step")
    print_next(f"hetfab graph {graph} --model {model}")
    accuracy = [
        {"model": name, "runs_in": runs_in, "micro_f1": micro, "macro_f1": macro}
        for name, runs_in, micro, macro in scores
    ]
    said = {key: found[key] for key in ("instructions", "agreement", "max_logit_lsb")}
    return {"page": str(page), "accuracy": accuracy, **said}
