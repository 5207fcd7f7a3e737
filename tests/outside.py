# SPDX-License-Identifier: Apache-2.0
"""Imports what lies beside the packages, benchmarks and examples, as ``python -m`` does from the root."""

import importlib
import sys
from pathlib import Path
from typing import Any
from unittest import mock

ROOT = Path(__file__).parents[1]


def module(name: str) -> Any:
    """The module ``benchmarks.x`` or ``examples.x``; the path is as before afterwards."""
    with mock.patch.object(sys, "path", [str(ROOT), *sys.path]):
        return importlib.import_module(name)
