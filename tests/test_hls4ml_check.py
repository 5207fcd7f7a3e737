# SPDX-License-Identifier: Apache-2.0
"""The check names what hls4ml would get wrong, before anything is converted, and nothing else."""

from collections.abc import Callable

import numpy as np
import onnx
import pytest

from hetfab.hls.hls4ml_extension import check_model, find_problems
from hetfab.overlay.errors import Hls4mlRefusedError
from tests.qonnx_models import QonnxBuilder, cleaned, ended, mlp


def with_weights(scale: object = 2.0**-3, bits: int = 4, rank: int = 2, **quantizer: float) -> onnx.ModelProto:
    build = QonnxBuilder()
    shape = (1, 16) if rank == 2 else (1, 5, 16)
    value = build.quant(build.input("x", *shape), 2.0**-4, 8)
    weight = build.constant("w", build.random.normal(0, 0.3, (16, 8)))
    quantized = build.quant(weight, np.asarray(scale), bits, zero=quantizer.get("zero", 0))
    return ended(build, build.node("MatMul", value, quantized), *shape[:-1], 8)


def of_two(kind: str) -> onnx.ModelProto:
    build = QonnxBuilder()
    values = [build.quant(build.input(name, 8, 8), 2.0**-4, 8) for name in ("x", "u")]
    if kind == "left":
        values[0] = build.quant(build.constant("a", np.ones((8, 8))), 1.0, 4)
    return ended(build, build.node("MatMul", *values), 8, 8)


def with_node(kind: str) -> onnx.ModelProto:
    build = QonnxBuilder()
    value = build.quant(build.input("x", 1, 16), 2.0**-4, 8)
    more = [build.constant("slope", np.full(16, 0.25))] if kind == "PRelu" else []
    return build.model(build.node(kind, value, *more), 1, 16)


WRONG: dict[str, tuple[Callable[[], onnx.ModelProto], str]] = {
    "channels": (lambda: with_weights(np.full((1, 8), 0.125)), "has a scale for each channel; hls4ml crashes"),
    "scale": (lambda: with_weights(0.11), "has scales that are no powers of two, 0.109999999 among them"),
    "zero point": (lambda: with_weights(zero=1), "has a zero point; hls4ml rounds what it is added to"),
    "one bit": (lambda: with_weights(bits=1), "has one bit and a sign, which is -1 and +1; hls4ml takes -1 and 0"),
    "rank 3": (lambda: with_weights(rank=3), "multiplies a tensor of rank 3 by a matrix; hls4ml counts all axes"),
    "computed": (lambda: of_two("computed"), "multiplies two computed tensors; hls4ml writes no call for it"),
    "left": (lambda: of_two("left"), "has its constant on the left; hls4ml crashes"),
    "softmax": (lambda: with_node("Softmax"), "Softmax 'Softmax_0': is looked up in hls4ml's tables of 18 bits"),
    "prelu": (lambda: with_node("PRelu"), "PRelu 'PRelu_0': makes hls4ml crash"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_hls4ml_gets_wrong_is_refused(name: str) -> None:
    make, message = WRONG[name]
    with pytest.raises(Hls4mlRefusedError) as caught:
        check_model(cleaned(make()).model)
    assert message in str(caught.value)
    assert caught.value.found.startswith("hls4ml 1.3 would get this model wrong\n    ")
    assert caught.value.code == "hls4ml-refused"


@pytest.mark.parametrize("make", [mlp, with_weights])
def test_what_hls4ml_computes_rightly_is_not_refused(make: Callable[[], onnx.ModelProto]) -> None:
    model = mlp(biased=False) if make is mlp else with_weights()
    check_model(cleaned(model).model)


@pytest.mark.parametrize("name", ["channels", "one bit", "rank 3"])
def test_a_product_that_becomes_hetero_may_have_them(name: str) -> None:
    model = cleaned(WRONG[name][0]()).model
    check_model(model, hetero=["MatMul_0"])
    assert find_problems(model, hetero=["another"])


def test_scales_that_no_multipliers_hold_are_refused_for_hetero_too() -> None:
    model = cleaned(with_weights(0.11)).model
    (problem,) = find_problems(model, hetero=["MatMul_0"])
    assert "have scales that no 16-bit multipliers hold exactly, 0.109999999 among them" in problem.found
    assert not find_problems(cleaned(with_weights(113 / 1024)).model, hetero=["MatMul_0"])


def test_all_problems_are_named_at_once() -> None:
    model = cleaned(with_weights(0.11, bits=1, rank=3)).model
    with pytest.raises(Hls4mlRefusedError) as caught:
        check_model(model, config={"Model": {"Strategy": "Fast"}})
    lines = str(caught.value).splitlines()
    named = [line.split(":")[0].strip() for line in lines if line.startswith("    ") and "do:" not in line]
    assert named == ["Quant 'Quant_1'", "Quant 'Quant_1'", "MatMul 'MatMul_0'", "configuration of 'Model'"]


@pytest.mark.parametrize("strategy", ["distributed_arithmetic", "Fast"])
def test_a_strategy_that_hls4ml_does_not_have_is_refused(strategy: str) -> None:
    (problem,) = find_problems(cleaned(mlp(biased=False)).model, config={"LayerName": {"m": {"Strategy": strategy}}})
    assert problem.node == "configuration of 'm'"
    assert problem.found.startswith(f"Strategy '{strategy}', which hls4ml does not have")


@pytest.mark.parametrize(
    ("operator", "inputs", "found"),
    [
        ("MatMul", ["x", "w"], "multiplies by constants that no Quant makes"),
        ("Add", ["x", "b"], "takes constants that no Quant makes"),
        ("Tanh", ["x"], "is looked up in hls4ml's tables"),
    ],
)
def test_what_hls4ml_rounds_by_itself_is_refused(operator: str, inputs: list[str], found: str) -> None:
    constants = {"w": np.full((4, 4), 0.3, np.float32), "b": np.full(4, 300.7, np.float32)}
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node(operator, inputs, ["y"], name="node")],
        "g",
        [onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1, 4])],
        [onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1, 4])],
        [onnx.numpy_helper.from_array(constants[name], name) for name in inputs if name in constants],
    )
    (problem,) = find_problems(onnx.helper.make_model(graph), hetero=["node"])
    assert problem.node == f"{operator} 'node'" and problem.found.startswith(found)
