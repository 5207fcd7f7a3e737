# SPDX-License-Identifier: Apache-2.0
"""Everything that a float model needs changed is named at once, by quantize and by inspect, in the user's words."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.helper
import onnx.numpy_helper
import pytest

from hetfab.cli.main import main
from hetfab.driver.graph.heterograph import HeteroGraph
from hetfab.driver.graph.model_inputs import open_model
from hetfab.driver.graph.npz import write_graph
from hetfab.driver.session import check_geometry
from hetfab.overlay.design import default_design
from hetfab.overlay.errors import GeometryMismatchError, OperatorsUnsupportedError, counted
from hetfab.overlay.model import hgnn
from hetfab.overlay.model.binding import METADATA_KEY, Binding, End, Features, NodeCount, RelationEnd, to_json
from hetfab.overlay.model.parser import parse_layers, try_layers
from hetfab.overlay.model.schema import Relation
from tests.conftest import SMALL_GEOMETRY
from tests.random_models import ModelBuilder, academic_case, academic_graph, random_case

make = onnx.helper.make_node
QUANTIZE = ["quantize", "model.onnx", "--graph", "graph.npz", "-o", "new.q.onnx"]
INSPECT = ["inspect", "model.onnx", "--graph", "graph.npz"]
Failure = Callable[[list[str]], dict[str, str]]


@pytest.fixture
def graph() -> HeteroGraph:
    return academic_graph(np.random.default_rng(0), 40, 30, 5)


@pytest.fixture
def fail(tmp_path: Path, graph: HeteroGraph, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> Failure:
    """Runs a command that must fail beside ``graph.npz`` and returns its error; no new file may appear."""
    monkeypatch.chdir(tmp_path)
    write_graph(tmp_path / "graph.npz", graph)

    def call(arguments: list[str]) -> dict[str, str]:
        before = sorted(tmp_path.iterdir())
        capsys.readouterr()
        assert main([*arguments, "--json"]) == 1
        assert sorted(tmp_path.iterdir()) == before
        error: dict[str, str] = json.loads(capsys.readouterr().out)["error"]
        return error

    return call


def model_of(nodes: list[onnx.NodeProto], **constants: tuple[int, ...]) -> onnx.ModelProto:
    """A model of papers and authors with these operators, whose last output are the logits."""
    random = np.random.default_rng(0)
    arrays = {name: random.normal(size=shape).astype(np.float32) for name, shape in constants.items()}
    initializers = [onnx.numpy_helper.from_array(array, name) for name, array in arrays.items()]
    value = onnx.helper.make_tensor_value_info
    inputs = [value("x_paper", onnx.TensorProto.FLOAT, ["N", 17])]
    inputs += [value(f"{end}_cites", onnx.TensorProto.INT64, ["E"]) for end in ("src", "dst")]
    inputs += [value("n_paper", onnx.TensorProto.INT64, [])]
    logits = value(nodes[-1].output[0], onnx.TensorProto.FLOAT, ["N", None])
    imports = [onnx.helper.make_opsetid("", 20), onnx.helper.make_opsetid(hgnn.DOMAIN, hgnn.DOMAIN_VERSION)]
    imports += [onnx.helper.make_opsetid("other", 1)]
    proto = onnx.helper.make_graph(nodes, "mixed", inputs, [logits], initializers)
    return onnx.helper.make_model(proto, opset_imports=imports, ir_version=10, functions=[hgnn.function("SegMean")])


def mean(rows: str, output: str) -> onnx.NodeProto:
    return make("SegMean", [rows, "src_cites", "dst_cites", "n_paper"], [output], domain=hgnn.DOMAIN)


def mixed() -> onnx.ModelProto:
    """Unknown operators, one without a body, forms, and uses of layers, some of them behind others."""
    nodes = [
        make("Relu", ["x_paper"], ["early"]),
        make("Gemm", ["early", "w", "b"], ["scaled"], alpha=2.0),
        make("Snake", ["scaled"], ["snake"], domain="other"),
        make("MatMul", ["snake", "v"], ["first"]),
        make("MatMul", ["x_paper", "w"], ["second"]),
        mean("second", "near"),
        make("Concat", ["second", "near"], ["stacked"], axis=0),
        make("Add", ["first", "stacked"], ["pair"]),
        make("Add", ["pair", "near"], ["total"]),
        make("Mish", ["total"], ["leaky"], name="slope"),
        make("Relu", ["leaky"], ["once"]),
        make("Relu", ["once"], ["twice"]),
        make("MatMul", ["twice", "leaky"], ["gram"]),
        make("Add", ["near", "c"], ["shifted"]),
        make("Add", ["shifted", "gram"], ["sum"]),
        make("Relu", ["sum"], ["logits"]),
    ]
    return model_of(nodes, w=(17, 8), v=(8, 8), b=(8,), c=(8,))


MIXED = [
    "Gemm 'scaled': transA, alpha or beta is set; fold them into the weights",
    "other::Snake 'snake': the operator is not known; replace it by MatMul, Gemm, Add or Relu",
    "Mish 'slope': the operator is not known; replace it by MatMul, Gemm, Add or Relu",
    "Relu 'early': it reads the input 'x_paper'; apply it to the features beforehand",
    "Relu 'twice': it follows another Relu; leave it out",
    "Relu 'logits': it is the model's output; leave it out, predictions stay the same",
    "Add 'total': a sum has aggregations, dense layers, stored tensors and constants; add nothing else",
]


def test_quantize_names_all_problems_at_once(fail: Failure, tmp_path: Path) -> None:
    onnx.save(mixed(), tmp_path / "model.onnx")
    error = fail(QUANTIZE)
    assert error["code"] == "operators-unsupported"
    assert error["found"].splitlines() == ["7 operators not supported:", *(f"    {line}" for line in MIXED)]


@pytest.mark.parametrize("options", [[], ["--graph", "graph.npz"]])
def test_inspect_names_the_same_as_quantize(
    fail: Failure, tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str]
) -> None:
    onnx.save(mixed(), tmp_path / "model.onnx")
    assert main(["inspect", "model.onnx", *options, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["refused"] == MIXED
    assert main(["inspect", "model.onnx", *options]) == 0
    out = capsys.readouterr().out
    assert out.splitlines()[-8:] == ["7 operators not executed on the overlay:", *(f"  {line}" for line in MIXED)]


def test_what_lies_behind_a_gap_is_not_refused_for_it() -> None:
    """The gap may become a dense layer or an aggregation; only what stays wrong either way is named."""
    nodes = [
        make("Sin", ["x_paper"], ["gap"]),
        make("Add", ["gap", "b"], ["biased"]),
        make("MatMul", ["biased", "w"], ["dense"]),
        make("Transpose", ["w"], ["turned"]),
        make("MatMul", ["dense", "turned"], ["wide"]),
        mean("wide", "near"),
        make("Add", ["wide", "near"], ["total"]),
        make("Relu", ["total"], ["hidden"]),
        make("MatMul", ["hidden", "w"], ["logits"]),
    ]
    refused = try_layers(model_of(nodes, w=(17, 4), b=(17,))).refused
    assert [line.split(":")[0] for line in refused] == ["Sin 'gap'", "Transpose 'turned'"]


@pytest.mark.parametrize("seed", range(12))
def test_breaking_one_operator_of_a_good_model_names_that_one(seed: int) -> None:
    model = random_case(seed).model
    assert try_layers(model).refused == ()
    for position, node in enumerate(model.graph.node):
        broken = onnx.ModelProto()
        broken.CopyFrom(model)
        broken.graph.node[position].op_type = "Mystery"
        broken.graph.node[position].domain = "other"
        found = try_layers(broken).refused
        assert [line.split(":")[2] for line in found] == [f"Mystery '{node.output[0]}'"], (seed, position)


@pytest.mark.parametrize(
    ("nodes", "constants", "line"),
    [
        (
            [make("MatMul", ["t", "v"], ["logits"])],
            {"t": (8,), "v": (8, 3)},
            "MatMul 'logits': it reads rows of nodes from the initializer 't' of shape [8]; "
            "export a table of two dimensions, with one row per node",
        ),
        (
            [make("Gemm", ["x_paper", "w", "b"], ["logits"])],
            {"w": (17, 3), "b": (40, 3)},
            "Gemm 'logits': its bias has the shape [40, 3]; give it one number for each of 3 channels",
        ),
        (
            [make("MatMul", ["x_paper", "w"], ["h"]), make("Add", ["h", "b"], ["logits"])],
            {"w": (17, 3), "b": (1, 1, 3)},
            "Add 'logits': its bias has the shape [1, 1, 3]; give it one number for each of 3 channels",
        ),
        (
            [make("MatMul", ["x_paper", "w"], ["h"]), make("Add", ["h", "b"], ["logits"])],
            {"w": (17, 1), "b": (3,)},
            "Add 'logits': its bias has the shape [3]; give it one number for each of 1 channel",
        ),
    ],
)
def test_forms_that_no_layer_has(nodes: list[onnx.NodeProto], constants: dict[str, tuple[int, ...]], line: str) -> None:
    model = model_of(nodes, **constants)
    assert list(try_layers(model).refused) == [line]
    with pytest.raises(OperatorsUnsupportedError) as caught:
        parse_layers(model)
    assert caught.value.refused == (line,)
    assert caught.value.found == f"1 operator not supported:\n    {line}"


# Bindings and types


def test_swapped_ends_are_said_in_words(fail: Failure, tmp_path: Path, graph: HeteroGraph) -> None:
    model = academic_case().model
    swapped: dict[str, Binding] = {}
    for name in ("writes", "cites"):
        relation = next(relation for relation in graph.relations if relation.name == name)
        swapped |= {
            f"src_{name}": RelationEnd(relation, End.DESTINATION),
            f"dst_{name}": RelationEnd(relation, End.SOURCE),
        }
    onnx.helper.set_model_props(model, {METADATA_KEY: to_json(swapped)})
    onnx.save(model, tmp_path / "model.onnx")
    for command in (QUANTIZE, INSPECT):
        assert fail(command) == {
            "code": "binding-invalid",
            "found": "'src_writes' and 'dst_writes' mean destination ids of writes (author -> paper) and source ids of "
            "writes (author -> paper)\n"
            "'src_cites' and 'dst_cites' mean destination ids of cites (paper -> paper) and source ids of "
            "cites (paper -> paper)",
            "expected": "the source ids and the destination ids of the same relation or metapath",
            "do": "correct the input binding (`--bind FILE`), or the order of the operator's inputs",
        }


@pytest.mark.parametrize(("kind", "name"), [(onnx.TensorProto.FLOAT16, "float16"), (onnx.TensorProto.DOUBLE, "double")])
def test_a_model_of_other_floats(fail: Failure, tmp_path: Path, kind: int, name: str) -> None:
    """The whole model is of one type, as an export after ``model.half()`` is; counts are of another one."""
    model = academic_case().model
    for value in [*model.graph.input, *model.graph.output]:
        if value.type.tensor_type.elem_type == onnx.TensorProto.FLOAT:
            value.type.tensor_type.elem_type = kind
        elif value.name == "n_paper":
            value.type.tensor_type.elem_type = onnx.TensorProto.INT32
    for tensor in model.graph.initializer:
        array = onnx.numpy_helper.to_array(tensor).astype(onnx.helper.tensor_dtype_to_np_dtype(kind))
        tensor.CopyFrom(onnx.numpy_helper.from_array(array, tensor.name))
    onnx.save(model, tmp_path / "model.onnx")
    weights = [f"initializer '{tensor.name}' is {name}" for tensor in model.graph.initializer]
    inputs = {
        value.name: "int32" if value.name == "n_paper" else name
        for value in model.graph.input
        if value.name.startswith(("x_", "n_"))
    }
    listed = [f"input '{value}' is {found}" for value, found in inputs.items()]
    for command in (QUANTIZE, INSPECT, INSPECT[:2], ["graph", "graph.npz", "--model", "model.onnx"]):
        assert fail(command) == {
            "code": "model-structure",
            "found": "the model has types that hetfab does not read: " + ", ".join([*listed, *weights]),
            "expected": "float32 for features, means and weights; int64 for ids, edge types and counts",
            "do": "export the model with these types, in PyTorch after `model.float()`",
        }


def test_a_type_that_onnx_does_not_have_is_named_by_its_number(fail: Failure, tmp_path: Path) -> None:
    """As mutated bytes of a file give it."""
    model = academic_case().model
    model.graph.input[0].type.tensor_type.elem_type = (1 << 31) - 1
    onnx.save(model, tmp_path / "model.onnx")
    found = f"input '{model.graph.input[0].name}' is type 2147483647, which ONNX does not have"
    for command in (QUANTIZE, INSPECT):
        report = fail(command)
        assert report["code"] == "model-structure" and found in report["found"]


def test_inputs_that_cannot_be_what_they_mean_are_named_at_once(
    fail: Failure, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    onnx.save(academic_case().model, tmp_path / "model.onnx")
    wrong: dict[str, Binding] = {"x_paper": NodeCount("paper"), "n_paper": Features("paper")}
    (tmp_path / "bind.json").write_text(to_json(wrong))
    parts = [
        "'x_paper' is float32 with 2 dimensions, but means number of paper nodes",
        "'n_paper' is int64 with no dimension, but means features of paper",
    ]
    for command in (QUANTIZE, INSPECT, INSPECT[:2]):
        assert fail([*command, "--bind", "bind.json"]) == {
            "code": "binding-invalid",
            "found": "inputs of the model have another form than what they mean: " + "; ".join(parts),
            "expected": "float32 with two dimensions for features and means and with one for weights of edges, "
            "int64 with one for ids and edge types, "
            "an int64 scalar for counts, float32 with the batch and the sizes of a sample for samples",
            "do": "correct the input binding (`--bind FILE`), the inputs' names, or the export",
        }
    assert main(["graph", "graph.npz", "--model", "model.onnx", "--bind", "bind.json", "--json"]) == 0
    problems = [entry["problem"] for entry in json.loads(capsys.readouterr().out)["model"]]
    assert sorted(problem for problem in problems if problem) == sorted(parts)


def test_what_follows_the_logits_is_to_be_left_out() -> None:
    model = model_of([make("MatMul", ["x_paper", "w"], ["h"]), make("Softmax", ["h"], ["shares"])], w=(17, 3))
    assert try_layers(model).refused == (
        "Softmax 'shares': it is the model's output; leave it out, so that the logits are the output",
    )


def test_candidates_are_compared_on_the_type_that_the_model_predicts(tmp_path: Path, graph: HeteroGraph) -> None:
    """A graph's target may be another type; its labels and splits say nothing of the model's logits."""
    onnx.save(academic_case().model, tmp_path / "model.onnx")
    splits = {"paper": {"val": np.array([1, 2])}, "author": {"val": np.array([29])}}
    other = replace(graph, target="author", splits=splits, labels={"paper": np.zeros((40, 2), np.uint8)})
    evaluation = open_model(tmp_path / "model.onnx", other).evaluation
    assert evaluation.rows is not None and evaluation.rows.tolist() == [1, 2]
    assert evaluation.multilabel


def test_rows_of_two_types_are_refused_by_quantize(fail: Failure, tmp_path: Path, graph: HeteroGraph) -> None:
    builder = ModelBuilder(np.random.default_rng(0), graph)
    first = builder.mean(builder.dense(builder.features("author"), 6), "writes", "paper")
    second = builder.dense(builder.features("author"), 6)
    onnx.save(builder.finish(builder.total([first, second])), tmp_path / "model.onnx")
    error = fail(QUANTIZE)
    assert error["code"] == "model-structure"
    assert "are nodes of type 'paper' and of type 'author'" in error["found"]


# Words


def test_designs_of_one_name_are_told_apart() -> None:
    default = default_design()
    small = replace(default, geometry=SMALL_GEOMETRY)
    with pytest.raises(GeometryMismatchError) as caught:
        check_geometry(default, small)
    hashes = [design.geometry.hash()[:16] for design in (default, small)]
    assert caught.value.found.startswith(
        f"the program was compiled for the design 'pynq-z2' with geometry {hashes[0]}, "
        f"the overlay is of the design 'pynq-z2' with geometry {hashes[1]}: gemm_d_rows "
        f"{default.geometry.gemm_d_rows} / {SMALL_GEOMETRY.gemm_d_rows}"
    )


@pytest.mark.parametrize(("number", "text"), [(0, "0 nodes"), (1, "1 node"), (2, "2 nodes"), (1200, "1,200 nodes")])
def test_numbers_have_their_noun(number: int, text: str) -> None:
    assert counted(number, "node") == text


@pytest.mark.parametrize(("names", "words"), [([], "; it is empty"), (["a"], ", but a"), (list("abcdefghi"), ", ...")])
def test_a_folder_without_a_graph(fail: Failure, tmp_path: Path, names: list[str], words: str) -> None:
    (tmp_path / "folder").mkdir()
    for name in names:
        (tmp_path / "folder" / name).write_text("")
    found = fail(["graph", "folder"])["found"]
    assert found.startswith("the folder 'folder' holds no graph") and found.endswith(words)


def test_relations_show_their_ends() -> None:
    assert str(Relation("a", "r", "b")) == "r (a -> b)"
