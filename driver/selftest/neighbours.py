# SPDX-License-Identifier: Apache-2.0
"""Vectors of AGG: sums over edges in all their ways, and attention."""

import numpy as np

from hetfab.driver.selftest.draft import Bytes, Draft
from hetfab.driver.selftest.graphs import configure_composition, random_graph
from hetfab.driver.selftest.tiles import (
    BLOCK,
    Accumulators,
    degrees_of,
    export,
    features,
    plain_reduce,
)
from hetfab.overlay.isa.codec import AttendKind, ReduceSource, Segment
from hetfab.overlay.layouts import destination_records, marked_ids, score_rows
from hetfab.overlay.schedules import pinned, schedule_arrays
from hetfab.overlay.semantic.adjacency import compose

_ROWS = 9
#: Where the scratchpad's rows begin, and the slots of its tags.
_FIRST_BLOCK, _SLOT_BITS = 1, 2
_SPILL_TYPE = "<i4"


def reduce(draft: Draft) -> None:
    """Sums of a relation in the way that the mode asks for."""
    if draft.flag("from_fifo"):
        reduce_fifo(draft)
        return
    groups = min(2, draft.geometry.agg_groups)
    source, weighted = draft.flag("source"), draft.flag("weighted")
    wide = bool(weighted or draft.flag("wide_ids"))
    count = features(draft, groups, slot=_slot(draft), first_block=_FIRST_BLOCK, slot_bits=_SLOT_BITS)
    indptr = degrees_of(_ROWS)
    ids = draft.random.integers(0, count, int(indptr[-1]))
    records, entries = destination_records(indptr), ids.astype("<u4" if wide else "<u2").view(np.uint8)
    if source == ReduceSource.SCHEDULE:
        records, entries = schedule_arrays(pinned(indptr, ids, 4), records, 1 << 16)
    elif weighted:
        entries = marked_ids(ids, draft.random.integers(-128, 128, len(ids)))
    unit = 4 if wide and source != ReduceSource.SCHEDULE else 2
    _configure_edges(draft, records, entries, unit, _ROWS)
    _sum_twice(draft, groups, {"source": source, "weighted": weighted})


def _slot(draft: Draft) -> int:
    """The last context, so that all bits of its number count."""
    return draft.geometry.agg_contexts - 1


