# SPDX-License-Identifier: Apache-2.0
"""Input bindings: the naming rule, the JSON form, the resolution against a graph, and their refusals."""

import doctest
import itertools
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hetfab.overlay.errors import BindingInvalidError, InputsUnboundError, RelationMissingError
from hetfab.overlay.model.binding import (
    METADATA_KEY,
    Binding,
    EdgeTypes,
    EdgeWeights,
    End,
    Features,
    JoinedEnd,
    MetapathEnd,
    MetapathMean,
    NamedEnd,
    NamedMean,
    NamedWeights,
    NodeCount,
    RelationEnd,
    Samples,
    StackedEnd,
    from_json,
    parse,
    read_bindings,
    resolve,
    to_json,
)
from hetfab.overlay.model.schema import GraphSchema, Relation

PA = Relation("paper", "pa", "author")
AP = Relation("author", "ap", "paper")
HAS_TERM = Relation("paper", "has_term", "term")
TERM_OF = Relation("term", "term_of", "paper")
SCHEMA = GraphSchema(
    types=("paper", "author", "term"),
    counts={"paper": 5, "author": 4, "term": 3},
    relations=(PA, AP, HAS_TERM, TERM_OF),
    metapaths={"PAP": ("pa", "ap")},
    feature_widths={"paper": 7},
    target="paper",
)


@pytest.mark.parametrize(
    ("name", "by_name", "resolved"),
    [
        ("x_paper", Features("paper"), Features("paper")),
        ("n_author", NodeCount("author"), NodeCount("author")),
        ("src_pa", NamedEnd("pa", End.SOURCE), RelationEnd(PA, End.SOURCE)),
        ("dst_has_term", NamedEnd("has_term", End.DESTINATION), RelationEnd(HAS_TERM, End.DESTINATION)),
        ("src_PAP", NamedEnd("PAP", End.SOURCE), MetapathEnd("PAP", (PA, AP), End.SOURCE)),
        ("dst_PAP", NamedEnd("PAP", End.DESTINATION), MetapathEnd("PAP", (PA, AP), End.DESTINATION)),
        (
            "src",
            StackedEnd((), (), True, End.SOURCE),
            StackedEnd(SCHEMA.types, SCHEMA.relations, True, End.SOURCE),
        ),
        (
            "dst",
            StackedEnd((), (), True, End.DESTINATION),
            StackedEnd(SCHEMA.types, SCHEMA.relations, True, End.DESTINATION),
        ),
        (
            "src_into_paper",
            NamedEnd("into_paper", End.SOURCE),
            JoinedEnd("paper", (AP, TERM_OF), End.SOURCE),
        ),
        (
            "dst_into_paper",
            NamedEnd("into_paper", End.DESTINATION),
            JoinedEnd("paper", (AP, TERM_OF), End.DESTINATION),
        ),
        ("etype", EdgeTypes((), (), True), EdgeTypes(SCHEMA.types, SCHEMA.relations, True)),
        ("w_pa", NamedWeights("pa"), EdgeWeights(PA)),
        ("M_self", NamedMean("self"), MetapathMean((), "paper")),
        ("M_pa", NamedMean("pa"), MetapathMean((PA,), "author")),
        (
            "M_pa_ap_has_term",
            NamedMean("pa_ap_has_term"),
            MetapathMean((PA, AP, HAS_TERM), "term"),
        ),
    ],
)
def test_the_naming_rule_covers_every_kind(name: str, by_name: Binding, resolved: Binding) -> None:
    bindings = parse([name])
    assert bindings == {name: by_name}
    assert resolve(bindings, SCHEMA) == {name: resolved}


def test_all_inputs_without_meaning_are_named_at_once() -> None:
    with pytest.raises(InputsUnboundError) as caught:
        parse(["x_paper", "onnx::Gemm_0", "x_", "src_pa", "weights", "X_paper"])
    assert str(caught.value) == (
        "the meaning of these inputs is unknown: onnx::Gemm_0, x_, weights, X_paper\n"
        "  expected: metadata 'hetfab.inputs' in the model, or names such as x_<type>, n_<type>,"
        " src_<relation or metapath>, dst_<relation or metapath>, src_into_<type>, dst_into_<type>, w_<relation>,"
        " M_<relation>_<relation>, M_self, or src, dst and etype\n"
        "  do: say what they mean in a file and give it with --bind FILE; docs/binding.md describes the file"
    )


def test_overrides_come_before_metadata_and_metadata_before_names() -> None:
    metadata = to_json({"x_paper": Features("author"), "odd": NodeCount("paper")})
    names = ["x_paper", "odd", "n_term"]
    assert parse(names, metadata) == {
        "x_paper": Features("author"),
        "odd": NodeCount("paper"),
        "n_term": NodeCount("term"),
    }
    overridden = parse(names, metadata, {"odd": NodeCount("author")})
    assert list(overridden) == names
    assert overridden["odd"] == NodeCount("author")


