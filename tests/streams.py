# SPDX-License-Identifier: Apache-2.0
"""Random streams that drain, with run logs, and machines to time them on."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from hypothesis import strategies as st

from hetfab.overlay.isa import codec
from hetfab.overlay.isa.codec import Engine
from hetfab.overlay.isa.words import pack
from hetfab.overlay.run_log import RUN_LOG_DTYPE
from hetfab.overlay.timeline.machine import Machine

Array = npt.NDArray[Any]
#: Signalling and waiting engine of each semaphore that random streams use.
PAIRS = {
    semaphore: (Engine(semaphore % len(Engine)), Engine((semaphore + semaphore // len(Engine) + 1) % len(Engine)))
    for semaphore in range(1, 3 * len(Engine) + 1)
}


@dataclass(frozen=True, eq=False)
class Stream:
    """A stream and its run log."""

    words: Array
    log: Array


def make_stream(rows: list[dict[str, int]]) -> Stream:
    """A stream of ``sync`` instructions whose run log says what each costs.

    Args:
        rows: Fields of the header and of the run log; ``read``, ``graph`` and ``written`` are bytes.
    """
    names = ("wait0", "wait1", "signal0", "signal1")
    words = [codec.sync(engine=Engine(row["engine"]), **{name: row.get(name, 0) for name in names}) for row in rows]
    log = np.zeros(len(rows), RUN_LOG_DTYPE)
    for index, row in enumerate(rows):
        log[index]["index"], log[index]["engine"], log[index]["cycles"] = index, row["engine"], row["cycles"]
        for port, name in enumerate(("read", "graph")):
            log[index]["read_bytes"][port] = row.get(name, 0)
            log[index]["read_bursts"][port] = -(-row.get(name, 0) // 128)
        log[index]["write_bytes"], log[index]["edges"] = row.get("written", 0), row.get("edges", 0)
        log[index]["misses"] = row.get("edges", 0) if row["engine"] == Engine.AGG else 0
        log[index]["write_bursts"] = -(-row.get("written", 0) // 128)
    return Stream(pack(words), log)


@st.composite
def streams(draw: st.DrawFn, *, engines: tuple[Engine, ...] = tuple(Engine), largest: int = 30) -> Stream:
    """Streams whose every wait comes after its signal."""
    given = dict.fromkeys(PAIRS, 0)
    rows = []
    for _ in range(draw(st.integers(0, largest))):
        engine = draw(st.sampled_from(engines))
        row = {"engine": int(engine), "cycles": draw(st.integers(6, 800))}
        match engine:
            case Engine.LOAD:
                row["read"] = 64 * draw(st.integers(0, 64))
            case Engine.STORE:
                row["written"] = 64 * draw(st.integers(0, 64))
            case Engine.AGG:
                row["graph"] = 8 * draw(st.integers(0, 64))
                row["edges"] = draw(st.integers(0, 64)) if row["graph"] else 0
                row["read"] = 8 * row["edges"] * draw(st.integers(1, 8))
        open_waits = [s for s, (_, waiter) in PAIRS.items() if waiter is engine for _ in range(given[s])]
        waits = draw(st.permutations(open_waits))[: draw(st.integers(0, 2))]
        signals = draw(st.permutations([s for s, (signaller, _) in PAIRS.items() if signaller is engine] * 2))
        signals = signals[: draw(st.integers(0, 2))]
        row |= {f"wait{i}": semaphore for i, semaphore in enumerate(waits)}
        row |= {f"signal{i}": semaphore for i, semaphore in enumerate(signals)}
        for semaphore in waits:
            given[semaphore] -= 1
        for semaphore in signals:
            given[semaphore] += 1
        rows.append(row)
    return make_stream(rows)


#: Every number is a multiple of a sixteenth, so that sums and quotients are exact.
machines = st.builds(
    Machine,
    clock_mhz=st.just(100.0),
    queue_depth=st.integers(1, 5),
    engine_fifo_depth=st.integers(1, 4),
    rows_fifo_words=st.sampled_from([16, 512]),
    start_cycles=st.sampled_from([0.0, 200.0]),
    queue_cycles=st.sampled_from([0.0, 1.0, 10.0]),
    pass_cycles=st.sampled_from([0.0, 1.0, 36.0]),
    fetch_instructions=st.sampled_from([1, 4, 16]),
    fetch_cycles=st.sampled_from([0.0, 32.0]),
    issue_cycles=st.sampled_from([0.0, 4.0]),
    token_cycles=st.sampled_from([0.0, 6.0]),
    read_latency=st.sampled_from([0.0, 25.0, 60.0]),
    write_latency=st.sampled_from([0.0, 15.0]),
    bursts_ahead=st.just(8),
    rows_ahead=st.sampled_from([1, 8]),
    row_beats_ahead=st.sampled_from([1, 8, 128]),
    port_rate=st.sampled_from([4.0, 8.0]),
    dram_rate=st.sampled_from([2.0, 8.0, 16.0]),
)
