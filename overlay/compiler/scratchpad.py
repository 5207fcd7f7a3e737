# SPDX-License-Identifier: Apache-2.0
"""How the edge sets of a layer share AGG's scratchpad."""

from dataclasses import dataclass

from hetfab.overlay.design import Geometry
from hetfab.overlay.isa.codec import ReduceSource
from hetfab.overlay.isa.spec import isa
from hetfab.overlay.program import SymbolKind
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
    """

    source: ReduceSource
    blocks: int = 0
    slots: int = 0
    slot_bits: int = 0

    @property
    def scheduled_slots(self) -> int:
        """Slots that a schedule is made for, 0 without one."""
        return self.slots if self.source is ReduceSource.SCHEDULE else 0

    @property
    def arrays(self) -> tuple[SymbolKind, SymbolKind, SymbolKind]:
        """What AGG reads of the graph: records, entries of edges, and their number."""
        if self.source is ReduceSource.SCHEDULE:
            return SymbolKind.RUNS, SymbolKind.UNITS, SymbolKind.UNIT_COUNT
        return SymbolKind.DESTINATIONS, SymbolKind.IDS, SymbolKind.EDGES


def scratchpad_part(
    geometry: Geometry, source: ReduceSource, edge_sets: int, groups: int, *, shared: bool
) -> ScratchpadPart:
    """An equal part for each edge set, as tiles of destinations take turns; none where there is not one row for each.

    Args:
        geometry: Gives the scratchpad.
        source: How it is used.
        edge_sets: Edge sets of the layer.
        groups: Words of a row.
        shared: Whether edge sets use one context in turn, which leaves nothing from one tile to the next.
    """
    blocks = geometry.feature_words // _BLOCK_WORDS // max(edge_sets, 1)
    slots = min(blocks * _BLOCK_WORDS // groups, MOST_SLOTS)
    if source is ReduceSource.DRAM or shared or slots == 0:
        return ScratchpadPart(ReduceSource.DRAM)
    if source is ReduceSource.SCHEDULE:
        return ScratchpadPart(source, blocks, slots)
    slot_bits = min(min(slots, blocks).bit_length() - 1, _MOST_SLOT_BITS)
    return ScratchpadPart(source, blocks, 1 << slot_bits, slot_bits)
