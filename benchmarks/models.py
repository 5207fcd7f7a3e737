# SPDX-License-Identifier: Apache-2.0
"""The public models at W8A8 on the emulated overlay: accuracy, exactness, time and memory, beside onnxruntime.

Time is of a program that is bound and in device memory, from dense float features in host memory to logits in host
memory; onnxruntime runs the float model from the same features. One thread each, median of five. A second column
builds the semantic graphs inside the measured time: by SGB on the overlay, with scipy for onnxruntime
(``benchmarks.model_measure`` says what is in it). Each model has processes of its own; the peak memory is that of the
overlay's, which counts graph, binding and emulator. With ``--folder`` a model's figures are a file there, with the code
that measured them: a run that was stopped goes on with the models that have none of this code.
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

_GRAPHS, _KINDS = ("acm", "dblp", "imdb"), ("rgcn", "rgat", "han", "simplehgn", "sehgnn")
_KEYS = ("float_f1", "quantized_f1", "overlay_f1", "agreement", "max_logit_lsb")
_HEADINGS = (
    *("model", "F1 float", "quantized", "overlay", "agreement", "LSB", "s", "onnxruntime s", "ratio"),
    *("s with SGB", "onnxruntime and scipy s", "ratio with SGB", "MB"),
)


def figures(name: str, made: Path, data: Path, board: str) -> Row:
    """The figures of one model, measured.

    Args:
        name: The model.
        made: Where quantized models and programs are kept.
        data: The public graphs and models.
        board: Of the default design.
    """
    measured: Row = {}
    for part in ("prepare", "overlay", "compare"):
        command = [sys.executable, "-m", "benchmarks.model_measure", part, name, str(made), str(data), board]
        measured |= json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)
    return measured


def report(models: Mapping[str, Row], origin: Mapping[str, Any]) -> Report:
    """Figures of each model and of all.

    Args:
        models: As ``figures`` gives them.
        origin: The code that made them, as ``KeptRows`` gives it.
    """
    given = {name: each["seconds"] / each["onnxruntime_seconds"] for name, each in models.items()}
    built = {name: each["seconds_with_sgb"] / each["onnxruntime_seconds_with_scipy"] for name, each in models.items()}
    rows = [
        [
            *(name, *(each[key] for key in _KEYS)),
            *(each["seconds"], each["onnxruntime_seconds"], given[name]),
            *(each["seconds_with_sgb"], each["onnxruntime_seconds_with_scipy"], built[name], each["peak_mb"]),
        ]
        for name, each in models.items()
    ]
    values: dict[str, Any] = {
        "min_agreement": min(each["agreement"] for each in models.values()),
        "max_logit_lsb": max(each["max_logit_lsb"] for each in models.values()),
        "max_f1_drop": max(each["float_f1"] - each["overlay_f1"] for each in models.values()),
        "geomean_time_ratio": statistics.geometric_mean(given.values()),
        "geomean_time_ratio_with_sgb": statistics.geometric_mean(built.values()),
        "time_ratios": given,
        "time_ratios_with_sgb": built,
        "dblp_han_time_ratio": given.get("dblp_han"),
        "dblp_han_peak_mb": models["dblp_han"]["peak_mb"] if "dblp_han" in models else None,
        "peak_mb": max(each["peak_mb"] for each in models.values()),
        "models": models,
        **origin,
    }
    return Report(f"{len(models)} models at W8A8 on the emulated overlay, measured", _HEADINGS, rows, values)


def main() -> None:
    """Runs the benchmark."""
    parser = argument_parser(__doc__)
    parser.add_argument("--board", default="zcu104", help="board of the default design (default zcu104), SGB added")
    parser.add_argument("--only", default="", help="models whose name holds this")
    add_options(parser)
    arguments = parser.parse_args()
    data, board = Path(os.environ["HETFAB_DATA"]), arguments.board
    names = [name for name in (f"{graph}_{kind}" for kind in _KINDS for graph in _GRAPHS) if arguments.only in name]
    with kept_rows(arguments) as kept:
        found = {
            name: kept.row(f"{name}.{board}", functools.partial(figures, name, kept.made, data, board))
            for name in names
        }
        publish(report(found, kept.origin), arguments.as_json)


if __name__ == "__main__":
    main()
