# SPDX-License-Identifier: Apache-2.0
"""Searches the design and the widths of its models together (docs/search.md).

For a limit of the divergence the widths on one design are exact (options.py). Over designs it is branch and bound: in
the order of their lower bounds, until a bound is no better than the best that was found. Limits from none to all of the
divergence give a curve; its points are scored as whole models, the best are timed by the timeline simulator.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

from hetfab.overlay.design import Design
from hetfab.overlay.errors import LimitUnreachableError
from hetfab.overlay.search.hardware import Space
from hetfab.overlay.search.options import Choice, ModelOptions, TensorOptions, Times
from hetfab.overlay.search.points import Combine, Goal, Point, Score, front_of, widths_key
from hetfab.overlay.search.program_timing import AT_ONCE, ProgramTiming

#: Points of the curve, and halvings between the last that keeps the accuracy and the next.
_POINTS, _HALVINGS = 8, 5
#: Widths, designs for each of them, and memories for each of these, that are timed as whole programs at the end.
_WIDTHS_TIMED, _DESIGNS_TIMED, _MEMORIES_TIMED = 2, 3, 2
#: Whole programs of a search for the fastest: of all designs, near the best, and near that with other tensors.
_PROGRAMS, _NEAR_PROGRAMS, _NEAR_OTHER_TENSORS = 10, 12, 6
#: A known program that is slower by no more than this may be as fast with weights that are rounded in another way:
#: those of RGCN on ACM differ by 0.4 %.
_OTHER_WEIGHTS = 1.02
#: Tensors of the best program that get another width.
_TENSORS = 6
#: Widths that these have, beside slower ones and those that the caller gives.
_WIDTHS = 3
#: Memories of the best program's arrays: the first by the compiler's cuts, and the first with the base's buffers.
_MEMORIES, _BASE_MEMORIES = 3, 2
#: Of all designs, those that are looked at with each of these widths.
_CONSIDERED = 400
#: How often widths are narrowed where whole programs take longer than the cost functions say.
_TRIES = 3
#: Times by the cost functions that differ by less count as equal; designs whose bound promises less are left out.
_EQUAL = 0.005
#: Shares of the spread of divergences that the curve has limits at.
_LEAST_SHARE = 1e-4
#: Of the divergence of the best program's widths, which others on its design may have more.
_MORE = (0.0, 0.1)


@dataclass(frozen=True)
class Searched:
    """What a search found.

    Attributes:
        point: The choice.
        front: Points that no other beats in time, accuracy and resources, by rising time.
        designs: Arrays and scratchpads that fit.
        solved: Knapsacks solved, of designs whose bound did not rule them out.
        full_evaluations: Whole models that were scored.
    """

    point: Point
    front: tuple[Point, ...]
    designs: int
    solved: int
    full_evaluations: int


ScoreModel = Callable[[int, Choice], Score]
ScoreModels = Callable[[Sequence[tuple[int, Choice]]], Sequence[Score]]
TimeModels = Callable[[Design, Sequence[Choice]], Sequence[float]]
#: A design with widths of each model.
Program = tuple[Design, Sequence[Choice]]
TimePrograms = Callable[[Sequence[Program]], Sequence[Sequence[float]]]
PlanModels = Callable[[Sequence[Design], Sequence[Choice]], Sequence[float]]


@dataclass
class JointSearch:
    """A search for one design.

    Attributes:
        space: Designs.
        models: Options of each model.
        score: Measures a whole model, by its number, with widths.
        time: Modelled milliseconds of each model's whole program on a design, infinite where it does not fit.
        combine: How times of models count together.
        plan: Of designs whose arrays are the same, what the compiler's cuts of the models take; infinite for none.
        time_programs: ``time`` of several programs at once, perhaps of other weights with the same widths; the choice
            is timed by ``time`` again.
        score_several: ``score`` of several at once.
        plan_ahead: Told of which choices ``plan`` will be asked.
        known: Programs with times that were measured before; none is an answer, as other weights of their widths may
            have been.
        widths: Of each model, which are tried as they are too, such as 4 bits everywhere; the first also on the base
            where that is not known to be slower.
        points: Every point that was scored, also of a search that was stopped.
    """

    space: Space
    models: tuple[ModelOptions, ...]
    score: ScoreModel
    time: TimeModels
    combine: Combine = Combine.SUM
    plan: PlanModels = lambda designs, choices: [0.0] * len(designs)
    time_programs: TimePrograms | None = None
    score_several: ScoreModels | None = None
    plan_ahead: Callable[[Sequence[Sequence[Choice]]], None] = lambda several: None
    known: Sequence[tuple[Program, float]] = ()
    widths: Sequence[tuple[Choice, ...]] = ()
    points: list[Point] = field(default_factory=list)
    solved: int = 0
    _scores: dict[tuple[int, str], Score] = field(default_factory=dict)
    _shares: dict[Design, float] = field(default_factory=dict)
    _spent: dict[str, np.ndarray] = field(default_factory=dict)
    #: By arrays with the smallest memories; with widths, in their order.
    _memories: dict[Design, list[Design]] = field(default_factory=dict)
    _ordered_memories: dict[tuple[Design, str], list[Design]] = field(default_factory=dict)

    @cached_property
    def designs(self) -> list[Design]:
        """All arrays and scratchpads that fit."""
        found = self.space.fitting()
        self._shares.update(found)
        return list(found)

    @cached_property
    def times(self) -> list[Times]:
        """Times of every option of each model on every design."""
        return [Times.of(model, self.designs) for model in self.models]

    def run(self, goal: Goal) -> Searched:
        """The nearest to the float models within a time, or where none is given the fastest that keeps the accuracy.

        Raises:
            LimitUnreachableError: Nothing keeps the goal; the nearest point is named.
        """
        if not self.designs:
            raise LimitUnreachableError("no design of the space fits", "a larger board", "choose another board")
        curve = self._curve()
        reached = self._refine(goal, curve)
        if goal.milliseconds is None and reached is not None:
            self._refine_each(goal, reached)
        chosen = self._timed(goal, curve)
        return Searched(chosen, self._front(chosen), len(self.designs), self.solved, len(self._scores))

    def _curve(self) -> list[Point]:
        """Points at even places."""
        curve, places = list[Point](), np.linspace(0.0, 1.0, _POINTS)
        for first in range(0, len(places), AT_ONCE):
            curve += self._points([[place] * len(self.models) for place in places[first : first + AT_ONCE]])
        return curve

    def point(self, place: float) -> Point:
        """The fastest design and widths at a place of the curve, scored: 0 is near the float model, 1 the fastest."""
        return self._point([place] * len(self.models))

    def _point(self, places: Sequence[float]) -> Point:
        """The same with a place for each model."""
        return self._points([places])[0]

    def _points(self, several: Sequence[Sequence[float]]) -> list[Point]:
        """The same of several, scored together."""
        limits = [
            [self.limit(model, place) for model, place in zip(self.models, each, strict=True)] for each in several
        ]
        found = [self.fastest(each) for each in limits]
        self._score_ahead([point.choices for point in found])
        for place, point in enumerate(found):
            found[place] = replace(point, scores=self._scored(point.choices))
            self.points.append(found[place])
        return found

    def limit(self, model: ModelOptions, place: float) -> float:
        """The largest sum of divergences at a place of the curve."""
        least, most = model.range()
        return float(least + (most - least) * _LEAST_SHARE ** (1.0 - place))

    def fastest(self, limits: Sequence[float]) -> Point:
        """The fastest design and widths within limits of the divergence, not scored."""
        bounds = self.combine.of([t.bounds(limit) for t, limit in zip(self.times, limits, strict=True)])
        best, solved = math.inf, list[int]()
        for number in np.argsort(bounds, kind="stable"):
            if bounds[number] >= best * (1 - _EQUAL):
                break
            if self._no_faster(int(number), solved):
                continue
            design = self.designs[number]
            choices = tuple(m.required(design, limit) for m, limit in zip(self.models, limits, strict=True))
            self.solved += 1
            solved.append(int(number))
            spent = float(self.combine.of([np.array(choice.milliseconds) for choice in choices]))
            if spent < best:
                best, chosen, at = spent, choices, design
        if self.combine is Combine.MAXIMUM:
            # Models that are not the slowest have time for wider weights.
            chosen = tuple(model.nearest(at, best) for model in self.models)
        return Point(at, chosen, best, ())

    def _no_faster(self, number: int, others: Sequence[int]) -> bool:
        """Whether all options take as long on one of other designs, or less."""
        left = np.array(others, np.int64)
        for times in self.times:
            left = left[(times.options[left] <= times.options[number]).all(axis=1)]
        return len(left) > 0

    def spent(self, choices: Sequence[Choice]) -> np.ndarray:
        """Milliseconds of widths on each design by the cost functions, combined."""
        key = widths_key(choices)
        if key not in self._spent:
            found = self.combine.of([t.of_choice(choice) for t, choice in zip(self.times, choices, strict=True)])
            self._spent[key] = found
        return self._spent[key]

    def _scored(self, choices: Sequence[Choice]) -> tuple[Score, ...]:
        scores = []
        for number, choice in enumerate(choices):
            key = number, widths_key([choice])
            if key not in self._scores:
                self._scores[key] = self.score(number, choice)
            scores.append(self._scores[key])
        return tuple(scores)

    def _score_ahead(self, several: Sequence[Sequence[Choice]]) -> None:
        """Scores at once what will be asked for."""
        if self.score_several is None:
            return
        asked = {(number, widths_key([choice])): choice for choices in several for number, choice in enumerate(choices)}
        missing = {key: choice for key, choice in asked.items() if key not in self._scores}
        found = self.score_several([(number, choice) for (number, _), choice in missing.items()])
        self._scores.update(zip(missing, found, strict=True))

    def _refine(self, goal: Goal, curve: Sequence[Point]) -> float | None:
        """Halves the step of the curve behind the last point that is still allowed.

        Returns:
            The place up to which, or with a time from which on, points are allowed; None where none is.
        """
        allowed = [place for place, point in enumerate(curve) if self._allowed(goal, point)]
        if not allowed:
            return None
        # Where a time is asked for the first point within it is the most accurate one, else the last is the fastest.
        edge = allowed[0] - 1 if goal.milliseconds is not None else allowed[-1]
        low, high = edge / (_POINTS - 1), (edge + 1) / (_POINTS - 1)
        if not 0 <= edge < len(curve) - 1:
            return min(max(low, 0.0), 1.0)
        for _ in range(_HALVINGS):
            middle = (low + high) / 2
            keeps = self._allowed(goal, self.point(middle))
            if keeps == (goal.milliseconds is None):
                low = middle
            else:
                high = middle
        return low if goal.milliseconds is None else high

    def _refine_each(self, goal: Goal, reached: float) -> None:
        """Goes on with one of several models after the other: the first that loses too much ends the curve for all."""
        places = [reached] * len(self.models)
        for number in range(len(self.models) if len(self.models) > 1 and reached < 1.0 else 0):
            high = 1.0
            for _ in range(_HALVINGS):
                middle = (places[number] + high) / 2
                if self._allowed(goal, self._point([*places[:number], middle, *places[number + 1 :]])):
                    places[number] = middle
                else:
                    high = middle

    def _allowed(self, goal: Goal, point: Point) -> bool:
        if goal.milliseconds is not None:
            return point.milliseconds <= goal.milliseconds
        return goal.keeps_drop(point.scores)

    def _timed(self, goal: Goal, curve: Sequence[Point]) -> Point:
        """The best point by the timeline simulator."""
        return self._fastest_program(goal) if goal.milliseconds is None else self._within_time(goal, curve)

    def _within_time(self, goal: Goal, curve: Sequence[Point]) -> Point:
        """The nearest to the float models of programs within a time."""
        assert goal.milliseconds is not None
        limit, tried = goal.milliseconds, list[Point]()

        def simulate(points: Sequence[Point]) -> list[Point]:
            known = {(point.design, widths_key(point.choices)) for point in tried}
            tried.extend(self.simulated([p for p in points if (p.design, widths_key(p.choices)) not in known]))
            return [point for point in tried if goal.keeps(point)]

        for attempt in range(_TRIES):
            kept = simulate(self._candidates(replace(goal, milliseconds=limit)))
            if kept or attempt == _TRIES - 1:
                break
            # Programs take longer than the cost functions say: what these may say is less, by the largest gap seen.
            held = [point for point in tried if math.isfinite(point.time)]
            limit = goal.milliseconds * min([1.0, *(point.milliseconds / point.time for point in held)])
            self._refine(replace(goal, milliseconds=limit), curve)
        if not kept:
            allowed = [point for point in self.points if goal.keeps_drop(point.scores)] or self.points
            nearest = min(allowed, key=lambda point: point.milliseconds)
            kept = simulate([self._held(nearest)])
        if not kept:
            raise self._unreachable(goal, tried)
        return self._with_own_weights(min(kept, key=lambda point: self._preference(goal, point)))

    def _fastest_program(self, goal: Goal) -> Point:
        """The fastest of the programs that are timed: those that are expected to be fast, then those near the best."""
        allowed = self._allowed_widths(goal)
        if not allowed:
            raise self._unreachable(goal, self.simulated([self._held(min(self.points, key=lambda p: p.drop))]))
        self.plan_ahead([point.choices for point in allowed])
        timing = ProgramTiming(self)
        for program, milliseconds in self.known:
            timing.learn(program, milliseconds / self._estimate(program))
        bases = self.space.bases()
        everywhere = [p for o in allowed for p in (*self._on_several(o), *(self._on(o, base) for base in bases))]
        for first in range(0, len(allowed), AT_ONCE):
            several = [[p for p in everywhere if p.choices == o.choices] for o in allowed[first : first + AT_ONCE]]
            timing.time([found for each in several for found in timing.first(each)])
        timing.time(self._given_on_base(timing, allowed))
        timing.go(lambda: everywhere, _PROGRAMS)
        if not any(math.isfinite(point.time) for point in timing.timed.values()):
            raise self._unreachable(goal, [])
        allowed += [found for found in self._again(timing.best) if goal.keeps_drop(found.scores)]
        timing.go(lambda: self._near(timing.best, allowed), _NEAR_PROGRAMS)
        before = timing.best
        self._with_other_tensors(timing, goal)
        if timing.best is not before:
            timing.go(lambda: self._near(timing.best, allowed), _NEAR_OTHER_TENSORS)
        return self._with_own_weights(self._fastest_timed(goal))

    def _given_on_base(self, timing: ProgramTiming, allowed: Sequence[Point]) -> list[Point]:
        """The first of the caller's widths on the base if the board holds it, unless that is known to be slower."""
        base, limit = self.space.base, _OTHER_WEIGHTS * (timing.best.time if timing.timed else math.inf)
        slower = {widths_key(choices) for (design, choices), spent in self.known if design == base and spent >= limit}
        given = {widths_key(choices) for choices in self.widths[:1] if self.space.holds(base)} - slower
        points = [self._on(point, base) for point in allowed if widths_key(point.choices) in given]
        return [point for point in points if (base, widths_key(point.choices)) not in timing.timed]

    def _with_own_weights(self, point: Point) -> Point:
        """A point that was timed, timed once more where its program had other weights of the same widths."""
        return point if self.time_programs is None else self._simulated(point)

    def _held(self, point: Point) -> Point:
        """A point whose arrays have the best memories that hold the models."""
        return replace(point, design=next(iter(self.memories(point)), point.design))

    def _with_other_tensors(self, timing: ProgramTiming, goal: Goal) -> None:
        """Gives narrow tensors, those most read first, another width, and keeps it where the program is faster.

        The cost functions do not know what it takes to write narrow ones. Wide ones follow.
        """
        pairs = self._tensors_by_use(timing.best)
        for first in range(0, min(len(pairs), _TENSORS), AT_ONCE):
            best = timing.best
            points = [self._with_other_width(best, *pair) for pair in pairs[first : first + AT_ONCE]]
            spent = self._times_of([(point.design, point.choices) for point in points])
            faster = [(each, place) for place, each in enumerate(spent) if each < best.time]
            for _, place in sorted(faster):
                scores = self._scored(points[place].choices)
                if goal.keeps_drop(scores):
                    timing.note(self._noted([replace(points[place], scores=scores)], [spent[place]]))
                    break

    def _tensors_by_use(self, point: Point) -> list[tuple[int, TensorOptions]]:
        """Tensors with their model's number: narrow ones first, then by falling bytes that layers read of them.

        Where the slowest model counts, those of the others gain nothing.
        """
        pairs = zip(self.models, point.choices, strict=True)
        spent = [model.milliseconds(point.design, choice.weights, choice.tensors) for model, choice in pairs]
        counted = [n for n, each in enumerate(spent) if self.combine is Combine.SUM or each == max(spent)]
        several = [(number, *each) for number in counted for each in self.models[number].bytes_read()]

        def rank(found: tuple[int, TensorOptions, float]) -> tuple[bool, float]:
            number, tensor, read = found
            return point.choices[number].tensors[tensor.name] == max(tensor.bits), -read

        return [(number, tensor) for number, tensor, _ in sorted(several, key=rank)]

    def _with_other_width(self, point: Point, number: int, tensor: TensorOptions) -> Point:
        """A point with the next width of a tensor, the first behind the last."""
        choices, choice = list(point.choices), point.choices[number]
        held = tensor.bits.index(choice.tensors[tensor.name])
        other = (held + 1) % len(tensor.bits)
        choices[number] = replace(
            choice,
            tensors={**choice.tensors, tensor.name: tensor.bits[other]},
            divergence=choice.divergence + float(tensor.divergence[other] - tensor.divergence[held]),
        )
        return self._on(replace(point, choices=tuple(choices)), point.design)

    def _fastest_timed(self, goal: Goal) -> Point:
        """The fastest of all programs that were timed, for earlier goals too."""
        timed = [p for p in self.points if p.simulated is not None and goal.keeps_drop(p.scores)]
        return min(timed, key=lambda point: (point.time, point.drop, self.used(point.design)))

    def _allowed_widths(self, goal: Goal) -> list[Point]:
        """Widths that keep the accuracy: the fastest by the cost functions, slower ones, and those of the caller.

        Where much may be lost the fastest are alike, and their programs need not be the fastest: what narrow tensors
        save may be less than what it takes to write them.
        """
        kept = {
            widths_key(p.choices): p
            for p in sorted(self.points, key=lambda p: -p.milliseconds)
            if goal.keeps_drop(p.scores)
        }
        ranked = sorted(kept.values(), key=lambda point: point.milliseconds)
        others = ranked[_WIDTHS:]
        found = ranked[:_WIDTHS] + [others[(len(others) - 1) // 2], *others[-1:]][: len(others)] if others else ranked
        self._score_ahead(self.widths)
        for choices in self.widths:
            scores = self._scored(choices)
            if goal.keeps_drop(scores) and all(widths_key(choices) != widths_key(point.choices) for point in found):
                found.append(self._on(Point(self.designs[0], choices, 0.0, scores), self.designs[0]))
        return found

    def _again(self, best: Point) -> list[Point]:
        """The fastest widths on the best design that lose as much as its own, and a little more, scored."""
        found = []
        for share in _MORE:
            # No less than the least, which sums in another order might miss.
            pairs = zip(self.models, best.choices, strict=True)
            limits = [max(c.divergence + share * abs(c.divergence), m.range()[0]) for m, c in pairs]
            choices = tuple(m.required(best.design, limit) for m, limit in zip(self.models, limits, strict=True))
            self.solved += 1
            found.append(self._on(replace(best, choices=choices), best.design))
        self._score_ahead([point.choices for point in found])
        found = [replace(point, scores=self._scored(point.choices)) for point in found]
        self.points += found
        return found

    def _near(self, best: Point, allowed: Sequence[Point]) -> list[Point]:
        """The best program with other memories, widths or a scratchpad of AGG, and on the arrays next to its own."""
        memories = [*self.memories(best)[:_MEMORIES], *self._largest_memories(best.design)[:_BASE_MEMORIES]]
        others = [*memories, *self.space.with_other_scratchpads(best.design)]
        designs = [*others, *self.space.neighbours(best.design)]
        return [self._on(best, each) for each in designs] + [self._on(point, best.design) for point in allowed]

    def _on(self, point: Point, design: Design) -> Point:
        """A point's widths on another design, by the cost functions."""
        return replace(point, design=design, milliseconds=self._estimate((design, point.choices)), simulated=None)

    def _estimate(self, program: Program) -> float:
        """Milliseconds by the cost functions, combined."""
        design, choices = program
        pairs = zip(self.models, choices, strict=True)
        return float(self.combine.of([np.array(m.milliseconds(design, c.weights, c.tensors)) for m, c in pairs]))

    def _preference(self, goal: Goal, point: Point) -> tuple[float, float]:
        """What is smaller for the better of two points that keep a goal."""
        if goal.milliseconds is not None:
            return max(score.divergence for score in point.scores), point.time
        return point.time, self.used(point.design)

    def _candidates(self, goal: Goal) -> list[Point]:
        """Points worth a simulation: the best by the cost functions, with the memories that fit."""
        several: dict[str, Point] = {}
        for point in sorted(self.points, key=lambda p: max(score.divergence for score in p.scores)):
            if goal.keeps(point):
                several.setdefault(widths_key(point.choices), point)
        return [
            replace(found, design=design)
            for point in list(several.values())[:_WIDTHS_TIMED]
            for found in self._on_fastest_designs(point)
            for design in self.memories(found)[:_MEMORIES_TIMED]
        ]

    def memories(self, point: Point) -> list[Design]:
        """A point's arrays with memories of which none can be deeper, the fastest by the compiler's cuts first.

        Of equally fast ones those come first whose shallower memory of weights is the deepest.
        """
        key = self.space.smallest(point.design), widths_key(point.choices)
        if key not in self._ordered_memories:
            designs = self._largest_memories(point.design)
            spent = self.plan(designs, point.choices)
            order = sorted(range(len(designs)), key=lambda place: (spent[place], -_shallower(designs[place])))
            self._ordered_memories[key] = [designs[place] for place in order if np.isfinite(spent[place])]
        return self._ordered_memories[key]

    def _largest_memories(self, design: Design) -> list[Design]:
        """The arrays and the scratchpad of a design with memories of which none can be deeper."""
        key = self.space.smallest(design)
        if key not in self._memories:
            self._memories[key] = self.space.largest_memories(design)
        return self._memories[key]

    def _on_several(self, point: Point) -> list[Point]:
        """A point's widths on the fastest designs with them; of equally fast ones the largest arrays come first."""
        spent = self.spent(point.choices)
        order = np.lexsort([-self._elements, spent])[:_CONSIDERED]
        return [replace(point, design=self.designs[n], milliseconds=float(spent[n]), simulated=None) for n in order]

    @cached_property
    def _elements(self) -> np.ndarray:
        """Processing elements of both arrays of each design."""
        return np.array([_elements(design) for design in self.designs])

    def _on_fastest_designs(self, point: Point) -> list[Point]:
        """A point's widths on its own design and on the fastest ones with them; of equally fast ones the largest."""
        spent = self.spent(point.choices)
        order = np.lexsort([-self._elements, np.maximum(spent, spent.min() * (1 + _EQUAL))])
        designs = dict.fromkeys([*(self.designs[number] for number in order[: _DESIGNS_TIMED - 1]), point.design])
        return [self._on(point, design) for design in designs]

    def _simulated(self, point: Point) -> Point:
        spent = self.time(point.design, point.choices)
        return self._noted([point], [float(self.combine.of([np.array(each) for each in spent]))])[0]

    def simulated(self, points: Sequence[Point]) -> list[Point]:
        """Points whose programs are timed at once."""
        return self._noted(points, self._times_of([(point.design, point.choices) for point in points]))

    def _times_of(self, programs: Sequence[Program]) -> list[float]:
        """Milliseconds of whole programs, combined."""
        if self.time_programs is None:
            spent: Sequence[Sequence[float]] = [self.time(*program) for program in programs]
        else:
            spent = self.time_programs(programs)
        return [float(self.combine.of([np.array(each) for each in one])) for one in spent]

    def _noted(self, points: Sequence[Point], times: Sequence[float]) -> list[Point]:
        """Points with the times of their programs; those that their designs hold are kept."""
        found = [replace(point, simulated=each) for point, each in zip(points, times, strict=True)]
        self.points += [point for point in found if math.isfinite(point.time)]
        return found

    def _front(self, chosen: Point) -> tuple[Point, ...]:
        """The front with the choice in it; times that were not simulated are scaled by the choice's gap.

        Those that would then beat the choice are left out: only programs that were timed are better than others.
        """
        scale = 1 + (chosen.gap or 0.0)
        others = [*self.points, *self._smaller()]
        scaled = [p if p.simulated is not None else replace(p, scale=scale) for p in others]
        held = [p for p in scaled if p.simulated is not None or not p.beats(chosen)]
        found = front_of([chosen, *held], self.used)
        return found if chosen in found else tuple(sorted([*found, chosen], key=lambda point: point.time))

    def _smaller(self) -> list[Point]:
        """Widths that were scored on every design, as far as none that needs less is as fast."""
        order, found = np.argsort([self.used(design) for design in self.designs], kind="stable"), list[Point]()
        for point in {widths_key(p.choices): p for p in self.points}.values():
            spent = self.spent(point.choices)[order]
            faster = np.flatnonzero(spent < np.minimum.accumulate(np.append(np.inf, spent[:-1])))
            designs = [self.designs[order[place]] for place in faster]
            found += [
                replace(point, design=design, milliseconds=float(each), simulated=None)
                for design, each in zip(designs, spent[faster], strict=True)
            ]
        return found

    def used(self, design: Design) -> float:
        """Share of the scarcest resource that a design needs."""
        if design not in self._shares:
            self._shares[design] = max(self.space.shares(design).values())
        return self._shares[design]

    def best_so_far(self, goal: Goal) -> Point | None:
        """The best point of a search that was stopped, with memories that fit; None where none keeps the goal."""
        kept = [point for point in self.points if goal.keeps(point)]
        found = min(kept, key=lambda p: (p.simulated is None, *self._preference(goal, p)), default=None)
        if found is None or found.simulated is not None:
            return found
        return replace(found, design=self._largest_memories(found.design)[0])

    def _unreachable(self, goal: Goal, tried: Sequence[Point]) -> LimitUnreachableError:
        points = [point for point in tried if math.isfinite(point.time)]
        if not points:
            return LimitUnreachableError(
                "no design that was tried holds the models' programs",
                "memories that hold the least part of each layer",
                "choose a larger board, or search for fewer models at once",
            )
        near = [point for point in points if goal.keeps_drop(point.scores)]
        wanted = [f"at most {goal.milliseconds:,.4g} ms (modelled)"] if goal.milliseconds is not None else []
        wanted += [f"at most {goal.drop:g} points lost"] if goal.drop is not None else []
        nearest = [f"{min(near, key=lambda p: p.time)}, the fastest"] if near else []
        nearest += [f"{min(points, key=lambda p: p.drop)}, the least loss"] if not near else []
        return LimitUnreachableError(
            "no design and widths reach " + " and ".join(wanted),
            "what can be reached: " + "; ".join(nearest),
            "raise the limits, or choose a larger board",
        )


def _shallower(design: Design) -> int:
    return min(design.geometry.wgt_d_words, design.geometry.wgt_l_words)


def _elements(design: Design) -> int:
    """Processing elements of both arrays."""
    geometry = design.geometry
    return geometry.gemm_d_rows * geometry.gemm_d_cols + geometry.gemm_l_rows * geometry.gemm_l_cols
