# SPDX-License-Identifier: Apache-2.0
"""Writes the table of rules in docs/lint.md, or with ``--check`` compares it.

Run as ``python -m hetfab.hls.lint.page`` in a source tree; the exit status of ``--check`` is 1 when it is stale.
"""

import argparse
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import BinaryIO

from hetfab.hls.lint.findings import Rule, Scope
from hetfab.hls.lint.rules import RULES
from hetfab.overlay.files import write_atomic

PAGE = Path(__file__).resolve().parents[2] / "docs" / "lint.md"
COMMAND = "python -m hetfab.hls.lint.page"
BEGIN, END = "<!-- rules: generated, do not edit -->\n", "<!-- end of the rules -->\n"
_HEADINGS = {
    "L": "Language",
    "B": "Bounds",
    "P": "Directives",
    "I": "Interfaces",
    "O": "Order",
    "M": "Memories",
    "W": "Widths",
}


def rule_tables() -> str:
    """The tables of all rules, by family."""
    parts = []
    for letter, heading in _HEADINGS.items():
        rows = [_row(rule) for rule in RULES if rule.id.startswith(f"HLS-{letter}")]
        parts.append(f"### {heading}\n\n| rule | expected | do | holds for | from |\n| --- | --- | --- | --- | --- |")
        parts[-1] += "\n" + "\n".join(rows) + "\n"
    return "\n" + "\n".join(parts) + "\n"


def _row(rule: Rule) -> str:
    scope = "all" if rule.scope is Scope.ANY else "hetfab"
    return f"| `{rule.id}` | {rule.expected} | {rule.do} | {scope} | {rule.source} |"


def with_tables(page: str) -> str:
    """The page with its tables replaced by those of the rules."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    return before + BEGIN + rule_tables() + END + after


def main(arguments: Sequence[str] | None = None, page: Path = PAGE) -> int:
    """Writes or compares the page; returns the exit status."""
    parser = argparse.ArgumentParser(prog=COMMAND, description="Write the table of rules in docs/lint.md.")
    parser.add_argument("--check", action="store_true", help="compare only; exit status 1 if the page is stale")
    text = page.read_text(encoding="utf-8")
    if not parser.parse_args(arguments).check:
        write_atomic(page, partial(_write, with_tables(text)))
        print(f"wrote {page.name}")
        return 0
    if with_tables(text) == text:
        return 0
    print(f"{page.name} is stale; run: {COMMAND}", file=sys.stderr)
    return 1


def _write(text: str, file: BinaryIO) -> None:
    file.write(text.encode("utf-8"))


if __name__ == "__main__":
    sys.exit(main())
