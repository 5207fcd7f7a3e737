# SPDX-License-Identifier: Apache-2.0
"""The list of pynq releases that are tested: one file, which boards, sessions and pages agree with."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

from hetfab.overlay.board import board_names, read_board

ROOT = Path(__file__).parents[1]
ROWS = json.loads((ROOT / ".ci" / "pynq_versions.json").read_text("utf-8"))
FAMILIES = {"zynq-7000": "Zynq-7000", "zynq-ultrascale+": "Zynq UltraScale+"}


def nox(*arguments: str, **variables: str) -> str:
    """What nox prints."""
    done = subprocess.run(
        [Path(sys.executable).with_name("nox"), *arguments],
        cwd=ROOT,
        env={**os.environ, "PYNQ_PYTHON": "", **variables},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def test_each_board_has_a_release_that_is_tested_in_ci_and_none_that_it_does_not_load_on() -> None:
    tested = {row["pynq"] for row in ROWS if row["ci"]}
    for name in board_names():
        assert tested & set(read_board(name).pynq), name
    assert {row["pynq"] for row in ROWS} - {""} <= {one for name in board_names() for one in read_board(name).pynq}
    assert [row["python"] for row in ROWS if not row["pynq"]] == ["3.13"]


def test_the_page_has_the_rows_with_the_boards_of_each() -> None:
    families: dict[str, set[str]] = {row["pynq"]: set() for row in ROWS}
    for name in board_names():
        board = read_board(name)
        for release in families.keys() & set(board.pynq):
            families[release].add(FAMILIES[board.family])
    expected = [
        (
            row["pynq"] or "none",
            row["python"],
            ", ".join(name for name in FAMILIES.values() if name in families[row["pynq"]]),
            "yes" if row["ci"] else "",
        )
        for row in ROWS
    ]
    page = (ROOT / "docs/versions.md").read_text("utf-8").partition("## pynq and Python")[2]
    rows = [tuple(cell.strip() for cell in line.strip("|").split("|")) for line in page.splitlines() if line[:1] == "|"]
    assert rows[2:] == expected


def test_every_row_is_a_session_and_those_of_ci_are_tagged() -> None:
    shown = nox("--list")
    found = {name: tag == " [ci]" for name, tag in re.findall(r"^\* pynq\(([^)]+)\)( \[ci\])? ->", shown, re.MULTILINE)}
    assert found == {row["pynq"] or "none": row["ci"] for row in ROWS}


def test_what_is_not_run_is_named_with_its_reason() -> None:
    """A Python that is nowhere on the path: each row of CI says that it was missed, or who stood in."""
    for stand_in, reason in (("", "and PYNQ_PYTHON names none"), ("python3.11", "; python3.11 stood in")):
        shown = nox("--session", "left_out", PATH="", PYNQ_PYTHON=stand_in)
        for row in ROWS:
            name = f"{'pynq ' + row['pynq'] if row['pynq'] else 'no pynq'} on Python {row['python']}"
            line = next(line for line in shown.splitlines() if name in line)
            assert (reason in line and "was not run: no Python" in line) if row["ci"] else (row["why"] in line)
