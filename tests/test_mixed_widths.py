# SPDX-License-Identifier: Apache-2.0
"""The search gives the channels of a layer two widths, one for each core, where that pays."""

from dataclasses import dataclass

import numpy as np
import onnx
import pytest
from scipy.sparse import csr_matrix

from hetfab.overlay.search.journal import Journal
from hetfab.quantize.assignment import Assignment, WeightChoice
from hetfab.quantize.bit_assignment import MILLISECONDS, BitSearch, LayerTimes, Options, mean_bits
from hetfab.quantize.layer_times import TimedGraph, layer_times
from hetfab.quantize.methods import WEIGHT_METHODS
from hetfab.quantize.methods.layer_problem import LayerProblem
from hetfab.quantize.mixed_widths import MIXES, Mix
from tests.random_models import random_case
from tests.test_bit_assignment import Separable
from tests.test_study import fed

MIX = Mix(2, 8, 0.25)


def test_the_channels_that_lose_most_are_wide() -> None:
    losses = np.random.default_rng(0).random(70)
    found = MIX.choice(losses, "gptq")
    assert found is not None and found.kinds == (2, 8) and found.method == "gptq"
    wide = np.array(found.widths(70)) == 8
    assert wide.sum() == 16 and losses[wide].min() > losses[~wide].max()
    assert mean_bits(found) == pytest.approx((16 * 8 + 54 * 2) / 70)


@pytest.mark.parametrize(("channels", "wide"), [(31, 0), (32, 8), (63, 8), (64, 16)])
def test_wide_channels_are_whole_beats(channels: int, wide: int) -> None:
    assert MIX.wide_channels(channels) == wide
    assert (MIX.choice(np.zeros(channels), "nearest") is None) == (wide == 0)


@dataclass
class Halved(Separable):
    """A layer whose widest channels decide half of what is lost."""

    def divergence(self, assignment: Assignment) -> float:
        kinds = {name: choice.kinds for name, choice in assignment.weights.items()}
        return sum(0.5 * self.sensitivity[n] * (4.0 ** -each[0] + 4.0 ** -each[-1]) for n, each in kinds.items())


def search(mixed_milliseconds: float) -> BitSearch:
    """Layers of 32 channels whose time is that of their bits."""
    times = {bits: float(bits) for bits in (2, 4, 8)}
    of_layers = {name: {(b, p): t for b, t in times.items() for p in (False, True)} for name in ("w0", "w1")}
    of_mixed = {"w0": {(2, 8, p): mixed_milliseconds for p in (False, True)}}
    options = Options((2, 4, 8), (8,), activation_methods=("min-max",), mixes=(MIX,))
    losses = np.arange(32.0)
    return BitSearch(
        Halved({"w0": 5.0, "w1": 0.3, "a0": 0.0}),
        options,
        LayerTimes(of_layers, {}, {"w0": "a0", "w1": "a0"}, of_mixed=of_mixed),
        channel_losses=lambda layer, bits: losses if layer == "w0" else None,
    )


@pytest.mark.parametrize(("milliseconds", "taken"), [(2.1, True), (6.0, False)])
def test_a_mix_is_taken_where_it_pays(milliseconds: float, taken: bool) -> None:
    """At 2.1 ms it is nearer than 2 bits and faster than 4; at 6 ms 4 bits are faster and nearer."""
    (found, *_) = search(milliseconds).assign({MILLISECONDS: 4.2})
    assert (found.assignment.weights["w0"].kinds == (2, 8)) == taken
    assert found.assignment.weights["w1"].kinds == (2,)
    expected = milliseconds + 2 if taken else 4.0
    assert found.totals[MILLISECONDS] == pytest.approx(expected)


def test_losses_are_those_of_gptq_and_logits_have_none() -> None:
    study = TimedGraph.open(fed(random_case(6, largest_count=33)))
    assert study.channel_losses(study.graph.output, 2) is None
    name = next(name for name in study.layers if study.may_mix(name))
    layer = study.layers[name]
    found = WEIGHT_METHODS["gptq"](LayerProblem(layer.weight, 2, study._inputs_of(layer)))
    rows = np.concatenate([csr_matrix(each.rows(layer.input)).toarray() for each in study.emulations])
    error = rows.astype(np.float64) @ (found.restored - layer.weight)
    losses = study.channel_losses(name, 2)
    assert losses is not None and losses.shape == (layer.weight.shape[1],)
    # The moments are damped: a hundredth of their mean is added to each.
    assert (losses >= np.square(error).mean(axis=0) * (1 - 1e-5)).all()


def test_layers_that_can_mix_are_timed_as_such() -> None:
    study = TimedGraph.open(fed(random_case(6, largest_count=33)))
    seen: list[onnx.ModelProto] = []

    def time_layers(model: onnx.ModelProto) -> dict[str, float]:
        seen.append(model)
        return {name: float(len(seen)) for name in study.layers}

    times = layer_times(study, (2, 8), time_layers, Journal(None, ""), mixes=MIXES)
    able = {n for n, layer in study.layers.items() if study.may_mix(n) and layer.weight.shape[1] >= 32}
    assert able and set(times.of_mixed) == able and len(seen) == 6
    for name in able:
        assert times.of_mixed[name] == {(2, 8, False): 5.0, (2, 8, True): 6.0}
        assert times.of_layer(name, WeightChoice((8,) + (2,) * 3), True) == 6.0
    for model in seen[4:]:
        joined = {node.output[0] for node in model.graph.node if node.op_type == "Concat"}
        assert joined >= {f"{name}.weight.joined" for name in able}
