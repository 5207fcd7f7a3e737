# SPDX-License-Identifier: Apache-2.0
"""Quantized models of other tools: readers of QONNX and QDQ files, and the exporter to QCDQ."""
