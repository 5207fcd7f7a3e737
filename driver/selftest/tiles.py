# SPDX-License-Identifier: Apache-2.0
"""Steps that vectors of the self-test share: tiles into the chip, products and sums, results out of it."""

from dataclasses import dataclass

import numpy as np

from hetfab.driver.selftest.draft import Bytes, Data, Draft
from hetfab.overlay.isa.codec import ReduceMode, Segment
from hetfab.overlay.isa.spec import isa
from hetfab.overlay.layouts import (
    destination_records,
    parameter_records,
    plane_words,
    weight_words,
)

BLOCK = isa().block_bytes
#: Beats of a block.
BEATS = BLOCK // isa().size("beat_bytes")
#: Words behind and before what is used, which flat data fill too.
MARGIN = 8
_EDGE_SOURCES = 21
_DEGREES = (3, 0, 5, 1, 2, 7, 0, 4, 2)


@dataclass(frozen=True)
class Accumulators:
    """Where a core, or AGG, has left sums, row by row.

    Attributes:
        core: 0 for GEMM-D, 1 for GEMM-L.
        from_sum: 1 for sums of AGG.
        word: First word.
        rows: Number of rows.
        groups: Groups of ``lanes`` channels of a row.
    """

    core: int
    from_sum: int
    word: int
    rows: int
    groups: int


def activations(draft: Draft, core: int, rows: int, blocks: int, *, packed: bool, word: int = 0) -> None:
    """Loads a tile of rows of whole blocks into a core's activation RAM, from rows that lie further apart."""
    stride = blocks + 1
    fields = {"ram_d": word, "ram_l": word, "to_d": int(not core), "to_l": core, "packed": int(packed)}
    content = activation_bytes(draft, (rows, stride * BLOCK), packed=packed)
    address = draft.put(Segment.FEATURES, content)
    draft.issue("load_activations", rows=rows, row_blocks=blocks, stride_blocks=stride, address=address, **fields)


def activation_bytes(draft: Draft, shape: tuple[int, int], *, packed: bool) -> Bytes:
    """Activations as bytes, or as nibbles."""
    match draft.data:
        case Data.FLAT:
            # Both nibbles of a byte are equal too.
            return np.full(shape, draft.random.choice([0x55, 0x66, 0x99, 0xBB]), np.uint8)
        case Data.TIES:
            return draft.random.integers(0, 3, shape, dtype=np.uint8) * np.uint8(17 if packed else 1)
    return draft.random.integers(0, 256, shape, dtype=np.uint8)


def weights(draft: Draft, groups: int, beats: int, *, packed: bool, word: int = 0) -> None:
    """Loads weights of GEMM-D for rows of so many beats."""
    columns, inputs = draft.geometry.gemm_d_cols, beats * (16 if packed else 8)
    largest = _largest_weight(draft, 7 if packed else 127)
    values = draft.random.integers(-largest, largest + 1, (inputs, groups * columns))
    if draft.data is Data.FLAT:
        values[...] = draft.random.choice([-5, 3, 6] if packed else [-77, 51, 102])
    content = weight_words(values, columns, inputs, packed=packed)
    _words(draft, "load_weights", "wgt_d_ram", content, word)


def planes(draft: Draft, groups: int, words: int, count: int, *, bipolar: bool, word: int = 0) -> None:
    """Loads planes of weights of GEMM-L for rows of so many words of 32 channels."""
    columns, inputs = draft.geometry.gemm_l_cols, 32 * words
    low, high = (0, 1) if bipolar else (-(1 << count - 1), 1 << count - 1)
    largest = _largest_weight(draft, high)
    values = draft.random.integers(max(low, -largest), min(high, largest + 1), (inputs, groups * columns))
    if bipolar:
        values = draft.random.choice([-1, 1], values.shape)
    if draft.data is Data.FLAT:
        values[...] = -1
    content = plane_words(values, columns, inputs, count, bipolar=bipolar)
    _words(draft, "load_planes", "wgt_l_ram", content, word)


