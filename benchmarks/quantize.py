# SPDX-License-Identifier: Apache-2.0
"""Quantization of the public models at several widths, beside round-to-nearest and onnxruntime's quantize_static.

Choices are made on the validation nodes, without labels; figures are of test nodes, in onnxruntime on the written file.
Average widths are weighted by multiply-accumulates. Results of each model are kept in a folder, so an interrupted run
goes on; layers and blocks of image networks have figures of their own.
"""

import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from benchmarks.quantize_layers import alternation_figures, block_figures
from benchmarks.report import Report, argument_parser, publish
from hetfab.driver.graph.heterograph import HeteroGraph
from hetfab.driver.graph.model_inputs import open_model, with_hops
from hetfab.driver.graph.npz import read_graph
from hetfab.driver.scores import agreement, f1_scores
from hetfab.overlay.files import write_atomic
from hetfab.overlay.model.bound_model import FedModel
from hetfab.overlay.model.runtime import run_model
from hetfab.quantize.assignment import Assignment
from hetfab.quantize.bit_assignment import ACTIVATION_BITS, WEIGHT_BITS, BitSearch, Options
from hetfab.quantize.methods import CRITERIA
from hetfab.quantize.range_search import searched_ranges
from hetfab.quantize.recipe import Recipe
from hetfab.quantize.study import Study
from hetfab.quantize.widths import OFFERED, Widths

_GRAPHS, _KINDS = ("acm", "dblp", "imdb"), ("rgcn", "rgat", "han", "simplehgn", "sehgnn")
MODELS = tuple(f"{graph}_{kind}" for kind in _KINDS for graph in _GRAPHS)
#: Largest average widths of weights and activations.
LIMITS = {"auto": (3.0, 4.5), "hard": (2.2, 3.5)}
_OPTIONS = Options(weights=(2, 3, 4, 8), activations=(3, 4, 5, 8), activation_methods=("least square error",))
_METHODS = ("rtn_w2a8", "w8a8", "w2a8", "w4a4", "auto", "hard")
_RUNTIME = ("ort_minmax", "ort_percentile")


class ModelRun:
    """One model: each method gives the figures of one way to quantize it."""

    def __init__(self, path: Path, graph: HeteroGraph) -> None:
        self.path, self.graph = path, graph
        self.given = open_model(path, graph)
        self.study = Study.open(with_hops(self.given, graph))
        self.float_logits = self.study.observed.logits[0]
        self.recipe = Recipe(self.study)
        self._searches: dict[int, BitSearch] = {}

    def figures(self, name: str) -> dict[str, float]:
        """F1 drop in points, agreement and average widths of a way to quantize."""
        begin = time.perf_counter()
        if name in _RUNTIME:
            return self._scores(_runtime_logits(self.path, self.given, name)) | {"seconds": time.perf_counter() - begin}
        study, assignment = self.quantized(name)
        model = study.write(assignment)
        logits = run_model(model, study.samples[0], [model.graph.output[0].name])[0]
        average = study.average_bits(assignment)
        return self._scores(logits) | {
            "weight_bits": average.weights,
            "activation_bits": average.activations,
            "divergence": study.divergence(assignment),
            "seconds": time.perf_counter() - begin,
        }

    def quantized(self, name: str) -> tuple[Study, Assignment]:
        """What is chosen: a study, balanced or not, and an assignment."""
        match name:
            case "rtn_w2a8":
                plain = [self.study.uniform(Widths(2, 8), weights="nearest", activations=each) for each in CRITERIA]
                return self.study, min(plain, key=self.study.divergence)
            case "w8a8" | "w2a8" | "w4a4":
                found = self.recipe.found(OFFERED[name])
                return found.study, found.assignment
        study = self.recipe.found(Widths(4, 4)).study
        limits = dict(zip((WEIGHT_BITS, ACTIVATION_BITS), LIMITS[name], strict=True))
        if id(study) not in self._searches:
            self._searches[id(study)] = BitSearch(study, _OPTIONS)
        nearest = self._searches[id(study)].assign(limits, rounds=1)[0]
        return study, searched_ranges(study, nearest.assignment, 1)

    def _scores(self, logits: np.ndarray[Any, Any]) -> dict[str, float]:
        target = self.graph.target or ""
        found, reference = f1_scores(self.graph, target, logits), f1_scores(self.graph, target, self.float_logits)
        assert found is not None and reference is not None, "the public graphs have labels"
        test = self.graph.splits[target]["test"]
        multilabel = self.study.evaluation.multilabel
        return {
            "f1": found.micro,
            "drop": 100.0 * (reference.micro - found.micro),
            "agreement": agreement(logits[test], self.float_logits[test], multilabel=multilabel),
        }


