# SPDX-License-Identifier: Apache-2.0
"""Whatever a file says of an export's inputs: it is lifted, or the refusal says what is wrong with the file."""

import functools
from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
import onnx.helper
import onnx.numpy_helper
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hetfab.overlay.errors import BindingInvalidError, InputError, OperatorsUnsupportedError
from hetfab.overlay.model.lifting.lift import lift
from hetfab.overlay.model.lifting.raw_inputs import raw_inputs
from tests.pyg_graphs import exported

PAPERS = ["paper", "links_0", "paper"]
#: What is right for a model of typed edges, and for one of several relations.
MEANINGS: dict[str, dict[str, dict[str, Any]]] = {
    "rgcn_typed": {
        "x_paper": {"kind": "features", "type": "paper"},
        "edge_index_links": {"kind": "edges", "relation": ["paper", "links", "paper"]},
        "edge_type_links": {
            "kind": "edge_kinds",
            "edges": "edge_index_links",
            "relations": [["paper", f"links_{kind}", "paper"] for kind in range(3)],
        },
    },
    "sage": {
        "x_paper": {"kind": "features", "type": "paper"},
        "x_author": {"kind": "features", "type": "author"},
        "edge_index_cites": {"kind": "edges", "name": "cites"},
        "edge_index_writes": {"kind": "edges", "relation": ["author", "writes", "paper"]},
        "edge_index_by": {"kind": "edges", "relation": ["paper", "by", "author"]},
    },
}
_NAMES = ["", "paper", "author", "venue", "x_paper", "edge_index_links", "features", "edges", "edge_kinds"]
_PLAIN: st.SearchStrategy[Any] = st.sampled_from(
    [None, True, 0, 3.5, [], {}, *_NAMES, PAPERS, ["paper"], ["venue", "at", "paper"]]
)
_VALUES = st.one_of(_PLAIN, st.lists(st.sampled_from([PAPERS, ["", "b", "c"], "paper", 3]), max_size=4))


@functools.cache
def model_of(name: str) -> onnx.ModelProto:
    return exported(name)


@st.composite
def changed(draw: st.DrawFn) -> tuple[str, dict[str, Any]]:
    """A model, and its meanings with one key dropped, replaced or of another type, or one entry of another input."""
    name = draw(st.sampled_from(sorted(MEANINGS)))
    found = {key: dict(entry) for key, entry in MEANINGS[name].items()}
    entry = draw(st.sampled_from(sorted(found)))
    match draw(st.sampled_from(["drop", "replace", "entry", "whole"])):
        case "drop":
            del found[entry][draw(st.sampled_from(sorted(found[entry])))]
        case "replace":
            found[entry][draw(st.sampled_from(sorted(found[entry])))] = draw(_VALUES)
        case "entry":
            found[entry] = found[draw(st.sampled_from(sorted(found)))]
        case _:
            del found[entry]
    return name, found


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True)
@given(changed())
def test_every_failure_says_what_is_wrong(case: tuple[str, dict[str, Any]]) -> None:
    name, meanings = case
    try:
        lift(model_of(name), raw_inputs(model_of(name), meanings))
    except InputError as error:
        assert error.found and error.expected and error.do


def refusal(name: str, entry: str, meaning: Mapping[str, Any]) -> BindingInvalidError:
    with pytest.raises(BindingInvalidError) as caught:
        lift(model_of(name), raw_inputs(model_of(name), {**MEANINGS[name], entry: meaning}))
    return caught.value


@pytest.mark.parametrize("edges", ["", "x_paper", "no_input"])
def test_types_of_edges_that_no_input_is(edges: str) -> None:
    meaning = {**MEANINGS["rgcn_typed"]["edge_type_links"], "edges": edges}
    found = refusal("rgcn_typed", "edge_type_links", meaning)
    assert found.found == f"'edge_type_links' has types of the edges '{edges}', which no input is"
    assert found.expected == "the name of one input that means edges"


