# SPDX-License-Identifier: Apache-2.0
"""How a benchmark reports: a table for people, and as the last line one JSON object for programs."""

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hetfab.cli.output import format_table


@dataclass(frozen=True)
class Report:
    """What a benchmark found.

    Attributes:
        title: One line; says whether the figures are measured or modelled.
        headings: Of the table's columns.
        rows: Of the table.
        values: The JSON object; names carry their unit (``help_seconds``).
    """

    title: str
    headings: Sequence[str]
    rows: Sequence[Sequence[object]]
    values: Mapping[str, Any]


def argument_parser(description: str | None) -> argparse.ArgumentParser:
    """A parser with the option that all benchmarks take: ``--json``."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--json", action="store_true", dest="as_json", help="print the JSON object alone")
    return parser


def publish(report: Report, as_json: bool) -> None:
    """Prints the report: title, table and JSON line, or the JSON line alone."""
    if not as_json:
        print(report.title)
        print(format_table(report.headings, report.rows))
    print(json.dumps(dict(report.values), allow_nan=False))
