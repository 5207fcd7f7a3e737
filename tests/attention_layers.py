# SPDX-License-Identifier: Apache-2.0
"""Layers of attention for tests: random edges, scores and features, their result by the definition, and programs."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from hypothesis import strategies as st

from hetfab.overlay.isa import codec
from hetfab.overlay.isa.arithmetic import LARGEST_DEGREE
from hetfab.overlay.isa.attention import exponentials
from hetfab.overlay.isa.codec import AttendKind, AttendSource, Segment
from hetfab.overlay.isa.words import pack, program_address
from hetfab.overlay.layouts import destination_records
from hetfab.overlay.layouts import pack as pack_pieces

Array = npt.NDArray[Any]
#: Of the small design's scratchpad.
FIRST_BLOCK, SLOT_BITS = 4, 2
LARGEST_GAP = 2307


@dataclass(frozen=True, eq=False)
class Layer:
    """Edges by destination, and what attention over them reads.

    Attributes:
        indptr: First edge of each destination, and their end.
        sources: Source vertex of each edge.
        types: Type of each edge; zeros in other kinds than typed.
        features: int8 or uint8 [sources, heads * channels of a head].
        source_scores: int16 [sources, heads], or int8 [sources, heads * channels of a head's key].
        target_scores: Likewise of the destinations.
        type_scores: int16 [types, heads].
        kind: What logits are made of.
        heads: Number of heads.
        factor: The slope in units of 2^-12, or the multiplier of dot products.
        shift: Of dot products.
    """

    indptr: Array
    sources: Array
    types: Array
    features: Array
    source_scores: Array
    target_scores: Array
    type_scores: Array
    kind: AttendKind
    heads: int
    factor: int
    shift: int

    @property
    def destinations(self) -> int:
        return len(self.indptr) - 1

    @property
    def head_groups(self) -> int:
        return int(self.features.shape[1]) // (8 * self.heads)

    def logit(self, destination: int, edge: int, head: int) -> int:
        """The definition for one edge, in whole numbers of Python."""
        source = int(self.sources[edge])
        if self.kind is AttendKind.DOT:
            channels = slice(head * self._head_channels, (head + 1) * self._head_channels)
            key, query = (
                self.source_scores[source, channels].tolist(),
                self.target_scores[destination, channels].tolist(),
            )
            product = self.factor * sum(k * q for k, q in zip(key, query, strict=True))
            return _limited16(_half_to_even(product, 1 << self.shift))
        total = int(self.source_scores[source, head]) + int(self.target_scores[destination, head])
        if self.kind is AttendKind.TYPED:
            total += int(self.type_scores[self.types[edge], head])
        total = _limited16(total)
        return total if total >= 0 else (total * self.factor + 2048) // 4096

    def expected(self) -> Array:
        """The result by the definition, int64 [destinations, channels]: edge by edge, in whole numbers of Python."""
        table = exponentials().tolist()
        result = np.zeros((self.destinations, self.features.shape[1]), np.int64)
        width = 8 * self.head_groups
        for row, (first, end) in enumerate(zip(self.indptr[:-1], self.indptr[1:], strict=True)):
            for head in range(self.heads):
                logits = [self.logit(row, edge, head) for edge in range(first, end)]
                largest = max(logits, default=0)
                gaps = [largest - logit for logit in logits]
                weights = np.array([table[gap] if gap <= LARGEST_GAP else 0 for gap in gaps], np.int64)
                channels = slice(head * width, (head + 1) * width)
                values = self.features[self.sources[first:end], channels].astype(np.int64)
                numerators = (weights[:, None] * values).sum(axis=0).tolist()
                denominator = int(weights.sum())
                result[row, channels] = [_rounded(256 * num, denominator) for num in numerators]
        return result

    def part(self, chosen: Array) -> "Layer":
        """The same vertices with some of the edges, bool [edges]."""
        counts = np.add.reduceat(np.append(chosen, False).astype(np.int64), self.indptr[:-1]) * (
            np.diff(self.indptr) > 0
        )
        indptr = np.concatenate([[0], np.cumsum(counts)])
        return replace(self, indptr=indptr, sources=self.sources[chosen], types=self.types[chosen])

    def shuffled(self, random: np.random.Generator) -> "Layer":
        """The same edges, those of each destination in another order."""
        rows = np.repeat(np.arange(self.destinations), np.diff(self.indptr))
        order = np.lexsort((random.random(len(rows)), rows))
        return replace(self, sources=self.sources[order], types=self.types[order])

    @property
    def _head_channels(self) -> int:
        return int(self.source_scores.shape[1]) // self.heads


def _limited16(value: int) -> int:
    return max(-(1 << 15), min((1 << 15) - 1, value))


def _half_to_even(numerator: int, divisor: int) -> int:
    quotient, rest = divmod(2 * numerator + divisor, 2 * divisor)
    return quotient - (rest == 0 and quotient % 2)


def _rounded(numerator: int, denominator: int) -> int:
    """The quotient, halves up; 0 where the denominator is."""
    return (2 * numerator + denominator) // (2 * denominator) if denominator else 0


@st.composite
def layers(draw: st.DrawFn, most_groups: int = 8, fewest_rows: int = 1) -> Layer:
    """Degrees from 0 to many, scores that reach all limits, any number of heads."""
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    kind, heads = (
        draw(st.sampled_from(AttendKind)),
        draw(st.sampled_from([heads for heads in (1, 2, 3, 4, 5, 8) if heads <= most_groups])),
    )
    head_groups = draw(st.integers(1, most_groups // heads))
    key_groups = draw(st.integers(1, most_groups // heads))
    degrees = random.integers(
        0, draw(st.sampled_from([1, 4, 30])) + 1, draw(st.integers(fewest_rows, fewest_rows + 11))
    )
    if draw(st.booleans()):
        degrees[random.integers(len(degrees))] = 700
    vertices, types = draw(st.sampled_from([1, 5, 300])), draw(st.integers(1, 9))
    edges = int(degrees.sum())
    #: Of scores: small ones make all edges count, large ones reach the limits of 16 bits.
    span = draw(st.sampled_from([1, 300, 3000, 1 << 15]))

    def scores(rows: int) -> Array:
        if kind is AttendKind.DOT:
            return random.integers(-128, 128, (rows, 8 * heads * key_groups), np.int8)
        return random.integers(-span, span, (rows, heads), np.int16)

    feature_type = np.uint8 if draw(st.booleans()) else np.int8
    limits = np.iinfo(feature_type)
    slope = draw(st.sampled_from([0, 41, 819, 4096]))
    return Layer(
        np.concatenate([[0], np.cumsum(degrees)]),
        random.integers(0, vertices, edges),
        random.integers(0, types, edges) if kind is AttendKind.TYPED else np.zeros(edges, np.int64),
        random.integers(limits.min, limits.max + 1, (vertices, 8 * heads * head_groups), feature_type),
        scores(vertices),
        scores(len(degrees)),
        random.integers(-span, span, (types, heads), np.int16),
        kind,
        heads,
        draw(st.sampled_from([1, 256, 65_535])) if kind is AttendKind.DOT else slope,
        draw(st.sampled_from([0, 3, 8, 20])),
    )


@st.composite
def long_layers(draw: st.DrawFn) -> Layer:
    """One head, and a destination of up to the most edges among others of few."""
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    kind = draw(st.sampled_from(AttendKind))
    degrees = np.array([3, draw(st.sampled_from([511, 512, 513, 1025, 40_000, LARGEST_DEGREE])), 0, 5])
    vertices, types, edges = draw(st.sampled_from([2, 3000])), 3, int(degrees.sum())
    span = draw(st.sampled_from([1, 300, 1 << 15]))
    dot = kind is AttendKind.DOT

    def scores(rows: int) -> Array:
        if dot:
            return random.integers(-128, 128, (rows, 8), np.int8)
        return random.integers(-span, span, (rows, 1), np.int16)

    return Layer(
        np.concatenate([[0], np.cumsum(degrees)]),
        random.integers(0, vertices, edges),
        random.integers(0, types, edges) if kind is AttendKind.TYPED else np.zeros(edges, np.int64),
        random.integers(0, 256, (vertices, 8), np.uint8),
        scores(vertices),
        scores(len(degrees)),
        random.integers(-span, span, (types, 1), np.int16),
        kind,
        1,
        draw(st.sampled_from([1, 256])) if dot else draw(st.sampled_from([0, 819, 4096])),
        draw(st.sampled_from([0, 8])),
    )


class LayerProgram:
    """Instructions of a layer and the content of the segments that they read.

    Attributes:
        words: The instructions so far.
        dram: Content of each segment.
    """

    def __init__(
        self, layer: Layer, parts: list[Layer], *, row_gap: int = 0, records: list[Array] | None = None
    ) -> None:
        """Lays out the arrays of a layer whose edges are dealt to ``parts``, with these records or those of rows."""
        self._layer = layer
        self.words: list[int] = []
        beats = layer.source_scores.shape[1] // 8 if layer.kind is AttendKind.DOT else -(-layer.heads // 4)
        self._score_rows = [beats + row_gap, beats]
        rows = [
            _padded_rows(layer.source_scores, 8 * self._score_rows[0]),
            _padded_rows(layer.target_scores, 8 * beats),
            _padded_rows(layer.type_scores, 8 * -(-layer.heads // 4)),
        ]
        self._blocks = -(-layer.features.shape[1] // 64)
        features = _padded_rows(layer.features, 64 * self._blocks)
        content, self._places = pack_pieces([features, *rows])
        graph, self._graph = pack_pieces(
            [
                piece
                for number, part in enumerate(parts)
                for piece in (records[number] if records else _records(part), _ids(part))
            ]
        )
        self._partial_blocks = -(-(16 + 72 * layer.heads * layer.head_groups) // 64)
        spill = np.full(64 * self._partial_blocks * layer.destinations, 0xA5, np.uint8)
        self.dram = {segment: np.zeros(64, np.uint8) for segment in Segment}
        self.dram |= {Segment.ACTIVATIONS: content, Segment.GRAPH: graph, Segment.SPILL: spill}
        self._parts = parts

    def configure(self, part: int) -> None:
        """Contexts of the edges of a part."""
        layer = self._layer
        edges = self._parts[part]
        first, second = (program_address(Segment.GRAPH, place) for place in self._graph[2 * part : 2 * part + 2])
        places = [program_address(Segment.ACTIVATIONS, place) for place in self._places]
        width = 4 if layer.kind is AttendKind.TYPED else 2
        self.words += [
            codec.configure_features(
                slot=0,
                row_blocks=self._blocks,
                first_block=FIRST_BLOCK,
                slot_bits=SLOT_BITS,
                count=len(layer.features),
                address=places[0],
            ),
            codec.configure_destinations(slot=0, parts=0, count=layer.destinations, address=first),
            codec.configure_ids(slot=0, edges=len(edges.sources), id_bytes=width, address=second),
            codec.configure_spilled(
                slot=0,
                row_blocks=self._partial_blocks,
                count=layer.destinations,
                address=program_address(Segment.SPILL, 0),
            ),
            codec.configure_sources(
                scores=1,
                row_beats=self._score_rows[0],
                head_beats=self._score_rows[1] // layer.heads,
                count=len(layer.source_scores),
                address=places[1],
            ),
            codec.configure_targets(
                scores=1, row_beats=self._score_rows[1], count=layer.destinations, address=places[2]
            ),
            codec.configure_types(scores=1, count=len(layer.type_scores), address=places[3]),
        ]

    def attend(self, first: int, rows: int, **flags: int) -> None:
        """Attention of destinations ``first`` to ``first + rows - 1``; both passes unless flags say otherwise."""
        layer = self._layer
        fields = {
            "maxima": 1,
            "weigh": 1,
            "merge": 0,
            "spill": 0,
            "accumulate": 0,
            "source": AttendSource.DRAM,
            **flags,
        }
        self.words.append(
            codec.attend(
                slot=0,
                scores=1,
                rows=rows,
                kind=layer.kind,
                unsigned=int(layer.features.dtype == np.uint8),
                head_groups=layer.head_groups,
                destination=first,
                sum=0,
                heads=layer.heads,
                shift=layer.shift,
                factor=layer.factor,
                **fields,
            )
        )

    def finished(self) -> "LayerProgram":
        """With its instructions in the segment of programs."""
        self.dram[Segment.PROGRAM] = pack(self.words).view(np.uint8).reshape(-1)
        return self


def _padded_rows(rows: Array, width: int) -> Array:
    content = rows.reshape(len(rows), -1).view(np.uint8)
    padded = np.zeros((len(rows), width), np.uint8)
    padded[:, : content.shape[1]] = content
    return padded.reshape(-1)


def _records(layer: Layer) -> Array:
    return destination_records(layer.indptr)


def _ids(layer: Layer) -> Array:
    typed = layer.kind is AttendKind.TYPED
    ids: Array = (layer.sources | layer.types << 24).astype("<u4") if typed else layer.sources.astype("<u2")
    return ids.view(np.uint8)
