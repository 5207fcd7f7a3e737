# SPDX-License-Identifier: Apache-2.0
"""Measures the emulated overlay on one dense layer, 512 x 512 on 512 rows, against numpy and hls4ml; one thread.

A run is from the start register to the last done, with the order check, on the default design. Times are of the
thread's processor, so that the turns of other processes do not count.
"""

import ctypes
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.dense_layers import DenseLayer, DenseWorkload
from benchmarks.report import Report, argument_parser, publish
from hetfab.hls.build.compiler import find_compiler, processor_name, runs_code_for
from hetfab.hls.build.emulator import Bodies, Emulator, Progress, ap_types_folder, build_emulator
from hetfab.overlay.bind import BoundProgram
from hetfab.overlay.design import default_design
from hetfab.overlay.isa.codec import RegisterOffset, Segment
from hetfab.quantize.widths import OFFERED

SIZE = 512
GMACS = SIZE**3 / 1e9
#: Names in the JSON line, and the widths that they stand for.
WIDTHS = {"int8": "w8a8", "w4a4": "w4a4", "w2a4": "w2a4"}
#: The least ratio to numpy that a build is to reach, by the instructions that its bodies use.
REQUIRED = {"avx512vnni": 2.0, "avx2": 1.0, "sse2": 0.5, "portable": 0.5}
_MARCHES = ("native", "x86-64-v3", "x86-64")
_ROUNDS = 40
_SLOW_ROUNDS = 3
_HLS4ML_ROWS = 16
_FIRST_ADDRESS = 0x2000_0000
_ONE_THREAD = dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1")
_HEADINGS = ["build", "bodies", "widths", "ms", "GMAC/s", "ratio to numpy", "required"]


def main() -> None:
    """Prints the table and the JSON line."""
    arguments = argument_parser(__doc__).parse_args()
    if any(os.environ.get(name) != value for name, value in _ONE_THREAD.items()):
        # BLAS reads these when it is loaded.
        os.execve(
            sys.executable, [sys.executable, "-m", "benchmarks.emulator", *sys.argv[1:]], os.environ | _ONE_THREAD
        )
    rows: list[list[object]] = []
    builds: dict[str, dict[str, Any]] = {}
    values: dict[str, Any] = {"cpu": processor_name()}
    numpy_rates = []
    for name, widths in WIDTHS.items():
        bound = program(widths)
        tile = {"tile_rows": bound.program.layers[0].tile_rows, "instructions": len(bound.words)}
        values |= {f"{key}_{name}": value for key, value in tile.items()}
        found = measure(bound)
        if name == "int8":
            values["plain_gmacs"] = GMACS / plain_seconds(bound)
        numpy_seconds = found.pop("numpy")[1]
        numpy_rates.append(GMACS / numpy_seconds)
        for march, (bodies, seconds) in found.items():
            ratio = numpy_seconds / seconds
            rows.append([march, bodies, widths, 1e3 * seconds, GMACS / seconds, ratio, REQUIRED[bodies]])
            builds.setdefault(march, {"bodies": bodies, "required": REQUIRED[bodies]})[f"ratio_{name}"] = ratio
            builds[march][f"{name}_gmacs"] = GMACS / seconds
    values |= {f"ratio_{name}": builds["native"][f"ratio_{name}"] for name in WIDTHS}
    values |= {"int8_gmacs": builds["native"]["int8_gmacs"], "sgemm_gmacs": max(numpy_rates)}
    values |= {"hls4ml_gmacs": hls4ml_rate(), "builds": builds}
    rows.append(["plain bodies", "plain", "w8a8", "", values["plain_gmacs"], "", ""])
    rows.append(["hls4ml C simulation", "", "w8a8", "", values["hls4ml_gmacs"], "", ""])
    shown = [[f"{cell:.4g}" if isinstance(cell, float) else cell for cell in row] for row in rows]
    title = (
        f"{values['cpu']}: measured, one thread, best of {_ROUNDS} runs in turn with numpy's float32 product "
        f"({values['sgemm_gmacs']:.3g} GMAC/s)"
    )
    publish(Report(title, _HEADINGS, shown, values), arguments.as_json)


def program(widths: str) -> BoundProgram:
    """One dense layer at these widths with its requantization, compiled for the default design."""
    chosen = OFFERED[widths]
    layer = DenseLayer("product", SIZE, SIZE, SIZE)
    return DenseWorkload(widths, (layer,), chosen.weights, chosen.activations).bound(default_design())


