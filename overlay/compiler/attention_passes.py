# SPDX-License-Identifier: Apache-2.0
"""Cuts attention into passes over the destinations where AGG's sums do not hold a row, or its heads are fewer.

Heads do not depend on each other, and channels of one head only on its weights, which each pass computes anew: any cut
gives the same bits. Scores are read by beats, so a pass of additive attention begins with one of their rows.
"""

from collections.abc import Sequence

from hetfab.overlay.compiler.lowered import SCORE_BITS, Additive, Product
from hetfab.overlay.design import Geometry
from hetfab.overlay.isa.spec import isa

_BEAT = isa().size("beat_bytes")
_SCORES_PER_BEAT = 8 * _BEAT // SCORE_BITS
_SUM_GROUPS = isa().operation("combine").field("sum_groups").largest + 1


def pass_channels(attentions: Sequence[Additive | Product], channels: int, output_bits: int, geometry: Geometry) -> int:
    """Channels of a pass of a layer's attentions: as many as fit, or all where no cut does.

    Args:
        attentions: All of the layer.
        channels: Of the layer.
        output_bits: Bits that an output value takes in DRAM.
        geometry: The design's geometry.
    """
    most = min(geometry.agg_groups, _SUM_GROUPS) * geometry.lanes
    for count in range(1, channels // geometry.lanes + 1):
        width = channels // count
        whole_beats = count == 1 or (width % geometry.lanes == 0 and width * output_bits % (8 * _BEAT) == 0)
        if channels % count or width > most or not whole_beats:
            continue
        if all(_takes(each, channels, width, geometry.agg_heads) for each in attentions):
            return width
    return channels


def heads_of_pass(attention: Additive | Product, channels: int, width: int) -> int:
    """Heads that a pass of some channels takes, or takes a part of."""
    return max(1, width * attention.heads // channels)


def fewest_heads(attention: Additive | Product) -> int:
    """The fewest heads that a pass can have."""
    if isinstance(attention, Product) or attention.heads == 1:
        return 1
    return _SCORES_PER_BEAT if _begins_beats(attention, _SCORES_PER_BEAT) else attention.heads


def _takes(attention: Additive | Product, channels: int, width: int, most_heads: int) -> bool:
    """Whether passes of a width are whole heads, or equal parts of one, whose scores a pass can name."""
    own = channels // attention.heads
    heads = heads_of_pass(attention, channels, width)
    even = attention.heads % heads == 0 if width % own == 0 else own % width == 0
    return even and heads <= most_heads and (isinstance(attention, Product) or _begins_beats(attention, heads))


def _begins_beats(attention: Additive, heads: int) -> bool:
    """Whether each pass of so many heads begins with a beat of the scores; rows of types stand for one pass only."""
    if attention.heads == heads:
        return True
    return attention.types is None and heads % _SCORES_PER_BEAT == 0 and attention.heads % heads == 0
