# SPDX-License-Identifier: Apache-2.0
"""Widths of one model as options with a cost in accuracy and, on any design, a modelled time; the best choice is exact.

The time of a layer is that of its work on both matrix engines (layer_work.py), or of what AGG does beside, whichever is
longer, times a factor: what the timeline simulator gives for whole programs on one design over the same estimates.
AGG's time and the factor are known for each of its scratchpads.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

from hetfab.overlay.design import Design
from hetfab.overlay.errors import LimitUnreachableError
from hetfab.overlay.search.hardware import Scratchpad
from hetfab.overlay.search.knapsack import Group, Problem, Solution, Tie, Vector, best
from hetfab.overlay.search.layer_work import PACKED_BITS, LayerWork

#: Quantities of a solution: the sum of the divergences that single changes cause, and the time.
DIVERGENCE, MILLISECONDS = "divergence", "ms"
#: Times of which one exceeds the other by no more than this share are equal.
_ROUNDING = 1e-9
#: Lagrangian multipliers that bounds are tried with.
_PRICES = 25
_FORMS = (False, True)


@dataclass(frozen=True)
class TimedWork:
    """What a layer with weights does, and what it takes beside the matrix engines.

    Attributes:
        work: On the matrix engines.
        others: Modelled milliseconds of AGG, with wide weights and with those of at most 4 bits.
        factors: From the sum of estimates to the time of a whole run, likewise.
    """

    work: LayerWork
    others: tuple[float, float] = (0.0, 0.0)
    factors: tuple[float, float] = (1.0, 1.0)

    def milliseconds(self, design: Design, bits: int, packed: bool) -> float:
        """Modelled time on a design."""
        return self.factors[bits <= PACKED_BITS] * self.estimate(design, bits, packed)

    def estimate(self, design: Design, bits: int, packed: bool) -> float:
        """The same before the factor."""
        return max(_on_cores(self.work, design, bits, packed), self.others[bits <= PACKED_BITS])


def _on_cores(work: LayerWork, design: Design, bits: int, packed: bool) -> float:
    """Modelled milliseconds on both matrix engines."""
    return work.cycles(design.geometry, bits, packed) / (design.clock_mhz * 1e3)


@dataclass(frozen=True, eq=False)
class LayerOptions:
    """Widths of a layer's weights.

    Attributes:
        name: The layer.
        bits: The widths.
        divergence: What each costs, [options].
        works: What it computes.
        tensor: Number of the tensors that it reads, None for those that have no options.
    """

    name: str
    bits: tuple[int, ...]
    divergence: Vector
    works: tuple[TimedWork, ...]
    tensor: int | None


@dataclass(frozen=True, eq=False)
class TensorOptions:
    """Widths of stored tensors that have one width.

    Attributes:
        name: Of the first of them.
        bits: The widths.
        divergence: What each costs, [options].
        packs: Whether narrow ones are stored two a byte, which their readers' weights must allow.
    """

    name: str
    bits: tuple[int, ...]
    divergence: Vector
    packs: bool


@dataclass(frozen=True)
class Choice:
    """An option of each layer and of each group of tensors.

    Attributes:
        weights: Bits by layer.
        tensors: Bits by group.
        milliseconds: By the cost functions.
        divergence: Sum of what single changes cause.
    """

    weights: Mapping[str, int]
    tensors: Mapping[str, int]
    milliseconds: float
    divergence: float


@dataclass(frozen=True, eq=False)
class ModelOptions:
    """All that may be chosen of one model.

    Attributes:
        name: The model.
        layers: With weights.
        tensors: Stored ones.
        fixed: Modelled milliseconds of all else.
        with_scratchpad: The same with the times that AGG takes with other scratchpads than the one of these times.
    """

    name: str
    layers: tuple[LayerOptions, ...]
    tensors: tuple[TensorOptions, ...]
    fixed: float
    with_scratchpad: "Mapping[Scratchpad, ModelOptions]" = field(default_factory=dict)

    def on(self, design: Design) -> "ModelOptions":
        """With the times of a design's scratchpad, or these where none were taken with it."""
        return self.with_scratchpad.get(Scratchpad.of(design), self)

    def times(self, design: Design) -> "Times":
        """Milliseconds of every option on a design."""
        return Times.of(self, [design])

    def range(self) -> tuple[float, float]:
        """Least and largest sum of divergences."""
        costs = [layer.divergence for layer in self.layers] + [tensor.divergence for tensor in self.tensors]
        return sum(float(cost.min()) for cost in costs), sum(float(cost.max()) for cost in costs)

    def milliseconds(self, design: Design, weights: Mapping[str, int], tensors: Mapping[str, int]) -> float:
        """Modelled time of given widths by the cost functions."""
        return self.on(design).fixed + sum(self.layer_milliseconds(design, weights, tensors).values())

    def layer_milliseconds(
        self, design: Design, weights: Mapping[str, int], tensors: Mapping[str, int]
    ) -> dict[str, float]:
        """The same of each layer with weights."""
        found = {}
        for layer in self.on(design).layers:
            packed = self.packed(layer, weights, tensors)
            found[layer.name] = sum(work.milliseconds(design, weights[layer.name], packed) for work in layer.works)
        return found

    def packed(self, layer: LayerOptions, weights: Mapping[str, int], tensors: Mapping[str, int]) -> bool:
        """Whether a layer reads two values a byte: readers with wide weights need bytes, so then none does."""
        tensor = None if layer.tensor is None else self.tensors[layer.tensor]
        if tensor is None or not tensor.packs or tensors[tensor.name] > PACKED_BITS:
            return False
        return all(weights[each.name] <= PACKED_BITS for each in self.layers if each.tensor == layer.tensor)

    def uniform(self, design: Design, bits: int) -> Choice:
        """Widths of so many bits wherever that is an option, else the widest below; the time is that on a design."""
        layers, tensors = ([_widest(o, bits) for o in options] for options in (self.layers, self.tensors))
        weights = {o.name: o.bits[option] for o, option in zip(self.layers, layers, strict=True)}
        stored = {o.name: o.bits[option] for o, option in zip(self.tensors, tensors, strict=True)}
        costs = [o.divergence[option] for o, option in zip(self.layers, layers, strict=True)]
        costs += [o.divergence[option] for o, option in zip(self.tensors, tensors, strict=True)]
        return Choice(weights, stored, self.milliseconds(design, weights, stored), float(sum(costs)))

    def bytes_read(self) -> list[tuple[TensorOptions, float]]:
        """Tensors with several widths, and the bytes that layers with weights read of them at 8 bits."""
        return [
            (
                tensor,
                sum(
                    each.work.rows * each.work.row_bytes[0]
                    for layer in self.layers
                    for each in layer.works
                    if layer.tensor == number
                ),
            )
            for number, tensor in enumerate(self.tensors)
            if len(tensor.bits) > 1
        ]

    def problem(self, design: Design, most: float) -> Problem:
        """The knapsack of least time on a design."""
        times = self.times(design).of_layers
        layers = [self._layer_group(layer, times[number][0]) for number, layer in enumerate(self.layers)]
        tensors = [self._tensor_group(tensor) for tensor in self.tensors]
        return Problem((*layers, *tensors), {DIVERGENCE: most}, tuple(self._ties))

    def _layer_group(self, layer: LayerOptions, times: np.ndarray) -> Group:
        places = self._places(layer)
        cost = np.array([times[int(packed), option] for option, packed in places])
        return Group(layer.name, cost, {DIVERGENCE: np.array([layer.divergence[option] for option, _ in places])})

    def _tensor_group(self, tensor: TensorOptions) -> Group:
        divergence = np.array([tensor.divergence[option] for option, _ in _forms_of(tensor)])
        return Group(tensor.name, 0.0 * divergence, {DIVERGENCE: divergence})

    def _places(self, layer: LayerOptions) -> list[tuple[int, bool]]:
        """Options of a layer: a width, and whether it reads two values a byte."""
        packs = layer.tensor is not None and self.tensors[layer.tensor].packs
        return [
            (option, packed)
            for option, bits in enumerate(layer.bits)
            for packed in (_FORMS if packs and bits <= PACKED_BITS else (False,))
        ]

    @cached_property
    def _ties(self) -> list[Tie]:
        ties = []
        for number, tensor in enumerate(self.tensors):
            readers = [place for place, layer in enumerate(self.layers) if layer.tensor == number]
            if tensor.packs and readers:
                labels = {place: [int(packed) for _, packed in self._places(self.layers[place])] for place in readers}
                own = [int(packed) for _, packed in _forms_of(tensor)]
                ties.append(Tie(labels | {len(self.layers) + number: own}))
        return ties

    def _choice(self, design: Design, solution: Solution) -> Choice:
        """What a solution stands for; narrow tensors are packed wherever they can be, whether or not it says so."""
        count = len(self.layers)
        weights = {
            layer.name: layer.bits[self._places(layer)[option][0]]
            for layer, option in zip(self.layers, solution.options[:count], strict=True)
        }
        tensors = {
            tensor.name: tensor.bits[_forms_of(tensor)[option][0]]
            for tensor, option in zip(self.tensors, solution.options[count:], strict=True)
        }
        return Choice(weights, tensors, self.milliseconds(design, weights, tensors), solution.totals[DIVERGENCE])

    def required(self, design: Design, most: float) -> Choice:
        """The fastest choice, of equally fast ones that of the least divergence.

        Narrow widths gain nothing where AGG takes longer than the matrix engines.

        Raises:
            LimitUnreachableError: None keeps the limit; the least is named.
        """
        problem = self.problem(design, most)
        found = best(problem)
        if not found:
            raise LimitUnreachableError(
                f"no widths of '{self.name}' keep the divergence at most {most:.4g}",
                f"at least {self.range()[0]:.4g}, the nearest point that can be reached",
                "raise the limit",
            )
        return self._nearest(design, problem, found[0], found[0].cost)

    def nearest(self, design: Design, milliseconds: float) -> Choice:
        """The choice of the least divergence that takes no longer, or the fastest one where all do.

        Args:
            design: Where.
            milliseconds: Most that it may take, by the cost functions.
        """
        problem = self.problem(design, self.range()[1])
        (fastest,) = best(problem)
        return self._nearest(design, problem, fastest, max(milliseconds - self.on(design).fixed, fastest.cost))

    def _nearest(self, design: Design, problem: Problem, fastest: Solution, most: float) -> Choice:
        """Of the choices within the limits of a problem that cost no more, the one of the least divergence."""
        swapped = tuple(
            Group(each.name, each.weights[DIVERGENCE], {**each.weights, MILLISECONDS: each.cost})
            for each in problem.groups
        )
        limits = {**problem.limits, MILLISECONDS: most * (1 + _ROUNDING)}
        (found,) = best(replace(problem, groups=swapped, limits=limits)) or (fastest,)
        return self._choice(design, found)


