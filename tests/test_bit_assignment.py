# SPDX-License-Identifier: Apache-2.0
"""Widths for each layer and tensor: measured alone, chosen by a knapsack, measured together, within limits."""

import errno
import itertools
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, TextIO, cast

import numpy as np
import pytest

from hetfab.driver.graph.model_inputs import model_bindings, model_feeds, with_hops
from hetfab.overlay.errors import LimitUnreachableError, OutputUnwritableError
from hetfab.overlay.model.bound_model import FedModel
from hetfab.overlay.model.reader import check_model, normalise
from hetfab.overlay.search import journal as journal_module
from hetfab.overlay.search.journal import Journal
from hetfab.quantize.assignment import ActivationChoice, Assignment, WeightChoice
from hetfab.quantize.bit_assignment import (
    ACTIVATION_BITS,
    BYTES,
    MILLISECONDS,
    WEIGHT_BITS,
    BitSearch,
    LayerTimes,
    Options,
)
from hetfab.quantize.study import AverageBits, Study
from hetfab.quantize.widths import Widths
from tests.random_models import academic_case


@dataclass
class Layer:
    weight: np.ndarray[tuple[int, ...], np.dtype[np.float32]]
    bias: np.ndarray[tuple[int, ...], np.dtype[np.float32]] | None = None


@dataclass
class Separable:
    """A model whose divergence is a sum over its layers and groups, so that the knapsack is exact."""

    sensitivity: Mapping[str, float]
    exact: Mapping[str, int] = field(default_factory=dict)
    measured: int = 0
    crashes_after: int = 1 << 30

    @property
    def layers(self) -> dict[str, Layer]:
        return {name: Layer(np.ones((4, 2 + i), np.float32)) for i, name in enumerate(self._named("w"))}

    @property
    def groups(self) -> dict[str, tuple[str, ...]]:
        return {name: (name,) for name in self._named("a")}

    def _named(self, first: str) -> list[str]:
        return [name for name in self.sensitivity if name.startswith(first)]

    def uniform(self, widths: Widths, *, weights: str, activations: str) -> Assignment:
        return Assignment(
            {name: WeightChoice(widths.weights, weights) for name in self.layers},
            {name: ActivationChoice(widths.activations, activations) for name in self.groups},
        )

    def least_bits(self, layer: str, bits: int) -> int:
        return bits

    def exact_bits(self, group: str) -> int | None:
        return self.exact.get(group)

    def divergence(self, assignment: Assignment) -> float:
        if self.measured >= self.crashes_after:
            raise KeyboardInterrupt
        self.measured += 1
        bits = {name: choice.bits for name, choice in assignment.weights.items()}
        bits |= {name: choice.bits for name, choice in assignment.activations.items()}
        return sum(self.sensitivity[name] * 4.0 ** -int(np.max(width)) for name, width in bits.items())

    def average_bits(self, assignment: Assignment) -> AverageBits:
        weights = [np.max(choice.bits) * (i + 1) for i, choice in enumerate(assignment.weights.values())]
        activations = [choice.bits for choice in assignment.activations.values()]
        return AverageBits(float(np.sum(weights) / sum(range(1, len(weights) + 1))), float(np.mean(activations)))


NARROW = Options(weights=(2, 4, 8), activations=(3, 4, 8), activation_methods=("percentile 99.9",))


def separable() -> Separable:
    return Separable({"w0": 5.0, "w1": 0.3, "w2": 1.0, "a0": 2.0, "a1": 0.05})


def everything(studied: Separable, limits: Mapping[str, float]) -> float:
    """The least divergence of all assignments within limits of average widths."""
    found = []
    for weights in itertools.product(NARROW.weights, repeat=3):
        for activations in itertools.product(NARROW.activations, repeat=2):
            assignment = studied.uniform(Widths(), weights="nearest", activations="percentile 99.9")
            for name, bits in zip(studied.layers, weights, strict=True):
                assignment = assignment.with_weights(name, WeightChoice(bits))
            for name, bits in zip(studied.groups, activations, strict=True):
                assignment = assignment.with_activations(name, ActivationChoice(bits))
            average = studied.average_bits(assignment)
            if average.weights <= limits[WEIGHT_BITS] and average.activations <= limits[ACTIVATION_BITS]:
                found.append(studied.divergence(assignment))
    return min(found)


