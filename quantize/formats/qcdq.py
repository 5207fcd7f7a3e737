# SPDX-License-Identifier: Apache-2.0
"""Writes a quantized model as QCDQ for plain runtimes: QuantizeLinear, Clip, DequantizeLinear and standard operators.

The form is that of qonnx's docs/qcdq.md. Clip keeps integers to widths below 8 bits. Roundings wider than 8 bits, which
``QuantizeLinear`` of these opsets cannot make, and hetfab's own operators are written out in standard operators.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx.helper
import onnx.inliner
import onnx.numpy_helper

from hetfab.overlay.errors import NotQuantizedError
from hetfab.overlay.model import hgnn
from hetfab.overlay.model.layers import attributes, constants_of
from hetfab.overlay.model.reader import check_model, is_quantized, normalise

_BYTE_BITS = 8
_BIAS_BITS = 32


def qcdq_model(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same model in standard operators; onnxruntime gives the same numbers, bit by bit.

    Args:
        model: As ``hetfab quantize`` writes it.

    Raises:
        NotQuantizedError: It has no ``Quant`` operator.
    """
    if not is_quantized(model):
        raise NotQuantizedError(
            "the model has no 'Quant' operator",
            "a quantized model, as `hetfab quantize` writes it",
            "run `hetfab quantize MODEL --graph GRAPH -o QUANTIZED` and export its result",
        )
    given = normalise(model)
    writer = _Writer(dict(constants_of(given)))
    for node in given.graph.node:
        if node.domain == hgnn.QUANT_DOMAIN and node.op_type in ("Quant", "BipolarQuant") and writer.replaces(node):
            continue
        writer.nodes.append(node)
    read = {name for node in writer.nodes for name in node.input}
    kept = [tensor for tensor in given.graph.initializer if tensor.name in read]
    graph = onnx.helper.make_graph(
        writer.nodes, "qcdq", list(given.graph.input), list(given.graph.output), [*kept, *writer.initializers.values()]
    )
    exported = onnx.helper.make_model(
        graph,
        opset_imports=list(given.opset_import),
        ir_version=given.ir_version,
        functions=list(given.functions),
        producer_name="hetfab",
    )
    exported.metadata_props.extend(given.metadata_props)
    plain = onnx.inliner.inline_local_functions(exported)
    standard = [entry for entry in plain.opset_import if entry.domain in ("", "ai.onnx")]
    del plain.opset_import[:]
    plain.opset_import.extend(standard)
    return check_model(plain, "the exported model")


@dataclass
class _Writer:
    """Writes roundings as pairs of nodes."""

    constants: dict[str, npt.NDArray[Any]]
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    initializers: dict[str, onnx.TensorProto] = field(default_factory=dict)

    def replaces(self, node: onnx.NodeProto) -> bool:
        """Writes a rounding in another form; False where its own operators have to stay."""
        source, output, scale = node.input[0], node.output[0], self.constants[node.input[1]]
        if node.op_type == "BipolarQuant":
            signs = np.where(self.constants[source] < 0, -1, 1)
            return self._constant(output, signs.astype(np.int8), scale)
        bits, flags = int(self.constants[node.input[3]]), attributes(node)
        signed, narrow = bool(flags["signed"]), bool(flags["narrow"])
        lowest, highest = _limits(bits, signed=signed, narrow=narrow)
        if source in self.constants:
            steps = np.rint(np.clip(self.constants[source].astype(np.float64) / scale, lowest, highest))
            if bits <= _BYTE_BITS:
                return self._constant(output, steps.astype(np.int8 if signed else np.uint8), scale)
            return bits <= _BIAS_BITS and self._constant(output, steps.astype(np.int32), scale)
        if bits > _BYTE_BITS:
            self._written_out(source, output, node.input[1], (lowest, highest))
            return True
        self._tensor(source, output, scale, (lowest, highest), signed=signed)
        return True

    def _constant(self, output: str, integers: npt.NDArray[np.integer], scale: npt.NDArray[Any]) -> bool:
        """Integers in front of a DequantizeLinear, with a scale for the tensor or along one axis."""
        axes = [axis for axis, size in enumerate(scale.shape) if size > 1]
        if len(axes) > 1:
            return False
        axis = axes[0] + integers.ndim - scale.ndim if axes else 0
        along = scale.reshape(-1) if axes else scale.reshape(())
        inputs = [self._add(f"{output}.steps", integers), self._add(f"{output}.step", along.astype(np.float32))]
        self.nodes.append(onnx.helper.make_node("DequantizeLinear", inputs, [output], name=output, axis=axis))
        return True

    def _tensor(
        self, source: str, output: str, scale: npt.NDArray[Any], limits: tuple[int, int], *, signed: bool
    ) -> None:
        kind = np.int8 if signed else np.uint8
        step = self._add(f"{output}.step", scale.reshape(()).astype(np.float32))
        zero = self._add(f"{kind.__name__}.zero", np.zeros((), kind))
        steps = self._node("QuantizeLinear", [source, step, zero], f"{output}.steps")
        if limits != (np.iinfo(kind).min, np.iinfo(kind).max):
            ends = [self._add(f"{kind.__name__}.{end}", np.array(end, kind)) for end in limits]
            steps = self._node("Clip", [steps, *ends], f"{output}.clipped")
        self._node("DequantizeLinear", [steps, step, zero], output)

    def _written_out(self, source: str, output: str, scale: str, limits: tuple[int, int]) -> None:
        step = self._add(f"{output}.step", self.constants[scale])
        steps = self._node("Div", [source, step], f"{output}.exact")
        ends = [self._add(f"{output}.{end}", np.array(end, np.float32)) for end in limits]
        rounded = self._node("Round", [self._node("Clip", [steps, *ends], f"{output}.clipped")], f"{output}.steps")
        self._node("Mul", [rounded, step], output)

    def _node(self, operator: str, inputs: list[str], output: str) -> str:
        self.nodes.append(onnx.helper.make_node(operator, inputs, [output], name=output))
        return output

    def _add(self, name: str, array: npt.NDArray[Any]) -> str:
        self.initializers[name] = onnx.numpy_helper.from_array(np.ascontiguousarray(array).reshape(array.shape), name)
        return name


def _limits(bits: int, *, signed: bool, narrow: bool) -> tuple[int, int]:
    if not signed:
        return 0, (1 << bits) - 1 - narrow
    return -(1 << (bits - 1)) + narrow, (1 << (bits - 1)) - 1
