# SPDX-License-Identifier: Apache-2.0
"""Runs ONNX models in onnxruntime, as calibration and as the reference of a run."""

from collections.abc import Mapping
from typing import Any, TypeAlias

import numpy.typing as npt
import onnx

Feed: TypeAlias = Mapping[str, npt.NDArray[Any]]


def run_model(model: onnx.ModelProto, feed: Feed, outputs: list[str]) -> list[npt.NDArray[Any]]:
    """Runs a model in onnxruntime on one thread, so that results repeat.

    Args:
        model: Any model.
        feed: Arrays by input name; names that the model does not have are left out.
        outputs: Names of the tensors to return.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    names = {value.name for value in session.get_inputs()}
    result: list[npt.NDArray[Any]] = session.run(outputs, {key: feed[key] for key in feed if key in names})
    return result
