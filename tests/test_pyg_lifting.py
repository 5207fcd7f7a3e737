# SPDX-License-Identifier: Apache-2.0
"""Models as PyTorch Geometric exports them become graph operators and run on the emulated overlay, or are refused."""

import re
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.helper
import onnx.numpy_helper
import pytest

from hetfab.driver.scores import agreement
from hetfab.hls.build.emulator import Emulator
from hetfab.overlay.errors import (
    BindingInvalidError,
    InputsUnboundError,
    ModelStructureError,
    OperatorsUnsupportedError,
)
from hetfab.overlay.isa.codec import Segment
from hetfab.overlay.model import hgnn, runtime
from hetfab.overlay.model.binding import End, InDegreeWeights, LoopedEnd, NamedEnd, RelationEnd
from hetfab.overlay.model.lifting.lift import LiftedModel, lift
from hetfab.overlay.model.lifting.raw_inputs import RawEdges, RawFeatures, raw_inputs, read_raw_inputs
from hetfab.overlay.model.parser import try_layers
from hetfab.overlay.model.schema import Relation
from tests.conftest import SMALL_GEOMETRY
from tests.programs import bound_to, compiled, quantized, reference_logits, run_emulated
from tests.pyg_graphs import exported, lifted, pyg_graph
from tests.random_models import Case

#: Graph operators that each model becomes.
LIFTED = {
    "sage": {"SegMean": 5},
    "sage_to_hetero": {"SegMean": 5},
    "sage_normalized": {"SegMean": 2},
    "sage_residual": {"SegMean": 8},
    "sage_jumping": {"SegMean": 8},
    "sage_project": {"SegMean": 2},
    "rgcn_deep": {"SegMean": 11},
    "rgcn_batch_norm": {"SegMean": 5},
    "rgcn_typed": {"SegMean": 6},
    "rgcn_bases": {"SegMean": 6},
    "gat": {"EdgeAtt": 5},
    "gat_heads": {"EdgeAtt": 5},
    "gat_residual": {"EdgeAtt": 5},
    "gat_self_loops": {"EdgeAtt": 2},
    "gcn": {"SegSumWeighted": 2},
    "gcn_deep": {"SegSumWeighted": 4},
    "gcn_no_loops": {"SegSumWeighted": 1},
    "gin": {"SegSum": 2},
    "han": {"EdgeAtt": 2, "PartMean": 1, "Fuse": 1},
    "han_traced": {"EdgeAtt": 2, "PartMean": 1, "Fuse": 1},
    "hgt": {"EdgeDot": 3},
    "rgat_typed": {"EdgeAtt": 6},
    "rgat_relations": {"EdgeAtt": 5},
}
#: What is said of the operators that block a model.
REFUSED = {
    "rgat": [
        "ScatterElements 'node_scatter_add_1': one softmax goes over 3 relations that project the destination's rows"
    ],
    "sage_max": ["it reads the largest of neighbours, of 'node_scatter_reduce', which is not executed"],
    "jumping_max": ["ReduceMax 'node_max_1__0': no layer of hetfab computes it of rows of nodes"],
    "graph_norm": ["ReduceMean 'node_ReduceMean_112': it reduces over nodes or edges"],
    "gat_bipartite_loops": [
        "it takes nodes of the types author and paper for the same nodes; give edges between types to layers with "
        "add_self_loops=False, or correct what the inputs mean"
    ],
    "gat_v2": ["Mul 'node_mul_18': it changes weights of edges behind a softmax or function"],
}
#: Shares of predictions that the quantized model keeps; the weights are random, so logits are close to each other.
LEAST_KEPT = 0.95


