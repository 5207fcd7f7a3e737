# SPDX-License-Identifier: Apache-2.0
"""Writes the dense stages of an accelerator as projects of hls4ml, each in a namespace of its own."""

import contextlib
import io
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hetfab.hls.hls4ml_extension import Split, dense_layer, register
from hetfab.overlay.dense_stages import ROW_PAIR, Stage

#: Folder of hls4ml's own headers.
NNET_UTILS = "nnet_utils"


def project_name(number: int) -> str:
    """Name of a stage's project, of its top function and, with ``_project`` behind it, of its namespace."""
    return f"stage_{number}"


def write_projects(folder: Path, stages: Sequence[Stage], part: str) -> None:
    """Writes a project for each stage to ``<folder>/<project_name>``, and what they share to ``<folder>/nnet_utils``.

    Args:
        folder: An existing folder.
        stages: The stages.
        part: What the projects are for.

    Raises:
        PackageMissingError: hls4ml is not installed.
    """
    register()
    for number, stage in enumerate(stages):
        project = folder / project_name(number)
        with contextlib.redirect_stdout(io.StringIO()):
            _write(project, number, stage, part)
        # All projects are compiled together, for which their common headers must be one file each.
        shared = project / "firmware" / NNET_UTILS
        if number == 0:
            shutil.move(shared, folder / NNET_UTILS)
            _forward_own_headers(folder / NNET_UTILS / "hetfab")
        else:
            shutil.rmtree(shared)
        shutil.rmtree(project / "firmware" / "ap_types")


def _forward_own_headers(copies: Path) -> None:
    """Puts the headers of the kernels in the place of the copies that a project has of them."""
    kernels = Path(__file__).parents[2] / "include" / "hetfab"
    for path in copies.glob("*.hpp"):
        if (kernels / path.name).exists():
            path.write_text(f'#pragma once\n#include "hetfab/{path.name}"\n', encoding="utf-8")


def project_weights(folder: Path, number: int) -> list[str]:
    """Names of the headers with a project's weights."""
    return sorted(path.stem for path in (folder / project_name(number) / "firmware" / "weights").glob("*.h"))


def _write(folder: Path, number: int, stage: Stage, part: str) -> None:
    from hls4ml.model import ModelGraph
    from hls4ml.utils.config import create_config

    name = project_name(number)
    config: dict[str, Any] = create_config(
        output_dir=str(folder),
        project_name=name,
        namespace=f"{name}_project",
        backend="Vitis",
        part=part,
        io_type="io_stream",
        # As constants: files that are read at run time would have to lie somewhere for as long as the library.
        write_weights_txt=False,
    )
    inputs = f"{'' if stage.signed else 'u'}fixed<{stage.input_bits},{stage.input_bits}>"
    config["HLSConfig"] = {
        "Model": {"Precision": {"default": "fixed<32,32>"}, "ReuseFactor": 1, "Strategy": "Latency"},
        "LayerName": {"rows": {"Precision": {"result": inputs}}, "sums": {"Precision": {"result": "auto"}}},
    }
    split = Split(stage.on_dsps, stage.dsp_columns, stage.lut_columns)
    layers = [
        {"class_name": "InputLayer", "name": "rows", "input_shape": [ROW_PAIR, stage.inputs]},
        dense_layer("sums", "rows", stage.weight.astype(np.int64), split=split),
    ]
    ModelGraph.from_layer_list(config, layers, ["rows"], ["sums"]).write()
