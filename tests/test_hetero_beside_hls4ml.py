# SPDX-License-Identifier: Apache-2.0
"""What plain hls4ml computes wrongly or crashes on is exact with ``HeteroDense``: both are shown, on the same model."""

import contextlib
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from hetfab.hls.hls4ml_extension import convert_qonnx
from hetfab.hls.hls4ml_extension.project import INPUT_TYPE
from hetfab.overlay.errors import Hls4mlRefusedError
from tests.qonnx_models import PART, Floats, QonnxBuilder, cleaned, drawn, ended, execute, mlp

SAMPLES = 12


def scales_per_channel() -> onnx.ModelProto:
    build = QonnxBuilder()
    value = build.quant(build.input("x", 1, 16), 2.0**-4, 8)
    scale = build.random.integers(20, 200, (1, 8)) / 2.0**10
    return ended(build, build.product(value, 16, 8, scale, 4), 1, 8)


def matrix_of_nodes() -> onnx.ModelProto:
    build = QonnxBuilder()
    value = build.quant(build.input("x", 1, 5, 16), 2.0**-4, 8)
    return ended(build, build.product(value, 16, 8, 2.0**-3, 4), 1, 5, 8)


def two_inputs() -> onnx.ModelProto:
    """As the terms of two relations meet: a free scale of one is what hls4ml loses."""
    build = QonnxBuilder()
    values = [build.quant(build.input(name, 1, size), 2.0**-4, 8) for name, size in (("x", 16), ("u", 12))]
    terms = [build.product(values[0], 16, 8, 2.0**-3, 4), build.product(values[1], 12, 8, 113 / 1024, 4)]
    return ended(build, build.node("Add", *terms), 1, 8)


def weights_of_one_bit() -> onnx.ModelProto:
    build = QonnxBuilder()
    value = build.quant(build.input("x", 1, 16), 2.0**-4, 8)
    return ended(build, build.product(value, 16, 8, 2.0**-2, 1), 1, 8)


def plain(model: onnx.ModelProto, folder: Path, inputs: dict[str, Floats]) -> Floats:
    """The model through hls4ml as it is, with inputs that are rounded once."""
    from hls4ml.converters import convert_from_onnx_model
    from hls4ml.utils import config_from_onnx_model

    clean = cleaned(model)
    config = config_from_onnx_model(clean, granularity="name", backend="Vitis", default_precision="fixed<16,6>")
    for info in clean.graph.input:
        config["LayerName"][info.name]["Precision"]["result"] = INPUT_TYPE
    project = convert_from_onnx_model(
        clean, output_dir=str(folder), backend="Vitis", io_type="io_parallel", hls_config=config, part=PART
    )
    return simulated(project, inputs)


def simulated(project: Any, inputs: dict[str, Floats]) -> Floats:
    project.compile()
    rows = [np.ascontiguousarray(values) for values in inputs.values()]
    found: Floats = project.predict(rows if len(rows) > 1 else rows[0])
    return found


@pytest.mark.parametrize(
    ("make", "crash"),
    [
        (scales_per_channel, IndexError),
        (matrix_of_nodes, None),
        (two_inputs, None),
        (weights_of_one_bit, None),
    ],
)
def test_plain_hls4ml_is_wrong_and_the_layer_exact(
    make: Callable[[], onnx.ModelProto], crash: type[Exception] | None, tmp_path: Path
) -> None:
    model = make()
    clean = cleaned(model).model
    inputs = drawn(clean, SAMPLES)
    expected = execute(clean, inputs)
    with contextlib.redirect_stdout(io.StringIO()):
        if crash is not None:
            with pytest.raises(crash):
                plain(model, tmp_path / "plain", inputs)
        else:
            found = plain(model, tmp_path / "plain", inputs)
            assert np.abs(found.reshape(expected.shape) - expected).max() > 1
        project = convert_qonnx(model, tmp_path / "ours", part=PART, io_type="io_parallel")
        found = simulated(project, inputs)
    assert np.array_equal(found.reshape(expected.shape), expected)


def test_an_mlp_with_scales_per_channel_equals_its_own_execution(tmp_path: Path) -> None:
    model = mlp(per_channel=True, biased=False)
    clean = cleaned(model).model
    inputs = drawn(clean, SAMPLES)
    with contextlib.redirect_stdout(io.StringIO()):
        found = simulated(convert_qonnx(model, tmp_path / "net", part=PART), inputs)
    assert np.array_equal(found, execute(clean, inputs))


def test_a_model_that_would_be_wrong_is_refused_before_a_file_is_written(tmp_path: Path) -> None:
    build = QonnxBuilder()
    value = build.quant(build.input("x", 1, 16), 0.1, 8)
    model = ended(build, build.product(value, 16, 8, 2.0**-3, 4), 1, 8)
    with pytest.raises(Hls4mlRefusedError, match=r"Quant 'Quant_0': has scales that are no powers of two, 0\.1"):
        convert_qonnx(model, tmp_path / "net", part=PART)
    assert not (tmp_path / "net").exists()
