# SPDX-License-Identifier: Apache-2.0
"""A model that ends with rounded numbers, brought to the form of those that end with sums.

The overlay exports sums of 32 bits. A product with the unit matrix makes them of what is stored, unchanged.
"""

import numpy as np
import onnx
from onnx import helper, numpy_helper

from hetfab.overlay.model.layers import constants_of

_DOMAIN = "qonnx.custom_op.general"
_UNIT_BITS = 2


def with_sums(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model itself, or a copy that ends with a product where it ended with the ``Quant`` of computed rows."""
    name = model.graph.output[0].name
    sizes = [dim.dim_value for dim in model.graph.output[0].type.tensor_type.shape.dim]
    places = [i for i, node in enumerate(model.graph.node) if node.op_type == "Quant" and name in node.output]
    if not places or len(sizes) != 2 or model.graph.node[places[0]].input[0] in constants_of(model):
        return model
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    changed.graph.node[places[0]].output[0] = f"{name}.rounded"
    constants = {
        f"{name}.unit": np.eye(sizes[1], dtype=np.float32),
        f"{name}.one": np.ones((), np.float32),
        f"{name}.zero": np.zeros((), np.float32),
        f"{name}.bits": np.full((), _UNIT_BITS, np.float32),
    }
    changed.graph.initializer.extend(numpy_helper.from_array(value, key) for key, value in constants.items())
    weight = f"{name}.weight"
    changed.graph.node.extend(
        [
            helper.make_node(
                "Quant", list(constants), [weight], weight, domain=_DOMAIN, signed=1, narrow=1, rounding_mode="ROUND"
            ),
            helper.make_node("MatMul", [f"{name}.rounded", weight], [name], f"{name}.export"),
        ]
    )
    return changed
