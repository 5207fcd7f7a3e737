# SPDX-License-Identifier: Apache-2.0
"""Writes a run as one self-contained HTML page: accuracy, timeline, engines, the model as placed."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import jinja2

from hetfab.driver.page.timeline_picture import COLOURS, draw
from hetfab.driver.report import layer_rows
from hetfab.driver.session import RunResult
from hetfab.overlay.bind import BoundProgram
from hetfab.overlay.files import write_atomic
from hetfab.overlay.timeline.simulate import Timeline
from hetfab.overlay.timeline.summary import engine_times


@dataclass(frozen=True)
class Accuracy:
    """Scores of one execution of the model, as fractions."""

    model: str
    runs_in: str
    micro_f1: float
    macro_f1: float


def write_page(
    path: Path,
    title: str,
    result: RunResult,
    bound: BoundProgram,
    timeline: Timeline,
    accuracy: Sequence[Accuracy],
) -> None:
    """Writes the page.

    Args:
        path: The HTML file.
        title: Its heading.
        result: The run.
        bound: What ran.
        timeline: Its modelled timeline.
        accuracy: Rows of the accuracy table.

    Raises:
        OutputUnwritableError: The path cannot be written.
    """
    folder = Path(__file__).parent
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(folder), autoescape=True, undefined=jinja2.StrictUndefined
    )
    program = bound.program
    text = environment.get_template("run_page.html.j2").render(
        title=title,
        subtitle=f"{program.model_name} for the design '{program.design.name}', run on the emulated overlay",
        facts=[
            ("instructions", f"{result.instructions:,}"),
            ("layers", f"{len(program.layers)}"),
            ("modelled time", f"{timeline.milliseconds:,.2f} ms"),
            ("clock", f"{program.design.clock_mhz:g} MHz"),
            ("DRAM bytes", f"{int(timeline.bytes.sum()):,}"),
        ],
        accuracy=[(row.model, row.runs_in, row.micro_f1, row.macro_f1) for row in accuracy],
        picture=draw(timeline, [layer.name for layer in program.layers]),
        engines=_engine_rows(timeline),
        layers=_layer_rows(result, bound),
        footer=f"Bound stream {result.stream_hash[:16]}, DRAM at {timeline.machine.dram_rate:g} bytes a cycle.",
    )

    def write(file: BinaryIO) -> None:
        file.write(text.encode())

    write_atomic(path, write)


def _engine_rows(timeline: Timeline) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = []
    share = 100.0 / max(timeline.total_cycles, 1.0)
    for time in engine_times(timeline):
        rows.append(
            {
                "name": time.name,
                "instructions": time.instructions,
                "busy": time.busy * share,
                "dram": time.dram * share,
                "idle": sum(time.idle.values()) * share,
                "reason": time.main_reason.replace("_", " "),
                "bytes": time.bytes,
            }
        )
    return rows


def _layer_rows(result: RunResult, bound: BoundProgram) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = []
    for number, (layer, counts) in enumerate(zip(bound.program.layers, layer_rows(result, bound), strict=True)):
        rows.append(
            {
                "name": layer.name,
                "node_type": layer.node_type,
                "inputs": layer.inputs,
                "channels": layer.channels,
                "aggregates": ", ".join(layer.aggregations),
                "engines": " ".join(layer.engines),
                "colour": COLOURS[number % len(COLOURS)],
                "instructions": counts[3],
                "macs": counts[4],
                "edges": counts[5],
            }
        )
    return rows