def test_a_binding_of_an_input_that_the_model_lacks_is_refused() -> None:
    with pytest.raises(BindingInvalidError, match="does not have: y, z\n  expected: inputs of the model: x_paper"):
        parse(["x_paper"], to_json({"y": Features("paper")}), {"z": Features("paper")})


def test_everything_that_the_graph_lacks_is_named_at_once() -> None:
    film = Relation("paper", "shows", "film")
    bindings: dict[str, Binding] = {
        "x_paper": Features("paper"),
        "x_film": Features("film"),
        "src_cites": NamedEnd("cites", End.SOURCE),
        "dst_shows": RelationEnd(film, End.DESTINATION),
        "M_ap_pa": NamedMean("ap_pa"),
        "M_pa_pa": NamedMean("pa_pa"),
        "M": MetapathMean((PA, film), "film"),
        "all": StackedEnd(("paper", "film"), (), False, End.SOURCE),
    }
    with pytest.raises(RelationMissingError) as caught:
        resolve(bindings, SCHEMA)
    assert caught.value.found == (
        "the graph lacks what the model reads: input 'x_film' needs node type 'film';"
        " input 'src_cites' needs a relation or metapath 'cites';"
        " input 'dst_shows' needs relation shows (paper -> film);"
        " input 'M_pa_pa' needs relations 'pa_pa', joined by underscores, that chain;"
        " input 'M' needs node type 'film', relation shows (paper -> film);"
        " input 'all' needs node type 'film'"
    )
    assert caught.value.expected == (
        "a graph with them; this one has the node types paper, author, term, the relations"
        " pa (paper -> author), ap (author -> paper), has_term (paper -> term), term_of (term -> paper)"
        " and the metapaths PAP"
    )


def test_a_path_with_two_readings_is_refused() -> None:
    loops = tuple(Relation("a", name, "a") for name in ("x", "y", "x_y"))
    schema = GraphSchema(("a",), {"a": 1}, loops, {}, {}, None)
    with pytest.raises(BindingInvalidError, match=r"'M_x_y' has more than one reading: x \(a -> a\), y .*; x_y "):
        resolve(parse(["M_x_y"]), schema)
    with pytest.raises(BindingInvalidError, match="the graph names no target"):
        resolve(parse(["M_self"]), schema)


@pytest.mark.parametrize(
    ("entry", "found", "expected"),
    [
        (
            {"kind": "feature", "type": "paper"},
            "the kind is 'feature'",
            "an object whose kind is one of features, samples, node_count, named_end, relation_end, looped_end, "
            "metapath_end, stacked_end, joined_end, edge_types, named_weights, edge_weights, in_degree_weights, "
            "named_mean, metapath_mean",
        ),
        ({"kind": "features"}, "the members are kind", "kind, type"),
        ({"kind": "features", "type": "a", "x": 1}, "the members are kind, type, x", "kind, type"),
        ({"kind": "features", "type": 3}, "it is 3", "a name"),
        ({"kind": "samples", "shape": []}, "it is []", "a list of sizes, without the batch"),
        ({"kind": "samples", "shape": [3, "N", 8]}, "it is [3, 'N', 8]", "a list of sizes, without the batch"),
        ({"kind": "samples", "shape": [True]}, "it is [True]", "a list of sizes, without the batch"),
        ({"kind": "named_end", "name": "pa", "end": "left"}, "it is 'left'", "source or destination"),
        ({"kind": "named_end", "name": "pa", "end": []}, "it is []", "source or destination"),
        (
            {"kind": "relation_end", "relation": ["a", "b"], "end": "source"},
            "it is ['a', 'b']",
            "[source type, name, destination type]",
        ),
        ({"kind": "relation_end", "relation": "ab", "end": "source"}, "it is 'ab'", "a list"),
        (
            {"kind": "edge_types", "types": ["a"], "relations": [], "self_loops": 1},
            "it is 1",
            "true or false",
        ),
        (
            {"kind": "edge_types", "types": ["a"], "relations": [["a", "r", "b"]], "self_loops": True},
            "the types lack an end of the relation r (a -> b)",
            "the types of all ends",
        ),
        (
            {"kind": "joined_end", "type": "a", "relations": [["b", "r", "a"], ["a", "s", "b"]], "end": "source"},
            "s (a -> b) lead elsewhere",
            "relations into 'a'",
        ),
        (
            {"kind": "metapath_end", "name": "P", "relations": [], "end": "source"},
            "the metapath has no relations",
            "at least one relation",
        ),
        (
            {"kind": "metapath_mean", "relations": [["a", "r", "b"], ["a", "s", "b"]], "type": "b"},
            "the relations do not chain",
            "relations that start where the one before ends",
        ),
        (
            {"kind": "metapath_mean", "relations": [["a", "r", "b"]], "type": "a"},
            "the type is 'a'",
            "'b', where the relations end",
        ),
    ],
)
def test_malformed_bindings_are_refused(entry: dict[str, Any], found: str, expected: str) -> None:
    with pytest.raises(BindingInvalidError) as caught:
        parse(["q"], json.dumps({"q": entry}))
    assert caught.value.found.startswith(f"the model's metadata '{METADATA_KEY}', input 'q'")
    assert caught.value.found.endswith(f": {found}")
    assert caught.value.expected == expected


