# SPDX-License-Identifier: Apache-2.0
"""onnxruntime sessions that golden results come from."""

from pathlib import Path

import onnxruntime


def reference_session(model: Path | bytes) -> onnxruntime.InferenceSession:
    """A session on one thread: on more, ScatterND's max and add now and then lose an update (onnxruntime 1.31)."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    source = str(model) if isinstance(model, Path) else model
    return onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
