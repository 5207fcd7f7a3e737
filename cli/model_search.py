# SPDX-License-Identifier: Apache-2.0
"""Puts a search together from files: opens the models, measures their options, and gives the search what it calls."""

import contextlib
import hashlib
from collections.abc import Callable, Mapping, Sequence
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
    open_all,
    opened,
    works_of,
)
from hetfab.overlay.blockdesign.platform import clock_divisors, fabric_clock_mhz
from hetfab.overlay.board import read_board
from hetfab.overlay.compiler.lowered import LoweredModel
from hetfab.overlay.design import Design
from hetfab.overlay.errors import WorkerDiedError, counted
from hetfab.overlay.search.evaluations import evaluated
from hetfab.overlay.search.hardware import Scratchpad, Space, base_design, scratchpads_of
from hetfab.overlay.search.joint import JointSearch, Program
from hetfab.overlay.search.journal import Journal
from hetfab.overlay.search.layer_work import PACKED_BITS
from hetfab.overlay.search.options import Choice, ModelOptions
from hetfab.overlay.search.points import Combine, Goal, Point, Score
from hetfab.overlay.search.scratchpads import worthwhile
from hetfab.overlay.search.workers import HERE, Workers, version
from hetfab.overlay.timeline.machine import measured_constants
from hetfab.quantize.assignment import Assignment, WeightChoice
from hetfab.quantize.bit_assignment import BitSearch, Options, Table, digest
from hetfab.quantize.joint_options import Reference, chosen_assignment, model_options

if TYPE_CHECKING:
    import onnx


