# SPDX-License-Identifier: Apache-2.0
"""The instructions of a convolution on one core: what LOAD brings, products, what VEC makes of them, what is stored.

A step is one tile and one range of output channels. What it loads comes before the results of the step before it, so
that LOAD never waits for VEC.
"""

import functools
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from hetfab.overlay.compiler.cnn.chip import Chip
from hetfab.overlay.compiler.cnn.conv import Conv
from hetfab.overlay.compiler.cnn.cores import slices
from hetfab.overlay.compiler.cnn.planning import Chunk, Job
from hetfab.overlay.compiler.cnn.strip_lines import Piece, line_beats, step_beats
from hetfab.overlay.compiler.cnn.strips import Segment, Tile
from hetfab.overlay.compiler.cnn.vector import Finishing
from hetfab.overlay.isa.codec import Segment as DramSegment
from hetfab.overlay.isa.spec import isa
from hetfab.overlay.isa.words import program_address
from hetfab.overlay.layouts import parameter_records

Pixels: TypeAlias = npt.NDArray[np.bool_]

_BEAT = 8
#: Steps whose results LOAD does not wait for yet, where it has other things to bring.

_LATEST = 40
#: Contexts of LOAD: each layer has one for either core, which layers far apart share.
_SLOTS = 1 << isa().operation("load_lines").field("slot").bits


@dataclass(frozen=True)
class Step:
    """A tile and a range of output channels."""

    tile: Tile
    chunk: Chunk


