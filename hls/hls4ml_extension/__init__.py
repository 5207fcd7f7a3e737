# SPDX-License-Identifier: Apache-2.0
"""``HeteroDense`` for hls4ml: a dense layer with fixed weights, shared between DSPs and LUTs (docs/hls4ml.md)."""

from hetfab.hls.hls4ml_extension.check import check_model, find_problems
from hetfab.hls.hls4ml_extension.description import dense_layer
from hetfab.hls.hls4ml_extension.project import convert_qonnx
from hetfab.hls.hls4ml_extension.registration import register
from hetfab.hls.hls4ml_extension.split import Split

__all__ = ["Split", "check_model", "convert_qonnx", "dense_layer", "find_problems", "register"]
