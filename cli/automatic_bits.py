# SPDX-License-Identifier: Apache-2.0
"""What ``hetfab quantize --bits auto`` does for a model on a graph or on samples, and how it is shown."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import click
import numpy as np

from hetfab.cli.output import Result, print_table, progress
from hetfab.overlay.errors import counted

if TYPE_CHECKING:
    import onnx

    from hetfab.cli.search_jobs import Action, Source
    from hetfab.driver.bits_picture import LayerBits
    from hetfab.driver.graph.heterograph import HeteroGraph
    from hetfab.driver.samples import SampleSet
    from hetfab.driver.scores import Loss
    from hetfab.overlay.design import Design
    from hetfab.overlay.model.bound_model import FedModel
    from hetfab.overlay.search.journal import Journal
    from hetfab.overlay.search.workers import Workers
    from hetfab.quantize.assignment import Assignment
    from hetfab.quantize.automatic import Choice
    from hetfab.quantize.cnn.study import CnnStudy
    from hetfab.quantize.layer_times import Timed, TimedGraph, TimeLayers

_Study = TypeVar("_Study", bound="Timed")


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

    @property
    def asks(self) -> bool:
        """Whether a model of given widths is to be timed and scored."""
        return (self.milliseconds, self.drop, self.picture) != (None, None, None)

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


@dataclass(frozen=True, eq=False)
class Subject(Generic[_Study]):
    """A float model under study, how its quantized forms are timed, and how their accuracy is counted.

    Attributes:
        study: The model.
        time_layers: Modelled milliseconds of a quantized model by layer's result.
        loss: Counts accuracy.
        design: Where it is timed.
    """

    study: _Study
    time_layers: "TimeLayers"
    loss: "Loss"
    design: "Design | None"

    def drop(self, assignment: "Assignment") -> float:
        """Points of accuracy that an assignment loses."""
        return self.loss.points(np.concatenate(self.study.compared_logits(assignment)))

    @cached_property
    def identity(self) -> str:
        """What measurements depend on: model, inputs, nodes that are compared, design, measured constants, version."""
        from hetfab.overlay.search.workers import version
        from hetfab.overlay.timeline.machine import measured_constants

        constants = sorted(measured_constants(self.design.board).items()) if self.design is not None else []
        found = hashlib.sha256(repr((sorted(self.study.groups), self.design, constants, version())).encode())
        for layer in self.study.layers.values():
            found.update(np.ascontiguousarray(layer.weight).data)
            found.update(b"" if layer.bias is None else np.ascontiguousarray(layer.bias).data)
        found.update(repr(self.study.evaluation.multilabel).encode())
        if self.loss.labels is not None:
            found.update(self.loss.labels.tobytes())
        for sample in self.study.samples:
            for name in sorted(sample):
                found.update(name.encode())
                found.update(np.ascontiguousarray(sample[name]).data)
        if self.study.evaluation.rows is not None:
            found.update(self.study.evaluation.rows.tobytes())
        return found.hexdigest()


def graph_subject(opened: "FedModel", read: "HeteroGraph", design: "Design | None") -> "Subject[TimedGraph]":
    """A model on a graph."""
    from hetfab.driver.graph.model_inputs import with_hops
    from hetfab.driver.modelled_time import layer_milliseconds
    from hetfab.driver.scores import Loss
    from hetfab.overlay.model.bound_model import BoundModel
    from hetfab.overlay.model.reader import bindings_of
    from hetfab.quantize.layer_times import TimedGraph

    study = TimedGraph.open(with_hops(opened, read))

    def time_layers(model: "onnx.ModelProto") -> Mapping[str, float]:
        return layer_milliseconds(BoundModel(model, bindings_of(model)), read, design)

    return Subject(study, time_layers, Loss.on_validation(read, study.float_logits[0], study.evaluation), design)


def sample_subject(opened: "FedModel", read: "SampleSet", design: "Design | None") -> "Subject[CnnStudy]":
    """A network on samples; accuracy is counted on all of them."""
    from hetfab.driver.modelled_time import layer_milliseconds_on_samples
    from hetfab.driver.scores import Loss
    from hetfab.overlay.model.cnn.integer_reader import read_integers
    from hetfab.quantize.cnn.study import CnnStudy

    study = CnnStudy.open(opened)

    def time_layers(model: "onnx.ModelProto") -> Mapping[str, float]:
        return layer_milliseconds_on_samples(read_integers(model), design)

    loss = Loss(np.concatenate(study.float_logits), read.labels, False, "the samples")
    return Subject(study, time_layers, loss, design)


@dataclass(frozen=True)
class Files:
    """What other processes open to evaluate.

    Attributes:
        source: The files of the subject.
        workers: Where they are opened.
    """

    source: "Source"
    workers: "Workers"

    def evaluate(
        self,
        assignments: "Mapping[Action, Mapping[str, Assignment]]",
        design: "Design | None",
        journal: "Journal",
        progress: Callable[[], None] = lambda: None,
    ) -> None:
        """Puts results into the journal, by the keys that assignments have there."""
        from hetfab.cli.search_jobs import Job, evaluate
        from hetfab.overlay.search.evaluations import evaluated

        jobs = {
            key: Job(self.source, action, assignment, design)
            for action, listed in assignments.items()
            for key, assignment in listed.items()
        }
        evaluated(evaluate, jobs, journal, self.workers, progress)


def check_asked(
    model: "onnx.ModelProto", assignment: "Assignment", divergence: float, subject: "Subject[Any]", report: Report
) -> dict[str, float | None]:
    """Times and scores a model of given widths, and draws its picture."""
    from hetfab.driver.bits_picture import draw_bits
    from hetfab.quantize.automatic import Goal, Point, unreachable
    from hetfab.quantize.bit_assignment import Measured

    milliseconds, drop = subject.time_layers(model), subject.drop(assignment)
    total, goal = sum(milliseconds.values()), Goal(report.milliseconds, report.drop)
    point = Point(Measured(assignment, divergence, {}), total, drop)
    if not point.keeps(goal):
        raise unreachable(goal, [point])
    layers = _layers(subject.study, assignment, milliseconds)
    _print_layers(layers)
    click.echo(f"{total:,.4g} ms (modelled), {max(drop, 0.0):.2f} points lost, of {subject.loss.of}")
    if report.picture is not None:
        draw_bits(report.picture, layers, [])
    return {"modelled_ms": total, "drop": drop}


def quantize_automatically(
    subject: "Subject[Any]",
    report: Report,
    output: Path,
    write: "Callable[[Path, onnx.ModelProto], None]",
    files: Files | None = None,
) -> Result:
    """Chooses widths, writes the model and says what was chosen; ``files`` lets other processes evaluate."""
    from hetfab.driver.bits_picture import CurvePoint, draw_bits
    from hetfab.overlay.model.reader import check_model
    from hetfab.overlay.search.journal import Journal

    study, counts = subject.study, subject.loss.of
    kept = output.with_name(f"{output.name}.journal")
    with Journal(kept, subject.identity) as journal:
        if len(journal):
            click.echo(f"going on with {counted(len(journal), 'measurement')} of {kept}", err=True)
        try:
            choice = _choose(subject, journal, report, files)
        except KeyboardInterrupt:
            click.echo(f"{counted(len(journal), 'measurement')} are in {kept}; the same command goes on", err=True)
            raise
        point = choice.point
        model = check_model(study.write(point.measured.assignment), "the quantized model")
        layers = _layers(study, point.measured.assignment, subject.time_layers(model))
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


def _choose(subject: "Subject[Any]", journal: "Journal", report: Report, files: Files | None) -> "Choice":
    from hetfab.cli.search_jobs import Action
    from hetfab.quantize.automatic import DEFAULT_DROP, Automatic, Goal
    from hetfab.quantize.bit_assignment import BitSearch, Options
    from hetfab.quantize.layer_times import layer_times, timed_assignments
    from hetfab.quantize.mixed_widths import MIXES
    from hetfab.quantize.study import Study

    asked = report.milliseconds is not None or report.drop is not None
    goal = Goal(report.milliseconds, report.drop if asked else DEFAULT_DROP)
    study, options = subject.study, replace(Options(), mixes=MIXES)
    with progress("choose widths", options.measurements(study) + 2 * len(options.weights)) as advance:
        if files is not None:
            timed = timed_assignments(study, options.weights, options.mixes)
            files.evaluate({Action.LAYER_TIMES: timed}, subject.design, journal, lambda: advance(1))
        times = layer_times(
            study, options.weights, subject.time_layers, journal, lambda step: advance(1), options.mixes
        )
        losses = study.channel_losses if isinstance(study, Study) else lambda layer, bits: None
        search = BitSearch(study, options, times, journal, lambda step: advance(1), losses)

        def time_of(assignment: "Assignment") -> float:
            return sum(subject.time_layers(study.write(assignment)).values())

        automatic = Automatic(search, time_of, subject.drop)
        if files is not None:

            def changes(found: "Mapping[str, Assignment]") -> None:
                files.evaluate({Action.DIVERGENCE: found}, subject.design, journal, lambda: advance(1))

            def points(found: "Mapping[str, Assignment]") -> None:
                whole = {f"whole {key}": assignment for key, assignment in found.items()}
                drops = {f"drop {key}": assignment for key, assignment in found.items()}
                files.evaluate({Action.TIME: whole, Action.DROP: drops}, subject.design, journal)

            search.ahead, automatic.ahead = changes, points
        return automatic.choose(goal)


def _layers(study: "Timed", assignment: "Assignment", milliseconds: Mapping[str, float]) -> "list[LayerBits]":
    from hetfab.driver.bits_picture import LayerBits
    from hetfab.quantize.bit_assignment import mean_bits
    from hetfab.quantize.layer_times import times_of_layers

    times = times_of_layers(study, milliseconds)
    return [
        LayerBits(
            name,
            layer.weight.size,
            mean_bits(assignment.weights[name]),
            assignment.activations[study.inputs[name]].bits,
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
