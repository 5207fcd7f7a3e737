# SPDX-License-Identifier: Apache-2.0
"""``python -m hetfab.hls.tcl_check vitis_hls|vivado SCRIPT --version V``: prints what the model refuses, status 1."""

import argparse
import sys
from pathlib import Path

from hetfab.hls.tcl_check.check import check_script
from hetfab.hls.tcl_check.problem import Tool
from hetfab.overlay.errors import HetfabError


def main() -> int:
    """Checks a script in the current folder."""
    parser = argparse.ArgumentParser(prog="python -m hetfab.hls.tcl_check", description=__doc__)
    parser.add_argument("tool", choices=[tool.value for tool in Tool])
    parser.add_argument("script", type=Path)
    parser.add_argument("--version", required=True, help="release of the tool, such as 2024.2")
    parser.add_argument("--part", action="append", help="FPGA that the script may name; those of hetfab's boards else")
    parser.add_argument("--given", action="append", default=[], help="file that is taken to exist")
    parser.add_argument("arguments", nargs="*", help="argv of the script, after --")
    asked = parser.parse_args()
    try:
        problems = check_script(
            asked.script,
            Tool(asked.tool),
            asked.version,
            asked.part,
            Path.cwd(),
            given=asked.given,
            arguments=asked.arguments,
        )
    except HetfabError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    for problem in problems:
        print(problem)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
