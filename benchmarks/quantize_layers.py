# SPDX-License-Identifier: Apache-2.0
"""Rounding of single layers: seeded ones with correlated inputs, and the shapes of ResNet-18's and ViT's blocks."""

from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np
import scipy.special

from hetfab.quantize.methods import WEIGHT_METHODS
from hetfab.quantize.methods.layer_problem import LayerInputs, LayerProblem
from hetfab.quantize.methods.square_error import least_square_error
from hetfab.quantize.ranges import choose

_LAYERS, _INPUTS, _OUTPUTS, _ROWS = 20, 128, 64, 2048
#: Input and output channels of the matrices of a block; convolutions are matrices of 9 taps.
_RESNET = {f"conv{stage}": (9 * width, width) for stage, width in enumerate((64, 128, 256), 2)}
_VIT = {"qkv": (192, 576), "projection": (192, 192), "expansion": (192, 768), "contraction": (768, 192)}


def seeded_layer(seed: int) -> LayerProblem:
    """A matrix of normal weights whose inputs are ``A z``, with lognormal A and normal z."""
    random = np.random.default_rng(seed)
    mixing = random.lognormal(0.0, 1.0, (_INPUTS, _INPUTS))
    rows = (random.standard_normal((_ROWS, _INPUTS)) @ mixing.T).astype(np.float32)
    weight = random.standard_normal((_INPUTS, _OUTPUTS)).astype(np.float32)
    return LayerProblem(weight, 8, LayerInputs((rows,)), free=True)


def relative_error(problem: LayerProblem, method: str, bits: int) -> float:
    """Error of the layer's outputs as a share of them, mean squares."""
    found = WEIGHT_METHODS[method](replace(problem, bits=bits))
    error = problem.losses(found.restored).sum()
    return float(error / problem.losses(np.zeros(problem.weight.shape)).sum())


@lru_cache
def alternation_figures() -> dict[str, float]:
    """Output error of the alternation as a share of GPTQ's and of round-to-nearest's, means over the seeded layers."""
    problems = [seeded_layer(seed) for seed in range(_LAYERS)]
    errors = {
        (method, bits): float(np.mean([relative_error(problem, method, bits) for problem in problems]))
        for bits in (2, 3, 4)
        for method in ("nearest", "gptq", "alternation")
    }
    return {
        f"alternation_over_gptq_{bits}": errors["alternation", bits] / errors["gptq", bits] for bits in (2, 3, 4)
    } | {"alternation_over_rtn_2": errors["alternation", 2] / errors["nearest", 2]}


def _block(name: str, inputs: int, outputs: int) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Rows as such a layer reads them, and its weights."""
    random = np.random.default_rng(inputs)
    rows = random.standard_normal((_ROWS, inputs)) * random.lognormal(0.0, 0.7, inputs)
    if name.startswith("conv"):
        rows = np.maximum(rows, 0)
    elif name == "contraction":
        rows = rows * scipy.special.ndtr(rows)
    weight = random.standard_normal((inputs, outputs)) * random.lognormal(0.0, 0.5, outputs) / np.sqrt(inputs)
    return rows.astype(np.float32), weight.astype(np.float32)


def block_figures() -> dict[str, Any]:
    """Signal to noise of each matrix of the blocks, in dB, of ours at three widths and of onnxruntime at 8 bits."""
    found: dict[str, Any] = {}
    for network, shapes in (("resnet18", _RESNET), ("vit", _VIT)):
        rows = {name: _layer_figures(*_block(name, *shape)) for name, shape in shapes.items()}
        found[f"{network}_layers_sqnr_db"] = rows
        for method in next(iter(rows.values())):
            found[f"{network}_{method}_sqnr_db"] = float(np.mean([each[method] for each in rows.values()]))
    return found


def _layer_figures(rows: np.ndarray[Any, Any], weight: np.ndarray[Any, Any]) -> dict[str, float]:
    exact = rows.astype(np.float64) @ weight
    found = {}
    for label, method, bits, activation in (
        ("rtn_w4a8", "nearest", 4, 8),
        ("w8a8", "nearest", 8, 8),
        ("w4a8", "alternation", 4, 8),
        ("w2a8", "alternation", 2, 8),
        ("rtn_w2a8", "nearest", 2, 8),
    ):
        problem = LayerProblem(weight, bits, LayerInputs((rows,)))
        rounded = WEIGHT_METHODS[method](problem)
        signed = bool((rows < 0).any())
        chosen = choose(rows[rows != 0], least_square_error, bits=activation, signed=signed)
        steps = np.clip(np.rint(rows / chosen.scale), chosen.lowest, chosen.highest) * chosen.scale
        found[label] = _decibels(exact, steps @ rounded.restored)
    return found | {f"ort_{name}": _decibels(exact, _runtime(rows, weight, name)) for name in ("minmax", "percentile")}


def _decibels(exact: np.ndarray[Any, Any], found: np.ndarray[Any, Any]) -> float:
    return float(10 * np.log10(np.square(exact).sum() / np.square(found - exact).sum()))


def _runtime(rows: np.ndarray[Any, Any], weight: np.ndarray[Any, Any], name: str) -> np.ndarray[Any, Any]:
    """A layer that onnxruntime quantizes."""
    import tempfile
    from pathlib import Path

    import onnx
    import onnx.helper
    import onnx.numpy_helper
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static

    from hetfab.overlay.model.runtime import run_model

    float_type = onnx.TensorProto.FLOAT
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("MatMul", ["x", "w"], ["y"])],
        "layer",
        [onnx.helper.make_tensor_value_info("x", float_type, ["rows", rows.shape[1]])],
        [onnx.helper.make_tensor_value_info("y", float_type, ["rows", weight.shape[1]])],
        [onnx.numpy_helper.from_array(weight, "w")],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 20)], ir_version=10)

    class Reader:
        feeds = iter([{"x": rows}])

        def get_next(self) -> Any:
            return next(self.feeds, None)

    with tempfile.TemporaryDirectory() as folder:
        given, made = Path(folder) / "float.onnx", Path(folder) / "quantized.onnx"
        onnx.save(model, given)
        quantize_static(
            str(given),
            str(made),
            Reader(),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=CalibrationMethod.MinMax if name == "minmax" else CalibrationMethod.Percentile,
            extra_options={"ActivationSymmetric": True, "WeightSymmetric": True},
        )
        return run_model(onnx.load(made), {"x": rows}, ["y"])[0]
