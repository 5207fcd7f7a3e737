# SPDX-License-Identifier: Apache-2.0
"""The golden model: the executable specification of the instruction set, one function per operation.

Plain numpy on integers, written for reading. Instructions are decoded by the tables of ``isa.json`` alone: an
error in the generated codec or in a kernel cannot hide here. The rules in prose: ``docs/isa.md``,
``docs/arithmetic.md``.
"""

from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from hetfab.overlay.design import Geometry
from hetfab.overlay.errors import StreamInvalidError
from hetfab.overlay.isa.arithmetic import (
    Q8_BITS,
    Integers,
    limit,
    looked_up,
    mean_q8,
    reciprocals,
    requantize,
    saturate,
    saturate24,
    wrap32,
)
from hetfab.overlay.isa.attention import NO_LOGIT, additive_logits, attention_q8, dot_logits, edge_weights
from hetfab.overlay.isa.normalization import normalize, normalized
from hetfab.overlay.isa.spec import Field, Operation, isa
from hetfab.overlay.restructure.matching import match
from hetfab.overlay.restructure.schedule import Sides
from hetfab.overlay.restructure.subgraphs import Community, Cover, three_subgraphs, walk
from hetfab.overlay.restructure.tiles import by_degree, grown_tiles
from hetfab.overlay.semantic.adjacency import Adjacency, compose, transpose

Bytes = npt.NDArray[np.uint8]
Fields = dict[str, int]

_INSTRUCTION_BYTES = isa().instruction_bits // 8
_BLOCK_BYTES = isa().block_bytes
_NUMBER_BYTES = 4
_D_BANK_BYTES = 8
_L_BANK_BYTES = 16
_WORD_BYTES = 8
_CONTEXT_WORDS = isa().size("context_words")
_POST_LEFT = isa().size("post_left")
_TAPS = isa().size("window_taps")
_PARAMETER = isa().record("parameter").dtype
_GAIN, _SPREAD = isa().record("gain").dtype, isa().record("spread").dtype
_FUNCTION_UNIT = isa().size("fun_unit")
#: Of an argument of a function, and of a channel that is normalized.
_FUNCTION_BITS, _VALUE_BITS = 12, 16
_DESTINATION = isa().record("destination")
_RUN = isa().record("run")
_MODES = isa().operation("reduce").field("mode").values
_KINDS = isa().operation("attend").field("kind").values
_ATTEND_WORDS, _TYPE_BEATS = isa().size("attend_words"), isa().size("type_beats")
_SCORE_BEATS = isa().size("score_beats")
_PARTIAL_BITS = isa().size("partial_bits")
_PARTIAL_MASK = (1 << _PARTIAL_BITS) - 1
#: Scores in a beat, and bytes of the maxima of 8 heads.
_BEAT_SCORES, _MAXIMA_BYTES = 4, 16
_SOURCES = isa().operation("reduce").field("source").values
#: Units of a schedule from the first on read a row; the last one does not keep it.
_UNIT_READS, _UNIT_STREAMS = 1 << 15, (1 << 16) - 1
_WORDS_PER_TAG = 8
_AGG_RUNS, _PART_ROWS = isa().size("agg_runs"), isa().size("part_rows")
_WEIGHT_PLACE = 24
#: What a matching says of a row without a column.
_NO_VERTEX = (1 << 32) - 1


