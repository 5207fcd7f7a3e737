# SPDX-License-Identifier: Apache-2.0
"""What two GEMM cores gain: the best design with both, with GEMM-D alone and with GEMM-L alone, for the same board.

For every workload three searches with the same limits and the same engines beside the cores: two of dense layers
alone, ResNet-18, MobileNetV2, and with ``$HETFAB_DATA`` the 15 public graph models. W4A4, 8 bytes of DRAM a cycle; all
modelled. Each workload has a process of its own; with ``--folder`` its figures are a file there, and a run that was
stopped goes on.
"""

import functools
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from benchmarks.core_designs import CORES, LUT_SHARE
from benchmarks.core_search import BOARD, GRAPH_MODELS, WITHOUT_DATA
from benchmarks.kept_rows import Row, add_options, kept_rows
from benchmarks.report import Report, argument_parser, publish
from hetfab.overlay.timeline.machine import COMPARISON_RATE

_HEADINGS = (
    *("workload", *(f"{kind} ms" for kind in CORES), "over GEMM-D", "over the better one", "both: GEMM-D", "GEMM-L"),
    *("GEMM-D alone", "GEMM-L alone", "cores busy", "slowest engine"),
)
_PERCENT = 100


def gains(row: Mapping[str, Any]) -> dict[str, float]:
    """How many times as fast both cores are as GEMM-D alone, and as the better one alone."""
    times = {kind: row[kind]["milliseconds"] for kind in CORES}
    return {
        "over_dsp_only": times["GEMM-D"] / times["both"],
        "over_best_single": min(times["GEMM-D"], times["GEMM-L"]) / times["both"],
    }


def report(rows: Mapping[str, Row], origin: Mapping[str, Any]) -> Report:
    """Figures of each workload and of all.

    Args:
        rows: As ``benchmarks.core_row`` gives them.
        origin: The code that made them, as ``KeptRows`` gives it.
    """
    found = {name: gains(row) for name, row in rows.items()}
    groups = {"": list(rows), "graph_models_": [name for name in rows if name in GRAPH_MODELS]}
    values: dict[str, Any] = {"board": BOARD, "dram_bytes_per_cycle": COMPARISON_RATE, "lut_share": LUT_SHARE, **origin}
    for prefix, names in groups.items():
        for key in ("over_dsp_only", "over_best_single"):
            gained = [found[name][key] for name in names]
            values[f"{prefix}{key}"] = statistics.geometric_mean(gained) if gained else None
    values |= {"busy": busy(rows), "workloads": {name: {**row, **found[name]} for name, row in rows.items()}}
    shown = [_shown(name, row, found[name]) for name, row in rows.items()]
    title = f"W4A4 on {BOARD}, {COMPARISON_RATE:g} DRAM bytes a cycle, LUTs up to {LUT_SHARE:.0%}: modelled"
    return Report(title, _HEADINGS, shown, values)


def busy(rows: Mapping[str, Row]) -> dict[str, float | None]:
    """Share of time that each core computes, over the layers of all workloads that DRAM does not decide."""
    counted = [layer for row in rows.values() for layer in row["layers"] if layer["counts"]]
    spans = sum(layer["cycles"] for layer in counted)
    return {
        core: sum(layer[core] * layer["cycles"] for layer in counted) / spans if spans else None
        for core in CORES["both"]
    }


def _shown(name: str, row: Row, gained: Mapping[str, float]) -> list[str]:
    both = row["both"]
    return [
        *(name, *(f"{row[kind]['milliseconds']:,.1f}" for kind in CORES), *(f"{gain:.2f}" for gain in gained.values())),
        *_arrays(row),
        f"{_PERCENT * both['cores_busy_share'] / len(CORES['both']):.0f} %",
        both["busiest_engine"],
    ]


def _arrays(row: Row) -> Iterator[str]:
    for kind in CORES:
        for core in CORES[kind]:
            yield " x ".join(map(str, row[kind]["arrays"][core]))


def figures(name: str, made: Path, data: Path) -> Row:
    """The figures of one workload, found in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.core_row", name, str(made), str(data)]
    found: Row = json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)
    return found


def main() -> None:
    """Prints the table and the JSON line."""
    parser = argument_parser(__doc__)
    parser.add_argument("--only", default="", help="workloads whose name holds this")
    add_options(parser)
    arguments = parser.parse_args()
    data = os.environ.get("HETFAB_DATA")
    names = [name for name in (*WITHOUT_DATA, *(GRAPH_MODELS if data else ())) if arguments.only in name]
    with kept_rows(arguments) as kept:
        rows = {
            name: kept.row(f"{name}.cores", functools.partial(figures, name, kept.made, Path(data or "")))
            for name in names
        }
        publish(report(rows, kept.origin), arguments.as_json)


if __name__ == "__main__":
    main()