#: Time depends on whether activations take 4 bits or 8, not on what lies between.
OPTIONS = Options(weights=(2, 3, 4, 6, 8), activations=(4, 8), activation_methods=("least square error",))
#: Bits of all weights that are tried as they are: by the cost functions narrower ones gain nothing where AGG takes
#: longer than the matrix engines, and programs may be faster with them.
_EVERYWHERE = (PACKED_BITS, 3, 2)
#: Whole models and programs that a search takes, for the bar.
_WHOLE = 62


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
    #: Of each model, at 4 bits by scratchpad, and at 8 bits on the reference design under None.
    _references: list[dict[Scratchpad | None, Reference]] = field(default_factory=list)
    _plans: dict[tuple[int, str], Planned | None] = field(default_factory=dict)
    #: Layers that were rounded for all processes, with their widths.
    _rounded: set[str] = field(default_factory=set)

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
            DesignInvalidError: The board gives no clock that is so low.
            DesignTooLargeError: The board holds no design with what the models need.
        """
        if clock is not None:
            clock_divisors(read_board(board).clock_source_mhz, clock)  # Says what the board gives at least.
        layers: list[LoweredModel | None] = []
        sources = [replace(source, shared=workers.folder) for source in sources]
        workers.prepare(open_all, sources)
        for source in sources:
            found = opened(source)
            lowered = None if found.graph is None else found.layers
            layers.append(lowered if isinstance(lowered, LoweredModel) else None)
            progress()
        base = base_design(board, layers)
        wanted = base if clock is None else replace(base, clock_mhz=clock)
        # The highest clock that the board's PLL gives and that is not above what is wanted.
        base = replace(wanted, clock_mhz=fabric_clock_mhz(wanted, read_board(board)))
        return cls(tuple(sources), Space.of(base), combine, workers)

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
        parts = [(model.subject.identity, name) for model, name in zip(self.opened, self.names, strict=True)]
        constants = sorted(measured_constants(self.space.base.board).items())
        return hashlib.sha256(repr((parts, self.space.base, self.options, constants, version())).encode()).hexdigest()

    def steps(self) -> int:
        """Evaluations, about."""
        measured = sum(self.options.measurements(each.subject.study) for each in self.opened)
        references = 1 + max(len(scratchpads_of(self.space.base)), 1)
        return measured + (references + _WHOLE) * len(self.sources)

    def prepare(self, journal: Journal, progress: Callable[[], None] = lambda: None) -> None:
        """Times the models on the reference design, and measures all options."""
        self._time_references(journal, progress)
        models = [self._options(number, journal.part(str(number)), progress) for number in range(len(self.sources))]

        def score(number: int, choice: Choice) -> Score:
            return score_several([(number, choice)])[0]

        def score_several(asked: Sequence[tuple[int, Choice]]) -> list[Score]:
            return self._scores(asked, journal, progress)

        def time(design: Design, choices: Sequence[Choice]) -> list[float]:
            spent: list[float] = []
            for number, choice in enumerate(choices):
                assignment = self.assignment(number, choice)
                key = _time_key(design, assignment)
                job = Job(self.sources[number], Action.TIME_IF_HELD, assignment, design)
                spent += self._evaluated({key: job}, number, journal, progress)
            return spent

        def time_programs(programs: Sequence[Program]) -> list[list[float]]:
            return self._program_times(programs, journal, progress)

        def plan(designs: Sequence[Design], choices: Sequence[Choice]) -> list[float]:
            found = [self._planned(number, choice) for number, choice in enumerate(choices)]
            cycles = [np.array([0.0 if each is None else each.cycles(design) for design in designs]) for each in found]
            return [float(each) for each in self.combine.of(cycles)]

        widths = [tuple(model.uniform(self.space.base, bits) for model in models) for bits in _EVERYWHERE]
        known = [
            ((scratchpad.on(self.space.base), widths[0]), self._of_references(scratchpad))
            for scratchpad in self.space.all_scratchpads
        ]
        self._joint = JointSearch(
            self.space,
            tuple(models),
            score,
            time,
            self.combine,
            plan,
            time_programs,
            score_several,
            self._plan_ahead,
            known,
            widths,
        )

    def _scores(
        self, asked: Sequence[tuple[int, Choice]], journal: Journal, progress: Callable[[], None]
    ) -> list[Score]:
        """Whole models, by their numbers, with widths."""
        jobs, keys = dict[str, Job](), list[str]()
        for number, choice in asked:
            assignment = self.assignment(number, choice)
            keys.append(f"{number} score {digest(assignment)}")
            jobs[keys[-1]] = Job(self.sources[number], Action.SCORE, assignment)
        self._round([each for each, key in zip(asked, keys, strict=True) if key not in journal])
        found = evaluated(evaluate, jobs, journal, self.workers, progress)
        return [
            Score(
                100 * found[key]["divergence"] if self.by_divergence else found[key]["drop"], found[key]["divergence"]
            )
            for key in keys
        ]

    def _round(self, asked: Sequence[tuple[int, Choice]]) -> None:
        """Rounds layers of networks on samples in all processes that share what comes of it, the largest first.

        It is most of what a score takes, and one score is all that a process works at. What dies here is tried again,
        and named, with the score.
        """
        if self.workers.folder is None:
            return
        jobs, sizes = dict[str, Job](), dict[str, int]()
        for number, choice in asked:
            model, assignment = self.opened[number], self.assignment(number, choice)
            if model.graph is not None:
                continue
            nearest = {name: replace(each, method="nearest") for name, each in assignment.weights.items()}
            for name, each in assignment.weights.items():
                key = f"{number} {name} {each}"
                if each != nearest[name] and key not in self._rounded:
                    alone = replace(assignment, weights={**nearest, name: each})
                    jobs[key] = Job(self.sources[number], Action.ROUNDING, alone)
                    sizes[key] = model.subject.study.layers[name].weight.size
        self._rounded |= jobs.keys()
        largest = sorted(jobs, key=lambda key: -sizes[key])
        # The folder goes with this search, so that a journal must not know them.
        with contextlib.suppress(WorkerDiedError):
            evaluated(evaluate, {key: jobs[key] for key in largest}, Journal(None, ""), self.workers)

    def _program_times(
        self, programs: Sequence[Program], journal: Journal, progress: Callable[[], None]
    ) -> list[list[float]]:
        """Milliseconds of each model of each program; what several programs share is timed once."""
        jobs, rows = dict[str, Job](), list[list[str]]()
        for design, choices in programs:
            row = []
            for number, choice in enumerate(choices):
                assignment = self._timed_assignment(number, choice)
                key = f"{number} {_time_key(design, assignment)}"
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

    def _plan_ahead(self, several: Sequence[Sequence[Choice]]) -> None:
        """Models with widths, as they are cut, in all processes. What dies here is planned again when it is needed."""
        jobs, keys = dict[str, Job](), dict[str, tuple[int, str]]()
        for choices in several:
            for number, choice in enumerate(choices):
                assignment = self.assignment(number, choice)
                key = number, digest(assignment)
                if key not in self._plans and self.opened[number].graph is not None:
                    name = f"{number} plan {key[1]}"
                    jobs[name] = Job(self.sources[number], Action.PLAN, assignment, self.space.base)
                    keys[name] = key
        with contextlib.suppress(WorkerDiedError):
            found = evaluated(evaluate, jobs, Journal(None, ""), self.workers)
            self._plans.update((keys[name], planned) for name, planned in found.items())

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
        total = 0.0
        for name, model, choice in zip(self.names, self.joint.models, point.choices, strict=True):
            spent = model.layer_milliseconds(point.design, choice.weights, choice.tensors)
            rows += [(layer, name, each) for layer, each in spent.items()]
            total += model.milliseconds(point.design, choice.weights, choice.tensors)
        rows.sort(key=lambda row: -row[2])
        return [[*row, 100 * row[2] / total] for row in rows[:count]]

    def _evaluated(
        self, jobs: dict[str, Job], number: int, journal: Journal, progress: Callable[[], None]
    ) -> list[Any]:
        found = evaluated(evaluate, jobs, journal.part(str(number)), self.workers, progress)
        return [found[key] for key in jobs]

    def _time_references(self, journal: Journal, progress: Callable[[], None]) -> None:
        """Times programs at 8 bits, and at 4 bits with each scratchpad; those that are worth a look are then chosen."""
        base = self.space.base
        own = Scratchpad.of(base)
        self._references = [{} for _ in self.sources]

        def timed(several: Sequence[Scratchpad]) -> dict[Scratchpad, list[float]]:
            self._note_references({each: (1, each.on(base)) for each in several}, journal, progress)
            return {each: [known[each].milliseconds for known in self._references] for each in several}

        self._note_references({None: (0, base), own: (1, base)}, journal, progress)
        self.space = replace(self.space, scratchpads=tuple(worthwhile(scratchpads_of(base), own, timed)))

    def _of_references(self, scratchpad: Scratchpad) -> float:
        """Milliseconds of the programs at 4 bits with a scratchpad, combined."""
        return float(self.combine.of([np.array(known[scratchpad].milliseconds) for known in self._references]))

    def _note_references(
        self,
        asked: Mapping[Scratchpad | None, tuple[int, Design]],
        journal: Journal,
        progress: Callable[[], None],
    ) -> None:
        """Times each model at a place of ``REFERENCES`` on designs."""
        jobs, several = dict[str, Job](), dict[str, tuple[int, Scratchpad | None]]()
        for number, (model, source) in enumerate(zip(self.opened, self.sources, strict=True)):
            assignments = model.reference_assignments()
            for key, (place, design) in asked.items():
                name = f"{number} reference {place} {design.geometry.hash()[:16]}"
                jobs[name] = Job(source, Action.REFERENCE, assignments[place], design)
                several[name] = number, key
        for name, found in evaluated(evaluate, jobs, journal, self.workers, progress).items():
            number, key = several[name]
            self._references[number][key] = from_json(found)

    def _options(self, number: int, journal: Journal, progress: Callable[[], None]) -> ModelOptions:
        model, source = self.opened[number], self.sources[number]
        search = BitSearch(model.subject.study, self.options, journal=journal)
        start = search.start()
        changes = {key: Job(source, Action.DIVERGENCE, each) for key, each in search.changes(start).items()}
        evaluated(evaluate, changes, journal, self.workers, progress)
        self.sensitivity_evaluations += len(changes)
        self.tables.append(search.table(start))
        base, references = self.space.base, self._references[number]
        works = works_of(model.layers, model.graph)
        name = f"{source.model.name} ({counted(len(model.subject.study.layers), 'layer')})"
        study, own = model.subject.study, Scratchpad.of(base)
        others = {scratchpad: references[scratchpad] for scratchpad in self.space.scratchpads if scratchpad != own}
        wide, narrow = references[None], references[own]
        return model_options(name, study, self.tables[number], works, (wide, narrow), base, others)


def _time_key(design: Design, assignment: Assignment) -> str:
    """Of a program's time in a model's part of the journal."""
    return f"time {design.geometry.hash()[:16]} {design.clock_mhz} {digest(assignment)}"
