# SPDX-License-Identifier: Apache-2.0
"""Constants of the timing model from times of micro-programs.

Every time is a difference of two runs that differ in their number of repetitions alone: what a run costs once does not
count.
docs/calibrate.md has the equations; those of the model are in docs/timeline.md.
"""

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from hetfab.driver.calibration import programs
from hetfab.driver.calibration.programs import MicroProgram
from hetfab.overlay.board import read_board
from hetfab.overlay.costs.program_cost import expected_records
from hetfab.overlay.design import Design
from hetfab.overlay.isa.codec import Segment
from hetfab.overlay.isa.spec import isa
from hetfab.overlay.isa.words import pack
from hetfab.overlay.timeline.machine import Constant, Machine, constants, machine
from hetfab.overlay.timeline.simulate import simulate

#: Takes the cycles of a program with so many repetitions.
Stopwatch = Callable[[MicroProgram, int], float]
#: Above this share of what the ports can move, the DRAM is not what bounds it.
_PORT_BOUND = 0.99
_HALVINGS = 24


@dataclass(frozen=True)
class Check:
    """A micro-program that no constant is fitted to.

    Attributes:
        name: What it shows.
        measured: Cycles of a repetition.
        expected: The same by the timing model with the fitted constants.
    """

    name: str
    measured: float
    expected: float


@dataclass(frozen=True)
class Calibration:
    """What was measured.

    Attributes:
        constants: Those that could be measured.
        left: Those that could not, and why.
        checks: Times that the fitted constants should give.
    """

    constants: tuple[Constant, ...]
    left: dict[str, str]
    checks: tuple[Check, ...]


def calibrate(design: Design, stopwatch: Stopwatch, origin: str) -> Calibration:
    """Measures what can be measured of the timing model's constants.

    Args:
        design: The overlay's.
        stopwatch: Runs micro-programs on it.
        origin: Where and when, for the constants.
    """
    geometry = design.geometry
    modelled = machine(design)
    cycles_per_ns = design.clock_mhz / 1e3

    def period(program: MicroProgram) -> float:
        few, many = program.repeats
        return (stopwatch(program, many) - stopwatch(program, few)) / (many - few)

    read_latency = _latency(lambda beats: programs.reading(geometry, beats), design, period)
    write_latency = _latency(programs.writing, design, period)
    engines = geometry.engines
    absent = (len(isa().engines) - len(engines)) * constants()["absent_turn_cycles"].value
    pass_cycles = period(programs.turns())
    queue = programs.queueing(engines)
    fetch = (read_latency + modelled.fetch_cycles) / modelled.fetch_instructions
    hop = period(programs.handing_over()) / 2
    left = dict(_NOT_MEASURED)
    found: dict[str, float] = {}

    def keep(name: str, value: float) -> None:
        if 0 <= value < float("inf"):
            found[name] = value
        else:
            left[name] = f"the times gave {value:.4g}, which cannot be: repeat it on an idle machine"

    keep("turn_cycles", (pass_cycles - absent) / len(engines))
    keep("retire_cycles", hop - pass_cycles - modelled.issue_cycles - _busy(programs.turns(), design))
    keep("read_latency_ns", read_latency / cycles_per_ns)
    keep("write_latency_ns", write_latency / cycles_per_ns)
    if "read_latency_ns" in found:
        keep("queue_cycles", period(queue) / len(queue.repeated) - fetch)
    else:
        left["queue_cycles"] = "it is what the latency of a read leaves of a time"

    def as_constants() -> tuple[Constant, ...]:
        return tuple(Constant(name, value, constants()[name].unit, origin) for name, value in found.items())

    so_far = fitted_machine(design, as_constants())
    efficiency = _efficiency(design, period(programs.streaming(geometry)), so_far)
    if efficiency is None:
        left["dram_efficiency"] = "the overlay's ports move less than the DRAM"
    else:
        keep("dram_efficiency", efficiency)
    fitted = as_constants()
    return Calibration(fitted, left, tuple(_checks(design, fitted, period)))


#: What no difference of two times shows by itself.
_NOT_MEASURED = {
    "start_cycles": "a start by the driver takes much longer",
    "absent_turn_cycles": "a design has the same engines in every run",
    "fetch_instructions": "a number of the kernel",
    "fetch_cycles": "a number of the kernel",
    "issue_cycles": "only its sum with retire_cycles shows, which has the difference",
}


def _latency(copy: Callable[[int], MicroProgram], design: Design, period: Callable[[MicroProgram], float]) -> float:
    """What a short copy takes beyond its loops, or beyond its bytes where a slow DRAM takes longer than these."""
    short, long = programs.SHORT_BEATS, 2 * programs.SHORT_BEATS
    cycles_per_beat = (period(copy(2 * long)) - period(copy(long))) / long
    return period(copy(short)) - max(_busy(copy(short), design), short * cycles_per_beat)


def _busy(program: MicroProgram, design: Design) -> float:
    """Cycles of the loops of a repetition."""
    log = _log(program, design, 1)
    return float(log["cycles"][len(program.begin) :].sum())


def _log(program: MicroProgram, design: Design, repeats: int) -> npt.NDArray[Any]:
    graph = program.contents.get(Segment.GRAPH, np.zeros(0, np.uint8))
    return np.asarray(expected_records(pack(program.words(repeats)), graph, design.geometry))


def _efficiency(design: Design, period: float, board: Machine) -> float | None:
    """Share of the DRAM's peak rate with which the model gives the time of all ports; None where the ports bound it.

    Args:
        design: The overlay's.
        period: Cycles of a repetition of ``streaming``.
        board: The machine with what was measured before.
    """
    peak = read_board(design.board).dram_bytes_per_second / (design.clock_mhz * 1e6)
    expected = _expected(programs.streaming(design.geometry), design)
    if period * _PORT_BOUND < expected(dataclasses.replace(board, dram_rate=float("inf"))):
        return None
    low, high = 0.0, 1.0
    for _ in range(_HALVINGS):
        # The time never falls with a slower DRAM.
        middle = (low + high) / 2
        if expected(dataclasses.replace(board, dram_rate=middle * peak)) > period:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def _checks(design: Design, fitted: Sequence[Constant], period: Callable[[MicroProgram], float]) -> list[Check]:
    asked = [programs.short_bursts(design.geometry)]
    if "agg" in design.geometry.engines:
        asked.append(programs.gathered_rows(design.geometry))
    board = fitted_machine(design, fitted)
    return [Check(program.name, period(program), expected_period(program, design, board)) for program in asked]


def fitted_machine(design: Design, fitted: Sequence[Constant]) -> Machine:
    """The machine of a design with other constants."""
    return machine(design, replaced={constant.name: constant for constant in fitted})


def expected_period(program: MicroProgram, design: Design, board: Machine) -> float:
    """Cycles of a repetition by the timing model."""
    return _expected(program, design)(board)


def _expected(program: MicroProgram, design: Design) -> Callable[[Machine], float]:
    """The same for any machine."""
    few, many = program.repeats
    streams = [(pack(program.words(repeats)), _log(program, design, repeats)) for repeats in (few, many)]

    def period(board: Machine) -> float:
        first, second = (simulate(words, log, board).total_cycles for words, log in streams)
        return (second - first) / (many - few)

    return period
