# SPDX-License-Identifier: Apache-2.0
"""Input that quantization cannot use, of graph models and of networks on samples: each is named in words."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from hetfab.cli.main import main
from hetfab.overlay.errors import AlreadyQuantizedError, CalibrationDataError
from hetfab.overlay.model.binding import Samples
from hetfab.overlay.model.bound_model import Evaluation, FedModel
from hetfab.overlay.model.runtime import Feed
from hetfab.quantize.cnn.post_training import quantize_cnn
from hetfab.quantize.cnn.study import CnnStudy
from hetfab.quantize.cnn.writer import float_model
from hetfab.quantize.post_training import quantize
from hetfab.quantize.study import Study
from hetfab.quantize.widths import Widths
from tests.random_cnns import random_cnn
from tests.random_models import random_case
from tests.test_cnn_methods import study_of as cnn_study_of
from tests.test_cnn_quantized import samples_of
from tests.test_study import fed


def graph_model() -> FedModel:
    return fed(random_case(6, largest_count=33))


def network() -> FedModel:
    model = random_cnn(3)
    samples = samples_of(model, 8)
    return FedModel(model, {"input": Samples(samples.shape[1:])}, [{"input": samples}], Evaluation(None, False))


KINDS: dict[str, tuple[Callable[[], FedModel], Any, Any]] = {
    "graph": (graph_model, Study, quantize),
    "samples": (network, CnnStudy, quantize_cnn),
}


def with_numbers(given: FedModel, value: float, first_only: bool) -> FedModel:
    """The feeds with other numbers: the first of each tensor, or all."""
    (feed,) = given.samples()
    changed: dict[str, np.ndarray] = {}
    for name, array in feed.items():
        if array.dtype == np.float32 and array.size:
            array = array.copy()
            array.reshape(-1)[: 1 if first_only else None] = value
        changed[name] = array
    feeds: list[Feed] = [changed]
    return replace(given, feeds=feeds)


@pytest.mark.parametrize("widths", [Widths(8, 8), Widths(2, 2)])
@pytest.mark.parametrize("value", [0.37, 0.0, -3.0])
@pytest.mark.parametrize("kind", KINDS)
def test_constant_tensors_are_quantized(kind: str, value: float, widths: Widths) -> None:
    make, study_of, _ = KINDS[kind]
    study = study_of.open(with_numbers(make(), value, first_only=False))
    assert np.isfinite(study.divergence(study.uniform(widths, weights="alternation")))


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("kind", KINDS)
def test_numbers_that_are_not_finite_are_named(kind: str, value: float) -> None:
    make, study_of, _ = KINDS[kind]
    with pytest.raises(CalibrationDataError) as caught:
        study_of.open(with_numbers(make(), value, first_only=True))
    assert caught.value.found.startswith("values of these tensors are NaN or infinite: ")
    assert caught.value.expected == "finite numbers in every tensor that becomes an integer"


@pytest.mark.parametrize("kind", KINDS)
def test_an_empty_calibration_set_is_refused(kind: str) -> None:
    make, study_of, quantized = KINDS[kind]
    for use in (study_of.open, quantized):
        with pytest.raises(CalibrationDataError, match=r"there is no (feed|sample) to calibrate with"):
            use(replace(make(), feeds=[]))


@pytest.mark.parametrize("kind", KINDS)
def test_a_quantized_model_is_not_quantized_again(kind: str) -> None:
    make, study_of, quantized = KINDS[kind]
    given = make()
    study = study_of.open(given)
    model = study.write(study.uniform(Widths(8, 8), weights="nearest", activations="min-max"))
    for use in (study_of.open, quantized):
        with pytest.raises(AlreadyQuantizedError, match="the model is quantized already: it has 'Quant' operators"):
            use(replace(given, model=model))


@pytest.mark.parametrize("asked", [("--latency", "1e-6"), ("--max-drop", "0")])
def test_targets_that_cannot_be_reached_name_the_nearest_point(
    asked: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    study = cnn_study_of()
    onnx.save(float_model(study.graph), tmp_path / "model.onnx")
    np.savez(tmp_path / "samples.npz", samples=np.concatenate([sample["input"] for sample in study.samples]))
    files = [str(tmp_path / name) for name in ("model.onnx", "samples.npz", "model.q.onnx")]
    command = ["quantize", files[0], "--samples", files[1], "-o", files[2], "--bits", "w1a8", *asked, "--json"]
    assert main(command) == 1
    error = json.loads(capsys.readouterr().out)["error"]
    limit = "1e-06 ms (modelled)" if asked[0] == "--latency" else "0 points lost"
    assert error["code"] == "limit-unreachable" and error["found"] == f"no widths reach at most {limit}"
    assert error["expected"].startswith("what can be reached: ") and " ms (modelled) with " in error["expected"]
    assert error["expected"].endswith("which is what these widths have; `--bits auto` looks for others")
    assert not Path(files[2]).exists()
