# SPDX-License-Identifier: Apache-2.0
"""What a dense layer that reads features takes on a graph: compiled alone, bound and timed by the cost functions."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from hetfab.overlay.bind import GraphArrays, bind
from hetfab.overlay.compiler.compile import compile_lowered
from hetfab.overlay.compiler.graph_facts import FeatureCounts, GraphFacts
from hetfab.overlay.compiler.lowered import DenseTerm, LoweredLayer, LoweredModel, Stored
from hetfab.overlay.compiler.operands import GEMM_D, GEMM_L
from hetfab.overlay.costs.program_cost import additions, expected_log
from hetfab.overlay.design import Design
from hetfab.overlay.features import Features
from hetfab.overlay.isa.spec import isa
from hetfab.overlay.timeline.machine import machine
from hetfab.overlay.timeline.simulate import simulate


@dataclass(frozen=True)
class Work:
    """What one form of a layer takes on a graph.

    Attributes:
        macs: Products of the matrix engines, padding included.
        additions: Of weights that AGG gathers, padding included.
        bytes: DRAM bytes.
        milliseconds: Modelled time of the layer alone.
        agg_milliseconds: Of AGG's loops, modelled.
        core_milliseconds: Of the busier matrix engine's, modelled.
    """

    macs: int
    additions: int
    bytes: int
    milliseconds: float
    agg_milliseconds: float
    core_milliseconds: float


@dataclass(frozen=True, eq=False)
class _SyntheticRows:
    """Sparse features that take as much work as those of which only numbers are known."""

    indptr: np.ndarray[tuple[int], np.dtype[np.int64]]
    indices: np.ndarray[tuple[int], np.dtype[np.int64]]
    data: np.ndarray[tuple[int], np.dtype[np.float32]]
    width: int


def alone(layer: LoweredLayer, dense: DenseTerm, lowered: LoweredModel) -> LoweredModel:
    """A model of one layer that reads features only."""
    stored = {tensor.name: tensor for tensor in (dense.input, layer.output)}
    types: Mapping[str, str] = {name: lowered.node_types[name] for name in stored}
    return LoweredModel((layer,), stored, types, {}, layer.output, 0)


def work_of(model: LoweredModel, design: Design, facts: GraphFacts, share_on_d: float | None) -> Work:
    """What a model as ``alone`` makes it takes.

    Args:
        model: Of one layer.
        design: What it is compiled for.
        facts: What is known of the graph.
        share_on_d: As for ``compile_lowered``.

    Raises:
        InputError: As ``compile_lowered`` and ``bind``.
    """
    program = compile_lowered(model, design, share_on_d=share_on_d)
    features = next(tensor for tensor in model.stored.values() if tensor.origin == "features")
    node_type = model.node_types[features.name]
    found = facts.features.get(node_type)
    given = _synthetic(found, facts.counts[node_type], features) if isinstance(found, FeatureCounts) else found
    bound = bind(program, GraphArrays(facts.counts, {} if given is None else {features.name: given}, {}))
    log = expected_log(bound)
    cycles = {engine.name: int(log["cycles"][log["engine"] == engine.id].sum()) for engine in isa().engines}
    in_a_millisecond = 1e3 * design.clock_mhz
    return Work(
        macs=int(log["macs"].sum()),
        additions=additions(bound.words, log, design.geometry),
        bytes=int(log["read_bytes"].sum() + log["write_bytes"].sum()),
        milliseconds=simulate(bound.words, log, machine(design)).milliseconds,
        agg_milliseconds=cycles["agg"] / in_a_millisecond,
        core_milliseconds=max(cycles[GEMM_D], cycles[GEMM_L]) / in_a_millisecond,
    )


def _synthetic(known: FeatureCounts, rows: int, features: Stored) -> Features:
    """Features of as many non-zeros, spread evenly; of several magnitudes, one entry for each step of their sum."""
    entries = known.nonzeros if known.uniform else max(known.nonzeros, round(known.total / features.scale))
    value = max(known.total / max(known.nonzeros, 1), features.scale) if known.uniform else features.scale
    indptr = np.arange(rows + 1, dtype=np.int64) * entries // max(rows, 1)
    indices = np.arange(entries, dtype=np.int64) % max(known.width, 1)
    return _SyntheticRows(indptr, indices, np.full(entries, value, np.float32), known.width)
