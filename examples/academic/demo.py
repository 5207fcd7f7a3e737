# SPDX-License-Identifier: Apache-2.0
"""The main job end to end: a generated academic graph and a small RGCN, quantized, compiled and run.

``make demo`` runs it. Each step is the command that a user types; the last table compares the float model, the
quantized model in onnxruntime and the emulated overlay.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hetfab.cli.output import format_table
from hetfab.driver.graph.generate import academic
from hetfab.driver.graph.model_inputs import model_bindings, model_feeds
from hetfab.driver.graph.npz import read_graph, write_graph
from hetfab.driver.scores import f1_scores
from hetfab.overlay.model.reader import read_model
from hetfab.overlay.model.runtime import run_model

MODEL = Path(__file__).parent / "rgcn.onnx"


def hetfab(*arguments: str) -> None:
    """Runs a command as a user types it, and stops the demo where it fails."""
    _run(arguments)


def hetfab_json(*arguments: str) -> dict[str, Any]:
    """Runs a command with ``--json``, which prints its tables on stderr, and returns its object."""
    found: dict[str, Any] = json.loads(_run([*arguments, "--json"], stdout=subprocess.PIPE))
    return found


def _run(arguments: Sequence[str], stdout: int | None = None) -> str:
    print(f"\n$ hetfab {' '.join(arguments)}", flush=True)
    command = [sys.executable, "-m", "hetfab.cli.main", *arguments]
    done = subprocess.run(command, stdout=stdout, text=True, check=False)
    if done.returncode:
        sys.exit(done.returncode)
    return done.stdout or ""


def reference_f1(model: Path, graph_file: Path) -> float:
    """Test micro F1 of a model in onnxruntime."""
    opened, graph = read_model(model), read_graph(graph_file)
    feed = model_feeds(opened, model_bindings(opened, graph), graph)
    logits = run_model(opened, feed, [opened.graph.output[0].name])[0]
    scores = f1_scores(graph, graph.target or "", logits)
    return scores.micro if scores else float("nan")


def demo(folder: Path) -> None:
    """Runs all steps; files go to ``folder``."""
    graph, quantized, program = folder / "academic.npz", folder / "rgcn.q.onnx", folder / "rgcn.hfp"
    write_graph(graph, academic())
    print(f"a generated graph of papers, authors, venues and terms: {graph}")
    hetfab("inspect", str(MODEL), "--graph", str(graph))
    hetfab("quantize", str(MODEL), "--graph", str(graph), "-o", str(quantized))
    hetfab("compile", str(quantized), "--graph", str(graph), "-o", str(program))
    result = hetfab_json("run", str(program), "--graph", str(graph), "--reference", str(quantized))
    rows = [
        ["float model", "onnxruntime", f"{reference_f1(MODEL, graph):.4f}", ""],
        ["quantized model, W8A8", "onnxruntime", f"{reference_f1(quantized, graph):.4f}", ""],
        ["program", "emulated overlay", f"{result['micro_f1']:.4f}", f"{result['instructions']:,}"],
    ]
    print("\n" + format_table(["model", "runs in", "test micro F1", "instructions"], rows))
    print(
        f"overlay against onnxruntime on the quantized model: {result['agreement']:.2%} of the predictions agree, "
        f"largest difference {result['max_logit_lsb']:g} LSB"
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="write the files to this folder and keep them")
    folder = parser.parse_args().keep
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        demo(folder)
    else:
        with tempfile.TemporaryDirectory() as name:
            demo(Path(name))