def _configure_edges(draft: Draft, records: Bytes, entries: Bytes, unit: int, rows: int) -> None:
    slot = _slot(draft)
    address = draft.put(Segment.GRAPH, records)
    draft.issue("configure_destinations", slot=slot, parts=0, count=rows, address=address)
    address = draft.put(Segment.GRAPH, entries)
    draft.issue("configure_ids", slot=slot, edges=len(entries) // unit, id_bytes=unit, address=address)


def _sum_twice(draft: Draft, groups: int, ways: dict[str, int]) -> None:
    """Sums that begin with spilled ones, that are spilled, or that are added to those of a first instruction."""
    slot, length = _slot(draft), groups * draft.geometry.lanes
    blocks = -(-4 * length // BLOCK) + 1
    spilled = draft.room("spilled sums", Segment.SPILL, (_ROWS, length), _SPILL_TYPE, blocks * BLOCK)
    draft.issue("configure_spilled", slot=slot, row_blocks=blocks, count=_ROWS, address=spilled)
    flags = {name: draft.flag(name) for name in ("unsigned", "mode", "merge", "spill")}
    fields = plain_reduce(_ROWS, groups) | ways | flags | {"slot": slot}
    if draft.flag("accumulate"):
        draft.issue("reduce", **fields)
    draft.issue("reduce", **(fields | {"accumulate": draft.flag("accumulate")}))
    if not draft.flag("spill"):
        export(draft, Accumulators(0, 1, 0, _ROWS, groups), "sums")


def reduce_fifo(draft: Draft) -> None:
    """Sums over rows that SGB sends."""
    groups = min(2, draft.geometry.agg_groups)
    slot = _slot(draft)
    count = features(draft, groups, slot=slot)
    left, right = random_graph(draft, _ROWS, 6), random_graph(draft, 6, count)
    if compose(left, right, 0).edges == 0:
        raise ValueError("a composition without edges tests nothing")
    configure_composition(draft, left, right, threshold=8)
    draft.issue("compose", to_fifo=1, edges=0, rows=_ROWS, address=draft.put(Segment.GRAPH, draft.noise(BLOCK)))
    draft.issue("reduce", **(plain_reduce(_ROWS, groups) | {"slot": slot, "mode": 1, "from_fifo": 1}))
    export(draft, Accumulators(0, 1, 0, _ROWS, groups), "means")


def configure_features(draft: Draft) -> None:
    """The context that an instruction names, and not the one configured last."""
    _of_two_contexts(draft, "configure_features", row_blocks=1, first_block=0, slot_bits=0, count=1)


def configure_destinations(draft: Draft) -> None:
    """Likewise."""
    _of_two_contexts(draft, "configure_destinations", parts=0, count=1)


def configure_ids(draft: Draft) -> None:
    """Likewise."""
    _of_two_contexts(draft, "configure_ids", edges=1, id_bytes=4)


def configure_spilled(draft: Draft) -> None:
    """Likewise."""
    _of_two_contexts(draft, "configure_spilled", row_blocks=1, count=1)


def _of_two_contexts(draft: Draft, operation: str, **other: int) -> None:
    """A sum that is spilled, after the same array of context 0 is configured to be another one."""
    groups, slot = min(2, draft.geometry.agg_groups), _slot(draft)
    length = groups * draft.geometry.lanes
    count = features(draft, groups, slot=slot)
    indptr = degrees_of(_ROWS)
    ids = draft.random.integers(0, count, int(indptr[-1])).astype("<u2")
    _configure_edges(draft, destination_records(indptr), ids.view(np.uint8), 2, _ROWS)
    blocks = -(-4 * length // BLOCK)
    spilled = draft.room("spilled sums", Segment.SPILL, (_ROWS, length), _SPILL_TYPE, blocks * BLOCK)
    draft.issue("configure_spilled", slot=slot, row_blocks=blocks, count=_ROWS, address=spilled)
    if slot:
        draft.issue(operation, slot=0, address=draft.put(Segment.GRAPH, draft.noise(BLOCK)), **other)
    draft.issue("reduce", **(plain_reduce(_ROWS, groups) | {"slot": slot, "spill": 1, "mode": 0}))


def configure_sources(draft: Draft) -> None:
    """Scores of sources of several heads."""
    attend(draft)


def configure_targets(draft: Draft) -> None:
    """Scores of destinations of several heads."""
    attend(draft)


def configure_types(draft: Draft) -> None:
    """Scores of types of edges."""
    attend(draft, kind=AttendKind.TYPED)


def attend(draft: Draft, kind: int | None = None) -> None:
    """Attention over a relation, in one pass or in two that meet in spilled partials."""
    geometry, random = draft.geometry, draft.random
    kind = draft.flag("kind") if kind is None else kind
    heads = min(4, geometry.agg_heads)
    head_groups = max(1, min(2, geometry.agg_groups // heads, geometry.sum_words // (_ROWS * heads)))
    slot, scores = 0, min(1, geometry.agg_contexts - 1)
    groups = heads * head_groups
    count = features(draft, groups, slot=slot, first_block=_FIRST_BLOCK, slot_bits=_SLOT_BITS)
    indptr = degrees_of(_ROWS)
    ids = random.integers(0, count, int(indptr[-1]))
    types = random.integers(0, 3, len(ids))
    entries = marked_ids(ids, types) if kind == AttendKind.TYPED else ids.astype("<u2").view(np.uint8)
    draft.issue(
        "configure_destinations",
        slot=slot,
        parts=0,
        count=_ROWS,
        address=draft.put(Segment.GRAPH, destination_records(indptr)),
    )
    unit = 4 if kind == AttendKind.TYPED else 2
    draft.issue("configure_ids", slot=slot, edges=len(ids), id_bytes=unit, address=draft.put(Segment.GRAPH, entries))
    _configure_scores(draft, kind, heads, count, scores)
    blocks = -(-(16 + 72 * groups) // BLOCK)
    spilled = draft.room("partials", Segment.SPILL, (_ROWS, blocks * BLOCK // 8), "<i8", stride=blocks * BLOCK)
    draft.issue("configure_spilled", slot=slot, row_blocks=blocks, count=_ROWS, address=spilled)
    fields = {
        "slot": slot, "scores": scores, "rows": _ROWS, "kind": kind, "unsigned": draft.flag("unsigned"),
        "source": draft.flag("source"), "head_groups": head_groups, "destination": 0, "sum": 0, "heads": heads,
        "shift": 6, "factor": 300 if kind == AttendKind.DOT else 819,
    }  # fmt: skip
    whole = {"maxima": 1, "weigh": 1, "merge": 0, "spill": 0, "accumulate": 0}
    asked = {name: draft.flag(name, value) for name, value in whole.items()}
    if asked["merge"] or asked["spill"] or not (asked["maxima"] and asked["weigh"]):
        _attend_in_passes(draft, fields, asked)
    else:
        for accumulate in [0, 1] if asked["accumulate"] else [0]:
            draft.issue("attend", **fields, **(whole | {"accumulate": accumulate}))
    export(draft, Accumulators(0, 1, 0, _ROWS, groups), "weighted means")


def _attend_in_passes(draft: Draft, fields: dict[str, int], asked: dict[str, int]) -> None:
    """Largest logits, then weighted sums that are spilled, then the same edges once more on top of them."""
    begin = {"maxima": 1, "weigh": 0, "merge": 0, "spill": 1, "accumulate": 0}
    draft.issue("attend", **fields, **begin)
    if asked["merge"] and asked["maxima"]:
        draft.issue("attend", **fields, **(begin | {"merge": 1}))
    second = {"maxima": 0, "weigh": 1, "merge": 0, "accumulate": 0}
    if asked["merge"]:
        draft.issue("attend", **fields, **second, spill=1)
    draft.issue("attend", **fields, **(second | {"merge": asked["merge"]}), spill=0)


def _configure_scores(draft: Draft, kind: int, heads: int, count: int, context: int) -> None:
    random, beats, kinds = draft.random, -(-heads // 4), 3
    if kind == AttendKind.DOT:
        beats = heads
        content = [draft.noise(rows * 8 * heads) for rows in (count, _ROWS)]
    else:
        content = [score_rows(random.integers(-300, 300, (rows, heads))) for rows in (count, _ROWS)]
    draft.issue(
        "configure_sources", scores=context, row_beats=beats, head_beats=beats // heads, count=count,
        address=draft.put(Segment.ACTIVATIONS, content[0]),
    )  # fmt: skip
    draft.issue(
        "configure_targets", scores=context, row_beats=beats, count=_ROWS,
        address=draft.put(Segment.ACTIVATIONS, content[1]),
    )  # fmt: skip
    types = score_rows(random.integers(-300, 300, (kinds, heads)))
    draft.issue("configure_types", scores=context, count=kinds, address=draft.put(Segment.ACTIVATIONS, types))


MAKERS = (
    configure_features,
    configure_destinations,
    configure_ids,
    configure_spilled,
    reduce,
    configure_sources,
    configure_targets,
    configure_types,
    attend,
)