def test_fewer_relations_than_types() -> None:
    meaning = {**MEANINGS["rgcn_typed"]["edge_type_links"], "relations": [PAPERS]}
    found = refusal("rgcn_typed", "edge_type_links", meaning)
    assert found.found == "'edge_type_links' names 1 relation, and the model tells 3 types of edges apart"
    assert found.expected == "a relation for each type of edges, in their order"


def test_edges_that_are_said_to_be_types() -> None:
    meaning = {**MEANINGS["rgcn_typed"]["edge_type_links"]}
    found = refusal("rgcn_typed", "edge_index_links", meaning)
    assert "of the input 'edge_index_links', which is int64 [2, " in found.found


def test_relations_of_types_that_the_model_does_not_read() -> None:
    meanings = {**MEANINGS["sage"], "edge_index_writes": {"kind": "edges", "relation": ["venue", "writes", "paper"]}}
    with pytest.raises(OperatorsUnsupportedError) as caught:
        lift(model_of("sage"), raw_inputs(model_of("sage"), meanings))
    assert "it takes nodes of the types author and venue for the same nodes" in caught.value.found
    assert "or correct what the inputs mean" in caught.value.found


def test_edges_of_types_that_no_row_is_of() -> None:
    """Nothing says how many nodes there are."""
    meanings = {**MEANINGS["rgcn_typed"], "x_paper": {"kind": "features", "type": "article"}}
    relation = {"kind": "edges", "relation": ["paper", "links", "paper"]}
    with pytest.raises(InputError) as caught:
        lift(model_of("rgcn_typed"), raw_inputs(model_of("rgcn_typed"), {**meanings, "edge_index_links": relation}))
    assert "article" in caught.value.found and "paper" in caught.value.found


def two_tables(widths: tuple[int, int]) -> onnx.ModelProto:
    """The sum of products of two inputs of papers."""
    nodes, initializers, inputs = [], [], []
    for number, width in enumerate(widths):
        weight = np.arange(width * 2, dtype=np.float32).reshape(width, 2)
        initializers.append(onnx.numpy_helper.from_array(weight, f"w{number}"))
        inputs.append(onnx.helper.make_tensor_value_info(f"in{number}", onnx.TensorProto.FLOAT, [f"n{number}", width]))
        nodes.append(onnx.helper.make_node("MatMul", [f"in{number}", f"w{number}"], [f"p{number}"]))
    nodes.append(onnx.helper.make_node("Add", ["p0", "p1"], ["logits"]))
    logits = onnx.helper.make_tensor_value_info("logits", onnx.TensorProto.FLOAT, ["n", 2])
    graph = onnx.helper.make_graph(nodes, "two", inputs, [logits], initializers)
    return onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 20)], ir_version=10)


def test_two_inputs_with_features_of_one_type() -> None:
    """They have a row for each of the same nodes, so their sum is one."""
    both = {f"in{number}": {"kind": "features", "type": "paper"} for number in range(2)}
    found = lift(two_tables((3, 3)), raw_inputs(two_tables((3, 3)), both))
    assert set(found.bindings) == {"in0", "in1"} and found.largest_difference <= 1e-6
    with pytest.raises(BindingInvalidError) as caught:
        raw_inputs(two_tables((3, 5)), both)
    assert caught.value.found == "'in0' and 'in1' are both features of the type 'paper', with 3 and 5 columns"
    assert caught.value.expected == "one table of features for each type"


def test_a_type_of_edges_that_there_is_not() -> None:
    """A comparison with it marks no edge."""
    model = onnx.ModelProto()
    model.CopyFrom(model_of("rgcn_typed"))
    equal = [node for node in model.graph.node if node.op_type == "Equal"]
    constants = [node for node in model.graph.node if node.op_type == "Constant"]
    changed = next(each for each in constants if each.output[0] in equal[0].input)
    old = onnx.numpy_helper.to_array(changed.attribute[0].t)
    changed.attribute[0].t.CopyFrom(onnx.numpy_helper.from_array(np.full_like(old, -1)))
    with pytest.raises(OperatorsUnsupportedError) as caught:
        lift(model, raw_inputs(model, MEANINGS["rgcn_typed"]))
    assert "it looks for edges of the type -1, and there are types 0 to 2; leave it out" in caught.value.found
