# SPDX-License-Identifier: Apache-2.0
"""Widths of one model as options with a cost in accuracy and, on any design, a modelled time; the best choice is exact.

The time of a layer is that of its work on both matrix engines (layer_work.py), or of what AGG does beside, whichever is
longer, times a factor: what the timeline simulator gives for whole programs on one design over the same estimates.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from hetfab.overlay.design import Design
from hetfab.overlay.errors import LimitUnreachableError
from hetfab.overlay.search.knapsack import Group, Problem, Solution, Tie, Vector, best
from hetfab.overlay.search.layer_work import PACKED_BITS, LayerWork

#: Quantity of a solution: the sum of the divergences that single changes cause.
DIVERGENCE = "divergence"
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
        cycles = self.work.cycles(design.geometry, bits, packed)
        return max(cycles / (design.clock_mhz * 1e3), self.others[bits <= PACKED_BITS])


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
    """

    name: str
    layers: tuple[LayerOptions, ...]
    tensors: tuple[TensorOptions, ...]
    fixed: float

    def times(self, design: Design) -> "Times":
        """Milliseconds of every option on a design."""
        return Times.of(self, [design])

    def range(self) -> tuple[float, float]:
        """Least and largest sum of divergences."""
        costs = [layer.divergence for layer in self.layers] + [tensor.divergence for tensor in self.tensors]
        return sum(float(cost.min()) for cost in costs), sum(float(cost.max()) for cost in costs)

    def milliseconds(self, design: Design, weights: Mapping[str, int], tensors: Mapping[str, int]) -> float:
        """Modelled time of given widths by the cost functions."""
        return self.fixed + sum(self.layer_milliseconds(design, weights, tensors).values())

    def layer_milliseconds(
        self, design: Design, weights: Mapping[str, int], tensors: Mapping[str, int]
    ) -> dict[str, float]:
        """The same of each layer with weights."""
        found = {}
        for layer in self.layers:
            tensor = None if layer.tensor is None else self.tensors[layer.tensor]
            packed = tensor is not None and tensor.packs and tensors[tensor.name] <= PACKED_BITS
            # Readers with wide weights need bytes, so then none finds nibbles.
            if packed and any(weights[each.name] > PACKED_BITS for each in self.layers if each.tensor == layer.tensor):
                packed = False
            spent = (work.milliseconds(design, weights[layer.name], packed) for work in layer.works)
            found[layer.name] = sum(spent)
        return found

    def uniform(self, design: Design, bits: int) -> Choice:
        """Widths of so many bits wherever that is an option, else the widest below; the time is that on a design."""
        layers, tensors = ([_widest(o, bits) for o in options] for options in (self.layers, self.tensors))
        weights = {o.name: o.bits[option] for o, option in zip(self.layers, layers, strict=True)}
        stored = {o.name: o.bits[option] for o, option in zip(self.tensors, tensors, strict=True)}
        costs = [o.divergence[option] for o, option in zip(self.layers, layers, strict=True)]
        costs += [o.divergence[option] for o, option in zip(self.tensors, tensors, strict=True)]
        return Choice(weights, stored, self.milliseconds(design, weights, stored), float(sum(costs)))

    def fastest(self, design: Design, most: float, count: int = 1) -> list[Choice]:
        """The fastest choices whose divergences add up to at most ``most``, in rising order; [] where none is.

        Exact for the sums of the table: a multiple-choice knapsack.
        """
        found = best(self.problem(design, most), count)
        return [self._choice(solution) for solution in found]

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

    def _choice(self, solution: Solution) -> Choice:
        count = len(self.layers)
        weights = {
            layer.name: layer.bits[self._places(layer)[option][0]]
            for layer, option in zip(self.layers, solution.options[:count], strict=True)
        }
        tensors = {
            tensor.name: tensor.bits[_forms_of(tensor)[option][0]]
            for tensor, option in zip(self.tensors, solution.options[count:], strict=True)
        }
        return Choice(weights, tensors, solution.cost + self.fixed, solution.totals[DIVERGENCE])

    def required(self, design: Design, most: float) -> Choice:
        """The fastest choice.

        Raises:
            LimitUnreachableError: None keeps the limit; the least is named.
        """
        found = self.fastest(design, most)
        if not found:
            raise LimitUnreachableError(
                f"no widths of '{self.name}' keep the divergence at most {most:.4g}",
                f"at least {self.range()[0]:.4g}, the nearest point that can be reached",
                "raise the limit",
            )
        return found[0]


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
    """

    model: ModelOptions
    of_layers: tuple[np.ndarray, ...]

    @classmethod
    def of(cls, model: ModelOptions, designs: Sequence[Design]) -> "Times":
        """Times on designs; equal work is counted once."""
        known: dict[object, float] = {}

        def milliseconds(timed: TimedWork, design: Design, bits: int, packed: bool) -> float:
            work = timed.work
            key = (replace(work, result=""), design.geometry, design.clock_mhz, bits, packed)
            if key not in known:
                known[key] = work.cycles(design.geometry, bits, packed) / (design.clock_mhz * 1e3)
            narrow = bits <= PACKED_BITS
            return timed.factors[narrow] * max(known[key], timed.others[narrow])

        tables = []
        for layer in model.layers:
            table = np.full((len(designs), 2, len(layer.bits)), np.inf)
            for number, design in enumerate(designs):
                for packed in _FORMS:
                    for option, bits in enumerate(layer.bits):
                        if not packed or bits <= PACKED_BITS:
                            spent = (milliseconds(work, design, bits, packed) for work in layer.works)
                            table[number, int(packed), option] = sum(spent)
            tables.append(table)
        return cls(model, tuple(tables))

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
        total = np.full(len(self.of_layers[0]) if self.of_layers else 1, float(model.fixed))
        costs = [t + price * layer.divergence for t, layer in zip(self.of_layers, model.layers, strict=True)]
        least = [cost.min(axis=2) for cost in costs]
        total += sum(cost[:, 0] for cost, layer in zip(least, model.layers, strict=True) if layer.tensor is None)
        for number, tensor in enumerate(model.tensors):
            readers = [cost for cost, layer in zip(least, model.layers, strict=True) if layer.tensor == number]
            own, narrow = price * tensor.divergence, np.array(tensor.bits) <= PACKED_BITS
            if not tensor.packs or not readers:
                total += own.min() + sum(cost[:, 0] for cost in readers)
                continue
            forms = [
                own[chosen].min(initial=np.inf) + sum(cost[:, form] for cost in readers)
                for form, chosen in enumerate((np.full(len(own), True), narrow))
            ]
            total += np.minimum(*forms)
        return total
