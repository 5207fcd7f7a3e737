# SPDX-License-Identifier: Apache-2.0
"""Compiles convolutional networks: strips of images, weights in the order of their use, instructions in order."""