def _without_memories(design: Design) -> tuple[int, ...]:
    """What decides how long both matrix engines take."""
    geometry = design.geometry
    sides = geometry.gemm_d_rows, geometry.gemm_d_cols, geometry.gemm_l_rows, geometry.gemm_l_cols
    return *sides, geometry.gemm_l_acc_bits, geometry.lanes


def _of_options(work: LayerWork, designs: Sequence[Design], widths: Sequence[int]) -> np.ndarray:
    """Milliseconds of a work at each width on each design, [designs, 2 forms, options]."""
    spent = np.full((len(designs), len(_FORMS), len(widths)), np.inf)
    geometries = [design.geometry for design in designs]
    rates = np.array([design.clock_mhz * 1e3 for design in designs])
    for option, bits in enumerate(widths):
        for packed in _FORMS[: 1 + (bits <= PACKED_BITS)]:
            spent[:, int(packed), option] = work.cycles_on(geometries, bits, packed) / rates
    return spent


def _widest(options: LayerOptions | TensorOptions, bits: int) -> int:
    """Number of the widest option of at most so many bits, of the narrowest where all are wider."""
    return options.bits.index(max((each for each in options.bits if each <= bits), default=min(options.bits)))


def _forms_of(tensor: TensorOptions) -> list[tuple[int, bool]]:
    """Options of stored tensors: a width, and whether it is stored two a byte, which a narrow one need not be."""
    return [
        (option, packed)
        for option, bits in enumerate(tensor.bits)
        for packed in (_FORMS if tensor.packs and bits <= PACKED_BITS else (False,))
    ]


