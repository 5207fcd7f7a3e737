# SPDX-License-Identifier: Apache-2.0
"""Plans of semantic graphs: what they reuse, what they drop, what they refuse, and that they build scipy's products."""

import numpy as np
import pytest
from hypothesis import given, settings

from hetfab.overlay.errors import GraphInvalidError, LimitExceededError, RelationMissingError
from hetfab.overlay.model.schema import Relation
from hetfab.overlay.semantic.adjacency import Adjacency, adjacency, expansions, transpose
from hetfab.overlay.semantic.build import build_semantic_graphs
from hetfab.overlay.semantic.plan import Compose, Drop, Metapath, Transpose, plan_semantic_graphs
from tests.random_relations import RandomRelations, product, random_relations, same


def academic(seed: int = 0) -> tuple[dict[Relation, Adjacency], dict[str, str]]:
    """Authors, papers and few terms, each relation with its reverse."""
    rng = np.random.default_rng(seed)
    ap = adjacency(rng.integers(0, 60, 150), rng.integers(0, 80, 150), 60, 80)
    pt = adjacency(rng.integers(0, 80, 400), rng.integers(0, 12, 400), 80, 12)
    relations = {
        Relation("author", "ap", "paper"): ap,
        Relation("paper", "pa", "author"): transpose(ap),
        Relation("paper", "pt", "term"): pt,
        Relation("term", "tp", "paper"): transpose(pt),
    }
    return relations, {"ap": "pa", "pa": "ap", "pt": "tp", "tp": "pt"}


def test_half_a_symmetric_path_is_turned_and_not_built_again() -> None:
    relations, reverses = academic()
    plan = plan_semantic_graphs({"APTPA": ("ap", "pt", "tp", "pa")}, relations, reverses)
    half, other = ("ap", "pt"), ("tp", "pa")
    assert [type(step) for step in plan.steps] == [Compose, Transpose, Compose, Drop, Drop]
    assert [step.path for step in plan.steps] == [half, other, half + other, half, other]


def test_without_reverses_nothing_is_turned() -> None:
    relations, _ = academic()
    plan = plan_semantic_graphs({"APTPA": ("ap", "pt", "tp", "pa")}, relations)
    assert not any(isinstance(step, Transpose) for step in plan.steps)


def test_a_longer_metapath_reuses_a_shorter_one_at_its_end() -> None:
    relations, _ = academic()
    metapaths = {"PTPA": ("pt", "tp", "pa"), "TPA": ("tp", "pa")}
    plan = plan_semantic_graphs(metapaths, relations)
    assert [step.path for step in plan.steps] == [("tp", "pa"), ("pt", "tp", "pa")]
    assert not any(isinstance(step, Drop) for step in plan.steps)


def test_reuse_that_costs_more_is_left() -> None:
    """All pairs of rows meet in b, so composing two dense graphs costs more than one relation after the other."""
    rng = np.random.default_rng(1)
    source, destination = np.nonzero(rng.random((60, 60)) < 0.5)
    dense = adjacency(source, destination, 60, 60)
    thin = adjacency(np.arange(60), np.arange(60), 60, 60)
    relations = {Relation("a", "d", "a"): dense, Relation("a", "e", "a"): dense, Relation("a", "t", "a"): thin}
    metapaths = {"DT": ("d", "e"), "TDE": ("t", "d", "e"), "LONG": ("t", "d", "t", "e")}
    plan = plan_semantic_graphs(metapaths, relations)
    [last] = [step for step in plan.steps if isinstance(step, Compose) and step.path == metapaths["LONG"]]
    assert expansions_of(last, relations) < 60 * 30 * 60


def expansions_of(step: Compose, relations: dict[Relation, Adjacency]) -> int:
    by_name = {relation.name: graph for relation, graph in relations.items()}
    left, right = (build_path(path, by_name) for path in (step.left, step.right))
    return expansions(left, right)


def build_path(path: Metapath, relations: dict[str, Adjacency]) -> Adjacency:
    reach = product(path, relations)
    return Adjacency(reach.indptr.astype(np.int64), reach.indices.astype(np.int64), reach.shape[1])


def test_a_metapath_of_one_relation_is_the_relation() -> None:
    relations, reverses = academic()
    plan = plan_semantic_graphs({"AP": ("ap",)}, relations, reverses)
    assert plan.steps == ()
    by_name = {relation.name: graph for relation, graph in relations.items()}
    assert build_semantic_graphs(plan, by_name)["AP"] is by_name["ap"]


def test_a_path_with_two_names_is_built_once() -> None:
    relations, reverses = academic()
    plan = plan_semantic_graphs({"one": ("ap", "pa"), "two": ("ap", "pa")}, relations, reverses)
    assert [step.path for step in plan.steps] == [("ap", "pa")]
    assert set(plan.outputs) == {"one", "two"}


