# SPDX-License-Identifier: Apache-2.0
"""Finds what hls4ml 1.3 accepts of a QONNX model and computes wrongly, or crashes on, before anything is converted.

Each rule was seen to fail with hls4ml 1.3.0; docs/hls4ml.md has the table.
"""

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import numpy_helper

from hetfab.hls.hls4ml_extension.quantized import common_exponent
from hetfab.overlay.errors import Hls4mlRefusedError

_QUANTIZERS = ("Quant", "IntQuant", "BipolarQuant")
#: Strategies that hls4ml knows; it takes any other name for Latency, without a word.
_STRATEGIES = ("latency", "resource", "resource_unrolled", "hetero")


@dataclass(frozen=True)
class Problem:
    """A place that hls4ml would get wrong.

    Attributes:
        node: Name of the node, or of the configuration's entry.
        found: What is there, and what hls4ml makes of it.
        do: What to do instead.
    """

    node: str
    found: str
    do: str


@dataclass
class _Model:
    """A model with its constants, shapes and producers by name of tensor."""

    graph: onnx.GraphProto
    hetero: Collection[str]
    constants: dict[str, npt.NDArray[Any]] = field(default_factory=dict)
    ranks: dict[str, int] = field(default_factory=dict)
    producers: dict[str, onnx.NodeProto] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in self.graph.initializer}
        self.producers = {name: node for node in self.graph.node for name in node.output}
        for info in (*self.graph.input, *self.graph.value_info, *self.graph.output):
            if info.type.tensor_type.HasField("shape"):
                self.ranks[info.name] = len(info.type.tensor_type.shape.dim)

    def is_constant(self, name: str) -> bool:
        """Whether a tensor is an initializer, or one behind its quantizer."""
        producer = self.producers.get(name)
        if producer is not None and producer.op_type in _QUANTIZERS:
            return self.is_constant(producer.input[0])
        return name in self.constants

    def scale(self, node: onnx.NodeProto) -> npt.NDArray[np.float64]:
        """The scales of a quantizer; NaN where they are computed."""
        return np.asarray(self.constants.get(node.input[1], np.nan), np.float64)

    def readers(self, name: str) -> list[onnx.NodeProto]:
        """The nodes that read a tensor."""
        return [node for node in self.graph.node if name in node.input]

    def becomes_hetero(self, quantizer: onnx.NodeProto) -> bool:
        """Whether a quantizer is that of weights which all go to a ``HeteroDense``."""
        readers = self.readers(quantizer.output[0])
        return bool(readers) and all(
            node.op_type == "MatMul" and node.name in self.hetero and node.input[1] == quantizer.output[0]
            for node in readers
        )


def check_model(
    model: onnx.ModelProto,
    hetero: Collection[str] = (),
    config: Mapping[str, Any] | None = None,
) -> None:
    """Refuses a model that hls4ml would convert and compute wrongly.

    Args:
        model: With shapes inferred and nodes named, as qonnx's ``cleanup_model`` leaves it.
        hetero: Products that become ``HeteroDense``.
        config: The configuration that hls4ml is to get.

    Raises:
        Hls4mlRefusedError: All problems at once, each with its node.
    """
    problems = find_problems(model, hetero, config)
    if problems:
        lines = [f"{problem.node}: {problem.found}\n      do: {problem.do}" for problem in problems]
        raise Hls4mlRefusedError(
            "\n    ".join(["hls4ml 1.3 would get this model wrong", *lines]),
            "a model that hls4ml computes as QONNX does",
            "change the model as said, or compile it for an overlay with `hetfab compile`",
        )


def find_problems(
    model: onnx.ModelProto,
    hetero: Collection[str] = (),
    config: Mapping[str, Any] | None = None,
) -> list[Problem]:
    """Lists what hls4ml would get wrong; arguments as of :func:`check_model`."""
    read = _Model(model.graph, frozenset(hetero))
    found = [problem for node in model.graph.node for problem in _of_node(read, node)]
    return [*found, *_of_config(config or {})]


def _of_node(model: _Model, node: onnx.NodeProto) -> Iterator[Problem]:
    for check in _CHECKS.get(node.op_type, ()):
        said = check(model, node)
        if said is not None:
            yield Problem(f"{node.op_type} '{node.name}'", *said)


_Said = tuple[str, str] | None


