# SPDX-License-Identifier: Apache-2.0
"""Chooses the width of each layer's weights and of each stored tensor, under limits of time, size and average width.

What an option costs in accuracy is measured alone, as the divergence from the float model with that one change. Their
sums are what a knapsack keeps least (overlay/search/knapsack.py); its best solutions are then measured as a whole, and
the measured one decides. Around it the changes are measured again, until nothing better is found.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Protocol

import numpy as np
import numpy.typing as npt

from hetfab.overlay.errors import LimitUnreachableError
from hetfab.overlay.search.journal import Journal
from hetfab.overlay.search.knapsack import Group, Problem, Solution, Tie, best, least
from hetfab.overlay.search.pareto import front
from hetfab.quantize.assignment import ActivationChoice, Assignment, WeightChoice
from hetfab.quantize.mixed_widths import Mix
from hetfab.quantize.widths import Widths

#: Names of the quantities that may be limited.
WEIGHT_BITS, ACTIVATION_BITS, BYTES, MILLISECONDS = "weight bits", "activation bits", "bytes", "ms"
#: Tensors of at most this width are stored two values a byte, and take half the time to multiply.
PACKED_BITS = 4
_WHOLE = Widths(8, 8)
#: Solutions of the knapsack that are measured.
_MEASURED = 20


class Weighted(Protocol):
    """A layer with weights."""

    @property
    def weight(self) -> npt.NDArray[np.float32]:
        """The weights."""

    @property
    def bias(self) -> npt.NDArray[np.float32] | None:
        """What is added to the products, None for nothing."""


class AverageWidths(Protocol):
    """Average widths of an assignment."""

    @property
    def weights(self) -> float:
        """Of weights."""

    @property
    def activations(self) -> float:
        """Of stored tensors."""


class Studied(Protocol):
    """What is needed of a model under study; ``Study`` is one. Average widths are linear in each width."""

    @property
    def layers(self) -> Mapping[str, Weighted]:
        """Layers with weights, by name."""

    @property
    def groups(self) -> Mapping[str, tuple[str, ...]]:
        """Stored tensors of one width, by the name of the first."""

    def uniform(self, widths: Widths, *, weights: str, activations: str) -> Assignment:
        """One width for all weights and one for all activations."""

    def least_bits(self, layer: str, bits: int) -> int:
        """The width, or the next one that the layer's weights can have."""

    def exact_bits(self, group: str) -> int | None:
        """Fewest bits that hold a group's values exactly, None above 8."""

    def divergence(self, assignment: Assignment) -> float:
        """From the float model, in nats."""

    def average_bits(self, assignment: Assignment) -> AverageWidths:
        """Average widths."""


@dataclass(frozen=True)
class Options:
    """Widths that may be chosen, and the methods that round.

    Attributes:
        weights: Of weights.
        activations: Of stored tensors.
        weight_method: For narrow weights, a name of ``WEIGHT_METHODS``.
        wide_method: For weights of 6 bits and more, for which all methods are equally good.
        activation_methods: Names of ``ACTIVATION_METHODS``; for each tensor and width the best one is taken.
        mixes: Pairs of widths that channels of one layer may have; each pair once.
    """

    weights: tuple[int, ...] = (2, 3, 4, 5, 6, 8)
    activations: tuple[int, ...] = (2, 3, 4, 5, 6, 8)
    weight_method: str = "alternation"
    wide_method: str = "nearest"
    activation_methods: tuple[str, ...] = ("percentile 99.9", "least square error")
    mixes: tuple[Mix, ...] = ()

    def measurements(self, studied: Studied) -> int:
        """Models that are measured at most for one table of changes."""
        of_activations = len(self.activations) * len(self.activation_methods)
        return len(studied.layers) * (len(self.weights) + len(self.mixes)) + len(studied.groups) * of_activations

    def weight(self, studied: Studied, layer: str, bits: int) -> WeightChoice:
        """The choice of a layer's weights that has a width."""
        return WeightChoice(studied.least_bits(layer, bits), self.wide_method if bits >= 6 else self.weight_method)


