# SPDX-License-Identifier: Apache-2.0
"""The models that benchmarks take: the demo's, and the public RGCNs where their folder is."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import onnx

from hetfab.driver.demo import model_path
from hetfab.driver.graph.arrays import graph_arrays
from hetfab.driver.graph.facts import graph_facts
from hetfab.driver.graph.generate import academic
from hetfab.driver.graph.heterograph import HeteroGraph
from hetfab.driver.graph.model_inputs import model_bindings, model_feeds
from hetfab.driver.graph.npz import read_graph
from hetfab.overlay.bind import BoundProgram, bind
from hetfab.overlay.compiler.compile import compile_model
from hetfab.overlay.compiler.first_projection import FirstProjection
from hetfab.overlay.compiler.lowering import lower
from hetfab.overlay.compiler.model_plan import plan_model
from hetfab.overlay.design import Design
from hetfab.overlay.model.bound_model import BoundModel, FedModel
from hetfab.overlay.model.reader import read_model
from hetfab.quantize.post_training import quantize
from hetfab.quantize.widths import OFFERED

_DEMO = model_path()
_PUBLIC = ("acm", "dblp", "imdb")


@dataclass(frozen=True)
class Workload:
    """A quantized model and its graph."""

    name: str
    model: onnx.ModelProto
    graph: HeteroGraph

    def bound(
        self,
        design: Design,
        share_on_d: float | None = None,
        *,
        asked: FirstProjection = FirstProjection.DENSE,
        side_by_side: bool = False,
    ) -> BoundProgram:
        """The model compiled for a design and bound to the graph.

        Args:
            design: What to compile for.
            share_on_d: As in ``compile_model``.
            asked: The form of its first projections.
            side_by_side: As in ``bind``.
        """
        given = BoundModel(self.model, model_bindings(self.model, self.graph))
        layers = lower(given.model, given.bindings)
        if asked is not FirstProjection.DENSE:
            layers = plan_model(layers, design, graph_facts(self.graph, layers), asked, share_on_d).lowered
        program = compile_model(given, design, name=self.name, share_on_d=share_on_d, lowered=layers)
        return bind(program, graph_arrays(program, self.graph), side_by_side=side_by_side)


def workloads(bits: str = "w8a8") -> Iterator[Workload]:
    """The demo, and the public models when ``$HETFAB_DATA`` names a folder that has them.

    Args:
        bits: Widths that they are quantized to, as ``hetfab quantize --bits`` takes them.
    """
    yield _workload("demo", _DEMO, academic(), bits)
    folder = os.environ.get("HETFAB_DATA")
    if folder is not None:
        for name in _PUBLIC:
            model = Path(folder) / "models" / f"{name}_rgcn.onnx"
            yield _workload(name, model, read_graph(Path(folder) / name / "graph.npz"), bits)


def _workload(name: str, path: Path, graph: HeteroGraph, bits: str) -> Workload:
    model = read_model(path)
    bindings = model_bindings(model, graph)
    given = FedModel(model, bindings, [model_feeds(model, bindings, graph)])
    return Workload(name, quantize(given, widths=OFFERED[bits]).model, graph)
