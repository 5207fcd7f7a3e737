# SPDX-License-Identifier: Apache-2.0
"""A graph for the models of ``tests/data/pyg``, which ``python -m examples.pyg.export_zoo`` wrote."""

from pathlib import Path

import numpy as np
import onnx

from hetfab.driver.graph.heterograph import Edges, HeteroGraph
from hetfab.overlay.model.lifting.lift import LiftedModel, lift
from hetfab.overlay.model.lifting.raw_inputs import raw_inputs
from hetfab.overlay.model.reader import read_model
from hetfab.overlay.model.schema import Relation

FOLDER = Path(__file__).parent / "data" / "pyg"
COUNTS = {"paper": 60, "author": 45}
WIDTHS = {"paper": 12, "author": 8}
ENDS = {
    "cites": ("paper", "paper"),
    "writes": ("author", "paper"),
    "by": ("paper", "author"),
    **{f"links_{kind}": ("paper", "paper") for kind in range(3)},
}


def pyg_graph() -> HeteroGraph:
    """Papers and authors: duplicate edges, papers that cite themselves, nodes without edges."""
    random = np.random.default_rng(0)
    relations = {}
    for name, (source, destination) in ENDS.items():
        ids = [random.integers(0, COUNTS[end] - 2, 150) for end in (source, destination)]
        relations[Relation(source, name, destination)] = Edges(*ids)
    features = {name: random.normal(size=(COUNTS[name], WIDTHS[name])).astype(np.float32) for name in COUNTS}
    return HeteroGraph("pyg", "paper", COUNTS, relations, features)


def exported(name: str) -> onnx.ModelProto:
    """A model as PyTorch exported it."""
    return read_model(FOLDER / f"{name}.onnx")


def lifted(name: str) -> LiftedModel:
    """The same in the domain hgnn."""
    model = exported(name)
    return lift(model, raw_inputs(model))
