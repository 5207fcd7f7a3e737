# SPDX-License-Identifier: Apache-2.0
"""How the edge sets of a layer share AGG's scratchpad."""

from collections.abc import Sequence
from dataclasses import dataclass

from hetfab.overlay.compiler.edge_reads import EdgeRead
from hetfab.overlay.design import Geometry
from hetfab.overlay.isa.codec import ReduceSource
from hetfab.overlay.isa.spec import isa
from hetfab.overlay.layouts import slot_beats
from hetfab.overlay.program import Symbol, SymbolKind
from hetfab.overlay.schedules import MOST_SLOTS

#: What the compiler takes: docs/aggregation.md has the figures.
DEFAULT_ROW_SOURCE = ReduceSource.SCHEDULE
_BLOCK_WORDS = 8
_MOST_SLOT_BITS = isa().operation("configure_features").field("slot_bits").largest


@dataclass(frozen=True)
class ScratchpadPart:
    """What one edge set has of the scratchpad.

    Attributes:
        source: Where its rows come from.
        blocks: Blocks of 8 words.
        slots: Rows that these hold; with tags a power of two.
        slot_bits: With tags, the logarithm of their number.
        first_block: The first block.
        tile_rows: Rows of a tile whose edges are in parts, each of the sources that fit; 0 where they are in none.
    """

    source: ReduceSource
    blocks: int = 0
    slots: int = 0
    slot_bits: int = 0
    first_block: int = 0
    tile_rows: int = 0

    def symbols(self, edges: str) -> tuple[Symbol, Symbol, Symbol]:
        """What AGG reads of an edge set: records, entries of edges, and their number."""
        if self.source is ReduceSource.SCHEDULE:
            kinds = SymbolKind.RUNS, SymbolKind.UNITS, SymbolKind.UNIT_COUNT
            records, entries, count = (Symbol(kind, edges, slots=self.slots) for kind in kinds)
            return records, entries, count
        of_parts = {"tile_rows": self.tile_rows, "slots": self.slots if self.tile_rows else 0}
        records, entries = (Symbol(kind, edges, **of_parts) for kind in (SymbolKind.DESTINATIONS, SymbolKind.IDS))
        return records, entries, Symbol(SymbolKind.EDGES, edges)


def places_in_scratchpad(reads: Sequence[EdgeRead], source: ReduceSource) -> list[int]:
    """Which part of the scratchpad each edge set of a layer has.

    Tags name vertices, so edge sets that read one tensor share a part: what one has loaded stays for the next. A
    schedule is made for one edge set and knows what its part holds.
    """
    tables = list(dict.fromkeys(read.address for read in reads))
    return [tables.index(read.address) if source is ReduceSource.TAGS else number for number, read in enumerate(reads)]


def scratchpad_part(
    geometry: Geometry, source: ReduceSource, parts: int, groups: int, *, shared: bool
) -> ScratchpadPart:
    """Equal parts, as tiles of destinations take turns; none where there is not one row for each.

    Args:
        geometry: Gives the scratchpad.
        source: How it is used.
        parts: How many are needed.
        groups: Words of a row.
        shared: Whether edge sets use one context in turn, which leaves nothing from one tile to the next.
    """
    blocks = geometry.feature_words // _BLOCK_WORDS // max(parts, 1)
    slots = min(blocks * _BLOCK_WORDS // slot_beats(groups, geometry.agg_word_beats), MOST_SLOTS)
    if source is ReduceSource.DRAM or shared or slots == 0:
        return ScratchpadPart(ReduceSource.DRAM)
    if source is ReduceSource.SCHEDULE:
        return ScratchpadPart(source, blocks, slots)
    slot_bits = min(min(slots, blocks).bit_length() - 1, _MOST_SLOT_BITS)
    return ScratchpadPart(source, blocks, 1 << slot_bits, slot_bits)
