# SPDX-License-Identifier: Apache-2.0
"""Measures how long ``hetfab --help`` and the import of each package take in a fresh process."""

import statistics
import subprocess
import sys
import time
from collections.abc import Sequence

from benchmarks.report import Report, argument_parser, publish

_PACKAGES = ("overlay", "quantize", "hls", "driver", "cli")
_HELP = "import sys; from hetfab.cli.main import main; sys.exit(main(['--help']))"
#: The interpreter's own start, to be read beside the others.
_NOTHING = "pass"


def seconds(program: str, repeats: int) -> float:
    """Median wall time of fresh interpreters that run a program, after one run that fills the caches."""
    times = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        subprocess.run([sys.executable, "-c", program], check=True, stdout=subprocess.DEVNULL)
        times.append(time.perf_counter() - start)
    return statistics.median(times[1:])


def measure(repeats: int) -> Report:
    """Times the help text, each package and an empty program.

    Args:
        repeats: Runs of each; the median counts.
    """
    python_seconds = seconds(_NOTHING, repeats)
    help_seconds = seconds(_HELP, repeats)
    import_seconds = {name: seconds(f"import hetfab.{name}", repeats) for name in _PACKAGES}
    rows: list[Sequence[object]] = [("python -c pass", python_seconds), ("hetfab --help", help_seconds)]
    rows += [(f"import hetfab.{name}", import_seconds[name]) for name in _PACKAGES]
    return Report(
        title=f"Cold start, measured, median of {repeats} fresh processes",
        headings=("program", "seconds"),
        rows=rows,
        values={
            "help_seconds": help_seconds,
            "import_seconds": import_seconds,
            "python_seconds": python_seconds,
            "repeats": repeats,
        },
    )


def main() -> None:
    """Runs the benchmark."""
    parser = argument_parser(__doc__)
    parser.add_argument("--repeats", type=int, default=7, help="fresh processes for each row (default 7)")
    arguments = parser.parse_args()
    publish(measure(arguments.repeats), arguments.as_json)


if __name__ == "__main__":
    main()