@dataclass(frozen=True)
class LayerTimes:
    """Modelled time of what a program does for the layers of a model, at each width.

    Attributes:
        of_layers: By layer with weights: (bits of weights, whether its input is packed) to milliseconds.
        of_groups: By group of tensors: whether they are packed to milliseconds of what reads them without weights.
        inputs: The group that each layer with weights reads.
        fixed: Milliseconds of all else.
        of_mixed: By layer: (narrow bits, wide bits, whether its input is packed) to milliseconds.
    """

    of_layers: Mapping[str, Mapping[tuple[int, bool], float]]
    of_groups: Mapping[str, Mapping[bool, float]]
    inputs: Mapping[str, str]
    fixed: float = 0.0
    of_mixed: Mapping[str, Mapping[tuple[int, int, bool], float]] = field(default_factory=dict)

    def of_layer(self, layer: str, choice: WeightChoice, packed: bool) -> float:
        """Milliseconds of a layer; 0 of one that no program step computes alone."""
        if len(choice.kinds) == 1:
            return self.of_layers.get(layer, {}).get((choice.kinds[0], packed), 0.0)
        return self.of_mixed[layer][choice.kinds[0], choice.kinds[-1], packed]


@dataclass(frozen=True)
class Measured:
    """An assignment and what it is measured to be.

    Attributes:
        assignment: The widths.
        divergence: From the float model, in nats.
        totals: Sums of the quantities: average bits, bytes, modelled milliseconds.
    """

    assignment: Assignment
    divergence: float
    totals: Mapping[str, float]


@dataclass
class BitSearch:
    """A search for widths of one model.

    Attributes:
        studied: The model.
        options: What may be chosen.
        times: Modelled times, None where time is not asked for.
        journal: What is known.
        progress: Called after each measurement.
        channel_losses: What each output channel of a layer loses at a width, for mixes; None where it has one width.
        ahead: Called with assignments that will be measured, by their keys in the journal; may put results there.
    """

    studied: Studied
    options: Options = field(default_factory=Options)
    times: LayerTimes | None = None
    journal: Journal = field(default_factory=lambda: Journal(None, ""))
    progress: Callable[[str], None] = lambda step: None
    channel_losses: Callable[[str, int], npt.NDArray[np.float64] | None] = lambda layer, bits: None
    ahead: Callable[[Mapping[str, Assignment]], None] | None = None

    def start(self) -> Assignment:
        """8 bits everywhere, with the method for activations that is nearest to the float model."""
        methods = self.options.activation_methods
        found = [self.studied.uniform(_WHOLE, weights=self.options.wide_method, activations=name) for name in methods]
        costs = self.divergences(found)
        return found[costs.index(min(costs))]

    def divergence(self, assignment: Assignment) -> float:
        """The measured divergence of an assignment."""

        def measure() -> float:
            found = self.studied.divergence(assignment)
            self.progress("divergence")
            return found

        return self.journal.result(_key(assignment), measure)

    def divergences(self, assignments: Iterable[Assignment]) -> list[float]:
        """The same of several."""
        listed = list(assignments)
        if self.ahead is not None:
            self.ahead({_key(assignment): assignment for assignment in listed})
        return [self.divergence(assignment) for assignment in listed]

    def assign(self, limits: Mapping[str, float], *, rounds: int = 2, count: int = _MEASURED) -> list[Measured]:
        """Assignments within limits, the nearest to the float model first.

        Args:
            limits: Largest average bits, bytes or milliseconds, by name.
            rounds: How often the changes are measured, first from 8 bits, then from the best assignment found.
            count: Solutions of the knapsack that are measured in each round.

        Raises:
            LimitUnreachableError: No assignment keeps a limit; the nearest is named.
        """
        around, found = self.start(), dict[str, Measured]()
        for _ in range(rounds):
            known = len(found)
            table = self.table(around)
            problem = replace(table.problem, limits=dict(limits))
            solutions = best(problem, count)
            if not solutions:
                raise unreachable(problem)
            for measured in self._measured(table, solutions):
                found.setdefault(digest(measured.assignment), measured)
            around = min(found.values(), key=lambda each: each.divergence).assignment
            if len(found) == known:
                break
        return sorted(found.values(), key=lambda each: each.divergence)

    def curve(self, name: str, *, points: int = 10, limits: Mapping[str, float] | None = None) -> list[Measured]:
        """The Pareto curve of divergence over a quantity, measured.

        Args:
            name: The quantity.
            points: Limits that are tried, from its least sum to that of 8 bits.
            limits: Of other quantities.

        Raises:
            LimitUnreachableError: As ``assign``.
        """
        table = self.table(self.start())
        problem = replace(table.problem, limits=dict(limits or {}))
        lowest = least(problem, name).totals[name]
        highest = best(problem)[0].totals[name]
        limits_tried = np.linspace(lowest, highest, points)
        solutions = [found for limit in limits_tried for found in best(problem.limited(name, float(limit)), 3)]
        return front(self._measured(table, solutions), lambda each: (each.totals[name], each.divergence))

    def _measured(self, table: "Table", solutions: Sequence[Solution]) -> list[Measured]:
        """Solutions of a knapsack, measured as a whole."""
        assignments = [table.assignment(solution) for solution in solutions]
        found = self.divergences(assignments)
        return [
            Measured(assignment, divergence, solution.totals)
            for assignment, divergence, solution in zip(assignments, found, solutions, strict=True)
        ]

    def table(self, around: Assignment) -> "Table":
        """The knapsack of all options, each measured as one change of an assignment.

        Options that a narrower one beats are left out, so that the best solutions differ in what matters.
        """
        if self.ahead is not None:
            self.ahead(self.changes(around))
        base = self.divergence(around)
        weights = {layer: self._weight_options(layer, around, base) for layer in self.studied.layers}
        activations = {group: self._activation_options(group, around, base) for group in self.studied.groups}
        return Table(self.studied, around, weights, activations, self.times)

    def changes(self, around: Assignment) -> dict[str, Assignment]:
        """What ``table`` measures, by its key in the journal."""
        found = [around]
        for layer in self.studied.layers:
            whole = [self.options.weight(self.studied, layer, bits) for bits in self.options.weights]
            found += [around.with_weights(layer, choice) for choice in (*whole, *self._mixed(layer))]
        for group in self.studied.groups:
            for bits, methods in self._activation_methods(group):
                found += [around.with_activations(group, ActivationChoice(bits, method)) for method in methods]
        return {_key(assignment): assignment for assignment in found}

    def _weight_options(self, layer: str, around: Assignment, base: float) -> dict[WeightChoice, float]:
        found: dict[WeightChoice, float] = {}
        whole = [self.options.weight(self.studied, layer, bits) for bits in sorted(self.options.weights)]
        for choice in sorted([*whole, *self._mixed(layer)], key=mean_bits):
            cost = self.divergence(around.with_weights(layer, choice)) - base
            if not found or cost < min(found.values()):
                found[choice] = cost
        return found

    def _mixed(self, layer: str) -> Iterator[WeightChoice]:
        """The layer's options of two widths."""
        for mix in self.options.mixes:
            losses = self.channel_losses(layer, mix.narrow)
            timed = self.times is None or layer in self.times.of_mixed
            found = None if losses is None or not timed else mix.choice(losses, self.options.weight_method)
            if found is not None and self.studied.least_bits(layer, mix.narrow) == mix.narrow:
                yield found

    def _activation_options(self, group: str, around: Assignment, base: float) -> dict[ActivationChoice, float]:
        """For each width the best method; no width beyond one that holds all values exactly."""
        found: dict[ActivationChoice, float] = {}
        for bits, methods in self._activation_methods(group):
            costs = {
                choice: self.divergence(around.with_activations(group, choice)) - base
                for choice in (ActivationChoice(bits, method) for method in methods)
            }
            nearest = min(costs, key=costs.__getitem__)
            if not found or costs[nearest] < min(found.values()):
                found[nearest] = costs[nearest]
        return found

    def _activation_methods(self, group: str) -> Iterator[tuple[int, tuple[str, ...]]]:
        """Widths up to one that holds all values exactly, and the methods that are tried for each."""
        exact = self.studied.exact_bits(group)
        for bits in sorted(self.options.activations):
            is_exact = exact is not None and exact <= bits
            yield bits, self.options.activation_methods[: 1 if is_exact else None]
            if is_exact:
                return


