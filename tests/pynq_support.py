# SPDX-License-Identifier: Apache-2.0
"""What tests of pynq share: skipping where it is not installed (``make test-pynq`` has it), and small designs."""

import importlib.util
from dataclasses import replace

import pytest

from hetfab.overlay.board import board_names, read_board
from hetfab.overlay.design import Design, default_design
from tests.conftest import SMALL_GEOMETRY


def has_pynq() -> bool:
    """Whether pynq is installed."""
    return importlib.util.find_spec("pynq") is not None


def require_pynq() -> None:
    """Skips the calling test without pynq."""
    if not has_pynq():
        pytest.skip("python: pynq is not installed (make test-pynq has environments with it)")


def supported_boards(version: str) -> list[str]:
    """Boards that a pynq release loads overlays on."""
    return [name for name in board_names() if version in read_board(name).pynq]


def small_design_of(board: str) -> Design:
    """A design of the small geometry on a board."""
    return replace(default_design(board), name="small", geometry=SMALL_GEOMETRY)
