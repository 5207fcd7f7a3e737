# SPDX-License-Identifier: Apache-2.0
"""Skips tests that need pynq where it is not installed; ``make test-pynq`` runs them where it is."""

import importlib.util

import pytest


def has_pynq() -> bool:
    """Whether pynq is installed."""
    return importlib.util.find_spec("pynq") is not None


def require_pynq() -> None:
    """Skips the calling test without pynq."""
    if not has_pynq():
        pytest.skip("python: pynq is not installed (make test-pynq has environments with it)")
