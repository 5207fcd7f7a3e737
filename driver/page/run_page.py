# SPDX-License-Identifier: Apache-2.0
"""Writes a run as one self-contained HTML page (docs/report.md). All its figures are those that ``--json`` prints.

The page holds that object too, in the element ``run``.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

from hetfab.overlay.files import write_atomic
from hetfab.overlay.timeline.simulate import Timeline


def write_page(path: Path, found: Mapping[str, Any], timeline: Timeline) -> None:
    """Writes the page.

    Args:
        path: The HTML file.
        found: What ``hetfab run --json`` prints of the run.
        timeline: Its modelled timeline, for the picture.

    Raises:
        OutputUnwritableError: The path cannot be written.
    """
    text = page(found, timeline)

    def write(file: BinaryIO) -> None:
        file.write(text.encode())

    write_atomic(path, write)


def page(found: Mapping[str, Any], timeline: Timeline) -> str:
    """The page as HTML."""
    import jinja2
    from markupsafe import Markup

    from hetfab.driver.page import run_view
    from hetfab.driver.page.roofline_picture import draw_roofline
    from hetfab.driver.page.timeline_picture import COLOURS, draw

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    names = [layer["name"] for layer in found["layers"]]
    numbers = {name: number for number, name in enumerate(names, 1)}
    return environment.get_template("run_page.html.j2").render(
        view=run_view,
        found=found,
        numbers=numbers,
        colours=[COLOURS[number % len(COLOURS)] for number in range(len(names))],
        timeline=draw(timeline, names, found["program"]["engines"]),
        roofline=draw_roofline(found["timeline"]["roofline"], numbers),
        # No "<" can end the element: the text is that of --json, with this letter written as JSON lets one.
        embedded=Markup(json.dumps(found, allow_nan=False).replace("<", "\\u003c")),
    )
