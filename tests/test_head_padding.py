# SPDX-License-Identifier: Apache-2.0
"""Heads whose width is no multiple of a group of channels are padded with zeros, and no bit of the result changes."""

from dataclasses import replace

import numpy as np
import pytest

from hetfab.overlay.errors import OperatorsUnsupportedError
from hetfab.overlay.model.layers import EdgeAttention, EdgeDot, LayerGraph
from hetfab.overlay.model.parser import parse_layers
from hetfab.overlay.model.reader import normalise
from hetfab.quantize import rewrites
from hetfab.quantize.head_padding import padded_heads
from hetfab.quantize.rewrites import rewrite
from hetfab.quantize.widths import Widths
from tests import attention_models
from tests.attention_models import AttentionBuilder, attention_case
from tests.conftest import SMALL_GEOMETRY
from tests.programs import bound_to, compiled, quantized, reference_logits, run_golden
from tests.random_models import Case, academic_graph
from tests.test_whole_programs import assert_equals_onnxruntime

NAMES = ("rgat", "han", "simple-hgn", "hgt")


@pytest.fixture(params=[(2, 5), (3, 4)], ids=lambda form: f"{form[0]} heads of {form[1]}")
def heads(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> tuple[int, int]:
    """The models get heads of this number and width."""
    count, width = request.param
    monkeypatch.setattr(attention_models, "HEADS", count)
    monkeypatch.setattr(attention_models, "WIDTH", width)
    monkeypatch.setattr(attention_models, "CHANNELS", count * width)
    defaults = {"heads": (count,), "scores": (count,)}
    for name, values in defaults.items():
        monkeypatch.setattr(getattr(AttentionBuilder, name), "__defaults__", values)
    return count, width


def layers_of(case: Case) -> LayerGraph:
    return rewrite(parse_layers(normalise(case.model)))


@pytest.mark.parametrize("name", NAMES)
def test_padded_models_compute_what_the_file_without_padding_does(
    name: str, heads: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    case = attention_case(name)
    model = quantized(case).model
    bound = bound_to(compiled(model, case.graph, SMALL_GEOMETRY), case.graph)
    assert_equals_onnxruntime(run_golden(bound), bound, model, case.graph)
    monkeypatch.setattr(rewrites, "REWRITES", tuple(step for step in rewrites.REWRITES if step is not padded_heads))
    unpadded = quantized(case).model
    with pytest.raises(OperatorsUnsupportedError, match=f"has heads of {heads[1]} channels; they take a multiple of 8"):
        compiled(unpadded, case.graph, SMALL_GEOMETRY)
    expected = reference_logits(unpadded, case.graph)
    np.testing.assert_array_equal(reference_logits(model, case.graph), expected)


@pytest.mark.parametrize("name", NAMES)
def test_heads_take_whole_groups(name: str, heads: tuple[int, int]) -> None:
    layers = layers_of(attention_case(name))
    count, width = heads
    attended = [layer for layer in layers.layers if isinstance(layer, EdgeAttention | EdgeDot)]
    expected = {count * (-(-width // 8) * 8)}
    several = [layer for layer in attended if isinstance(layer, EdgeDot) or layers.channels[layer.source_scores] > 1]
    assert {layers.channels[layer.input] for layer in several} == expected
    assert {layers.channels[layer.keys] for layer in attended if isinstance(layer, EdgeDot)} <= expected


def test_narrow_weights_hold_the_zeros(heads: tuple[int, int]) -> None:
    case = attention_case("hgt")
    model = quantized(case, Widths(1, 8)).model
    bound = bound_to(compiled(model, case.graph, SMALL_GEOMETRY), case.graph)
    assert_equals_onnxruntime(run_golden(bound), bound, model, case.graph)


def test_models_with_whole_groups_stay_as_they_are() -> None:
    for name in NAMES:
        layers = parse_layers(normalise(attention_case(name).model))
        assert padded_heads(layers) is layers


def refused(builder: AttentionBuilder, output: str, case: Case) -> list[str]:
    with pytest.raises(OperatorsUnsupportedError) as caught:
        layers_of(replace(case, model=builder.finish(output)))
    assert caught.value.expected == "heads of a multiple of 8 channels, or dense layers before and behind attention"
    return list(caught.value.refused)


def test_heads_that_end_the_model_are_refused(heads: tuple[int, int]) -> None:
    graph = academic_graph(np.random.default_rng(0), 20, 10, 5)
    builder = AttentionBuilder(np.random.default_rng(0), graph)
    rows = builder.dense(builder.features("paper"), heads[0] * heads[1])
    view = builder.heads(rows)
    found = builder.attention(view, builder.scores(view), builder.scores(view), "cites", "paper", heads[0] * heads[1])
    case = Case(builder.finish(found), graph)
    assert refused(builder, found, case) == [f"'{found}' has heads of {heads[1]} channels and is the model's output"]


def test_heads_of_features_are_refused() -> None:
    graph = academic_graph(np.random.default_rng(0), 20, 10, 5)
    features = {**graph.features, "paper": np.ones((20, 10), np.float32)}
    graph = replace(graph, features=features)
    builder = AttentionBuilder(np.random.default_rng(0), graph)
    view = builder.heads(builder.features("paper"))
    found = builder.attention(view, builder.scores(view), builder.scores(view), "cites", "paper", 10)
    found = builder.dense(found, 3)
    case = Case(builder.finish(found), graph)
    assert refused(builder, found, case) == ["'x_paper' has heads of 5 channels and is an input"]
