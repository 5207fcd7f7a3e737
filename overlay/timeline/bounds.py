# SPDX-License-Identifier: Apache-2.0
"""Lower bounds of a timeline: compute, DRAM and dependences, each with everything else for free."""

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from hetfab.overlay.isa.spec import isa
from hetfab.overlay.program import Words
from hetfab.overlay.timeline.machine import Machine
from hetfab.overlay.timeline.simulate import simulate


@dataclass(frozen=True)
class Bounds:
    """Lower bounds of the total, in modelled cycles.

    Attributes:
        compute: The busiest engine's loops.
        dram: All bytes at the DRAM's rate.
        dependences: The same stream where DRAM and DISPATCH take no time.
    """

    compute: float
    dram: float
    dependences: float


def lower_bounds(words: Words, log: npt.NDArray[Any], machine: Machine) -> Bounds:
    """Lower bounds of ``simulate``'s total; arguments as there."""
    busy, engines = log["cycles"].astype(np.float64), log["engine"]
    moved = float(log["read_bytes"].sum()) + float(log["write_bytes"].sum())
    return Bounds(
        compute=max(float(busy[engines == engine.id].sum()) for engine in isa().engines),
        dram=moved / machine.dram_rate,
        dependences=simulate(words, log, free_transfers(machine)).total_cycles,
    )


def free_transfers(machine: Machine) -> Machine:
    """The machine with unlimited rates, and without latencies and the time of DISPATCH."""
    return replace(
        machine,
        start_cycles=0.0,
        queue_cycles=0.0,
        pass_cycles=0.0,
        fetch_cycles=0.0,
        issue_cycles=0.0,
        token_cycles=0.0,
        read_latency=0.0,
        write_latency=0.0,
        port_rate=math.inf,
        dram_rate=math.inf,
    )