@dataclass(frozen=True, eq=False)
class Times:
    """Milliseconds of all options of a model on several designs.

    Attributes:
        model: The options.
        of_layers: By layer, [designs, 2 forms, options]; infinite where weights are too wide for packed activations.
        fixed: Of all else, [designs].
    """

    model: ModelOptions
    of_layers: tuple[np.ndarray, ...]
    fixed: np.ndarray

    @classmethod
    def of(cls, model: ModelOptions, designs: Sequence[Design]) -> "Times":
        """Times on designs; equal work on equal arrays is counted once."""
        clocks = [(_without_memories(design), design.clock_mhz) for design in designs]
        several = dict(zip(clocks, designs, strict=True))
        places = {key: place for place, key in enumerate(several)}
        arrays = np.array([places[key] for key in clocks], np.int64)
        cores = dict[tuple[LayerWork, tuple[int, ...]], np.ndarray]()

        def on_cores(work: LayerWork, layer: LayerOptions) -> np.ndarray:
            """On both matrix engines, [arrays, 2 forms, options]."""
            key = replace(work, result=""), layer.bits
            if key not in cores:
                cores[key] = _of_options(work, list(several.values()), layer.bits)
            return cores[key]

        variants = [model.on(design) for design in designs]
        tables = []
        for number, layer in enumerate(model.layers):
            narrow = np.array(layer.bits) <= PACKED_BITS
            table = np.zeros((len(designs), 2, len(layer.bits)))
            table[:, 1, ~narrow] = np.inf
            for variant in {id(each): each for each in variants}.values():
                own = np.array([each is variant for each in variants])
                for timed in variant.layers[number].works:
                    others, factors = (np.array(pair)[narrow.astype(int)] for pair in (timed.others, timed.factors))
                    table[own] += factors * np.maximum(on_cores(timed.work, layer)[arrays[own]], others)
            tables.append(table)
        return cls(model, tuple(tables), np.array([each.fixed for each in variants]))

    def of_choice(self, choice: Choice) -> Vector:
        """Of given widths on each design, [designs]."""
        weights, tensors = choice.weights, choice.tensors
        total = self.fixed.copy()
        for layer, table in zip(self.model.layers, self.of_layers, strict=True):
            packed = self.model.packed(layer, weights, tensors)
            total += table[:, int(packed), layer.bits.index(weights[layer.name])]
        return total

    @cached_property
    def options(self) -> np.ndarray:
        """All times on each design, [designs, options]."""
        tables = [table.reshape(len(table), -1) for table in self.of_layers]
        return np.concatenate([self.fixed[:, None], *tables], axis=1)

    @cached_property
    def _by_option(self) -> list[np.ndarray]:
        """By layer, [options, 2 forms, designs]: the least of few options is then that of long rows."""
        return [np.ascontiguousarray(table.transpose(2, 1, 0)) for table in self.of_layers]

    def bounds(self, most: float) -> Vector:
        """What the fastest choice on each design takes at least, [designs].

        Lagrangian relaxation: the limit of the divergence has a price, and each group of tensors with its readers is
        then chosen alone. Every price gives a bound; the largest counts.
        """
        fastest = self._relaxed(0.0)
        spread = max(most - self.model.range()[0], 1e-12)
        prices = np.geomspace(1e-3, 1e3, _PRICES) * (float(np.median(fastest)) / spread)
        return np.asarray(np.max([fastest, *(self._relaxed(price) - price * most for price in prices)], axis=0))

    def _relaxed(self, price: float) -> Vector:
        """Least sum of time and priced divergence on each design."""
        model = self.model
        total = self.fixed.copy()
        pairs = zip(self._by_option, model.layers, strict=True)
        least = [(spent + price * layer.divergence[:, None, None]).min(axis=0) for spent, layer in pairs]
        total += sum(cost[0] for cost, layer in zip(least, model.layers, strict=True) if layer.tensor is None)
        for number, tensor in enumerate(model.tensors):
            readers = [cost for cost, layer in zip(least, model.layers, strict=True) if layer.tensor == number]
            own, narrow = price * tensor.divergence, np.array(tensor.bits) <= PACKED_BITS
            if not tensor.packs or not readers:
                total += own.min() + sum(cost[0] for cost in readers)
                continue
            forms = [
                own[chosen].min(initial=np.inf) + sum(cost[form] for cost in readers)
                for form, chosen in enumerate((np.full(len(own), True), narrow))
            ]
            total += np.minimum(*forms)
        return total
