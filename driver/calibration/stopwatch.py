# SPDX-License-Identifier: Apache-2.0
"""Takes the time of micro-programs: by the host's clock beside a board, by the model on an emulated overlay."""

import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from hetfab.driver.calibration.programs import MicroProgram
from hetfab.driver.loaded_stream import LoadedStream
from hetfab.driver.session import Session
from hetfab.overlay.errors import OverlayStateError
from hetfab.overlay.isa.codec import Segment
from hetfab.overlay.isa.words import pack
from hetfab.overlay.timeline.machine import machine
from hetfab.overlay.timeline.simulate import simulate

_DEADLINE_SECONDS = 60.0
#: A difference of times is the smaller the longer both runs are, so a board runs more of them.
_RUNS, _LONGER = 9, 16


def modelled_cycles(session: Session, program: MicroProgram, repeats: int) -> float:
    """Runs a program once and times its run log by the model.

    Raises:
        RunError: The run did not end.
        OverlayStateError: The overlay keeps no run log: it is not emulated.
    """
    words = pack(program.words(repeats))
    with _loaded(session, program, repeats) as stream:
        stream.run(_DEADLINE_SECONDS)
    log = session.transport.run_log()
    if log is None:
        raise OverlayStateError("the overlay keeps no run log", "an emulated overlay", "measure it with its clock")
    return simulate(words, log, machine(session.design)).total_cycles


def measured_cycles(session: Session, program: MicroProgram, repeats: int) -> float:
    """Runs a program several times; the median of the host's times, in cycles of the overlay's clock.

    Its repetitions are ``_LONGER`` times as many, and the time a part of it accordingly.

    Raises:
        RunError: A run did not end.
    """
    seconds = []
    with _loaded(session, program, repeats * _LONGER) as stream:
        for _ in range(_RUNS):
            begin = time.perf_counter()
            stream.run(_DEADLINE_SECONDS)
            seconds.append(time.perf_counter() - begin)
    return statistics.median(seconds) * session.design.clock_mhz * 1e6 / _LONGER


@contextmanager
def _loaded(session: Session, program: MicroProgram, repeats: int) -> Iterator[LoadedStream]:
    words = pack(program.words(repeats))
    contents = {Segment.PROGRAM: words.view(np.uint8).reshape(-1), **program.contents}
    sizes = {segment: len(content) for segment, content in contents.items()} | dict(program.sizes)
    # What is timed is the run alone.
    stream = LoadedStream(session, len(words), contents, sizes, kept=(), checks_end=False)
    try:
        yield stream
    finally:
        stream.free()
