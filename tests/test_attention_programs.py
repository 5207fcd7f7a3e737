# SPDX-License-Identifier: Apache-2.0
"""Compiled attention: programs of integer layers give what plain numpy makes of the layers' definitions."""

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from hetfab.driver.graph.arrays import graph_arrays
from hetfab.driver.graph.heterograph import Edges as GraphEdges
from hetfab.driver.graph.heterograph import HeteroGraph
from hetfab.overlay.bind import bind
from hetfab.overlay.compiler.compile import compile_lowered
from hetfab.overlay.compiler.layer_ends import Sum, exported_layer, normalized_layer, rounded_layer
from hetfab.overlay.compiler.lowered import (
    Additive,
    Aggregation,
    DenseTerm,
    LoweredLayer,
    LoweredModel,
    Normalization,
    Product,
    StackPart,
    Stored,
    Table,
)
from hetfab.overlay.compiler.lowering_rows import padded_parts
from hetfab.overlay.compiler.row_types import row_types
from hetfab.overlay.isa.arithmetic import mean_q8, reciprocals
from hetfab.overlay.isa.attention import additive_logits, edge_weights
from hetfab.overlay.isa.codec import Segment
from hetfab.overlay.isa.normalization import normalize, normalized
from hetfab.overlay.model.binding import Features
from hetfab.overlay.model.scales import Scales
from hetfab.overlay.model.schema import Relation
from hetfab.overlay.patterns import pattern_edges
from hetfab.overlay.program import EdgePattern, Edges, Stack
from tests.conftest import SMALL_GEOMETRY
from tests.programs import design_of, run_golden

Integers = npt.NDArray[np.int64]
AP, PP = Relation("author", "ap", "paper"), Relation("paper", "pp", "paper")
COUNTS = {"paper": 53, "author": 21}
WIDTHS = {"paper": 9, "author": 70}


def relation(name: Relation) -> Edges:
    return Edges(name.name, (name,), False, name.source, name.destination)


