# SPDX-License-Identifier: Apache-2.0
"""What AGG reads for a layer, edge set by edge set: rows of a tensor by a graph's edges, or of weights by features."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from hetfab.overlay.compiler.attention_passes import heads_of_pass
from hetfab.overlay.compiler.constants import Columns
from hetfab.overlay.compiler.emitter import Affine, tensor_address
from hetfab.overlay.compiler.lowered import (
    SCORE_BITS,
    Additive,
    DenseTerm,
    LoweredLayer,
    LoweredModel,
    Product,
    Stored,
)
from hetfab.overlay.compiler.tiling import ColumnRange
from hetfab.overlay.isa.arithmetic import Q8_BITS
from hetfab.overlay.isa.codec import AttendKind, Segment
from hetfab.overlay.isa.spec import isa
from hetfab.overlay.isa.words import program_address
from hetfab.overlay.layouts import blocks_of
from hetfab.overlay.program import Edges, Symbol, SymbolKind

_BEAT = isa().size("beat_bytes")
_BLOCK_BEATS = isa().block_bytes // _BEAT
#: Fraction bits of a logit.
_LOGIT_FRACTION = Q8_BITS


@dataclass(frozen=True)
class ScoreRows:
    """Rows of scores, keys or queries.

    Attributes:
        count: How many there are.
        row_beats: Distance of two, 0 where all are the first.
        address: Of the first.
    """

    count: int | Affine
    row_beats: int
    address: int | Affine


@dataclass(frozen=True)
class AttentionRead:
    """What one ``attend`` compares.

    Attributes:
        kind: What a logit is made of.
        sources: Scores or keys of the sources.
        targets: Scores or queries of the destinations.
        types: Scores of edge types, None for edges without types.
        heads: Number of heads.
        head_beats: Beats of keys of a head.
        factor: Slope below zero, or multiplier of a product.
        shift: Of a product.
    """

    kind: AttendKind
    sources: ScoreRows
    targets: ScoreRows
    types: ScoreRows | None
    heads: int
    head_beats: int
    factor: int
    shift: int


@dataclass(frozen=True)
class EdgeRead:
    """What one ``reduce`` sums.

    Attributes:
        edges: Name of the edge set.
        destination_type: Type of the vertices that it leads to.
        rows: Rows of the array that ids name.
        row_blocks: Length of a row in blocks.
        address: Of the first channel that is summed, in row 0.
        unsigned: Whether rows hold uint8.
        weighted: Whether ids hold weights.
        attention: What weights the rows instead of a mean, None for a mean.
    """

    edges: str
    destination_type: str
    rows: int | Affine
    row_blocks: int
    address: int | Affine
    unsigned: bool
    weighted: bool = False
    attention: AttentionRead | None = None

    @property
    def contexts(self) -> int:
        """Contexts of AGG that it takes."""
        return 1 if self.attention is None else 2


def target_beats(attention: Additive | Product, channels: int, width: int) -> int:
    """Beats of scores, or of queries, of a destination in a pass of ``width`` of the channels."""
    heads = heads_of_pass(attention, channels, width)
    return score_beats(heads) if isinstance(attention, Additive) else heads * _head_beats(attention)


def score_beats(heads: int) -> int:
    """Beats of a row of scores."""
    return -(-heads * SCORE_BITS // (8 * _BEAT))


def edges_of(layer: LoweredLayer, lowered: LoweredModel) -> list[Edges]:
    """The edge sets of a layer, in the order in which they are summed."""
    if layer.gathered and layer.dense is not None:
        return _feature_edges(layer, layer.dense, lowered)
    return [aggregation.edges for aggregation in layer.aggregations]


def edge_reads(
    layer: LoweredLayer,
    edges: Sequence[Edges],
    columns: Columns,
    node_types: Mapping[str, str],
    zeros: Callable[[], int],
) -> list[EdgeRead]:
    """What each edge set of a layer reads in one pass over the rows.

    Args:
        layer: The layer.
        edges: As ``edges_of`` gives them.
        columns: The output channels of the pass.
        node_types: Of each tensor.
        zeros: Gives the address of a block of zeros.
    """
    first, blocks = columns.range.first, blocks_of(layer.output.channels)
    if layer.gathered:
        address = program_address(Segment.CONSTANTS, columns.table + first)
        return [EdgeRead(e.name, e.destination_type, e.table_rows, blocks, address, False, e.weighted) for e in edges]
    return [
        EdgeRead(
            edges=each.edges.name,
            destination_type=each.edges.destination_type,
            rows=Affine(symbol=Symbol(SymbolKind.COUNT, each.edges.source_type)),
            row_blocks=blocks_of(each.input.channels),
            address=tensor_address(each.input.name, first),
            unsigned=not each.input.signed,
            weighted=each.edges.weighted,
            attention=None
            if each.attention is None
            else _attention_read(each.attention, node_types, each.edges, zeros, columns.range, each.input.channels),
        )
        for each in layer.aggregations
    ]


def _attention_read(
    attention: Additive | Product,
    node_types: Mapping[str, str],
    edges: Edges,
    zeros: Callable[[], int],
    chosen: ColumnRange,
    channels: int,
) -> AttentionRead:
    """Scores of an edge set, or its keys and queries, of the heads of a pass."""
    heads, first = heads_of_pass(attention, channels, chosen.count), chosen.first * attention.heads // channels
    head_beats = 0 if isinstance(attention, Additive) else _head_beats(attention)

    def rows(tensor: Stored | None, node_type: str) -> ScoreRows:
        count = Affine(symbol=Symbol(SymbolKind.COUNT, node_type))
        if tensor is None:
            return ScoreRows(count, 0, zeros())
        if tensor.bits == SCORE_BITS:
            return ScoreRows(count, score_beats(tensor.channels), tensor_address(tensor.name, first * SCORE_BITS // 8))
        address = tensor_address(tensor.name, first * head_beats * _BEAT)
        return ScoreRows(count, blocks_of(tensor.channels) * _BLOCK_BEATS, address)

    if isinstance(attention, Additive):
        types = None if attention.types is None else rows(attention.types, node_types[attention.types.name])
        ends = rows(attention.source, edges.source_type), rows(attention.destination, edges.destination_type)
        kind = AttendKind.ADD if types is None else AttendKind.TYPED
        return AttentionRead(kind, *ends, types, heads, 0, attention.slope, 0)
    multiplier, shift = product_scaling(attention.exponent)
    ends = rows(attention.keys, edges.source_type), rows(attention.queries, edges.destination_type)
    return AttentionRead(AttendKind.DOT, *ends, None, heads, head_beats, multiplier, shift)


def _head_beats(attention: Product) -> int:
    """Beats of a head's part of a key; a single head may end within one, as rows are padded with zeros."""
    return -(-attention.keys.channels // (attention.heads * _BEAT))


def product_scaling(exponent: int) -> tuple[int, int]:
    """Multiplier and shift that bring products of a scale ``2**exponent`` to Q.8."""
    right = -_LOGIT_FRACTION - exponent
    return (1, right) if right >= 0 else (1 << -right, 0)


def has_negated_rows(layer: LoweredLayer) -> bool:
    """Whether the table that a gathered layer reads has rows for negative features."""
    return layer.dense is not None and layer.dense.input.signed and not layer.weighted


def _feature_edges(layer: LoweredLayer, dense: DenseTerm, lowered: LoweredModel) -> list[Edges]:
    """The non-zeros of features in parts."""
    features, parts = dense.input.name, layer.parts
    rows = (len(dense.weight) - layer.leading) * (2 if has_negated_rows(layer) else 1)
    name = f"non-zeros of {features}"
    taken = {each.edges.name for layer in lowered.layers for each in layer.aggregations}
    while any(name in other for other in taken):
        name += "'"
    return [
        Edges(
            name=_part_name(f"weighted {name}" if layer.weighted else name, part, parts),
            relations=(),
            metapath=False,
            source_type="",
            destination_type=lowered.node_types[features],
            features=features,
            table_rows=rows,
            part=part,
            parts=parts,
            weighted=layer.weighted,
        )
        for part in range(parts)
    ]


def _part_name(name: str, part: int, parts: int) -> str:
    return name if parts == 1 else f"{name}, {part + 1} of {parts}"
