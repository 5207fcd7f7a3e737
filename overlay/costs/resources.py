# SPDX-License-Identifier: Apache-2.0
"""Resource functions: LUT, FF, DSP and block RAM of each engine, its adapters and the interconnect. Modelled.

Each grows with every parameter of the geometry, so a larger design never needs less of anything.
Block RAM and DSP follow from the memories' shapes and the kernels' products; LUTs and
flip-flops are estimates; ``area.json`` says where each constant comes from, and docs/costs.md what is unchecked.
"""

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass, fields

from hetfab.overlay.blockdesign.build import MASTERS, masters_by_port
from hetfab.overlay.board import Board, read_board
from hetfab.overlay.costs.area import area_constants
from hetfab.overlay.costs.attention import dividers, divides_groups
from hetfab.overlay.costs.elements import Form, chain_dsps, chain_luts, plane_dot_luts
from hetfab.overlay.dense_stages import NO_WEIGHTS, ROW_PAIR, Stage
from hetfab.overlay.design import Design, Geometry, default_design
from hetfab.overlay.errors import DesignTooLargeError
from hetfab.overlay.isa.arithmetic import ACCUMULATOR_BITS
from hetfab.overlay.isa.counter_table import counter_table
from hetfab.overlay.isa.spec import Stream, evaluate, isa
from hetfab.overlay.layouts import padded

#: Depth and largest width of a RAMB18 with one write and one read port, and with two ports that do both.
_SIMPLE_DUAL = ((512, 36), (1024, 18), (2048, 9), (4096, 4), (8192, 2), (16384, 1))
_TRUE_DUAL = ((1024, 18), (2048, 9), (4096, 4), (8192, 2), (16384, 1))
#: Of four LUTs as a RAM with a port to write and one to read: words, and bits of a word.
_LUT_RAMS = ((32, 6), (64, 3))
#: Of GEMM-L's processing elements.
_LANES, _SLICE_BITS = 32, 4
_REQUANTIZED_BITS = 49
#: Of a channel of a row of features.
_FEATURE_BITS = 8
#: Of attention: scores of a beat and bits of one, bits of a gap and of a weight, of a source vertex, and addresses
#: by a product: rows of scores and of features, and what is spilled.
_SCORES_PER_BEAT, _SCORE_BITS, _GAP_BITS, _VERTEX_BITS, _ATTEND_ADDRESSES = 4, 16, 12, 24, 3
_BARREL_LEVELS = 3
_COUNTER_BITS = 64
#: Of VEC's normalization: a row's sum and sum of squares, and its sum, mantissa and shift; entries and bits of roots.
_ROW_SUM_BITS, _ROW_ROOT_BITS, _ROOT_TABLE = 26 + 40, 26 + 17 + 6, (512, 17 + 8)
#: Of DW: nibbles of a word, and lines and columns of a window.
_DW_NIBBLES, _DW_TAPS = 16, isa().size("window_taps")
_ADDRESS_BITS = 64
_REGISTER_BITS = 32
#: Of SGB: bits of a word of its bitmap, and of a number in its other memories.
_BITMAP_BITS, _NUMBER_BITS = 64, 32
#: Of RST: its memories of a number for each vertex, and the bits of one.
_RST_MEMORIES, _VERTEX_BITS = 8, 16
#: Of a stage's input, and words of a table that a LUT holds a bit of.
_STAGE_INPUT_BITS, _LUT_ROM_WORDS = 9, 64
#: Of a stream's FIFO, the smallest of its IP.
_FIFO_WORDS = 16
#: m_axi ports that only write, and those that do both.
WRITTEN = (("store", "memory"), ("sgb", "out"), ("rst", "out"))
READ_AND_WRITTEN = (("agg", "features"),)
#: Share of a resource above which placement and timing closure commonly become hard; beyond the whole a design is
#: refused. A warning and not a limit: the LUT figures are estimates, and no tool has tried.
CROWDED_SHARE = 0.85