@pytest.mark.parametrize("name", LIFTED)
def test_a_lifted_model_runs_on_the_overlay(name: str, small_emulator: Emulator) -> None:
    found, graph = lifted(name), pyg_graph()
    operators = Counter(node.op_type for node in found.model.graph.node if node.domain == hgnn.DOMAIN)
    assert operators == LIFTED[name]
    assert found.graphs == 3 and found.largest_difference <= 1e-5
    assert try_layers(found.model).refused == ()
    model = quantized(Case(found.model, graph)).model
    bound = bound_to(compiled(model, graph, SMALL_GEOMETRY), graph)
    integers = bound.logits(run_emulated(bound, small_emulator).dram[Segment.OUTPUT])
    logits = (integers * bound.program.output.scale).astype(np.float32)
    np.testing.assert_array_equal(logits, reference_logits(model, graph))
    assert agreement(logits, reference_logits(found.model, graph), multilabel=False) >= LEAST_KEPT


def test_two_inputs_of_one_types_features_run_as_one(small_emulator: Emulator) -> None:
    """Neighbours' rows are read from one input, a node's own from the other."""
    model, graph = exported("sage_normalized"), pyg_graph()
    model.graph.input.append(model.graph.input[0])
    model.graph.input[-1].name = "own"
    for node in model.graph.node:
        if node.op_type != "Gather":
            node.input[:] = ["own" if name == "x_paper" else name for name in node.input]
    found = lift(model, raw_inputs(model, {"own": {"kind": "features", "type": "paper"}}))
    assert {"x_paper", "own"} <= set(found.bindings)
    two, one = (quantized(Case(each.model, graph)).model for each in (found, lifted("sage_normalized")))
    bound = bound_to(compiled(two, graph, SMALL_GEOMETRY), graph)
    integers = bound.logits(run_emulated(bound, small_emulator).dram[Segment.OUTPUT])
    logits = (integers * bound.program.output.scale).astype(np.float32)
    np.testing.assert_array_equal(logits, reference_logits(one, graph))


@pytest.mark.parametrize("name", REFUSED)
def test_what_blocks_a_model_is_named(name: str) -> None:
    with pytest.raises(OperatorsUnsupportedError) as caught:
        lifted(name)
    for text in REFUSED[name]:
        assert text in caught.value.found
    assert "docs/pyg.md" in caught.value.do


def test_all_blocking_operators_are_named_at_once() -> None:
    with pytest.raises(OperatorsUnsupportedError) as caught:
        lifted("sage_max")
    assert len(caught.value.refused) == 3
    assert caught.value.found.startswith("3 operators not lifted to the domain hgnn:")


@pytest.mark.parametrize("name", ["gat", "rgcn_typed"])
def test_names_play_no_part(name: str) -> None:
    model = exported(name)
    inputs = {value.name for value in model.graph.input} | {"logits"}
    new: dict[str, str] = {}

    def other(tensor: str) -> str:
        return tensor if not tensor or tensor in inputs else new.setdefault(tensor, f"t{len(new)}")

    def rename(graph: onnx.GraphProto) -> None:
        for tensor in graph.initializer:
            tensor.name = other(tensor.name)
        for value in graph.output:
            value.name = other(value.name)
        for number, node in enumerate(graph.node):
            node.name = f"node{number}"
            for names in (node.input, node.output):
                names[:] = [other(tensor) for tensor in names]
            for attribute in node.attribute:
                if attribute.type == onnx.AttributeProto.GRAPH:
                    rename(attribute.g)

    rename(model.graph)
    del model.graph.value_info[:]
    found = lift(model, raw_inputs(model)).model
    expected = lifted(name).model
    assert [node.op_type for node in found.graph.node] == [node.op_type for node in expected.graph.node]


def test_a_model_of_several_types_of_edges_reads_a_relation_for_each() -> None:
    bindings = lifted("rgcn_typed").bindings
    assert {name for name in bindings if name.startswith("src")} == {"src_links_0", "src_links_1", "src_links_2"}
    assert bindings["src_links_1"] == NamedEnd("links_1", End.SOURCE)


def test_self_loops_and_degrees_are_part_of_the_binding() -> None:
    bindings, cites = lifted("gcn").bindings, Relation("paper", "cites", "paper")
    assert bindings["src_cites_looped"] == LoopedEnd(cites, End.SOURCE)
    assert bindings["w_cites_looped"] == InDegreeWeights(cites, self_loops=True)
    assert lifted("gcn_no_loops").bindings["w_cites"] == InDegreeWeights(cites, self_loops=False)


