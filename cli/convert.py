# SPDX-License-Identifier: Apache-2.0
"""``hetfab convert``: reads a model that was quantized elsewhere, or writes hetfab's own for plain runtimes."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import click

from hetfab.cli.output import Result, common_options, print_next, print_table
from hetfab.overlay.errors import counted

if TYPE_CHECKING:
    import onnx

    from hetfab.overlay.model.binding import Binding
    from hetfab.quantize.formats.deploy import Deployable


@click.command()
@click.argument("model", type=click.Path(path_type=Path))
@click.option(
    "--to",
    "form",
    type=click.Choice(["hetfab", "qcdq"]),
    default="hetfab",
    show_default=True,
    help="Form to write: hetfab's, from QONNX, QDQ or QCDQ; or QCDQ, standard operators, from hetfab's.",
)
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), help="The model in that form.")
@click.option(
    "--graph", type=click.Path(path_type=Path), help="Graph of a model on graphs, for what it does not round."
)
@click.option("--bind", type=click.Path(path_type=Path), help="JSON file with the meaning of inputs.")
@common_options
def command(model: Path, form: str, output: Path, graph: Path | None, bind: Path | None) -> Result:
    """Write the quantized MODEL in another form, with the numbers that it has."""
    from hetfab.overlay.files import check_outputs, write_atomic
    from hetfab.overlay.model.binding import read_bindings
    from hetfab.overlay.model.reader import read_model
    from hetfab.quantize.formats.qcdq import qcdq_model

    if form == "qcdq" and (graph is not None or bind is not None):
        raise click.UsageError("--graph and --bind are for --to hetfab.")
    files = None
    if graph is not None:
        from hetfab.driver.graph.formats import graph_files

        files = graph_files(graph)
    check_outputs({"--output": output}, {"MODEL": model, "--graph": files, "--bind": bind})
    given = read_model(model)
    overrides = None if bind is None else read_bindings(bind)
    found = _deployable(given, graph, overrides) if form == "hetfab" else None
    written = qcdq_model(given) if found is None else found.model

    def write(file: BinaryIO) -> None:
        file.write(written.SerializeToString(deterministic=True))

    write_atomic(output, write)
    if found is None:
        click.echo(f"{counted(len(written.graph.node), 'standard operator')}")
        return {"output": str(output), "form": form}
    if found.differences:
        rows = [[entry.tensor, entry.what, entry.found, entry.kept] for entry in found.differences]
        print_table(["tensor or layer", "number", "in the file", "kept"], rows)
    for line in found.left_out:
        click.echo(line)
    of_graph = "" if graph is None else f"--graph {graph} "
    print_next(f"hetfab compile {output} {of_graph}-o {output.name.removesuffix('.onnx').removesuffix('.q')}.hfp")
    return {
        "output": str(output),
        "form": form,
        "differences": [asdict(entry) for entry in found.differences],
        "left_out": list(found.left_out),
        "may_round": list(found.may_round),
    }


def _deployable(
    given: "onnx.ModelProto", graph: Path | None, overrides: "Mapping[str, Binding] | None"
) -> "Deployable":
    from hetfab.quantize.formats.deploy import deployable, read_foreign

    if graph is None:
        return deployable(given, overrides)
    from hetfab.driver.graph.formats import read_graph
    from hetfab.driver.graph.model_inputs import on_graph
    from hetfab.quantize.formats.deploy_graph import deployable_on_graph

    foreign = read_foreign(given)
    return deployable_on_graph(foreign, on_graph(foreign.model, read_graph(graph), overrides))