@pytest.mark.parametrize("limits", [(3.0, 4.5), (2.4, 3.5), (5.0, 8.0), (2.0, 3.0)])
def test_the_best_assignment_is_that_of_trying_everything(limits: tuple[float, float]) -> None:
    studied = separable()
    named = dict(zip((WEIGHT_BITS, ACTIVATION_BITS), limits, strict=True))
    found = BitSearch(studied, NARROW).assign(named)
    assert found[0].divergence == pytest.approx(everything(studied, named))
    average = studied.average_bits(found[0].assignment)
    assert found[0].totals[WEIGHT_BITS] == pytest.approx(average.weights) and average.weights <= limits[0]
    assert found[0].totals[ACTIVATION_BITS] == pytest.approx(average.activations) and average.activations <= limits[1]
    assert [each.divergence for each in found] == sorted(each.divergence for each in found)


def test_the_size_is_that_of_the_weights() -> None:
    studied = separable()
    (found, *_) = BitSearch(studied, NARROW).assign({BYTES: 20.0})
    bits = [found.assignment.weights[name].bits for name in studied.layers]
    assert found.totals[BYTES] == sum(4 * (2 + i) * int(np.max(b)) / 8 for i, b in enumerate(bits)) <= 20.0


def test_a_limit_that_cannot_hold_names_the_nearest_point() -> None:
    with pytest.raises(LimitUnreachableError) as error:
        BitSearch(separable(), NARROW).assign({WEIGHT_BITS: 3.0, ACTIVATION_BITS: 2.5})
    assert str(error.value) == (
        "no widths keep activation bits at most 2.5, with weight bits at most 3\n"
        "  expected: at least 3, the nearest point that can be reached\n"
        "  do: raise the limit, or allow narrower widths"
    )


def test_a_tensor_that_a_width_holds_exactly_gets_no_wider_one() -> None:
    studied = separable()
    studied.exact = {"a0": 1, "a1": 4}
    table = BitSearch(studied, NARROW).table(
        studied.uniform(Widths(), weights="nearest", activations="percentile 99.9")
    )
    assert [choice.bits for choice in table.activations["a0"]] == [3]
    assert [choice.bits for choice in table.activations["a1"]] == [3, 4]


def times() -> LayerTimes:
    """Layers whose time is that of their bits, half where they read packed tensors; a1 is read by no layer."""
    of_layers = {
        name: {(bits, packed): bits * (0.5 if packed else 1.0) for bits in NARROW.weights for packed in (False, True)}
        for name in ("w0", "w1", "w2")
    }
    return LayerTimes(of_layers, {"a1": {False: 4.0, True: 2.0}}, {"w0": "a0", "w1": "a0", "w2": "a1"})


def test_time_counts_the_form_of_what_a_layer_reads() -> None:
    studied = separable()
    for found in BitSearch(studied, NARROW, times=times()).assign({MILLISECONDS: 12.0}):
        assignment = found.assignment
        packed = {name: choice.bits <= 4 for name, choice in assignment.activations.items()}
        total = 2.0 if packed["a1"] else 4.0
        for name, choice in assignment.weights.items():
            total += times().of_layers[name][int(np.max(choice.bits)), packed[times().inputs[name]]]
        assert found.totals[MILLISECONDS] == pytest.approx(total) and total <= 12.0


def test_the_curve_falls_from_the_fastest_to_the_nearest() -> None:
    search = BitSearch(separable(), NARROW, times=times())
    curve = search.curve(MILLISECONDS, points=6)
    milliseconds = [each.totals[MILLISECONDS] for each in curve]
    assert milliseconds == sorted(milliseconds) and milliseconds[0] == 5.0
    assert all(a.divergence > b.divergence for a, b in itertools.pairwise(curve))
    assert curve[-1].divergence == pytest.approx(sum(separable().sensitivity.values()) * 4.0**-8)


# Interrupted


