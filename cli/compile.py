# SPDX-License-Identifier: Apache-2.0
"""``hetfab compile``: a quantized model and a design in, a program out."""

import contextlib
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING

import click

from hetfab.cli.fallback import fallback_option
from hetfab.cli.output import Result, common_options, print_next, print_table
from hetfab.overlay.errors import counted
from hetfab.overlay.host_nodes import Fallback

if TYPE_CHECKING:
    from hetfab.overlay.program import Program

_COLUMNS = (
    "layer",
    "rows of",
    "dense in",
    "out",
    "on D",
    "on L",
    "weight bits",
    "out bits",
    "aggregates",
    "tile rows",
    "engines",
)


def _share(context: click.Context, parameter: click.Parameter, value: str | None) -> float | None:
    """The share of GEMM-D, None for ``auto``.

    Raises:
        click.BadParameter: It is no number from 0 to 1.
    """
    if value is None or value == "auto":
        return None
    with contextlib.suppress(ValueError):
        share = float(value)
        if 0 <= share <= 1:
            return share
    raise click.BadParameter(f"'{value}' is neither 'auto' nor a number from 0 (all on GEMM-L) to 1 (all on GEMM-D).")


@click.command()
@click.argument("model", type=click.Path(path_type=Path))
@click.option("--graph", type=click.Path(path_type=Path), help="Graph to plan for and to check the limits with.")
@click.option("--workload", type=click.Path(path_type=Path), help="What `hetfab graph --workload` wrote, to plan for.")
@click.option("--design", type=click.Path(path_type=Path), help="Design file; a default for the PYNQ-Z2 without it.")
@click.option(
    "--split",
    callback=_share,
    metavar="auto|0..1",
    help="Share of each layer's output channels on GEMM-D, 0 to 1; auto, the default, takes the fastest (modelled).",
)
@click.option(
    "--first-projection",
    type=click.Choice(["auto", "dense", "sparse"]),
    default="auto",
    show_default=True,
    help="Multiply features as rows (dense), add weights of their non-zeros (sparse), or the faster (modelled).",
)
@click.option(
    "--rows",
    type=click.Choice(["dram", "tags", "schedule", "auto"]),
    default="schedule",
    show_default=True,
    help="Where AGG finds feature rows: DRAM, or a scratchpad filled by tags or as a schedule says; auto, with a graph,"
    " takes the fastest and edges in parts where they pay (modelled).",
)
@click.option(
    "--inferences",
    type=click.IntRange(min=1),
    default=100,
    show_default=True,
    help="With --rows auto, inferences on the same graph, by which an order of edges pays for itself.",
)
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), help="The program.")
@fallback_option
@common_options
def command(
    model: Path,
    graph: Path | None,
    workload: Path | None,
    design: Path | None,
    split: float | None,
    first_projection: str,
    rows: str,
    inferences: int,
    output: Path,
    fallback: Fallback,
) -> Result:
    """Compile the quantized MODEL for a design."""
    from hetfab.driver.graph.arrays import graph_arrays
    from hetfab.driver.graph.facts import known_graph
    from hetfab.driver.graph.formats import graph_files, read_graph
    from hetfab.driver.graph.model_inputs import model_bindings
    from hetfab.driver.graph.row_choice import RowChoice, fastest, row_choices
    from hetfab.driver.report import planned_rows
    from hetfab.overlay.bind import BoundProgram, bind
    from hetfab.overlay.compiler.compile import compile_model, suited_design
    from hetfab.overlay.compiler.first_projection import FirstProjection
    from hetfab.overlay.compiler.lowering import lower
    from hetfab.overlay.compiler.model_plan import plan_projections, with_orders
    from hetfab.overlay.costs.resources import check_fits, resource_rows
    from hetfab.overlay.design import read_design
    from hetfab.overlay.files import check_outputs
    from hetfab.overlay.isa.codec import ReduceSource
    from hetfab.overlay.model.bound_model import BoundModel
    from hetfab.overlay.model.cnn.inspection import takes_samples
    from hetfab.overlay.model.reader import bindings_of, read_model
    from hetfab.overlay.program import write_program

    if rows == "auto" and graph is None:
        raise click.UsageError("--rows auto times every way to read a graph; give it with --graph.")
    if graph is not None and workload is not None:
        raise click.UsageError("--graph and --workload say the same of a graph; give one of them.")
    files = None if graph is None else graph_files(graph)
    reads = {"MODEL": model, "--graph": files, "--workload": workload, "--design": design}
    check_outputs({"--output": output}, reads)
    read = read_model(model)
    if takes_samples(bindings_of(read)):
        if fallback is Fallback.HOST:
            raise click.UsageError("--fallback host is for models that read a graph.")
        return _on_samples(model, design, split, output)
    given = None if design is None else read_design(design)
    if given is not None:
        check_fits(given)
    opened = None if graph is None else read_graph(graph)
    bound_model = BoundModel(read, model_bindings(read, opened))
    layers = lower(read, bound_model.bindings, fallback)
    chosen = given or suited_design(layers)
    facts = known_graph(opened, workload, layers)
    unordered = plan_projections(layers, chosen, facts, FirstProjection(first_projection), split)

    def compiled(source: ReduceSource, in_parts: Collection[str]) -> "Program":
        planned = with_orders(unordered, chosen, facts, source).lowered
        return compile_model(
            bound_model,
            chosen,
            name=model.name,
            share_on_d=split,
            lowered=planned,
            row_source=source,
            in_parts=in_parts,
        )

    source = ReduceSource.SCHEDULE if rows == "auto" else ReduceSource[rows.upper()]
    program = compiled(source, ())
    binds = opened is not None and not program.host_nodes
    if rows == "auto" and program.host_nodes:
        raise click.UsageError("--rows auto times whole runs, and operators of the host cut them: choose another way.")
    choices: list[RowChoice] = []
    bound: BoundProgram | None = None
    if rows == "auto" and opened is not None and binds:
        choices = list(row_choices(compiled, lambda each: graph_arrays(each, opened)))
        source, program, bound = fastest(choices, inferences).taken
        rows = fastest(choices, inferences).name
    elif opened is not None and binds:
        bound = bind(program, graph_arrays(program, opened), side_by_side=True)
    plan = with_orders(unordered, chosen, facts, source)
    write_program(output, program)
    print_table(_COLUMNS, planned_rows(program))
    for headings, table in plan.tables():
        print_table(headings, table)
    if choices:
        taken = fastest(choices, inferences)
        lines = [[each.name, each.milliseconds, each.making, "taken" if each is taken else ""] for each in choices]
        print_table(["rows of features", "ms modelled", "ms to order, once", ""], lines)
    reordered = [tensor.name for tensor in program.tensors if tensor.channel_order and not tensor.leading]
    if reordered:
        click.echo("stored in an order of channels of their own, for the cores: " + ", ".join(reordered))
    resources = resource_rows(chosen)
    _print_design(program, resources)
    if bound is not None:
        words = counted(len(bound.words), "instruction")
        click.echo(f"bound to {graph}: {words}, {sum(bound.sizes.values()):,} bytes of DRAM")
        if len(bound.words) < program.instructions:
            click.echo("  fewer than compiled: a layer has a block for full tiles and one for the rows that are left,")
            click.echo("  and this graph is so small that one of the two does not run")
    host = " --fallback host" if program.host_nodes else ""
    if host:
        names = ", ".join(node.operator for node in program.host_nodes)
        click.echo(f"runs on the host, in onnxruntime between the layers: {names}")
    print_next(f"hetfab run {output} --graph {graph or 'GRAPH'} --reference {model}{host}")
    return {
        "output": str(output),
        "design": chosen.name,
        "geometry_hash": chosen.geometry.hash(),
        "layers": len(program.layers),
        "split": split,
        "rows": rows,
        "row_choices": [
            {"name": each.name, "milliseconds": each.milliseconds, "making": each.making} for each in choices
        ],
        "channels": {
            "gemm_d": sum(layer.channels_on_d for layer in program.layers),
            "gemm_l": sum(layer.channels_on_l for layer in program.layers),
        },
        "reordered": reordered,
        "host_nodes": [
            {"operator": node.operator, "reads": list(node.inputs), "writes": node.output}
            for node in program.host_nodes
        ],
        "plan": plan.as_dict(),
        "instructions": program.instructions,
        "bound_instructions": None if bound is None else len(bound.words),
        "resources": {name: {"modelled": need, "board": there} for name, need, there in resources},
        "dram_bytes": None if bound is None else sum(bound.sizes.values()),
    }