class GoldenMachine:
    """The memories and segments of one overlay, and instructions executed on them one at a time.

    Attributes:
        geometry: Which engines exist, and how wide and deep each memory is.
        memories: Each on-chip memory by name, uint8 ``[depth, word_bytes]``, zero at the start.
        segments: Segment name -> (physical base, size in bytes).
        streams: Words in each FIFO between engines by name, the oldest first.
    """

    def __init__(self, geometry: Geometry) -> None:
        """Makes all on-chip memories, filled with zeros; no DRAM is mapped and no segment known."""
        self.geometry = geometry
        self.memories: dict[str, Bytes] = {
            memory.name: np.zeros((geometry.depth(memory.name), geometry.word_bytes(memory.name)), np.uint8)
            for memory in isa().memories
            if memory.word_bits
        }
        self.segments: dict[str, tuple[int, int]] = {}
        self.streams: dict[str, deque[int]] = {stream.name: deque() for stream in isa().streams}
        self._mapped: list[tuple[int, Bytes]] = []
        self._current = ""

    def map_memory(self, address: int, buffer: Bytes) -> None:
        """Makes a buffer visible as DRAM; loads read it and stores write it in place.

        Args:
            address: Physical address of its first byte.
            buffer: uint8 ``[bytes]``, contiguous.
        """
        self._mapped.append((address, buffer))

    def run(self, program: bytes) -> None:
        """Executes instructions in program order, semaphores starting at zero.

        Args:
            program: 16 bytes per instruction.

        Raises:
            StreamInvalidError: A wait that no earlier signal satisfies, or as ``execute``.
        """
        if len(program) % _INSTRUCTION_BYTES:
            raise StreamInvalidError(
                f"the program has {len(program)} bytes",
                f"a multiple of {_INSTRUCTION_BYTES}, the size of an instruction",
                "pass whole instructions",
            )
        counters = [0] * (isa().semaphores + 1)
        for index in range(len(program) // _INSTRUCTION_BYTES):
            instruction = program[index * _INSTRUCTION_BYTES : (index + 1) * _INSTRUCTION_BYTES]
            header = _decode(isa().header, int.from_bytes(instruction, "little"))
            for semaphore in filter(None, (header["wait0"], header["wait1"])):
                if counters[semaphore] == 0:
                    raise _wait_unmatched(index, header, semaphore)
                counters[semaphore] -= 1
            self.execute(instruction, index)
            for semaphore in filter(None, (header["signal0"], header["signal1"])):
                counters[semaphore] += 1

    def execute(self, instruction: bytes, index: int = 0) -> None:
        """Executes one instruction in program form; waits and signals have no effect here.

        Args:
            instruction: 16 bytes; an address is an offset and a segment, as in a program.
            index: Position in the program, named in errors.

        Raises:
            StreamInvalidError: Unknown engine or opcode, an access outside a memory, a segment, a mapped
                buffer or an array of the context, or a tile that does not fit its rows.
        """
        word = int.from_bytes(instruction, "little")
        header = _decode(isa().header, word)
        self._current = f"instruction {index}"
        operation = self._operation(header)
        self._current = f"instruction {index} ({operation.name})"
        address = operation.address_field
        if address is not None:
            word = self._issued(word, address)
        _FUNCTIONS[operation.name](self, {**_decode(operation.fields, word), "issued": word})

    def words(self, memory: str, first: int, count: int) -> Bytes:
        """A view of ``count`` words of an on-chip memory, uint8 ``[count, word_bytes]``."""
        depth = len(self.memories[memory])
        if first + count > depth:
            raise self.error(f"words {first} to {first + count - 1} of {memory}", f"words below {depth}")
        return self.memories[memory][first : first + count]

    def dram(self, address: int, rows: int, stride: int, length: int) -> Bytes:
        """A view of runs of ``length`` bytes of DRAM, ``stride`` bytes apart, uint8 ``[rows, length]``."""
        if rows == 0 or length == 0:
            return np.zeros((rows, length), np.uint8)
        end = address + (rows - 1) * stride + length
        for base, buffer in self._mapped:
            if base <= address and end <= base + len(buffer):
                start = buffer[address - base :]
                return np.lib.stride_tricks.as_strided(start, (rows, length), (stride, 1))
        raise self.error(f"bytes {address:#x} to {end - 1:#x} of DRAM", "bytes of one mapped buffer")

    def error(self, found: str, expected: str) -> StreamInvalidError:
        """An error that names the instruction being executed."""
        return StreamInvalidError(
            f"{self._current} uses {found}",
            expected,
            "correct the program, or report this if hetfab compiled it",
        )

    def _operation(self, header: Fields) -> Operation:
        names = {engine.id: engine.name for engine in isa().engines}
        engine = names.get(header["engine"])
        if engine not in self.geometry.engines:
            present = ", ".join(self.geometry.engines)
            raise self.error(f"engine {engine or header['engine']}", f"an engine of the design: {present}")
        operation = isa().find(header["engine"], header["opcode"])
        if operation is None:
            known = ", ".join(f"{o.opcode} {o.name}" for o in isa().operations if o.engine in ("*", engine))
            raise self.error(f"opcode {header['opcode']} of engine {engine}", f"one of: {known}")
        return operation

    def _issued(self, word: int, field: Field) -> int:
        """Replaces (segment, offset) by the physical address, as DISPATCH does when it issues."""
        number, offset = divmod(field.get(word), 1 << isa().offset_bits)
        if number >= len(isa().segments):
            raise self.error(f"segment {number}", f"a segment below {len(isa().segments)}")
        segment = isa().segments[number]
        base, size = self.segments.get(segment, (0, 0))
        if offset >= size:
            raise self.error(f"offset {offset} in segment '{segment}'", f"an offset below its size, {size} bytes")
        if base + offset > field.largest:
            raise self.error(f"physical address {base + offset:#x}", f"an address of at most {field.bits} bits")
        if (base + offset) % self.geometry.lanes:
            raise self.error(
                f"physical address {base + offset:#x}", f"a multiple of {self.geometry.lanes}, a port's width"
            )
        return word & ~(field.largest << field.lsb) | (base + offset) << field.lsb


def sync(machine: GoldenMachine, f: Fields) -> None:
    """Does nothing: waiting and signalling is all there is."""


def load_activations(machine: GoldenMachine, f: Fields) -> None:
    """DRAM rows to the banks of one or both copies of an activation tile."""
    rows, row_bytes = f["rows"], f["row_blocks"] * _BLOCK_BYTES
    source = machine.dram(f["address"], rows, f["stride_blocks"] * _BLOCK_BYTES, row_bytes)
    if f["to_d"]:
        banks = _banks(machine, "act_d_ram", f["ram_d"], rows, row_bytes // _D_BANK_BYTES)
        for row in range(rows):
            banks[row // banks.shape[2], :, row % banks.shape[2]] = source[row].reshape(-1, _D_BANK_BYTES)
    if f["to_l"]:
        slices = _slice_words(source, packed=bool(f["packed"]))
        banks = _banks(machine, "act_l_ram", f["ram_l"], rows, slices.shape[1])
        for row in range(rows):
            banks[row // banks.shape[2], :, row % banks.shape[2]] = slices[row]


def load_weights(machine: GoldenMachine, f: Fields) -> None:
    """DRAM to consecutive words of wgt_d_ram."""
    _load(machine, f, "wgt_d_ram")


def load_planes(machine: GoldenMachine, f: Fields) -> None:
    """DRAM to consecutive words of wgt_l_ram."""
    _load(machine, f, "wgt_l_ram")


def load_parameters(machine: GoldenMachine, f: Fields) -> None:
    """DRAM to consecutive words of par_ram."""
    _load(machine, f, "par_ram")


def configure_lines(machine: GoldenMachine, f: Fields) -> None:
    """Keeps how load_lines lays out lines."""
    _configure_load(machine, f)


def configure_windows(machine: GoldenMachine, f: Fields) -> None:
    """Keeps how load_windows lays out windows."""
    _configure_load(machine, f)


def _configure_load(machine: GoldenMachine, f: Fields) -> None:
    kept = machine.words("load_context", f["slot"], 1)[0]
    kept[...] = np.frombuffer(f["issued"].to_bytes(_INSTRUCTION_BYTES, "little")[: len(kept)], np.uint8)


def load_lines(machine: GoldenMachine, f: Fields) -> None:
    """Lines of an image, with zeros around them, to all banks whose strips need them."""
    context = _context(machine.words("load_context", f["slot"], 1)[0], "configure_lines")
    total = _lines_of_banks(machine, f, context)
    padding = f"top {f['top']}, lines {f['lines']}, left {f['left']}, beats {f['beats']}"
    if f["top"] + f["lines"] > total or f["left"] + f["beats"] > context["line_beats"]:
        raise machine.error(padding, f"at most {total} lines and {context['line_beats']} beats with the zeros")
    lines = np.zeros((total, context["line_beats"], _D_BANK_BYTES), np.uint8)
    source = machine.dram(f["address"], f["lines"], context["stride_blocks"] * _BLOCK_BYTES, f["beats"] * _D_BANK_BYTES)
    read = lines[f["top"] : f["top"] + f["lines"], f["left"] : f["left"] + f["beats"]]
    read[...] = source.reshape(read.shape)
    _write_lines(machine, f, context, lines.reshape(total, -1), packed=bool(context["packed"]))


def load_windows(machine: GoldenMachine, f: Fields) -> None:
    """The windows of output pixels, cut from lines of bytes, to all banks whose strips need them."""
    context = _context(machine.words("load_context", f["slot"], 1)[0], "configure_windows")
    if _lines_of_banks(machine, f, context) != f["lines"]:
        raise machine.error(f"{f['lines']} lines", f"{_lines_of_banks(machine, f, context)}, what the banks need")
    length = context["run_beats"] * _D_BANK_BYTES
    starts = f["offset"] + context["step_bytes"] * np.arange(f["columns"] + 1)
    if f["beats"] > machine.geometry.gather_beats or starts[-1] + length > f["beats"] * _D_BANK_BYTES:
        raise machine.error(
            f"lines of {f['beats']} beats with windows up to byte {starts[-1] + length - 1}",
            f"windows within lines of at most {machine.geometry.gather_beats} beats, the gather_beats",
        )
    source = machine.dram(f["address"], f["lines"], context["stride_blocks"] * _BLOCK_BYTES, f["beats"] * _D_BANK_BYTES)
    windows = source[:, starts[:, np.newaxis] + np.arange(length)]
    _write_lines(machine, f, context, windows.reshape(f["lines"], -1), packed=False)


def _lines_of_banks(machine: GoldenMachine, f: Fields, context: Fields) -> int:
    """Lines that a run of banks needs: those of the first one, and a stride more for each of the others."""
    rows = machine.geometry.gemm_l_rows if context["core"] else machine.geometry.gemm_d_rows
    if f["banks"] < 1 or f["first_bank"] + f["banks"] > rows:
        raise machine.error(f"{f['banks']} banks from bank {f['first_bank']} on", f"at least 1, below bank {rows}")
    if not context["kernel_lines"] or not context["line_stride"]:
        found = f"kernel_lines {context['kernel_lines']}, line_stride {context['line_stride']}"
        raise machine.error(found, "at least 1 each")
    return (f["banks"] - 1) * context["line_stride"] + context["kernel_lines"]


def _write_lines(machine: GoldenMachine, f: Fields, context: Fields, lines: Bytes, *, packed: bool) -> None:
    """Writes to each bank the lines of its strip; ``lines`` is uint8 ``[lines, bytes]``."""
    memory = "act_l_ram" if context["core"] else "act_d_ram"
    multiple = _D_BANK_BYTES if not context["core"] else _L_BANK_BYTES if packed else 2 * _L_BANK_BYTES
    if lines.shape[1] % multiple:
        found = f"lines of {lines.shape[1] // _D_BANK_BYTES} beats"
        raise machine.error(found, f"a multiple of {multiple // _D_BANK_BYTES}, whole words of {memory}")
    words = (
        _slice_words(lines, packed=packed)
        if context["core"]
        else lines.reshape(len(lines), lines.shape[1] // multiple, multiple)
    )
    kept = context["kernel_lines"]
    target = machine.words(memory, f["ram"], kept * words.shape[1])
    banks = target.reshape(kept, words.shape[1], target.shape[1] // words.shape[2], words.shape[2])
    for bank in range(f["banks"]):
        first = bank * context["line_stride"]
        banks[:, :, f["first_bank"] + bank] = words[first : first + kept]


def load_residual(machine: GoldenMachine, f: Fields) -> None:
    """Rows of runs of DRAM to consecutive words of res_ram."""
    runs, length, stride = f["columns"] + 1, f["run_beats"] * _D_BANK_BYTES, f["stride_blocks"] * _BLOCK_BYTES
    words = machine.words("res_ram", f["ram"], f["rows"] * runs * f["run_beats"])
    for row, target in enumerate(words.reshape(f["rows"], runs, length)):
        target[...] = machine.dram(f["address"] + row * stride, runs, f["run_stride"] * _D_BANK_BYTES, length)


def load_depthwise(machine: GoldenMachine, f: Fields) -> None:
    """DRAM to consecutive words of dwp_ram."""
    _load(machine, f, "dwp_ram")


def load_function(machine: GoldenMachine, f: Fields) -> None:
    """DRAM to consecutive words of fun_ram, the same to all banks."""
    words = machine.words("fun_ram", f["ram"], f["words"])
    beats = machine.dram(f["address"], 1, 0, f["words"] * _WORD_BYTES).reshape(f["words"], _WORD_BYTES)
    words[...] = np.tile(beats, machine.geometry.banks("fun_ram"))


def _load(machine: GoldenMachine, f: Fields, memory: str) -> None:
    words = machine.words(memory, f["ram"], f["words"])
    words[...] = machine.dram(f["address"], 1, 0, words.size).reshape(words.shape)


def _banks(machine: GoldenMachine, memory: str, first: int, rows: int, row_words: int) -> Bytes:
    """The words of a tile in an activation RAM, uint8 ``[row blocks, row_words, banks, bank_bytes]``."""
    banks = machine.geometry.gemm_d_rows if memory == "act_d_ram" else machine.geometry.gemm_l_rows
    row_blocks = -(-rows // banks)
    words = machine.words(memory, first, row_blocks * row_words)
    return words.reshape(row_blocks, row_words, banks, words.shape[1] // banks)


def _tile_rows(banks: Bytes) -> Bytes:
    """The rows of a tile, uint8 ``[rows, row_words, bank_bytes]``, from ``_banks``."""
    blocks, row_words, count, size = banks.shape
    return banks.transpose(0, 2, 1, 3).reshape(blocks * count, row_words, size)


def _packed(nibbles: Bytes) -> Bytes:
    """Pairs of values of 4 bits along the last axis as bytes: the even channel in the low nibble."""
    return np.asarray(nibbles[..., 0::2] | nibbles[..., 1::2] << 4, np.uint8)


def _slice_words(content: Bytes, *, packed: bool) -> Bytes:
    """Rows ``[rows, bytes]`` as words of GEMM-L's banks: of every 32 bytes the high halves, then the low ones."""
    if not packed:
        halves = content.reshape(len(content), content.shape[1] // 32, 32)
        content = np.stack([_packed(halves >> np.uint8(4)), _packed(halves & np.uint8(15))], axis=2)
    return content.reshape(len(content), content[:1].size // _L_BANK_BYTES, _L_BANK_BYTES)


def _nibbles(content: Bytes) -> Bytes:
    """The nibbles of bytes along the last axis, low ones first: the inverse of ``_packed``."""
    return np.stack([content & 15, content >> 4], axis=-1).reshape(*content.shape[:-1], 2 * content.shape[-1])


def store_rows(machine: GoldenMachine, f: Fields) -> None:
    """Rows of out_ram, whole blocks apart, to DRAM rows, in the order of the rows."""
    rows, beats = f["rows"], f["row_beats"]
    word_bytes = machine.memories["out_ram"].shape[1]
    block_words = _BLOCK_BYTES // word_bytes
    target = machine.dram(f["address"], rows, f["stride_blocks"] * _BLOCK_BYTES, beats * word_bytes)
    for row in range(rows):
        first = f["ram"] + row * -(-beats // block_words) * block_words
        target[row] = machine.words("out_ram", first, beats).reshape(-1)


def store_runs(machine: GoldenMachine, f: Fields) -> None:
    """Pixels of strips, the strips' pixels interleaved in out_ram, to rows of an image."""
    beats = f["row_beats"]
    for bank, row in enumerate(_stored_rows(machine, f, f["banks"])):
        for x in range(len(row)):
            first = f["ram"] + (x * f["ram_banks"] + bank) * beats
            row[x] = machine.words("out_ram", first, beats).reshape(-1)


def store_middle(machine: GoldenMachine, f: Fields) -> None:
    """Pixels of mid_ram, one behind the other, to rows of an image."""
    beats = f["row_beats"]
    for line, row in enumerate(_stored_rows(machine, f, f["lines"])):
        for x in range(len(row)):
            first = f["ram"] + (line * len(row) + x) * beats
            row[x] = machine.words("mid_ram", first, beats).reshape(-1)


def _stored_rows(machine: GoldenMachine, f: Fields, rows: int) -> Iterator[Bytes]:
    """The pixels of each row of an image in DRAM, or parts of them, uint8 ``[columns, bytes]``."""
    columns, beats = f["columns"] + 1, f["row_beats"]
    if f["joined"] and f["pixel_stride"] != columns * beats:
        raise machine.error(f"joined runs of {f['pixel_stride']} beats", f"{columns * beats}, those of all pixels")
    distance = beats if f["joined"] else f["pixel_stride"]
    for row in range(rows):
        address = f["address"] + row * f["stride_blocks"] * _BLOCK_BYTES
        yield machine.dram(address, columns, distance * _D_BANK_BYTES, beats * _D_BANK_BYTES)


def matmul(machine: GoldenMachine, f: Fields) -> None:
    """acc[r][c] = (accumulate ? acc[r][c] : 0) + sum over k of x(act[r][k]) * wgt[k][c] on GEMM-D."""
    rows, beats = f["rows"], f["row_beats"]
    if not beats:
        raise machine.error("rows of 0 beats", "at least 1")
    banks = _banks(machine, "act_d_ram", f["act"], rows, beats)
    _multiply(machine, f, _tile_rows(banks)[:rows].reshape(rows, beats * _D_BANK_BYTES))


def matmul_lines(machine: GoldenMachine, f: Fields) -> None:
    """The same for a convolution's rows, which overlap."""
    content = _strip_rows(machine, f, "act_d_ram", f["run"])
    _multiply(machine, f, content.reshape(len(content), -1))


def _strip_rows(machine: GoldenMachine, f: Fields, memory: str, run: int) -> Bytes:
    """The words of each output pixel, uint8 ``[rows, lines, run, bank_bytes]``: pixel by pixel, of it bank by bank."""
    rows = machine.geometry.gemm_d_rows if memory == "act_d_ram" else machine.geometry.gemm_l_rows
    if not 1 <= f["banks"] <= rows or not f["lines"] or not f["run"]:
        found = f"banks {f['banks']}, lines {f['lines']}, run {f['run']}"
        raise machine.error(found, f"1 to {rows} banks, at least 1 line and a run of at least 1")
    last = (f["lines"] - 1) * f["line_words"] + f["columns"] * f["step_words"] + run
    words = machine.words(memory, f["act"], last)
    banks = words.reshape(last, rows, words.shape[1] // rows)[:, : f["banks"]]
    pixels, lines, places = np.ogrid[: f["columns"] + 1, : f["lines"], :run]
    content: Bytes = banks[pixels * f["step_words"] + lines * f["line_words"] + places]
    return content.transpose(0, 3, 1, 2, 4).reshape(-1, f["lines"], run, banks.shape[2])


def _multiply(machine: GoldenMachine, f: Fields, content: Bytes) -> None:
    """Rows of bytes, uint8 ``[rows, bytes]``, times GEMM-D's weights."""
    columns, groups, beats = machine.geometry.gemm_d_cols, f["col_groups"], content.shape[1] // _D_BANK_BYTES
    bits = 4 if f["packed"] else 8
    steps = machine.words("wgt_d_ram", f["wgt"], groups * 2 * beats).reshape(groups, 2 * beats, columns, 4)
    by_column = steps.transpose(0, 2, 1, 3).reshape(groups * columns, 2 * beats * 4)
    weights = _signed(_nibbles(by_column) if f["packed"] else by_column, bits)
    if np.any(weights == -(1 << bits - 1)):
        raise machine.error(f"a weight of {-(1 << bits - 1)}", f"narrow weights of {bits} bits")
    stored = _nibbles(content) if f["packed"] else content
    # Flipping the top bit of an unsigned value and reading it as signed subtracts half of the range.
    activations = _signed(stored ^ (1 << bits - 1), bits) if f["unsigned"] else _signed(stored, bits)
    _accumulate(machine, f, "acc_d_ram", activations.astype(np.int64) @ weights.T.astype(np.int64))


def matmul_planes(machine: GoldenMachine, f: Fields) -> None:
    """The same on GEMM-L, from slices of activations and bit planes of weights."""
    rows, words = f["rows"], f["row_words"]
    _check_planes(machine, f, "row_words")
    banks = _banks(machine, "act_l_ram", f["act"], rows, f["slices"] * words)
    _multiply_planes(machine, f, _tile_rows(banks)[:rows].reshape(rows, words, f["slices"], _L_BANK_BYTES))


def matmul_planes_lines(machine: GoldenMachine, f: Fields) -> None:
    """The same for a convolution's rows, which overlap."""
    _check_planes(machine, f, "run")
    content = _strip_rows(machine, f, "act_l_ram", f["slices"] * f["run"])
    _multiply_planes(machine, f, content.reshape(len(content), -1, f["slices"], _L_BANK_BYTES))


def _check_planes(machine: GoldenMachine, f: Fields, words: str) -> None:
    slices, planes, bipolar = f["slices"], f["planes"], f["bipolar"]
    if not f[words] or slices not in (1, 2) or not 1 <= planes <= 8 or (bipolar and planes != 1):
        raise machine.error(
            f"{words} {f[words]}, slices {slices}, planes {planes}, bipolar {bipolar}",
            "at least 1 word, 1 or 2 slices, 1 to 8 planes, 1 when bipolar",
        )


def _multiply_planes(machine: GoldenMachine, f: Fields, content: Bytes) -> None:
    """Words of slices, uint8 ``[rows, words, slices, bank_bytes]``, times GEMM-L's weights."""
    columns, groups, planes = machine.geometry.gemm_l_cols, f["col_groups"], f["planes"]
    rows, words, slices, _ = content.shape
    nibbles = _nibbles(content.transpose(0, 2, 1, 3).reshape(rows, slices, words * _L_BANK_BYTES)).astype(np.int64)
    values = nibbles[:, 0] if slices == 1 else 16 * nibbles[:, 0] + nibbles[:, 1]
    largest = (1 << 4 * slices) - 1
    activations = values if f["unsigned"] else values ^ (1 << 4 * slices - 1)
    stored = machine.words("wgt_l_ram", f["wgt"], groups * words * planes).reshape(groups, words, planes, columns, 4)
    bits = np.unpackbits(stored, axis=-1, bitorder="little").transpose(2, 1, 4, 0, 3)
    bits = bits.reshape(planes, words * 32, groups * columns).astype(np.int64)
    if f["bipolar"]:
        sums = activations @ bits[0] + (largest - activations) @ (1 - bits[0])
    else:
        powers = 1 << np.arange(planes - 1, -1, -1)
        powers[0] = -powers[0]
        sums = activations @ np.tensordot(powers, bits, 1)
    width = machine.geometry.gemm_l_acc_bits
    _accumulate(machine, f, "acc_l_ram", _signed(sums & ((1 << width) - 1), width))


def _accumulate(machine: GoldenMachine, f: Fields, memory: str, sums: Integers) -> None:
    """Writes or adds sums ``[rows, channels]`` to a core's accumulators."""
    words = machine.words(memory, f["acc"], len(sums) * f["col_groups"])
    accumulators = words.view("<i4").reshape(sums.shape)
    start = accumulators.astype(np.int64) if f["accumulate"] else 0
    accumulators[...] = wrap32(start + sums)


def _signed(values: npt.NDArray[Any], bits: int) -> Integers:
    """Reads the low ``bits`` bits as two's complement."""
    half = 1 << bits - 1
    return (values.astype(np.int64) ^ half) - half


def vec_requantize(machine: GoldenMachine, f: Fields) -> None:
    """out[r][c] = limit(requantize(acc[r][c] + bias[c], multiplier[c], shift))."""
    values, multiplier = _biased(machine, f)
    _write_results(machine, f, requantize(values, multiplier, f["shift"]))


def requantize_joined(machine: GoldenMachine, f: Fields) -> None:
    """out[r][c] = limit(requantize(wrap32(acc[r][c] + sum[r][c]) + bias[c], multiplier[c], shift))."""
    _write_results(machine, f, _joined(machine, f))


def combine(machine: GoldenMachine, f: Fields) -> None:
    """out[r][c] = limit(requantize(q8[r][c] * 2^15, 1, post_shift))."""
    _write_q8(machine, f, _q8(machine, f))


def export_sums(machine: GoldenMachine, f: Fields) -> None:
    """out32[r][c] = q8[r][c] as in combine."""
    _write_rows(machine, f, _q8(machine, f).astype("<i4"))


def export_accumulators(machine: GoldenMachine, f: Fields) -> None:
    """out32[r][c] = acc[r][c] + bias[c]."""
    _write_rows(machine, f, _biased(machine, f)[0].astype("<i4"))


def requantize_function(machine: GoldenMachine, f: Fields) -> None:
    """Results of a requantization as int16, or the entries of a table at them."""
    values, multiplier = _biased(machine, f)
    _write_function(machine, f, requantize(values, multiplier, f["shift"]))


def requantize_joined_function(machine: GoldenMachine, f: Fields) -> None:
    """Results of a core's and AGG's sums as int16, or the entries of a table at them."""
    _write_function(machine, f, _joined(machine, f))


def combine_function(machine: GoldenMachine, f: Fields) -> None:
    """Results of a sum in Q.8 as int16, or the entries of a table at them."""
    _write_function(machine, f, requantize(_q8(machine, f) << _POST_LEFT, 1, f["post_shift"]))


def _write_function(machine: GoldenMachine, f: Fields, values: Integers) -> None:
    if machine.geometry.fun_words == 0:
        raise machine.error("results of 16 bits or a table", "a design with fun_words")
    width, signed = f["width"] + 1, bool(f["signed"])
    if f["mapped"]:
        first, words = _FUNCTION_UNIT * f["table"], max(_FUNCTION_UNIT, (1 << width) // _WORD_BYTES)
        if width > _FUNCTION_BITS or first + words > machine.geometry.fun_words:
            raise machine.error(
                f"a table of {width} bits from word {first} of fun_ram on",
                f"at most {_FUNCTION_BITS} bits, within {machine.geometry.fun_words} words",
            )
        table = machine.words("fun_ram", first, words)[:, :_WORD_BYTES].reshape(-1)
        _write_rows(machine, f, looked_up(values, table.astype(np.int64), width, signed).astype(np.uint8))
        return
    results = saturate(values, width, not signed).astype("<u2")
    # Of a row's results the last half group may have no word.
    channels = max(results.shape[1] - machine.geometry.lanes // 2, min(results.shape[1], 4 * f["row_words"]))
    _write_rows(machine, f, results[:, :channels])


def vec_normalize(machine: GoldenMachine, f: Fields) -> None:
    """LayerNorm or L2 of each row: out = limit(requantize(n * gain + offset, 1, post_shift))."""
    words, held = f["rows"] * f["groups"], machine.geometry.norm_words
    if not f["groups"] or words > held:
        found = f"{f['rows']} rows of {f['groups']} groups to normalize"
        raise machine.error(found, f"at least 1 group, and at most {held} words")
    values, multiplier = _biased(machine, f)
    channels = saturate(requantize(values, multiplier, f["shift"]), _VALUE_BITS, unsigned=False)
    gains = machine.words("par_ram", f["par"] + f["groups"], f["groups"]).reshape(-1).view(_GAIN)
    spread = machine.words("par_ram", f["par"] + 2 * f["groups"], 1)[0][: _SPREAD.itemsize].view(_SPREAD)[0]
    epsilon = int(spread["epsilon_low"]) + (int(spread["epsilon_high"]) << 32)
    count = int(spread["channels"])
    if count >= 1 << isa().record("spread").bits("channels"):
        raise machine.error(f"{count} channels", f"{isa().record('spread').bits('channels')} bits")
    rows = normalized(channels, count or 1, epsilon, centred=count > 0)
    gain, offset = gains["gain"].astype(np.int64), gains["offset"].astype(np.int64)
    results = normalize(rows, gain, offset, f["post_shift"], f["highest"], bool(f["signed"]))
    _write_rows(machine, f, results.astype(np.uint8))


def configure_pixels(machine: GoldenMachine, f: Fields) -> None:
    """Keeps where the pixels of a tile lie."""
    _keep_middle(machine, f, 0)


def configure_pool(machine: GoldenMachine, f: Fields) -> None:
    """Keeps the windows that are pooled."""
    _keep_middle(machine, f, 1)


def _keep_middle(machine: GoldenMachine, f: Fields, word: int) -> None:
    """Keeps bits 32 to 95 of the instruction."""
    kept = machine.words("vec_context", word, 1)[0]
    kept[...] = np.frombuffer(f["issued"].to_bytes(_INSTRUCTION_BYTES, "little")[4:12], np.uint8)


def _kept_middle(machine: GoldenMachine, word: int, operation: str) -> Fields:
    """Fields of a configure instruction of which ``_keep_middle`` kept bits."""
    kept = machine.words("vec_context", word, 1)[0].tobytes()
    return _decode(isa().operation(operation).fields, int.from_bytes(kept, "little") << 32)


def join(machine: GoldenMachine, f: Fields) -> None:
    """q8 = 256 * residual + saturate24(requantize(acc + bias, multiplier, shift)), ended as in combine."""
    values, multiplier = _biased(machine, f)
    term = saturate24(requantize(values, multiplier, f["shift"]))
    pixels = _pixels(machine, f)
    words = _residual_words(machine, f, pixels, 0, -(-f["groups"] // (1 + pixels["packed"])))
    residual = _channels(words, pixels)[:, : f["groups"] * machine.geometry.lanes]
    _write_q8(machine, f, wrap32((residual << Q8_BITS) + term))


def pool_max(machine: GoldenMachine, f: Fields) -> None:
    """out[r][c] = the largest channel c of the window of r, stored as res_ram stores it."""
    pixels = _pixels(machine, f)
    taps = [_channels(words, pixels) for words in _window_words(machine, f, pixels, f["row_words"])]
    results = np.max(taps, axis=0).astype(np.uint8)
    _write_rows(machine, f, _packed(results & 15) if pixels["packed"] else results)


def pool_average(machine: GoldenMachine, f: Fields) -> None:
    """q8 = saturate24((S * reciprocal + 2^(k+7)) >> (k+8)) of the sum S of each window, ended as in combine."""
    pixels, window = _pixels(machine, f), _kept_middle(machine, 1, "configure_pool")
    words = _window_words(machine, f, pixels, -(-f["groups"] // (1 + pixels["packed"])))
    sums = np.sum([_channels(tap, pixels) for tap in words], axis=0)[:, : f["groups"] * machine.geometry.lanes]
    _write_q8(machine, f, saturate24(mean_q8(sums, np.array(window["reciprocal"]), np.array(window["exponent"]))))


def _pixels(machine: GoldenMachine, f: Fields) -> Fields:
    """The fields of configure_pixels; banks is their number."""
    pixels = _kept_middle(machine, 0, "configure_pixels")
    pixels["banks"] += 1
    if f["rows"] % pixels["banks"]:
        raise machine.error(f"{f['rows']} rows of {pixels['banks']} banks", "whole columns of pixels")
    return pixels


def _window_words(machine: GoldenMachine, f: Fields, pixels: Fields, words: int) -> list[Bytes]:
    """The words of each tap of all windows, uint8 ``[rows, 8 * words]`` each."""
    window = _kept_middle(machine, 1, "configure_pool")
    if not window["lines"] or not window["columns"]:
        raise machine.error(f"a window of {window['lines']} x {window['columns']} taps", "at least 1 x 1")
    return [
        _residual_words(machine, f, pixels, line * window["line_words"] + column * window["column_words"], words)
        for line in range(window["lines"])
        for column in range(window["columns"])
    ]


def _residual_words(machine: GoldenMachine, f: Fields, pixels: Fields, offset: int, words: int) -> Bytes:
    """Words of res_ram, ``offset`` words behind the first one of each row's pixel, uint8 ``[rows, 8 * words]``."""
    found = np.zeros((f["rows"], words * _WORD_BYTES), np.uint8)
    for row in range(f["rows"]):
        column, bank = divmod(row, pixels["banks"])
        first = f["res"] + bank * pixels["res_line_words"] + column * pixels["res_pixel_words"] + offset
        found[row] = machine.words("res_ram", first, words).reshape(-1)
    return found


def _channels(content: Bytes, pixels: Fields) -> Integers:
    """The channels of bytes of res_ram, int64 ``[rows, channels]``."""
    values, bits = (_nibbles(content), 4) if pixels["packed"] else (content, 8)
    return _signed(values, bits) if pixels["signed"] else values.astype(np.int64)


def _biased(machine: GoldenMachine, f: Fields) -> tuple[Integers, Integers]:
    """The values acc + bias, ``[rows, channels]`` in int32 range, and the multipliers, ``[channels]``.

    The accumulators are those of a core, or with ``from_sum`` sums of AGG.
    """
    geometry, rows = machine.geometry, f["rows"]
    memory, columns = ("acc_l_ram", geometry.gemm_l_cols) if f["core"] else ("acc_d_ram", geometry.gemm_d_cols)
    if f.get("from_sum"):
        memory, columns = "sum_ram", geometry.lanes
    channels = f["groups"] * geometry.lanes
    row_words = -(-channels // columns)
    words = machine.words(memory, f["acc"], rows * row_words)
    accumulators = words.view("<i4").reshape(rows, row_words * columns)[:, :channels].astype(np.int64)
    parameters = machine.words("par_ram", f["par"], f["groups"]).view(_PARAMETER).reshape(channels)
    values = wrap32(accumulators + parameters["bias"].astype(np.int64))
    return values, parameters["multiplier"].astype(np.int64)


def _joined(machine: GoldenMachine, f: Fields) -> Integers:
    """requantize(wrap32(acc + sum) + bias, multiplier, shift); the order of two wraps changes nothing."""
    if "agg" not in machine.geometry.engines:
        raise machine.error("sums that join accumulators", "a design with AGG")
    values, multiplier = _biased(machine, f)
    return requantize(wrap32(values + _sums(machine, f)), multiplier, f["shift"])


def _sums(machine: GoldenMachine, f: Fields) -> Integers:
    """Rows of sum_ram, int64 ``[rows, channels]``."""
    groups, stride = f["groups"], f["sum_groups"] + 1
    words = machine.words("sum_ram", f["sum"], (f["rows"] - 1) * stride + groups if f["rows"] else 0)
    sums = np.zeros((f["rows"], groups * machine.geometry.lanes), np.int64)
    for row in range(f["rows"]):
        sums[row] = words[row * stride : row * stride + groups].view("<i4").reshape(-1)
    return sums


def _q8(machine: GoldenMachine, f: Fields) -> Integers:
    """q8 = sum + (with_acc ? saturate24(requantize(acc + bias, multiplier, shift)) : 0), int32 range."""
    sums = _sums(machine, f)
    if not f["with_acc"]:
        return sums
    values, multiplier = _biased(machine, f)
    return wrap32(sums + saturate24(requantize(values, multiplier, f["shift"])))


def _write_q8(machine: GoldenMachine, f: Fields, q8: Integers) -> None:
    """Sums in Q.8 as they are when wide, else rounded to results."""
    if f.get("wide"):
        _write_rows(machine, f, q8.astype("<i4"))
    else:
        _write_results(machine, f, requantize(q8 << _POST_LEFT, 1, f["post_shift"]))


def _write_results(machine: GoldenMachine, f: Fields, values: Integers) -> None:
    """Limits results and writes them as bytes, or packed."""
    results = limit(values, f["highest"], bool(f["signed"])).astype(np.uint8)
    if f["packed"]:
        whole = np.zeros((f["rows"], (f["groups"] + 1) // 2 * 2 * machine.geometry.lanes), np.uint8)
        whole[:, : results.shape[1]] = results & 15
        results = _packed(whole)
    _write_rows(machine, f, results)


def _write_rows(machine: GoldenMachine, f: Fields, values: npt.NDArray[Any]) -> None:
    """Writes ``[rows, channels]`` to out_ram or exp_ram; of each row, row_words words, zero beyond the values."""
    content = np.ascontiguousarray(values).view(np.uint8)
    if content.shape[1] > f["row_words"] * _WORD_BYTES:
        raise machine.error(
            f"{content.shape[1]} bytes in {f['row_words']} words of an output row", "values that fit the words"
        )
    padded = np.zeros((f["rows"], f["row_words"] * _WORD_BYTES), np.uint8)
    padded[:, : content.shape[1]] = content
    memory = "exp_ram" if f.get("to_exp") else "out_ram"
    for row, first in enumerate(_first_words(machine, f)):
        machine.words(memory, first, f["row_words"])[...] = padded[row].reshape(-1, _WORD_BYTES)


def _first_words(machine: GoldenMachine, f: Fields) -> list[int]:
    """Where each row of a result begins."""
    if f.get("to_exp"):
        pixels = _pixels(machine, f)
        places = [divmod(row, pixels["banks"]) for row in range(f["rows"])]
        return [f["out"] + b * pixels["exp_line_words"] + x * pixels["exp_pixel_words"] for x, b in places]
    distance = f["row_blocks"] * _BLOCK_BYTES // _WORD_BYTES or f["row_words"]
    return [f["out"] + row * distance for row in range(f["rows"])]


def depthwise(machine: GoldenMachine, f: Fields) -> None:
    """out[y][x][c] = limit(requantize(sum of taps + bias[c], multiplier[c], shift)), each channel on its own."""
    if f["groups"] % (1 + (f["packed"] or f["out_packed"])):
        raise machine.error(f"{f['groups']} groups", "an even number when packed")
    stride, width = f["stride"] + 1, f["left"] + f["columns"] + f["right"]
    height = (f["lines"] - 1) * stride + _TAPS
    if width < _TAPS or (f["lines"] and f["top"] + f["bottom"] >= height):
        raise machine.error(
            f"an image of {width} columns and {height - f['top'] - f['bottom']} lines",
            f"at least {_TAPS} columns with those around it, and 1 line",
        )
    weights, bias, multiplier = _depthwise_parameters(machine, f)
    image = np.zeros((height, width, weights.shape[2]), np.int64)
    if f["lines"]:
        rows = slice(f["top"], height - f["bottom"])
        image[rows, f["left"] : f["left"] + f["columns"]] = _exp_image(machine, f, height - f["top"] - f["bottom"])
    out_columns = (width - _TAPS) // stride + 1
    sums = np.zeros((f["lines"], out_columns, weights.shape[2]), np.int64)
    for i in range(_TAPS):
        for j in range(_TAPS):
            lines = image[i : i + (f["lines"] - 1) * stride + 1 : stride] if f["lines"] else image[:0]
            sums += lines[:, j : j + (out_columns - 1) * stride + 1 : stride] * weights[i, j]
    values = requantize(wrap32(sums + bias), multiplier, f["shift"])
    results = (
        limit(values, f["highest"], bool(f["signed"]))
        .astype(np.uint8)
        .reshape(f["lines"] * out_columns, weights.shape[2])
    )
    content = _packed(results & np.uint8(15)) if f["out_packed"] else results
    machine.words("mid_ram", f["mid"], content.size // _WORD_BYTES).reshape(-1)[...] = content.reshape(-1)


def _depthwise_parameters(machine: GoldenMachine, f: Fields) -> tuple[Integers, Integers, Integers]:
    """Weights ``[3, 3, channels]``, bias and multiplier ``[channels]`` of the layout 'depthwise'."""
    word_channels = 16 if f["packed"] else 8
    words = f["groups"] * 8 // word_channels
    word_size = (_TAPS**2 + word_channels) * _WORD_BYTES
    content = machine.words("dwp_ram", f["par"], words * (_TAPS**2 + word_channels)).reshape(words, word_size)
    taps = content[:, : _TAPS**2 * _WORD_BYTES].reshape(words, _TAPS, _TAPS, _WORD_BYTES)
    weights = _signed(_nibbles(taps), 4) if f["packed"] else _signed(taps, 8)
    records = np.ascontiguousarray(content[:, _TAPS**2 * _WORD_BYTES :]).view(_PARAMETER).reshape(-1)
    by_tap = weights.transpose(1, 2, 0, 3).reshape(_TAPS, _TAPS, words * word_channels)
    return by_tap, records["bias"].astype(np.int64), records["multiplier"].astype(np.int64)


def _exp_image(machine: GoldenMachine, f: Fields, lines: int) -> Integers:
    """Lines of exp_ram, int64 ``[lines, columns, channels]``."""
    words = f["columns"] * (f["groups"] // (1 + f["packed"]))
    content = np.stack([machine.words("exp_ram", f["exp"] + line * f["line_words"], words) for line in range(lines)])
    values, bits = (_nibbles(content), 4) if f["packed"] else (content, 8)
    values = values.reshape(lines, f["columns"], f["groups"] * machine.geometry.lanes)
    return values.astype(np.int64) if f["unsigned"] else _signed(values, bits)


def configure_features(machine: GoldenMachine, f: Fields) -> None:
    """Keeps the feature array of a context and clears the tags of its slots."""
    _configure(machine, f, 0)
    tags = machine.memories["tag_ram"][: machine.geometry.feature_words // _WORDS_PER_TAG]
    tags[f["first_block"] : f["first_block"] + (1 << f["slot_bits"])] = 0


def configure_destinations(machine: GoldenMachine, f: Fields) -> None:
    """Keeps the destination array of a context."""
    _configure(machine, f, 1)


def configure_ids(machine: GoldenMachine, f: Fields) -> None:
    """Keeps the array of source ids of a context."""
    _configure(machine, f, 2)


def configure_spilled(machine: GoldenMachine, f: Fields) -> None:
    """Keeps the array of incomplete sums of a context."""
    _configure(machine, f, 3)


def _configure(machine: GoldenMachine, f: Fields, word: int) -> None:
    _keep(machine, f, "agg_context", _CONTEXT_WORDS * f["slot"] + word)


def _keep(machine: GoldenMachine, f: Fields, memory: str, word: int) -> None:
    """Keeps the instruction as it was issued."""
    issued = f["issued"].to_bytes(_INSTRUCTION_BYTES, "little")
    machine.words(memory, word, 1)[0] = np.frombuffer(issued, np.uint8)


def reduce(machine: GoldenMachine, f: Fields) -> None:
    """Sums over each destination's sources: to sum_ram as sums or means in Q.8 or as they are, or spilled."""
    _check_reduce(machine, f)
    names = ("configure_features", "configure_destinations", "configure_ids", "configure_spilled")
    words = machine.words("agg_context", _CONTEXT_WORDS * f["slot"], len(names))
    features, destinations, ids, spilled = (_context(word, name) for word, name in zip(words, names, strict=True))
    if f["from_fifo"]:
        records, rows = _rows_from_fifo(machine, f, features)
    else:
        records = _destinations(machine, f, destinations)
        rows = _edge_rows(machine, f, features, records, ids)
    sums = np.zeros((len(records), rows.shape[1]), np.int64)
    used = records["degree"] > 0
    if len(rows):
        sums[used] = np.add.reduceat(rows, _starts(records)[used], axis=0)
    sums = _by_row(f, sums).sum(axis=0)
    records = records[: f["rows"]]
    if f["merge"]:
        sums = sums + _spilled_rows(machine, f, spilled, records)
    if f["spill"]:
        _write_spilled(machine, f, spilled, records, wrap32(sums))
    else:
        _write_sums(machine, f, records, wrap32(sums))


def _check_reduce(machine: GoldenMachine, f: Fields) -> None:
    geometry = machine.geometry
    for name, values in (("mode", _MODES), ("source", _SOURCES)):
        if f[name] >= len(values):
            known = " or ".join(f"{value} ({text})" for value, text in enumerate(values))
            raise machine.error(f"{name} {f[name]}", f"{name} {known}")
    if f["groups"] > geometry.agg_groups:
        raise machine.error(f"{f['groups']} groups", f"at most {geometry.agg_groups}, the design's agg_groups")
    if _SOURCES[f["source"]] != "dram" and not geometry.feature_words:
        raise machine.error(f"source {_SOURCES[f['source']]}", "a design with a scratchpad")
    if f["from_fifo"] and (f["weighted"] or _SOURCES[f["source"]] == "schedule"):
        raise machine.error("rows_fifo with weights or a schedule", "ids alone")
    if f["weighted"] and not (geometry.agg_weights and _SOURCES[f["source"]] != "schedule"):
        raise machine.error("weights", "a design with agg_weights, and no schedule")
    merges = f["merge"] | (_parts(machine, f) > 1)
    held = f["rows"] * f["groups"] * (1 + (merges & f["accumulate"] & ~f["spill"]))
    if held > geometry.sum_words:
        raise machine.error(f"{held} words of sums", f"at most {geometry.sum_words}, the sum_words")


def _parts(machine: GoldenMachine, f: Fields) -> int:
    """Runs that an instruction takes of each destination: with few rows they would follow each other too closely."""
    word = machine.words("agg_context", _CONTEXT_WORDS * f["slot"] + 1, 1)[0]
    few = f["rows"] < _PART_ROWS or f.get("from_fifo", 0)
    return 1 if few else 1 + _context(word, "configure_destinations")["parts"]


def _by_row(f: Fields, values: Integers) -> Integers:
    """What is of each record as ``[parts, rows, ...]``."""
    return values.reshape(-1, f["rows"], *values.shape[1:]) if f["rows"] else values[np.newaxis]


def _destinations(machine: GoldenMachine, f: Fields, array: Fields) -> npt.NDArray[Any]:
    """Records of the destinations or runs, part after part, with a field ``row`` and a count of ``units``."""
    end = f["destination"] + f["rows"]
    if end > array["count"]:
        raise machine.error(f"destinations up to {end - 1}", f"destinations below {array['count']}")
    scheduled = _SOURCES[f["source"]] == "schedule"
    record = _RUN if scheduled else _DESTINATION
    size, parts = record.bytes, _parts(machine, f)
    count = f["rows"] * parts
    if count > _AGG_RUNS or (scheduled and parts > 1):
        raise machine.error(f"{f['rows']} rows in {parts} parts", f"at most {_AGG_RUNS} records, and no schedule")
    first = array["address"] + size * (1 + array["parts"]) * f["destination"]
    content = machine.dram(first, count, size, size)
    stored = np.ascontiguousarray(content).view(record.dtype).reshape(count)
    for name in ("reciprocal", "exponent"):
        bits = record.bits(name)
        if np.any(stored[name] >> bits):
            raise machine.error(f"{name} {stored[name].max()}", f"{bits} bits")
    records = np.zeros(count, _RUN.dtype)
    for name in stored.dtype.names or ():
        records[name] = stored[name]
    if not scheduled:
        rows = f["destination"] + np.arange(f["rows"])
        records["units"], records["row"] = records["degree"], np.tile(rows, parts)
    gaps = np.flatnonzero(records["first"][:-1] + records["units"][:-1] != records["first"][1:])
    if len(gaps):
        row = f["destination"] + int(gaps[0])
        raise machine.error(f"destination {row + 1}", f"one whose edges follow those of destination {row}")
    return records


def _rows_from_fifo(machine: GoldenMachine, f: Fields, features: Fields) -> tuple[npt.NDArray[Any], Integers]:
    """Records and the row of each edge of destinations that come by rows_fifo."""
    fifo, records = machine.streams["rows_fifo"], np.zeros(f["rows"], _RUN.dtype)
    ids: list[int] = []
    for row in range(f["rows"]):
        if not fifo or len(fifo) <= fifo[0]:
            raise machine.error(
                f"row {row} of rows_fifo, which lacks it", "as many rows as instructions before it send"
            )
        records["degree"][row] = fifo.popleft()
        ids += [fifo.popleft() for _ in range(records["degree"][row])]
    records["reciprocal"], records["exponent"] = reciprocals(records["degree"].astype(np.int64))
    records["row"] = f["destination"] + np.arange(f["rows"])
    if not ids or f["groups"] == 0:
        return records, np.zeros((0, f["groups"] * machine.geometry.lanes), np.int64)
    read = _tagged_rows if _SOURCES[f["source"]] == "tags" else _feature_rows
    return records, read(machine, f, features, np.array(ids, np.int64))


def _starts(records: npt.NDArray[Any]) -> Integers:
    """The first edge of each record among the edges of all, int64 ``[rows]``."""
    degree = records["degree"].astype(np.int64)
    return np.asarray(np.cumsum(degree) - degree)


def _edge_rows(
    machine: GoldenMachine, f: Fields, features: Fields, records: npt.NDArray[Any], array: Fields
) -> Integers:
    """The row of features of each edge times its weight, int64 ``[edges, channels]``."""
    edges = int(records["degree"].sum(dtype=np.int64))
    if edges == 0 or f["groups"] == 0:
        return np.zeros((0, f["groups"] * machine.geometry.lanes), np.int64)
    if array["id_bytes"] not in (2, 4):
        raise machine.error(f"ids of {array['id_bytes']} bytes", "ids of 2 or 4 bytes")
    first, count = int(records["first"][0]), int(records["units"].sum(dtype=np.int64))
    if first + count > array["edges"]:
        raise machine.error(f"edges up to {first + count - 1}", f"edges below {array['edges']}")
    match _SOURCES[f["source"]]:
        case "schedule":
            return _scheduled_rows(machine, f, features, _numbers_of(machine, array, first, count, 2), edges, array)
        case "tags":
            ids, weights = _weighted(f, _numbers_of(machine, array, first, count, array["id_bytes"]))
            return _tagged_rows(machine, f, features, ids) * _column(weights)
        case _:
            ids, weights = _weighted(f, _numbers_of(machine, array, first, count, array["id_bytes"]))
            return _feature_rows(machine, f, features, ids) * _column(weights)


def _numbers_of(machine: GoldenMachine, array: Fields, first: int, count: int, size: int) -> Integers:
    content = machine.dram(array["address"] + first * size, 1, 0, count * size)[0].tobytes()
    return np.frombuffer(content, f"<u{size}").astype(np.int64)


def _weighted(f: Fields, ids: Integers) -> tuple[Integers, Integers]:
    """Source vertices, and the weights of their edges, 1 without weights."""
    if not f["weighted"]:
        return ids, np.ones_like(ids)
    return ids & ((1 << _WEIGHT_PLACE) - 1), _signed(ids >> _WEIGHT_PLACE, 8)


def _feature_rows(machine: GoldenMachine, f: Fields, array: Fields, ids: Integers) -> Integers:
    """Rows of features from DRAM, int64 ``[ids, channels]``."""
    if ids.max() >= array["count"]:
        raise machine.error(f"source vertex {ids.max()}", f"source vertices below {array['count']}")
    stride = array["row_blocks"] * _BLOCK_BYTES
    rows = machine.dram(array["address"], int(ids.max()) + 1, stride, f["groups"] * machine.geometry.lanes)
    return rows[ids].view(_byte(f["unsigned"])).astype(np.int64)


def _tagged_rows(machine: GoldenMachine, f: Fields, array: Fields, ids: Integers) -> Integers:
    """Rows of features through the scratchpad, edge by edge, by its tags."""
    tags = machine.words("tag_ram", array["first_block"], 1 << array["slot_bits"])
    rows = np.zeros((len(ids), f["groups"] * machine.geometry.lanes), np.int64)
    for edge, vertex in enumerate(ids):
        slot = int(vertex) % len(tags)
        tag = tags[slot].view("<u4")
        if tag[0] != vertex + 1:
            _keep_row(machine, f, array, int(vertex), slot)
            tag[0], tag[1] = vertex + 1, 0
        rows[edge] = _slot(machine, f, array, slot).view(_byte(f["unsigned"]))
    return rows


def _scheduled_rows(
    machine: GoldenMachine, f: Fields, array: Fields, units: Integers, edges: int, ids: Fields
) -> Integers:
    """Rows of features through the scratchpad, edge by edge, as the units of a schedule say."""
    rows = np.zeros((edges, f["groups"] * machine.geometry.lanes), np.int64)
    place = 0
    for edge in range(edges):
        unit, place = int(units[place]), place + 1
        vertex = 0
        if unit >= _UNIT_READS:
            halves = units[place : place + ids["id_bytes"] // 2]
            vertex, place = sum(int(half) << 16 * number for number, half in enumerate(halves)), place + len(halves)
        if unit == _UNIT_STREAMS:
            rows[edge] = _feature_rows(machine, f, array, np.array([vertex]))[0]
            continue
        slot = unit % _UNIT_READS
        if unit >= _UNIT_READS:
            _keep_row(machine, f, array, vertex, slot)
        rows[edge] = _slot(machine, f, array, slot).view(_byte(f["unsigned"]))
    if place != len(units):
        raise machine.error(f"{len(units)} units", f"{place}, those of {edges} edges")
    return rows


def _slot(machine: GoldenMachine, f: Fields, array: Fields, slot: int) -> Bytes:
    """A view of a row in the scratchpad, uint8 ``[channels]``."""
    word_beats, groups = machine.geometry.agg_word_beats, f["groups"]
    first = _WORDS_PER_TAG * array["first_block"] + slot * _slot_beats(groups, word_beats)
    start, end = first // word_beats, -(-(first + groups) // word_beats)
    words = machine.words("feature_ram", start, end - start)
    return words.reshape(-1)[_WORD_BYTES * (first % word_beats) :][: _WORD_BYTES * groups]


def _slot_beats(groups: int, word_beats: int) -> int:
    """Distance of two slots: whole words, or the least power of two that holds a row and divides a word."""
    if groups < word_beats:
        return int(1 << (max(groups, 1) - 1).bit_length())
    return -(-groups // word_beats) * word_beats


def _keep_row(machine: GoldenMachine, f: Fields, array: Fields, vertex: int, slot: int) -> None:
    row = _feature_rows(machine, f, array, np.array([vertex]))[0]
    _slot(machine, f, array, slot)[:] = row.astype(np.uint8)


def _spilled(machine: GoldenMachine, f: Fields, array: Fields, records: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """A view of all spilled sums, int32 ``[vertices, channels]``."""
    rows = int(records["row"].max(initial=0)) + 1
    if rows > array["count"]:
        raise machine.error(f"spilled row {rows - 1}", f"rows below {array['count']}")
    length = _NUMBER_BYTES * f["groups"] * machine.geometry.lanes
    return machine.dram(array["address"], rows, array["row_blocks"] * _BLOCK_BYTES, length).view("<i4")


def _spilled_rows(machine: GoldenMachine, f: Fields, array: Fields, records: npt.NDArray[Any]) -> Integers:
    return np.asarray(_spilled(machine, f, array, records)[records["row"]], np.int64)


def _write_spilled(machine: GoldenMachine, f: Fields, array: Fields, records: npt.NDArray[Any], sums: Integers) -> None:
    target = _spilled(machine, f, array, records)
    for record, values in zip(records, sums, strict=True):
        target[record["row"]] = values


def _write_sums(machine: GoldenMachine, f: Fields, records: npt.NDArray[Any], sums: Integers) -> None:
    """sum[r][c] = (accumulate ? sum[r][c] : 0) + t[c], t the sum or mean in Q.8, or the plain sum."""
    match _MODES[f["mode"]]:
        case "mean":
            terms = mean_q8(sums, _column(records["reciprocal"]), _column(records["exponent"]))
        case "sum":
            terms = sums << Q8_BITS
        case _:
            terms = sums
    places = records["row"].astype(np.int64) - f["destination"]
    if sorted(places) != list(range(f["rows"])):
        raise machine.error(
            f"runs of the rows {sorted(records['row'])}", f"each from {f['destination']} on once, in any order"
        )
    words = machine.words("sum_ram", f["sum"], f["rows"] * f["groups"])
    target = words.view("<i4").reshape(f["rows"], f["groups"] * machine.geometry.lanes)
    start = target[places].astype(np.int64) if f["accumulate"] else 0
    target[places] = wrap32(start + terms)


def configure_sources(machine: GoldenMachine, f: Fields) -> None:
    """Keeps the scores or keys of the sources of a context of scores."""
    _configure_scores(machine, f, 0)


def configure_targets(machine: GoldenMachine, f: Fields) -> None:
    """Keeps the scores or queries of the destinations of a context of scores."""
    _configure_scores(machine, f, 1)


def configure_types(machine: GoldenMachine, f: Fields) -> None:
    """Keeps the scores of the types of edges of a context of scores."""
    _configure_scores(machine, f, 2)


def _configure_scores(machine: GoldenMachine, f: Fields, word: int) -> None:
    _keep(machine, f, "agg_context", _CONTEXT_WORDS * f["scores"] + word)


def attend(machine: GoldenMachine, f: Fields) -> None:
    """Attention over each destination's edges: to sum_ram as weighted means in Q.8, or partials that are spilled."""
    names = ("configure_features", "configure_destinations", "configure_ids", "configure_spilled")
    words = machine.words("agg_context", _CONTEXT_WORDS * f["slot"], len(names))
    features, destinations, ids, spilled = (_context(word, name) for word, name in zip(words, names, strict=True))
    f = {**f, "groups": f["heads"] * f["head_groups"]}
    scores = _scores_context(machine, f)
    _check_attend(machine, f, scores)
    if f["rows"] == 0 or f["groups"] == 0:
        return
    records = _destinations(machine, f, destinations)
    vertices, types = _attended(machine, f, records, ids)
    logits = _logits(machine, f, scores, records, vertices, types)
    maxima = _maxima(machine, f, spilled, records, logits)
    if not f["weigh"]:
        stored = _spilled_maxima(machine, f, spilled)
        stored[...] = 0
        stored[:, : f["heads"]] = maxima
        return
    of_edges = np.repeat(records["row"].astype(np.int64) - f["destination"], records["degree"])
    weights = edge_weights(maxima[of_edges] - logits)
    sums = _weighted_sums(machine, f, features, records, vertices, weights)
    if f["merge"]:
        sums = sums + _partials(machine, f, spilled)
    if f["spill"]:
        _partials(machine, f, spilled)[...] = _wrap_partials(sums)
    else:
        _write_attention(machine, f, sums & _PARTIAL_MASK if f["unsigned"] else _wrap_partials(sums))


def _scores_context(machine: GoldenMachine, f: Fields) -> dict[str, Fields]:
    """Fields of a context of scores, and the beats of its rows."""
    names = ("sources", "targets", "types")
    words = machine.words("agg_context", _CONTEXT_WORDS * f["scores"], len(names))
    return {name: _context(word, f"configure_{name}") for word, name in zip(words, names, strict=True)}


def _score_beats(f: Fields, scores: dict[str, Fields]) -> int:
    """Beats of a row of scores, or of keys and queries."""
    if _KINDS[f["kind"]] == "dot":
        return f["heads"] * scores["sources"]["head_beats"]
    return -(-f["heads"] // _BEAT_SCORES)


def _check_attend(machine: GoldenMachine, f: Fields, scores: dict[str, Fields]) -> None:
    geometry = machine.geometry
    if f["kind"] >= len(_KINDS):
        known = " or ".join(f"{value} ({text})" for value, text in enumerate(_KINDS))
        raise machine.error(f"kind {f['kind']}", f"kind {known}")
    if f["heads"] > geometry.agg_heads:
        raise machine.error(f"{f['heads']} heads", f"at most {geometry.agg_heads}, the design's agg_heads")
    if f["groups"] > geometry.agg_groups:
        raise machine.error(f"{f['groups']} groups", f"at most {geometry.agg_groups}, the design's agg_groups")
    if f["source"] and not geometry.feature_words:
        raise machine.error("source tags", "a design with a scratchpad")
    if f["groups"] and not 1 <= _score_beats(f, scores) <= _SCORE_BEATS:
        raise machine.error(f"keys of {_score_beats(f, scores)} beats", f"1 to {_SCORE_BEATS}")
    passes = f["maxima"], f["weigh"], f["merge"], f["spill"]
    if passes[:2] == (0, 0) or (passes[:2] == (1, 1) and any(passes[2:])) or (passes[:2] == (1, 0) and not passes[3]):
        found = "maxima {}, weigh {}, merge {}, spill {}".format(*passes)
        raise machine.error(found, "both passes without merge and spill, maxima with spill, or weigh")
    held = f["rows"] * max(f["groups"], _score_beats(f, scores))
    most = min(_ATTEND_WORDS, geometry.sum_words)
    if held > most:
        raise machine.error(f"{held} words of sums or of targets", f"at most {most}")
    types = scores["types"]["count"] * _score_beats(f, scores) if _KINDS[f["kind"]] == "typed" else 0
    if types > _TYPE_BEATS:
        raise machine.error(f"{types} beats of scores of types", f"at most {_TYPE_BEATS}")


def _attended(machine: GoldenMachine, f: Fields, records: npt.NDArray[Any], array: Fields) -> tuple[Integers, Integers]:
    """The source vertex and the type of each edge, int64 ``[edges]`` each; the type is 0 in other kinds."""
    typed = _KINDS[f["kind"]] == "typed"
    if array["id_bytes"] not in ((4,) if typed else (2, 4)):
        raise machine.error(f"ids of {array['id_bytes']} bytes", f"ids of {'4' if typed else '2 or 4'} bytes")
    first, count = int(records["first"][0]), int(records["degree"].sum(dtype=np.int64))
    if first + count > array["edges"]:
        raise machine.error(f"edges up to {first + count - 1}", f"edges below {array['edges']}")
    ids = _numbers_of(machine, array, first, count, array["id_bytes"])
    return (ids & ((1 << _WEIGHT_PLACE) - 1), ids >> _WEIGHT_PLACE) if typed else (ids, np.zeros_like(ids))


def _logits(
    machine: GoldenMachine,
    f: Fields,
    scores: dict[str, Fields],
    records: npt.NDArray[Any],
    vertices: Integers,
    types: Integers,
) -> Integers:
    """The logit of each edge and head, int64 ``[edges, heads]``."""
    rows = np.repeat(records["row"].astype(np.int64), records["degree"])
    beats = _score_beats(f, scores)
    sources = _score_rows(machine, scores["sources"], vertices, beats)
    targets = _score_rows(machine, scores["targets"], rows, beats)
    if _KINDS[f["kind"]] == "dot":
        products = sources.view(np.int8).astype(np.int64) * targets.view(np.int8)
        dots = products.reshape(len(vertices), f["heads"], 8 * scores["sources"]["head_beats"]).sum(axis=2)
        return dot_logits(dots, f["factor"], f["shift"])
    total = sources.view("<i2").astype(np.int64) + targets.view("<i2")
    if _KINDS[f["kind"]] == "typed":
        array = {**scores["types"], "row_beats": beats}
        total = total + _score_rows(machine, array, types, beats).view("<i2")
    return additive_logits(total[:, : f["heads"]], f["factor"])


def _score_rows(machine: GoldenMachine, array: Fields, vertices: Integers, beats: int) -> Bytes:
    """Rows of scores, keys or queries, uint8 ``[vertices, bytes]``."""
    if len(vertices) and vertices.max() >= array["count"]:
        raise machine.error(f"row {vertices.max()} of scores", f"rows below {array['count']}")
    rows = int(vertices.max(initial=-1)) + 1
    stored = machine.dram(array["address"], rows, array["row_beats"] * _WORD_BYTES, beats * _WORD_BYTES)
    return np.ascontiguousarray(stored[vertices])


def _maxima(
    machine: GoldenMachine, f: Fields, spilled: Fields, records: npt.NDArray[Any], logits: Integers
) -> Integers:
    """The largest logit of each destination and head, int64 ``[rows, heads]``."""
    maxima = np.full((f["rows"], f["heads"]), NO_LOGIT, np.int64)
    if f["merge"] or not f["maxima"]:
        maxima[...] = _spilled_maxima(machine, f, spilled)[:, : f["heads"]]
    used = records["degree"] > 0
    if f["maxima"] and len(logits):
        of_runs = np.full((len(records), f["heads"]), NO_LOGIT, np.int64)
        of_runs[used] = np.maximum.reduceat(logits, _starts(records)[used], axis=0)
        maxima = np.maximum(maxima, _by_row(f, of_runs).max(axis=0))
    return maxima


def _weighted_sums(
    machine: GoldenMachine,
    f: Fields,
    features: Fields,
    records: npt.NDArray[Any],
    vertices: Integers,
    weights: Integers,
) -> Integers:
    """Numerators of each group's channels and their denominator, int64 ``[rows, groups, lanes + 1]``."""
    lanes = machine.geometry.lanes
    sums = np.zeros((len(records), f["groups"], lanes + 1), np.int64)
    if not len(vertices):
        return sums[: f["rows"]]
    read = _tagged_rows if f["source"] else _feature_rows
    rows = np.ones((len(vertices), f["groups"], lanes + 1), np.int64)
    rows[:, :, :lanes] = read(machine, f, features, vertices).reshape(len(vertices), f["groups"], lanes)
    weighted = rows * np.repeat(weights, f["head_groups"], axis=1)[:, :, np.newaxis]
    used = records["degree"] > 0
    sums[used] = np.add.reduceat(weighted, _starts(records)[used], axis=0)
    return np.asarray(_by_row(f, sums).sum(axis=0))


def _spilled_rows_of(machine: GoldenMachine, f: Fields, array: Fields, first: int, length: int) -> Bytes:
    """A view of bytes of the spilled row of each destination, uint8 ``[rows, length]``."""
    end = f["destination"] + f["rows"]
    if end > array["count"]:
        raise machine.error(f"spilled row {end - 1}", f"rows below {array['count']}")
    stride = array["row_blocks"] * _BLOCK_BYTES
    return machine.dram(array["address"] + f["destination"] * stride + first, f["rows"], stride, length)


def _spilled_maxima(machine: GoldenMachine, f: Fields, array: Fields) -> npt.NDArray[np.int16]:
    """A view of the spilled maxima, int16 ``[rows, 8]``."""
    return _spilled_rows_of(machine, f, array, 0, _MAXIMA_BYTES).view("<i2")


def _partials(machine: GoldenMachine, f: Fields, array: Fields) -> Integers:
    """A view of the spilled numerators and denominators, int64 ``[rows, groups, lanes + 1]``."""
    shape = f["rows"], f["groups"], machine.geometry.lanes + 1
    length = shape[1] * shape[2] * _WORD_BYTES
    stored: Integers = _spilled_rows_of(machine, f, array, _MAXIMA_BYTES, length).view("<i8")
    strides = stored.strides[0], shape[2] * _WORD_BYTES, _WORD_BYTES
    return np.lib.stride_tricks.as_strided(stored, shape, strides)


def _wrap_partials(sums: Integers) -> Integers:
    return np.asarray(_signed(sums & _PARTIAL_MASK, _PARTIAL_BITS))


def _write_attention(machine: GoldenMachine, f: Fields, sums: Integers) -> None:
    """sum[r][c] = (accumulate ? sum[r][c] : 0) + the weighted mean in Q.8."""
    results = attention_q8(sums[:, :, :-1], sums[:, :, -1:])
    target = machine.words("sum_ram", f["sum"], f["rows"] * f["groups"]).view("<i4").reshape(results.shape)
    start = target.astype(np.int64) if f["accumulate"] else 0
    target[...] = wrap32(start + results)


def configure_left(machine: GoldenMachine, f: Fields) -> None:
    """Keeps the left graph of a composition."""
    _configure_sgb(machine, f, 0)


def configure_right(machine: GoldenMachine, f: Fields) -> None:
    """Keeps the right graph of a composition."""
    _configure_sgb(machine, f, 1)


def configure_bitmap(machine: GoldenMachine, f: Fields) -> None:
    """Keeps columns and threshold of a composition."""
    _configure_sgb(machine, f, 2)


def _configure_sgb(machine: GoldenMachine, f: Fields, word: int) -> None:
    _keep(machine, f, "sgb_context", word)


def compose_graphs(machine: GoldenMachine, f: Fields) -> None:
    """The boolean product of the left and the right graph."""
    left, right, bitmap = _sgb_context(machine)
    if f["rows"] != left["rows"]:
        raise machine.error(f"{f['rows']} rows", f"{left['rows']}, as the left graph has")
    if bitmap["threshold"] > machine.geometry.sgb_ids:
        raise machine.error(f"threshold {bitmap['threshold']}", f"at most {machine.geometry.sgb_ids}, the sgb_ids")
    first, second = _sgb_graph(machine, left, right["rows"]), _sgb_graph(machine, right, bitmap["columns"])
    if bitmap["wide"]:
        for place, bits in _bitmaps(second).items():
            if not np.array_equal(machine.dram(bitmap["address"] + place, 1, 0, len(bits))[0], bits):
                raise machine.error("bitmaps of another graph", "those that widen writes for the right graph")
    product = compose(first, second, bitmap["threshold"])
    if f["to_fifo"]:
        for row in range(product.rows):
            ids = product.row(row).tolist()
            machine.streams["rows_fifo"].extend([len(ids), *ids])
    else:
        _write_adjacency(machine, f, product)


def transpose_graph(machine: GoldenMachine, f: Fields) -> None:
    """The left graph with every edge turned."""
    left, _, _ = _sgb_context(machine)
    _write_adjacency(machine, f, transpose(_sgb_graph(machine, left, f["rows"])))


def widen(machine: GoldenMachine, f: Fields) -> None:
    """Dense rows of the right graph as bitmaps."""
    _, right, bitmap = _sgb_context(machine)
    for place, bits in _bitmaps(_sgb_graph(machine, right, bitmap["columns"])).items():
        machine.dram(bitmap["address"] + place, 1, 0, len(bits))[0] = bits


def _bitmaps(graph: Adjacency) -> dict[int, Bytes]:
    """The dense rows of a graph in the layout 'bitmaps', by the first byte of each in the array."""
    words = -(-graph.columns // (8 * _WORD_BYTES))
    ids_per_beat = isa().size("beat_bytes") // _NUMBER_BYTES
    found = {}
    for row in np.flatnonzero(graph.out_degrees() > ids_per_beat * words).tolist():
        bits = np.zeros(8 * _WORD_BYTES * words, np.uint8)
        bits[graph.row(row)] = 1
        first_beat = -(-int(graph.starts[row]) // ids_per_beat)
        found[first_beat * isa().size("beat_bytes")] = np.packbits(bits, bitorder="little")
    return found


def configure_graph(machine: GoldenMachine, f: Fields) -> None:
    """Keeps a graph."""
    _keep(machine, f, "rst_context", 0)


def configure_turned(machine: GoldenMachine, f: Fields) -> None:
    """Keeps the same graph turned."""
    _keep(machine, f, "rst_context", 1)


def configure_matching(machine: GoldenMachine, f: Fields) -> None:
    """Keeps where a matching is."""
    _keep(machine, f, "rst_context", 2)


def configure_walk(machine: GoldenMachine, f: Fields) -> None:
    """Keeps where a walk is."""
    _keep(machine, f, "rst_context", 3)


def match_graph(machine: GoldenMachine, f: Fields) -> None:
    """A maximum matching from the rows of the graph, and the columns that failed searches have met."""
    graph = _rst_graph(machine, _rst_context(machine)[0], f["columns"])
    found = match(graph)
    _write_numbers(machine, f["address"], np.concatenate([found.columns % (_NO_VERTEX + 1), found.dead]))


def walk_graph(machine: GoldenMachine, f: Fields) -> None:
    """A breadth-first walk from row to row; rows are the destinations of the golden order."""
    sides = _rst_sides(machine)
    found = walk(sides)
    _write_order(machine, f["address"], found.destinations)
    _write_order(machine, f["address"] + _order_bytes(sides.destinations), found.sources)


def recouple(machine: GoldenMachine, f: Fields) -> None:
    """The edges in the three subgraphs of a matching's cover; columns are the sources of the golden order."""
    sides, (_, _, matching, walked) = _rst_sides(machine), _rst_context(machine)
    counts = (sides.sources, sides.destinations) if matching["of_turned"] else (sides.destinations, sides.sources)
    numbers = _numbers(machine, matching["address"], sum(counts)).astype(np.int64)
    pairs, marks = numbers[: counts[0]], numbers[counts[0] :]
    if np.any((pairs >= counts[1]) & (pairs != _NO_VERTEX)):
        raise machine.error("a pair with a column that is not there", f"columns below {counts[1]}")
    if np.any(marks > 1):
        raise machine.error(f"a mark of a matching of {marks.max()}", "0 or 1")
    dead = marks == 1
    rows = (pairs != _NO_VERTEX) & ~np.append(dead, False)[np.minimum(pairs, counts[1])]
    matched = sides.by_source if matching["of_turned"] else sides.by_destination
    if not np.all(np.repeat(rows, matched.out_degrees()) | dead[matched.ids]):
        raise machine.error("a matching that leaves an edge without a cover", "one that match has written")
    sources, destinations = (rows, dead) if matching["of_turned"] else (dead, rows)
    cover = Cover(sources, destinations, matched=int(np.count_nonzero(pairs != _NO_VERTEX)))
    community = Community(
        _read_order(machine, walked["address"], sides.destinations),
        _read_order(machine, walked["address"] + _order_bytes(sides.destinations), sides.sources),
        roots=np.zeros(0, np.int64),
    )
    edges = np.stack(three_subgraphs(sides, cover, community, bool(f["by_column"])), axis=1)
    _numbers(machine, f["address"], edges.size)[:] = edges.reshape(-1)


def grow_tiles(machine: GoldenMachine, f: Fields) -> None:
    """Rows with edges in the order in which tiles take them."""
    sides, most_first = _rst_sides(machine), bool(f["most_edges_first"])
    if f["stride"] == 0 or f["tile_rows"] == 0:
        raise machine.error("tiles of 0 rows or every 0th column", "at least 1")
    rows, columns = sides.by_destination, sides.by_source
    order = (
        grown_tiles(rows, columns, f["tile_rows"], most_first, stride=f["stride"])
        if f["grown"]
        else by_degree(rows, most_first)
    )
    _write_order(machine, f["address"], np.array(order, np.int64))


def _rst_context(machine: GoldenMachine) -> list[Fields]:
    names = ("configure_graph", "configure_turned", "configure_matching", "configure_walk")
    return [_context(word, name) for word, name in zip(machine.words("rst_context", 0, 4), names, strict=True)]


def _rst_graph(machine: GoldenMachine, graph: Fields, columns: int) -> Adjacency:
    for name, count in (("rows", graph["rows"]), ("columns", columns)):
        if count > machine.geometry.rst_vertices:
            raise machine.error(f"{count} {name}", f"at most {machine.geometry.rst_vertices}, the rst_vertices")
    found = _adjacency(machine, graph, columns)
    if len(np.unique(_edge_keys(found))) != found.edges:
        raise machine.error("an edge twice", "each edge once")
    return found


def _rst_sides(machine: GoldenMachine) -> Sides:
    """The graph by row as by destination, and turned as by source."""
    graph, turned, _, _ = _rst_context(machine)
    by_destination = _rst_graph(machine, graph, turned["rows"])
    sides = Sides(_rst_graph(machine, turned, graph["rows"]), by_destination)
    if not np.array_equal(np.sort(_edge_keys(sides.by_source)), np.sort(_edge_keys(transpose(sides.by_destination)))):
        raise machine.error("a turned graph with other edges", "the edges of the graph")
    return sides


def _edge_keys(graph: Adjacency) -> Integers:
    rows = np.repeat(np.arange(graph.rows), graph.out_degrees())
    return np.asarray(rows * max(graph.columns, 1) + graph.ids)


def _order_bytes(rows: int) -> int:
    """Bytes of the order of so many rows in a walk, up to the next block."""
    return -(-_NUMBER_BYTES * (rows + 1) // _BLOCK_BYTES) * _BLOCK_BYTES


def _read_order(machine: GoldenMachine, address: int, vertices: int) -> Integers:
    count = min(int(_numbers(machine, address, 1)[0]), vertices + 1)
    order = _numbers(machine, address, count + 1)[1:].astype(np.int64)
    if len(np.unique(order)) != count or np.any(order >= vertices):
        raise machine.error("a walk of other vertices", f"each vertex below {vertices} once at most")
    return order


def _write_order(machine: GoldenMachine, address: int, order: Integers) -> None:
    _write_numbers(machine, address, np.concatenate([[len(order)], order]))


def _write_numbers(machine: GoldenMachine, address: int, numbers: Integers) -> None:
    """Writes numbers in whole beats: what is left of the last one is zero."""
    target = _numbers(machine, address, len(numbers) + len(numbers) % 2)
    target[:] = 0
    target[: len(numbers)] = numbers


def _sgb_context(machine: GoldenMachine) -> list[Fields]:
    names = ("configure_left", "configure_right", "configure_bitmap")
    return [_context(word, name) for word, name in zip(machine.words("sgb_context", 0, 3), names, strict=True)]


def _sgb_graph(machine: GoldenMachine, graph: Fields, columns: int) -> Adjacency:
    if columns > machine.geometry.sgb_columns:
        raise machine.error(f"{columns} columns", f"at most {machine.geometry.sgb_columns}, the sgb_columns")
    return _adjacency(machine, graph, columns)


def _adjacency(machine: GoldenMachine, graph: Fields, columns: int) -> Adjacency:
    """A graph in the layout 'adjacency'."""
    starts = _graph_starts(machine, graph, graph["rows"] + 1).astype(np.int64)
    if starts[0] != 0 or np.any(np.diff(starts) < 0) or starts[-1] > graph["edges"]:
        raise machine.error("starts of a graph", f"starts that ascend from 0 to at most {graph['edges']}")
    ids = _graph_ids(machine, graph, int(starts[-1])).astype(np.int64)
    if np.any(ids >= columns):
        raise machine.error(f"id {ids.max()}", f"ids below {columns}")
    return Adjacency(starts, ids, columns)


def _graph_starts(machine: GoldenMachine, graph: Fields, count: int) -> npt.NDArray[np.uint32]:
    """A view of starts, uint32 ``[count]``."""
    return _numbers(machine, graph["address"], count)


def _graph_ids(machine: GoldenMachine, graph: Fields, count: int) -> npt.NDArray[np.uint32]:
    """A view of ids, uint32 ``[count]``."""
    blocks = -(-_NUMBER_BYTES * (graph["rows"] + 1) // _BLOCK_BYTES)
    return _numbers(machine, graph["address"] + blocks * _BLOCK_BYTES, count)


def _numbers(machine: GoldenMachine, address: int, count: int) -> npt.NDArray[np.uint32]:
    numbers: npt.NDArray[np.uint32] = machine.dram(address, 1, 0, _NUMBER_BYTES * count)[0].view("<u4")
    return numbers


def _write_adjacency(machine: GoldenMachine, f: Fields, graph: Adjacency) -> None:
    """Writes starts and ids in whole beats: what is left of the last one is zero."""
    kept = min(graph.edges, f["edges"])
    starts = _graph_starts(machine, f, graph.rows + 1 + (graph.rows + 1) % 2)
    ids = _graph_ids(machine, f, kept + kept % 2)
    starts[:], ids[:] = 0, 0
    starts[: graph.rows + 1], ids[:kept] = graph.starts, graph.ids[:kept]


def _context(word: Bytes, operation: str) -> Fields:
    """Fields of a kept configure instruction."""
    return _decode(isa().operation(operation).fields, int.from_bytes(word.tobytes(), "little"))


def _decode(fields: tuple[Field, ...], word: int) -> Fields:
    return {field.name: field.get(word) for field in fields}


def _column(values: npt.NDArray[Any]) -> Integers:
    return values.astype(np.int64)[:, np.newaxis]


def _byte(unsigned: int) -> type[np.uint8] | type[np.int8]:
    return np.uint8 if unsigned else np.int8


def _wait_unmatched(index: int, header: Fields, semaphore: int) -> StreamInvalidError:
    operation = isa().find(header["engine"], header["opcode"])
    name = operation.name if operation else f"engine {header['engine']}, opcode {header['opcode']}"
    return StreamInvalidError(
        f"instruction {index} ({name}) waits for semaphore {semaphore} without an earlier signal of its own",
        "an earlier signal for every wait, the n-th for the n-th",
        "signal the semaphore before the wait in program order",
    )


_FUNCTIONS: dict[str, Callable[[GoldenMachine, Fields], None]] = {
    "sync": sync,
    "load_activations": load_activations,
    "load_weights": load_weights,
    "load_planes": load_planes,
    "load_parameters": load_parameters,
    "configure_lines": configure_lines,
    "configure_windows": configure_windows,
    "load_lines": load_lines,
    "load_windows": load_windows,
    "load_residual": load_residual,
    "load_depthwise": load_depthwise,
    "load_function": load_function,
    "store_rows": store_rows,
    "store_runs": store_runs,
    "store_middle": store_middle,
    "matmul": matmul,
    "matmul_lines": matmul_lines,
    "matmul_planes": matmul_planes,
    "matmul_planes_lines": matmul_planes_lines,
    "requantize": vec_requantize,
    "combine": combine,
    "export_sums": export_sums,
    "export_accumulators": export_accumulators,
    "requantize_function": requantize_function,
    "combine_function": combine_function,
    "requantize_joined": requantize_joined,
    "requantize_joined_function": requantize_joined_function,
    "normalize": vec_normalize,
    "configure_pixels": configure_pixels,
    "configure_pool": configure_pool,
    "join": join,
    "pool_max": pool_max,
    "pool_average": pool_average,
    "depthwise": depthwise,
    "configure_features": configure_features,
    "configure_destinations": configure_destinations,
    "configure_ids": configure_ids,
    "configure_spilled": configure_spilled,
    "reduce": reduce,
    "configure_sources": configure_sources,
    "configure_targets": configure_targets,
    "configure_types": configure_types,
    "attend": attend,
    "configure_left": configure_left,
    "configure_right": configure_right,
    "configure_bitmap": configure_bitmap,
    "compose": compose_graphs,
    "transpose": transpose_graph,
    "widen": widen,
    "configure_graph": configure_graph,
    "configure_turned": configure_turned,
    "configure_matching": configure_matching,
    "configure_walk": configure_walk,
    "match": match_graph,
    "walk": walk_graph,
    "recouple": recouple,
    "grow_tiles": grow_tiles,
}
