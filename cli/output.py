# SPDX-License-Identifier: Apache-2.0
"""What commands print with: errors, tables, progress, the next command, and JSON for programs.

Tables are plain text, so that they look the same in a pipe, in a log and on a board, where rich is not
installed.
"""

import contextlib
import json
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, ParamSpec, TextIO, TypeAlias

import click

from hetfab.overlay.errors import HetfabError

_P = ParamSpec("_P")
#: A command prints for people and returns what ``--json`` prints.
Result: TypeAlias = Mapping[str, Any]

#: Work that ends sooner shows no progress bar.
PROGRESS_AFTER_SECONDS = 1.0


def common_options(callback: Callable[_P, Result]) -> Callable[_P, Result]:
    """Adds the options that every command takes; ``main`` obeys them, so the callback does not see them."""
    for name, text in (
        ("--debug", "Print the Python traceback of an error; so does the variable HETFAB_DEBUG=1."),
        ("--json", "Print one JSON object on stdout and everything else on stderr."),
    ):
        callback = click.option(name, is_flag=True, expose_value=False, help=text)(callback)
    return callback


def write_json(value: Result, stream: TextIO) -> None:
    """Writes one JSON object and a newline.

    Raises:
        TypeError: The value holds something that JSON has no form for, such as a numpy number.
        ValueError: The value holds NaN or infinity.
    """
    text = json.dumps(value, allow_nan=False)
    stream.write(text + "\n")
    stream.flush()


def print_error(error: HetfabError) -> None:
    """Prints an error on stderr: what was found, what was expected, what to do."""
    parts = (
        ("error:", error.found, "red"),
        ("  expected:", error.expected, "cyan"),
        ("  do:", error.do, "cyan"),
    )
    for label, text, color in parts:
        body = text.replace("\n", "\n    ")
        click.echo(f"{click.style(label, fg=color, bold=True)} {body}", err=True)


def format_table(headings: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Lays out a table: columns of numbers, and of '-' where one is missing, to the right, all others to the left.

    Args:
        headings: One for each column.
        rows: Cells of any type, one for each heading; whole numbers get thousands separators.

    Returns:
        The lines, without a newline at the end.
    """
    cells = [[_cell(value) for value in row] for row in rows]
    columns = [[row[column] for row in rows if row[column] != "-"] for column in range(len(headings))]
    numeric = [all(map(_is_number, column)) and bool(column) for column in columns]
    widths = [max(len(row[column]) for row in [list(headings), *cells]) for column in range(len(headings))]
    lines = [list(headings), ["-" * width for width in widths], *cells]
    return "\n".join(
        "  ".join(
            text.rjust(width) if right else text.ljust(width)
            for text, width, right in zip(line, widths, numeric, strict=True)
        ).rstrip()
        for line in lines
    )


def print_table(headings: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Prints a table for people."""
    click.echo(format_table(headings, rows))


def print_next(command: str) -> None:
    """Prints the command line that a user most likely wants next."""
    click.echo(f"{click.style('next:', fg='green', bold=True)} {command}")


@contextlib.contextmanager
def progress(description: str, total: int | None = None) -> Iterator[Callable[[int], None]]:
    """Shows a progress bar on stderr, on a terminal only and not before a second has passed.

    Args:
        description: What is being done.
        total: Number of steps; without it the bar only shows that work goes on.

    Yields:
        A function that takes the number of further steps done.
    """
    if not sys.stderr.isatty():
        yield lambda steps: None
        return
    try:
        from rich.console import Console
        from rich.progress import Progress
    except ModuleNotFoundError:  # A board has no rich, and no need for it.
        yield lambda steps: None
        return
    bar = Progress(console=Console(stderr=True), transient=True)
    task = bar.add_task(description, total=total)
    timer = threading.Timer(PROGRESS_AFTER_SECONDS, bar.start)
    timer.daemon = True
    timer.start()
    try:
        yield lambda steps: bar.advance(task, steps)
    finally:
        timer.cancel()
        timer.join()
        if bar.live.is_started:
            bar.stop()


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _cell(value: object) -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:,.4g}"
    return str(value)
