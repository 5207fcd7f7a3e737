# SPDX-License-Identifier: Apache-2.0
"""What the layers of a network on samples ask for, beside the programs that the compiler makes of them."""

from collections.abc import Mapping

import numpy as np
import pytest

from hetfab.cli.search_jobs import reference_of
from hetfab.overlay.design import IMAGE_DESIGN, default_design
from hetfab.overlay.model.bound_model import BoundModel, FedModel
from hetfab.overlay.model.cnn.integer_reader import read_integers
from hetfab.overlay.model.cnn.window import Window
from hetfab.overlay.model.reader import bindings_of
from hetfab.overlay.search.layer_work import LayerWork, image_works
from hetfab.quantize.cnn.study import CnnStudy
from hetfab.quantize.joint_options import Reference
from hetfab.quantize.widths import Widths
from tests.random_cnns import CnnBuilder

DESIGN = default_design(IMAGE_DESIGN)


def network(bits: int) -> BoundModel:
    """Two convolutions with pooling between them, and a layer of logits."""
    builder = CnnBuilder(np.random.default_rng(0), (3, 32, 32))
    window = Window((3, 3), (1, 1), (1, 1), (1, 1, 1, 1))
    first = builder.node("Relu", builder.conv("input", 64, window, bias=1))
    pooled = builder.pool("MaxPool", first, Window((2, 2), (2, 2), (1, 1), (0, 0, 0, 0)))
    halved = builder.conv(pooled, 128, Window((1, 1), (2, 2), (1, 1), (0, 0, 0, 0)), bias=1)
    second = builder.conv(builder.node("Relu", halved), 128, window, bias=1)
    model = builder.finish(builder.dense(builder.flatten(builder.node("Relu", second)), 10))
    samples = np.random.default_rng(0).normal(size=(2, 3, 32, 32)).astype(np.float32)
    study = CnnStudy.open(FedModel(model, bindings_of(model), [{"input": samples}]))
    written = study.write(study.uniform(Widths(bits, bits), weights="nearest", activations="least square error"))
    return BoundModel(written, bindings_of(written))


@pytest.fixture(scope="module", params=[8, 4])
def found(request: pytest.FixtureRequest) -> tuple[int, Mapping[str, LayerWork], Reference]:
    given = network(request.param)
    return request.param, image_works(read_integers(given.model)), reference_of(given, None, DESIGN)


def test_layers_without_weights_are_known_apart(found: tuple[int, Mapping[str, LayerWork], Reference]) -> None:
    _, works, reference = found
    assert len(works) == 4 and len(reference.aggregation) == 1
    (pooled,) = reference.aggregation
    assert reference.path[pooled] == reference.aggregation[pooled] > 0
    assert set(reference.path) - {pooled, ""} == {name.rpartition(".int")[0] or name for name in works}


def test_estimates_are_near_the_program(found: tuple[int, Mapping[str, LayerWork], Reference]) -> None:
    bits, works, reference = found
    packed = bits <= 4
    cycles = [work.cycles(DESIGN.geometry, bits, packed and number > 0) for number, work in enumerate(works.values())]
    program = sum(reference.path.values()) - sum(reference.aggregation.values())
    assert sum(cycles) / (DESIGN.clock_mhz * 1e3) == pytest.approx(program, rel=0.45)


def test_samples_are_read_without_padding_of_their_channels(
    found: tuple[int, Mapping[str, LayerWork], Reference],
) -> None:
    _, works, _ = found
    first, halved, second, _ = works.values()
    assert first.row_bytes == (3 * 16, 3 * 16) and first.row_bytes_on_l == (3 * 32, 3 * 32)
    assert first.read_bytes == (32 * 32 * 3, 32 * 32 * 3)
    # Of 16 lines a window of one line with strides of two reads 8.
    assert halved.read_bytes == (8 * 16 * 64, 8 * 16 * 32) and halved.row_bytes_on_l is None
    assert second.row_bytes == (9 * 128, 9 * 64)


def test_weights_take_what_the_core_wants_that_has_them() -> None:
    """One row of many inputs: time is that of the weights, which are narrow on GEMM-L alone."""
    wide = 64 * 512
    work = LayerWork("r", 1, (wide, wide // 2), 64, 8, (wide + 64, wide // 2 + 32), wide * 64, 0)
    two, eight = (work.cycles(DESIGN.geometry, bits, packed=False) for bits in (2, 8))
    assert two < eight / 3 and eight >= wide * 64 / 8
    without_l = LayerWork("r", 1, (wide, wide // 2), 64, 8, (wide + 64, wide // 2 + 32), wide * 64, 1 << 60)
    assert without_l.cycles(DESIGN.geometry, 2, packed=False) >= wide * 64 / 8