@dataclass(frozen=True, eq=False)
class Table:
    """Options of each layer and group with their measured costs, as a knapsack.

    Attributes:
        studied: The model.
        around: The assignment of which options are changes.
        weights: Of each layer: option to cost.
        activations: Of each group likewise.
        times: Modelled times, None without.
    """

    studied: Studied
    around: Assignment
    weights: Mapping[str, Mapping[WeightChoice, float]]
    activations: Mapping[str, Mapping[ActivationChoice, float]]
    times: LayerTimes | None

    @cached_property
    def problem(self) -> Problem:
        """The knapsack, without limits: first the layers, then the groups."""
        groups = [self._layer(name) for name in self.weights] + [self._group(name) for name in self.activations]
        return Problem(tuple(groups), ties=() if self.times is None else tuple(self._ties(self.times)))

    def assignment(self, solution: Solution) -> Assignment:
        """What a solution of the knapsack stands for."""
        count = len(self.weights)
        weights = {
            name: self._layer_options(name)[option][0]
            for name, option in zip(self.weights, solution.options[:count], strict=True)
        }
        activations = {
            name: list(options)[option]
            for (name, options), option in zip(self.activations.items(), solution.options[count:], strict=True)
        }
        return replace(self.around, weights=weights, activations=activations)

    def _layer_options(self, name: str) -> list[tuple[WeightChoice, bool]]:
        """Widths of a layer's weights; where time counts, each with an input that is packed and one that is not."""
        forms = (False,) if self.times is None else (False, True)
        return [(choice, packed) for choice in self.weights[name] for packed in forms]

    def _layer(self, name: str) -> Group:
        options = self._layer_options(name)
        bits = np.array([mean_bits(choice) for choice, _ in options])
        weights = {
            WEIGHT_BITS: bits * self._shares.weights[name],
            ACTIVATION_BITS: 0 * bits,
            BYTES: bits * self.studied.layers[name].weight.size / 8,
        }
        if self.times is not None:
            fixed = self.times.fixed / len(self.weights)
            weights[MILLISECONDS] = np.array([self.times.of_layer(name, c, p) + fixed for c, p in options])
        return Group(name, np.array([self.weights[name][choice] for choice, _ in options]), weights)

    def _group(self, name: str) -> Group:
        options = self.activations[name]
        bits = np.array([choice.bits for choice in options], dtype=np.float64)
        weights = {WEIGHT_BITS: 0 * bits, ACTIVATION_BITS: bits * self._shares.activations[name], BYTES: 0 * bits}
        if self.times is not None:
            of_group = self.times.of_groups.get(name, {})
            weights[MILLISECONDS] = np.array([of_group.get(b <= PACKED_BITS, 0.0) for b in bits])
        return Group(name, np.array(list(options.values())), weights)

    def _ties(self, times: LayerTimes) -> Iterator[Tie]:
        """The form of each group of tensors is the one that the layers which read it count with."""
        layers, groups = list(self.weights), list(self.activations)
        for group in groups:
            readers = [name for name in layers if times.inputs.get(name) == group]
            if readers:
                labels = {
                    layers.index(name): [int(packed) for _, packed in self._layer_options(name)] for name in readers
                }
                place = len(layers) + groups.index(group)
                yield Tie(labels | {place: [int(c.bits <= PACKED_BITS) for c in self.activations[group]]})

    @cached_property
    def _shares(self) -> "_Shares":
        return _Shares.of(self.studied)


