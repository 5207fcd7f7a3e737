# SPDX-License-Identifier: Apache-2.0
"""Measures the driver: the host's share of an inference on a bound graph, and whether memory grows over many.

The inference is of an RGCN on ACM where ``HETFAB_DATA`` names the public data, else of the demo's model on a generated
graph. The host's share is all processor time but that inside the emulated engines; the comparison that finds forgotten
flushes, which a board does not make, is in it. Processor time, because other programs on the machine do not add to it.
``HETFAB_DEVICE=emulated`` measures it over pynq. Models are compiled in a process of their own, so that this one holds
what a board's would: onnxruntime alone grows by hundreds of KiB in its first seconds.
"""

import multiprocessing
import os
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.report import Report, argument_parser, publish
from hetfab.driver import emulated
from hetfab.driver.demo import model_path
from hetfab.driver.graph.generate import academic
from hetfab.driver.graph.heterograph import HeteroGraph
from hetfab.driver.graph.npz import read_graph, write_graph
from hetfab.driver.overlay import HetfabOverlay
from hetfab.driver.package import write_emulated_package
from hetfab.hls.build.emulator import Emulator, Progress
from hetfab.overlay.design import default_design
from hetfab.overlay.package import Package
from hetfab.overlay.program import Program, read_program, write_program

#: Required: milliseconds of the host's share, and KiB over all small inferences.
OVERHEAD_LIMIT_MS, GROWTH_LIMIT_KIB = 5.0, 1024
_WARM_UPS = 100


@dataclass(frozen=True)
class Workload:
    """A named program and its graph."""

    name: str
    program: Program
    graph: HeteroGraph


class TimedEmulator(Emulator):
    """Adds up the processor time inside the emulated engines, of all overlays."""

    seconds = 0.0

    def advance(self, passes: int, seed: int = 0) -> Progress:
        """Lets the scheduler take steps, and takes the time."""
        begin = time.thread_time()
        progress = super().advance(passes, seed)
        TimedEmulator.seconds += time.thread_time() - begin
        return progress


def compile_workload(model: Path, graph: HeteroGraph, board: str, folder: Path) -> None:
    """Writes a graph, and a model quantized on it and compiled for a board's default design."""
    from hetfab.driver.graph.model_inputs import open_model
    from hetfab.overlay.compiler.compile import compile_model
    from hetfab.quantize.post_training import quantize

    folder.mkdir()
    quantized = quantize(open_model(model, graph))
    write_program(folder / "program.hfp", compile_model(quantized, default_design(board)))
    write_graph(folder / "graph.npz", graph)


def workload(name: str, model: Path, graph: HeteroGraph, board: str, folder: Path) -> Workload:
    """Compiles in another process and reads what it wrote."""
    process = multiprocessing.get_context("spawn").Process(target=compile_workload, args=(model, graph, board, folder))
    process.start()
    process.join()
    if process.exitcode:
        raise SystemExit(f"'{model}' could not be compiled")
    return Workload(name, read_program(folder / "program.hfp"), read_graph(folder / "graph.npz"))


def large_workload(board: str, folder: Path) -> Workload:
    """ACM's RGCN where the data are, else the demo's."""
    data = os.environ.get("HETFAB_DATA")
    if data is None:
        return workload("demo RGCN, generated academic graph", model_path(), academic(), board, folder)
    graph = read_graph(Path(data) / "acm" / "graph.npz")
    return workload("RGCN, ACM", Path(data) / "models" / "acm_rgcn.onnx", graph, board, folder)


def small_workload(board: str, folder: Path) -> Workload:
    """The demo's model on a small generated graph."""
    return workload("demo RGCN, 40 papers", model_path(), academic(papers=40), board, folder)


def resident_kib() -> int:
    """Memory of this process that is in RAM."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") // 1024


def times(overlay: HetfabOverlay, work: Workload, repeats: int) -> tuple[float, list[tuple[float, float]]]:
    """Milliseconds of the first inference, binding included, and (whole, host's share) of each later one."""
    begin = time.perf_counter()
    overlay.load(work.program)
    overlay.predict(work.graph)
    first = 1e3 * (time.perf_counter() - begin)
    later = []
    for _ in range(repeats):
        inside, begin, begin_cpu = TimedEmulator.seconds, time.perf_counter(), time.thread_time()
        overlay.predict(work.graph)
        whole, cpu = time.perf_counter() - begin, time.thread_time() - begin_cpu
        later.append((1e3 * whole, 1e3 * (cpu - (TimedEmulator.seconds - inside))))
    return first, later


def growth_kib(overlay: HetfabOverlay, work: Workload, inferences: int) -> int:
    """Growth of resident memory over inferences on one bound graph, after some that are not counted."""
    overlay.load(work.program)
    for _ in range(_WARM_UPS):
        overlay.predict(work.graph)
    before = resident_kib()
    for _ in range(inferences):
        overlay.predict(work.graph)
    return resident_kib() - before


def measure(package: Package, repeats: int, inferences: int) -> Report:
    """Measures both.

    Args:
        package: The emulated overlay.
        repeats: Timed inferences of the large workload; the median counts.
        inferences: Small inferences over which memory may grow.
    """
    board, folder = package.design.board, package.bit.parent
    large, small = large_workload(board, folder / "large"), small_workload(board, folder / "small")
    with HetfabOverlay(package) as overlay:
        over = type(overlay.transport).__name__
        first, later = times(overlay, large, repeats)
        growth = growth_kib(overlay, small, inferences)
    whole, overhead = (statistics.median(column) for column in zip(*later, strict=True))
    rows: list[Sequence[object]] = [
        ["first inference, binding included", f"{first:.1f} ms", ""],
        ["later inference", f"{whole:.1f} ms", ""],
        ["host's share of it, processor time", f"{overhead:.2f} ms", f"at most {OVERHEAD_LIMIT_MS:g} ms"],
        [f"growth over {inferences:,} inferences", f"{growth} KiB", f"at most {GROWTH_LIMIT_KIB} KiB"],
    ]
    return Report(
        title=f"Driver over {over}, {large.name}, measured, median of {repeats}; growth: {small.name}",
        headings=("figure", "value", "required"),
        rows=rows,
        values={
            "transport": over,
            "workload": large.name,
            "small_workload": small.name,
            "first_ms": first,
            "later_ms": whole,
            "overhead_ms": overhead,
            "rss_growth_kib": growth,
            "repeats": repeats,
            "inferences": inferences,
        },
    )


def main() -> None:
    """Runs the benchmark."""
    parser = argument_parser(__doc__)
    parser.add_argument("--board", default="zcu104", help="board of the default design (default zcu104)")
    parser.add_argument("--repeats", type=int, default=20, help="timed inferences (default 20)")
    parser.add_argument("--inferences", type=int, default=10_000, help="small inferences (default 10,000)")
    arguments = parser.parse_args()
    # The overlay makes its emulator by this name.
    vars(emulated)["Emulator"] = TimedEmulator
    with tempfile.TemporaryDirectory() as folder:
        package = write_emulated_package(Path(folder), default_design(arguments.board))
        publish(measure(package, arguments.repeats, arguments.inferences), arguments.as_json)


if __name__ == "__main__":
    main()
