# SPDX-License-Identifier: Apache-2.0
"""What ``hetfab quantize --bits auto`` does for a model on a graph, and how it is shown."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from hetfab.cli.output import Result, print_table, progress
from hetfab.overlay.errors import counted

if TYPE_CHECKING:
    import onnx

    from hetfab.driver.bits_picture import LayerBits
    from hetfab.driver.graph.heterograph import HeteroGraph
    from hetfab.overlay.design import Design
    from hetfab.overlay.model.bound_model import FedModel
    from hetfab.overlay.search.journal import Journal
    from hetfab.quantize.assignment import Assignment
    from hetfab.quantize.automatic import Choice
    from hetfab.quantize.post_training import QuantizedModel
    from hetfab.quantize.study import Study


@dataclass(frozen=True)
class Report:
    """What is asked of a quantized model, and where it is shown.

    Attributes:
        milliseconds: Longest modelled time, None for any.
        drop: Most points of accuracy to lose, None for any.
        design: File of the design to time on.
        picture: File to draw in.
    """

    milliseconds: float | None
    drop: float | None
    design: Path | None
    picture: Path | None

    def read_design(self) -> "Design | None":
        """The design to time on, None for the one that ``compile`` takes; a picture that cannot be drawn is refused."""
        from hetfab.overlay.costs.resources import check_fits
        from hetfab.overlay.design import read_design

        if self.picture is not None:
            from hetfab.driver.graph.picture import check_picture

            check_picture(self.picture)
        found = None if self.design is None else read_design(self.design)
        if found is not None:
            check_fits(found)
        return found


def check_asked(
    result: "QuantizedModel", opened: "FedModel", read: "HeteroGraph", design: "Design | None", report: Report
) -> dict[str, float | None]:
    """Times and scores a model of given widths, where that is asked for, and draws its picture."""
    from hetfab.driver.bits_picture import draw_bits
    from hetfab.driver.graph.model_inputs import with_hops
    from hetfab.driver.modelled_time import layer_milliseconds
    from hetfab.driver.scores import Loss
    from hetfab.overlay.model.bound_model import BoundModel
    from hetfab.quantize.automatic import Goal, Point, unreachable
    from hetfab.quantize.bit_assignment import Measured
    from hetfab.quantize.study import Study

    if (report.milliseconds, report.drop, report.picture) == (None, None, None):
        return {"modelled_ms": None, "drop": None}
    study = Study.open(with_hops(opened, read))
    rows = slice(None) if study.evaluation.rows is None else study.evaluation.rows
    milliseconds = layer_milliseconds(BoundModel(result.model, result.bindings), read, design)
    loss = Loss.on_validation(read, study.observed.logits[0], study.evaluation)
    drop = loss.points(study.logits(result.assignment)[0][rows])
    total, goal = sum(milliseconds.values()), Goal(report.milliseconds, report.drop)
    point = Point(Measured(result.assignment, min(result.divergences.values()), {}), total, drop)
    if not point.keeps(goal):
        raise unreachable(goal, [point])
    layers = _layers(study, result.assignment, milliseconds)
    _print_layers(layers)
    click.echo(f"{total:,.4g} ms (modelled), {max(drop, 0.0):.2f} points lost, of {loss.of}")
    if report.picture is not None:
        draw_bits(report.picture, layers, [])
    return {"modelled_ms": total, "drop": drop}


def quantize_automatically(
    opened: "FedModel",
    read: "HeteroGraph",
    design: "Design | None",
    report: Report,
    output: Path,
    write: "Callable[[Path, onnx.ModelProto], None]",
) -> Result:
    """Chooses widths, writes the model and says what was chosen."""
    from hetfab.driver.bits_picture import CurvePoint, draw_bits
    from hetfab.driver.graph.model_inputs import with_hops
    from hetfab.driver.modelled_time import layer_milliseconds
    from hetfab.overlay.model.bound_model import BoundModel
    from hetfab.overlay.model.reader import bindings_of, check_model
    from hetfab.overlay.search.journal import Journal
    from hetfab.quantize.study import Study

    study = Study.open(with_hops(opened, read))

    def time_layers(model: "onnx.ModelProto") -> Mapping[str, float]:
        return layer_milliseconds(BoundModel(model, bindings_of(model)), read, design)

    kept = output.with_name(f"{output.name}.journal")
    with Journal(kept, _identity(study, design)) as journal:
        if len(journal):
            click.echo(f"going on with {counted(len(journal), 'measurement')} of {kept}", err=True)
        try:
            choice, counts = _choose(study, read, time_layers, journal, report)
        except KeyboardInterrupt:
            click.echo(f"{counted(len(journal), 'measurement')} are in {kept}; the same command goes on", err=True)
            raise
        point = choice.point
        model = check_model(study.write(point.measured.assignment), "the quantized model")
        layers = _layers(study, point.measured.assignment, time_layers(model))
        write(output, model)
    curve = [CurvePoint(p.milliseconds, p.measured.divergence, p is point) for p in choice.curve]
    if point not in choice.curve:
        curve.append(CurvePoint(point.milliseconds, point.measured.divergence, True))
    if report.picture is not None:
        draw_bits(report.picture, layers, curve)
    _print_layers(layers)
    _print_curve(choice, counts)
    average = study.average_bits(point.measured.assignment)
    return {
        "output": str(output),
        "bits": "auto",
        "divergence": point.measured.divergence,
        "modelled_ms": point.milliseconds,
        "drop": point.drop,
        "drop_of": counts,
        "weight_bytes": point.measured.totals["bytes"],
        "average_weight_bits": average.weights,
        "average_activation_bits": average.activations,
        "layers": [asdict(layer) for layer in layers],
        "tensors": {
            name: point.measured.assignment.activations[group].bits
            for group, members in study.groups.items()
            for name in members
        },
        "curve": [
            {
                "modelled_ms": p.milliseconds,
                "divergence": p.measured.divergence,
                "drop": p.drop,
                "weight_bytes": p.measured.totals["bytes"],
            }
            for p in choice.curve
        ],
    }


def _choose(
    study: "Study",
    read: "HeteroGraph",
    time_layers: "Callable[[onnx.ModelProto], Mapping[str, float]]",
    journal: "Journal",
    report: Report,
) -> "tuple[Choice, str]":
    from hetfab.driver.scores import Loss
    from hetfab.quantize.automatic import DEFAULT_DROP, Automatic, Goal
    from hetfab.quantize.bit_assignment import BitSearch, Options
    from hetfab.quantize.layer_times import layer_times

    asked = report.milliseconds is not None or report.drop is not None
    goal = Goal(report.milliseconds, report.drop if asked else DEFAULT_DROP)
    options = Options()
    loss = Loss.on_validation(read, study.observed.logits[0], study.evaluation)
    rows = slice(None) if study.evaluation.rows is None else study.evaluation.rows
    with progress("choose widths", options.measurements(study) + 2 * len(options.weights)) as advance:
        times = layer_times(study, options.weights, time_layers, journal, lambda step: advance(1))
        search = BitSearch(study, options, times, journal, lambda step: advance(1))
        automatic = Automatic(
            search,
            lambda assignment: sum(time_layers(study.write(assignment)).values()),
            lambda assignment: loss.points(study.logits(assignment)[0][rows]),
        )
        return automatic.choose(goal), loss.of


def _identity(study: "Study", design: "Design | None") -> str:
    """What a journal's results depend on: model, inputs, nodes that are compared, design."""
    found = hashlib.sha256(repr((study.graph.output, design)).encode())
    for layer in study.layers.values():
        found.update(layer.weight.tobytes())
    for sample in study.samples:
        for name in sorted(sample):
            found.update(name.encode() + sample[name].tobytes())
    if study.evaluation.rows is not None:
        found.update(study.evaluation.rows.tobytes())
    return found.hexdigest()


