# SPDX-License-Identifier: Apache-2.0
"""A QONNX model of dense layers that hetfab did not quantize runs on the overlay, and equals its own execution."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest

from hetfab.cli.main import main
from hetfab.overlay.errors import OperatorsUnsupportedError
from hetfab.overlay.model.cnn.integer_reader import read_integers
from hetfab.overlay.model.cnn.interpreter import logits
from tests.qonnx_models import QonnxBuilder, cleaned, ended, execute, mlp


def biased(bias_scale: float, steps: int) -> onnx.ModelProto:
    """A product at a scale of 2^-7, and a bias of up to some steps of a scale of its own."""
    build = QonnxBuilder()
    value = build.product(build.quant(build.input("x", 1, 16), 2.0**-4, 8), 16, 8, 2.0**-3, 4)
    bias = build.quant(build.constant("bias", np.linspace(-steps, steps, 8) * bias_scale), bias_scale, 8)
    return build.model(build.node("Add", value, bias), 1, 8)


def rounded() -> onnx.ModelProto:
    """A model that ends with a quantizer, as exporters of QONNX like to."""
    build = QonnxBuilder()
    value = build.product(build.quant(build.input("x", 1, 16), 2.0**-4, 8), 16, 8, 2.0**-3, 4)
    return ended(build, value, 1, 8)


@pytest.mark.parametrize("make", [mlp, lambda: mlp(per_channel=True), rounded])
def test_the_overlay_gives_qonnx_s_results(
    make: Callable[[], onnx.ModelProto], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = cleaned(make()).model
    onnx.save(model, tmp_path / "mlp.onnx")
    samples = np.random.default_rng(5).normal(0, 2, (40, 16)).astype(np.float32)
    np.savez(tmp_path / "samples.npz", samples=samples)
    program, output = str(tmp_path / "mlp.hfp"), tmp_path / "found.npz"
    assert main(["compile", str(tmp_path / "mlp.onnx"), "-o", program]) == 0
    assert main(["run", program, "--samples", str(tmp_path / "samples.npz"), "-o", str(output)]) == 0
    capsys.readouterr()
    integers = read_integers(model)
    with np.load(output) as found:
        logit = found["logits"]
    expected = execute(model, {"global_in": samples})
    assert np.array_equal(logit * integers.output.scale, expected)
    assert np.abs(expected).max() > 1


@pytest.mark.parametrize("scale", [2.0**-7, 2.0**-5, 3 * 2.0**-7])
def test_a_bias_on_the_products_grid_is_taken_at_any_scale(scale: float) -> None:
    model = cleaned(biased(scale, 100)).model
    samples = np.random.default_rng(5).normal(0, 2, (40, 16)).astype(np.float32)
    integers = read_integers(model)
    found = logits(integers, samples) * integers.output.scale
    assert np.array_equal(found, execute(model, {"global_in": samples}))


@pytest.mark.parametrize(
    ("scale", "message"),
    [
        (2.0**-8, "has values between the steps of the products' scale"),
        (2.0**24, "takes more than 32 bits at the scale of the products"),
    ],
)
def test_a_bias_off_the_grid_is_refused(scale: float, message: str) -> None:
    with pytest.raises(OperatorsUnsupportedError, match=f"the bias 'Quant_2_out0' {message}"):
        read_integers(cleaned(biased(scale, 7)).model)
