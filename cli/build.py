# SPDX-License-Identifier: Apache-2.0
"""``hetfab build``: a design in, the package of its bitstream out."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hetfab.cli.output import Result, common_options, print_next, print_table, progress
from hetfab.cli.workers import AskedWorkers, workers_options
from hetfab.overlay.errors import BuildError, HetfabError, counted

if TYPE_CHECKING:
    from hetfab.hls.build.bitstream.configuration import BuildConfiguration
    from hetfab.hls.build.bitstream.pipeline import Progress
    from hetfab.overlay.program import Program

_STEPS = ("sources", "synthesis", "ip", "resources", "block-design", "bitstream", "timing", "package")


@click.command()
@click.argument("model", required=False, type=click.Path(path_type=Path))
@click.option(
    "--flow",
    type=click.Choice(["overlay", "dataflow"]),
    default="overlay",
    show_default=True,
    help="A programmable overlay, or an accelerator with the weights of the quantized MODEL.",
)
@click.option("--graph", type=click.Path(path_type=Path), help="Graph to plan an accelerator for.")
@click.option("--emulated", is_flag=True, help="Write the package of the emulated overlay; run no tool.")
@click.option("--design", "designs", multiple=True, type=click.Path(path_type=Path), help="Design file; one or more.")
@click.option("--board", help="Board whose default design is built, where there is no --design.")
@click.option(
    *("-o", "--output"),
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder of the build, of several builds that of their folders; build/NAME without.",
)
@click.option("--from", "first", type=click.Choice(_STEPS), help="Do this step and all behind it, even if done.")
@click.option("--to", "last", type=click.Choice(_STEPS), help="End with this step.")
@click.option("--dry-run", is_flag=True, help="Write and check the scripts; run no tool.")
@click.option("--tool-version", "version", help="Release of the tools, such as 2024.1; the one found without.")
@click.option("--jobs", default=1, type=click.IntRange(1), show_default=True, help="Engines synthesised at a time.")
@click.option("--host", metavar="USER@MACHINE", help="Machine with the tools, reached by ssh.")
@workers_options
@common_options
def command(
    model: Path | None,
    flow: str,
    graph: Path | None,
    emulated: bool,
    designs: tuple[Path, ...],
    board: str | None,
    output: Path | None,
    first: str | None,
    last: str | None,
    dry_run: bool,
    version: str | None,
    jobs: int,
    host: str | None,
    workers: AskedWorkers,
) -> Result:
    """Build the bitstream of a design, or of an accelerator for MODEL, with Vitis HLS and Vivado.

    Several designs are built at a time, as many as there are --workers.
    """
    from hetfab.hls.build.bitstream.configuration import BuildConfiguration
    from hetfab.overlay.board import read_board
    from hetfab.overlay.design import default_design, read_design

    dataflow = flow == "dataflow"
    if dataflow and (model is None or board is None or designs):
        raise click.UsageError("--flow dataflow takes a quantized MODEL and a --board.")
    if not dataflow and (model is not None or graph is not None):
        raise click.UsageError("MODEL and --graph are for --flow dataflow.")
    if (not designs) == (board is None):
        raise click.UsageError("Give one of --design and --board.")
    if first and last and _STEPS.index(first) > _STEPS.index(last):
        raise click.UsageError(f"--from {first} comes after --to {last}.")
    if len(designs) < 2 and workers.several:
        raise click.UsageError("--workers and --cluster are for several designs; --jobs is for one.")
    if len(designs) > 1:
        if emulated or dry_run:
            raise click.UsageError("--emulated and --dry-run take one design.")
        several = [read_design(path) for path in designs]
        if len({each.name for each in several}) < len(several):
            raise click.UsageError("Two designs have the same name, which their builds go by.")
        root = (output or Path("build")).absolute()
        asked = [BuildConfiguration(each, root / each.name, version, jobs, host) for each in several]
        return _several([_Build(each, first, last) for each in asked], workers)
    if board is not None:
        read_board(board)
    program = None if model is None else _accelerator(model, graph, board or "")
    if program is not None:
        chosen = program.design
    else:
        chosen = read_design(designs[0]) if designs else default_design(board or "")
    configuration = BuildConfiguration(chosen, output or Path("build") / chosen.name, version, jobs, host)
    made: Result = {} if program is None else _write_program(program, configuration.folder)
    if emulated:
        return {**made, **_emulated(configuration)}
    if dry_run:
        return {**made, **_dry(configuration)}
    return {**made, **_whole(configuration, first, last)}


def _accelerator(model: Path, graph: Path | None, board: str) -> "Program":
    """The program for an accelerator of a model, whose design is the accelerator's."""
    from hetfab.driver.graph.facts import known_graph
    from hetfab.driver.graph.formats import read_graph
    from hetfab.driver.graph.model_inputs import model_bindings
    from hetfab.overlay.compiler.dataflow import compile_dataflow
    from hetfab.overlay.compiler.lowering import lower
    from hetfab.overlay.compiler.model_plan import plan_model
    from hetfab.overlay.costs.resources import check_fits
    from hetfab.overlay.design import default_design
    from hetfab.overlay.model.bound_model import BoundModel
    from hetfab.overlay.model.reader import read_model

    read, opened = read_model(model), None if graph is None else read_graph(graph)
    bound = BoundModel(read, model_bindings(read, opened))
    lowered = None
    if opened is not None:
        layers = lower(read, bound.bindings)
        facts = known_graph(opened, None, layers)
        lowered = plan_model(layers, default_design(board), facts, may_lead=False).lowered
    program = compile_dataflow(bound, board, name=model.name, lowered=lowered)
    check_fits(program.design)
    return program


