# SPDX-License-Identifier: Apache-2.0
"""How much device memory a stage needs for a range of its rows, from counts alone, and the ranges that fit.

Only numpy is needed.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hetfab.overlay.errors import LimitExceededError, counted
from hetfab.overlay.isa.spec import isa
from hetfab.overlay.layouts import MARKED_ID_BYTES, id_bytes, padded, stored_rows
from hetfab.overlay.parts import most_parts
from hetfab.overlay.program import Block, Part, Program, Symbol, SymbolKind
from hetfab.overlay.stages import ROWS, Role, Stage, sources_of

_INSTRUCTION_BYTES = 16
#: What a segment may take beyond its content: a board's memory is given in pages, with one between two pieces.
_SEGMENT_PADDING = 2 * 4096
_SEGMENTS = 8
#: Of a unit of a schedule: what it does, and the vertex that it reads, 16 or 32 bits.
_UNIT_BYTES = 2


def segment_bytes(sizes: Iterable[int]) -> int:
    """Device memory that pieces of these sizes take at most, in whichever segments they are."""
    block = isa().block_bytes
    return sum(max(padded(size, block), block) for size in sizes) + _SEGMENTS * _SEGMENT_PADDING


def whole_bytes(program: Program, counts: Mapping[str, int], edges: Mapping[str, int]) -> int:
    """About the device memory that a whole program needs for a graph, from counts.

    Args:
        program: The program.
        counts: Vertices of each node type, the program's stacks among them.
        edges: Edges of each edge set; of features, their non-zeros.
    """
    sizes = [program.constants.size, *_stream_sizes(program.blocks, counts)]
    for tensor in program.tensors:
        if tensor.segment in ("features", "activations", "output") and not tensor.whole:
            sizes.append(stored_rows(counts[tensor.node_type]) * tensor.row_bytes)
    for each in program.edges:
        source_rows = each.table_rows if each.features else counts[each.source_type]
        own = MARKED_ID_BYTES if each.weighted or each.typed else id_bytes(source_rows)
        sizes += _array_sizes(program, each.name, counts[each.destination_type], edges[each.name], own)
    return segment_bytes(sizes)


def _stream_sizes(blocks: Sequence[Block], counts: Mapping[str, int]) -> Iterator[int]:
    """Bytes of the instructions of each block, before the first waits are left out."""
    for block in blocks:
        full, tail = divmod(counts[block.node_type], block.tile_rows) if block.node_type else (0, 0)
        times = {Part.ONCE: 1, Part.FULL: full, Part.TAIL: int(tail > 0)}[block.part]
        yield times * len(block.words) * _INSTRUCTION_BYTES


def _array_sizes(program: Program, edges: str, rows: int, entries: int, own: int) -> list[int]:
    """Bytes of the arrays of an edge set that a program reads."""
    sizes = {
        SymbolKind.DESTINATIONS: rows * isa().record("destination").dtype.itemsize,
        SymbolKind.RUNS: rows * isa().record("run").dtype.itemsize,
        SymbolKind.IDS: entries * own,
        SymbolKind.UNITS: entries * (_UNIT_BYTES + own),
    }
    found = [symbol for symbol in program.symbols if symbol.name == edges and symbol.kind in sizes]
    return [sizes[symbol.kind] * _most_runs(symbol) for symbol in found]


def _most_runs(symbol: Symbol) -> int:
    """Records of a destination at most: one, or one of each part."""
    in_parts = symbol.kind is SymbolKind.DESTINATIONS and symbol.slots
    return most_parts(symbol.tile_rows) if in_parts else 1


@dataclass(frozen=True, eq=False)
class StageNeed:
    """What decides how much memory a stage needs.

    Attributes:
        stage: The stage.
        rows: How many it computes.
        edges: Of each of its edge sets, the edges into all rows before each one and into all: int64 [rows + 1].
        counts: Vertices of each type that edges lead from, and of each type that is read whole.
    """

    stage: Stage
    rows: int
    edges: Mapping[str, npt.NDArray[np.int64]]
    counts: Mapping[str, int]

    def bytes(self, first: int, last: int) -> int:
        """At most so many bytes of device memory for the rows from ``first`` to ``last - 1``.

        Edges that features become may be more than their non-zeros; they are counted as one each.
        """
        rows = last - first
        program = self.stage.program
        counts = {ROWS: rows} | dict(self.counts)
        sizes = [program.constants.size, *_stream_sizes(program.blocks, {ROWS: rows})]
        for node_type in {read.node_type for read in self.stage.read_as(Role.SOURCES)}:
            leading = sum(self._between(e.name, first, last) for e in self.stage.edges if e.source_type == node_type)
            counts[sources_of(node_type)] = min(leading, self.counts[node_type])
        for tensor in program.tensors:
            if tensor.segment in ("features", "output"):
                sizes.append(stored_rows(counts[tensor.node_type]) * tensor.row_bytes)
        for edges in program.edges:
            entries = self._between(edges.name, first, last)
            marked = edges.weighted or edges.typed
            source_rows = edges.table_rows if edges.features else counts[edges.source_type]
            own = MARKED_ID_BYTES if marked else id_bytes(source_rows)
            sizes += _array_sizes(program, edges.name, rows, entries, own)
        return segment_bytes(sizes)

    def ranges(self, limit: int) -> list[tuple[int, int]]:
        """The fewest ranges of rows, taken from the first row on, each of which needs at most ``limit`` bytes.

        Raises:
            LimitExceededError: A single row needs more; with the bytes.
        """
        found: list[tuple[int, int]] = []
        first = 0
        while first < self.rows:
            fits, beyond = first, self.rows + 1
            while beyond - fits > 1:
                middle = (fits + beyond) // 2
                fits, beyond = (middle, beyond) if self.bytes(first, middle) <= limit else (fits, middle)
            if fits == first:
                raise self._too_large(first, limit)
            found.append((first, fits))
            first = fits
        return found

    def _between(self, edges: str, first: int, last: int) -> int:
        return int(self.edges[edges][last] - self.edges[edges][first])

    def _too_large(self, row: int, limit: int) -> LimitExceededError:
        name = self.stage.output.name
        edges = sum(self._between(name, row, row + 1) for name in self.edges)
        return LimitExceededError(
            f"row {row} of the layer '{name}', with {counted(edges, 'edge')}, needs {self.bytes(row, row + 1):,} bytes "
            "of device memory",
            f"at most {limit:,} bytes for the rows of a part",
            "use a board with more contiguous memory, or give its kernel more CMA",
        )
