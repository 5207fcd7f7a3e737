# SPDX-License-Identifier: Apache-2.0
"""Products with constant matrices in a QONNX model that become ``HeteroDense``. Imports hls4ml.

A product asks for it by ``Strategy: Hetero`` in the project's configuration.
"""

from typing import Any

import numpy as np
from hls4ml.model.layers import BipolarQuant, Constant, MatMul, Quant
from hls4ml.model.optimizer import OptimizerPass

from hetfab.hls.hls4ml_extension.description import dense_layer
from hetfab.hls.hls4ml_extension.quantized import common_exponent, quantized_integers
from hetfab.overlay.errors import Hls4mlRefusedError

STRATEGY = "hetero"


class HeteroFromMatMul(OptimizerPass):  # type: ignore[misc]
    """A product with a quantized constant becomes a ``HeteroDense`` with the scales of its columns."""

    def match(self, node: Any) -> bool:
        """Whether a product asks for it and its second operand is a constant behind a quantizer."""
        if not isinstance(node, MatMul) or len(node.inputs) != 2:
            return False
        if str(node.model.config.get_strategy(node)).lower() != STRATEGY:
            return False
        quant = node.get_input_node(node.inputs[1])
        return (
            isinstance(quant, Quant | BipolarQuant)
            and len(quant.inputs) == 1
            and isinstance(quant.get_input_node(), Constant)
        )

    def transform(self, model: Any, node: Any) -> bool:
        """Makes the layer and removes the constant with its quantizer."""
        quant = node.get_input_node(node.inputs[1])
        constant = quant.get_input_node()
        values = np.asarray(constant.get_attr("value"), np.float64)
        integers, scale = _integers(node.name, values, quant)
        multiplier, exponent = common_exponent(node.name, scale)
        described = dense_layer(node.name, node.inputs[0], integers, multiplier=multiplier, exponent=exponent)
        config = model.config.get_layer_config(node)
        name = f"Hetero_{node.name}"
        model.config.set_name_config(name, config)
        model.config.parse_name_config(name, config)
        attributes = {k: v for k, v in described.items() if k not in ("class_name", "name", "inputs", "outputs")}
        dense = model.make_node("HeteroDense", name, attributes, [node.inputs[0]], list(node.outputs))
        del node.inputs[1]
        model.remove_node(quant)
        model.remove_node(constant)
        model.replace_node(node, dense)
        return True


def _integers(name: str, values: Any, quant: Any) -> tuple[Any, Any]:
    scale = np.asarray(quant.get_attr("scale"), np.float64)
    if isinstance(quant, BipolarQuant):
        integers = quantized_integers(values, scale, bits=1, signed=True, narrow=False, rounding="ROUND")
        return integers, columns_of(name, scale, integers.shape[1])
    if np.any(np.asarray(quant.get_attr("zeropt")) != 0):
        raise Hls4mlRefusedError(
            f"the weights of '{name}' have a zero point",
            "symmetric weights",
            "quantize the model again with zero points of 0",
        )
    integers = quantized_integers(
        values,
        scale,
        bits=int(np.asarray(quant.get_attr("bitwidth")).item()),
        signed=bool(quant.get_attr("signed")),
        narrow=bool(quant.get_attr("narrow")),
        rounding=str(quant.get_attr("rounding_mode")),
    )
    return integers, columns_of(name, scale, integers.shape[1])


def columns_of(name: str, scale: Any, columns: int) -> Any:
    """A scale for each column.

    Raises:
        Hls4mlRefusedError: Scales differ within a column.
    """
    if scale.size not in (1, columns) or (scale.ndim > 1 and scale.shape[-1] not in (1, columns)):
        raise Hls4mlRefusedError(
            f"the weights of '{name}' have scales of shape {scale.shape}",
            f"one scale, or one for each of {columns} outputs",
            "quantize the weights by output channel",
        )
    if scale.size == columns and scale.ndim > 1 and scale.shape[-1] != columns:
        raise Hls4mlRefusedError(
            f"the weights of '{name}' have a scale for each input",
            f"one scale, or one for each of {columns} outputs",
            "quantize the weights by output channel",
        )
    return np.broadcast_to(scale.reshape(-1), columns)
