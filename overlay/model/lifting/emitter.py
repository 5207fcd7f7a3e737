# SPDX-License-Identifier: Apache-2.0
"""Writes interpreted rows as a model in the domain ``hgnn``; a sum gets at most one dense term."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import onnx
import onnx.helper

from hetfab.overlay.model import hgnn
from hetfab.overlay.model.float_writer import GraphWriter
from hetfab.overlay.model.layers import attributes
from hetfab.overlay.model.lifting.linear import Atom, Linear, Matrix, Space, Sum, Term
from hetfab.overlay.model.lifting.values import (
    Additive,
    Applied,
    Array,
    Blocks,
    Dot,
    FusedParts,
    MeanOfParts,
    Segment,
    StackOf,
    Stored,
    Table,
    UnitRows,
    Weighted,
)

#: Aggregations that a dense layer behind them may move before.
_SUMS = Segment | Weighted
#: What a sum takes besides at most one dense term.
_AGGREGATIONS = Segment | Weighted | Additive | Dot | FusedParts


_NORM = "LayerNormalization"


@dataclass
class Emitter:
    """Makes each tensor that is read once.

    Attributes:
        edges: Names of edges in the lifted model, those of several blocks where one softmax goes over them.
        nodes_of: Input with the number of nodes of a type.
        taken: Names that the model's inputs have.
    """

    edges: Mapping[Blocks, str]
    taken: set[str]
    writer: GraphWriter = field(default_factory=GraphWriter)
    counts: dict[str, str] = field(default_factory=dict)
    used: dict[Blocks, bool] = field(default_factory=dict)
    last: Linear | None = None
    _made: dict[Any, str] = field(default_factory=dict)
    _kept: list[Any] = field(default_factory=list)

    def rows(self, linear: Linear, name: str = "") -> str:
        """The tensor [N, channels] that holds rows."""
        key = _key(linear)
        if key not in self._made:
            self._kept.append(linear)
            self._made[key] = self._sum(linear, self._fresh(name or linear.name or "rows"))
        return self._made[key]

    def finish(self, linear: Linear, output: str) -> None:
        """Makes the model's output, under its name."""
        self.last = self._ends_dense(linear)
        found = self.rows(self.last, output)
        for node in self.writer.nodes:
            for names in (node.input, node.output):
                for position, name in enumerate(names):
                    if name == found:
                        names[position] = output

    def _ends_dense(self, linear: Linear) -> Linear:
        """Gives a last sum of aggregations a dense term for its bias, which needs one at a model's end."""
        sums_alone = all(isinstance(term.atom.source, _AGGREGATIONS) for term in linear.terms)
        if linear.bias is None or not sums_alone or self._dense_terms(linear.terms):
            return linear
        identity = np.eye(linear.channels)
        inner = Linear(linear.terms, None, linear.channels, linear.space)
        return Linear((replace(inner.stored.terms[0], weight=identity),), linear.bias, linear.channels, linear.space)

    def _dense_terms(self, terms: Sequence[Term]) -> list[Term]:
        return [term for term in terms if term.weight is not None]

    def _sum(self, linear: Linear, name: str) -> str:
        direct = self._direct(linear, name)
        if direct is not None:
            return direct
        plain, weighted = self._arranged(linear)
        dense = _joined(self, weighted)
        bias = linear.bias
        names: list[str] = []
        for term in plain:
            names.append(self.atom(term.atom))
        for position, (operand, weight) in enumerate(dense):
            with_bias = bias if position == 0 else None
            alone = not names and len(dense) == 1
            names.append(self._dense(operand, weight, with_bias, name if alone else self._fresh(f"{name}.dense")))
            bias = None if position == 0 else bias
        last = names[0]
        for position, term_name in enumerate(names[1:], 2):
            whole = position == len(names) and bias is None
            last = self.writer.add("Add", [last, term_name], name if whole else self._fresh(f"{name}.sum"))
        if bias is not None:
            row = self._constant(f"{name}.bias", bias)
            last = self.writer.add("Add", [last, row], name)
        return last

    def _direct(self, linear: Linear, name: str) -> str | None:
        """Rows that need no sum: an atom, columns of several side by side, a product of rows that are there."""
        if linear.bias is None and len(linear.terms) == 1 and linear.terms[0].weight is None:
            return self.atom(linear.terms[0].atom, name)
        parts = _side_by_side(linear)
        if parts is not None:
            return self.writer.add("Concat", [self.rows(part) for part in parts], name, axis=1)
        return None

    def _arranged(self, linear: Linear) -> tuple[list[Term], list[Term]]:
        """Terms that are added as they are, and those with weights."""
        dense = self._dense_terms(linear.terms)
        stored = [
            term for term in linear.terms if term.weight is None and not isinstance(term.atom.source, _AGGREGATIONS)
        ]
        crowded = len(dense) + len(stored) > 1
        plain: list[Term] = []
        weighted: list[Term] = []
        for term in linear.terms:
            source, weight = term.atom.source, term.weight
            if weight is None and not (crowded and term in stored):
                plain.append(term)
            elif weight is not None and isinstance(source, _SUMS) and (crowded or self._narrows(linear, weight)):
                moved = replace(source, rows=source.rows.times(weight))
                plain.append(Term(Atom(moved, weight.shape[1], term.atom.space)))
            else:
                weighted.append(Term(term.atom, term.matrix()))
        return plain, weighted

    def _narrows(self, linear: Linear, weight: Matrix) -> bool:
        """Whether a product is better taken before the sum; at a model's end the bias needs it behind."""
        return weight.shape[1] < weight.shape[0] and not (linear is self.last and linear.bias is not None)

    def _dense(self, rows: str, weight: Matrix, bias: Matrix | None, name: str) -> str:
        matrix = self._constant(f"{name}.weight", weight)
        if bias is None:
            return self.writer.add("MatMul", [rows, matrix], name)
        products = self.writer.add("MatMul", [rows, matrix], self._fresh(f"{name}.products"))
        return self.writer.add("Add", [products, self._constant(f"{name}.bias", bias)], name)

    def atom(self, atom: Atom, name: str = "") -> str:
        """The tensor that holds an atom."""
        if id(atom) not in self._made:
            self._kept.append(atom)
            self._made[id(atom)] = self._atom(atom, name)
        return self._made[id(atom)]

    def _atom(self, atom: Atom, name: str) -> str:
        source = atom.source
        match source:
            case Stored():
                return source.name
            case Table():
                return self._constant(source.name, source.array)
            case Sum(rows):
                return self.rows(rows, name)
            case Applied():
                return self._applied(source)
            case Segment(block, rows, mean):
                return self._edges("SegMean" if mean else "SegSum", [self.rows(rows)], (block,), name)
            case Weighted(block, rows):
                return self._edges("SegSumWeighted", [self.rows(rows)], (block,), name, weighted=True)
            case Additive(blocks):
                values = self._heads(self._table(source.values, name), source.heads)
                scores = [self._table(source.sources, name), self.rows(source.destinations)]
                return self._edges("EdgeAtt", [values, *scores], blocks, name, slope=source.slope)
            case Dot(blocks):
                tables = [self.rows(source.queries), self._table(source.keys, name), self._table(source.values, name)]
                views = [self._heads(table, source.heads) for table in tables]
                return self._edges("EdgeDot", views, blocks, name)
        return self._of_parts(source, name)

    def _of_parts(self, source: Any, name: str) -> str:
        match source:
            case StackOf(parts):
                output = self._fresh(name or "stack")
                return self.writer.add("Concat", [self.rows(part) for part in parts], output, axis=0)
            case MeanOfParts(stack, parts):
                output = self._fresh(name or "part_mean")
                return self.writer.add("PartMean", [self.rows(stack)], output, hgnn.DOMAIN, parts=parts)
            case FusedParts(stack, weights, parts):
                inputs = [self.rows(stack), self.rows(weights)]
                return self.writer.add("Fuse", inputs, self._fresh(name or "fused"), hgnn.DOMAIN, parts=parts)
            case UnitRows(rows, smallest):
                return self._unit_rows(self.rows(rows), smallest, self._fresh(name or "unit"))
        raise TypeError(f"{source!r} is no source of rows")

    def _unit_rows(self, rows: str, smallest: float, output: str) -> str:
        length = self.writer.add("ReduceL2", [rows, self.writer.whole(1)], f"{output}.length")
        limit = self._constant(f"{output}.smallest", np.float32(smallest))
        return self.writer.add("Div", [rows, self.writer.add("Clip", [length, limit], f"{output}.limited")], output)

    def _applied(self, source: Applied) -> str:
        node, names = source.node, []
        for position, operand in enumerate(source.operands):
            if isinstance(operand, Linear):
                names.append(self.rows(_dense_if_mixed(operand) if node.op_type == _NORM else operand))
            else:
                empty = not node.input[position]
                names.append("" if empty else self._constant(node.input[position], operand, exact=True))
        output = self._fresh(node.output[0])
        return self.writer.add(node.op_type, names, output, node.domain, **attributes(node))

    def _edges(
        self, operator: str, inputs: list[str], blocks: Blocks, name: str, *, weighted: bool = False, **values: Any
    ) -> str:
        edges = self.edges[blocks]
        self.used[blocks] = self.used.get(blocks, False) or weighted
        ends = [f"src_{edges}", f"dst_{edges}", *([f"w_{edges}"] if weighted else [])]
        count = self._count(blocks[0].edges.destination)
        output = self._fresh(name or operator)
        return self.writer.add(operator, [*inputs, *ends, count], output, hgnn.DOMAIN, **values)

    def _count(self, space: Space) -> str:
        if space.node_type is not None:
            return self.counts.setdefault(space.node_type, f"n_{space.node_type}")
        return self.writer.constant(f"n_{space.rows}", np.array(space.rows or 0, np.int64))

    def _table(self, rows: Sequence[Linear], name: str) -> str:
        """Rows of the sources, relation after relation."""
        if len(rows) == 1:
            return self.rows(rows[0])
        output = self._fresh(f"{name or 'attention'}.table")
        return self.writer.add("Concat", [self.rows(part) for part in rows], output, axis=0)

    def _heads(self, rows: str, heads: int) -> str:
        return self.writer.add("Reshape", [rows, self.writer.whole(0, heads, -1)], self._fresh(f"{rows}.heads"))

    def _constant(self, name: str, array: Array | np.float32, *, exact: bool = False) -> str:
        if exact:
            return self.writer.constant(name, array)
        return self.writer.constant(name, np.asarray(array, np.float32))

    def _fresh(self, name: str) -> str:
        found, number = name, 1
        while found in self.taken:
            number += 1
            found = f"{name}.{number}"
        self.taken.add(found)
        return found


