# SPDX-License-Identifier: Apache-2.0
"""Which stage of a heterogeneous graph network each instruction works for: SGB, RST, FP, NA or SF.

The stages are those that accelerators of such networks are compared by (docs/report.md#stages): semantic graphs are
built, restructured, features projected, neighbours aggregated, and the results of relations or metapaths fused.
"""

import enum
from collections.abc import Mapping
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from hetfab.overlay.bind import BoundProgram
from hetfab.overlay.costs.program_cost import operation_fields, operation_rows
from hetfab.overlay.isa.attention import LOGIT_BITS
from hetfab.overlay.isa.spec import isa
from hetfab.overlay.program import EdgePattern, Edges, LayerInfo, Program, SymbolKind
from hetfab.overlay.stages import Role, Stage, stages

Array: TypeAlias = npt.NDArray[Any]


class ModelStage(enum.IntEnum):
    """A stage, in the order of the work."""

    #: Semantic graph building.
    SGB = 0
    #: Restructuring of graphs.
    RST = 1
    #: Feature projection: products of dense layers, and whatever belongs to no other stage.
    FP = 2
    #: Neighbour aggregation, with the scores that weigh it.
    NA = 3
    #: Semantic fusion: what joins the results of several relations or metapaths.
    SF = 4


#: Engines that finish what AGG has summed.
_FINISHING = ("vec", "store")


def instruction_stages(bound: BoundProgram, program: Program) -> Array:
    """The stage of each instruction, ``ModelStage`` as int64 [n].

    Args:
        bound: What runs: the program, or a part of it that has its layers' numbers and names of edge sets.
        program: The whole program.
    """
    found = np.full(len(bound.words), ModelStage.FP, np.int64)
    engines = {engine.name: engine.id for engine in isa().engines}
    own = bound.words[:, 0] & np.uint64(isa().header_field("engine").largest)
    if not program.images:
        dense, kinds = dense_stages(program), {each.name: edge_stage(each) for each in program.edges}
        found = np.array(dense, np.int64)[bound.layers]
        for number, layer in enumerate(program.layers):
            of_layer = bound.layers == number
            _set_aggregation(found, bound, layer, of_layer, own, kinds)
    for name, stage in (("sgb", ModelStage.SGB), ("rst", ModelStage.RST)):
        found[own == engines[name]] = stage
    return found


def _set_aggregation(
    found: Array, bound: BoundProgram, layer: LayerInfo, of_layer: Array, own: Array, kinds: Mapping[str, ModelStage]
) -> None:
    """Sets the stages of a layer's instructions on AGG, and on what finishes its sums."""
    sums = {kinds[name] for name in layer.aggregations}
    if not sums:
        return
    engines = {engine.name: engine.id for engine in isa().engines}
    on_agg = of_layer & (own == engines["agg"])
    found[on_agg] = max(sums)
    if len(sums) > 1:
        _set_by_context(found, bound, on_agg, kinds)
    # A dense term is loaded and multiplied for its own stage, and finished together with the sums.
    others = of_layer & (np.isin(own, [engines[name] for name in _FINISHING]) if layer.inputs else ~on_agg)
    found[others] = np.maximum(found[others], max(sums))


def _set_by_context(found: Array, bound: BoundProgram, on_agg: Array, kinds: Mapping[str, ModelStage]) -> None:
    """Of a layer that sums over edge sets of several stages: each instruction by the set that its context names."""
    configure = isa().operation("configure_destinations")
    rows = operation_rows(bound.words, configure)
    rows = rows[on_agg[rows]]
    fields = operation_fields(bound.words, configure, rows)
    places = {
        value: symbol.name
        for symbol, value in bound.values.items()
        if symbol.kind in (SymbolKind.DESTINATIONS, SymbolKind.RUNS)
    }
    configured = dict(zip(rows.tolist(), _slots(fields, fields["address"]), strict=True))
    uses: dict[int, int] = {}
    for operation in (isa().operation("reduce"), isa().operation("attend")):
        users = operation_rows(bound.words, operation)
        uses |= zip(users.tolist(), operation_fields(bound.words, operation, users)["slot"].tolist(), strict=True)
    of_slot: dict[int, ModelStage] = {}
    before: list[int] = []
    for index in np.flatnonzero(on_agg).tolist():
        before.append(index)
        if index in configured:
            slot, address = configured[index]
            of_slot[slot] = kinds[places[address]]
        elif index in uses:
            found[before] = of_slot[uses[index]]
            before.clear()


def _slots(fields: Mapping[str, Array], values: Array) -> list[tuple[int, int]]:
    return list(zip(fields["slot"].tolist(), values.tolist(), strict=True))


def edge_stage(edges: Edges) -> ModelStage:
    """The stage that a sum over an edge set belongs to."""
    if edges.features:
        return ModelStage.FP
    return ModelStage.NA if edges.pattern is EdgePattern.NONE else ModelStage.SF


def dense_stages(program: Program) -> list[ModelStage]:
    """The stage of each layer's work beside its sums over edges, for a program on a graph.

    A layer fuses if it computes rows of a stack whose parts are fused, or reads several parts of one side by side.
    Scores belong to what they weigh.
    """
    cut = stages(program)
    # Row types of stacks whose parts are fused.
    fused = {each.source_type for each in program.edges if each.pattern is not EdgePattern.NONE}
    sums = [max(map(edge_stage, stage.edges), default=ModelStage.FP) for stage in cut]
    found = []
    for layer, stage, summed in zip(program.layers, cut, sums, strict=True):
        if layer.node_type in fused or summed is ModelStage.SF or _reads_parts(program, stage):
            found.append(ModelStage.SF)
        elif program.tensor(layer.name).bits == LOGIT_BITS:
            readers = [of for of, each in zip(sums, cut, strict=True) if _reads(program, each, layer.name)]
            found.append(max(readers, default=ModelStage.FP))
        else:
            found.append(ModelStage.FP)
    return found


def _reads(program: Program, stage: Stage, name: str) -> bool:
    whole = program.tensor(name).whole or name
    return any((program.tensor(read.tensor).whole or read.tensor) == whole for read in stage.reads)


def _reads_parts(program: Program, stage: Stage) -> bool:
    """Whether a layer reads several parts of one stack, row by row."""
    wholes = [program.tensor(read.tensor).whole for read in stage.read_as(Role.ROWS)]
    return any(whole and wholes.count(whole) > 1 for whole in wholes)