def test_work_of_two_relations_is_counted_exactly() -> None:
    relations, reverses = academic()
    plan = plan_semantic_graphs({"APA": ("ap", "pa")}, relations, reverses)
    [step] = plan.steps
    assert isinstance(step, Compose)
    assert step.exact
    ap, pa = (relations[Relation(*ends)] for ends in (("author", "ap", "paper"), ("paper", "pa", "author")))
    assert plan.expansions == step.expansions == expansions(ap, pa)
    assert step.word_ors == sum(min(len(pa.row(int(k))), 1) for k in ap.ids)


def test_an_unknown_relation_is_named() -> None:
    relations, _ = academic()
    with pytest.raises(RelationMissingError) as caught:
        plan_semantic_graphs({"AXA": ("ap", "px")}, relations)
    assert str(caught.value) == (
        "metapath 'AXA' names the relation 'px'\n"
        "  expected: one of ap, pa, pt, tp\n"
        "  do: check the name, or use a graph that has this relation"
    )


@pytest.mark.parametrize(
    ("path", "found"),
    [(("ap", "tp"), "ap (author -> paper), tp (term -> paper)"), ((), "it is empty")],
)
def test_types_that_do_not_chain_are_named(path: Metapath, found: str) -> None:
    relations, _ = academic()
    with pytest.raises(GraphInvalidError) as caught:
        plan_semantic_graphs({"ATP": path}, relations)
    assert str(caught.value) == (
        f"metapath 'ATP' does not chain: {found}\n"
        "  expected: at least one relation, each starting at the type where the one before it ends\n"
        "  do: correct the metapath"
    )


def test_a_graph_above_the_limit_is_refused_with_the_estimate() -> None:
    relations, reverses = academic()
    metapaths = {"APA": ("ap", "pa"), "PTP": ("pt", "tp")}
    needed = plan_semantic_graphs(metapaths, relations, reverses).peak_bytes
    with pytest.raises(LimitExceededError) as caught:
        plan_semantic_graphs(metapaths, relations, reverses, limit_bytes=needed - 1)
    edges = plan_semantic_graphs({"PTP": ("pt", "tp")}, relations, reverses).steps[0]
    assert isinstance(edges, Compose)
    assert str(caught.value) == (
        f"the semantic graph 'PTP' is estimated at {edges.edges:,} edges, {4 * (edges.edges + 81):,} bytes, and takes "
        f"all graphs that exist at once to {needed:,} bytes\n"
        f"  expected: at most {needed - 1:,} bytes, the stated limit of memory\n"
        "  do: state a higher limit, leave the metapath out, or use a model that aggregates along its relations"
    )
    assert plan_semantic_graphs(metapaths, relations, reverses, limit_bytes=needed).peak_bytes == needed


def test_the_estimate_is_not_below_graphs_whose_rows_share_a_few_hubs() -> None:
    """Every vertex at one hub of unequal ones, so that no two paths between two vertices lead to the same end."""
    rng = np.random.default_rng(3)
    hubs = rng.choice(12, 900, p=np.arange(1, 13) / 78)
    to = adjacency(np.arange(900), hubs, 900, 12)
    relations = {Relation("a", "to", "hub"): to, Relation("hub", "from", "a"): transpose(to)}
    [step] = plan_semantic_graphs({"AHA": ("to", "from")}, relations).steps
    assert isinstance(step, Compose)
    edges = int((np.bincount(hubs) ** 2).sum())
    assert 0.99 * edges <= step.edges <= step.most_edges == edges


def test_few_rows_are_counted_where_the_estimate_is_lower() -> None:
    relations, _ = academic()
    by_name = {relation.name: graph for relation, graph in relations.items()}
    plan = plan_semantic_graphs({"APA": ("ap", "pa")}, relations)
    [step] = plan.steps
    assert isinstance(step, Compose)
    assert step.edges >= product(("ap", "pa"), by_name).nnz


@given(random_relations())
@settings(deadline=None)
def test_a_plan_builds_the_boolean_products(random: RandomRelations) -> None:
    plan = plan_semantic_graphs(random.metapaths, random.relations, random.reverses)
    built = build_semantic_graphs(plan, random.by_name)
    assert set(built) == set(random.metapaths)
    for name, path in random.metapaths.items():
        expected = product(path, random.by_name)
        assert same(built[name], expected)
        [most] = [step.most_edges for step in plan.steps if step.path == path and not isinstance(step, Drop)] or [
            expected.nnz
        ]
        assert expected.nnz <= most


@given(random_relations())
@settings(deadline=None)
def test_every_graph_is_there_when_it_is_read_and_only_outputs_remain(random: RandomRelations) -> None:
    plan = plan_semantic_graphs(random.metapaths, random.relations, random.reverses)
    there: set[Metapath] = {(relation.name,) for relation in random.relations}
    relations = set(there)
    for step in plan.steps:
        if isinstance(step, Drop):
            there.remove(step.path)
            continue
        read = (step.left, step.right) if isinstance(step, Compose) else (step.source,)
        assert set(read) <= there
        assert step.path not in there
        there.add(step.path)
    assert there == relations | set(random.metapaths.values())