def test_an_interrupted_search_goes_on_where_it_stopped(tmp_path: Path) -> None:
    path, limits = tmp_path / "search.journal", {WEIGHT_BITS: 3.0}
    whole = separable()
    expected = BitSearch(whole, NARROW).assign(limits)
    stopped = separable()
    stopped.crashes_after = 7
    with pytest.raises(KeyboardInterrupt), Journal(path, "model") as journal:
        BitSearch(stopped, NARROW, journal=journal).assign(limits)
    with path.open("a", encoding="utf-8") as file:
        file.write('{"key": "divergence cut o')
    again = separable()
    with Journal(path, "model") as journal:
        assert len(journal) == 7
        found = BitSearch(again, NARROW, journal=journal).assign(limits)
    assert found == expected and again.measured == whole.measured - 7
    assert not path.exists()


def test_the_journal_of_another_search_is_not_used(tmp_path: Path) -> None:
    path = tmp_path / "search.journal"
    for text in ('{"search": "other"}\n{"key": "k", "value": 1}\n', "not json\n", '{"a": 1}\n'):
        path.write_text(text, encoding="utf-8")
        with Journal(path, "model") as journal:
            assert journal.result("k", lambda: 2) == 2


@pytest.mark.parametrize(
    "line", ["[" * 100_000, '{"key": [], "value": 2}', '{"search": "model"}', '{"key": null, "value": 2}']
)
def test_a_journal_is_used_up_to_what_is_none(line: str, tmp_path: Path) -> None:
    path = tmp_path / "search.journal"
    path.write_text('{"search": "model"}\n{"key": "k", "value": 1}\n' + line + "\n", encoding="utf-8")
    with Journal(path, "model") as journal:
        assert len(journal) == 1 and journal.known("k") == 1


def test_a_journal_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(OutputUnwritableError, match=r"search\.journal"):
        Journal(tmp_path / "absent" / "search.journal", "model")


class FullDisk:
    """A file on a disk without room, which says so at each write and again when it is closed."""

    def refuse(self, *_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    write = flush = close = refuse


def test_a_journal_whose_disk_is_full_is_named_and_its_results_stay(tmp_path: Path) -> None:
    path = tmp_path / "search.journal"
    found = r"cannot write the journal '.*search\.journal': No space left on device"
    with pytest.raises(OutputUnwritableError, match=found), Journal(path, "model") as journal:
        journal.note("k", 1)
        journal._file = cast(TextIO, FullDisk())
        journal.note("l", 2)
    with Journal(path, "model") as journal:
        assert len(journal) == 1 and journal.known("k") == 1


def test_a_journal_that_goes_on_is_never_shorter_on_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "search.journal"
    with pytest.raises(RuntimeError), Journal(path, "model") as journal:
        journal.note("k", 1)
        raise RuntimeError
    before = path.read_text(encoding="utf-8")

    def stopped(given: Path, write: Any) -> None:
        assert given.read_text(encoding="utf-8") == before
        raise KeyboardInterrupt

    monkeypatch.setattr(journal_module, "write_atomic", stopped)
    with pytest.raises(KeyboardInterrupt):
        Journal(path, "model")
    assert path.read_text(encoding="utf-8") == before


# A model on a graph


@cache
def study() -> Study:
    case = academic_case()
    model = check_model(normalise(case.model), "the float model")
    bindings = model_bindings(model, case.graph)
    fed = FedModel(model, bindings, [model_feeds(model, bindings, case.graph)])
    return Study.open(with_hops(fed, case.graph))


def test_a_graph_model_gets_widths_within_its_averages() -> None:
    options = Options(weights=(2, 4, 8), activations=(4, 8), activation_methods=("percentile 99.9",))
    found = BitSearch(study(), options).assign({WEIGHT_BITS: 4.0, ACTIVATION_BITS: 6.0}, rounds=1, count=5)
    average = study().average_bits(found[0].assignment)
    assert average.weights <= 4.0 and average.activations <= 6.0
    assert found[0].totals[WEIGHT_BITS] == pytest.approx(average.weights)
    assert found[0].totals[ACTIVATION_BITS] == pytest.approx(average.activations)
    assert found[0].divergence == study().divergence(found[0].assignment)
    same = study().uniform(Widths(4, 4))
    assert found[0].divergence < study().divergence(same)