def _on_samples(model: Path, design: Path | None, split: float | None, output: Path) -> Result:
    from hetfab.driver.report import planned_rows
    from hetfab.overlay.compiler.compile import compile_model
    from hetfab.overlay.costs.resources import check_fits, resource_rows
    from hetfab.overlay.design import IMAGE_DESIGN, default_design, read_design
    from hetfab.overlay.model.bound_model import BoundModel
    from hetfab.overlay.model.reader import bindings_of, read_model
    from hetfab.overlay.program import write_program

    chosen = default_design(IMAGE_DESIGN) if design is None else read_design(design)
    check_fits(chosen)
    read = read_model(model)
    program = compile_model(BoundModel(read, bindings_of(read)), chosen, name=model.name, share_on_d=split)
    write_program(output, program)
    print_table(_COLUMNS, planned_rows(program))
    resources = resource_rows(chosen)
    _print_design(program, resources)
    print_next(f"hetfab run {output} --samples SAMPLES --reference {model}")
    return {
        "output": str(output),
        "design": chosen.name,
        "geometry_hash": chosen.geometry.hash(),
        "layers": len(program.layers),
        "instructions": program.instructions,
        "weight_bytes": program.constants.size,
        "resources": {name: {"modelled": need, "board": there} for name, need, there in resources},
    }


def _print_design(program: "Program", resources: list[tuple[str, int, int]]) -> None:
    from hetfab.overlay.costs.resources import crowded

    print_table(["resource", "modelled need", f"on the board {program.design.board}"], resources)
    for warning in crowded(program.design):
        click.echo(f"warning: {warning}")
    instructions = counted(program.instructions, "instruction")
    click.echo(f"{instructions} in {counted(len(program.blocks), 'block')} for the design '{program.design.name}'")
