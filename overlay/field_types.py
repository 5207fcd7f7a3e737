# SPDX-License-Identifier: Apache-2.0
"""Compares what a file put into dataclasses and named tuples with the types that their fields state."""

import dataclasses
import functools
import types
import typing
from typing import Any

import numpy as np

_LONGEST_SHOWN = 60


def check_fields(value: object) -> None:
    """Refuses a dataclass or a named tuple with a field of another type, in those inside it too.

    Whole numbers are floats as well, truth values are no numbers, and of an array only that it is one is checked.

    Raises:
        TypeError: Names the first such field.
    """
    holder: Any = type(value)
    for name, kind in _types(holder).items():
        found = getattr(value, name)
        if not _fits(found, kind):
            shown = ascii(found)
            shown = shown if len(shown) <= _LONGEST_SHOWN else f"{shown[:_LONGEST_SHOWN]}..."
            raise TypeError(f"'{name}' of {holder.__name__} is {shown}")


@functools.cache
def _types(kind: Any) -> dict[str, Any]:
    """Types of the fields of a dataclass or of a named tuple; none of another class."""
    if not dataclasses.is_dataclass(kind) and not hasattr(kind, "_fields"):
        return {}
    names = [field.name for field in dataclasses.fields(kind)] if dataclasses.is_dataclass(kind) else kind._fields
    hints = typing.get_type_hints(kind)
    return {name: hints[name] for name in names}


def _fits(value: object, kind: Any) -> bool:
    """Whether a value is of a type; raises TypeError for a field of a dataclass inside it."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is tuple and len(arguments) == 2 and arguments[1] is Ellipsis:
        return isinstance(value, tuple) and all(_fits(item, arguments[0]) for item in value)
    if origin is dict:
        return isinstance(value, dict) and all(
            _fits(item, wanted) for pair in value.items() for item, wanted in zip(pair, arguments, strict=True)
        )
    if origin is types.UnionType:
        return any(_fits(value, each) for each in arguments)
    if origin is np.ndarray:
        return isinstance(value, np.ndarray)
    if kind in (int, float):
        return isinstance(value, int | kind) and not isinstance(value, bool)
    if not isinstance(value, kind):
        return False
    check_fields(value)
    return True