def _largest_weight(draft: Draft, largest: int) -> int:
    return min(1, largest) if draft.data is Data.TIES else largest


def _words(draft: Draft, operation: str, memory: str, content: Bytes, word: int) -> None:
    """Copies words to a memory; flat ones with the same around them."""
    size = draft.geometry.word_bytes(memory)
    count, depth = len(content) // size, draft.geometry.depth(memory)
    if draft.data is Data.FLAT:
        first, end = max(0, word - MARGIN), min(depth, word + count + MARGIN)
        content, word, count = np.resize(content, (end - first) * size), first, end - first
    address = draft.put(Segment.CONSTANTS, content)
    draft.issue(operation, ram=word, words=count, address=address)


def parameters(draft: Draft, groups: int, word: int = 0) -> None:
    """Loads bias and multiplier of so many groups of channels."""
    channels = groups * draft.geometry.lanes
    bias, multiplier = draft.random.integers(-20_000, 20_000, channels), draft.random.integers(900, 2000, channels)
    match draft.data:
        case Data.FLAT:
            bias[...], multiplier[...] = 1234, 1357
        case Data.TIES:
            bias, multiplier = draft.random.integers(-2, 3, channels), draft.random.choice([1, 2, 3, 6], channels)
    _words(draft, "load_parameters", "par_ram", parameter_records(bias, multiplier, draft.geometry.lanes), word)


def bare_parameters(draft: Draft, groups: int) -> None:
    """Loads no bias, and the multiplier 1."""
    channels = groups * draft.geometry.lanes
    content = parameter_records(np.zeros(channels, np.int64), np.ones(channels, np.int64), draft.geometry.lanes)
    _words(draft, "load_parameters", "par_ram", content, 0)


def shift_of(draft: Draft, *, packed: bool = False, wide: bool = False) -> int:
    """A right shift after which results of products spread over their range, or lie between two integers.

    Args:
        draft: Whose data count.
        packed: For results of 4 bits.
        wide: For terms in Q.8.
    """
    return 2 if draft.data is Data.TIES else 24 if packed else 12 if wide else 20


