# SPDX-License-Identifier: Apache-2.0
"""Checks plain JSON against a schema: the part of JSON Schema 2020-12 that hetfab's schemas use, without a package.

Keywords: ``type``, ``enum``, ``pattern``, ``minimum``, ``maximum``, ``required``, ``properties``,
``additionalProperties: false``, ``items``. ``tests/test_boards.py`` compares it with the package jsonschema.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

_KINDS: dict[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "null": (type(None),),
}
_LONGEST_SHOWN = 60


def schema_problems(value: Any, schema: Mapping[str, Any], name: str = "") -> Iterator[tuple[str, str, str]]:
    """Yields each field that breaks the schema: its dotted name, what was found, what was expected.

    Args:
        value: As ``json.loads`` returns it.
        schema: A schema of the keywords above.
        name: Of the value, empty for the whole.
    """
    kinds = schema.get("type", [])
    kinds = [kinds] if isinstance(kinds, str) else kinds
    if kinds and not any(_is_kind(value, kind) for kind in kinds):
        yield name, _shown(value), " or ".join(kinds)
        return
    if "enum" in schema and value not in schema["enum"]:
        yield name, _shown(value), "one of " + ", ".join(map(str, schema["enum"]))
    if isinstance(value, str) and "pattern" in schema and not re.search(schema["pattern"], value):
        yield name, _shown(value), f"a text that matches {schema['pattern']}"
    if _is_kind(value, "number"):
        if "minimum" in schema and not value >= schema["minimum"]:
            yield name, _shown(value), f"at least {schema['minimum']}"
        if "maximum" in schema and not value <= schema["maximum"]:
            yield name, _shown(value), f"at most {schema['maximum']}"
    if isinstance(value, dict):
        yield from _object_problems(value, schema, name)
    if isinstance(value, list):
        for number, entry in enumerate(value):
            yield from schema_problems(entry, schema.get("items", {}), f"{name}[{number}]")


def _object_problems(value: Mapping[str, Any], schema: Mapping[str, Any], name: str) -> Iterator[tuple[str, str, str]]:
    prefix = f"{name}." if name else ""
    properties = schema.get("properties", {})
    for key in schema.get("required", []):
        if key not in value:
            yield prefix + key, "missing", "a value"
    for key, entry in value.items():
        if key in properties:
            yield from schema_problems(entry, properties[key], prefix + key)
        elif schema.get("additionalProperties", True) is False:
            yield prefix + key, "unknown", "one of " + ", ".join(properties)


def _is_kind(value: Any, kind: str) -> bool:
    return isinstance(value, _KINDS[kind]) and not isinstance(value, bool)


def _shown(value: Any) -> str:
    text = ascii(value)
    return text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}..."