class Model:
    """Layers one by one, and the integers that they give by their definitions."""

    def __init__(self, seed: int) -> None:
        self.random = np.random.default_rng(seed)
        relations = {
            each: GraphEdges(
                self.random.integers(0, COUNTS[each.source], size),
                self.random.integers(0, COUNTS[each.destination], size),
            )
            for each, size in ((AP, 80), (PP, 160))
        }
        features = {
            name: self.random.integers(-128, 128, (count, WIDTHS[name])).astype(np.float32)
            for name, count in COUNTS.items()
        }
        self.graph = HeteroGraph("small", "paper", COUNTS, relations, features)
        self.layers: list[LoweredLayer] = []
        self.stored: dict[str, Stored] = {}
        self.parts: dict[str, StackPart] = {}
        self.stacks: list[Stack] = []
        self.values: dict[str, Integers] = {}

    def features(self, name: str) -> Stored:
        tensor = Stored(f"x_{name}", WIDTHS[name], 8, True, 0, "features")
        self.values[tensor.name] = self.graph.dense_features(name).astype(np.int64)
        return self.keep(tensor)

    def constant(self, rows: int, channels: int) -> Stored:
        """Scores of edge types."""
        values = self.random.integers(-300, 300, (rows, channels))
        tensor = Stored(f"t{len(self.stored)}", channels, 16, True, -8, "constant", values)
        self.values[tensor.name] = values
        return self.keep(tensor)

    def term(self, rows: Stored, channels: int) -> DenseTerm:
        weight = self.random.integers(-9, 10, (rows.channels, channels))
        scales = Scales(np.ones(channels, np.int64), np.full(channels, rows.exponent - 4))
        return DenseTerm(rows, weight, np.full(channels, 8), self.random.integers(-99, 99, channels), scales)

    def dense(self, rows: Stored, channels: int, *, bits: int = 8, exponent: int = 2) -> Stored:
        term = self.term(rows, channels)
        return self.rounded(term, self.product(term), term.scales.exponents[0], bits=bits, exponent=exponent)

    def rounded(self, value: DenseTerm | Sum, sums: Integers, unit: int, *, bits: int, exponent: int) -> Stored:
        """Rounds ``sums`` in steps of ``2**unit``, halves to even."""
        channels = sums.shape[1]
        output = Stored(f"t{len(self.stored)}", channels, bits, True, exponent, "computed")
        self.layers.append(rounded_layer(value, self.keep(output)))
        self.values[output.name] = limited(np.rint(np.ldexp(sums.astype(np.float64), int(unit) - exponent)), bits)
        return output

    def mapped(self, value: Sum, sums: Integers, entries: Integers, *, bits: int, exponent: int) -> Stored:
        """A function of what ``sums`` are rounded to."""
        output = self.rounded(value, sums, value.exponent - 8, bits=bits, exponent=exponent)
        argument = self.values[output.name]
        result = replace(output, bits=8)
        self.stored[output.name] = result
        self.layers[-1] = replace(self.layers[-1], output=result, table=Table(bits, True, entries))
        self.values[output.name] = entries[argument & (1 << bits) - 1]
        return result

    def product(self, term: DenseTerm) -> Integers:
        return np.asarray(self.values[term.input.name] @ term.weight + term.bias, np.int64)

    def stack(self, tensors: list[Stored]) -> Stored:
        whole = self.keep(replace(tensors[0], name=f"t{len(self.stored)}"))
        for number, tensor in enumerate(tensors):
            self.parts[tensor.name] = StackPart(whole.name, number)
        self.values[whole.name] = np.concatenate([self.values[tensor.name] for tensor in tensors])
        return whole

    def edges_of(self, edges: Edges, parts: list[int]) -> list[tuple[int, int, int]]:
        """(destination, source, type) of each edge."""
        if edges.pattern is not EdgePattern.NONE:
            starts = np.concatenate([[0], np.cumsum(parts)]).tolist()
            indptr, sources, types = pattern_edges(edges.pattern, starts)
            rows = np.repeat(np.arange(len(indptr) - 1), np.diff(indptr))
            return list(zip(rows.tolist(), sources.tolist(), types.tolist(), strict=True))
        if not edges.stacked:
            return [(d, s, 0) for s, d in pairs_of(self.graph.relations[edges.relations[0]])]
        stacked_types = next(stack.types for stack in self.stacks if stack.name == edges.source_type)
        start = {
            name: sum(COUNTS[other] for other in stacked_types[:number]) for number, name in enumerate(stacked_types)
        }
        found = [
            (d + start[each.destination], s + start[each.source], kind)
            for kind, each in enumerate(edges.relations)
            for s, d in pairs_of(self.graph.relations[each])
        ]
        return found + [(row, row, len(edges.relations)) for row in range(sum(COUNTS[name] for name in stacked_types))]

    def attended(self, found: Aggregation, destinations: int, parts: list[int] | None = None) -> Integers:
        """Attention by its definition, [destinations, channels] in Q.8."""
        rows = self.values[found.input.name]
        attention = found.attention
        assert attention is not None
        heads, triples = attention.heads, self.edges_of(found.edges, parts or [])
        result = np.zeros((destinations, heads, rows.shape[1] // heads), np.int64)
        by_row: dict[int, list[tuple[int, int]]] = {}
        for row, source, kind in triples:
            by_row.setdefault(row, []).append((source, kind))
        for row, edges in by_row.items():
            sources, kinds = np.array(edges, np.int64).T
            logits = self._logits(attention, row, sources, kinds)
            weights = edge_weights(logits.max(axis=0) - logits)
            messages = rows[sources].reshape(len(sources), heads, -1)
            numerator = np.einsum("eh,ehd->hd", weights, messages)
            denominator = weights.sum(axis=0)[:, None]
            result[row] = (512 * numerator + denominator) // (2 * denominator)
        return result.reshape(destinations, -1)

    def _logits(self, attention: Additive | Product, row: int, sources: Integers, kinds: Integers) -> Integers:
        if isinstance(attention, Product):
            keys, query = self.values[attention.keys.name][sources], self.values[attention.queries.name][row]
            products = (keys * query).reshape(len(sources), attention.heads, -1).sum(axis=2)
            return limited(np.rint(np.ldexp(products.astype(np.float64), attention.exponent + 8)), 16)
        total = np.zeros((len(sources), attention.heads), np.int64)
        for scores, places in ((attention.source, sources), (attention.destination, row), (attention.types, kinds)):
            total = total + (0 if scores is None else self.values[scores.name][places])
        return additive_logits(total, attention.slope)

    def finish(self, value: DenseTerm | Sum) -> LoweredModel:
        last, lsb = exported_layer(value, "logits")
        self.layers.append(last)
        self.keep(last.output)
        bindings = {f"x_{name}": Features(name) for name in COUNTS}
        found = row_types(self.stored.values(), self.layers, bindings, self.parts, self.stacks)
        return LoweredModel(found.layers, self.stored, found.types, {}, last.output, lsb, found.stacks, self.parts)

    def keep(self, tensor: Stored) -> Stored:
        self.stored[tensor.name] = tensor
        return tensor


def pairs_of(edges: GraphEdges) -> list[tuple[int, int]]:
    return list(zip(edges.source.tolist(), edges.destination.tolist(), strict=True))


def limited(values: npt.NDArray[Any], bits: int) -> Integers:
    return np.asarray(np.clip(values, -(1 << bits - 1), (1 << bits - 1) - 1), np.int64)


def check(model: Model, lowered: LoweredModel, logits: Integers) -> None:
    """The golden machine's logits of the compiled program are those."""
    program = compile_lowered(lowered, design_of(SMALL_GEOMETRY))
    bound = bind(program, graph_arrays(program, model.graph))
    executed = run_golden(bound)
    np.testing.assert_array_equal(bound.logits(executed.dram[Segment.OUTPUT]), logits)


def additive(model: Model, edges: Edges, source: Stored, destination: Stored, channels: int, heads: int) -> Aggregation:
    scores = [model.dense(rows, heads, bits=16, exponent=-8) for rows in (source, destination)]
    return Aggregation(model.dense(source, channels), edges, Additive(scores[0], scores[1], None, 819))


@pytest.mark.parametrize(("channels", "heads"), [(64, 4), (64, 8), (32, 2), (5, 1)])
def test_attention_over_relations_joins_a_dense_term_and_ends_in_a_table(channels: int, heads: int) -> None:
    model = Model(channels + heads)
    paper, author = model.features("paper"), model.features("author")
    over = [
        additive(model, relation(AP), author, paper, channels, heads),
        additive(model, relation(PP), paper, paper, channels, heads),
    ]
    root = model.term(paper, channels)
    q8 = np.rint(np.ldexp(model.product(root).astype(float), int(root.scales.exponents[0]) - 2 + 8)).astype(np.int64)
    sums = q8 + sum(model.attended(each, COUNTS["paper"]) for each in over)
    entries = model.random.integers(-128, 128, 1 << 9)
    hidden = model.mapped(Sum(2, root, tuple(over)), sums, entries, bits=9, exponent=3)
    last = model.term(hidden, 3)
    check(model, model.finish(last), model.product(last))


def stacked(model: Model, into: str = "") -> Edges:
    """All edges of papers and authors, with self loops."""
    stack = Stack("paper + author", ("paper", "author"))
    model.stacks = [stack]
    return Edges("all", (AP, PP), False, stack.name, into or stack.name, stacked=True, self_loops=True, typed=True)


def test_edges_of_all_relations_have_scores_of_their_types() -> None:
    model = Model(1)
    rows = model.stack([model.dense(model.features(name), 64) for name in ("paper", "author")])
    source, destination = (model.dense(rows, 4, bits=16, exponent=-8) for _ in range(2))
    weights = Additive(source, destination, model.constant(3, 4), 205)
    over = Aggregation(model.dense(rows, 64), stacked(model), weights)
    sums = model.attended(over, sum(COUNTS.values()))
    check(model, model.finish(Sum(over.input.exponent, None, (over,))), sums)


def test_a_slice_of_a_stack_takes_the_edges_into_its_first_part() -> None:
    model = Model(2)
    rows = model.stack([model.dense(model.features(name), 32) for name in ("paper", "author")])
    scores = [model.dense(rows, 1, bits=16, exponent=-8) for _ in range(2)]
    first = replace(scores[1], name="first")
    model.stored["first"], model.parts["first"] = first, StackPart(scores[1].name, 0)
    types = model.constant(3, 1)
    whole = Aggregation(model.dense(rows, 5), stacked(model), Additive(scores[0], scores[1], types, 4096))
    part = replace(whole, edges=stacked(model, "paper"), attention=Additive(scores[0], first, types, 4096))
    sums = model.attended(whole, sum(COUNTS.values()))[: COUNTS["paper"]]
    check(model, model.finish(Sum(part.input.exponent, None, (part,))), sums)


def test_parts_of_a_stack_are_fused_by_weights_that_are_computed() -> None:
    model = Model(3)
    papers, count = model.features("paper"), COUNTS["paper"]
    rows = model.stack([model.dense(papers, 64) for _ in range(3)])
    means = Aggregation(rows, Edges("", (), False, "", "", pattern=EdgePattern.WITHIN))
    parts = model.values[rows.name].reshape(3, count, 64)
    q8 = mean_q8(parts.sum(axis=1), *reciprocals(np.array([count])))
    mean = model.rounded(Sum(2, None, (means,)), q8, 2 - 8, bits=8, exponent=2)
    weights = model.dense(mean, 1, bits=16, exponent=-8)
    edges = Edges("", (), False, "", "", typed=True, pattern=EdgePattern.ACROSS)
    fusion = Aggregation(rows, edges, Additive(None, None, weights, 4096))
    fused = model.attended(fusion, count, [count] * 3)
    check(model, model.finish(Sum(2, None, (fusion,))), fused)


@pytest.mark.parametrize("exponent", [-11, -8, -5])
def test_parts_of_a_stack_attend_to_each_other(exponent: int) -> None:
    model = Model(4)
    papers, count = model.features("paper"), COUNTS["paper"]
    rows = model.stack([model.dense(papers, 64) for _ in range(3)])
    queries, keys = (model.dense(rows, 16) for _ in range(2))
    edges = Edges("", (), False, "", "", pattern=EdgePattern.AMONG)
    tokens = Aggregation(rows, edges, Product(queries, keys, 1, exponent))
    attended = model.attended(tokens, 3 * count, [count] * 3)
    check(model, model.finish(Sum(2, None, (tokens,))), attended)


def test_products_of_queries_and_keys_weigh_the_edges_of_a_relation() -> None:
    model = Model(5)
    paper, author = model.features("paper"), model.features("author")
    over = Aggregation(
        model.dense(author, 64),
        relation(AP),
        Product(model.dense(paper, 32), model.dense(author, 32), 4, -11),
    )
    check(model, model.finish(Sum(2, None, (over,))), model.attended(over, COUNTS["paper"]))


@pytest.mark.parametrize("channels", [64, 40])
def test_parts_of_a_stack_stand_side_by_side_for_a_product(channels: int) -> None:
    model = Model(6)
    papers, count = model.features("paper"), COUNTS["paper"]
    parts = [model.dense(papers, channels) for _ in range(3)]
    rows = model.stack(parts)
    joined = model.values[rows.name].reshape(3, count, channels).transpose(1, 0, 2).reshape(count, -1)
    weight, bias = model.random.integers(-9, 10, (3 * channels, 5)), np.zeros(5, np.int64)
    scales = Scales(np.ones(5, np.int64), np.zeros(5, np.int64))
    term = DenseTerm(rows, padded_parts(weight, np.full(5, 8), 3), np.full(5, 8), bias, scales, tuple(parts))
    check(model, model.finish(term), joined @ weight)


@pytest.mark.parametrize("over_edges", [False, True])
def test_rows_of_a_dense_layer_and_of_a_sum_are_normalized(over_edges: bool) -> None:
    model, channels = Model(7), 20
    paper = model.features("paper")
    numbers = Normalization(
        model.random.integers(-2000, 2000, channels),
        model.random.integers(-9999, 9999, channels),
        channels,
        777,
        True,
        14,
    )
    value: DenseTerm | Sum
    if over_edges:
        rows = model.dense(paper, channels)
        mean = Aggregation(rows, relation(PP))
        sources, rows_of_edges = model.graph.relations[PP].source, model.graph.relations[PP].destination
        sums = np.zeros((COUNTS["paper"], channels), np.int64)
        np.add.at(sums, rows_of_edges, model.values[rows.name][sources])
        degrees = np.bincount(rows_of_edges, minlength=COUNTS["paper"])
        biases = model.random.integers(-500, 500, channels)
        unit, value = -6, Sum(2, None, (mean,), biases)
        given = mean_q8(sums, *(each[:, None] for each in reciprocals(degrees))) + biases
    else:
        value = term = model.term(paper, channels)
        unit, given = int(term.scales.exponents[0]), model.product(term)
    exponent = -3
    wide = limited(np.rint(np.ldexp(given.astype(float), unit - exponent)), 16)
    output = model.keep(Stored("normal", channels, 8, False, 0, "computed"))
    model.layers.append(normalized_layer(value, exponent, output, numbers))
    model.values["normal"] = normalize(
        normalized(wide, channels, 777, centred=True), numbers.gain, numbers.offset, 14, 255, signed=False
    )
    last = model.term(output, 4)
    check(model, model.finish(last), model.product(last))
