# SPDX-License-Identifier: Apache-2.0
"""Trains a small convolutional network and an MLP on scikit-learn's digits and exports both as torch writes ONNX.

Run it in an environment of its own: ``pip install -r requirements.txt``, then ``pip install hetfab``, and
``python -m examples.digits.train`` in the root of the repository.
"""

import argparse
from pathlib import Path
from typing import BinaryIO

import numpy as np
import onnx
import onnxruntime
import torch
from torch import nn
from torch.nn import functional

from examples.digits.data import Digits, digits
from hetfab.overlay.files import write_atomic

CHANNELS = 16
EPOCHS = 60
BATCH = 64
OPSET = 20


class Residual(nn.Module):
    """Two convolutions and the way around them."""

    def __init__(self, channels: int) -> None:
        """Makes the convolutions."""
        super().__init__()
        self.inner = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU(),
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(channels),
        )

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """The images and their residual, rectified."""
        return functional.relu(images + self.inner(images))


def cnn() -> nn.Sequential:
    """A convolution, an expand-depthwise-project block, pooling, a residual, the mean over the image, a dense layer."""
    wide = 2 * CHANNELS
    return nn.Sequential(
        nn.Conv2d(1, CHANNELS, 3, padding=1, bias=False),
        nn.BatchNorm2d(CHANNELS),
        nn.ReLU(),
        nn.Conv2d(CHANNELS, wide, 1, bias=False),
        nn.BatchNorm2d(wide),
        nn.ReLU6(),
        nn.Conv2d(wide, wide, 3, padding=1, groups=wide, bias=False),
        nn.BatchNorm2d(wide),
        nn.ReLU6(),
        nn.MaxPool2d(2),
        nn.Conv2d(wide, CHANNELS, 1, bias=False),
        nn.BatchNorm2d(CHANNELS),
        Residual(CHANNELS),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(CHANNELS, 10),
    )


def mlp() -> nn.Sequential:
    """Three dense layers on the 64 pixels."""
    return nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))


def train(model: nn.Sequential, samples: torch.Tensor, labels: torch.Tensor, seed: int) -> None:
    """Trains in place."""
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, EPOCHS)
    model.train()
    for _ in range(EPOCHS):
        for rows in torch.randperm(len(samples), generator=generator).split(BATCH):
            optimizer.zero_grad()
            functional.cross_entropy(model(samples[rows]), labels[rows]).backward()
            optimizer.step()
        schedule.step()
    model.eval()


def export(model: nn.Sequential, samples: torch.Tensor) -> bytes:
    """The model as torch exports it, without the traces of this machine."""
    program = torch.onnx.export(
        model,
        (samples[:2],),
        input_names=["pixels"],
        output_names=["logits"],
        dynamic_shapes=({0: torch.export.Dim("batch")},),
        opset_version=OPSET,
        dynamo=True,
        verbose=False,
    )
    assert program is not None
    proto: onnx.ModelProto = program.model_proto
    graph = proto.graph
    for entry in (proto, graph, *graph.node, *graph.value_info, *graph.input, *graph.output, *graph.initializer):
        entry.ClearField("metadata_props")
        entry.ClearField("doc_string")
    onnx.checker.check_model(proto, full_check=True)
    data: bytes = proto.SerializeToString(deterministic=True)
    return data


def main() -> None:
    """Trains and exports both networks."""
    parser = argparse.ArgumentParser(description="Trains a CNN and an MLP on digits.")
    parser.add_argument("-o", "--output", type=Path, default=Path(__file__).parent, help="folder of the ONNX files")
    parser.add_argument("--seed", type=int, default=5)
    options = parser.parse_args()
    torch.use_deterministic_algorithms(True)
    torch.set_num_threads(1)
    trained, tested = digits()
    for name, make, rows in (("cnn", cnn, False), ("mlp", mlp, True)):
        torch.manual_seed(options.seed)
        model = make()
        samples, test = (_samples(part, rows) for part in (trained, tested))
        train(model, samples, torch.from_numpy(trained.labels), options.seed)
        data = export(model, samples)
        session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
        logits = session.run(None, {"pixels": test.numpy()})[0]
        path = options.output / f"{name}.onnx"

        def write(file: BinaryIO, data: bytes = data) -> None:
            file.write(data)

        write_atomic(path, write)
        share = float(np.mean(logits.argmax(1) == tested.labels))
        print(f"{path}: {len(data):,} bytes, test accuracy {100 * share:.2f} %")


def _samples(part: Digits, rows: bool) -> torch.Tensor:
    images = torch.from_numpy(part.images)
    return images.reshape(len(images), -1) if rows else images


if __name__ == "__main__":
    main()
