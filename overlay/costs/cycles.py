# SPDX-License-Identifier: Apache-2.0
"""Cost functions: what each instruction takes, as the emulator counts it, without running anything.

Each function is pure: fields of instructions and constants of the design in, counts out. All take numpy arrays with
one entry per instruction. Cycles are modelled: trips of pipelined loops by the table of ``loops.py``.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from hetfab.overlay.costs.bursts import (
    BEAT_BYTES,
    BURSTS_AHEAD,
    aligned_bursts,
    row_bursts,
    rows_ahead,
    run_bursts,
)
from hetfab.overlay.dense_stages import DSP_CHANNELS, LUT_CHANNELS, ROW_PAIR, SLICE_BITS, Stage
from hetfab.overlay.design import Geometry
from hetfab.overlay.isa.codec import ReduceSource
from hetfab.overlay.isa.loops import Loop, loops
from hetfab.overlay.isa.spec import isa

Array: TypeAlias = npt.NDArray[Any]
Fields: TypeAlias = Mapping[str, Array]

_BLOCK_BYTES = isa().block_bytes
_TAPS = isa().size("window_taps")
_RECORD_BEATS = isa().record("destination").bytes // BEAT_BYTES
_RUN_BEATS = isa().record("run").bytes // BEAT_BYTES
_CONTEXT_WORDS = isa().size("context_words")
#: Units of ids or of a schedule in a beat, beats of a group's sums, words of the scratchpad that have a tag.
_BEAT_UNITS = BEAT_BYTES // 2
SUM_BEATS = 4
WORDS_PER_TAG = 8
_BLOCK_BEATS = _BLOCK_BYTES // BEAT_BYTES


@dataclass(frozen=True, eq=False)
class Cost:
    """Counts of instructions, int64 [n] each; ports 0 (data) and 1 (AGG's graph port) for reads.

    Attributes:
        cycles: Modelled cycles that the engine is busy, DRAM never late.
        read_bytes: [n, 2].
        read_bursts: [n, 2].
        write_bytes: [n].
        write_bursts: [n].
        macs: Multiply-accumulates, padding included.
        edges: Edges aggregated over.
        misses: Rows of features that AGG reads from DRAM.
    """

    cycles: Array
    read_bytes: Array
    read_bursts: Array
    write_bytes: Array
    write_bursts: Array
    macs: Array
    edges: Array
    misses: Array


def _cost(cycles: Array, **counts: Array) -> Cost:
    """A cost whose missing counts are zero; every instruction pays its decoding."""
    size = len(cycles)
    zeros = {name: np.zeros(size, np.int64) for name in ("write_bytes", "write_bursts", "macs", "edges", "misses")}
    pairs = {name: np.zeros((size, 2), np.int64) for name in ("read_bytes", "read_bursts")}
    for name in pairs:
        if name in counts and counts[name].ndim == 1:
            pairs[name][:, 0] = counts.pop(name)
    return Cost(**{"cycles": cycles + loops()["instruction"].cycles(1), **zeros, **pairs, **counts})


def sync_cost(fields: Fields) -> Cost:
    """Cost of ``sync`` and of ``configure_*``: decoding alone."""
    return _cost(np.zeros(len(fields["engine"]), np.int64))


def load_tile_cost(fields: Fields) -> Cost:
    """Cost of LOAD's copy of an activation tile.

    Args:
        fields: rows, row_blocks, stride_blocks and address (its place in a block of 128 bytes matters).
    """
    blocks = fields["rows"] * fields["row_blocks"]
    row_beats = fields["row_blocks"] * _BLOCK_BEATS
    bursts = row_bursts(fields["address"], fields["rows"], row_beats, fields["stride_blocks"])
    table = loops()
    cycles = table["request_ahead"].cycles(np.minimum(bursts, BURSTS_AHEAD))
    cycles = cycles + table["load_tile_beats"].cycles(blocks * _BLOCK_BEATS)
    return _cost(cycles, read_bytes=blocks * _BLOCK_BYTES, read_bursts=bursts)


def load_words_cost(fields: Fields, word_bytes: int) -> Cost:
    """Cost of LOAD's copies of consecutive words.

    Args:
        fields: words and address.
        word_bytes: Of the memory that is filled.
    """
    beats = fields["words"] * word_bytes // BEAT_BYTES
    bursts = aligned_bursts(fields["address"] // BEAT_BYTES, beats)
    table = loops()
    cycles = table["request_ahead"].cycles(np.minimum(bursts, BURSTS_AHEAD)) + table["load_beats"].cycles(beats)
    return _cost(cycles, read_bytes=beats * BEAT_BYTES, read_bursts=bursts)


def load_lines_cost(fields: Fields) -> Cost:
    """Cost of LOAD's broadcast of lines: a beat of a line a cycle, zeros too.

    Args:
        fields: lines, beats, banks, address, and ``lines.*`` of the context.
    """
    lines = (fields["banks"] - 1) * fields["lines.line_stride"] + fields["lines.kernel_lines"]
    trips = lines * fields["lines.line_beats"]
    return _line_cost(fields, fields["lines.stride_blocks"], trips)


def load_windows_cost(fields: Fields) -> Cost:
    """Cost of LOAD's cutting of windows: while those of a line leave, the next line is read.

    Args:
        fields: lines, beats, columns, address, and ``windows.*`` of the context.
    """
    emitted = (fields["columns"] + 1) * fields["windows.run_beats"]
    trips = fields["beats"] + (fields["lines"] - 1) * np.maximum(emitted, fields["beats"]) + emitted
    return _line_cost(fields, fields["windows.stride_blocks"], trips)


def _line_cost(fields: Fields, stride_blocks: Array, trips: Array) -> Cost:
    bursts = row_bursts(fields["address"], fields["lines"], fields["beats"], stride_blocks)
    table = loops()
    cycles = table["request_ahead"].cycles(np.minimum(bursts, BURSTS_AHEAD)) + table["load_tile_beats"].cycles(trips)
    return _cost(cycles, read_bytes=fields["lines"] * fields["beats"] * BEAT_BYTES, read_bursts=bursts)


def load_residual_cost(fields: Fields) -> Cost:
    """Cost of LOAD's copy of runs to ``res_ram``.

    Args:
        fields: rows, columns, run_stride, run_beats, stride_blocks and address.
    """
    columns = fields["columns"] + 1
    beats = fields["rows"] * columns * fields["run_beats"]
    bursts = run_bursts(fields["address"], fields["rows"], fields["stride_blocks"], columns, fields)
    table = loops()
    cycles = table["request_ahead"].cycles(np.minimum(bursts, BURSTS_AHEAD)) + table["load_beats"].cycles(beats)
    return _cost(cycles, read_bytes=beats * BEAT_BYTES, read_bursts=bursts)


def store_runs_cost(fields: Fields) -> Cost:
    """Cost of STORE's copies of strips and of lines.

    Args:
        fields: banks or lines, columns, row_beats, joined, pixel_stride, stride_blocks and address.
    """
    joined, columns = fields["joined"] > 0, fields["columns"] + 1
    rows = fields["banks"] if "banks" in fields else fields["lines"]
    beats = rows * columns * fields["row_beats"]
    runs = {
        "run_stride": fields["pixel_stride"],
        "run_beats": np.where(joined, fields["pixel_stride"], fields["row_beats"]),
    }
    columns = np.where(joined, 1, columns)
    bursts = run_bursts(fields["address"], rows, fields["stride_blocks"], columns, runs)
    table = loops()
    cycles = table["store_beats"].cycles(beats) + table["store_responses"].cycles(np.minimum(bursts, BURSTS_AHEAD))
    return _cost(cycles, write_bytes=beats * BEAT_BYTES, write_bursts=bursts)


def store_cost(fields: Fields) -> Cost:
    """Cost of STORE's copies.

    Args:
        fields: rows, row_beats, stride_blocks and address.
    """
    beats = fields["rows"] * fields["row_beats"]
    bursts = row_bursts(fields["address"], fields["rows"], fields["row_beats"], fields["stride_blocks"])
    table = loops()
    cycles = table["store_beats"].cycles(beats) + table["store_responses"].cycles(np.minimum(bursts, BURSTS_AHEAD))
    return _cost(cycles, write_bytes=beats * BEAT_BYTES, write_bursts=bursts)


def matmul_cost(fields: Fields, geometry: Geometry) -> Cost:
    """Cost of GEMM-D: two steps for each beat of a row, block after block without a pause.

    Args:
        fields: rows, row_beats, col_groups, accumulate and packed.
        geometry: Gives the array's shape.
    """
    rows, groups, beats = fields["rows"], fields["col_groups"], fields["row_beats"]
    trips = _block_trips(-(-rows // geometry.gemm_d_rows) * groups, 2 * beats, geometry.gemm_d_rows, fields)
    return _matmul(trips, rows * groups * beats * (1 + fields["packed"]), geometry)


def stage_cost(fields: Fields, geometry: Geometry, stages: Sequence[Stage]) -> Cost:
    """Cost of a matmul whose weights are fixed: rows at the pace of the slowest of reading, multiplying and writing.

    Args:
        fields: rows, row_beats, col_groups, accumulate and wgt, which names the stage.
        geometry: Gives the words of the accumulators.
        stages: The design's.
    """
    rows, groups, beats = fields["rows"], fields["col_groups"], fields["row_beats"]
    multiplied = np.array([stage.multiply_cycles for stage in stages])[fields["wgt"] - geometry.wgt_d_words]
    written = ROW_PAIR * groups * (1 + fields["accumulate"])
    interval = np.maximum(np.maximum(beats, written), multiplied)
    pairs = -(-rows // ROW_PAIR)
    trips = np.where(rows > 0, (pairs + 2) * interval, 0)
    return _cost(loops()["stage_rows"].cycles(trips), macs=8 * rows * groups * beats * geometry.gemm_d_cols)


def matmul_lines_cost(fields: Fields, geometry: Geometry) -> Cost:
    """Cost of GEMM-D on strips: a block for each output pixel of a strip and group of columns.

    Args:
        fields: banks, columns, lines, run, col_groups, accumulate and packed.
        geometry: Gives the array's shape.
    """
    beats, blocks = fields["lines"] * fields["run"], (fields["columns"] + 1) * fields["col_groups"]
    trips = _block_trips(blocks, 2 * beats, fields["banks"], fields)
    return _matmul(trips, blocks * fields["banks"] * beats * (1 + fields["packed"]), geometry)


def _matmul(trips: Array, beats: Array, geometry: Geometry) -> Cost:
    return _cost(loops()["gemm_d_steps"].cycles(trips), macs=8 * beats * geometry.gemm_d_cols)


def matmul_planes_cost(fields: Fields, geometry: Geometry) -> Cost:
    """Cost of GEMM-L: a step for each slice, word of 32 channels and plane, block after block without a pause.

    Args:
        fields: rows, row_words, slices, planes, col_groups and accumulate.
        geometry: Gives the array's shape.
    """
    rows, groups, words = fields["rows"], fields["col_groups"], fields["row_words"]
    steps = fields["slices"] * words * fields["planes"]
    trips = _block_trips(-(-rows // geometry.gemm_l_rows) * groups, steps, geometry.gemm_l_rows, fields)
    return _cost(loops()["gemm_l_steps"].cycles(trips), macs=rows * 32 * words * groups * geometry.gemm_l_cols)


def matmul_planes_lines_cost(fields: Fields, geometry: Geometry) -> Cost:
    """Cost of GEMM-L on strips.

    Args:
        fields: banks, columns, lines, run, slices, planes, col_groups and accumulate.
        geometry: Gives the array's shape.
    """
    words, blocks = fields["lines"] * fields["run"], (fields["columns"] + 1) * fields["col_groups"]
    trips = _block_trips(blocks, fields["slices"] * words * fields["planes"], fields["banks"], fields)
    macs = blocks * fields["banks"] * 32 * words * geometry.gemm_l_cols
    return _cost(loops()["gemm_l_steps"].cycles(trips), macs=macs)


def _block_trips(blocks: Array, steps: Array, block_rows: Array | int, fields: Fields) -> Array:
    """Trips of a core: a block takes its steps, or the drain of the one before it if that takes longer."""
    drain = block_rows * (1 + fields["accumulate"])
    return np.where(blocks > 0, blocks * np.maximum(steps, drain) + drain, 0)


def products_per_cycle(geometry: Geometry, weight_bits: int, activation_bits: int) -> int:
    """Products that the arrays of both cores make in a cycle while they never wait."""
    slices = -(-activation_bits // SLICE_BITS)
    packed = max(weight_bits, activation_bits) <= SLICE_BITS
    on_d = DSP_CHANNELS * (1 + packed) * geometry.gemm_d_rows * geometry.gemm_d_cols
    on_l = LUT_CHANNELS * geometry.gemm_l_rows * geometry.gemm_l_cols // (slices * weight_bits)
    return sum(products for core, products in (("gemm_d", on_d), ("gemm_l", on_l)) if core in geometry.engines)


def vector_cost(fields: Fields, geometry: Geometry) -> Cost:
    """Cost of VEC's operations: one trip per output word, two when it holds two groups.

    Args:
        fields: rows, row_words and, where the operation has them, packed, wide and mapped.
        geometry: Says whether there are functions or normalization, whose pipeline is longer.
    """
    cycles = _vec_loop(geometry).cycles(fields["rows"] * fields["row_words"] * _halves(fields))
    # Rows are pixels where a residual is added, or where they go to exp_ram.
    pixels = np.ones_like(cycles) if "wide" in fields else fields.get("to_exp", np.zeros_like(cycles))
    return _cost(cycles + pixels * loops()["vec_context"].cycles(1))


def loops_of(geometry: Geometry) -> dict[str, Loop]:
    """The table of loops, of the two entries that stand for one loop of VEC the geometry's own."""
    absent = "vec_groups" if geometry.fun_words or geometry.norm_words else "vec_functions"
    return {name: loop for name, loop in loops().items() if name != absent}


def _vec_loop(geometry: Geometry) -> Loop:
    own = loops_of(geometry)
    return own.get("vec_functions") or own["vec_groups"]


def _halves(fields: Fields) -> Array:
    """Trips that an output word of VEC takes: two where it holds two groups, or entries of a table."""
    return np.asarray(1 + fields.get("packed", 0) * (1 - fields.get("wide", 0)) + fields.get("mapped", 0))


def normalize_cost(fields: Fields, geometry: Geometry) -> Cost:
    """Cost of VEC's normalization: two trips per group, one per row, and one per output word.

    Args:
        fields: rows, groups and row_words.
        geometry: As for ``vector_cost``.
    """
    rows, table = fields["rows"], loops()
    groups = rows * fields["groups"]
    cycles = _vec_loop(geometry).cycles(groups) + table["norm_sums"].cycles(groups)
    return _cost(cycles + table["norm_roots"].cycles(rows) + table["norm_groups"].cycles(rows * fields["row_words"]))


def pool_cost(fields: Fields, geometry: Geometry) -> Cost:
    """Cost of VEC's pooling: one trip per tap of each word, or half word of packed averages.

    Args:
        fields: rows, row_words, where the operation has them packed and wide, and from the context
            ``pool.lines`` and ``pool.columns``.
        geometry: As for ``vector_cost``.
    """
    taps = fields["pool.lines"] * fields["pool.columns"]
    trips = fields["rows"] * fields["row_words"] * _halves(fields) * taps
    return _cost(_vec_loop(geometry).cycles(trips) + loops()["vec_context"].cycles(2))


def depthwise_cost(fields: Fields, geometry: Geometry) -> Cost:
    """Cost of DW: for each word of channels its weights and parameters, and a trip per word of each window's line.

    Args:
        fields: lines, columns, left, right, groups, stride and packed.
        geometry: Not used: DW is the same in all designs.
    """
    packed, width = fields["packed"], fields["left"] + fields["columns"] + fields["right"]
    words = np.where(fields["lines"] > 0, fields["groups"] // (1 + packed), 0)
    # The groups of the last window leave behind it.
    steps = fields["lines"] * width * _TAPS * (2 - packed) + 1 + packed
    pixels = fields["lines"] * ((width - _TAPS) // (fields["stride"] + 1) + 1)
    table = loops()
    cycles = words * (table["dw_parameters"].cycles(_TAPS * _TAPS + 8 * (1 + packed)) + table["dw_steps"].cycles(steps))
    return _cost(cycles, macs=pixels * 8 * fields["groups"] * _TAPS * _TAPS)


@dataclass(frozen=True, eq=False)
class Gather:
    """What a ``reduce`` meets in the graph, one entry per instruction.

    Attributes:
        edges: Edges into its destinations.
        empty: Runs without edges.
        records: Records of its destinations.
        held: Edges whose rows come from the scratchpad in whole words.
        first_unit: Index of its first unit of 16 bits among the ids or the units of a schedule.
        units: Units of its edges.
        misses: Rows that are read from DRAM.
        feature_bursts: Bursts of these rows.
        merged_bursts: Bursts of spilled sums that are read.
        spilled_bursts: Bursts of sums that are spilled.
    """

    edges: Array
    empty: Array
    records: Array
    held: Array
    first_unit: Array
    units: Array
    misses: Array
    feature_bursts: Array
    merged_bursts: Array
    spilled_bursts: Array


def configure_features_cost(fields: Fields, geometry: Geometry) -> Cost:
    """Cost of ``configure_features``, which clears tags.

    Args:
        fields: first_block and slot_bits.
        geometry: Gives the number of tags.
    """
    end = np.minimum(fields["first_block"] + (1 << fields["slot_bits"]), geometry.feature_words // WORDS_PER_TAG)
    return _cost(loops()["agg_tags"].cycles(np.maximum(end - fields["first_block"], 0)))


def held_trips(groups: Array | int, word_beats: int, tagged: Array | bool) -> Array:
    """Trips of a row that comes from the scratchpad, as ``held_trips`` of ``agg_tile.hpp``."""
    return np.maximum(-(-groups // word_beats), np.where(tagged, 2, 1))


def reduce_cost(fields: Fields, gather: Gather, geometry: Geometry) -> Cost:
    """Cost of AGG's ``reduce``.

    Args:
        fields: rows, groups, accumulate, source, merge, spill, destination, and from the context
            ``destinations.address``, ``destinations.parts`` and ``ids.address``.
        gather: What the graph adds.
        geometry: Gives the scratchpad's words.
    """
    table = loops()
    rows, groups = fields["rows"], fields["groups"]
    active = (rows > 0) & (groups > 0)
    size = np.where(fields["source"] == ReduceSource.SCHEDULE, _RUN_BEATS, _RECORD_BEATS)
    record_beats = np.where(active, size * gather.records, 0)
    record_bursts = aligned_bursts(
        fields["destinations.address"] // BEAT_BYTES
        + size * (1 + fields["destinations.parts"]) * fields["destination"],
        record_beats,
    )
    skipped = gather.first_unit % _BEAT_UNITS
    entry_beats = np.where(gather.units > 0, (skipped + gather.units + _BEAT_UNITS - 1) // _BEAT_UNITS, 0)
    entry_bursts = aligned_bursts(fields["ids.address"] // BEAT_BYTES + gather.first_unit // _BEAT_UNITS, entry_beats)
    tagged = fields["source"] == ReduceSource.TAGS
    held = np.where((fields["accumulate"] > 0) & (fields["spill"] == 0), rows * groups, 0)
    sum_beats = SUM_BEATS * groups
    merged, spilled = (np.where(active & (fields[name] > 0), rows, 0) for name in ("merge", "spill"))
    cycles = table["agg_context"].cycles(_CONTEXT_WORDS) + np.where(
        active,
        table["request_ahead"].cycles(np.minimum(record_bursts, BURSTS_AHEAD))
        + table["agg_descriptors"].cycles(record_beats)
        + table["agg_sums"].cycles(held)
        + table["agg_spilled_ahead"].cycles(np.minimum(merged, rows_ahead(sum_beats)))
        + table["agg_spilled"].cycles(merged * sum_beats)
        + table["request_ahead"].cycles(np.minimum(entry_bursts, BURSTS_AHEAD))
        + table["agg_rows_ahead"].cycles(np.minimum(gather.edges, rows_ahead(groups)))
        + table["agg_gather"].cycles(
            (gather.edges + gather.empty - gather.held) * np.where(tagged, np.maximum(groups, 2), groups)
            + gather.held * held_trips(groups, geometry.agg_word_beats, tagged)
        )
        + table["agg_spill"].cycles(spilled * sum_beats)
        + table["agg_spill_responses"].cycles(np.minimum(gather.spilled_bursts, BURSTS_AHEAD)),
        0,
    )
    data_bytes = (gather.misses * groups + merged * sum_beats) * BEAT_BYTES
    graph_bytes = (record_beats + entry_beats) * BEAT_BYTES
    return _cost(
        cycles,
        read_bytes=np.stack([data_bytes, graph_bytes], axis=1),
        read_bursts=np.stack([gather.feature_bursts + gather.merged_bursts, record_bursts + entry_bursts], axis=1),
        write_bytes=spilled * sum_beats * BEAT_BYTES,
        write_bursts=gather.spilled_bursts,
        edges=gather.edges,
        misses=gather.misses,
    )


#: Operations whose cost needs nothing but fields and the geometry.
COSTS: dict[str, Callable[[Fields, Geometry], Cost]] = {
    "sync": lambda fields, geometry: sync_cost(fields),
    "load_activations": lambda fields, geometry: load_tile_cost(fields),
    "load_weights": lambda fields, geometry: load_words_cost(fields, geometry.word_bytes("wgt_d_ram")),
    "load_planes": lambda fields, geometry: load_words_cost(fields, geometry.word_bytes("wgt_l_ram")),
    "load_parameters": lambda fields, geometry: load_words_cost(fields, geometry.word_bytes("par_ram")),
    "configure_lines": lambda fields, geometry: sync_cost(fields),
    "configure_windows": lambda fields, geometry: sync_cost(fields),
    "load_lines": lambda fields, geometry: load_lines_cost(fields),
    "load_windows": lambda fields, geometry: load_windows_cost(fields),
    "load_residual": lambda fields, geometry: load_residual_cost(fields),
    "store_runs": lambda fields, geometry: store_runs_cost(fields),
    "store_rows": lambda fields, geometry: store_cost(fields),
    "store_middle": lambda fields, geometry: store_runs_cost(fields),
    "matmul": matmul_cost,
    "matmul_lines": matmul_lines_cost,
    "matmul_planes": matmul_planes_cost,
    "matmul_planes_lines": matmul_planes_lines_cost,
    "requantize": vector_cost,
    "combine": vector_cost,
    "export_sums": vector_cost,
    "export_accumulators": vector_cost,
    "requantize_function": vector_cost,
    "combine_function": vector_cost,
    "requantize_joined": vector_cost,
    "requantize_joined_function": vector_cost,
    "normalize": normalize_cost,
    # Of the four banks, all take the same beat.
    "load_function": lambda fields, geometry: load_words_cost(fields, BEAT_BYTES),
    "load_depthwise": lambda fields, geometry: load_words_cost(fields, geometry.word_bytes("dwp_ram")),
    "configure_pixels": lambda fields, geometry: sync_cost(fields),
    "configure_pool": lambda fields, geometry: sync_cost(fields),
    "join": vector_cost,
    "pool_max": pool_cost,
    "pool_average": pool_cost,
    "depthwise": depthwise_cost,
    "configure_features": configure_features_cost,
    "configure_sources": lambda fields, geometry: sync_cost(fields),
    "configure_targets": lambda fields, geometry: sync_cost(fields),
    "configure_types": lambda fields, geometry: sync_cost(fields),
    "configure_destinations": lambda fields, geometry: sync_cost(fields),
    "configure_ids": lambda fields, geometry: sync_cost(fields),
    "configure_spilled": lambda fields, geometry: sync_cost(fields),
    "configure_left": lambda fields, geometry: sync_cost(fields),
    "configure_right": lambda fields, geometry: sync_cost(fields),
    "configure_bitmap": lambda fields, geometry: sync_cost(fields),
    "configure_graph": lambda fields, geometry: sync_cost(fields),
    "configure_turned": lambda fields, geometry: sync_cost(fields),
    "configure_matching": lambda fields, geometry: sync_cost(fields),
    "configure_walk": lambda fields, geometry: sync_cost(fields),
}
