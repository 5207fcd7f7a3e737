# SPDX-License-Identifier: Apache-2.0
"""Small searches: a space of few designs, and models of few layers with drawn costs, times and scores."""

from collections.abc import Sequence

import numpy as np

from hetfab.overlay.design import Design
from hetfab.overlay.search.hardware import Array, Scratchpad, Space, base_design, scratchpads_of
from hetfab.overlay.search.joint import JointSearch
from hetfab.overlay.search.layer_work import LayerWork
from hetfab.overlay.search.options import Choice, LayerOptions, ModelOptions, TensorOptions, TimedWork
from hetfab.overlay.search.points import Combine, Score

BITS, TENSOR_BITS = (2, 4, 8), (4, 8)


def small_space(board: str = "pynq-z2") -> Space:
    """Nine pairs of arrays."""
    space = Space.of(base_design(board, []))
    arrays = (Array(4, 8), Array(8, 8), Array(6, 16))
    return Space(space.base, arrays, arrays, (1024, 2048), space.board)


def work(rows: int, inputs: int, channels: int, *, reach: int = 0) -> LayerWork:
    """A dense layer's work."""
    widths = -(-inputs // 64) * 64, -(-inputs // 128) * 64
    return LayerWork("r", rows, widths, channels, 8, (rows * widths[0], rows * widths[1]), inputs * channels, reach)


def drawn_model(seed: int, layers: int = 4, tensors: int = 2) -> ModelOptions:
    """Layers that read one of the tensors, or none; narrower costs more divergence, mostly."""
    random = np.random.default_rng(seed)

    def costs(count: int) -> np.ndarray:
        """Of rising widths; once in a while the narrowest is the best."""
        falling = np.append(np.sort(random.uniform(0, 1, count - 1))[::-1], 0.0)
        return falling[::-1] if random.random() < 0.2 else falling

    of_layers = []
    for number in range(layers):
        asked = work(int(random.integers(1, 400)), int(random.integers(1, 300)), int(random.integers(1, 90)))
        timed = TimedWork(asked, tuple(random.uniform(0, 0.01, 2)), tuple(random.uniform(0.5, 2, 2)))
        tensor = int(random.integers(-1, tensors))
        of_layers.append(LayerOptions(f"l{number}", BITS, costs(3), (timed,), tensor if tensor >= 0 else None))
    of_tensors = [TensorOptions(f"t{n}", TENSOR_BITS, costs(2), bool(random.integers(2))) for n in range(tensors)]
    return ModelOptions(f"m{seed}", tuple(of_layers), tuple(of_tensors), 0.25)


SPACE = small_space()
DESIGNS = list(SPACE.fitting())


def search_of(models: Sequence[ModelOptions], combine: Combine = Combine.SUM, slower: float = 1.1) -> JointSearch:
    """A search whose models lose a hundred points for each nat, and whose programs take a tenth longer than thought."""

    def score(number: int, choice: Choice) -> Score:
        return Score(100 * choice.divergence, choice.divergence)

    def time(design: Design, choices: Sequence[Choice]) -> list[float]:
        pairs = zip(models, choices, strict=True)
        return [slower * model.milliseconds(design, c.weights, c.tensors) for model, c in pairs]

    return JointSearch(SPACE, tuple(models), score, time, combine)


def sides_of(design: Design) -> tuple[int, ...]:
    geometry = design.geometry
    return geometry.gemm_d_rows, geometry.gemm_d_cols, geometry.gemm_l_rows, geometry.gemm_l_cols


def scratchpads() -> tuple[Scratchpad, ...]:
    """All that the smallest design of the space holds."""
    return tuple(scratchpads_of(SPACE.base))