@dataclass(frozen=True)
class Resources:
    """Units of each resource."""

    lut: float = 0
    ff: float = 0
    dsp: float = 0
    bram36: float = 0
    uram: float = 0

    def __add__(self, other: "Resources") -> "Resources":
        """The sum of both."""
        return Resources(
            self.lut + other.lut,
            self.ff + other.ff,
            self.dsp + other.dsp,
            self.bram36 + other.bram36,
            self.uram + other.uram,
        )


def _constant(name: str) -> float:
    return area_constants()[name].value


@functools.cache
def block_rams(depth: int, bits: int, *, true_dual: bool) -> float:
    """RAMB36 units of a memory: the best of the aspect ratios, a RAMB18 being half."""
    shapes = _TRUE_DUAL if true_dual else _SIMPLE_DUAL
    return min(-(-depth // rows) * -(-bits // width) for rows, width in shapes) / 2


def lut_ram(depth: int, bits: int) -> float:
    """LUTs of a queue: RAM32M or RAM64M, whichever takes less."""
    return min(4 * -(-depth // words) * -(-bits // width) for words, width in _LUT_RAMS)


def memory_resources(geometry: Geometry, name: str) -> Resources:
    """An on-chip memory, always block RAM; those that their writer also reads need two full ports."""
    depth, bits = geometry.depth(name), 8 * geometry.word_bytes(name)
    # Their one port, or their writer's, does both.
    both_ways = ("acc_d_ram", "acc_l_ram", "sum_ram", "feature_ram", "tag_ram", "load_context", "agg_context")
    read_by_writer = name in (*both_ways, "sgb_context", "vec_context", "rst_context")
    banks = geometry.banks(name)
    return Resources(bram36=banks * block_rams(depth, bits // banks, true_dual=read_by_writer))


def stream_resources(geometry: Geometry, stream: Stream) -> Resources:
    """The FIFO of a data stream, as deep as a power of two."""
    depth = _ring_size(evaluate(stream.depth, geometry.constants()))
    memory = Resources(bram36=block_rams(depth, stream.bits, true_dual=False))
    return _with_ff(_constant("lut_per_stream") * stream.bits / 32) + memory


def _with_ff(lut: float, *, dsp: float = 0, bram36: float = 0) -> Resources:
    return Resources(lut=lut, ff=lut * _constant("ff_per_lut"), dsp=dsp, bram36=bram36)


def _axi_masters(engine: str) -> Resources:
    """Adapters of an engine's m_axi ports, with a buffer for each direction that is used."""
    ports = [master for master in MASTERS if master[0] == engine]
    directions = sum(2 if master in READ_AND_WRITTEN else 1 for master in ports)
    bram36 = directions * _constant("bram_per_axi_direction")
    return _with_ff(len(ports) * _constant("lut_per_axi_master"), bram36=bram36)


def _streams() -> Resources:
    """FIFOs of an engine's instruction and token streams."""
    token_bits = max(field.lsb + field.bits for field in isa().token)
    words = sum(lut_ram(_FIFO_WORDS, bits) for bits in (isa().instruction_bits, token_bits))
    return _with_ff(words + 2 * _constant("lut_per_stream"))


def memory_port_resources(geometry: Geometry, board: Board) -> Resources:
    """What lies between the adapters and the board's DRAM ports."""
    lut = 0.0
    for masters in masters_by_port(geometry.engines, board.ports):
        if len(masters) > 1:
            lut += len(masters) * _constant("lut_per_interconnect_port")
        elif board.axi_version == 3 and masters[0] in (*WRITTEN, *READ_AND_WRITTEN):
            lut += _constant("lut_per_write_converter")
    return _with_ff(lut)


def load_resources(geometry: Geometry, form: Form) -> Resources:
    """LOAD with its read port."""
    lut = _constant("lut_load_control") + _constant("lut_load_slices") + _constant("lut_load_lines")
    lut += _bank_writers(geometry.gemm_d_rows, geometry.act_d_words)
    lut += _bank_writers(geometry.gemm_l_rows, geometry.act_l_words)
    parts = _with_ff(lut, dsp=_constant("dsp_per_address")) + _axi_masters("load") + _streams()
    if geometry.res_words:
        parts += _with_ff(_constant("lut_load_residual"), dsp=_constant("dsp_per_address"))
    if geometry.dwp_words:
        parts += _with_ff(_constant("lut_load_depthwise"))
    if geometry.fun_words:
        parts += _with_ff(_constant("lut_load_function"))
    return parts + _windows(geometry.gather_beats)


def _bank_writers(banks: int, words: int) -> float:
    """LUTs of an address for each bank, and of whether it takes a word."""
    bits = (words - 1).bit_length()
    return banks * (bits * _constant("lut_per_adder_bit") + _constant("lut_per_bank_range"))


def _windows(beats: int) -> Resources:
    """What cuts windows of samples: two lines in LUT RAM, even and odd beats, and 8 of 16 bytes of a pair."""
    if not beats:
        return Resources()
    beat_bits = 64
    cut = beat_bits * (_mux(8) + _mux(2))
    lut = 2 * lut_ram(beats, beat_bits) + cut + _constant("lut_load_windows")
    return _with_ff(lut, dsp=_constant("dsp_per_address"))


def store_resources(geometry: Geometry, form: Form) -> Resources:
    """STORE with its write port."""
    lut = _constant("lut_store_control") + _constant("lut_store_strips")
    if geometry.mid_words:
        lut += geometry.bus_bits * _constant("lut_per_mux4_bit")
    # Products of banks, columns and the length of a pixel, and of banks and that length.
    return _with_ff(lut, dsp=2 * _constant("dsp_per_address")) + _axi_masters("store") + _streams()


def gemm_d_resources(geometry: Geometry, form: Form) -> Resources:
    """GEMM-D: the chains with their sums, a register of each sum that drains, and what a drain adds."""
    rows, cols = geometry.gemm_d_rows, geometry.gemm_d_cols
    if geometry.wgt_d_words == NO_WEIGHTS:
        # All products are those of stages.
        return _with_ff(_constant("lut_gemm_control")) + _streams()
    lut = _constant("lut_gemm_control") + _constant("lut_gemm_strips") + chain_luts(rows, cols, ACCUMULATOR_BITS, form)
    held = Resources(ff=rows * cols * ACCUMULATOR_BITS)
    return _with_ff(lut + _drain(rows, cols, ACCUMULATOR_BITS), dsp=chain_dsps(rows, cols)) + held + _streams()


def stage_resources(stage: Stage, form: Form) -> Resources:
    """A dense stage with fixed weights: its sums by the elements of the cores, its rows in registers, its weights."""
    columns = _columns(stage)
    lut, dsp = _constant("lut_gemm_control"), 0
    if columns[0]:
        lut += chain_luts(ROW_PAIR, columns[0], ACCUMULATOR_BITS, form)
        dsp = chain_dsps(ROW_PAIR, columns[0])
    if columns[1]:
        lut += ROW_PAIR * columns[1] * plane_dot_luts(_LANES, _SLICE_BITS, ACCUMULATOR_BITS, form)
    # A word of inputs is chosen for a step, and a sum for the word that is written.
    lut += ROW_PAIR * (_LANES * _SLICE_BITS * _mux(-(-stage.inputs // _LANES)))
    lut += ACCUMULATOR_BITS * _mux(ROW_PAIR * stage.outputs)
    words = ((stage.dsp_cycles, columns[0]), (stage.lut_cycles // -(-stage.input_bits // _SLICE_BITS), columns[1]))
    held = Resources(ff=ROW_PAIR * (stage.inputs * _STAGE_INPUT_BITS + stage.outputs * ACCUMULATOR_BITS))
    weights = [_rom(depth, ACCUMULATOR_BITS * count) for depth, count in words if depth]
    return functools.reduce(lambda left, right: left + right, weights, _with_ff(lut, dsp=dsp) + held)


def _columns(stage: Stage) -> tuple[int, int]:
    """Columns of a stage that are there, on DSPs and on LUTs."""
    on_luts = stage.outputs - stage.on_dsps
    return min(stage.dsp_columns, padded(stage.on_dsps, 2)), min(stage.lut_columns, on_luts)


def _rom(depth: int, bits: int) -> Resources:
    """Constant words: in LUTs where they are few, else in block RAM."""
    if depth <= _LUT_ROM_WORDS:
        return Resources(lut=bits)
    return Resources(bram36=block_rams(depth, bits, true_dual=False))


def gemm_l_resources(geometry: Geometry, form: Form) -> Resources:
    """GEMM-L: the processing elements, the offset of a row's slices, a register of each sum that drains."""
    rows, cols, bits = geometry.gemm_l_rows, geometry.gemm_l_cols, geometry.gemm_l_acc_bits
    elements = rows * cols * plane_dot_luts(_LANES, _SLICE_BITS, bits, form)
    # A slice's top bit is flipped on the way into the register that holds it for all planes.
    offsets = rows * _LANES * _constant("lut_per_adder_bit")
    held = Resources(ff=rows * cols * bits + rows * _LANES * _SLICE_BITS)
    lut = _constant("lut_gemm_control") + _constant("lut_gemm_strips") + elements + offsets + _drain(rows, cols, bits)
    return _with_ff(lut) + held + _streams()


def _drain(rows: int, cols: int, bits: int) -> float:
    """LUTs that choose a row of sums and add what the RAM held."""
    return cols * (bits * _mux(rows) + ACCUMULATOR_BITS * _constant("lut_per_adder_bit"))


def _mux(inputs: int) -> float:
    """LUTs of a multiplexer of one bit, as a tree of 4:1 multiplexers."""
    return -(-(inputs - 1) // 3) * _constant("lut_per_mux4_bit")


def vec_resources(geometry: Geometry, form: Form) -> Resources:
    """VEC: lanes as mapped, a choice of words of accumulators, and of the halves of a result."""
    words = (geometry.gemm_d_cols + geometry.gemm_l_cols) // geometry.lanes + 1
    lane = _constant("lut_vec_lane") + ACCUMULATOR_BITS * _mux(words)
    # A half is of bytes, nibbles or a quarter of int32.
    lut = _constant("lut_vec_control") + geometry.lanes * lane + geometry.bus_bits * _mux(6)
    if geometry.res_words:
        lut += geometry.lanes * _constant("lut_vec_lane_stored") + _constant("lut_vec_windows")
    if geometry.exp_words:
        lut += _constant("lut_vec_lines")
    if "agg" in geometry.engines:
        lut += geometry.lanes * _constant("lut_vec_lane_joined")
    parts = _with_ff(lut, dsp=geometry.lanes * _constant("dsp_per_requantize")) + _streams()
    if geometry.fun_words or geometry.norm_words:
        parts += _with_ff(geometry.lanes * _constant("lut_vec_lane_wide"))
    if geometry.fun_words:
        parts += _with_ff(_constant("lut_vec_functions"))
    return parts + _normalization(geometry) if geometry.norm_words else parts


def _normalization(geometry: Geometry) -> Resources:
    """One lane's arithmetic for all, a root, the table of roots, and VEC's own memories: rows, sums and roots."""
    rows = isa().operation("normalize").field("rows").largest + 1
    memories = (
        (geometry.norm_words, 2 * geometry.bus_bits),
        (rows, _ROW_SUM_BITS),
        (rows, _ROW_ROOT_BITS),
        _ROOT_TABLE,
    )
    bram36 = sum(block_rams(depth, bits, true_dual=False) for depth, bits in memories)
    return _with_ff(_constant("lut_vec_normalize"), dsp=_constant("dsp_per_normalize"), bram36=bram36)


def dw_resources(geometry: Geometry, form: Form) -> Resources:
    """DW: the windows of each nibble and the ends of 8 channels, as mapped, and a word's parameters in registers."""
    line, column = _DW_NIBBLES * _constant("lut_dw_nibble"), geometry.lanes * _constant("lut_dw_end")
    # Of three lines of weights, those of the one that is read.
    weights = _DW_TAPS * geometry.bus_bits * _mux(_DW_TAPS)
    held = Resources(ff=(_DW_TAPS * _DW_TAPS * geometry.bus_bits) + _DW_NIBBLES * 48)
    # Products of a line and the words of a line, and of a column and the words of a pixel.
    dsp = geometry.lanes * _constant("dsp_per_requantize") + 2 * _constant("dsp_per_address")
    return _with_ff(_constant("lut_dw_control") + line + column + weights, dsp=dsp) + held + _streams()


def agg_resources(geometry: Geometry, form: Form) -> Resources:
    """AGG: sums of all groups in registers, a mean per lane, sums that it keeps, two ports, and its scratchpad."""
    select = ACCUMULATOR_BITS * _mux(geometry.agg_groups)
    # A mean has one lane for each channel of a beat, whatever a word has.
    adders = ACCUMULATOR_BITS + _REQUANTIZED_BITS
    shifter = _REQUANTIZED_BITS * _BARREL_LEVELS
    lut = _constant("lut_agg_control") + geometry.lanes * (select + adders + shifter)
    lut += geometry.lanes * _wide_lanes(geometry, ACCUMULATOR_BITS, select)
    lut += _constant("lut_agg_entries") + _constant("lut_agg_spill")
    lut += _constant("lut_agg_divider") if "sgb" in geometry.engines else 0
    lut += _constant("lut_agg_scratchpad") if geometry.feature_words else 0
    sums = Resources(ff=geometry.agg_groups * geometry.lanes * ACCUMULATOR_BITS)
    # Rows of features, of spilled sums and of sum_ram, and slots.
    addresses = 4 if geometry.feature_words else 3
    dsp = geometry.lanes * _constant("dsp_per_requantize") + addresses * _constant("dsp_per_address")
    dsp += geometry.agg_weights * geometry.agg_word_beats * geometry.lanes * _constant("dsp_per_weight")
    attention = _attention_resources(geometry) if geometry.agg_heads else Resources()
    destinations = Resources(bram36=block_rams(*_destination_buffer(), true_dual=False))
    held = Resources(bram36=block_rams(geometry.depth("sum_ram"), 8 * geometry.word_bytes("sum_ram"), true_dual=True))
    return _with_ff(lut, dsp=dsp) + sums + destinations + held + attention + _axi_masters("agg") + _streams()


def _wide_lanes(geometry: Geometry, bits: int, select: float) -> float:
    """LUTs of the additions of a channel of each beat of a word.

    With words of several beats, each addition chooses among the groups of its place in a word, and between the word
    and a beat from the port; rows that are shorter than a word lie at any multiple of their length in it.
    """
    beats = geometry.agg_word_beats
    if beats == 1:
        return bits
    of_place = bits * _mux(-(-geometry.agg_groups // beats))
    return beats * (bits + of_place + _FEATURE_BITS * (1 + _mux(beats))) - min(select, of_place)


def _attention_resources(geometry: Geometry) -> Resources:
    """Attention: logits of a beat, maxima and gaps of each head, weighted sums of all groups, dividers."""
    lanes, heads, groups = geometry.lanes + 1, geometry.agg_heads, geometry.agg_groups
    bits, words, edges = isa().size("partial_bits"), isa().size("attend_words"), isa().size("attend_edges")
    beats, place_groups = geometry.agg_word_beats, -(-groups // geometry.agg_word_beats)
    channels = dividers(geometry)
    lut = _constant("lut_attend_control") + _constant("lut_attend_divisor")
    lut += channels * (_constant("lut_attend_quotient") + bits * _mux(geometry.lanes // channels))
    lut += heads * _constant("lut_attend_head")
    lut += _SCORES_PER_BEAT * _constant("lut_attend_logit") + geometry.lanes * _constant("lut_attend_product")
    slopes_in_dsps = divides_groups(geometry)
    lut += _SCORES_PER_BEAT * _constant("lut_attend_slope") * (not slopes_in_dsps)
    # Of a lane: the sum before chosen among groups and what is merged, and the addition.
    lut += beats * (geometry.lanes + 1) * bits * (_mux(place_groups) + 2)
    # Of words of several beats: a group that leaves, and a weight of a head for each beat.
    lut += (lanes * bits + beats * _GAP_BITS * _mux(heads)) * (beats > 1)
    lut += beats * geometry.lanes * _FEATURE_BITS * (beats > 1)
    bram36 = lanes * block_rams(words, bits, true_dual=False)
    bram36 += block_rams(words, geometry.bus_bits, true_dual=False)
    rows = isa().operation("attend").field("rows").largest + 1
    lut += lut_ram(isa().size("type_beats"), geometry.bus_bits)
    lut += heads * (lut_ram(edges, _GAP_BITS) + lut_ram(rows, _SCORE_BITS))
    bram36 += block_rams(edges, _VERTEX_BITS, true_dual=False)
    # A copy of the table for each pair of weights that are looked up at once.
    bram36 += -(-min(beats, heads) // 2) * block_rams(isa().size("exponentials"), _GAP_BITS, true_dual=False)
    # A product of each lane by the weight, those of a logit, and of spilled rows, targets and types.
    dsp = beats * geometry.lanes * _constant("dsp_per_weight") + _constant("dsp_per_requantize")
    dsp += _ATTEND_ADDRESSES * _constant("dsp_per_address")
    dsp += _SCORES_PER_BEAT * _constant("dsp_per_slope") * slopes_in_dsps
    quotients = _constant("ff_attend_divisor") + channels * _constant("ff_attend_quotient")
    registers = Resources(ff=groups * lanes * bits + quotients)
    return _with_ff(lut, dsp=dsp, bram36=bram36) + registers


def _destination_buffer() -> tuple[int, int]:
    """Depth and width of AGG's buffer of destinations: what ``rows`` can name, of each what the sums need."""
    record = isa().record("run")
    return isa().operation("reduce").field("rows").largest + 1, sum(
        record.bits(name) for name in ("degree", "reciprocal", "exponent", "row")
    )


def sgb_resources(geometry: Geometry, form: Form) -> Resources:
    """SGB: the bitmap, or a place per column, the ids that it keeps, two read ports and a write port."""
    lut = _constant("lut_sgb_control") + _BITMAP_BITS * _constant("lut_per_mux4_bit")
    bitmap = block_rams(geometry.sgb_columns // _BITMAP_BITS, _BITMAP_BITS, true_dual=False)
    places = block_rams(geometry.sgb_columns, _NUMBER_BITS, true_dual=False)
    ids = 2 * block_rams(geometry.sgb_ids, _NUMBER_BITS, true_dual=False)
    return _with_ff(lut, bram36=bitmap + places + ids) + _axi_masters("sgb") + _streams()


def rst_resources(geometry: Geometry, form: Form) -> Resources:
    """RST: starts of both sides, a place and eight numbers for each vertex, lists by share, a read and a write port."""
    starts = 2 * block_rams(geometry.rst_vertices + 1, _NUMBER_BITS, true_dual=False)
    places = block_rams(geometry.rst_vertices, _NUMBER_BITS, true_dual=False)
    vertices = _RST_MEMORIES * block_rams(geometry.rst_vertices, _VERTEX_BITS, true_dual=True)
    heads = block_rams(isa().size("rst_scores"), _VERTEX_BITS, true_dual=False)
    filled = Resources(ff=isa().size("rst_scores"))
    lut = _constant("lut_rst_control") + _constant("lut_rst_lists")
    return _with_ff(lut, bram36=starts + places + vertices + heads) + filled + _axi_masters("rst") + _streams()


def dispatch_resources(geometry: Geometry, form: Form) -> Resources:
    """DISPATCH: queues and registers in block RAM, what else belongs to engines and semaphores in LUT RAM, a port."""
    index_bits, engines, segments = 32, len(isa().engines), len(isa().segments)
    depths = (
        (engines * _ring_size(geometry.engine_fifo_depth), index_bits),
        (isa().semaphores + 1, isa().semaphore_bits),
        (len(counter_table().counters), _COUNTER_BITS),
        (segments, 2 * _ADDRESS_BITS),
    )
    lut = _constant("lut_dispatch_control") + _constant("lut_register_port")
    lut += sum(lut_ram(depth, bits) for depth, bits in depths)
    lut += _token_choice(geometry)
    queues = block_rams(
        engines * _ring_size(geometry.queue_depth), isa().instruction_bits + index_bits, true_dual=False
    )
    arguments, status = (memory.bytes * 8 // _REGISTER_BITS for memory in isa().register_memories)
    # The driver reads its arguments back, so that memory needs a port that does both.
    registers = block_rams(arguments, _REGISTER_BITS, true_dual=True) + block_rams(
        status, _REGISTER_BITS, true_dual=False
    )
    return _with_ff(lut, bram36=queues + registers) + _axi_masters("dispatch")


def _token_choice(geometry: Geometry) -> float:
    """LUTs that choose the token of an engine: of most only the first beat is read."""
    beat = 8 * isa().size("beat_bytes")
    late = {field.name for field in isa().token if field.lsb >= beat}
    wide = {counter.engine for counter in counter_table().counters if counter.source in late}
    counts = (len(geometry.engines), len(wide & set(geometry.engines)))
    return sum(beat * _mux(count) for count in counts if count)


def _ring_size(places: int) -> int:
    """The power of two that holds them, as in ``dispatch.hpp``."""
    return 1 << (places - 1).bit_length()


#: Resource function of each engine.
ENGINES = {
    "load": load_resources,
    "store": store_resources,
    "gemm_d": gemm_d_resources,
    "gemm_l": gemm_l_resources,
    "vec": vec_resources,
    "agg": agg_resources,
    "sgb": sgb_resources,
    "dw": dw_resources,
    "rst": rst_resources,
}


def design_resources(
    geometry: Geometry, form: Form, board: Board | None = None, stages: Sequence[Stage] = ()
) -> dict[str, Resources]:
    """Modelled resources of every part of an overlay: DISPATCH, engines with adapters, ports, memories, streams.

    Args:
        geometry: Sizes, and which engines there are.
        form: How the processing elements are written.
        board: Whose DRAM ports the masters use; the default design's.
        stages: Dense stages with fixed weights.
    """
    parts = {"dispatch": dispatch_resources(geometry, form)}
    parts["memory ports"] = memory_port_resources(geometry, board or read_board(default_design().board))
    parts |= {name: ENGINES[name](geometry, form) for name in geometry.engines}
    parts |= {f"stage {number}": stage_resources(stage, form) for number, stage in enumerate(stages)}
    for memory in isa().memories:
        present = {memory.writer, memory.reader} <= set(geometry.engines)
        if memory.word_bits and present and geometry.depth(memory.name):
            parts[memory.name] = memory_resources(geometry, memory.name)
    for stream in isa().streams:
        if {stream.writer, stream.reader} <= set(geometry.engines):
            parts[stream.name] = stream_resources(geometry, stream)
    return parts


def total(parts: dict[str, Resources]) -> Resources:
    """The sum of all parts."""
    return functools.reduce(lambda left, right: left + right, parts.values(), Resources())


def resource_rows(design: Design, board: Board | None = None) -> list[tuple[str, int, int]]:
    """Each resource with the modelled need, rounded up, and what the board has.

    Raises:
        DesignInvalidError: There is no board of the design's name.
    """
    board = board or read_board(design.board)
    need = total(design_resources(design.geometry, Form(design.elements), board, design.stages))
    return [(f.name, math.ceil(getattr(need, f.name)), board.resources[f.name]) for f in fields(need)]


def crowded(design: Design, board: Board | None = None) -> list[str]:
    """Resources of which a design needs more than ``CROWDED_SHARE`` of its board's, each in words.

    Raises:
        DesignInvalidError: There is no board of the design's name.
    """
    return [
        f"{name}: {need / there:.0%} of the board's {there:,} (modelled); above {CROWDED_SHARE:.0%}, "
        "placement or timing may fail"
        for name, need, there in resource_rows(design, board)
        if there and need > CROWDED_SHARE * there
    ]


def check_fits(design: Design, board: Board | None = None) -> None:
    """Refuses a design that its board cannot hold.

    Raises:
        DesignTooLargeError: Names each resource, the modelled need and what there is.
        DesignInvalidError: There is no board of the design's name.
    """
    board = board or read_board(design.board)
    short = [
        f"{name}: needs {need:,} (modelled), there are {there:,}"
        for name, need, there in resource_rows(design, board)
        if need > there
    ]
    if short:
        raise DesignTooLargeError(
            f"the design '{design.name}' does not fit the board '{board.name}': " + "; ".join(short),
            "a design within the board's resources",
            "make the array or the buffers smaller, or choose a larger board",
        )