@dataclass(frozen=True)
class _Shares:
    """What a bit more of one layer or group adds to the average widths."""

    weights: Mapping[str, float]
    activations: Mapping[str, float]

    @classmethod
    def of(cls, studied: Studied) -> "_Shares":
        base = studied.uniform(Widths(4, 4), weights="nearest", activations="percentile 99.9")
        before = studied.average_bits(base)
        weights, activations = {}, {}
        for name, choice in base.weights.items():
            wider = base.with_weights(name, replace(choice, bits=widest(choice) + 1))
            weights[name] = studied.average_bits(wider).weights - before.weights
        for name in base.activations:
            wider = base.with_activations(name, replace(base.activations[name], bits=5))
            activations[name] = studied.average_bits(wider).activations - before.activations
        return cls(weights, activations)


def unreachable(problem: Problem) -> LimitUnreachableError:
    """Names the nearest point: the least of the first quantity that cannot hold with those before it."""
    kept: dict[str, float] = {}
    for name, limit in problem.limits.items():
        nearest = least(replace(problem, limits=kept), name).totals[name]
        if nearest > limit:
            others = "".join(f", with {key} at most {value:,.4g}" for key, value in kept.items())
            return LimitUnreachableError(
                f"no widths keep {name} at most {limit:,.4g}{others}",
                f"at least {nearest:,.4g}, the nearest point that can be reached",
                "raise the limit, or allow narrower widths",
            )
        kept[name] = limit
    return LimitUnreachableError("no widths keep the limits", "limits that hold together", "raise one of them")


def _key(assignment: Assignment) -> str:
    """Of an assignment's divergence in the journal."""
    return f"divergence {digest(assignment)}"


def widest(choice: WeightChoice) -> int:
    """Width of a layer's weights: of all channels, or the largest."""
    return choice.bits if isinstance(choice.bits, int) else max(choice.bits)


def mean_bits(choice: WeightChoice) -> float:
    """Mean width of a layer's weights."""
    return choice.bits if isinstance(choice.bits, int) else float(np.mean(choice.bits))


def digest(assignment: Assignment) -> str:
    """A name for an assignment."""
    parts = [
        {name: (choice.bits, choice.method) for name, choice in sorted(assignment.weights.items())},
        {name: (c.bits, c.method, c.exponent) for name, c in sorted(assignment.activations.items())},
        assignment.arguments,
        assignment.correct_bias,
        assignment.block_steps,
    ]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:24]
