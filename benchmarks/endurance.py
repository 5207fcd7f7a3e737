# SPDX-License-Identifier: Apache-2.0
"""Measures whether memory, file descriptors or threads grow over many inferences and many loadings of an overlay.

Both run on the emulated overlay, over pynq with ``HETFAB_DEVICE=emulated``. Growth is counted after a tenth of the
rounds, when caches are filled: the median of ten looks in the last tenth over that in the second.
"""

import os
import statistics
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.report import Report, argument_parser, publish
from hetfab.driver.demo import model_path
from hetfab.driver.graph.generate import academic
from hetfab.driver.graph.model_inputs import open_model
from hetfab.driver.overlay import HetfabOverlay
from hetfab.driver.package import write_emulated_package
from hetfab.overlay.compiler.compile import compile_model
from hetfab.overlay.design import default_design
from hetfab.quantize.post_training import quantize

#: Growth of memory that is called none: allocators keep pages.
GROWTH_LIMIT_KIB = 1024


def resources() -> tuple[int, int, int]:
    """Resident KiB, open file descriptors and threads of this process."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    kib = pages * os.sysconf("SC_PAGE_SIZE") // 1024
    return kib, len(list(Path("/proc/self/fd").iterdir())), threading.active_count()


def growth(rounds: int, one: Callable[[], None]) -> dict[str, float]:
    """Runs rounds, and says by how much memory, descriptors and threads grew."""
    tenth = max(rounds // 10, 1)
    # Looked at ten times in the second tenth and in the last: what is kept of it must not grow either.
    early, late = (range(first, first + tenth, max(tenth // 10, 1)) for first in (tenth, rounds - tenth))
    seen: dict[int, tuple[int, int, int]] = {}
    begin = time.perf_counter()
    for number in range(rounds):
        one()
        if number in early or number in late:
            seen[number] = resources()
    seconds = time.perf_counter() - begin
    before, after = ([seen[number] for number in part if number in seen] for part in (early, late))
    grown = [
        statistics.median(each[place] for each in after) - statistics.median(each[place] for each in before)
        for place in range(3)
    ]
    return {
        "rounds": rounds,
        "growth_kib": grown[0],
        "growth_descriptors": grown[1],
        "growth_threads": grown[2],
        "seconds": round(seconds, 1),
    }


def measure(inferences: int, reloads: int) -> Report:
    """Runs inferences, then loadings with an inference each."""
    graph, design = academic(papers=40), default_design("zcu104")
    program = compile_model(quantize(open_model(model_path(), graph)), design)
    with tempfile.TemporaryDirectory() as folder:
        package = write_emulated_package(Path(folder), design)
        with HetfabOverlay(package, program) as overlay:
            right = overlay.predict(graph).logits.tobytes()

            def infer() -> None:
                if overlay.predict().logits.tobytes() != right:
                    raise SystemExit("an inference gave other logits than the first")

            def reload() -> None:
                overlay.recover()
                if overlay.predict(graph).logits.tobytes() != right:
                    raise SystemExit("an inference after loading gave other logits than the first")

            found = {"inferences": growth(inferences, infer), "reloads": growth(reloads, reload)}
    keys = ("rounds", "growth_kib", "growth_descriptors", "growth_threads", "seconds")
    grows = any(
        each["growth_kib"] > GROWTH_LIMIT_KIB or each["growth_descriptors"] > 0 or each["growth_threads"] > 0
        for each in found.values()
    )
    rows = [[name, *(each[key] for key in keys)] for name, each in found.items()]
    title = f"Growth over many rounds, measured; more than {GROWTH_LIMIT_KIB} KiB counts"
    return Report(title, ["what", *keys], rows, {**found, "grows": grows})


def main() -> None:
    """Runs the benchmark."""
    parser = argument_parser(__doc__)
    parser.add_argument("--inferences", type=int, default=10_000)
    parser.add_argument("--reloads", type=int, default=1_000)
    arguments = parser.parse_args()
    found = measure(arguments.inferences, arguments.reloads)
    publish(found, arguments.as_json)
    if found.values["grows"]:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
