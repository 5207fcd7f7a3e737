# SPDX-License-Identifier: Apache-2.0
"""The widths of a float model as options for a search of designs: measured divergences and modelled times.

Divergences are those of ``BitSearch.table``. Times come from two whole programs on one reference design, at 8 and at 4
bits: the estimates of layers, for any design, are scaled so that their sum is what the timeline gives there. With each
other scratchpad of AGG one program at 4 bits is enough: what it changes there, it changes at 8 bits too.
"""

import math
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from hetfab.overlay.design import Design
from hetfab.overlay.search.hardware import Scratchpad
from hetfab.overlay.search.layer_work import PACKED_BITS, LayerWork
from hetfab.overlay.search.options import Choice, LayerOptions, ModelOptions, TensorOptions, TimedWork
from hetfab.quantize.assignment import Assignment
from hetfab.quantize.bit_assignment import Table, widest
from hetfab.quantize.layer_times import Timed
from hetfab.quantize.widths import Widths

#: Widths of the two programs on the reference design: activations in bytes, and two a byte.
REFERENCES = (Widths(8, 8), Widths(PACKED_BITS, PACKED_BITS))


def tensor_of(result: str) -> str:
    """The tensor of a result of the quantized model, whatever its width."""
    head, found, digits = result.rpartition(".int")
    return head if found and digits.isdigit() else result


@dataclass(frozen=True)
class Reference:
    """What is known of a model's program at one of ``REFERENCES`` on the reference design.

    Layers are named by ``tensor_of`` their results.

    Attributes:
        path: Modelled milliseconds on the critical path by layer; their sum is the whole run's.
        aggregation: Of AGG alone; of a network on samples, of layers without weights.
        packed: Results of the layers with weights that read two values a byte.
    """

    path: Mapping[str, float]
    aggregation: Mapping[str, float]
    packed: Collection[str]

    @property
    def milliseconds(self) -> float:
        """The whole run's."""
        return math.fsum(self.path.values())

    def changed(self, before: "Reference", after: "Reference") -> "Reference":
        """As this one would be if it changed as another program did."""
        aggregation = {
            name: spent * _ratio(after.aggregation.get(name, 0.0), before.aggregation.get(name, 0.0))
            for name, spent in self.aggregation.items()
        }
        ratio = _ratio(after.milliseconds, before.milliseconds)
        return Reference({name: spent * ratio for name, spent in self.path.items()}, aggregation, self.packed)


def _ratio(after: float, before: float) -> float:
    return after / before if before > 0 else 1.0


def model_options(
    name: str,
    study: Timed,
    table: Table,
    works: Mapping[str, LayerWork],
    references: tuple[Reference, Reference],
    design: Design,
    with_scratchpad: Mapping[Scratchpad, Reference] | None = None,
) -> ModelOptions:
    """Joins what is measured with what is modelled.

    Args:
        name: The model.
        study: The float model.
        table: Its options with their divergences.
        works: By layer, likewise.
        references: At each of ``REFERENCES``.
        design: The reference design.
        with_scratchpad: At the last of ``REFERENCES`` on the reference design with other scratchpads.
    """
    eight, four = references
    variants = {
        scratchpad: _options(name, study, table, works, (eight.changed(four, found), found), scratchpad.on(design))
        for scratchpad, found in (with_scratchpad or {}).items()
    }
    return replace(_options(name, study, table, works, references, design), with_scratchpad=variants)


def _options(
    name: str,
    study: Timed,
    table: Table,
    works: Mapping[str, LayerWork],
    references: tuple[Reference, Reference],
    design: Design,
) -> ModelOptions:
    """With the times of one scratchpad."""
    owners = {result: study.made_of(result)[0] for result in works}
    owned = {result: TimedWork(work, _others(work, references)) for result, work in works.items() if owners[result]}
    rest = [sum(spent for result, spent in each.aggregation.items() if result not in owned) for each in references]
    factors = _factors(owned, rest, references, design)
    timed, packing = defaultdict[str, list[TimedWork]](list), set[str]()
    for result, work in owned.items():
        layer = owners[result] or ""
        timed[layer].append(replace(work, factors=factors))
        packing |= {layer} if result in references[1].packed else set()
    # Layers without weights take less where tensors are narrow; designs are compared between both.
    fixed = math.fsum(factor * spent for factor, spent in zip(factors, rest, strict=True)) / len(rest)
    groups = list(table.activations)
    inputs = study.inputs
    layers = tuple(
        LayerOptions(
            layer,
            tuple(widest(choice) for choice in costs),
            np.array(list(costs.values())),
            tuple(timed[layer]),
            groups.index(inputs[layer]) if layer in inputs else None,
        )
        for layer, costs in table.weights.items()
    )
    tensors = []
    for group, costs in table.activations.items():
        readers = {layer for layer in table.weights if inputs.get(layer) == group}
        packs = bool(readers) and readers <= packing
        tensors.append(TensorOptions(group, tuple(c.bits for c in costs), np.array(list(costs.values())), packs))
    return ModelOptions(name, layers, tuple(tensors), fixed)


def _others(work: LayerWork, references: tuple[Reference, Reference]) -> tuple[float, float]:
    eight, four = (float(each.aggregation.get(work.result, 0.0)) for each in references)
    return eight, four


def _factors(
    works: Mapping[str, TimedWork], rest: Sequence[float], references: tuple[Reference, Reference], design: Design
) -> tuple[float, float]:
    """Of each reference, its time by the timeline over the sum of the estimates of its layers.

    The layers of a program overlap in part, which no layer's time alone shows.
    """
    factors = []
    for reference, widths, other in zip(references, REFERENCES, rest, strict=True):
        packed = reference.packed
        spent = (w.estimate(design, widths.weights, w.work.result in packed) for w in works.values())
        factors.append(reference.milliseconds / (math.fsum(spent) + other))
    return factors[0], factors[1]


def assignment_of(table: Table, weights: Mapping[str, int], tensors: Mapping[str, int]) -> Assignment:
    """The assignment that a choice of options stands for."""
    return replace(
        table.around,
        weights={
            name: next(choice for choice in costs if widest(choice) == weights[name])
            for name, costs in table.weights.items()
        },
        activations={
            name: next(choice for choice in costs if choice.bits == tensors[name])
            for name, costs in table.activations.items()
        },
    )


def chosen_assignment(table: Table, choice: Choice) -> Assignment:
    """``assignment_of`` a choice."""
    return assignment_of(table, choice.weights, choice.tensors)
