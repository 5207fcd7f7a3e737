# SPDX-License-Identifier: Apache-2.0
"""Trains the models of this folder on generated graphs and writes them as ONNX: ``python -m examples.zoo.train``.

Run it from the repository's root in an environment of its own: ``pip install -r examples/zoo/requirements.txt``, then
``pip install -e .``. All random numbers have the seeds in this folder.
"""

import argparse
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from examples.zoo.models import ZOO, Entry
from examples.zoo.recorder import Recorder
from hetfab.driver.graph.feeds import feeds
from hetfab.driver.graph.heterograph import HeteroGraph
from hetfab.driver.scores import Logits, f1_scores
from hetfab.overlay.files import write_atomic
from hetfab.overlay.model.runtime import run_model

SEED = 7
EPOCHS = 80
FOLDER = Path(__file__).parent


def train(entry: Entry) -> nn.ParameterDict:
    """The parameters of the best validation score."""
    torch.manual_seed(SEED)
    graph, parameters = entry.training(), nn.ParameterDict()
    entry.layers(Recorder(graph, parameters))
    labels = torch.from_numpy(graph.labels["paper"]).long()
    learn, held = (torch.from_numpy(graph.splits["paper"][part]).long() for part in ("train", "val"))
    optimizer = torch.optim.Adam(parameters.parameters(), lr=0.01, weight_decay=5e-4)
    best, kept = -1.0, parameters.state_dict()
    for _ in range(EPOCHS):
        optimizer.zero_grad()
        logits = entry.layers(Recorder(graph, parameters, training=True)).tensor
        functional.cross_entropy(logits[learn], labels[learn]).backward()
        optimizer.step()
        with torch.no_grad():
            found = entry.layers(Recorder(graph, parameters)).tensor.argmax(1)
        score = float((found[held] == labels[held]).float().mean())
        if score >= best:
            best, kept = score, {name: value.clone() for name, value in parameters.state_dict().items()}
    parameters.load_state_dict(kept)
    return parameters


def export(name: str, entry: Entry, parameters: nn.ParameterDict) -> None:
    """Writes a model, and says how it does and how far onnxruntime is from PyTorch."""
    with torch.no_grad():
        recorder = Recorder(entry.training(), parameters)
        model = recorder.model(entry.layers(recorder))
        data = model.SerializeToString(deterministic=True)
        graph = entry.testing()
        expected = entry.layers(Recorder(graph, parameters)).tensor.numpy()
    [logits] = run_model(model, feeds(graph, recorder.bindings), [model.graph.output[0].name])
    difference = np.abs(logits - expected).max()
    print(f"{name}: test micro F1 {_score(graph, logits):.4f} on '{graph.name}', {len(data)} bytes, ", end="")
    print(f"onnxruntime differs from PyTorch by {difference:.1e}")

    def write(file: BinaryIO) -> None:
        file.write(data)

    write_atomic(FOLDER / f"{name}.onnx", write)


def _score(graph: HeteroGraph, logits: Logits) -> float:
    found = f1_scores(graph, "paper", logits)
    assert found is not None
    return found.micro


def main() -> None:
    """Trains and writes all models, or those that are named."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="*", help=f"of {', '.join(ZOO)}; all by default")
    torch.use_deterministic_algorithms(True)
    torch.set_num_threads(1)
    for name in parser.parse_args().models or ZOO:
        export(name, ZOO[name], train(ZOO[name]))


if __name__ == "__main__":
    main()
