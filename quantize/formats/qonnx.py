# SPDX-License-Identifier: Apache-2.0
"""Reads QONNX models, as Brevitas and others export them: ``Quant`` and ``BipolarQuant`` nodes.

Their meaning is that of github.com/fastmachinelearning/qonnx, docs/qonnx-custom-ops. Function bodies in a file are not
read: one exporter writes a body that does not round.
"""

import numpy as np
import onnx

from hetfab.overlay.model import hgnn
from hetfab.overlay.model.layers import attributes
from hetfab.quantize.formats.foreign import (
    Array,
    Foreign,
    RefusedError,
    RoundedConstant,
    Rounding,
    Stripper,
    strip,
)

#: Domains under which exporters have written the operators.
DOMAINS = frozenset({hgnn.QUANT_DOMAIN, "onnx.brevitas", "finn.custom_op.general"})
_OPERATORS = ("Quant", "IntQuant", "BipolarQuant")
_TO_NEAREST = ("ROUND", "HALF_EVEN")
_LARGEST_BITS = 8
#: Beyond it no tool rounds, and bounds of integers would be numbers without bound.
_LARGEST_WIDTH = 64


def uses_qonnx(model: onnx.ModelProto) -> bool:
    """Whether a model has QONNX roundings."""
    return any(_is_rounding(node) for node in model.graph.node)


def read_qonnx(model: onnx.ModelProto) -> Foreign:
    """Takes the roundings out of a QONNX model.

    Raises:
        OperatorsUnsupportedError: Roundings that are not read, all at once.
    """
    return strip(model, _rule, DOMAINS)


def _is_rounding(node: onnx.NodeProto) -> bool:
    return node.domain in DOMAINS and node.op_type in _OPERATORS


def _rule(stripper: Stripper, node: onnx.NodeProto) -> bool:
    if not _is_rounding(node):
        return False
    if node.op_type == "BipolarQuant":
        _bipolar(stripper, node)
    else:
        _quant(stripper, node)
    return True


def _bipolar(stripper: Stripper, node: onnx.NodeProto) -> None:
    if node.input[0] not in stripper.constants:
        raise RefusedError("a computed tensor of 1 bit; activations have 2 to 8 bits")
    array = stripper.constant(node.input[0])
    scales = np.broadcast_to(stripper.constant(node.input[1]), array.shape)
    stripper.round_constant(node, RoundedConstant(np.where(array < 0, -1, 1), scales, 1))


def _quant(stripper: Stripper, node: onnx.NodeProto) -> None:
    scale, zero, width = (stripper.constant(name) for name in node.input[1:4])
    flags = attributes(node)
    mode = flags.get("rounding_mode", b"ROUND")
    if not isinstance(mode, bytes) or mode.decode(errors="replace").upper() not in _TO_NEAREST:
        raise RefusedError(f"rounding mode {mode!r}; round to nearest")
    if np.any(zero != 0):
        raise RefusedError("a zero point other than 0; quantize symmetrically")
    if width.size != 1 or width.item() != np.rint(width).item() or not 1 <= width.item() <= _LARGEST_WIDTH:
        raise RefusedError("widths that differ inside a tensor, or are no whole numbers up to 64; give each tensor one")
    bits, signed, narrow = int(width.item()), bool(flags.get("signed", 1)), bool(flags.get("narrow", 0))
    highest = (1 << (bits - signed)) - 1 - (narrow and not signed)
    lowest = -(1 << (bits - 1)) + narrow if signed else 0
    if node.input[0] in stripper.constants:
        _round_constant(stripper, node, scale, (lowest, highest), bits)
    elif bits > _LARGEST_BITS:
        stripper.leave_out(node, f"{bits} bits, which are more than stored tensors have")
    elif scale.size != 1:
        raise RefusedError("a computed tensor with several scales; give it one")
    else:
        stripper.round_tensor(node, Rounding(float(scale.reshape(-1)[0]), lowest, highest))


def _round_constant(stripper: Stripper, node: onnx.NodeProto, scale: Array, limits: tuple[int, int], bits: int) -> None:
    array = stripper.constant(node.input[0])
    steps = np.rint(np.clip(array.astype(np.float64) / scale, *limits)).astype(np.int64)
    stripper.round_constant(node, RoundedConstant(steps, np.broadcast_to(scale, array.shape), bits))