def _product(model: _Model, node: onnx.NodeProto) -> _Said:
    left, right = node.input
    if not model.is_constant(left) and not model.is_constant(right):
        return "multiplies two computed tensors; hls4ml writes no call for it", "compute the product outside hls4ml"
    if model.is_constant(left):
        return "has its constant on the left; hls4ml crashes", "transpose the product, so that the constant is right"
    if right in model.constants:
        return "multiplies by constants that no Quant makes; hls4ml rounds them to its default type", (
            "put a Quant behind the weights"
        )
    if model.ranks.get(left, 2) > 2 and node.name not in model.hetero:
        return (
            f"multiplies a tensor of rank {model.ranks[left]} by a matrix; hls4ml counts all axes but the first as "
            "inputs",
            "let it become a HeteroDense, by Strategy Hetero",
        )
    return None


def _quantizer(model: _Model, node: onnx.NodeProto) -> _Said:
    weights = model.is_constant(node.input[0])
    scale = model.scale(node)
    if weights and model.becomes_hetero(node):
        return _hetero_scale(node, scale)
    if scale.size > 1 and weights:
        return "has a scale for each channel; hls4ml crashes", "let its product become a HeteroDense"
    if not np.all(np.frexp(scale)[0] == 0.5):
        return (
            f"has scales that are no powers of two, {float(scale.reshape(-1)[0]):.9g} among them; hls4ml rounds what "
            "they are multiplied with",
            "let its product become a HeteroDense" if weights else "quantize with a power of two",
        )
    return None


def _hetero_scale(node: onnx.NodeProto, scale: npt.NDArray[np.float64]) -> _Said:
    try:
        common_exponent(node.name, scale.reshape(-1))
    except Hls4mlRefusedError as error:
        return error.found, error.do
    return None


def _zero_point(model: _Model, node: onnx.NodeProto) -> _Said:
    if np.any(model.constants.get(node.input[2], np.array(np.nan)) != 0):
        return "has a zero point; hls4ml rounds what it is added to", "quantize symmetrically"
    return None


def _one_bit(model: _Model, node: onnx.NodeProto) -> _Said:
    bits = model.constants.get(node.input[3])
    signed = next((a.i for a in node.attribute if a.name == "signed"), 1)
    if bits is not None and int(bits.reshape(-1)[0]) == 1 and signed and not model.becomes_hetero(node):
        return (
            "has one bit and a sign, which is -1 and +1; hls4ml takes -1 and 0",
            "use BipolarQuant, or let its product become a HeteroDense",
        )
    return None


def _plain_term(model: _Model, node: onnx.NodeProto) -> _Said:
    if any(name in model.constants for name in node.input):
        return "takes constants that no Quant makes; hls4ml rounds them to its default type", "put a Quant behind them"
    return None


def _looked_up(model: _Model, node: onnx.NodeProto) -> _Said:
    return "is looked up in hls4ml's tables, which round", "use Relu, or compile the model with `hetfab compile`"


def _softmax(model: _Model, node: onnx.NodeProto) -> _Said:
    return "is looked up in hls4ml's tables of 18 bits, up to 0.6 off", "take the largest logit instead"


def _crashes(model: _Model, node: onnx.NodeProto) -> _Said:
    return "makes hls4ml crash", "replace the node"


_CHECKS: dict[str, tuple[Callable[[_Model, onnx.NodeProto], _Said], ...]] = {
    "MatMul": (_product,),
    "Quant": (_quantizer, _zero_point, _one_bit),
    "IntQuant": (_quantizer, _zero_point, _one_bit),
    "BipolarQuant": (_quantizer,),
    "Add": (_plain_term,),
    "Sub": (_plain_term,),
    "Mul": (_plain_term,),
    "Div": (_plain_term,),
    "Sigmoid": (_looked_up,),
    "Tanh": (_looked_up,),
    "Softmax": (_softmax,),
    "PRelu": (_crashes,),
    "QuantizeLinear": (_crashes,),
    "DequantizeLinear": (_crashes,),
}


def _of_config(config: Mapping[str, Any]) -> Iterator[Problem]:
    entries = {"Model": config.get("Model", {}), **config.get("LayerName", {}), **config.get("LayerType", {})}
    for name, entry in entries.items():
        strategy = str(entry.get("Strategy", "Latency"))
        if strategy.lower() not in _STRATEGIES:
            yield Problem(
                f"configuration of '{name}'",
                f"Strategy '{strategy}', which hls4ml does not have for these models; it takes Latency or crashes",
                f"use one of {', '.join(_STRATEGIES)}",
            )