def measure(bound: BoundProgram) -> dict[str, tuple[str, float]]:
    """Best seconds of numpy and of every build that this processor runs, in turn.

    Returns:
        By build, the name of its bodies and its seconds.
    """
    random = np.random.default_rng(1)
    left, right = (random.normal(size=(SIZE, SIZE)).astype(np.float32) for _ in range(2))
    product = np.empty_like(left)
    with ExitStack() as stack:
        emulators = {
            march: stack.enter_context(loaded(bound, Bodies.HOST, march)) for march in _MARCHES if runs_code_for(march)
        }
        best = dict.fromkeys(["numpy", *emulators], float("inf"))
        for _ in range(_ROUNDS):
            best["numpy"] = min(best["numpy"], _seconds(lambda: np.matmul(left, right, out=product)))
            for name, emulator in emulators.items():
                best[name] = min(best[name], run(emulator))
        names = {name: emulator.bodies() for name, emulator in emulators.items()}
    return {name: (names.get(name, ""), seconds) for name, seconds in best.items()}


def plain_seconds(bound: BoundProgram) -> float:
    """Best seconds of plain bodies."""
    with loaded(bound, Bodies.PLAIN, "native") as emulator:
        return min(run(emulator) for _ in range(_SLOW_ROUNDS))


@contextmanager
def loaded(bound: BoundProgram, bodies: Bodies, march: str) -> Iterator[Emulator]:
    """An emulator whose memory and registers hold the program."""
    geometry = default_design().geometry
    with Emulator(build_emulator(geometry, bodies=bodies, march=march), geometry) as emulator:
        address = _FIRST_ADDRESS
        for segment in Segment:
            size = bound.sizes[segment]
            memory = np.zeros(max(size, 64), np.uint8)
            content = bound.contents.get(segment, memory[:0])
            memory[: content.size] = content
            emulator.map_memory(address, memory)
            emulator.write_register(RegisterOffset[f"SEGMENT_BASE_{segment.name}_LOW"], address)
            emulator.write_register(RegisterOffset[f"SEGMENT_SIZE_{segment.name}_LOW"], size)
            address += memory.size + -memory.size % 4096
        emulator.write_register(RegisterOffset.PROGRAM_LENGTH, len(bound.words))
        yield emulator


def run(emulator: Emulator) -> float:
    """Seconds of one run."""

    def steps() -> None:
        emulator.write_register(RegisterOffset.CONTROL, 1)
        if emulator.advance(1 << 62) is not Progress.DONE:
            raise SystemExit(emulator.message())

    return _seconds(steps)


def hls4ml_rate() -> float:
    """GMAC/s of hls4ml's dense layer of the same size in C simulation, best of some rows."""
    random = np.random.default_rng(2)
    weights = random.integers(-127, 128, (SIZE, SIZE), dtype=np.int8)
    rows = random.integers(-128, 128, (_HLS4ML_ROWS, SIZE), dtype=np.int8)
    results = np.zeros((_HLS4ML_ROWS, SIZE), np.int32)
    headers = ap_types_folder()
    with tempfile.TemporaryDirectory() as folder:
        library = Path(folder) / "dense.so"
        source = Path(__file__).with_name("hls4ml_dense.cpp")
        includes = ["-isystem", str(headers), "-isystem", str(headers.parent)]
        find_compiler().run(
            ["-std=c++17", "-O3", "-march=native", "-w", "-shared", "-fPIC", *includes, "-o", str(library), str(source)]
        )
        functions = ctypes.CDLL(str(library))
        functions.set_weights(ctypes.c_void_p(weights.ctypes.data))
        arguments = [ctypes.c_void_p(rows.ctypes.data), len(rows), ctypes.c_void_p(results.ctypes.data)]
        seconds = min(_seconds(lambda: functions.dense(*arguments)) for _ in range(_SLOW_ROUNDS))
    if not np.array_equal(results, rows.astype(np.int32) @ weights.astype(np.int32).T):
        raise SystemExit("hls4ml's dense layer gives other sums than numpy")
    return _HLS4ML_ROWS * SIZE * SIZE / seconds / 1e9


def _seconds(work: Callable[[], object]) -> float:
    begin = time.thread_time()
    work()
    return time.thread_time() - begin


if __name__ == "__main__":
    main()