def _write_program(program: "Program", folder: Path) -> Result:
    """Writes an accelerator's program and design into its build's folder, and prints its stages."""
    from hetfab.hls.build.bitstream.steps import write_text
    from hetfab.overlay.costs.resources import resource_rows
    from hetfab.overlay.files import make_folder
    from hetfab.overlay.program import write_program

    design = program.design
    make_folder(folder)
    target = folder / f"{design.name}.hfp"
    write_program(target, program)
    write_text(folder / "design.json", json.dumps(design.as_dict(), indent=1, sort_keys=True) + "\n")
    columns = ["stage", "in", "out", "weight bits", "bytes", "on DSPs", "on LUTs", "cycles for two rows (modelled)"]
    rows = [
        [
            each.name,
            each.inputs,
            each.outputs,
            "-".join(map(str, sorted({min(each.weight_bits), max(each.weight_bits)}))),
            each.weight_bytes,
            each.on_dsps,
            each.outputs - each.on_dsps,
            each.multiply_cycles,
        ]
        for each in design.stages
    ]
    print_table(columns, rows)
    resources = resource_rows(design)
    print_table(["resource", "modelled need", f"on the board {design.board}"], resources)
    click.echo(f"program for it in {target}")
    return {
        "program": str(target),
        "stages": [dict(zip(("name", "inputs", "outputs"), row, strict=False)) for row in rows],
        "resources": {name: {"modelled": need, "board": there} for name, need, there in resources},
    }


def _emulated(configuration: "BuildConfiguration") -> Result:
    from hetfab.driver.package import write_emulated_package
    from hetfab.overlay.costs.resources import check_fits
    from hetfab.overlay.files import make_folder

    check_fits(configuration.design)
    package = write_emulated_package(
        make_folder(configuration.folder / configuration.places.overlays), configuration.design
    )
    click.echo(f"package of the emulated overlay in {package.bit.parent}")
    return {"output": str(configuration.folder), "package": str(package.bit.parent)}


def _dry(configuration: "BuildConfiguration") -> Result:
    from hetfab.hls.build.bitstream.dry_run import dry_run

    done = dry_run(configuration)
    scripts = [str(path) for path in done.scripts]
    print_table(["step", "script"], [(name, _script_of(name, scripts)) for name in done.steps])
    _print_warnings(configuration)
    click.echo(f"{len(scripts)} scripts for {done.version} in '{configuration.folder}' pass; no tool was run")
    return {"output": str(configuration.folder), "version": done.version, "steps": list(done.steps), "scripts": scripts}


def _script_of(step: str, scripts: Sequence[str]) -> str:
    wanted = f"/{step.partition(':')[2]}/" if ":" in step else f"/{step.replace('-', '_')}.tcl"
    return next((path for path in scripts if wanted in path), "-")


@dataclass(frozen=True)
class _Build:
    """One of several builds.

    Attributes:
        configuration: Of the build.
        first: As ``--from``.
        last: As ``--to``.
    """

    configuration: "BuildConfiguration"
    first: str | None
    last: str | None


def _built(build: _Build) -> dict[str, Any]:
    """The result of a build, in any process; one that fails ends no other, so its error is a result."""
    from hetfab.hls.build.bitstream.pipeline import build as run

    try:
        return {"result": _result(build.configuration, run(build.configuration, build.first, build.last))}
    except HetfabError as error:
        return {"error": error.as_dict()}


