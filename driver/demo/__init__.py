# SPDX-License-Identifier: Apache-2.0
"""What a newcomer runs first: a small RGCN that was trained on the generated academic graph."""

from pathlib import Path


def model_path() -> Path:
    """The float model; ``examples/academic/train_rgcn.py`` trained it."""
    return Path(__file__).parent / "rgcn.onnx"