def rows_within(draft: Draft, core: int, groups: int, act_words: int, most: int) -> int:
    """Rows of a tile that fit: three blocks of the array and one more row, where there is room."""
    geometry = draft.geometry
    array, depth, acc, columns = (
        (geometry.gemm_l_rows, geometry.act_l_words, geometry.acc_l_words, geometry.gemm_l_cols)
        if core
        else (geometry.gemm_d_rows, geometry.act_d_words, geometry.acc_d_words, geometry.gemm_d_cols)
    )
    exported = out_words(groups * columns // geometry.lanes * BEATS // 2)
    return min(3 * array + 1, (depth - MARGIN) // act_words * array, (acc - 4) // groups, most,
               (geometry.out_words - MARGIN) // exported)  # fmt: skip


def product(draft: Draft, core: int, *, rows: int = 9, groups: int = 2) -> Accumulators:
    """Products of a core in its plainest mode."""
    columns = draft.geometry.gemm_l_cols if core else draft.geometry.gemm_d_cols
    rows = rows_within(draft, core, groups, 8, rows)
    activations(draft, core, rows, 1, packed=False)
    if core:
        planes(draft, groups, 2, 4, bipolar=False)
        draft.issue(
            "matmul_planes", act=0, wgt=0, accumulate=0, unsigned=0, slices=2, bipolar=0, acc=0, rows=rows,
            row_words=2, planes=4, col_groups=groups,
        )  # fmt: skip
    else:
        weights(draft, groups, BEATS, packed=False)
        draft.issue(
            "matmul", act=0, wgt=0, accumulate=0, unsigned=0, packed=0, acc=0, rows=rows, row_beats=BEATS,
            col_groups=groups,
        )  # fmt: skip
    return Accumulators(core, 0, 0, rows, groups * columns // draft.geometry.lanes)


def sums(draft: Draft, *, rows: int = 9, groups: int = 2, mode: ReduceMode = ReduceMode.RAW) -> Accumulators:
    """Sums of AGG in its plainest mode."""
    groups, rows = min(groups, draft.geometry.agg_groups), min(rows, draft.geometry.sum_words // groups)
    relation(draft, rows, groups)
    draft.issue("reduce", **plain_reduce(rows, groups), mode=mode)
    return Accumulators(0, 1, 0, rows, groups)


def plain_reduce(rows: int, groups: int) -> dict[str, int]:
    """Fields of a reduce in its plainest form, but for its mode."""
    flags = dict.fromkeys(("unsigned", "accumulate", "source", "merge", "spill", "weighted", "from_fifo"), 0)
    return flags | {"slot": 0, "rows": rows, "groups": groups, "destination": 0, "sum": 0}


def degrees_of(rows: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """First edge of each destination, and their end."""
    return np.concatenate([[0], np.cumsum(np.resize(_DEGREES, rows))])


def relation(draft: Draft, rows: int, groups: int, *, slot: int = 0) -> None:
    """A context with edges from random sources."""
    indptr = degrees_of(rows)
    features(draft, groups, slot=slot)
    ids = draft.random.integers(0, _EDGE_SOURCES, int(indptr[-1])).astype("<u2")
    graph = draft.put(Segment.GRAPH, destination_records(indptr))
    draft.issue("configure_destinations", slot=slot, parts=0, count=rows, address=graph)
    draft.issue("configure_ids", slot=slot, edges=len(ids), id_bytes=2, address=draft.put(Segment.GRAPH, ids))


def features(draft: Draft, groups: int, *, slot: int = 0, first_block: int = 0, slot_bits: int = 0) -> int:
    """Rows of features of a context, further apart than they are long; returns how many."""
    blocks = -(-groups * draft.geometry.lanes // BLOCK) + 1
    content = activation_bytes(draft, (_EDGE_SOURCES, blocks * BLOCK), packed=False)
    draft.issue(
        "configure_features", slot=slot, row_blocks=blocks, first_block=first_block, slot_bits=slot_bits,
        count=_EDGE_SOURCES, address=draft.put(Segment.FEATURES, content),
    )  # fmt: skip
    return _EDGE_SOURCES


def out_words(row_words: int) -> int:
    """Words from a row in out_ram to the next one: whole blocks."""
    return -(-row_words // BEATS) * BEATS


def vector_fields(found: Accumulators, row_words: int, word: int = 0) -> dict[str, int]:
    """Fields that operations of VEC on accumulators share; rows begin with blocks of out_ram."""
    return {
        "core": found.core,
        "acc": found.word,
        "out": word,
        "par": 0,
        "rows": found.rows,
        "groups": found.groups,
        "row_blocks": out_words(row_words) // BEATS,
        "row_words": row_words,
    }


def export(draft: Draft, found: Accumulators, name: str = "accumulators") -> None:
    """Sums of 32 bits, to DRAM."""
    words = found.groups * draft.geometry.lanes // 2
    if found.from_sum:
        fields = vector_fields(found, words) | {"sum": found.word, "sum_groups": found.groups - 1, "acc": 0}
        draft.issue("export_sums", **fields, with_acc=0, shift=0)
    else:
        bare_parameters(draft, found.groups)
        draft.issue("export_accumulators", **vector_fields(found, words), from_sum=0)
    store(draft, name, found.rows, words, "<i4")


def store(draft: Draft, name: str, rows: int, row_words: int, dtype: str, word: int = 0) -> None:
    """Rows of out_ram to a tensor in DRAM whose rows lie further apart."""
    stride = out_words(row_words) // BEATS + 1
    columns = row_words * draft.geometry.lanes // np.dtype(dtype).itemsize
    address = draft.room(name, Segment.OUTPUT, (rows, columns), dtype, stride * BLOCK)
    draft.issue("store_rows", ram=word, rows=rows, row_beats=row_words, stride_blocks=stride, address=address)
