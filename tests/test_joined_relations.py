# SPDX-License-Identifier: Apache-2.0
"""One softmax over the edges of all relations into a type, each relation with keys and rows of its own."""

from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest

from hetfab.driver.graph.arrays import graph_arrays
from hetfab.driver.graph.feeds import feeds
from hetfab.driver.graph.heterograph import HeteroGraph
from hetfab.driver.graph.model_inputs import open_model
from hetfab.overlay.errors import BindingInvalidError, GraphUnfitError, InputError, ModelStructureError
from hetfab.overlay.model.binding import METADATA_KEY, Binding, End, JoinedEnd, NodeCount, RelationEnd, parse, to_json
from hetfab.overlay.model.edges import EdgeSet, JoinedEdges, edge_set
from hetfab.overlay.model.inspection import inspect_model
from hetfab.overlay.model.runtime import run_model
from hetfab.overlay.model.schema import Relation
from hetfab.quantize.post_training import quantize
from tests.attention_models import HEADS, AttentionBuilder, attention_case
from tests.conftest import SMALL_GEOMETRY
from tests.programs import compiled, quantized
from tests.random_models import academic_graph

BY = Relation("paper", "by", "author")
Floats = npt.NDArray[np.floating[Any]]


def graph() -> HeteroGraph:
    return academic_graph(np.random.default_rng(3), 13, 11, 5)


def into_paper() -> tuple[Relation, ...]:
    return tuple(relation for relation in graph().relations if relation.destination == "paper")


def ends(relations: tuple[Relation, ...]) -> list[Binding]:
    return [JoinedEnd("paper", relations, end) for end in End]


def one_softmax(rows: dict[str, dict[str, Floats]], queries: Floats) -> Floats:
    """Every destination's edges of all relations in a list, a softmax over that, heads one by one."""
    edges = defaultdict(list)
    for relation in into_paper():
        pairs = graph().relations[relation]
        for source, destination in zip(pairs.source.tolist(), pairs.destination.tolist(), strict=True):
            edges[destination].append((relation.name, source))
    result = np.zeros((graph().counts["paper"], queries.shape[1]))
    width = queries.shape[1] // HEADS
    for destination, found in edges.items():
        for head in range(HEADS):
            part = slice(head * width, (head + 1) * width)
            logits = np.array([queries[destination, part] @ rows["keys"][name][source, part] for name, source in found])
            weights = np.exp(logits - logits.max())
            values = np.array([rows["values"][name][source, part] for name, source in found])
            result[destination, part] = weights @ values / weights.sum()
    return result


def test_a_model_takes_one_softmax_over_all_relations() -> None:
    random = np.random.default_rng(0)
    builder = AttentionBuilder(random, graph())
    names = [relation.name for relation in into_paper()]
    tables: dict[str, dict[str, str]] = {
        what: {r.name: builder.table(r.source, 8 * HEADS) for r in into_paper()} for what in ("keys", "values")
    }
    queries = builder.table("paper", 8 * HEADS)
    keys, values = ([tables[what][name] for name in names] for what in ("keys", "values"))
    output = builder.joined_attention(queries, keys, values, "paper")
    model = builder.finish(output)
    arrays = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    rows = {what: {name: arrays[table] for name, table in found.items()} for what, found in tables.items()}
    feed = feeds(graph(), parse([value.name for value in model.graph.input]))
    found = run_model(model, feed, [output])[0]
    np.testing.assert_allclose(found, one_softmax(rows, arrays[queries]), rtol=1e-4, atol=1e-5)


def test_sources_are_rows_of_a_table_of_all_relations() -> None:
    relations = into_paper()
    bindings = dict(zip(("source", "destination"), ends(relations), strict=True))
    found = feeds(graph(), bindings)
    source, destination, start = [], [], 0
    for relation in relations:
        pairs = graph().relations[relation]
        source += [start + int(vertex) for vertex in pairs.source]
        destination += [int(vertex) for vertex in pairs.destination]
        start += graph().counts[relation.source]
    assert found["source"].tolist() == source
    assert found["destination"].tolist() == destination
    assert found["source"].dtype == found["destination"].dtype == np.int64


