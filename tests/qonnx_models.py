# SPDX-License-Identifier: Apache-2.0
"""Small QONNX models as users of hls4ml bring them, and their own execution."""

import itertools
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper
from qonnx.core.modelwrapper import ModelWrapper
from qonnx.core.onnx_exec import execute_onnx
from qonnx.util.cleanup import cleanup_model

Floats = npt.NDArray[np.float32]

PART = "xc7z020clg400-1"


@dataclass
class QonnxBuilder:
    """Collects nodes and constants."""

    seed: int = 0
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    inputs: list[onnx.ValueInfoProto] = field(default_factory=list)
    constants: list[onnx.TensorProto] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.random = np.random.default_rng(self.seed)

    def input(self, name: str, *shape: int) -> str:
        self.inputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape))
        return name

    def constant(self, name: str, value: npt.ArrayLike) -> str:
        self.constants.append(numpy_helper.from_array(np.asarray(value, np.float32), name))
        return name

    def node(self, kind: str, *inputs: str, **attributes: Any) -> str:
        name = f"{kind.lower()}{len(self.nodes)}"
        domain = "qonnx.custom_op.general" if "Quant" in kind else ""
        self.nodes.append(helper.make_node(kind, inputs, [name], name, domain=domain, **attributes))
        return name

    def quant(
        self, of: str, scale: npt.ArrayLike, bits: int, *, signed: int = 1, narrow: int = 0, zero: float = 0
    ) -> str:
        place = len(self.nodes)
        parameters = [self.constant(f"{n}{place}", v) for n, v in (("s", scale), ("z", zero), ("b", bits))]
        return self.node("Quant", of, *parameters, signed=signed, narrow=narrow, rounding_mode="ROUND")

    def product(self, of: str, rows: int, columns: int, scale: npt.ArrayLike, bits: int) -> str:
        weight = self.constant(f"w{len(self.nodes)}", self.random.normal(0, 0.3, (rows, columns)))
        return self.node("MatMul", of, self.quant(weight, scale, bits, narrow=int(bits > 1)))

    def model(self, output: str, *shape: int) -> onnx.ModelProto:
        result = helper.make_tensor_value_info(output, TensorProto.FLOAT, shape)
        graph = helper.make_graph(self.nodes, "model", self.inputs, [result], self.constants)
        opsets = [helper.make_opsetid("", 17), helper.make_opsetid("qonnx.custom_op.general", 1)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=9)


def mlp(*, weight_bits: int = 4, per_channel: bool = False, biased: bool = True) -> onnx.ModelProto:
    """16-32-24-5 with activations of 8 bits; with biases at the scale of the products."""
    build, sizes = QonnxBuilder(), (16, 32, 24, 5)
    last = build.quant(build.input("x", 1, sizes[0]), 2.0**-4, 8)
    for number, (rows, columns) in enumerate(itertools.pairwise(sizes)):
        ends = number == len(sizes) - 2
        scale = build.random.integers(20, 200, (1, columns)) / 2.0**10 if per_channel and not ends else 2.0**-3
        last = build.product(last, rows, columns, scale, weight_bits)
        if biased:
            bias = build.constant(f"bias{number}", build.random.normal(0, 0.3, columns))
            last = build.node("Add", last, build.quant(bias, np.ravel(scale) * 2.0**-4, 16))
        if not ends:
            last = build.quant(build.node("Relu", last), 2.0**-4, 8, signed=0)
    return build.model(last, 1, sizes[-1])


def ended(build: QonnxBuilder, value: str, *shape: int) -> onnx.ModelProto:
    """A model that ends with a ReLU and a quantizer of 8 bits."""
    return build.model(build.quant(build.node("Relu", value), 2.0**-4, 8, signed=0), *shape)


def drawn(model: onnx.ModelProto, samples: int) -> dict[str, Floats]:
    """Inputs on the grid of 8 bits with 4 fraction bits, [samples, ...] each."""
    random = np.random.default_rng(7)
    shapes = {i.name: [d.dim_value for d in i.type.tensor_type.shape.dim][1:] for i in model.graph.input}
    return {n: (random.integers(-128, 128, (samples, *s)) / 16).astype(np.float32) for n, s in shapes.items()}


def execute(model: onnx.ModelProto, inputs: dict[str, Floats]) -> Floats:
    """What qonnx computes, sample by sample."""
    wrapper = ModelWrapper(model)
    count = len(next(iter(inputs.values())))
    one = [execute_onnx(wrapper, {n: v[i : i + 1] for n, v in inputs.items()}) for i in range(count)]
    return np.concatenate([next(iter(found.values())) for found in one])


def cleaned(model: onnx.ModelProto) -> Any:
    """As hls4ml takes it."""
    return cleanup_model(ModelWrapper(model))
