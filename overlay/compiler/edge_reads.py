# SPDX-License-Identifier: Apache-2.0
"""What AGG reads for a layer, edge set by edge set: rows of a tensor by a graph's edges, or of weights by features."""

from collections.abc import Sequence
from dataclasses import dataclass

from hetfab.overlay.compiler.constants import Columns
from hetfab.overlay.compiler.emitter import Affine, tensor_address
from hetfab.overlay.compiler.lowered import DenseTerm, LoweredLayer, LoweredModel
from hetfab.overlay.isa.codec import Segment
from hetfab.overlay.isa.words import program_address
from hetfab.overlay.layouts import blocks_of
from hetfab.overlay.program import Edges, Symbol, SymbolKind


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
    """

    edges: str
    destination_type: str
    rows: int | Affine
    row_blocks: int
    address: int | Affine
    unsigned: bool
    weighted: bool = False


def edges_of(layer: LoweredLayer, lowered: LoweredModel) -> list[Edges]:
    """The edge sets of a layer, in the order in which they are summed."""
    if layer.gathered and layer.dense is not None:
        return _feature_edges(layer, layer.dense, lowered)
    return [aggregation.edges for aggregation in layer.aggregations]


def edge_reads(layer: LoweredLayer, edges: Sequence[Edges], columns: Columns) -> list[EdgeRead]:
    """What each edge set of a layer reads in one pass over the rows.

    Args:
        layer: The layer.
        edges: As ``edges_of`` gives them.
        columns: The output channels of the pass.
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
        )
        for each in layer.aggregations
    ]


def has_negated_rows(layer: LoweredLayer) -> bool:
    """Whether the table that a gathered layer reads has rows for negative features."""
    return layer.dense is not None and layer.dense.input.signed and not layer.weighted


def _feature_edges(layer: LoweredLayer, dense: DenseTerm, lowered: LoweredModel) -> list[Edges]:
    """The non-zeros of features in parts."""
    features, parts = dense.input.name, layer.parts
    rows = len(dense.weight) * (2 if has_negated_rows(layer) else 1)
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
