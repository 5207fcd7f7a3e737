# SPDX-License-Identifier: Apache-2.0
"""The constants of the resource functions, ``area.json``: each with its unit and where it comes from."""

import functools
import json
from dataclasses import dataclass
from pathlib import Path

#: The file.
AREA_FILE = Path(__file__).parent / "area.json"


@dataclass(frozen=True)
class AreaConstant:
    """A constant of the resource functions and where it comes from."""

    name: str
    value: float
    unit: str
    origin: str


@functools.cache
def area_constants() -> dict[str, AreaConstant]:
    """All constants by name."""
    return {entry["name"]: AreaConstant(**entry) for entry in json.loads(AREA_FILE.read_text(encoding="utf-8"))}


def area_constant(name: str) -> float:
    """The value of a constant."""
    return area_constants()[name].value