class ConvCode:
    """Emits one core's part of a convolution.

    Args:
        chip: Stream, buffers and constants.
        conv: The layer.
        job: What the core does of it.
        alone: Whether the other core does nothing of it.
    """

    def __init__(self, chip: Chip, conv: Conv, job: Job, *, alone: bool) -> None:
        self._chip = chip
        self._conv = conv
        self._job = job
        self._core = job.core
        self._planes = functools.cache(lambda chunk: job.core.planes(conv, chunk.first, chunk.last))
        self._parts = [(piece, part) for piece in job.pieces for part in job.parts(piece)]
        self._weights = {(chunk, part): self._laid_out(chunk, part) for chunk in job.chunks for _, part in self._parts}
        self._parameters = self._laid_out_parameters()
        self._finishing = Finishing(chip, conv, job, alone=alone)
        self._steps = self.steps()
        self._open = list(self._steps)
        self._latest: list[Step] = []
        #: Steps that are begun; the last of them, and its sums, whose results are not emitted.
        self._begun = 0
        self._unfinished: tuple[Step, int] | None = None
        self._cycles_before = 0.0
        #: Of each output pixel, steps that it waits for.
        self._awaited = np.zeros((conv.target.rows, conv.target.columns), np.int32)
        for step in self._steps:
            self._await(step, 1)

    def steps(self) -> list[Step]:
        """All steps: passes of channels, in each batches of tiles, in these all weights, for each all tiles."""
        job, tiles = self._job, self._job.tiles
        return [
            Step(tile, chunk)
            for first in range(0, len(job.chunks), job.chunk_pass)
            for start in range(0, len(tiles), job.batch)
            for chunk in job.chunks[first : first + job.chunk_pass]
            for tile in tiles[start : start + job.batch]
        ]

    @property
    def layer(self) -> int:
        """Number of the layer."""
        return self._conv.index

    @property
    def stays(self) -> dict[str, int]:
        """Words of its memories that it takes: all weights, and two tiles."""
        job = self._job
        weights = sum(self._chunk_words(chunk, piece) for chunk in job.chunks for piece in job.pieces)
        tiles = [
            sum((piece.lines[1] - piece.lines[0]) * self._line_words(tile, piece) for piece in job.pieces)
            for tile in job.tiles
        ]
        return {f"wgt_{self._core.letter}_ram": weights, f"act_{self._core.letter}_ram": 2 * max(tiles)}

    @property
    def total_cycles(self) -> float:
        """Of all steps, modelled."""
        return sum(self._cycles(step) for step in self.steps())

    @property
    def steps_left(self) -> int:
        """Steps of which something is not emitted."""
        return len(self._open)

    def pixels_read(self, steps: int) -> Pixels:
        """Input pixels that the next steps read, bool [rows, columns]."""
        found = np.zeros((self._conv.source.rows, self._conv.source.columns), np.bool_)
        for step in self._open[:steps]:
            for rows, columns in self._reads(step):
                found[rows, columns] = True
        return found

    def first_reads(self) -> npt.NDArray[np.float64]:
        """When each input pixel is first read, as a share of all steps, [rows, columns]."""
        found = np.ones((self._conv.source.rows, self._conv.source.columns))
        for number, step in reversed(list(enumerate(self._open))):
            for rows, columns in self._reads(step):
                found[rows, columns] = number / len(self._open)
        return found

    def _reads(self, step: Step) -> Iterator[tuple[slice, slice]]:
        conv = self._conv
        for one in step.tile.segments:
            row, column = one.row * conv.strides[0] - conv.above, one.column * conv.strides[1] - conv.left
            rows = row + (one.banks - 1) * conv.strides[0] + conv.lines
            columns = column + (step.tile.columns - 1) * conv.strides[1] + conv.taps
            yield slice(max(row, 0), max(rows, 0)), slice(max(column, 0), max(columns, 0))

    @property
    def source(self) -> str:
        """Name of the tensor that it reads."""
        return self._conv.source.name

    @property
    def target(self) -> str:
        """Name of the tensor that it writes."""
        return self._conv.target.name

    @property
    def residual(self) -> str | None:
        """Name of the tensor that is added, None without."""
        return None if self._conv.residual is None else self._conv.residual.name

    def pending(self) -> Pixels:
        """Output pixels of which something is not emitted, or was only just, bool [rows, columns]."""
        return self._awaited > 0

    def _await(self, step: Step, times: int) -> None:
        for one in step.tile.segments:
            self._awaited[one.row : one.row + one.banks, one.column : one.column + step.tile.columns] += times

    def prefetch(self, running: Collection[int] = ()) -> None:
        """Brings parameters, and weights as far as their memory has room, before the layer's input is complete.

        Args:
            running: Layers whose weights stay.
        """
        self._load_parameters(self._job.chunks[0])
        buffer, taken = self._chip.buffer("wgt", self._core), 0
        self._begin_weights(self._job.chunks[: self._job.chunk_pass])
        for chunk in self._job.chunks if len(self._job.pieces) == 1 else ():
            for part in self._job.parts(self._job.pieces[0]):
                words = self._chunk_words(chunk, part)
                taken += words
                if taken > buffer.words or not buffer.spares(words, running):
                    return
                self._load_weights(chunk, part)

    @property
    def waits_for_all(self) -> bool:
        """Whether its first step needs all of its input, so that LOAD may wait with it."""
        return len(self._job.tiles) == self._job.batch

    @property
    def time(self) -> float | None:
        """Cycles of the core until its next step, modelled; None when everything is emitted."""
        return None if self._begun == len(self._steps) and self._unfinished is None else self._cycles_before

    def ready(self, complete: Pixels) -> int:
        """How many of the next steps read nothing but input pixels that are complete."""
        for number, step in enumerate(self._steps[self._begun :]):
            if not all(complete[rows, columns].all() for rows, columns in self._reads(step)):
                return number
        return len(self._steps) - self._begun

    def advance(self, beside: Sequence["ConvCode"] = ()) -> None:
        """Emits the next step, and the results of the one before; behind the last step only these.

        Args:
            beside: What it takes turns with.
        """
        if self._begun == len(self._steps):
            self.finish()
            return
        step = self._steps[self._begun]
        self._begin(step)
        places = self._load(step, 0)
        # A core has places for the sums of two steps, whichever convolutions they are of.
        for other in (*beside, self):
            if other._core == self._core:
                other.finish()
        acc = self._accumulators(step)
        for number in range(len(self._parts)):
            weights, activations = places if number == 0 else self._load(step, number)
            self._multiply(step, number, (weights, activations, acc))
        self._begun += 1
        self._unfinished = step, acc
        self._cycles_before += self._cycles(step)

    def finish(self) -> None:
        """Emits the results of the last step; nothing else may take its sums' place before."""
        if self._unfinished is not None:
            self._finish(*self._unfinished)
            self._unfinished = None

    def _load(self, step: Step, number: int) -> tuple[int, int]:
        """Brings what a part of the window needs; the first words of its weights and of its activations."""
        piece, part = self._parts[number]
        weights, activations = self._load_weights(step.chunk, part), self._load_tile(step.tile, piece)
        return weights, activations + (part.lines[0] - piece.lines[0]) * self._line_words(step.tile, piece)

    def _begin(self, step: Step) -> None:
        """Finds room for all that stays together: the tiles of a batch, the weights of a pass."""
        job, buffer = self._job, self._chip.buffer("act", self._core)
        number = job.tiles.index(step.tile)
        if number % job.batch == 0 and buffer.find((self._conv.index, step.tile, job.pieces[0])) is None:
            batch = job.tiles[number : number + job.batch]
            lines = [(piece.lines[1] - piece.lines[0], piece) for piece in job.pieces]
            buffer.begin(sum(count * self._line_words(tile, piece) for tile in batch for count, piece in lines))
        number = job.chunks.index(step.chunk)
        first = self._conv.index, step.chunk, job.parts(job.pieces[0])[0]
        if number and number % job.chunk_pass == 0 and self._chip.buffer("wgt", self._core).find(first) is None:
            self._begin_weights(job.chunks[number : number + job.chunk_pass])

    def _begin_weights(self, chunks: Sequence[Chunk]) -> None:
        """Finds room for weights that stay while tiles pass; those of one batch of tiles do not."""
        words = sum(self._chunk_words(chunk, piece) for chunk in chunks for piece in self._job.pieces)
        buffer = self._chip.buffer("wgt", self._core)
        if words <= buffer.words and self._job.batch < len(self._job.tiles):
            key = self._conv.index, chunks[0], self._job.parts(self._job.pieces[0])[0]
            if buffer.find(key) is None:
                buffer.begin(words)

    def _cycles(self, step: Step) -> float:
        """What the core takes for a step, modelled."""
        beats = sum((piece.lines[1] - piece.lines[0]) * self._beats(piece) for piece in self._job.pieces)
        trips = max(self._core.steps(self._conv, beats, self._planes(step.chunk)), step.tile.banks)
        return step.tile.columns * self._column_groups(step.chunk) * trips

    def _finish(self, step: Step, acc: int) -> None:
        self._finishing.finish(step.tile, step.chunk, acc, self._load_parameters(step.chunk))
        self._open.remove(step)
        self._latest.append(step)
        while len(self._latest) > (_LATEST if self._open else 0):
            self._await(self._latest.pop(0), -1)

    def _accumulators(self, step: Step) -> int:
        words = step.tile.pixels * self._column_groups(step.chunk)
        return self._chip.buffer("acc", self._core).take(words)

    def _column_groups(self, chunk: Chunk) -> int:
        return -(-(chunk.last - chunk.first) // self._core.columns)

    def _beats(self, piece: Piece) -> int:
        """Beats that a window takes of a line."""
        return self._core.run_beats(self._conv, piece.taps[1] - piece.taps[0])

    def _line_words(self, tile: Tile, piece: Piece) -> int:
        """Words of a bank from a line to the next."""
        return line_beats(self._core, self._conv, piece, tile.columns) // self._core.line_unit

    def _chunk_words(self, chunk: Chunk, piece: Piece) -> int:
        beats = (piece.lines[1] - piece.lines[0]) * self._beats(piece)
        return self._column_groups(chunk) * self._core.weight_words(self._conv, beats, self._planes(chunk))

    def _laid_out(self, chunk: Chunk, piece: Piece) -> int:
        content = self._core.laid_out(self._conv, chunk.first, chunk.last, slice(*piece.lines), slice(*piece.taps))
        return self._chip.constants.add(content)

    def _laid_out_parameters(self) -> dict[Chunk | None, tuple[int, int]]:
        """Offset and words of bias and multipliers: of each chunk, and under None of all, which follow each other."""
        lanes = self._chip.geometry.lanes
        records, words = [], []
        for chunk in self._job.chunks:
            bias = self._core.bias(self._conv, chunk.first, chunk.last)
            multiplier = self._conv.multiplier[chunk.first : chunk.last]
            records.append(parameter_records(bias, multiplier if multiplier.size else np.zeros_like(bias), lanes))
            words.append(records[-1].size // (_BEAT * lanes))
        offset = self._chip.constants.add(np.concatenate(records))
        starts = np.cumsum([0, *words]).tolist()
        found: dict[Chunk | None, tuple[int, int]] = {None: (offset, starts[-1])}
        for chunk, start, count in zip(self._job.chunks, starts, words, strict=False):
            found[chunk] = offset + start * _BEAT * lanes, count
        return found

    def _load_parameters(self, chunk: Chunk) -> int:
        """The first word of a chunk's parameters; brings them, of all chunks where they fit, unless they are there."""
        buffer, offset = self._chip.buffers["par_ram"], self._parameters[None][0]
        whole = self._parameters[None][1] <= buffer.words
        brought = None if whole else chunk
        before = (self._parameters[chunk][0] - offset) // (_BEAT * self._chip.geometry.lanes) if whole else 0
        key = self._conv.index, self._core.letter, brought
        found = buffer.find(key)
        if found is not None:
            return found + before
        start, words = self._parameters[brought]
        ram = buffer.take(words, key)
        address = program_address(DramSegment.CONSTANTS, start)
        self._chip.emit(self._conv.index, "load_parameters", ram=ram, words=words, address=address)
        return ram + before

    def _load_weights(self, chunk: Chunk, piece: Piece) -> int:
        """The first word of some weights; brings them unless they are there."""
        buffer, key = self._chip.buffer("wgt", self._core), (self._conv.index, chunk, piece)
        found = buffer.find(key)
        if found is not None:
            return found
        words = self._chunk_words(chunk, piece)
        ram = buffer.take(words, key)
        operation = "load_planes" if self._core.on_l else "load_weights"
        address = program_address(DramSegment.CONSTANTS, self._weights[chunk, piece])
        self._chip.emit(self._conv.index, operation, ram=ram, words=words, address=address)
        return ram

    def _load_tile(self, tile: Tile, piece: Piece) -> int:
        """The first word of a tile's lines; brings them unless they are there."""
        buffer, key = self._chip.buffer("act", self._core), (self._conv.index, tile, piece)
        found = buffer.find(key)
        if found is not None:
            return found
        lines = piece.lines[1] - piece.lines[0]
        beats = line_beats(self._core, self._conv, piece, tile.columns)
        ram = buffer.take(lines * beats // self._core.line_unit, key)
        for segment in tile.segments:
            if self._conv.gathered:
                self._load_windows(tile, segment, piece, ram)
            else:
                self._load_lines(tile, segment, piece, ram)
        return ram

    def _configure(self, operation: str, fields: dict[str, int]) -> int:
        """Fills the core's context of LOAD unless it holds this; returns its number."""
        slot = (2 * self._conv.index + self._core.on_l) % _SLOTS
        self._chip.configure_load(self._conv.index, operation, slot, core=int(self._core.on_l), **fields)
        return slot

    def _load_lines(self, tile: Tile, segment: Segment, piece: Piece, ram: int) -> None:
        conv, source = self._conv, self._conv.source
        lines, taps = piece.lines[1] - piece.lines[0], piece.taps[1] - piece.taps[0]
        slot = self._configure(
            "configure_lines",
            {
                "packed": int(source.packed),
                "kernel_lines": lines,
                "line_stride": conv.strides[0],
                "line_beats": line_beats(self._core, conv, piece, tile.columns),
                "stride_blocks": source.row_blocks,
            },
        )
        row = segment.row * conv.strides[0] - conv.above + piece.lines[0]
        column = segment.column * conv.strides[1] - conv.left + piece.taps[0]
        rows = _inside(row, (segment.banks - 1) * conv.strides[0] + lines, source.rows)
        columns = _inside(column, (tile.columns - 1) * conv.strides[1] + taps, source.columns)
        self._chip.emit(
            conv.index,
            "load_lines",
            ram=ram,
            lines=rows.count,
            first_bank=segment.bank,
            banks=segment.banks,
            top=rows.before,
            slot=slot,
            left=columns.before * source.pixel_beats if columns.count else 0,
            beats=columns.count * source.pixel_beats,
            address=source.address(rows.first, columns.first),
        )

    def _load_windows(self, tile: Tile, segment: Segment, piece: Piece, ram: int) -> None:
        conv, source = self._conv, self._conv.source
        lines = piece.lines[1] - piece.lines[0]
        step = conv.strides[1] * source.channels
        run_beats = self._beats(piece)
        slot = self._configure(
            "configure_windows",
            {
                "kernel_lines": lines,
                "line_stride": conv.strides[0],
                "run_beats": run_beats,
                "step_bytes": step,
                "stride_blocks": source.row_blocks,
            },
        )
        row, byte = segment.row * conv.strides[0] + piece.lines[0], segment.column * step
        self._chip.emit(
            conv.index,
            "load_windows",
            ram=ram,
            lines=(segment.banks - 1) * conv.strides[0] + lines,
            first_bank=segment.bank,
            banks=segment.banks,
            offset=byte % _BEAT,
            slot=slot,
            beats=-(-(byte % _BEAT + (tile.columns - 1) * step) // _BEAT) + run_beats,
            columns=tile.columns - 1,
            address=source.address(row, 0, byte // _BEAT),
        )

    def _multiply(self, step: Step, number: int, places: tuple[int, int, int]) -> None:
        conv, core, tile = self._conv, self._core, step.tile
        whole, piece = self._parts[number]
        weights, activations, acc = places
        beats = self._beats(piece)
        planes = self._planes(step.chunk)
        own = {"slices": slices(conv), "bipolar": int(planes == 1), "planes": planes}
        self._chip.emit(
            conv.index,
            "matmul_planes_lines" if core.on_l else "matmul_lines",
            act=activations,
            wgt=weights,
            accumulate=int(number > 0),
            unsigned=int(not conv.source.signed),
            acc=acc,
            banks=tile.banks,
            columns=tile.columns - 1,
            lines=piece.lines[1] - piece.lines[0],
            line_words=self._line_words(tile, whole),
            run=core.run(conv, beats),
            step_words=step_beats(core, conv, piece, tile.columns) // core.line_unit,
            col_groups=self._column_groups(step.chunk),
            **(own if core.on_l else {"packed": int(conv.source.packed)}),
        )


@dataclass(frozen=True)
class _Range:
    """The part of a range that lies on the image: how much is before it, its first place, its length."""

    before: int
    first: int
    count: int


def _inside(start: int, length: int, size: int) -> _Range:
    first, last = max(start, 0), min(start + length, size)
    count = max(last - first, 0)
    return _Range(min(max(-start, 0), length), min(first, size - 1), count)
