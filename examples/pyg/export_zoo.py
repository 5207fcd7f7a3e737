# SPDX-License-Identifier: Apache-2.0
"""Exports the models of this folder as ONNX, by both of PyTorch's exporters, with gathers and scatters.

``python -m examples.pyg.export_zoo -o tests/data/pyg`` writes the tests' files; their metadata names the versions.
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

from examples.pyg.models import FEATURES, KINDS, ZOO, Entry
from hetfab.overlay.model.pytorch import exportable

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


def export(entry: Entry, path: Path) -> None:
    """Writes one model with random weights, as ``torch.onnx.export`` does."""
    torch.manual_seed(SEED)
    model = entry.make().eval()
    names = tuple(model.names)
    arguments = example_inputs(names)
    with torch.no_grad():
        model(*arguments)
        for parameter in model.parameters():
            if parameter.dim() == 1:
                parameter.normal_(std=0.2)
    quiet = contextlib.redirect_stdout(io.StringIO())
    with warnings.catch_warnings(), quiet, torch.no_grad(), exportable(model):
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
            input_names=list(names),
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
    parser.add_argument("names", nargs="*", default=list(ZOO))
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    for name in options.names:
        path = options.output / f"{name}.onnx"
        export(ZOO[name], path)
        print(f"{path}: {path.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