def test_files_name_the_versions_that_wrote_them() -> None:
    for name in (*LIFTED, *REFUSED):
        metadata = {entry.key: entry.value for entry in exported(name).metadata_props}
        assert set(metadata) >= {"torch", "torch_geometric", "exporter"}


def test_a_lifted_model_that_computes_something_else_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    run = runtime.run_model

    def off(model: onnx.ModelProto, *arguments: object) -> object:
        found = run(model, *arguments)  # type: ignore[arg-type]
        return [array * 1.001 for array in found] if model.producer_name == "hetfab" else found

    monkeypatch.setattr(runtime, "run_model", off)
    with pytest.raises(ModelStructureError, match=r"the lifted model differs from the exported one by 1\.0e-03 of the"):
        lifted("sage")


def test_sizes_that_an_export_fixes_are_told() -> None:
    model = exported("gcn_deep")
    for value in model.graph.input:
        for dim in value.type.tensor_type.shape.dim:
            if not dim.dim_value:
                dim.dim_value = 19
    fixed: LiftedModel = lift(model, raw_inputs(model))
    assert fixed.bindings["n_paper"] is not None


def renamed_inputs(name: str, names: dict[str, str]) -> onnx.ModelProto:
    """A model with other names of its inputs."""
    model = exported(name)
    for value in model.graph.input:
        value.name = names.get(value.name, value.name)
    for node in model.graph.node:
        node.input[:] = [names.get(tensor, tensor) for tensor in node.input]
    return model


def test_inputs_with_other_names_are_asked_for() -> None:
    model = renamed_inputs("gcn", {"x_paper": "features", "edge_index_cites": "pairs"})
    with pytest.raises(InputsUnboundError) as caught:
        raw_inputs(model)
    assert re.search(r"unknown: 'features' \(float32 \[\w+, 12\]\), 'pairs' \(int64 \[2, \w+\]\)$", caught.value.found)
    assert "--bind FILE" in caught.value.do
    given: dict[str, dict[str, Any]] = {
        "features": {"kind": "features", "type": "paper"},
        "pairs": {"kind": "edges", "relation": ["paper", "cites", "paper"]},
    }
    found = raw_inputs(model, given)
    assert found["pairs"] == RawEdges("cites", Relation("paper", "cites", "paper"))
    assert "src_cites_looped" in lift(model, found).bindings


def test_edge_types_joined_as_pyg_joins_them_name_both_ends() -> None:
    model = renamed_inputs("sage", {"edge_index_writes": "edge_index_author__writes__paper"})
    assert lift(model, raw_inputs(model)).bindings["src_writes"] == RelationEnd(
        Relation("author", "writes", "paper"), End.SOURCE
    )


def test_an_input_without_a_type_is_one_of_nodes() -> None:
    assert raw_inputs(renamed_inputs("gcn", {"x_paper": "x"}))["x"] == RawFeatures("node", 12)


@pytest.mark.parametrize(
    ("entry", "text"),
    [
        ({"kind": "edges", "relation": ["paper", "cites"]}, "is not [source type, name, destination type]"),
        ({"kind": "features", "type": "paper"}, "which is int64 [2, "),
        ({"kind": "weights"}, "which is int64 [2, "),
    ],
)
def test_a_wrong_meaning_of_an_input_is_refused(entry: dict[str, object], text: str) -> None:
    with pytest.raises(BindingInvalidError) as caught:
        raw_inputs(exported("gcn"), {"edge_index_cites": entry})
    assert text in caught.value.found


def test_a_file_of_meanings_is_an_object_of_objects(tmp_path: Path) -> None:
    path = tmp_path / "bind.json"
    path.write_text("[]", encoding="utf-8")
    with pytest.raises(BindingInvalidError, match="is no object of objects"):
        read_raw_inputs(path)
