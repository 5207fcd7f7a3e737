# SPDX-License-Identifier: Apache-2.0
"""Writes the C++ of an accelerator's dense stages: what GEMM-D's place takes beside the array (docs/dataflow.md)."""

from collections.abc import Sequence
from functools import cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from hetfab.hls.build.dataflow.projects import project_name, project_weights, write_projects
from hetfab.overlay.dense_stages import Stage


def stages_header(stages: Sequence[Stage]) -> str:
    """The text of ``stages.hpp``: each stage as a type, and a choice among them by number."""
    return _environment().get_template("stages.hpp.j2").render(stages=stages)


def native_stages(stages: Sequence[Stage]) -> str:
    """The text of a C++ file with the products of all stages by their definition, for native integers."""
    return _environment().get_template("native_stages.cpp.j2").render(stages=stages)


def write_native_stages(folder: Path, stages: Sequence[Stage]) -> list[Path]:
    """Writes the stages by their definition; returns the files that are compiled."""
    source = folder / "native_stages.cpp"
    source.write_text(native_stages(stages), encoding="utf-8")
    (folder / "stages.hpp").write_text(stages_header(stages), encoding="utf-8")
    return [source]


def write_project_stages(folder: Path, stages: Sequence[Stage], part: str) -> list[Path]:
    """Writes the stages as projects of hls4ml; returns the files that are compiled, with ``folder`` among the includes.

    Args:
        folder: An existing folder.
        stages: The stages.
        part: What the projects are for.

    Raises:
        PackageMissingError: hls4ml is not installed.
    """
    write_projects(folder, stages, part)
    source = folder / "project_stages.cpp"
    numbers = range(len(stages))
    text = _environment().get_template("project_stages.cpp.j2")
    content = text.render(
        stages=stages,
        projects=[project_name(number) for number in numbers],
        weights=[project_weights(folder, number) for number in numbers],
    )
    source.write_text(content, encoding="utf-8")
    (folder / "stages.hpp").write_text(stages_header(stages), encoding="utf-8")
    return [source]


@cache
def _environment() -> Environment:
    return Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        undefined=StrictUndefined,
        trim_blocks=True,
        keep_trailing_newline=True,
    )
