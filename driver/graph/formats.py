# SPDX-License-Identifier: Apache-2.0
"""The forms of graphs that hetfab reads, and the reader that recognises which one a path holds.

A form is one file with a reader and one row of ``FORMATS``; ``docs/graphs.md`` describes each.
"""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from hetfab.driver.graph import csv_folder, hgb, npz
from hetfab.driver.graph.heterograph import HeteroGraph, listed
from hetfab.overlay.errors import GraphUnreadableError
from hetfab.overlay.versions import GRAPH


class Format(NamedTuple):
    """A form of graphs: its name, how it is recognised in words and in code, its reader, and the files it reads."""

    name: str
    marks: str
    recognises: Callable[[Path], bool]
    read: Callable[[Path], HeteroGraph]
    files: Callable[[Path], list[Path]]


def _holds(*names: str) -> Callable[[Path], bool]:
    return lambda path: all((path / name).is_file() for name in names)


#: Every form; the first that recognises a path reads it.
FORMATS = (
    Format(GRAPH.mark, "a file", lambda path: not path.is_dir(), npz.read_graph, lambda path: [path]),
    Format(
        "CSV folder",
        f"a folder with {csv_folder.SCHEMA_FILE}",
        _holds(csv_folder.SCHEMA_FILE),
        csv_folder.read_csv_folder,
        csv_folder.csv_files,
    ),
    Format(
        "HGB folder",
        "a folder with node.dat and link.dat",
        _holds("node.dat", "link.dat"),
        hgb.read_hgb,
        lambda path: [path / name for name in hgb.FILES],
    ),
)


def read_graph(path: Path | str) -> HeteroGraph:
    """Reads a graph of any form.

    Raises:
        GraphUnreadableError: The path is missing, of no known form, or damaged.
        InputError: The graph contradicts itself; the message names the file.
    """
    form, path = _recognise(Path(path))
    return form.read(path)


def graph_files(path: Path) -> list[Path]:
    """The files that a graph is read from, so that no output takes the place of one.

    Raises:
        InputError: As ``read_graph``, where the graph's form or ``graph.json`` already tells.
    """
    form, path = _recognise(path)
    return form.files(path)


def _recognise(path: Path) -> tuple[Format, Path]:
    if path.name == csv_folder.SCHEMA_FILE and path.is_file():
        path = path.parent
    for form in FORMATS:
        if form.recognises(path):
            return form, path
    there = sorted(entry.name for entry in path.iterdir())
    more = ", ..." if len(there) > 8 else ""
    raise GraphUnreadableError(
        f"the folder '{path}' holds no graph" + (f", but {listed(there[:8])}" if there else "; it is empty") + more,
        "; ".join(f"{form.marks} ({form.name})" for form in FORMATS),
        "check the path; docs/graphs.md describes the forms",
    )
