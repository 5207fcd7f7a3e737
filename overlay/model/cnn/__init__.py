# SPDX-License-Identifier: Apache-2.0
"""Convolutional networks: typed layers, their reader, the integer form of a quantized network and its golden model."""
