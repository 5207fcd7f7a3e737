# SPDX-License-Identifier: Apache-2.0
"""Exports the models of this folder as ONNX: by PyTorch's exporters, with gathers and scatters, and by hetfab's.

``python -m examples.pyg.export_zoo -o tests/data/pyg`` writes the tests' files; their metadata names the versions.
``--hgnn FOLDER`` also writes each model as ``hetfab.overlay.model.pytorch.export`` does, where it takes the model.
"""

import argparse
import contextlib
import io
import warnings
from pathlib import Path

import onnx
import onnx.helper
import torch
import torch_geometric
from torch import nn
from torch_geometric.data import HeteroData

from examples.pyg.models import FEATURES, KINDS, ZOO, Ends, Entry, Rows, Typed
from hetfab.overlay.errors import OperatorsUnsupportedError
from hetfab.overlay.model import pytorch
from hetfab.overlay.model.lifting.lift import LiftedModel

SEED = 5
NODES = {"paper": 13, "author": 11}
ENDS = {
    "cites": ("paper", "paper"),
    "writes": ("author", "paper"),
    "by": ("paper", "author"),
    "links": ("paper", "paper"),
}


def example_inputs(names: tuple[str, ...]) -> tuple[torch.Tensor, ...]:
    """Inputs of the sizes that a model is traced with."""
    found = []
    for number, name in enumerate(names):
        what, _, of = name.rpartition("_")
        edges = 31 + 2 * number
        if what == "x":
            found.append(torch.randn(NODES[of], FEATURES[of]))
        elif what == "edge_type":
            found.append(torch.arange(found[-1].shape[1]) % KINDS)
        else:
            found.append(torch.stack([torch.randint(0, NODES[end], (edges,)) for end in ENDS[of]]))
    return tuple(found)


def free_axis(name: str) -> int:
    """The axis of an input whose size is the graph's."""
    return int(name.startswith("edge_index"))


def made(entry: Entry) -> tuple[nn.Module, dict[str, torch.Tensor]]:
    """A model with random weights, and inputs by name."""
    torch.manual_seed(SEED)
    model = entry.make().eval()
    inputs = dict(zip(model.names, example_inputs(tuple(model.names)), strict=True))
    with torch.no_grad():
        model(*inputs.values())
        for parameter in model.parameters():
            if parameter.dim() == 1:
                parameter.normal_(std=0.2)
    return model, inputs


class ByType(nn.Module):
    """A model of the zoo, called with rows and edges by their types."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, rows: Rows, edges: Ends) -> torch.Tensor:
        """Logits of papers."""
        given = {f"x_{name}": value for name, value in rows.items()}
        given |= {f"edge_index_{name}": ends for (_, name, _), ends in edges.items()}
        found: torch.Tensor = self.model(*(given[name] for name in self.model.names))
        return found


def graph_data(inputs: dict[str, torch.Tensor]) -> HeteroData:
    """The graph that a model's inputs are of; edges of several types become a relation for each."""
    data = HeteroData()
    for name, value in inputs.items():
        what, _, of = name.rpartition("_")
        if what == "x":
            data[of].x = value
        elif what == "edge_index":
            kinds = inputs.get(f"edge_type_{of}")
            source, destination = ENDS[of]
            for kind in range(KINDS) if kinds is not None else (None,):
                relation = of if kind is None else f"{of}_{kind}"
                data[source, relation, destination].edge_index = value if kind is None else value[:, kinds == kind]
    return data


def export(entry: Entry, path: Path) -> LiftedModel:
    """Writes one model with random weights, as ``hetfab.overlay.model.pytorch.export`` does.

    Raises:
        OperatorsUnsupportedError: The model has operators that are not lifted.
    """
    model, inputs = made(entry)
    typed = isinstance(model, Typed)
    return pytorch.export(model if typed else ByType(model), graph_data(inputs), path, homogeneous=typed)


def export_raw(entry: Entry, path: Path) -> None:
    """Writes one model with random weights, as ``torch.onnx.export`` does."""
    model, inputs = made(entry)
    names, arguments = list(inputs), tuple(inputs.values())
    quiet = contextlib.redirect_stdout(io.StringIO())
    with warnings.catch_warnings(), quiet, torch.no_grad(), pytorch.exportable(model):
        warnings.simplefilter("ignore")
        if entry.dynamo:
            shapes = tuple({free_axis(name): torch.export.Dim.DYNAMIC} for name in names)
            options = {"dynamic_shapes": shapes, "external_data": False, "verbose": False}
        else:
            options = {"dynamic_axes": {name: {free_axis(name): f"size_{name}"} for name in names}}
        torch.onnx.export(
            model,
            arguments,
            str(path),
            dynamo=entry.dynamo,
            input_names=names,
            output_names=["logits"],
            opset_version=entry.opset,
            **options,
        )
    found = onnx.load(path)
    for node in found.graph.node:
        del node.metadata_props[:]
        node.doc_string = ""
    for value in (*found.graph.value_info, *found.graph.input, *found.graph.output):
        del value.metadata_props[:]
    versions = {"torch": torch.__version__, "torch_geometric": torch_geometric.__version__}
    onnx.helper.set_model_props(found, versions | {"exporter": "dynamo" if entry.dynamo else "torchscript"})
    onnx.save(found, path)


def main() -> None:
    """Exports all models, or those that are named."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--hgnn", type=Path, help="folder of the models as hetfab exports them")
    parser.add_argument("names", nargs="*", default=list(ZOO))
    options = parser.parse_args()
    for folder in filter(None, (options.output, options.hgnn)):
        folder.mkdir(parents=True, exist_ok=True)
    for name in options.names:
        path = options.output / f"{name}.onnx"
        export_raw(ZOO[name], path)
        print(f"{path}: {path.stat().st_size:,} bytes")
        if options.hgnn is None:
            continue
        path = options.hgnn / f"{name}.onnx"
        try:
            export(ZOO[name], path)
            print(f"{path}: {path.stat().st_size:,} bytes")
        except OperatorsUnsupportedError as error:
            print(f"{path}: not written, {error.found}")


if __name__ == "__main__":
    main()
