# SPDX-License-Identifier: Apache-2.0
"""Times of a model's layers at each width, from whole models that are timed at one width after another.

A layer's time depends on the width of its weights and on whether what it reads is stored two values a byte, that is, in
at most 4 bits. Where a neighbour has another form, its time may differ: what is chosen is timed as a whole.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Protocol

import numpy as np
import onnx

from hetfab.overlay.model.bound_model import Evaluation
from hetfab.overlay.model.layers import Aggregation, Dense, LayerGraph, inputs_of
from hetfab.overlay.model.runtime import Feed
from hetfab.overlay.search.journal import Journal
from hetfab.quantize.assignment import Assignment, WeightChoice
from hetfab.quantize.bit_assignment import PACKED_BITS, LayerTimes, Studied
from hetfab.quantize.mixed_widths import Mix
from hetfab.quantize.study import Study
from hetfab.quantize.weights import FloatArray
from hetfab.quantize.widths import Widths

#: Milliseconds by layer's result of a quantized model.
TimeLayers = Callable[[onnx.ModelProto], Mapping[str, float]]


class Timed(Studied, Protocol):
    """A model under study whose results are known to belong to layers."""

    @property
    def samples(self) -> Sequence[Feed]:
        """The feeds."""

    @property
    def evaluation(self) -> Evaluation:
        """What models are compared on."""

    @property
    def float_logits(self) -> Sequence[FloatArray]:
        """Of the float model on each feed, [N, classes]."""

    def compared_logits(self, assignment: Assignment) -> Sequence[FloatArray]:
        """Of an assignment on each feed, of what models are compared on."""

    def divergence_of(self, compared: Sequence[FloatArray]) -> float:
        """From the float model, in nats, of what ``compared_logits`` gave."""

    @property
    def inputs(self) -> Mapping[str, str]:
        """The group that each layer with weights reads."""

    def write(self, assignment: Assignment) -> onnx.ModelProto:
        """The quantized model."""

    def made_of(self, result: str) -> tuple[str | None, str | None]:
        """The layer with weights that computes a result of the quantized model, else the group that it reads."""


class TimedGraph(Study):
    """A study of a model on a graph whose results are known to belong to layers."""

    @property
    def inputs(self) -> dict[str, str]:
        """The group that each layer with weights reads."""
        groups = {name: _group(self, layer.input) for name, layer in self.layers.items()}
        return {name: group for name, group in groups.items() if group is not None}

    @property
    def float_logits(self) -> tuple[FloatArray, ...]:
        """Of each feed, [N, classes]."""
        return self.observed.logits

    def made_of(self, result: str) -> tuple[str | None, str | None]:
        """The layer with weights that computes a result of the quantized model, else the group that it reads."""
        return _made_of(self, result)


def timed_assignments(study: Timed, weight_bits: Sequence[int], mixes: Sequence[Mix] = ()) -> dict[str, Assignment]:
    """The models that ``layer_times`` times, by their keys in the journal."""
    found = {f"time {widths}": _nearest(study, widths) for bits in weight_bits for widths in _forms(bits)}
    for mix in mixes:
        mixed = _mixed_layers(study, mix)
        for widths in _forms(mix.narrow) if mixed else ():
            assignment = _nearest(study, widths)
            found[f"time {mix} {widths}"] = replace(assignment, weights={**assignment.weights, **mixed})
    return found


def _forms(bits: int) -> tuple[Widths, Widths]:
    """A width of weights with activations of 8 and of 4 bits."""
    return Widths(bits, 8), Widths(bits, PACKED_BITS)


def _nearest(study: Timed, widths: Widths) -> Assignment:
    return study.uniform(widths, weights="nearest", activations="percentile 99.9")


def layer_times(
    study: Timed,
    weight_bits: Sequence[int],
    time_layers: TimeLayers,
    journal: Journal,
    progress: Callable[[str], None] = lambda step: None,
    mixes: Sequence[Mix] = (),
) -> LayerTimes:
    """Times a model at each width of weights, and each mix, with activations of 8 and of 4 bits.

    Args:
        study: The model.
        weight_bits: The widths.
        time_layers: Times a quantized model.
        journal: What is known.
        progress: Called after each model.
        mixes: Pairs of widths.
    """
    timed = {
        key: _timed(study, key, assignment, time_layers, journal, progress)
        for key, assignment in timed_assignments(study, weight_bits, mixes).items()
    }
    of_layers: dict[str, dict[tuple[int, bool], float]] = defaultdict(dict)
    of_groups: dict[str, dict[bool, float]] = defaultdict(lambda: defaultdict(float))
    fixed = 0.0
    for bits in weight_bits:
        for packed, widths in enumerate(_forms(bits)):
            others, spent = 0.0, defaultdict[str, float](float)
            for result, milliseconds in timed[f"time {widths}"].items():
                layer, group = study.made_of(result)
                if layer is not None:
                    spent[layer] += milliseconds
                elif group is not None and bits == weight_bits[0]:
                    of_groups[group][bool(packed)] += milliseconds
                elif group is None:
                    others += milliseconds
            # Several widths become one where a layer takes no fewer bits than it needs.
            for layer, milliseconds in spent.items():
                of_layers[layer][study.least_bits(layer, bits), bool(packed)] = milliseconds
            fixed = max(fixed, others)
    return LayerTimes(of_layers, of_groups, study.inputs, fixed, _of_mixed(study, mixes, timed))


def _timed(
    study: Timed,
    key: str,
    assignment: Assignment,
    time_layers: TimeLayers,
    journal: Journal,
    progress: Callable[[str], None],
) -> Mapping[str, float]:
    """Milliseconds by result of a model."""

    def measure() -> Mapping[str, float]:
        found = time_layers(study.write(assignment))
        progress("modelled time")
        return dict(found)

    return journal.result(key, measure)


def _of_mixed(
    study: Timed, mixes: Sequence[Mix], timed: Mapping[str, Mapping[str, float]]
) -> dict[str, dict[tuple[int, int, bool], float]]:
    """Times of the layers that can have two widths. Which channels are wide changes no time."""
    found: dict[str, dict[tuple[int, int, bool], float]] = defaultdict(dict)
    for mix in mixes:
        mixed = _mixed_layers(study, mix)
        for packed, widths in enumerate(_forms(mix.narrow) if mixed else ()):
            times = times_of_layers(study, timed[f"time {mix} {widths}"])
            for layer in mixed:
                if layer in times:
                    found[layer][mix.narrow, mix.wide, bool(packed)] = times[layer]
    return {layer: times for layer, times in found.items() if len(times) == 2 * len(mixes)}


def _mixed_layers(study: Timed, mix: Mix) -> dict[str, WeightChoice]:
    if not isinstance(study, Study):
        return {}
    chosen = {
        name: mix.choice(np.zeros(layer.weight.shape[1]), "nearest")
        for name, layer in study.layers.items()
        if study.may_mix(name)
    }
    return {name: choice for name, choice in chosen.items() if choice is not None}


def times_of_layers(study: Timed, milliseconds: Mapping[str, float]) -> dict[str, float]:
    """Milliseconds by layer with weights, from those by result."""
    found: dict[str, float] = defaultdict(float)
    for result, spent in milliseconds.items():
        layer, _ = study.made_of(result)
        if layer is not None:
            found[layer] += spent
    return dict(found)


def _made_of(study: Study, result: str) -> tuple[str | None, str | None]:
    """The layer with weights that computes a result, else the group of what it reads; none where neither is known."""
    tensor = result
    for ending in (".int", ".q"):
        head, found, digits = result.rpartition(ending)
        if found and digits.isdigit():
            tensor = head
    reads = list(_walk(study.graph, tensor, _integers(study)))
    dense = next((layer.output for layer in reads if isinstance(layer, Dense)), None)
    if dense is not None:
        return dense, None
    return None, next((group for layer in reads if (group := _group(study, layer.input))), None)


def _walk(graph: LayerGraph, tensor: str, integers: frozenset[str]) -> "list[Dense | Aggregation]":
    """Layers with weights and aggregations behind a tensor, up to what is read as integers."""
    layer = next((each for each in graph.layers if each.output == tensor), None)
    if layer is None:
        return []
    if isinstance(layer, Dense | Aggregation):
        return [layer]
    return [found for name in inputs_of(layer) if name not in integers for found in _walk(graph, name, integers)]


def _integers(study: Study) -> frozenset[str]:
    points = study.points
    norms = frozenset(name for members in points.norms for name in members)
    return frozenset((*points.stored, *points.scores, *points.arguments)) | norms


def _group(study: Study, tensor: str) -> str | None:
    return next((group for group, members in study.groups.items() if tensor in members), None)