class _Reader:
    """The feeds once, as onnxruntime's calibration asks for them."""

    def __init__(self, given: FedModel) -> None:
        names = {value.name for value in given.model.graph.input}
        self._feeds = iter([{name: array for name, array in feed.items() if name in names} for feed in given.samples()])

    def get_next(self) -> Any:
        """The next feed, None at the end."""
        return next(self._feeds, None)


def _runtime_logits(path: Path, given: FedModel, name: str) -> np.ndarray[Any, Any]:
    """Logits of onnxruntime's own W8A8: symmetric int8, weights per channel."""
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static

    method = CalibrationMethod.MinMax if name == "ort_minmax" else CalibrationMethod.Percentile
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder) / "quantized.onnx"
        quantize_static(
            str(path),
            str(result),
            _Reader(given),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=["MatMul", "Gemm", "Add"],
            per_channel=True,
            activation_type=QuantType.QInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=method,
            extra_options={"ActivationSymmetric": True, "WeightSymmetric": True},
        )
        model = onnx.load(result)
    return run_model(model, next(given.samples()), [model.graph.output[0].name])[0]


def measure(
    name: str, data: Path, folder: Path, methods: tuple[str, ...], say: Callable[[str], None]
) -> dict[str, Any]:
    """All figures of a model; those that its file in the folder holds are taken from there."""
    kept = folder / f"{name}.json"
    found: dict[str, Any] = json.loads(kept.read_text()) if kept.exists() else {}
    run: ModelRun | None = None
    for method in methods:
        if method in found:
            continue
        if run is None:
            run = ModelRun(data / "models" / f"{name}.onnx", read_graph(data / name.partition("_")[0] / "graph.npz"))
        found[method] = run.figures(method)
        text = json.dumps(found, indent=1).encode()
        write_atomic(kept, lambda file, text=text: file.write(text))  # type: ignore[misc]
        say(f"{name} {method}: drop {found[method]['drop']:.2f}, agreement {found[method]['agreement']:.4f}")
    return found


def summary(models: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Means and extremes over the models, by method."""
    values: dict[str, Any] = {}
    for method in (*_METHODS, *_RUNTIME):
        each = [figures[method] for figures in models.values() if method in figures]
        if not each:
            continue
        values[f"{method}_drop_mean"] = statistics.fmean(figures["drop"] for figures in each)
        values[f"{method}_drop_max"] = max(figures["drop"] for figures in each)
        values[f"{method}_agreement"] = statistics.fmean(figures["agreement"] for figures in each)
        if method in _METHODS:
            for kind in ("weight", "activation"):
                values[f"{method}_{kind}_bits"] = statistics.fmean(figures[f"{kind}_bits"] for figures in each)
    if "rtn_w2a8_drop_mean" in values and "w2a8_drop_mean" in values:
        values["w2a8_recovered"] = 1.0 - values["w2a8_drop_mean"] / values["rtn_w2a8_drop_mean"]
    return values


def report(models: dict[str, dict[str, Any]], layers: dict[str, Any]) -> Report:
    """The figures of all models."""
    methods = (*_METHODS, *_RUNTIME)
    rows = [
        [name, *(f"{figures[m]['drop']:.2f} ({100 * figures[m]['agreement']:.1f})" for m in methods if m in figures)]
        for name, figures in models.items()
    ]
    values = summary(models) | layers | {"models": models}
    return Report(
        f"{len(models)} models: F1 drop in points (agreement in %), measured", ("model", *methods), rows, values
    )


def main() -> None:
    """Runs the benchmark."""
    parser = argument_parser(__doc__)
    parser.add_argument("--models", default=",".join(MODELS), help="names, separated by commas")
    parser.add_argument("--methods", default=",".join((*_METHODS, *_RUNTIME)), help="ways to quantize, likewise")
    parser.add_argument("--folder", type=Path, default=Path("build/benchmark-quantize"), help="where results are kept")
    arguments = parser.parse_args()
    data = Path(os.environ["HETFAB_DATA"])
    arguments.folder.mkdir(parents=True, exist_ok=True)

    def say(text: str) -> None:
        if not arguments.as_json:
            print(text, flush=True)

    methods = tuple(arguments.methods.split(","))
    models = {name: measure(name, data, arguments.folder, methods, say) for name in arguments.models.split(",") if name}
    publish(report(models, alternation_figures() | block_figures()), arguments.as_json)


if __name__ == "__main__":
    main()