def test_a_program_has_the_edges_grouped_by_destination() -> None:
    case = attention_case("hgt")
    program = compiled(quantized(case).model, case.graph, SMALL_GEOMETRY)
    (edges,) = (each for each in program.edges if each.joined)
    found = graph_arrays(program, case.graph).edges[edges.name]
    expected = feeds(case.graph, parse(["src_into_paper", "dst_into_paper"]))
    order = np.argsort(expected["dst_into_paper"], kind="stable")
    np.testing.assert_array_equal(found.sources, expected["src_into_paper"][order])
    np.testing.assert_array_equal(np.diff(found.indptr), np.bincount(expected["dst_into_paper"], minlength=40))
    assert program.stack(edges.source_type).types == tuple(relation.source for relation in edges.relations)


def test_a_quantized_model_names_the_relations_and_inspect_shows_them(tmp_path: Path) -> None:
    case = attention_case("hgt")
    onnx.save(case.model, tmp_path / "model.onnx")
    found = quantize(open_model(tmp_path / "model.onnx", case.graph))
    assert found.bindings["src_into_paper"] == JoinedEnd("paper", into_paper(), End.SOURCE)
    assert found.bindings["src_into_author"] == JoinedEnd("author", (BY,), End.SOURCE)
    meanings = {each.name: each.meaning for each in inspect_model(found.model, found.bindings).inputs}
    assert meanings["src_into_paper"] == (
        "source ids, source rows stacked by relation, of the edges into paper: writes (author -> paper), "
        "reviews (author -> paper), cites (paper -> paper), in (term -> paper)"
    )
    assert meanings["dst_into_author"] == "destination ids of the edges into author: by (paper -> author)"


def test_a_single_relation_is_that_relation() -> None:
    first = into_paper()[:1]
    found = edge_set(dict(zip("sd", ends(first), strict=True)), "s", "d")
    assert found == EdgeSet("writes", first, False, "author", "paper")


@pytest.mark.parametrize(
    "other",
    [
        JoinedEnd("paper", into_paper()[::-1], End.DESTINATION),
        JoinedEnd("paper", into_paper(), End.SOURCE),
        RelationEnd(into_paper()[0], End.DESTINATION),
    ],
    ids=["other order", "both sources", "one relation"],
)
def test_ends_of_different_edges_are_refused(other: Binding) -> None:
    bindings = {"s": ends(into_paper())[0], "d": other}
    assert isinstance(edge_set({**bindings, "d": ends(into_paper())[1]}, "s", "d"), JoinedEdges)
    with pytest.raises(BindingInvalidError, match="of the same relation or metapath"):
        edge_set(bindings, "s", "d")


def refusal(change: dict[str, Binding], folder: Path, on: HeteroGraph | None = None) -> InputError:
    """What opening and quantizing the model says when its binding differs."""
    case = attention_case("hgt")
    names = [value.name for value in case.model.graph.input]
    model = onnx.ModelProto()
    model.CopyFrom(case.model)
    onnx.helper.set_model_props(model, {METADATA_KEY: to_json(parse(names) | change)})
    onnx.save(model, folder / "model.onnx")
    with pytest.raises(InputError) as caught:
        quantize(open_model(folder / "model.onnx", on or case.graph))
    return caught.value


def test_rows_in_another_order_than_the_relations_are_refused(tmp_path: Path) -> None:
    turned = dict(zip(("src_into_paper", "dst_into_paper"), ends(into_paper()[::-1]), strict=True))
    found = refusal(turned, tmp_path)
    assert isinstance(found, ModelStructureError)
    assert "nodes of type 'author' and of type 'term'" in found.found


def test_a_count_of_another_type_is_refused(tmp_path: Path) -> None:
    found = refusal({"n_paper": NodeCount("author")}, tmp_path)
    assert found.found == (
        "'n_paper' counts the nodes of type 'author', but the edges 'joined into paper' lead to type 'paper'"
    )


def test_a_graph_without_one_of_the_relations_is_refused(tmp_path: Path) -> None:
    given = dict(zip(("src_into_paper", "dst_into_paper"), ends(into_paper()), strict=True))
    whole = attention_case("hgt").graph
    fewer = {relation: edges for relation, edges in whole.relations.items() if relation.name != "cites"}
    found = refusal(given, tmp_path, replace(whole, relations=fewer, metapaths={}))
    assert not isinstance(found, GraphUnfitError)
    assert "input 'src_into_paper' needs relation cites (paper -> paper)" in found.found


def test_a_type_that_no_relation_leads_to_is_named(tmp_path: Path) -> None:
    whole = attention_case("hgt").graph
    fewer = {relation: edges for relation, edges in whole.relations.items() if relation.name != "by"}
    found = refusal({}, tmp_path, replace(whole, relations=fewer, metapaths={}))
    assert "input 'src_into_author' needs relations into a node type 'author'" in found.found
