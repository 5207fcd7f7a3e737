# SPDX-License-Identifier: Apache-2.0
"""A constant that is added to a dense layer, or to a sum with one, becomes that layer's bias."""

import numpy as np
import onnx
import onnx.helper as oh
import onnx.numpy_helper
import pytest

from hetfab.overlay.errors import OperatorsUnsupportedError
from hetfab.overlay.model.layers import Bias, Dense, LayerGraph
from hetfab.overlay.model.parser import parse_layers

FLOAT, INT64 = onnx.TensorProto.FLOAT, onnx.TensorProto.INT64
BIAS = np.array([1.0, -2.0, 0.5], np.float32)


def parse(*nodes: onnx.NodeProto) -> LayerGraph:
    """Layers of a model over one relation of type a, with 5 features, 3 classes and the vector ``bias``."""
    inputs: list[tuple[str, int, list[str | int]]] = [
        ("x", FLOAT, ["N", 5]),
        ("src", INT64, ["E"]),
        ("dst", INT64, ["E"]),
        ("n", INT64, []),
    ]
    weights = {"W": np.ones((5, 3), np.float32), "V": np.ones((5, 3), np.float32), "bias": BIAS}
    graph = oh.make_graph(
        nodes,
        "g",
        [oh.make_tensor_value_info(*entry) for entry in inputs],
        [oh.make_tensor_value_info("y", FLOAT, ["N", 3])],
        [onnx.numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    return parse_layers(oh.make_model(graph, opset_imports=[oh.make_opsetid("", 20), oh.make_opsetid("hgnn", 2)]))


ROOT = oh.make_node("MatMul", ["x", "W"], ["root"])
MEAN = (
    oh.make_node("MatMul", ["x", "V"], ["z"]),
    oh.make_node("SegMean", ["z", "src", "dst", "n"], ["mean"], domain="hgnn"),
)
SUM = oh.make_node("Add", ["mean", "root"], ["sum"])


@pytest.mark.parametrize("operands", [["sum", "bias"], ["bias", "sum"]])
def test_a_bias_behind_a_sum_goes_to_its_dense_term(operands: list[str]) -> None:
    layers = {layer.output: layer for layer in parse(ROOT, *MEAN, SUM, oh.make_node("Add", operands, ["y"])).layers}
    root, aggregated = layers["root"], layers["z"]
    assert isinstance(root, Dense) and root.bias is not None and np.array_equal(root.bias, BIAS)
    assert isinstance(aggregated, Dense) and aggregated.bias is None
    assert "y" in layers and "sum" not in layers


def test_two_biases_add_up() -> None:
    chain = (oh.make_node("Add", ["root", "bias"], ["once"]), oh.make_node("Add", ["once", "bias"], ["y"]))
    (layer,) = parse(ROOT, *chain).layers
    assert isinstance(layer, Dense) and layer.bias is not None and np.array_equal(layer.bias, 2 * BIAS)


def test_a_constant_joins_a_sum_without_a_dense_term() -> None:
    layers = parse(*MEAN, oh.make_node("Add", ["bias", "mean"], ["y"])).layers
    last = layers[-1]
    assert isinstance(last, Bias) and (last.input, last.output) == ("mean", "y")
    np.testing.assert_array_equal(last.values, BIAS)


@pytest.mark.parametrize(
    "nodes",
    [
        (ROOT, *MEAN, SUM, oh.make_node("Add", ["sum", "bias"], ["s"]), oh.make_node("Add", ["s", "root"], ["y"])),
        (ROOT, oh.make_node("Relu", ["root"], ["r"]), oh.make_node("Add", ["r", "bias"], ["y"])),
    ],
    ids=["the dense layer has another use", "behind a ReLU"],
)
def test_what_has_no_dense_layer_of_its_own_is_refused(nodes: tuple[onnx.NodeProto, ...]) -> None:
    with pytest.raises(OperatorsUnsupportedError) as caught:
        parse(*nodes)
    assert (
        "a constant is added to something without a dense layer of its own; fold it into a bias" in caught.value.found
    )
