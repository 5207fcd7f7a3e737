# SPDX-License-Identifier: Apache-2.0
"""Versions of the formats of files that outlive the hetfab that wrote them (docs/versions.md).

A file states its format and the format's version in one text, its *mark*. Each reader asks here what to do with it:
read it, convert it, or refuse it with the command that writes it anew. Standard library only: a board loads it too.
"""

import importlib.metadata
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from hetfab.overlay.errors import FormatVersionError

#: Turns the content of a file of one version into that of the next.
Conversion = Callable[[dict[str, Any]], dict[str, Any]]
#: Digits of a version that are believed.
_MOST_DIGITS = 6


def hetfab_version() -> str:
    """The installed hetfab's version; pyproject.toml alone states it."""
    try:
        return importlib.metadata.version("hetfab")
    except importlib.metadata.PackageNotFoundError:
        return "of an unknown version"


@dataclass(frozen=True)
class FileFormat:
    """A format and what its reader does with each version.

    Attributes:
        name: First part of the mark.
        separator: Between name and version.
        what: What messages call such a file.
        version: The one that is written and read.
        conversions: By older version, how its content becomes that of the next.
    """

    name: str
    separator: str
    what: str
    version: int
    conversions: Mapping[int, Conversion] = field(default_factory=dict)

    @property
    def mark(self) -> str:
        """What a file of the current version states."""
        return f"{self.name}{self.separator}{self.version}"

    def stated(self, mark: Any) -> int | None:
        """The version that a mark states, None where it is not one of this format."""
        if not isinstance(mark, str):
            return None
        found = re.fullmatch(re.escape(self.name + self.separator) + rf"([0-9]{{1,{_MOST_DIGITS}}})", mark, re.ASCII)
        return int(found[1]) if found else None

    def current(self, content: dict[str, Any], version: int, source: str, remake: str) -> dict[str, Any]:
        """The content of a file as the current version has it.

        Args:
            content: What a file of ``version`` holds.
            version: As ``stated`` or the form of the file tells.
            source: Path of the file, for messages.
            remake: The command that writes such a file anew.

        Raises:
            FormatVersionError: The version is newer, or older and there is no conversion.
        """
        if version > self.version:
            raise self.refused(version, source, "update the hetfab that reads it: pip install --upgrade hetfab")
        while version < self.version:
            if version not in self.conversions:
                raise self.refused(version, source, f"make it anew: {remake}")
            content = self.conversions[version](content)
            version += 1
        return content

    def refused(self, version: int, source: str, do: str) -> FormatVersionError:
        """The error for a version that is not read."""
        return FormatVersionError(
            f"{self.what} '{source}' has version {version} of its format '{self.name}'",
            f"version {self.version}, which this hetfab, {hetfab_version()}, reads",
            do,
        )


def _with_all_parameters(design: dict[str, Any]) -> dict[str, Any]:
    """A design of version 2, which states what it lacks by leaving it out, as version 3 has it.

    Geometries gained parameters one by one. Those that are 0 for hardware without them are 0; sizes of the engines SGB
    and RST and of their FIFO, which count only where these engines are, are those of the default designs.
    """
    sizes = {"sgb_columns": 16384, "sgb_ids": 4096, "rst_vertices": 16384, "rows_fifo_words": 512, "agg_word_beats": 1}
    lacking = (
        *("res_words", "gather_beats", "fun_words", "norm_words", "exp_words", "dwp_words", "mid_words"),
        *("feature_words", "agg_weights", "agg_heads"),
    )
    geometry = {**dict.fromkeys(lacking, 0), **sizes, **design["geometry"]}
    return {"elements": "plain", **design, "format": DESIGN.mark, "geometry": geometry}


def design_version(design: Mapping[str, Any]) -> int | None:
    """The version of a design's content, None where it states another format. Versions 1 and 2 state none.

    Version 1 has one GEMM core, version 2 two.
    """
    if "format" in design:
        return DESIGN.stated(design["format"])
    return 1 if "gemm_rows" in design["geometry"] else 2


def _marked_as_2(workload: dict[str, Any]) -> dict[str, Any]:
    """A workload of version 1: late ones hold all that version 2 does, and its reader refuses the others."""
    return {**workload, "format": WORKLOAD.mark}


#: Every format with versions. A change of what a file holds is a new version here, and a conversion where it is exact.
PROGRAM = FileFormat("hetfab program", " ", "the program", 4)
DESIGN = FileFormat("hetfab design", " ", "the design", 3, {2: _with_all_parameters})
PACKAGE = FileFormat("hetfab overlay", " ", "the overlay package", 2)
GRAPH = FileFormat("hg-npz", "/", "the graph", 1)
WORKLOAD = FileFormat("hetfab-workload", "/", "the workload", 2, {1: _marked_as_2})
FORMATS = (PROGRAM, DESIGN, PACKAGE, GRAPH, WORKLOAD)
