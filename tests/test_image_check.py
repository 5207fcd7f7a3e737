# SPDX-License-Identifier: Apache-2.0
"""Every kind of layer of ResNet-18 and MobileNetV2 on small images, by the benchmark that checks published sizes."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from hetfab.hls.build.emulator import Bodies
from hetfab.overlay.design import IMAGE_DESIGN, Design, default_design
from hetfab.overlay.model.cnn.integer import IntegerCnn, Product
from hetfab.overlay.model.cnn.window import Window
from tests.image_programs import SMALL_IMAGES, bound_images, differing
from tests.outside import module
from tests.programs import design_of, run_golden

CHECK: Any = module("benchmarks.image_check")
SMALL = design_of(SMALL_IMAGES)
KINDS = {
    "resnet18": {"conv", "largest", "conv + add", "mean", "dense"},
    "mobilenet_v2": {"conv", "depthwise", "conv + add", "mean", "dense"},
}


@pytest.fixture(scope="module", params=KINDS)
def network(request: pytest.FixtureRequest) -> tuple[str, IntegerCnn, Any]:
    """A network's name, integer layers and sample: an eighth of the channels, images of 32 x 32."""
    name = str(request.param)
    return name, *CHECK.quantized(name, 32, CHECK.SEEDS[:2], width=1 / 8)


@pytest.mark.parametrize(
    ("design", "bodies"), [(SMALL, Bodies.PLAIN), (default_design(IMAGE_DESIGN), Bodies.HOST)], ids=["plain", "host"]
)
def test_emulator_and_golden_models_agree_on_every_layer(
    network: tuple[str, IntegerCnn, Any], design: Design, bodies: Bodies
) -> None:
    name, integers, sample = network
    found = CHECK.checked(integers, sample, design, CHECK.SEEDS[2], bodies=(bodies,))
    assert found.equal
    assert {layer.kind for layer in found.layers} == KINDS[name]
    assert len(found.layers) == len(integers.layers)
    for layer in found.layers:
        assert layer.on_chip or (layer.values == np.prod(layer.shape) and 0 < layer.corners <= layer.edges)


def test_a_wrong_bias_is_found_in_its_layer_by_tiles_and_by_values(
    monkeypatch: pytest.MonkeyPatch, network: tuple[str, IntegerCnn, Any]
) -> None:
    """What is compiled has another bias than what is compared; tiles behind it agree with what they read."""
    _, integers, sample = network
    first = integers.layers[0]
    assert isinstance(first, Product)
    wrong = replace(first, bias=first.bias + 100)
    changed = replace(integers, layers=(wrong, *integers.layers[1:]))
    compile_cnn = CHECK.compile_cnn
    monkeypatch.setattr(CHECK, "compile_cnn", lambda _, design, *, keep: compile_cnn(changed, design, keep=keep))
    found = CHECK.checked(integers, sample, SMALL, CHECK.SEEDS[2], bodies=(Bodies.PLAIN,))
    assert found.layers[0].tiles_differing and found.layers[0].values_differing
    assert found.layers[1].values_differing and not found.layers[1].tiles_differing
    assert not found.differing_of_golden and not found.equal


def test_parameters_beyond_their_memory_come_a_chunk_at_a_time(network: tuple[str, IntegerCnn, Any]) -> None:
    _, integers, sample = network
    assert max(layer.weight.shape[-1] for layer in integers.products()) > 8 * 4
    bound = bound_images(integers, sample, replace(SMALL_IMAGES, par_words=4))
    assert differing(integers, sample, bound, run_golden(bound)) == []


def test_tiles_cover_an_image_and_the_sample_holds_all_at_its_edges() -> None:
    tiles = CHECK.tiles_of((30, 9, 20))
    count = np.zeros((30, 9, 20), np.int64)
    for tile in tiles:
        tile.of(count)[...] += 1
    assert np.all(count == 1)
    chosen = CHECK.sampled(tiles, np.random.default_rng(0))
    assert [tile for tile in chosen if tile.edge] == [tile for tile in tiles if tile.edge]
    assert sum(tile.corner for tile in chosen) == 4 * 3
    many = CHECK.tiles_of((64, 64, 8))
    assert len(CHECK.sampled(many, np.random.default_rng(0))) == sum(tile.edge for tile in many) + CHECK.TILES


def test_taps_beyond_the_image_are_padding() -> None:
    image = np.arange(1, 7).reshape(2, 3, 1)
    tile = CHECK.Tile((0, 1), (0, 2), (0, 1), True, True)
    found = CHECK.taps(image, Window((2, 2), (1, 2), (1, 1), (1, 1, 0, 0)), tile, padding=-9)
    assert found[..., 0].tolist() == [[[[-9, -9], [-9, 1]], [[-9, -9], [2, 3]]]]