def _layers(study: "Study", assignment: "Assignment", milliseconds: Mapping[str, float]) -> "list[LayerBits]":
    from hetfab.driver.bits_picture import LayerBits
    from hetfab.quantize.layer_times import times_of_layers

    times = times_of_layers(study, milliseconds)
    widths = {name: assignment.activations[group].bits for group, names in study.groups.items() for name in names}
    return [
        LayerBits(
            name,
            layer.weight.size,
            max(assignment.weights[name].widths(layer.weight.shape[1])),
            widths[layer.input],
            times.get(name),
        )
        for name, layer in study.layers.items()
    ]


def _print_layers(layers: "Sequence[LayerBits]") -> None:
    rows = [
        [
            *(layer.name, layer.weight_bits, layer.input_bits, layer.weights, layer.bytes / 1024),
            "-" if layer.milliseconds is None else layer.milliseconds,
        ]
        for layer in layers
    ]
    print_table(["layer", "weight bits", "input bits", "weights", "KiB", "modelled ms"], rows)


def _print_curve(choice: "Choice", counts: str) -> None:
    points = [*choice.curve, *([] if choice.point in choice.curve else [choice.point])]
    rows = [
        [
            p.milliseconds,
            p.measured.totals["bytes"] / 1024,
            p.measured.divergence,
            p.drop,
            "chosen" * (p is choice.point),
        ]
        for p in sorted(points, key=lambda point: point.milliseconds)
    ]
    print_table(["modelled ms", "KiB of weights", "KL from the float model", "points lost", ""], rows)
    click.echo(f"points are of {counts}")
