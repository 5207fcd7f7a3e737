# SPDX-License-Identifier: Apache-2.0
"""The files of the demo, made once for all tests that call commands."""

from dataclasses import dataclass
from pathlib import Path

from hetfab.cli.main import main
from hetfab.driver.demo import model_path
from hetfab.driver.graph.generate import academic
from hetfab.driver.graph.npz import write_graph

MODEL = model_path()


@dataclass(frozen=True)
class DemoFiles:
    """Paths of the demo's graph, quantized model and program."""

    graph: Path
    quantized: Path
    program: Path


def make_demo_files(folder: Path) -> DemoFiles:
    """Makes them with the commands that a user types."""
    files = DemoFiles(folder / "academic.npz", folder / "rgcn.q.onnx", folder / "rgcn.hfp")
    write_graph(files.graph, academic())
    assert main(["quantize", str(MODEL), "--graph", str(files.graph), "-o", str(files.quantized)]) == 0
    assert main(["compile", str(files.quantized), "--graph", str(files.graph), "-o", str(files.program)]) == 0
    return files
