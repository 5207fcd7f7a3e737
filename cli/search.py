# SPDX-License-Identifier: Apache-2.0
"""``hetfab search``: float models and what they run on in, a design and widths out."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import click

from hetfab.cli.output import Result, common_options, print_next, print_table, progress
from hetfab.cli.workers import AskedWorkers, workers_options
from hetfab.overlay.errors import counted

if TYPE_CHECKING:
    from hetfab.cli.model_search import ModelSearch
    from hetfab.overlay.search.gains import Gain
    from hetfab.overlay.search.joint import Searched
    from hetfab.overlay.search.journal import Journal
    from hetfab.overlay.search.points import Goal, Point


@click.command()
@click.argument("models", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    *("--workload", "workloads"),
    multiple=True,
    required=True,
    type=click.Path(path_type=Path),
    help="Graph or samples that the models run on; once for all, or once for each.",
)
@click.option("--board", required=True, help="Board that the design is for.")
@click.option("--latency", type=click.FloatRange(min=0, min_open=True), metavar="MS", help="Longest modelled time.")
@click.option("--max-drop", type=click.FloatRange(min=0), metavar="POINTS", help="Most points of accuracy to lose.")
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), help="The design (.json).")
@click.option("--clock", type=click.FloatRange(min=0, min_open=True), metavar="MHZ", help="Clock of the design.")
@click.option("--combine", type=click.Choice(["sum", "max"]), default="sum", show_default=True, help="Of their times.")
@click.option(
    "--quantized", type=click.Path(path_type=Path), help="Folder, which exists, to write the quantized models to."
)
@click.option("--front", type=click.Path(path_type=Path), help="File for the Pareto front (.json).")
@click.option("--picture", type=click.Path(path_type=Path), help="Draw the Pareto front (.svg, .png or .pdf).")
@click.option("--explain", is_flag=True, help="Say what binds, and what a little more of it would buy.")
@workers_options
@common_options
def command(
    models: tuple[Path, ...],
    workloads: tuple[Path, ...],
    board: str,
    latency: float | None,
    max_drop: float | None,
    output: Path,
    clock: float | None,
    combine: str,
    quantized: Path | None,
    front: Path | None,
    picture: Path | None,
    explain: bool,
    workers: AskedWorkers,
) -> Result:
    """Search a design for MODELS, with widths for each layer.

    With --latency the widths nearest to the float models within that time, else the fastest that lose at most
    --max-drop points, half a point where nothing is asked for.
    """
    from hetfab.cli.model_search import ModelSearch
    from hetfab.cli.search_jobs import Source
    from hetfab.driver.graph.formats import graph_files
    from hetfab.overlay.design import MOST_MHZ
    from hetfab.overlay.files import check_outputs
    from hetfab.overlay.search.points import Combine, Goal
    from hetfab.quantize.automatic import DEFAULT_DROP

    if len(workloads) not in (1, len(models)):
        raise click.UsageError("Give --workload once, or once for each model.")
    if len({model.name for model in models}) < len(models):
        raise click.UsageError("Two models have the same file name, which their results go by.")
    if clock is not None and clock > MOST_MHZ:
        raise click.UsageError(f"--clock is {clock:g} MHz, and a design has at most {MOST_MHZ:,} MHz.")
    pairs = list(zip(models, workloads * len(models) if len(workloads) == 1 else workloads, strict=True))
    written = {f"--quantized {m.name}": quantized / _quantized_name(m) for m in models} if quantized else {}
    check_outputs(
        {"--output": output, "--front": front, "--picture": picture, **written},
        {"MODEL": list(models), "--workload": [f for each in set(workloads) for f in graph_files(each)]},
    )
    if picture is not None:
        from hetfab.driver.graph.picture import check_picture

        check_picture(picture)
    # Workers of a cluster have another working directory.
    sources = [Source(model.absolute(), workload.absolute()) for model, workload in pairs]
    asked = (latency, max_drop) != (None, None)
    goal = Goal(latency, max_drop if asked else DEFAULT_DROP)
    outputs = _Outputs(output, quantized, front, picture)
    with workers.open() as evaluators:
        with progress("search") as advance:
            search = ModelSearch.open(sources, board, clock, Combine(combine), evaluators, lambda: advance(1))
        with _journal(search, output) as journal:
            found, gains = _searched(search, goal, journal, output, explain)
            result = _result(search, found, gains) | {"output": str(output)}
            outputs.write(search, found, result["front"])
    _print(search, found, gains)
    on = "" if search.opened[0].graph is None else f" --graph {workloads[0]}"
    if quantized is not None:
        model = quantized / _quantized_name(models[0])
        print_next(f"hetfab compile {model} --design {output}{on} -o {models[0].stem}.hfp")
    return result


@contextmanager
def _journal(search: "ModelSearch", output: Path) -> "Iterator[Journal]":
    """What the search has evaluated so far; it is removed when all outputs are written."""
    from hetfab.overlay.search.journal import Journal

    kept = output.with_name(f"{output.name}.journal")
    with Journal(kept, search.identity()) as journal:
        if len(journal):
            click.echo(f"going on with {counted(len(journal), 'evaluation')} of {kept}", err=True)
        try:
            yield journal
        except KeyboardInterrupt:
            click.echo(f"{counted(len(journal), 'evaluation')} are in {kept}; the same command goes on", err=True)
            raise


def _searched(
    search: "ModelSearch", goal: "Goal", journal: "Journal", output: Path, explain: bool
) -> "tuple[Searched, Sequence[Gain]]":
    """Searches; what a search that is stopped has found is written."""
    from hetfab.overlay.search.gains import gains

    try:
        with progress("search", search.steps()) as advance:
            search.prepare(journal, lambda: advance(1))
            found = search.joint.run(goal)
        return found, gains(search.joint, found.point) if explain else []
    except KeyboardInterrupt:
        point = search.best_so_far(goal)
        if point is not None:
            _write_design(output, point)
            click.echo(f"the best so far, {point}, is in {output}", err=True)
        raise


@dataclass(frozen=True)
class _Outputs:
    """Files that are written; None for those that are not asked for.

    Attributes:
        design: The design.
        quantized: Folder of the quantized models.
        front: The Pareto front.
        picture: The same, drawn.
    """

    design: Path
    quantized: Path | None
    front: Path | None
    picture: Path | None

    def write(self, search: "ModelSearch", found: "Searched", front: Sequence[Mapping[str, Any]]) -> None:
        """Writes all of them; the front as it is printed."""
        _write_design(self.design, found.point)
        if self.quantized is not None:
            for source, made in zip(search.sources, search.quantized(found.point), strict=True):
                _write(self.quantized / _quantized_name(source.model), made.SerializeToString(deterministic=True))
        if self.front is not None:
            import json

            _write(self.front, json.dumps(front, indent=1).encode())
        if self.picture is not None:
            from hetfab.driver.front_picture import FrontPoint, draw_front

            used = search.joint.used
            draw_front(
                self.picture, [FrontPoint(p.time, p.drop, used(p.design), p is found.point) for p in found.front]
            )


def _quantized_name(model: Path) -> str:
    return f"{model.name.removesuffix('.onnx')}.q.onnx"


def _write_design(output: Path, point: "Point") -> None:
    import json
    from dataclasses import replace

    origin = f"hetfab search: {point}, for {counted(len(point.choices), 'model')}"
    design = replace(point.design, name=output.name.removesuffix(".json"), origin=origin)
    _write(output, (json.dumps(design.as_dict(), indent=2) + "\n").encode())


def _write(path: Path, content: bytes) -> None:
    from hetfab.overlay.files import write_atomic

    def write(file: BinaryIO) -> None:
        file.write(content)

    write_atomic(path, write)


def _print(search: "ModelSearch", found: "Searched", gains: "Sequence[Gain]") -> None:
    for name, choice, score in zip(search.names, found.point.choices, found.point.scores, strict=True):
        click.echo(f"{name}: {max(score.drop, 0.0):.2f} points lost, {score.divergence:.4g} nats from the float model")
        print_table(["layer", "weight bits"], [[layer, bits] for layer, bits in choice.weights.items()])
        print_table(["stored tensor", "bits"], [[tensor, bits] for tensor, bits in choice.tensors.items()])
    rows = [
        [_arrays(p), p.time, p.drop, 100 * search.joint.used(p.design), "chosen" * (p is found.point)]
        for p in found.front
    ]
    print_table(["arrays", "modelled ms", "points lost", "% of the scarcest resource", ""], rows)
    point = found.point
    click.echo(
        f"{_arrays(point)}: {point.time:,.4g} ms by the timeline, {point.milliseconds:,.4g} ms by the cost functions "
        f"({point.gap:+.1%}), all modelled"
    )
    click.echo(
        f"{counted(found.designs, 'choice')} of arrays and scratchpad fit, {counted(found.solved, 'knapsack')} solved, "
        f"{counted(found.full_evaluations, 'whole model')} scored"
    )
    if gains:
        rows = [
            [f"{100 * g.share:.0f} % more {g.of}", g.milliseconds, 100 * (1 - g.milliseconds / g.before)] for g in gains
        ]
        print_table(["with", "modelled ms", "% faster"], rows)
        print_table(["layer", "model", "modelled ms", "% of all"], search.slowest(point))


def _arrays(point: "Point") -> str:
    g = point.design.geometry
    scratchpad = f", scratchpad {g.feature_words} x {g.agg_word_beats}" if "agg" in g.engines else ""
    return f"GEMM-D {g.gemm_d_rows} x {g.gemm_d_cols}, GEMM-L {g.gemm_l_rows} x {g.gemm_l_cols}{scratchpad}"


def _result(search: "ModelSearch", found: "Searched", gains: "Sequence[Gain]") -> dict[str, Any]:
    from dataclasses import asdict

    return {
        **_of_point(search, found.point),
        "modelled_gap": found.point.gap,
        "front": [_of_point(search, point) for point in found.front],
        "designs": found.designs,
        "knapsacks": found.solved,
        "accuracy_evaluations": found.full_evaluations,
        "sensitivity_evaluations": search.sensitivity_evaluations,
        "gains": [asdict(gain) for gain in gains],
    }


def _of_point(search: "ModelSearch", point: "Point") -> dict[str, Any]:
    from hetfab.overlay.search.points import choice_table

    tables: Sequence[Mapping[str, Any]] = [
        {"model": name, **choice_table(choice), "drop": score.drop, "divergence": score.divergence}
        for name, choice, score in zip(search.names, point.choices, point.scores, strict=True)
    ]
    return {
        "modelled_ms": point.time,
        "cost_function_ms": point.milliseconds,
        "simulated": point.simulated is not None,
        "drop": point.drop,
        "resources": dict(search.joint.space.shares(point.design)),
        "geometry": {name: value for name, value in vars(point.design.geometry).items() if name != "engines"},
        "clock_mhz": point.design.clock_mhz,
        "models": tables,
    }
