# SPDX-License-Identifier: Apache-2.0
"""Measures C simulations of dense layers in hls4ml's projects: ``HeteroDense`` beside hls4ml's own layer.

Both compute the same network, and their results are compared. hls4ml's layer is measured with its latency and its
resource strategy; the faster one counts, for each figure. Times are those that the processor spends, which a busy
machine changes little; of a simulation, the best of several calls.
"""

import contextlib
import itertools
import os
import resource
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.report import Report, argument_parser, publish
from hetfab.hls.hls4ml_extension import dense_layer, register

_WIDTHS = (256, 256, 256, 16)
_SAMPLES = 64
_PART = "xc7z020clg400-1"
_HEADINGS = ("weights", "activations", "interface", "layer", "compile s", "ns/MAC")


@dataclass(frozen=True)
class Case:
    """A network: widths of weights and activations, and the interface of its project."""

    weight_bits: int
    activation_bits: int
    io_type: str


@dataclass(frozen=True)
class Timing:
    """A project's compile time and time of a simulation of all samples, in seconds, and its results."""

    compile_seconds: float
    run_seconds: float
    results: npt.NDArray[np.float32]


CASES = (
    Case(8, 8, "io_stream"),
    Case(4, 4, "io_stream"),
    Case(2, 4, "io_stream"),
    Case(1, 8, "io_stream"),
    Case(8, 8, "io_parallel"),
)


def weights_of(case: Case) -> list[npt.NDArray[np.int64]]:
    """Drawn weights, [inputs, outputs] each."""
    random = np.random.default_rng(case.weight_bits)
    limit = max((1 << (case.weight_bits - 1)) - 1, 1)
    shapes = itertools.pairwise(_WIDTHS)
    if case.weight_bits == 1:
        return [random.choice([-1, 1], shape) for shape in shapes]
    return [random.integers(-limit, limit + 1, shape) for shape in shapes]


def layers(case: Case, hetero: bool) -> list[dict[str, Any]]:
    """The network as hls4ml takes it."""
    from hls4ml.model.quantizers import QuantNodeQuantizer
    from hls4ml.model.types import FixedPrecisionType

    found: list[dict[str, Any]] = [{"class_name": "InputLayer", "name": "x", "input_shape": [_WIDTHS[0]]}]
    bits = max(case.weight_bits, 2)
    for number, weight in enumerate(weights_of(case)):
        source, name = found[-1]["name"], f"dense{number}"
        if hetero:
            found.append(dense_layer(name, source, weight, exponent=bits + 3))
        else:
            quantizer = QuantNodeQuantizer(FixedPrecisionType(bits, -3))
            values = weight / 2.0 ** (bits + 3)
            plain = {"weight_data": values, "weight_quantizer": quantizer, "bias_data": np.zeros(weight.shape[1])}
            found.append(
                {"class_name": "Dense", "name": name, "inputs": [source], "outputs": [name]}
                | {"n_in": weight.shape[0], "n_out": weight.shape[1]}
                | plain
            )
        found.append(
            {"class_name": "Activation", "name": f"relu{number}", "activation": "relu"}
            | {"inputs": [name], "outputs": [f"relu{number}"]}
        )
    return found


def build(case: Case, strategy: str, folder: Path) -> tuple[Any, float]:
    """A compiled project and the processor time that its compilation took; ``hetero`` is a strategy too."""
    from hls4ml.model import ModelGraph
    from hls4ml.utils.config import create_config

    described = layers(case, strategy == "hetero")
    config = create_config(
        output_dir=str(folder), project_name="bench", backend="Vitis", part=_PART, io_type=case.io_type
    )
    types: dict[str, Any] = {"x": {"Precision": {"result": f"ufixed<{case.activation_bits},{case.activation_bits}>"}}}
    for layer in described[1:]:
        ends = layer["class_name"] == "Activation"
        bits = case.activation_bits
        result = f"ufixed<{bits},{bits},RND_CONV,SAT>" if ends else "auto"
        types[layer["name"]] = {"Precision": {"result": result, "accum": "auto", "bias": "auto"}}
        if strategy == "Resource" and not ends:
            types[layer["name"]] |= {"Strategy": strategy, "ReuseFactor": layer["n_in"]}
    config["HLSConfig"] = {"Model": {"Precision": {"default": "fixed<16,6>"}, "ReuseFactor": 1}, "LayerName": types}
    with quiet():
        model = ModelGraph.from_layer_list(config, described, ["x"], [described[-1]["name"]])
        model.write()
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        model._compile()
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return model, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keeps hls4ml's lines, the compiler's too, off the report."""
    with Path(os.devnull).open("w", encoding="utf-8") as sink, contextlib.redirect_stdout(sink):
        yield


def measured(case: Case, strategy: str, calls: int) -> Timing:
    """Builds a project and times its simulation."""
    samples = np.random.default_rng(0).integers(0, 1 << case.activation_bits, (_SAMPLES, _WIDTHS[0]))
    inputs = np.ascontiguousarray(samples, np.float32)
    with tempfile.TemporaryDirectory() as folder:
        model, compile_seconds = build(case, strategy, Path(folder) / "project")
        times = []
        for _ in range(calls + 1):
            start = time.process_time()
            results = model.predict(inputs)
            times.append(time.process_time() - start)
    # The first call reads the weights' files.
    return Timing(compile_seconds, min(times[1:]), results)


def measure(calls: int) -> Report:
    """Measures all cases.

    Args:
        calls: Simulations of each project; the best counts.
    """
    register()
    macs = _SAMPLES * sum(a * b for a, b in itertools.pairwise(_WIDTHS))
    rows, throughputs, compiles, equal = [], [], [], True
    for case in CASES:
        found = {strategy: measured(case, strategy, calls) for strategy in ("Latency", "Resource", "hetero")}
        ours = found.pop("hetero")
        equal &= all(np.array_equal(ours.results, plain.results) for plain in found.values())
        throughputs.append(min(plain.run_seconds for plain in found.values()) / ours.run_seconds)
        compiles.append(ours.compile_seconds / min(plain.compile_seconds for plain in found.values()))
        for name, timing in [*found.items(), ("HeteroDense", ours)]:
            nanoseconds = 1e9 * timing.run_seconds / macs
            rows.append(
                (
                    case.weight_bits,
                    case.activation_bits,
                    case.io_type,
                    name,
                    f"{timing.compile_seconds:.1f}",
                    f"{nanoseconds:.2f}",
                )
            )
    return Report(
        title="C simulation of dense layers in hls4ml's projects, measured",
        headings=_HEADINGS,
        rows=rows,
        values={
            "equal": bool(equal),
            "throughput_ratio": round(min(throughputs), 3),
            "compile_ratio": round(max(compiles), 3),
            "throughput_ratios": [round(ratio, 3) for ratio in throughputs],
            "compile_ratios": [round(ratio, 3) for ratio in compiles],
            "calls": calls,
        },
    )


def main() -> None:
    """Runs the benchmark."""
    parser = argument_parser(__doc__)
    parser.add_argument("--calls", type=int, default=5, help="simulations of each project (default 5)")
    arguments = parser.parse_args()
    publish(measure(arguments.calls), arguments.as_json)


if __name__ == "__main__":
    main()