def _dense_if_mixed(linear: Linear) -> Linear:
    """A sum of aggregations and a dense term behind a dense layer: the overlay normalises one or the other."""
    aggregated = [isinstance(term.atom.source, _AGGREGATIONS) for term in linear.terms]
    if not any(aggregated) or (all(aggregated) and linear.bias is None):
        return linear
    return Linear(
        (replace(linear.stored.terms[0], weight=np.eye(linear.channels)),), None, linear.channels, linear.space
    )


def _key(linear: Linear) -> tuple[Any, ...]:
    """Equal for rows that are computed alike."""
    terms = sorted((id(term.atom), _bytes(term.weight)) for term in linear.terms)
    return (*terms, _bytes(linear.bias))


def _bytes(array: Matrix | None) -> bytes:
    return b"" if array is None else array.astype(np.float32).tobytes()


def _side_by_side(linear: Linear) -> list[Linear] | None:
    """The atoms of which rows are made side by side, if they are just that."""
    if linear.bias is not None or len(linear.terms) < 2:
        return None
    places: list[tuple[int, Linear]] = []
    for term in linear.terms:
        weight = term.matrix()
        _, columns = np.nonzero(weight)
        first = int(columns.min()) if columns.size else 0
        placed = np.eye(weight.shape[0], weight.shape[1], first)
        if not np.array_equal(weight, placed):
            return None
        places.append((first, Linear.of(term.atom)))
    places.sort(key=lambda place: place[0])
    end = 0
    for first, part in places:
        if first != end:
            return None
        end += part.channels
    return [part for _, part in places] if end == linear.channels else None


def _joined(emitter: Emitter, terms: Sequence[Term]) -> list[tuple[str, Matrix]]:
    """Terms with weights as one product of tensors side by side, their products where widths differ."""
    names = [(emitter.atom(term.atom), term.matrix()) for term in terms]
    if len(names) < 2:
        return names
    if len({matrix.shape[0] for _, matrix in names}) > 1:
        channels = names[0][1].shape[1]
        found = [Linear((term,), None, channels, term.atom.space) for term in terms]
        names = [(emitter.rows(rows), np.eye(channels)) for rows in found]
    joined = emitter._fresh(f"{names[0][0]}.joined")
    emitter.writer.add("Concat", [name for name, _ in names], joined, axis=1)
    return [(joined, np.concatenate([matrix for _, matrix in names]))]


def model_of(
    emitter: Emitter, inputs: list[onnx.ValueInfoProto], output: tuple[str, int], opset: int
) -> onnx.ModelProto:
    """The lifted model."""
    return emitter.writer.model(inputs, output, {}, opset)