def _several(builds: Sequence[_Build], workers: AskedWorkers) -> Result:
    """Builds several designs, each in its folder, whose steps are its journal."""
    from hetfab.overlay.costs.resources import check_fits
    from hetfab.overlay.search.evaluations import evaluated
    from hetfab.overlay.search.journal import Journal

    jobs = {build.configuration.design.name: build for build in builds}
    for build in builds:
        check_fits(build.configuration.design)
    with workers.open() as evaluators, progress("building", len(jobs)) as advance:
        found = evaluated(_built, jobs, Journal(None, ""), evaluators, lambda: advance(1))
    rows = []
    for name, each in found.items():
        steps = each.get("result", {}).get("steps", [])
        done = sum(step["state"] == "done" for step in steps)
        seconds = sum(step["seconds"] for step in steps)
        rows.append([name, "failed" if "error" in each else "built", done, len(steps) - done, seconds])
    print_table(["design", "", "steps done", "kept", "seconds"], rows)
    failed = {name: each["error"] for name, each in found.items() if "error" in each}
    if failed:
        reasons = "\n".join(f"{name}: {error['found']}; {error['do']}" for name, error in failed.items())
        raise BuildError(
            f"{len(failed)} of {counted(len(found), 'build')} failed\n{reasons}",
            "builds that end",
            "mend what is named and run the same command again; the steps that are done are kept",
        )
    return {"builds": {name: each["result"] for name, each in found.items()}}


def _whole(configuration: "BuildConfiguration", first: str | None, last: str | None) -> Result:
    from hetfab.hls.build.bitstream.pipeline import State, build

    def watch(news: "Progress") -> None:
        if news.state is State.STARTED:
            click.echo(f"{news.step} ...", err=True)
        else:
            advance(1)

    with progress(f"building {configuration.design.name}") as advance:
        ended = build(configuration, first, last, watch)
    print_table(["step", "state", "seconds"], [(each.step, each.state.value, each.seconds) for each in ended])
    result = _result(configuration, ended)
    if result["synthesis"]:
        _print_differences(result["synthesis"])
    if closure := result["closure"]:
        print_table(["resource", "modelled", "placed"], _resource_rows(closure["resources"])["overlay"])
        click.echo(f"timing: {closure['timing']['setup_slack_ns']:.3f} ns to spare at {closure['clock_mhz']:g} MHz")
    _print_warnings(configuration)
    if result["package"] is not None:
        print_next(f"copy '{result['package']}' to the board, into its folder of overlays (docs/pynq.md)")
    return result


def _result(configuration: "BuildConfiguration", ended: "Sequence[Progress]") -> dict[str, Any]:
    """What a build came to, as ``--json`` prints it."""
    places, folder = configuration.places, configuration.folder
    names = {each.step for each in ended}
    return {
        "output": str(folder),
        "steps": [{"step": each.step, "state": each.state.value, "seconds": each.seconds} for each in ended],
        "synthesis": _table(folder / places.resources) if "resources" in names else None,
        "closure": _table(folder / places.closure) if "timing" in names else None,
        "package": str(folder / places.package) if "package" in names else None,
    }


def _print_warnings(configuration: "BuildConfiguration") -> None:
    from hetfab.overlay.costs.resources import crowded

    for warning in crowded(configuration.design):
        click.echo(f"warning: {warning}")


def _print_differences(synthesis: Mapping[str, Any]) -> None:
    if synthesis["loops"]:
        loops = [(each["engine"], each["loop"], each["what"]) for each in synthesis["loops"]]
        print_table(["engine", "loop", "not as in the table"], loops)
    else:
        click.echo("loops: all have the interval and depth of the table")
    engines = _resource_rows(synthesis["resources"])
    rows = [(engine, *row) for engine, found in engines.items() for row in found if row[1] or row[2]]
    print_table(["engine", "resource", "modelled", "estimated by Vitis HLS"], rows)


def _resource_rows(entries: Sequence[Mapping[str, Any]]) -> dict[str, list[tuple[str, int, int]]]:
    """Resource, modelled and reported units by part."""
    parts: dict[str, list[tuple[str, int, int]]] = {}
    for each in entries:
        row = (each["resource"], round(each["modelled"]), round(each["reported"]))
        parts.setdefault(each["part"], []).append(row)
    return parts


def _table(path: Path) -> dict[str, Any]:
    table: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return table
