# SPDX-License-Identifier: Apache-2.0
"""Formats C++ files with clang-format and keeps ``#pragma HLS`` lines as they are written.

clang-format puts spaces around each ``=`` of a pragma and breaks long ones; it leaves ``#pragma mark`` alone,
so the pragmas wear that name while it works.
"""

import argparse
import difflib
import re
import subprocess
import sys
from pathlib import Path

_PRAGMA = re.compile(r"^(\s*)#pragma HLS\b", re.MULTILINE)
_HIDDEN = re.compile(r"^(\s*)#pragma mark HLS\b", re.MULTILINE)


def formatted(text: str, path: Path, clang_format: str) -> str:
    """Returns the text as clang-format wants it, with its HLS pragmas unchanged."""
    hidden = _PRAGMA.sub(r"\1#pragma mark HLS", text)
    process = subprocess.run(
        [clang_format, "--style=file", f"--assume-filename={path}"],
        input=hidden,
        capture_output=True,
        text=True,
        check=True,
    )
    return _HIDDEN.sub(r"\1#pragma HLS", process.stdout)


def main() -> int:
    """Rewrites the files, or with ``--check`` prints what would change and returns 1."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing, print the differences")
    parser.add_argument("--clang-format", default="clang-format", help="the program to run")
    parser.add_argument("roots", type=Path, nargs="+", help="folders to search for *.hpp and *.cpp")
    arguments = parser.parse_args()

    status = 0
    for path in sorted(path for root in arguments.roots for path in root.rglob("*.[hc]pp")):
        before = path.read_text(encoding="utf-8")
        after = formatted(before, path, arguments.clang_format)
        if before == after:
            continue
        if arguments.check:
            status = 1
            lines = difflib.unified_diff(
                before.splitlines(), after.splitlines(), str(path), f"{path} (formatted)", lineterm="", n=1
            )
            print("\n".join(lines))
        else:
            path.write_text(after, encoding="utf-8")
            print(f"formatted {path}")
    return status


if __name__ == "__main__":
    sys.exit(main())
