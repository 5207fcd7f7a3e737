# SPDX-License-Identifier: Apache-2.0
"""Boards are data under a schema: every file obeys it, and what does not is refused with the field's name."""

import copy
import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hetfab.overlay.board import board_names, board_schema, read_board, read_board_file
from hetfab.overlay.design import default_design, read_design
from hetfab.overlay.errors import DesignInvalidError
from hetfab.overlay.json_schema import schema_problems

FOLDER = Path(__file__).parents[1] / "overlay" / "boards"
DESIGNS = Path(__file__).parents[1] / "overlay" / "designs"
TABLE: dict[str, Any] = json.loads((FOLDER / "kv260.json").read_text(encoding="utf-8"))
VALUES = st.one_of(st.none(), st.booleans(), st.integers(-2, 1 << 33), st.floats(-1, 1e9), st.text(max_size=4))


def fields(table: Any) -> list[tuple[str, ...]]:
    """Paths of all fields of a table."""
    if not isinstance(table, dict):
        return []
    return [path for key, value in table.items() for path in [(key,), *((key, *rest) for rest in fields(value))]]


def changed(path: tuple[str, ...], value: Any) -> dict[str, Any]:
    """A board's table with one field replaced, or removed where the value is ``...``."""
    table = copy.deepcopy(TABLE)
    inner = table
    for key in path[:-1]:
        inner = inner[key]
    if value is ...:
        del inner[path[-1]]
    else:
        inner[path[-1]] = value
    return table


def test_the_five_boards_are_there() -> None:
    assert board_names() == ["kv260", "pynq-z2", "ultra96-v2", "zc706", "zcu104"]


@pytest.mark.parametrize("name", ["kv260", "pynq-z2", "ultra96-v2", "zc706", "zcu104"])
def test_a_board_obeys_the_schema_and_is_named_as_its_file(name: str) -> None:
    table = json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator(board_schema()).validate(table)
    assert read_board(name).name == name
    assert read_board(name).part.startswith({"zynq-7000": "xc7z"}.get(read_board(name).family, "xc"))


def test_the_schema_is_one() -> None:
    jsonschema.Draft202012Validator.check_schema(board_schema())


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(fields(TABLE)), st.one_of(VALUES, st.lists(VALUES, max_size=2), st.just(...)))
def test_the_check_agrees_with_the_package_jsonschema(path: tuple[str, ...], value: Any) -> None:
    table = changed(path, value)
    # JSON Schema counts 2.0 as a whole number; a board's file must not write one so.
    if isinstance(value, float) and value.is_integer():
        return
    validator = jsonschema.Draft202012Validator(board_schema())
    assert (not list(schema_problems(table, board_schema()))) == validator.is_valid(table)


@pytest.mark.parametrize(
    ("path", "value", "found", "expected"),
    [
        (("resources", "lut"), "many", "resources.lut is 'many'", "resources.lut: integer"),
        (("resources", "lut"), 0, "resources.lut is 0", "resources.lut: at least 1"),
        (("axi", "version"), 5, "axi.version is 5", "axi.version: one of 3, 4"),
        (("axi", "burst_beats"), 257, "axi.burst_beats is 257", "axi.burst_beats: at most 256"),
        (("part",), ..., "part is missing", "part: a value"),
        (("colour",), "red", "colour is unknown", "colour: one of name, part, family"),
        (("pynq",), ["3.0.1", 3], "pynq[1] is 3", "pynq[1]: string"),
        (("part",), "7z020", "part is '7z020'", "part: a text that matches ^xc"),
    ],
)
def test_a_wrong_field_is_named(tmp_path: Path, path: tuple[str, ...], value: Any, found: str, expected: str) -> None:
    file = tmp_path / "board.json"
    file.write_text(json.dumps(changed(path, value)), encoding="utf-8")
    with pytest.raises(DesignInvalidError) as caught:
        read_board_file(file)
    assert caught.value.found == f"the board '{file}' cannot be used: {found}"
    assert caught.value.expected.startswith(expected)


def test_a_file_that_is_no_json_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "board.json"
    file.write_text("{", encoding="utf-8")
    with pytest.raises(DesignInvalidError, match=r"cannot read the board '.*board.json': Expecting"):
        read_board_file(file)


def test_a_reserve_that_nobody_knows_is_null() -> None:
    assert read_board("kv260").contiguous_bytes is None
    assert read_board("pynq-z2").contiguous_bytes == 128 << 20


@pytest.mark.parametrize("name", ["kv260", "pynq-z2", "ultra96-v2", "zc706", "zcu104"])
def test_every_board_has_a_default_design_with_the_command_that_chose_it(name: str) -> None:
    design = default_design(name)
    assert design == read_design(DESIGNS / f"{name}.json")
    assert (design.name, design.board) == (name, name)
    assert design.origin.startswith(f"python -m benchmarks.design_sweep --board {name}: ")
