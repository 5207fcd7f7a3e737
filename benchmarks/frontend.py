# SPDX-License-Identifier: Apache-2.0
"""What the graph frontend gains: public models on public graphs at PYNQ-Z2's own buffers, modelled, building counted.

Columns are ways to do the same work on the same engines with as many rows requested ahead. *Published*: dense first
projections, metapaths built from left to right without reuse, vertices by id, direct-mapped tags. *Off*: the same with
our first projections. *SGB*: off, and semantic graphs as planned. *RST*: off, and rows of features as ``--rows auto``
finds them: tags, a schedule, no buffer, and edges in parts; orders cost what they take the board's processor. *Both*.
*Bound*: with the edges of a destination in their order no choice of rows on chip can beat it, as a build takes a cycle
for each edge of its result and an instruction of AGG reads each row once, but what the scratchpad may hold from before,
and waits for nothing that it reads. *Engines*: no order of instructions can beat that either, it is the busiest engine
alone. Each row has a process of its own; with ``--folder`` its figures are a file there, with the code that found them,
and a run that was stopped goes on.
"""

import functools
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.kept_rows import Row, add_options, kept_rows
from benchmarks.report import Report, argument_parser, publish

_GRAPHS, _KINDS = ("acm", "dblp", "imdb"), ("rgcn", "rgat", "han", "simplehgn")
PASSES = (1, 100)
WAYS = ("published", "off", "sgb", "rst", "both", "bound", "engines")
_HEADINGS = (
    *("model", "inferences", *(f"{way} ms" for way in WAYS), "published / both", "of it projection", "SGB", "RST"),
    *("both / tags in bytes at 128", "512", "2048", "8192"),
)


def way_milliseconds(row: Mapping[str, Any], passes: int, *, building: bool) -> dict[str, float]:
    """Modelled time of each way, with or without building semantic graphs.

    Args:
        row: As ``benchmarks.frontend_row`` gives it.
        passes: Inferences on the same graph.
        building: Whether semantic graphs are built first.
    """
    build = row["building"] if building else dict.fromkeys(row["building"], 0.0)
    rows = min(each["making"] + each["milliseconds"] * passes for each in row["rows"].values())
    return {
        "published": build["left_to_right"] + row["published"] * passes,
        "off": build["left_to_right"] + row["tags"] * passes,
        "sgb": build["planned"] + row["tags"] * passes,
        "rst": build["left_to_right"] + rows,
        "both": build["planned"] + rows,
        "bound": build["bound"] + row["bound"] * passes,
        "engines": max(build["bound"], row["engine_bound"] * passes),
    }


def gains(ways: Mapping[str, float]) -> dict[str, float]:
    """What each step gains, from the published way to both: their product is the whole."""
    return {
        "projection": ways["published"] / ways["off"],
        "sgb": ways["off"] / ways["sgb"],
        "rst": ways["sgb"] / ways["both"],
    }


def report(rows: Mapping[str, Row], origin: Mapping[str, Any]) -> Report:
    """Figures of each row and of all.

    Args:
        rows: As ``benchmarks.frontend_row`` gives them.
        origin: The code that made them, as ``KeptRows`` gives it.
    """
    ways = {
        (name, passes, building): way_milliseconds(row, passes, building=building)
        for name, row in rows.items()
        for passes in PASSES
        for building in (True, False)
    }

    def ratios(above: str, below: str, passes: int, building: bool = True) -> list[float]:
        return [ways[name, passes, building][above] / ways[name, passes, building][below] for name in rows]

    values: dict[str, Any] = {"modelled": True, **origin}
    for passes in PASSES:
        values[f"both_over_bound_{passes}"] = statistics.geometric_mean(ratios("bound", "both", passes))
        values[f"both_over_engine_bound_{passes}"] = statistics.geometric_mean(ratios("engines", "both", passes))
        for suffix, building in (("", True), ("_given", False)):
            over = ratios("published", "both", passes, building)
            values[f"geomean_over_published_way_{passes}{suffix}"] = statistics.geometric_mean(over)
            values[f"min_over_published_way_{passes}{suffix}"] = min(over)
    values["min_speedup"] = min(min(ratios("off", "both", passes)) for passes in PASSES)
    values["geomean_over_published_way"] = values["geomean_over_published_way_1"]
    values["rows"] = {
        name: {**row, "ways": {str(passes): ways[name, passes, True] for passes in PASSES}}
        for name, row in rows.items()
    }
    shown = [_shown(name, row, passes, ways[name, passes, True]) for name, row in rows.items() for passes in PASSES]
    return Report(f"{len(rows)} rows at PYNQ-Z2's buffers, milliseconds modelled", _HEADINGS, shown, values)


def _shown(name: str, row: Mapping[str, Any], passes: int, ways: Mapping[str, float]) -> list[str]:
    gained = gains(ways)
    bytes_of = [f"{moved['ordered'] / moved['tags']:.2f}" for moved in row["feature_bytes"].values()]
    return [
        *(name, str(passes), *(f"{ways[way]:,.1f}" for way in WAYS)),
        *(f"{ways['published'] / ways['both']:.2f}", *(f"{gain:.2f}" for gain in gained.values())),
        *bytes_of,
    ]


def figures(name: str, made: Path, data: Path) -> Row:
    """The figures of one row, found in a process of its own; quantized models are kept in ``made``."""
    command = [sys.executable, "-m", "benchmarks.frontend_row", name, str(made), str(data)]
    row: Row = json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)
    return row


def main() -> None:
    """Prints the table and the JSON line."""
    parser = argument_parser(__doc__)
    parser.add_argument("--only", default="", help="rows whose name holds this")
    add_options(parser)
    arguments = parser.parse_args()
    data = Path(os.environ["HETFAB_DATA"])
    names = [name for name in (f"{graph}_{kind}" for kind in _KINDS for graph in _GRAPHS) if arguments.only in name]
    with kept_rows(arguments) as kept:
        rows = {name: kept.row(f"{name}.frontend", functools.partial(figures, name, kept.made, data)) for name in names}
        publish(report(rows, kept.origin), arguments.as_json)


if __name__ == "__main__":
    main()
