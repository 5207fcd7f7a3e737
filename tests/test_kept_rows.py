# SPDX-License-Identifier: Apache-2.0
"""Rows of long benchmarks: kept by name, made anew when the code has changed, older ones only when asked for."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.outside import ROOT, module

KEPT: Any = module("benchmarks.kept_rows")


def counted() -> tuple[list[int], Any]:
    calls: list[int] = []

    def compute() -> dict[str, int]:
        calls.append(len(calls))
        return {"figure": len(calls)}

    return calls, compute


def test_a_row_is_made_once(tmp_path: Path) -> None:
    calls, compute = counted()
    for _ in range(2):
        rows = KEPT.KeptRows(tmp_path / "rows", identity="a")
        assert rows.row("one", compute) == {"figure": 1}
        assert rows.origin == {"code": "a", "older_rows": {}}
    assert calls == [0]
    assert json.loads((tmp_path / "rows" / "one.json").read_text()) == {"code": "a", "row": {"figure": 1}}


def test_a_row_of_other_code_is_made_anew_and_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    calls, compute = counted()
    KEPT.KeptRows(tmp_path, identity="a").row("one", compute)
    rows = KEPT.KeptRows(tmp_path, identity="b")
    assert rows.row("one", compute) == {"figure": 2} and rows.origin == {"code": "b", "older_rows": {}}
    assert f"{tmp_path / 'one.json'} is of the code a, not of b: made anew" in capsys.readouterr().err
    assert KEPT.KeptRows(tmp_path, identity="b").row("one", compute) == {"figure": 2}
    assert len(calls) == 2


def test_an_older_row_that_is_kept_is_named(tmp_path: Path) -> None:
    calls, compute = counted()
    KEPT.KeptRows(tmp_path, identity="a").row("one", compute)
    (tmp_path / "two.json").write_text(json.dumps({"figure": 7}))
    rows = KEPT.KeptRows(tmp_path, identity="b", keep_older=True)
    assert rows.row("one", compute) == {"figure": 1}
    assert rows.row("two", compute) == {"figure": 7}
    assert rows.row("three", compute) == {"figure": 2}
    assert rows.origin == {"code": "b", "older_rows": {"one": "a", "two": "unknown"}}
    assert len(calls) == 2


def test_what_rows_are_made_from_is_of_one_code(tmp_path: Path) -> None:
    first, second = (KEPT.KeptRows(tmp_path, identity=identity).made for identity in "ab")
    assert first.is_dir() and second.is_dir() and first != second


def test_a_row_that_failed_leaves_nothing(tmp_path: Path) -> None:
    def fail() -> dict[str, Any]:
        raise OSError("no figures")

    with pytest.raises(OSError, match="no figures"):
        KEPT.KeptRows(tmp_path, identity="a").row("one", fail)
    assert list(tmp_path.iterdir()) == []


def test_the_identity_follows_sources_and_nothing_else(tmp_path: Path) -> None:
    def identity() -> str:
        KEPT.code_identity.cache_clear()
        found: str = KEPT.code_identity(tmp_path)
        return found

    for folder in ("overlay", "docs"):
        (tmp_path / folder).mkdir()
    (tmp_path / "overlay" / "a.py").write_text("1")
    first = identity()
    (tmp_path / "docs" / "a.py").write_text("1")
    (tmp_path / "overlay" / "a.pyc").write_text("1")
    assert identity() == first and len(first) == 16
    found = {first}
    (tmp_path / "overlay" / "a.py").write_text("2")
    found.add(identity())
    (tmp_path / "overlay" / "a.py").rename(tmp_path / "overlay" / "b.py")
    found.add(identity())
    assert len(found) == 3
    KEPT.code_identity.cache_clear()
    assert KEPT.code_identity() == KEPT.code_identity(ROOT)
