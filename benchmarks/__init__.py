# SPDX-License-Identifier: Apache-2.0
"""Measurements, each a module to run from the root of the repository: ``python -m benchmarks.<name>``."""
