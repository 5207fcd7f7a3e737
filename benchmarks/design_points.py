# SPDX-License-Identifier: Apache-2.0
"""The points of the sweep over designs, and how one is ranked and timed: in any process, which opens workloads once."""

import functools
import itertools
import math
from collections.abc import Iterator
from dataclasses import replace

from benchmarks.core_designs import holds
from benchmarks.dense_layers import DenseWorkload, mlp, sehgnn
from benchmarks.workloads import Workload, workloads
from hetfab.overlay.compiler.lowered import LoweredModel
from hetfab.overlay.compiler.planning import plan_layers
from hetfab.overlay.costs.program_cost import expected_log
from hetfab.overlay.costs.resources import resource_rows
from hetfab.overlay.design import Design, Geometry
from hetfab.overlay.errors import DesignTooSmallError
from hetfab.overlay.timeline.machine import machine
from hetfab.overlay.timeline.simulate import simulate

_SIDES = {"rows": (6, 8, 10, 12, 14, 16), "cols": (8, 16)}
_WEIGHT_WORDS = (1024, 1536, 2048, 3072)


def candidates(base: Geometry) -> Iterator[Geometry]:
    """Geometries with all engines."""
    arrays = list(itertools.product(_SIDES["rows"], _SIDES["cols"]))
    for (d_rows, d_cols), (l_rows, l_cols) in itertools.product(arrays, arrays):
        for d_words, l_words in itertools.product(_WEIGHT_WORDS, _WEIGHT_WORDS):
            yield replace(
                base,
                gemm_d_rows=d_rows,
                gemm_d_cols=d_cols,
                gemm_l_rows=l_rows,
                gemm_l_cols=l_cols,
                wgt_d_words=d_words,
                wgt_l_words=l_words,
            )


@functools.cache
def dense() -> tuple[DenseWorkload, ...]:
    """Dense workloads of 8 and of 4 bits."""
    return mlp(8, 8), mlp(4, 4), sehgnn(64, 8, 8), sehgnn(512, 4, 4)


@functools.cache
def models() -> tuple[Workload, ...]:
    """The demo and the public models."""
    return tuple(workloads())


@functools.cache
def _lowered() -> list[LoweredModel]:
    return [workload.lowered() for workload in dense()]


def rank(design: Design) -> float | None:
    """Geometric mean of the estimates for the dense workloads; None where it does not fit, or they do not."""
    if not holds(design):
        return None
    try:
        # Each layer has its own order of channels: none is added to another.
        plans = [plan_layers(layers, design.geometry, any_order=True) for layers in _lowered()]
    except DesignTooSmallError:
        return None
    cycles = [
        sum(layer.rows * plan.tile.row_cycles for layer, plan in zip(workload.layers, planned, strict=True))
        for workload, planned in zip(dense(), plans, strict=True)
    ]
    return float(math.prod(cycles) ** (1 / len(cycles)))


def row(design: Design) -> list[object]:
    """The row of the table of a design, each workload timed by the simulator."""
    geometry = design.geometry
    needs = {name: need for name, need, _ in resource_rows(design)}
    times = []
    taken: list[DenseWorkload | Workload] = [*dense(), *models()]
    for workload in taken:
        bound = workload.bound(design)
        times.append(round(simulate(bound.words, expected_log(bound), machine(design)).milliseconds, 3))
    return [
        f"{geometry.gemm_d_rows} x {geometry.gemm_d_cols}",
        f"{geometry.gemm_l_rows} x {geometry.gemm_l_cols}",
        f"{geometry.wgt_d_words} + {geometry.wgt_l_words}",
        *(needs[name] for name in ("lut", "ff", "dsp", "bram36")),
        *times,
    ]