@pytest.mark.parametrize(("text", "found"), [("{", "Expecting property name"), ("[]", "it is a list")])
def test_text_that_is_no_object_is_refused(text: str, found: str, tmp_path: Path) -> None:
    (tmp_path / "bind.json").write_text(text, encoding="utf-8")
    with pytest.raises(BindingInvalidError, match=rf"the binding '.*bind\.json': {found}"):
        read_bindings(tmp_path / "bind.json")


def test_a_file_of_bindings_is_read_or_named(tmp_path: Path) -> None:
    path = tmp_path / "bind.json"
    with pytest.raises(BindingInvalidError, match=r"cannot read the binding '.*bind\.json'"):
        read_bindings(path)
    path.write_text('{"q": {"kind": "relation_end", "relation": ["paper", "pa", "author"], "end": "source"}}')
    assert read_bindings(path) == {"q": RelationEnd(PA, End.SOURCE)}


def test_the_examples_of_the_page_are_right() -> None:
    page = Path(__file__).parents[1] / "docs" / "binding.md"
    failed, attempted = doctest.testfile(str(page), module_relative=False)
    assert attempted > 0
    assert failed == 0
    example = page.read_text(encoding="utf-8").partition("```json\n")[2].partition("```")[0]
    assert {type(binding) for binding in from_json(example, "the page").values()} == {RelationEnd}


NAMES = st.text(min_size=1, max_size=6)
RELATIONS = st.builds(Relation, NAMES, NAMES, NAMES)
ENDS = st.sampled_from(End)


@st.composite
def paths(draw: st.DrawFn, smallest: int) -> tuple[Relation, ...]:
    types = draw(st.lists(NAMES, min_size=smallest + 1, max_size=4))
    return tuple(Relation(s, draw(NAMES), d) for s, d in itertools.pairwise(types))


@st.composite
def stacks(draw: st.DrawFn) -> tuple[tuple[str, ...], tuple[Relation, ...], bool]:
    relations = tuple(draw(st.lists(RELATIONS, max_size=3)))
    types = {end for relation in relations for end in (relation.source, relation.destination)}
    return tuple(sorted(types)), relations, draw(st.booleans())


@st.composite
def joined_ends(draw: st.DrawFn) -> JoinedEnd:
    node_type = draw(NAMES)
    relations = draw(st.lists(st.builds(Relation, NAMES, NAMES, st.just(node_type)), max_size=3))
    return JoinedEnd(node_type, tuple(relations), draw(ENDS))


@st.composite
def means(draw: st.DrawFn) -> MetapathMean:
    path = draw(paths(0))
    return MetapathMean(path, path[-1].destination if path else draw(NAMES))


BINDINGS = st.one_of(
    st.builds(Features, NAMES),
    st.builds(Samples, st.lists(st.integers(1, 512), min_size=1, max_size=3).map(tuple)),
    st.builds(NodeCount, NAMES),
    st.builds(NamedEnd, NAMES, ENDS),
    st.builds(RelationEnd, RELATIONS, ENDS),
    st.builds(MetapathEnd, NAMES, paths(1), ENDS),
    st.builds(lambda stack, end: StackedEnd(stack[0], stack[1], stack[2], end), stacks(), ENDS),
    joined_ends(),
    st.builds(lambda stack: EdgeTypes(*stack), stacks()),
    st.builds(NamedMean, NAMES),
    means(),
)


@given(st.dictionaries(NAMES, BINDINGS, max_size=5))
def test_json_round_trip(bindings: dict[str, Binding]) -> None:
    text = to_json(bindings)
    assert from_json(text, "test") == bindings
    assert list(from_json(text, "test")) == list(bindings)
    assert parse(list(bindings), text) == bindings


@given(
    st.lists(
        st.sampled_from(
            ["x_paper", "n_term", "src_pa", "dst_PAP", "etype", "src_into_paper", "src", "M_self", "M_pa_ap"]
        ),
        unique=True,
    )
)
def test_resolving_twice_changes_nothing(names: list[str]) -> None:
    once = resolve(parse(names), SCHEMA)
    assert resolve(once, SCHEMA) == once
    assert resolve(parse(names, to_json(once)), SCHEMA) == once
