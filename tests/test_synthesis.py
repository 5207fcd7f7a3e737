# SPDX-License-Identifier: Apache-2.0
"""The kernels use the HLS constructs that docs/synthesis.md lists, and none that the design excludes."""

import re
from pathlib import Path

from hetfab.hls.build import emulator

ROOT = Path(__file__).parents[1]
HLS = Path(emulator.__file__).parents[1]
SOURCES = sorted([*HLS.glob("include/hetfab/*.hpp"), *HLS.glob("kernels/*")])
DIRECTIVE = re.compile(r"^\s*#pragma HLS (\w+)(.*)$", re.MULTILINE)


def directives() -> list[tuple[Path, str, str]]:
    """File, directive and options of every HLS pragma."""
    joined = [(path, path.read_text(encoding="utf-8").replace("\\\n", " ")) for path in SOURCES]
    return [(path, match[1], match[2]) for path, text in joined for match in DIRECTIVE.finditer(text)]


def test_every_directive_and_option_is_listed() -> None:
    page = (ROOT / "docs" / "synthesis.md").read_text(encoding="utf-8")
    code = " ".join(re.findall(r"`([^`]*)`", page))
    found = directives()
    assert len(found) > 60
    for path, directive, options in found:
        assert re.search(rf"\b{directive}\b", code), f"{path.name}: {directive} is not in docs/synthesis.md"
        for option in re.findall(r"(\w+)=", options):
            assert f"{option}=" in code, f"{path.name}: {directive} {option}= is not in docs/synthesis.md"


def test_every_directive_has_a_row_of_what_a_report_must_show() -> None:
    page = (ROOT / "docs" / "synthesis.md").read_text(encoding="utf-8")
    section = page.partition("## What to check in the reports")[2]
    rows = set(re.findall(r"^\| `([^`]+)` [^|]*\| [^|]+ \| [^|]+ \|$", section, re.MULTILINE))
    used = {name for _, name, _ in directives() if name != "INTERFACE"}
    modes = {match[1] for _, _, options in directives() if (match := re.match(r" mode=(\w+)", options))}
    used |= {f"INTERFACE mode={mode}" for mode in modes} | {"HETFAB_FENCE"}
    assert used <= rows
    assert {name for name in rows if name.isupper() or name.startswith("INTERFACE")} <= used


def test_every_precedent_is_a_path_in_a_listed_repository() -> None:
    page = (ROOT / "docs" / "synthesis.md").read_text(encoding="utf-8")
    listed = dict(
        re.findall(r"^\| (\w{2,3}) \| \[([^\]]+)\]\(https://github.com/[^)]+\) \| [0-9a-f]{7} \|$", page, re.MULTILINE)
    )
    rows = re.findall(
        r"^\| .+ \| .+ \| (.+) \| .+ \|$", page.partition("## Control")[2].partition("## Work before")[0], re.MULTILINE
    )
    precedents = [cell for cell in rows if cell not in {"precedent", "---"}]
    assert len(precedents) > 20 and len(listed) > 8
    for cell in precedents:
        cited = re.findall(r"\b([A-Z][A-Z0-9]{1,2}) (?:\([^)]*\) )?`([^`]+)`", cell)
        assert cited or "Xilinx WP486" in cell, cell
        assert {short for short, _ in cited} <= set(listed), cell
        assert all(re.search(r"\.(cpp|h|hpp|cc|tcl|json)\b", path) for _, path in cited), cell
    assert {short for cell in precedents for short in re.findall(r"\b[A-Z][A-Z0-9]{1,2}\b", cell)} >= set(listed)
