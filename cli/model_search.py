# SPDX-License-Identifier: Apache-2.0
"""Puts a search together from files: opens the models, measures their options, and gives the search what it calls."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from hetfab.cli.search_jobs import (
    Action,
    Job,
    Opened,
    Planned,
    Source,
    evaluate,
    from_json,
    layers_of,
    opened,
    works_of,
)
from hetfab.overlay.blockdesign.platform import fabric_clock_mhz
from hetfab.overlay.board import read_board
from hetfab.overlay.compiler.lowered import LoweredModel
from hetfab.overlay.design import Design
from hetfab.overlay.errors import counted
from hetfab.overlay.search.evaluations import evaluated
from hetfab.overlay.search.hardware import Space, base_design, with_other_depths, with_wide_words
from hetfab.overlay.search.joint import Combine, Goal, JointSearch, Point, Program, Score
from hetfab.overlay.search.journal import Journal
from hetfab.overlay.search.layer_work import PACKED_BITS
from hetfab.overlay.search.options import Choice, ModelOptions
from hetfab.overlay.search.workers import HERE, Workers, version
from hetfab.overlay.timeline.machine import measured_constants
from hetfab.quantize.assignment import WeightChoice
from hetfab.quantize.bit_assignment import BitSearch, Options, Table, digest
from hetfab.quantize.joint_options import chosen_assignment, model_options

if TYPE_CHECKING:
    import onnx


#: Time depends on whether activations take 4 bits or 8, not on what lies between.
OPTIONS = Options(weights=(2, 3, 4, 6, 8), activations=(4, 8), activation_methods=("least square error",))
#: Whole models and programs that a search takes, for the bar.
_WHOLE = 44
#: Times up to so many times the least one count as equal to it.
_EQUAL = 1.005


@dataclass
class ModelSearch:
    """A search for models in files.

    Attributes:
        sources: The models.
        space: Designs.
        combine: How their times count together.
        workers: Where evaluations run.
        options: Widths.
        by_divergence: Whether a hundredth of a nat counts as a point of accuracy, as where nothing has labels.
        tables: Of each model, its measured options; empty before ``prepare``.
        sensitivity_evaluations: Single changes that were measured.
    """

    sources: tuple[Source, ...]
    space: Space
    combine: Combine
    workers: Workers = HERE
    options: Options = OPTIONS
    by_divergence: bool = False
    tables: list[Table] = field(default_factory=list)
    sensitivity_evaluations: int = 0
    _joint: JointSearch | None = None
    _plans: dict[tuple[int, str], Planned | None] = field(default_factory=dict)

    @classmethod
    def open(
        cls,
        sources: Sequence[Source],
        board: str,
        clock: float | None = None,
        combine: Combine = Combine.SUM,
        workers: Workers = HERE,
        progress: Callable[[], None] = lambda: None,
    ) -> "ModelSearch":
        """Opens the models.

        Raises:
            InputError: A file cannot be read, a model is not supported, or there is no such board.
            DesignTooLargeError: The board holds no design with what the models need.
        """
        layers: list[LoweredModel | None] = []
        for source in sources:
            found = opened(source)
            lowered = layers_of(found.reference_models()[0], found.graph)
            layers.append(lowered if isinstance(lowered, LoweredModel) else None)
            progress()
        base = base_design(board, layers)
        wanted = base if clock is None else replace(base, clock_mhz=clock)
        # The highest clock that the board's PLL gives and that is not above what is wanted.
        base = replace(wanted, clock_mhz=fabric_clock_mhz(wanted, read_board(board)))
        space = Space.of(_fastest_scratchpad(base, sources, progress)).with_scratchpads_of(base)
        return cls(tuple(sources), space, combine, workers)

    @property
    def names(self) -> list[str]:
        """Of the models' files."""
        return [source.model.name for source in self.sources]

    @cached_property
    def opened(self) -> list[Opened]:
        """The models."""
        return [opened(source) for source in self.sources]

    @property
    def joint(self) -> JointSearch:
        """The search; ``prepare`` comes before."""
        assert self._joint is not None
        return self._joint

    def identity(self) -> str:
        """What evaluations depend on."""
        parts = [(model.subject.identity(), name) for model, name in zip(self.opened, self.names, strict=True)]
        constants = sorted(measured_constants(self.space.base.board).items())
        return hashlib.sha256(repr((parts, self.space.base, self.options, constants, version())).encode()).hexdigest()

    def steps(self) -> int:
        """Evaluations, about."""
        measured = sum(self.options.measurements(each.subject.study) for each in self.opened)
        return measured + (2 + _WHOLE) * len(self.sources)

    def prepare(self, journal: Journal, progress: Callable[[], None] = lambda: None) -> None:
        """Measures all options, and times the models on the reference design."""
        models = [self._options(number, journal.part(str(number)), progress) for number in range(len(self.sources))]

        def score(number: int, choice: Choice) -> Score:
            assignment = self.assignment(number, choice)
            job = Job(self.sources[number], Action.SCORE, assignment)
            found = self._evaluated({f"score {digest(assignment)}": job}, number, journal, progress)[0]
            return Score(100 * found["divergence"] if self.by_divergence else found["drop"], found["divergence"])

        def time(design: Design, choices: Sequence[Choice]) -> list[float]:
            spent: list[float] = []
            for number, choice in enumerate(choices):
                assignment = self.assignment(number, choice)
                key = f"time {design.geometry.hash()[:16]} {design.clock_mhz} {digest(assignment)}"
                job = Job(self.sources[number], Action.TIME_IF_HELD, assignment, design)
                spent += self._evaluated({key: job}, number, journal, progress)
            return spent

        def time_programs(programs: Sequence[Program]) -> list[list[float]]:
            return self._program_times(programs, journal, progress)

        def plan(designs: Sequence[Design], choices: Sequence[Choice]) -> list[float]:
            found = [self._planned(number, choice) for number, choice in enumerate(choices)]
            cycles = [np.array([0.0 if each is None else each.cycles(design) for design in designs]) for each in found]
            return [float(each) for each in self.combine.of(cycles)]

        widths = tuple(model.uniform(self.space.base, PACKED_BITS) for model in models)
        self._joint = JointSearch(
            self.space, tuple(models), score, time, self.combine, plan, time_programs, widths=[widths]
        )

    def _program_times(
        self, programs: Sequence[Program], journal: Journal, progress: Callable[[], None]
    ) -> list[list[float]]:
        """Milliseconds of each model of each program; what several programs share is timed once."""
        jobs, rows = dict[str, Job](), list[list[str]]()
        for design, choices in programs:
            row = []
            for number, choice in enumerate(choices):
                assignment = self._timed_assignment(number, choice)
                key = f"{number} time {design.geometry.hash()[:16]} {design.clock_mhz} {digest(assignment)}"
                jobs[key] = Job(self.sources[number], Action.TIME_IF_HELD, assignment, design)
                row.append(key)
            rows.append(row)
        found = evaluated(evaluate, jobs, journal, self.workers, progress)
        return [[found[key] for key in row] for row in rows]

    def _timed_assignment(self, number: int, choice: Choice) -> Any:
        """Widths of a program that is timed; of a network on samples, whose integers do not matter, rounded at once."""
        assignment = self.assignment(number, choice)
        if self.opened[number].graph is not None:
            return assignment
        weights = {name: WeightChoice(each.bits, "nearest") for name, each in assignment.weights.items()}
        return replace(assignment, weights=weights)

    def _planned(self, number: int, choice: Choice) -> Planned | None:
        """The layers of a model with widths, as they are cut."""
        assignment = self.assignment(number, choice)
        key = number, digest(assignment)
        if key not in self._plans:
            self._plans[key] = self.opened[number].planned(assignment, self.space.base)
        return self._plans[key]

    def assignment(self, number: int, choice: Choice) -> Any:
        """The widths of a choice for one of the models."""
        return chosen_assignment(self.tables[number], choice)

    def quantized(self, point: Point) -> "list[onnx.ModelProto]":
        """The models with the widths of a point."""
        return [
            model.quantized(self.assignment(number, choice)).model
            for number, (model, choice) in enumerate(zip(self.opened, point.choices, strict=True))
        ]

    def best_so_far(self, goal: Goal) -> Point | None:
        """The best point of a search that was stopped."""
        return None if self._joint is None else self._joint.best_so_far(goal)

    def slowest(self, point: Point, count: int = 5) -> list[list[object]]:
        """The layers that take longest by the cost functions, and what they take: rows of a table."""
        rows: list[tuple[str, str, float]] = []
        for name, model, choice in zip(self.names, self.joint.models, point.choices, strict=True):
            spent = model.layer_milliseconds(point.design, choice.weights, choice.tensors)
            rows += [(layer, name, each) for layer, each in spent.items()]
        total = sum(each for _, _, each in rows) + sum(model.fixed for model in self.joint.models)
        rows.sort(key=lambda row: -row[2])
        return [[*row, 100 * row[2] / total] for row in rows[:count]]

    def _evaluated(
        self, jobs: dict[str, Job], number: int, journal: Journal, progress: Callable[[], None]
    ) -> list[Any]:
        found = evaluated(evaluate, jobs, journal.part(str(number)), self.workers, progress)
        return [found[key] for key in jobs]

    def _options(self, number: int, journal: Journal, progress: Callable[[], None]) -> ModelOptions:
        model, source = self.opened[number], self.sources[number]
        search = BitSearch(model.subject.study, self.options, journal=journal)
        start = search.start()
        changes = {key: Job(source, Action.DIVERGENCE, each) for key, each in search.changes(start).items()}
        timed = {
            f"reference {place}": Job(source, Action.REFERENCE, assignment, self.space.base)
            for place, assignment in enumerate(model.reference_assignments())
        }
        found = evaluated(evaluate, timed | changes, journal, self.workers, progress)
        self.sensitivity_evaluations += len(changes)
        self.tables.append(search.table(start))
        eight, four = (from_json(found[key]) for key in timed)
        works = works_of(layers_of(model.reference_models()[0], model.graph), model.graph)
        name = f"{source.model.name} ({counted(len(model.subject.study.layers), 'layer')})"
        return model_options(name, model.subject.study, self.tables[number], works, (eight, four), self.space.base)


def _fastest_scratchpad(base: Design, sources: Sequence[Source], progress: Callable[[], None]) -> Design:
    """A design with the words and then the depth of AGG's scratchpad with which models at 4 bits are fastest."""
    models = [model for source in sources if (model := opened(source)).graph is not None]
    times: dict[Design, float] = {}
    for variants in (with_wide_words, with_other_depths):
        found = variants(base)
        for design in found if len(found) > 1 else ():
            if design not in times:
                times[design] = sum(model.reference_milliseconds(design) for model in models)
                progress()
        # Of equally fast ones the first, which is the base, or shallower.
        fastest = min((times[design] for design in found if design in times), default=0.0)
        base = next((design for design in found if design in times and times[design] <= fastest * _EQUAL), base)
    return base
