# SPDX-License-Identifier: Apache-2.0
"""BatchNormalization of a trained model: a factor and an offset for each channel."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import onnx

from hetfab.overlay.errors import counted
from hetfab.overlay.model.draft import UNKNOWN, Draft, GapError, RefusedError
from hetfab.overlay.model.layers import Dense, FloatArray, attributes


def is_for_training(node: onnx.NodeProto) -> bool:
    """Whether the operator computes statistics of what it reads."""
    return bool(attributes(node).get("training_mode", 0)) or len([name for name in node.output if name]) > 1


def factor_and_offset(node: onnx.NodeProto, parts: Sequence[npt.NDArray[np.generic]]) -> tuple[FloatArray, FloatArray]:
    """``(x - mean) / sqrt(variance + epsilon) * scale + bias`` as ``x * factor + offset``, [C] each.

    Args:
        node: The operator.
        parts: Its scale, bias, mean and variance.
    """
    epsilon = float(str(attributes(node).get("epsilon", 1e-5)))
    scale, bias, mean, variance = (np.asarray(part, dtype=np.float64).reshape(-1) for part in parts)
    factor = scale / np.sqrt(variance + epsilon)
    return factor.astype(np.float32), (bias - mean * factor).astype(np.float32)


def parse_batch_norm(draft: Draft, node: onnx.NodeProto) -> None:
    """Adds a dense layer with a diagonal matrix, which a rewrite takes into its neighbours where it can."""
    if is_for_training(node):
        raise RefusedError("it is exported for training", "export the model after `model.eval()`")
    if set(node.input[1:]) & draft.written_by_gaps:
        raise GapError
    channels = draft.activation(node.input[0])
    parts = [draft.constants.get(name) for name in node.input[1:]]
    given = [part for part in parts if part is not None]
    if len(given) < len(parts):
        raise RefusedError("its statistics are not constant", "export the model after `model.eval()`")
    factor, offset = factor_and_offset(node, given)
    if channels not in (UNKNOWN, len(factor)):
        raise RefusedError(
            f"it has {counted(len(factor), 'factor')} for {counted(channels, 'channel')}", "export the model again"
        )
    draft.add(Dense(node.output[0], node.input[0], np.diag(factor), offset), len(factor))
