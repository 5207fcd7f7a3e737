# SPDX-License-Identifier: Apache-2.0
"""Trains a model of PyTorch Geometric on a generated ``HeteroData``, exports it, quantizes it and runs it.

The data has the node types and relations of PyG's DBLP: authors, papers, terms and conferences, authors with labels.
Run ``python -m examples.pyg.train -o FOLDER`` in an environment with requirements.txt and hetfab.
"""

import argparse
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from torch import nn
from torch.nn import functional
from torch_geometric.data import HeteroData
from torch_geometric.nn import HeteroConv, HGTConv, SAGEConv

from hetfab.driver.graph.hetero_data import from_hetero_data
from hetfab.driver.graph.heterograph import HeteroGraph
from hetfab.driver.graph.model_inputs import model_feeds, open_model
from hetfab.driver.graph.npz import write_graph
from hetfab.driver.overlay import HetfabOverlay
from hetfab.driver.scores import model_scores
from hetfab.overlay.compiler.compile import compile_model, suited_design
from hetfab.overlay.compiler.lowering import lower
from hetfab.overlay.files import write_atomic
from hetfab.overlay.model.pytorch import export
from hetfab.overlay.model.runtime import run_model
from hetfab.quantize.post_training import quantize

COUNTS = {"author": 240, "paper": 600, "term": 150, "conference": 8}
WIDTHS = {"author": 20, "paper": 40, "term": 10, "conference": 8}
CLASSES = 4
HIDDEN = 32
EPOCHS = 60
Rows = dict[str, torch.Tensor]
Ends = dict[tuple[str, str, str], torch.Tensor]


def generated(seed: int = 0) -> HeteroData:
    """Authors of four fields, whose papers appear at their fields' conferences, with their fields' terms."""
    random = np.random.default_rng(seed)
    fields = {name: random.integers(0, CLASSES, count) for name, count in COUNTS.items()}
    data = HeteroData()
    for name, width in WIDTHS.items():
        hint = 0.4 if name == "author" else 1.0
        means = random.normal(size=(CLASSES, width)) * hint
        rows = means[fields[name]] + random.normal(size=(COUNTS[name], width))
        data[name].x = torch.from_numpy(rows.astype(np.float32))
    for source, relation, destination, edges in (
        ("author", "to", "paper", 1200),
        ("paper", "to", "term", 1500),
        ("paper", "to", "conference", 600),
    ):
        pairs = random.integers(0, [[COUNTS[source]], [COUNTS[destination]]], (2, 4 * edges))
        alike = fields[source][pairs[0]] == fields[destination][pairs[1]]
        kept = torch.from_numpy(pairs[:, alike | (random.random(4 * edges) < 0.05)][:, :edges])
        data[source, relation, destination].edge_index = kept
        data[destination, relation, source].edge_index = kept.flip(0)
    data["author"].y = torch.from_numpy(fields["author"])
    order = torch.from_numpy(random.permutation(COUNTS["author"]))
    for part, chosen in zip(("train", "val", "test"), (order[:120], order[120:160], order[160:]), strict=True):
        mask = torch.zeros(COUNTS["author"], dtype=torch.bool)
        mask[chosen] = True
        data["author"][f"{part}_mask"] = mask
    return data


class Model(nn.Module):
    """A projection, two layers, a classifier of authors."""

    def __init__(self, data: HeteroData, kind: str) -> None:
        super().__init__()
        self.project = nn.ModuleDict({name: nn.Linear(width, HIDDEN) for name, width in WIDTHS.items()})
        self.layers = nn.ModuleList(self._layer(data, kind) for _ in range(2))
        self.classify = nn.Linear(HIDDEN, CLASSES)

    @staticmethod
    def _layer(data: HeteroData, kind: str) -> nn.Module:
        if kind == "hgt":
            return HGTConv(HIDDEN, HIDDEN, data.metadata(), heads=4)
        return HeteroConv({relation: SAGEConv((HIDDEN, HIDDEN), HIDDEN) for relation in data.edge_types})

    def forward(self, rows: Rows, edges: Ends) -> torch.Tensor:
        """Logits of authors."""
        rows = {name: functional.relu(self.project[name](value)) for name, value in rows.items()}
        for layer in self.layers:
            rows = {name: functional.relu(value) for name, value in layer(rows, edges).items()}
        found: torch.Tensor = self.classify(functional.dropout(rows["author"], 0.5, self.training))
        return found


def trained(data: HeteroData, kind: str, epochs: int = EPOCHS, seed: int = 0) -> Model:
    """A model after training on the authors of the training split."""
    torch.manual_seed(seed)
    model = Model(data, kind)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01, weight_decay=5e-4)
    mask, labels = data["author"].train_mask, data["author"].y
    for _ in range(epochs):
        model.train()
        optimizer.zero_grad()
        logits = model(data.x_dict, data.edge_index_dict)
        functional.cross_entropy(logits[mask], labels[mask]).backward()
        optimizer.step()
    model.eval()
    return model


def on_overlay(path: Path, graph: HeteroGraph) -> tuple[float, float, bool]:
    """Quantizes and runs an exported model on the emulated overlay.

    Returns:
        Test micro F1 of the float and of the quantized model, and whether the overlay's logits are the quantized
        model's.
    """
    opened = open_model(path, graph)
    result = quantize(opened)

    def write(file: BinaryIO) -> None:
        file.write(result.model.SerializeToString(deterministic=True))

    write_atomic(path.with_suffix(".q.onnx"), write)
    program = compile_model(result, suited_design(lower(result.model, result.bindings)))
    with HetfabOverlay(program.design, program) as overlay:
        found = overlay.predict(graph)
    before, expected = (
        model_scores(opened, graph),
        run_model(result.model, model_feeds(result.model, result.bindings, graph), ["logits"])[0],
    )
    assert before is not None and found.scores is not None
    return before.micro, found.scores.micro, bool(np.array_equal(found.logits, expected))


def main() -> None:
    """Trains, exports, quantizes and runs."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-o", "--output", type=Path, default=Path("build/pyg"))
    parser.add_argument("--kind", choices=("sage", "hgt"), default="hgt")
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    data = generated()
    graph = from_hetero_data(data, "author")
    write_graph(options.output / "graph.npz", graph)
    path = options.output / f"{options.kind}.onnx"
    lifted = export(trained(data, options.kind), data, path)
    print(f"{path}: {lifted.nodes_before} operators became {len(lifted.model.graph.node)}")
    before, after, same = on_overlay(path, graph)
    print(f"test micro F1: float {before:.3f}, in 8 bits {after:.3f}")
    print(f"the overlay computes what onnxruntime does: {same}")


if __name__ == "__main__":
    main()
