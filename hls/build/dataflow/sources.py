# SPDX-License-Identifier: Apache-2.0
"""Writes the C++ of an accelerator's dense stages: what GEMM-D's place takes beside the array (docs/dataflow.md)."""

from collections.abc import Sequence
from functools import cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from hetfab.overlay.stages import Stage


def stages_header(stages: Sequence[Stage]) -> str:
    """The text of ``stages.hpp``: each stage as a type, and a choice among them by number."""
    return _environment().get_template("stages.hpp.j2").render(stages=stages)


def native_stages(stages: Sequence[Stage]) -> str:
    """The text of a C++ file with the products of all stages by their definition, for native integers."""
    return _environment().get_template("native_stages.cpp.j2").render(stages=stages)


def stage_sources(stages: Sequence[Stage], *, hls4ml: bool) -> dict[str, str]:
    """All files of a design's stages, by their place in a build's folder.

    Args:
        stages: The stages.
        hls4ml: Whether they are projects of hls4ml, with ``ap_int``, or the definition with native integers.
    """
    return {"stages.hpp": stages_header(stages), "native_stages.cpp": native_stages(stages)}


@cache
def _environment() -> Environment:
    return Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        undefined=StrictUndefined,
        trim_blocks=True,
        keep_trailing_newline=True,
    )
