# SPDX-License-Identifier: Apache-2.0
"""What commands say about wrong input: exit status, one JSON object, full texts, and no file left behind."""

import json
import re
import shutil
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
from hetfab.driver.graph.heterograph import Edges, HeteroGraph
from hetfab.driver.graph.npz import write_graph
from hetfab.overlay.compiler.compile import compile_model
from hetfab.overlay.design import Design, default_design
from hetfab.overlay.errors import SplitInvalidError
from hetfab.overlay.model import hgnn
from hetfab.overlay.model.binding import METADATA_KEY, Binding, End, Features, RelationEnd, to_json
from hetfab.overlay.model.bound_model import BoundModel
from hetfab.overlay.model.reader import bindings_of, model_hash, read_model
from hetfab.overlay.model.schema import Relation
from tests.conftest import SMALL_GEOMETRY
from tests.random_models import Case, ModelBuilder, academic_case

Failure = Callable[..., dict[str, str]]
Captured = pytest.CaptureFixture[str]
WRITES = Relation("author", "writes", "paper")


@pytest.fixture(scope="module")
def case() -> Case:
    return academic_case()


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory, case: Case) -> Path:
    """A folder with ``model.onnx``, ``graph.npz``, ``model.q.onnx`` and ``model.hfp``, made by the commands."""
    folder = tmp_path_factory.mktemp("originals")
    onnx.save(case.model, folder / "model.onnx")
    write_graph(folder / "graph.npz", case.graph)
    paths = {name: str(folder / name) for name in ("model.onnx", "graph.npz", "model.q.onnx", "model.hfp")}
    graph = ["--graph", paths["graph.npz"]]
    assert main(["quantize", paths["model.onnx"], *graph, "-o", paths["model.q.onnx"]]) == 0
    assert main(["compile", paths["model.q.onnx"], *graph, "-o", paths["model.hfp"]]) == 0
    return folder


@pytest.fixture
def files(originals: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the folder, which is also the working folder, so that texts hold bare names."""
    folder = tmp_path / "files"
    shutil.copytree(originals, folder)
    monkeypatch.chdir(folder)
    monkeypatch.delenv("HETFAB_DEBUG", raising=False)
    return folder


@pytest.fixture
def fail(files: Path, capsys: pytest.CaptureFixture[str]) -> Failure:
    """Runs a command that must fail and returns its error; checks stdout and that no file came or changed."""

    def call(*arguments: str, status: int = 1) -> dict[str, str]:
        capsys.readouterr()
        before = {path: path.read_bytes() for path in files.rglob("*") if path.is_file()}
        assert main([*arguments, "--json"]) == status
        assert {path: path.read_bytes() for path in files.rglob("*") if path.is_file()} == before
        lines = capsys.readouterr().out.splitlines()
        assert len(lines) == 1
        found: dict[str, Any] = json.loads(lines[0])
        assert list(found) == ["error"] and list(found["error"]) == ["code", "found", "expected", "do"]
        # The same for people: nothing on stdout, the same words on stderr.
        assert main(list(arguments)) == status
        captured = capsys.readouterr()
        words = captured.err.replace("\n    ", "\n")
        assert all(found["error"][part] in words for part in ("found", "expected", "do"))
        error: dict[str, str] = found["error"]
        return error

    return call


QUANTIZE = ("quantize", "model.onnx", "--graph", "graph.npz", "-o", "new.q.onnx")
COMPILE = ("compile", "model.q.onnx", "--graph", "graph.npz", "-o", "new.hfp")
INSPECT = ("inspect", "model.onnx", "--graph", "graph.npz")
RUN = ("run", "model.hfp", "--graph", "graph.npz", "-o", "new.npz")
MODEL_EXPECTED = "an ONNX file of opset 17 to 21"
MODEL_DO = "check the path and that the file was copied whole"


def rewritten(path: Path, change: Callable[[onnx.ModelProto], None]) -> None:
    model = onnx.load(path)
    change(model)
    onnx.save(model, path)


# Models


@pytest.mark.parametrize("content", [b"", b"no model", b"\x00" * 100])
@pytest.mark.parametrize("command", [QUANTIZE, COMPILE, ("inspect", "model.onnx")])
def test_a_file_that_is_no_onnx(fail: Failure, files: Path, command: tuple[str, ...], content: bytes) -> None:
    (files / command[1]).write_bytes(content)
    error = fail(*command)
    assert error["code"] == "model-unreadable"
    assert error["found"] in [
        f"cannot read the model '{command[1]}': {reason}"
        for reason in ("it is not ONNX, or it is truncated", "it holds no graph")
    ]
    assert (error["expected"], error["do"]) == (MODEL_EXPECTED, MODEL_DO)


def test_a_truncated_model(fail: Failure, files: Path) -> None:
    whole = (files / "model.onnx").read_bytes()
    for length in np.linspace(1, len(whole) - 1, 12).astype(int):
        (files / "model.onnx").write_bytes(whole[:length])
        assert fail(*QUANTIZE)["code"] in ("model-unreadable", "model-version")


def test_a_missing_model(fail: Failure, files: Path) -> None:
    (files / "model.onnx").unlink()
    assert fail(*QUANTIZE) == {
        "code": "model-unreadable",
        "found": "cannot read the model 'model.onnx': No such file or directory",
        "expected": MODEL_EXPECTED,
        "do": MODEL_DO,
    }


def test_weights_beside_the_model(
    fail: Failure, files: Path, case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An exporter may write weights to another file; they are found from any working folder."""
    model = onnx.ModelProto()
    model.CopyFrom(case.model)
    onnx.save(model, files / "split.onnx", save_as_external_data=True, location="weights", size_threshold=0)
    arguments = ["--graph", str(files / "graph.npz"), "-o", str(files / "new.q.onnx")]
    monkeypatch.chdir(tmp_path)
    assert main(["quantize", str(files / "split.onnx"), *arguments]) == 0
    assert (files / "new.q.onnx").read_bytes() == (files / "model.q.onnx").read_bytes()
    monkeypatch.chdir(files)
    (files / "weights").unlink()
    error = fail("quantize", "split.onnx", *QUANTIZE[2:-1], "newer.q.onnx")
    assert error["code"] == "model-unreadable"
    assert error["found"].startswith("cannot read weights of the model 'split.onnx' that are in another file: ")
    assert error["do"] == "copy them too, or export the model with its weights in one file"


def test_a_model_of_another_opset(fail: Failure, files: Path) -> None:
    def change(model: onnx.ModelProto) -> None:
        model.opset_import[0].version = 12

    rewritten(files / "model.onnx", change)
    assert fail(*QUANTIZE) == {
        "code": "model-version",
        "found": "'model.onnx' has opset 12 and IR version 10",
        "expected": "opset 17 to 21 and an IR version of at most 10",
        "do": "export the model again with such an opset, or convert it with onnx.version_converter",
    }


def test_weights_with_nan(fail: Failure, files: Path) -> None:
    def change(model: onnx.ModelProto) -> None:
        tensor = next(t for t in model.graph.initializer if len(t.dims) == 2)
        values = onnx.numpy_helper.to_array(tensor).copy()
        values[0, 0] = np.nan
        tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))

    rewritten(files / "model.onnx", change)
    error = fail(*QUANTIZE)
    assert (error["code"], error["expected"]) == ("model-structure", "finite weights")
    assert error["found"].startswith("initializers contain NaN or infinity: c")


def han() -> onnx.ModelProto:
    """A small HAN whose heads are no axis and whose tensors are not stacked; unnamed nodes and a named one."""
    make = onnx.helper.make_node
    nodes = [
        make("MatMul", ["x_paper", "w"], ["h"]),
        make("MatMul", ["h", "a"], ["left"]),
        make("EdgeAtt", ["h", "left", "left", "src_cites", "dst_cites", "n_paper"], ["z"], domain=hgnn.DOMAIN),
        make("Elu", ["z"], ["e"], name="after_attention"),
        make("Tanh", ["h"], ["t"]),
        make("ReduceMean", ["t"], ["beta"], keepdims=1),
        make("Softmax", ["beta"], ["share"], axis=0),
        make("Mul", ["h", "share"], ["weighted"]),
        make("MatMul", ["weighted", "v"], ["logits"]),
    ]
    random = np.random.default_rng(0)
    shapes = {"w": (17, 8), "a": (8, 1), "v": (8, 3)}
    constants = [
        onnx.numpy_helper.from_array(random.normal(size=shape).astype(np.float32), name)
        for name, shape in shapes.items()
    ]
    inputs = [onnx.helper.make_tensor_value_info("x_paper", onnx.TensorProto.FLOAT, ["N", 17])]
    inputs += [onnx.helper.make_tensor_value_info(f"{e}_cites", onnx.TensorProto.INT64, ["E"]) for e in ("src", "dst")]
    inputs += [onnx.helper.make_tensor_value_info("n_paper", onnx.TensorProto.INT64, [])]
    output = onnx.helper.make_tensor_value_info("logits", onnx.TensorProto.FLOAT, ["N", 3])
    imports = [onnx.helper.make_opsetid("", 20), onnx.helper.make_opsetid(hgnn.DOMAIN, hgnn.DOMAIN_VERSION)]
    graph = onnx.helper.make_graph(nodes, "han", inputs, [output], constants)
    return onnx.helper.make_model(graph, opset_imports=imports, ir_version=10, functions=[hgnn.function("EdgeAtt")])


def test_unsupported_operators_are_named_at_once(fail: Failure, files: Path) -> None:
    onnx.save(han(), files / "model.onnx")
    assert fail(*QUANTIZE) == {
        "code": "operators-unsupported",
        "found": "\n    ".join(
            [
                "2 operators not supported:",
                "hgnn::EdgeAtt 'z': 'h' is not a matrix whose columns a Reshape divides into heads; "
                "write it as Reshape of [N, heads * width] to [N, heads, width]",
                "ReduceMean 'beta': it is not the mean over the nodes of stacked tensors; use hgnn::SegMean",
            ]
        ),
        "expected": "MatMul or Gemm with constant weights, Add, Relu, functions of one number, LayerNormalization, "
        "the graph operators of the domain hgnn; sums of aggregations and dense layers",
        "do": "change the model as each line says",
    }


def test_inspect_shows_what_is_not_executed(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    onnx.save(han(), files / "model.onnx")
    assert main(["inspect", "model.onnx", "--graph", "graph.npz", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert len(found["refused"]) == 2 and found["layers"] == []


def test_operators_without_a_body(fail: Failure, files: Path) -> None:
    def change(model: onnx.ModelProto) -> None:
        model.opset_import.append(onnx.helper.make_opsetid("other", 1))
        node = next(node for node in model.graph.node if node.op_type == "Relu")
        node.op_type, node.domain = "Snake", "other"

    rewritten(files / "model.onnx", change)
    error = fail(*QUANTIZE)
    assert error["code"] == "operators-unsupported"
    head, line = error["found"].splitlines()
    assert head == "1 operator not supported:"
    assert line.startswith("    other::Snake '") and "the operator is not known" in line


def test_a_float_model_is_not_compiled(fail: Failure) -> None:
    assert fail("compile", "model.onnx", "-o", "new.hfp") == {
        "code": "model-not-quantized",
        "found": "the model has no 'Quant' operator",
        "expected": "a quantized model, as `hetfab quantize` writes it",
        "do": "run `hetfab quantize MODEL --graph GRAPH -o QUANTIZED` and compile its result",
    }


def test_a_quantized_model_is_not_quantized_again(fail: Failure) -> None:
    assert fail("quantize", "model.q.onnx", *QUANTIZE[2:]) == {
        "code": "model-quantized",
        "found": "the model is quantized already: it has 'Quant' operators",
        "expected": "a float model",
        "do": "compile it as it is (`hetfab compile`), or give the float model",
    }


# Bindings


def renamed(model: onnx.ModelProto, names: dict[str, str]) -> None:
    for value in model.graph.input:
        value.name = names.get(value.name, value.name)
    for node in model.graph.node:
        for position, name in enumerate(node.input):
            node.input[position] = names.get(name, name)


def test_inputs_without_meaning_are_named_at_once(fail: Failure, files: Path) -> None:
    rewritten(files / "model.onnx", lambda model: renamed(model, {"x_paper": "papers", "src_writes": "from"}))
    error = fail(*QUANTIZE)
    assert (error["code"], error["found"]) == (
        "inputs-unbound",
        "the meaning of these inputs is unknown: papers, from",
    )
    assert error["expected"] == (
        f"metadata '{METADATA_KEY}' in the model, or names such as x_<type>, n_<type>, src_<relation or metapath>,"
        " dst_<relation or metapath>, src_into_<type>, dst_into_<type>, w_<relation>, M_<relation>_<relation>, M_self,"
        " or src, dst and etype"
    )
    assert "--bind FILE" in error["do"]


def test_bindings_that_mix_relations(fail: Failure, files: Path) -> None:
    rewritten(files / "model.onnx", lambda model: renamed(model, {"src_writes": "src_reviews"}))
    error = fail(*QUANTIZE)
    assert error["code"] == "binding-invalid"
    assert error["found"].startswith("'src_reviews' and 'dst_writes' mean ")


def test_a_count_of_another_type(fail: Failure, files: Path) -> None:
    rewritten(files / "model.onnx", lambda model: renamed(model, {"n_paper": "n_author"}))
    assert fail(*QUANTIZE) == {
        "code": "binding-invalid",
        "found": "'n_author' counts the nodes of type 'author', but the edges 'writes' lead to type 'paper'\n"
        "'n_author' counts the nodes of type 'author', but the edges 'cites' lead to type 'paper'",
        "expected": "the number of the edges' destination nodes",
        "do": "correct the input binding (`--bind FILE`), or the operator's input",
    }


def test_missing_relations_are_named_at_once(fail: Failure, files: Path, case: Case) -> None:
    relations = {r: edges for r, edges in case.graph.relations.items() if r.name not in ("writes", "cites")}
    write_graph(files / "graph.npz", replace(case.graph, relations=relations))
    for command in (QUANTIZE, COMPILE):
        error = fail(*command)
        assert error["code"] == "relation-missing"
        for name in ("src_writes", "dst_writes", "src_cites", "dst_cites"):
            assert f"input '{name}' needs " in error["found"]
    assert fail(*RUN)["found"] == (
        "the graph 'academic' lacks what the program reads: relation writes (author -> paper),"
        " relation cites (paper -> paper)"
    )


def test_a_binding_file_that_is_no_json(fail: Failure, files: Path) -> None:
    (files / "bind.json").write_text("{")
    error = fail(*QUANTIZE, "--bind", "bind.json")
    assert error["code"] == "binding-invalid"
    assert error["found"].startswith("the binding 'bind.json': ")


# Graphs


def write_unchecked(path: Path, graph: HeteroGraph, **changes: Any) -> None:
    """Writes a graph that contradicts itself, which no checked graph can."""
    wrong = object.__new__(HeteroGraph)
    for name, value in {**vars(graph), **changes}.items():
        object.__setattr__(wrong, name, value)
    write_graph(path, wrong)


def test_ids_outside_their_type(fail: Failure, files: Path, case: Case) -> None:
    edges = Edges(np.array([0, 30, 99]), np.array([0, 1, 2]))
    write_unchecked(files / "graph.npz", case.graph, relations={**case.graph.relations, WRITES: edges})
    for command in (QUANTIZE, COMPILE, RUN):
        assert fail(*command) == {
            "code": "graph-invalid",
            "found": "in the graph 'graph.npz': relation 'writes', source: entry 1 is the id 30 (entries outside: 2)",
            "expected": "ids from 0 to 29, as type 'author' has 30 nodes",
            "do": "correct the graph where it is made",
        }


def test_features_with_nan(fail: Failure, files: Path, case: Case) -> None:
    table = case.graph.dense_features("paper").copy()
    table[3, 4] = np.nan
    write_unchecked(files / "graph.npz", case.graph, features={**case.graph.features, "paper": table})
    for command in (QUANTIZE, COMPILE, RUN):
        assert fail(*command) == {
            "code": "features-not-finite",
            "found": "in the graph 'graph.npz': features of 'paper': row 3, column 4 is nan (such values: 1)",
            "expected": "finite numbers",
            "do": "replace NaN and infinity where the graph is made",
        }


def test_features_of_another_width(fail: Failure, files: Path, case: Case) -> None:
    table = np.zeros((40, 20), np.float32)
    write_graph(files / "graph.npz", replace(case.graph, features={**case.graph.features, "paper": table}))
    assert fail(*QUANTIZE) == {
        "code": "feature-width",
        "found": "the graph 'academic' gives the input 'x_paper' 20 columns",
        "expected": "17 columns, as the model has them",
        "do": "use the graph that the model was made for, or features of the model's width",
    }
    for command in (COMPILE, RUN):
        assert fail(*command) == {
            "code": "feature-width",
            "found": "the features of 'paper' have 20 columns",
            "expected": "17, the width of the model's input 'x_paper'",
            "do": "use the features that the model was trained on",
        }


def test_features_that_are_missing(fail: Failure, files: Path, case: Case) -> None:
    write_graph(files / "graph.npz", replace(case.graph, features={"paper": case.graph.features["paper"]}))
    for command in (QUANTIZE, COMPILE, RUN):
        assert fail(*command)["code"] == "features-missing"


def test_a_model_made_for_other_counts(fail: Failure, files: Path) -> None:
    """Rows that the file fixes, be it in an input's shape or in an operator's count."""

    def fix_rows(model: onnx.ModelProto) -> None:
        value = next(value for value in model.graph.input if value.name == "x_paper")
        value.type.tensor_type.shape.dim[0].dim_value = 41

    rewritten(files / "model.onnx", fix_rows)
    assert fail(*QUANTIZE) == {
        "code": "count-fixed",
        "found": "the graph 'academic' has 40 nodes of type 'paper'",
        "expected": "41, the rows that the model's input 'x_paper' has",
        "do": "use the graph that the model was made for, or export the model with free numbers of nodes",
    }


@pytest.mark.parametrize("count", [39, 41])
def test_an_operator_made_for_other_counts(fail: Failure, files: Path, count: int) -> None:
    def fix_count(model: onnx.ModelProto) -> None:
        value = next(value for value in model.graph.input if value.name == "n_paper")
        model.graph.input.remove(value)
        model.graph.initializer.append(onnx.numpy_helper.from_array(np.array(count, np.int64), "n_paper"))

    rewritten(files / "model.onnx", fix_count)
    for command in (QUANTIZE, INSPECT):
        assert fail(*command) == {
            "code": "count-fixed",
            "found": "the graph has other numbers of nodes than the model is made for: "
            f"40 of type 'paper', the constant 'n_paper' says {count}",
            "expected": "the numbers that the model says",
            "do": "use the graph that the model was made for",
        }


@pytest.mark.parametrize("rows", [4, 6])
def test_a_learned_table_for_other_counts(fail: Failure, files: Path, case: Case, rows: int) -> None:
    """Too few rows would read outside, too many belong to another graph."""
    builder = ModelBuilder(np.random.default_rng(0), case.graph)
    table = builder.table("term", 6)
    onnx.save(builder.finish(builder.mean(table, "in", "paper")), files / "model.onnx")

    def cut(model: onnx.ModelProto) -> None:
        tensor = next(tensor for tensor in model.graph.initializer if tensor.name == table)
        tensor.CopyFrom(onnx.numpy_helper.from_array(np.zeros((rows, 6), np.float32), table))

    rewritten(files / "model.onnx", cut)
    for command in (QUANTIZE, INSPECT):
        error = fail(*command)
        assert (error["code"], error["found"]) == (
            "count-fixed",
            "the graph has other numbers of nodes than the model is made for: "
            f"5 of type 'term', the learned table 'c0' says {rows}",
        )


def without_papers(graph: HeteroGraph) -> HeteroGraph:
    none = Edges(np.zeros(0, np.int64), np.zeros(0, np.int64))
    features = {**graph.features, "paper": np.zeros((0, 17), np.float32)}
    relations = {r: none if "paper" in r else edges for r, edges in graph.relations.items()}
    return replace(graph, counts={**graph.counts, "paper": 0}, relations=relations, features=features)


def test_a_graph_without_target_vertices(fail: Failure, files: Path, case: Case) -> None:
    write_graph(files / "graph.npz", without_papers(case.graph))
    assert fail(*QUANTIZE)["found"] == "there is no node to compare the logits of candidates on"


@pytest.mark.parametrize("command", [QUANTIZE, COMPILE, RUN])
def test_a_graph_file_that_is_none(fail: Failure, files: Path, command: tuple[str, ...]) -> None:
    (files / "graph.npz").write_bytes(b"no graph")
    error = fail(*command)
    assert error["code"] == "graph-unreadable"
    assert error["found"].startswith("cannot read the graph 'graph.npz': ")


# Designs and programs


def write_design(path: Path, design: Design) -> None:
    path.write_text(json.dumps(design.as_dict()))


def with_geometry(**values: Any) -> Design:
    """The default design with other parameters."""
    design = default_design()
    return replace(design, geometry=replace(design.geometry, **values))


@pytest.mark.parametrize(
    ("memory", "words", "need", "split"),
    [
        ("act_d", 14, 8, "1"),
        ("wgt_d", 62, 32, "1"),
        ("acc_d", 2, 2, "1"),
        ("act_l", 6, 4, "0"),
        ("wgt_l", 62, 32, "0"),
        ("acc_l", 2, 2, "0"),
        ("out", 4, 8, "auto"),
        ("par", 2, 2, "auto"),
        ("sum", 1, 2, "auto"),
    ],
)
def test_a_design_whose_buffers_hold_no_tile(
    fail: Failure, files: Path, memory: str, words: int, need: int, split: str
) -> None:
    """9 channels are two groups of 8 columns; a block of input is 8 beats, or 2 slices of 2 words of 32 bytes."""
    arrays = {"gemm_d_rows": 2, "gemm_d_cols": 8, "gemm_l_rows": 2, "gemm_l_cols": 8}
    write_design(files / "design.json", with_geometry(**arrays, **{f"{memory}_words": words}))
    command = (*COMPILE, "--design", "design.json", "--split", split)
    error = fail(*command)
    layer = error["found"].split("'")[1]
    assert error == {
        "code": "design-too-small",
        "found": f"layer '{layer}' needs {need} words in each of the 2 slots of {memory}_ram, which hold {words // 2}",
        "expected": f"{memory}_words of at least {2 * need}",
        "do": "use a design with a larger buffer",
    }
    write_design(files / "design.json", with_geometry(**arrays, **{f"{memory}_words": 2 * need}))
    assert main(list(command)) == 0


def test_a_core_with_too_small_buffers_leaves_the_layer_to_the_other(files: Path, capsys: Captured) -> None:
    write_design(files / "design.json", with_geometry(act_d_words=1))
    assert main([*COMPILE, "--design", "design.json", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["channels"] == {"gemm_d": 0, "gemm_l": 27}


def test_a_split_gives_each_core_its_share(files: Path, capsys: Captured) -> None:
    """Cut at groups of 8 channels; the logits are the same."""
    found = {}
    for split in ("0", "0.9", "1"):
        assert main([*COMPILE, "--split", split, "--json"]) == 0
        found[split] = json.loads(capsys.readouterr().out)
        assert main([*RUN, "--reference", "model.q.onnx", "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["max_logit_lsb"] == 0
    assert [found[split]["split"] for split in found] == [0, 0.9, 1]
    assert [found[split]["channels"] for split in found] == [
        {"gemm_d": 0, "gemm_l": 27},
        {"gemm_d": 24, "gemm_l": 3},
        {"gemm_d": 27, "gemm_l": 0},
    ]
    assert main([*COMPILE, "--split", "0.9"]) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    (dense,) = [row for row in rows if row[:5] == ["layer", "rows", "of", "dense", "in"]]
    assert " ".join(dense[5:-1]) == "out on D on L weight bits out bits aggregates tile rows"
    shown = [row[2:8] for row in rows if row[-2:] == ["vec", "store"]]
    assert shown == [["5", "9", "8", "1", "8", "8"], ["17", "9", "8", "1", "8", "8"], ["9", "9", "8", "1", "8", "32"]]


@pytest.mark.parametrize("split", ["1.5", "-0.1", "nan", "half", ""])
def test_a_split_that_is_no_share(files: Path, split: str, capsys: Captured) -> None:
    assert main([*COMPILE, "--split", split]) == 2
    assert (
        f"Invalid value for '--split': '{split}' is neither 'auto' nor a number from 0 (all on GEMM-L) to 1 (all on "
        "GEMM-D)." in " ".join(capsys.readouterr().err.split())
    )


@pytest.mark.parametrize(("core", "other", "split"), [("gemm_d", "gemm_l", "0.25"), ("gemm_l", "gemm_d", "0.75")])
def test_a_split_needs_both_cores(fail: Failure, files: Path, core: str, other: str, split: str) -> None:
    engines = tuple(engine for engine in default_design().geometry.engines if engine != core)
    write_design(files / "design.json", with_geometry(engines=engines))
    assert fail(*COMPILE, "--design", "design.json", "--split", split) == {
        "code": "split-invalid",
        "found": f"a share of 0.25 of the output channels on {core}, which the design 'pynq-z2' lacks",
        "expected": "a share of 0 on a core that is not there",
        "do": "leave the share to the compiler, or choose a design with both cores",
    }
    for allowed in ("auto", "1" if core == "gemm_l" else "0"):
        assert main([*COMPILE, "--design", "design.json", "--split", allowed]) == 0


@pytest.mark.parametrize("share", [1.5, -0.5, float("nan")])
def test_a_share_that_is_none_is_refused_from_python(files: Path, share: float) -> None:
    model = read_model(files / "model.q.onnx")
    with pytest.raises(SplitInvalidError) as caught:
        compile_model(BoundModel(model, bindings_of(model)), default_design(), share_on_d=share)
    assert caught.value.args == (
        f"a share of {share:g} of the output channels on GEMM-D",
        "a share from 0, all channels on GEMM-L, to 1, all on GEMM-D",
        "correct the share, or leave it to the compiler",
    )


def test_a_design_that_accumulates_too_few_channels(fail: Failure, files: Path) -> None:
    write_design(files / "design.json", with_geometry(agg_groups=1))
    error = fail(*COMPILE, "--design", "design.json")
    assert error["code"] == "design-too-small"
    assert "aggregates 9 channels at once, the design's agg_groups hold 8" in error["found"]
    assert error["expected"] == "agg_groups of at least 2"


def test_a_design_without_a_needed_engine(fail: Failure, files: Path) -> None:
    write_design(files / "design.json", with_geometry(engines=("load", "store", "vec")))
    assert fail(*COMPILE, "--design", "design.json") == {
        "code": "design-invalid",
        "found": "the design 'pynq-z2' has no engine agg, gemm_d",
        "expected": "a design with the engines agg, gemm_d, load, store, vec",
        "do": "choose another design with --design, or leave the option out",
    }


def test_a_program_for_another_geometry(fail: Failure, files: Path) -> None:
    write_design(files / "design.json", replace(default_design(), name="small", geometry=SMALL_GEOMETRY))
    error = fail(*RUN, "--design", "design.json")
    assert error["code"] == "geometry-mismatch"
    assert error["found"].startswith(
        "the program was compiled for the design 'pynq-z2', the overlay is of the design 'small': gemm_d_rows "
        f"{default_design().geometry.gemm_d_rows} / {SMALL_GEOMETRY.gemm_d_rows}"
    )
    assert error["do"] == "compile the model with the overlay's design (`hetfab compile --design`)"


def test_a_reference_that_the_program_was_not_compiled_from(
    fail: Failure, files: Path, case: Case, capsys: pytest.CaptureFixture[str]
) -> None:
    """Another model, one with another number of classes, and the float model; found before the run."""
    builder = ModelBuilder(np.random.default_rng(1), case.graph)
    onnx.save(builder.finish(builder.dense(builder.features("paper"), 3)), files / "other.onnx")
    assert main(["quantize", "other.onnx", "--graph", "graph.npz", "-o", "other.q.onnx"]) == 0
    hashes = {
        name: model_hash(read_model(files / name))[:16] for name in ("model.q.onnx", "other.q.onnx", "model.onnx")
    }
    for name, kind in (("other.q.onnx", ""), ("model.onnx", ", a float model,")):
        error = fail(*RUN, "--reference", name)
        assert error == {
            "code": "reference-mismatch",
            "found": f"the reference '{name}'{kind} with SHA-256 {hashes[name]} is not what the program was "
            "compiled from",
            "expected": f"the model 'model.q.onnx' with SHA-256 {hashes['model.q.onnx']}",
            "do": "give that quantized model, or compile this one",
        }


def test_a_truncated_program(fail: Failure, files: Path) -> None:
    whole = (files / "model.hfp").read_bytes()
    for length in (0, 10, len(whole) // 2, len(whole) - 1):
        (files / "model.hfp").write_bytes(whole[:length])
        assert fail(*RUN) == {
            "code": "program-unreadable",
            "found": "cannot read the program 'model.hfp': File is not a zip file",
            "expected": "a .hfp file as `hetfab compile` writes it",
            "do": "check the path, or compile the model again",
        }


# Outputs


@pytest.mark.parametrize("command", [QUANTIZE, COMPILE, RUN])
@pytest.mark.parametrize(
    ("target", "reason"),
    [
        ("absent/new", "No such file or directory"),
        ("graph.npz/new", "Not a directory"),
        (".", "it is a folder"),
    ],
)
def test_outputs_that_cannot_be_written(fail: Failure, command: tuple[str, ...], target: str, reason: str) -> None:
    error = fail(*command[:-1], target)
    assert error["code"] == "output-unwritable"
    assert error["found"] == f"cannot write '{target}': {reason}"


@pytest.mark.parametrize("seconds", ["0", "-1", "nan"])
def test_a_deadline_that_is_no_time(fail: Failure, seconds: str) -> None:
    error = fail(*RUN, "--deadline", seconds, status=2)
    assert error["found"] == f"Invalid value for '--deadline': {float(seconds)} is no time above 0"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "No such file or directory"),
        (b"\xff", "it is not text in UTF-8"),
        (b"[" * 10**5, "it is nested too deeply"),
    ],
)
def test_texts_that_cannot_be_read_say_why_once(fail: Failure, files: Path, content: bytes | None, reason: str) -> None:
    if content is not None:
        (files / "x.json").write_bytes(content)
        (files / "graph.json").write_bytes(content)
        assert fail("graph", "graph.json")["found"] == f"cannot read 'graph.json': {reason}"
    else:
        assert fail("graph", "x.npz")["found"] == f"cannot read the graph 'x.npz': {reason}"
    assert fail(*COMPILE, "--design", "x.json")["found"] == f"cannot read the design 'x.json': {reason}"
    binding = fail(*QUANTIZE, "--bind", "x.json")["found"]
    assert binding in (f"cannot read the binding 'x.json': {reason}", f"the binding 'x.json': {reason}")


def test_the_demo_is_not_written_into_a_file(fail: Failure) -> None:
    assert fail("demo", "-o", "model.hfp")["found"] == "cannot make the folder 'model.hfp': it is a file"


def test_a_usage_error(fail: Failure, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "model.hfp", "--json"]) == 2
    error = json.loads(capsys.readouterr().out)["error"]
    assert (error["code"], error["found"]) == ("usage", "Give one of --graph GRAPH and --samples SAMPLES.")


# What is right


def test_commands_leave_nothing_but_their_output(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for command, output in ((QUANTIZE, "new.q.onnx"), (COMPILE, "new.hfp"), (RUN, "new.npz")):
        before = {path.name for path in files.iterdir()}
        capsys.readouterr()
        assert main([*command, "--json"]) == 0
        assert json.loads(capsys.readouterr().out)
        assert {path.name for path in files.iterdir()} - before == {output}
    assert (files / "new.q.onnx").read_bytes() == (files / "model.q.onnx").read_bytes()
    assert (files / "new.hfp").read_bytes() == (files / "model.hfp").read_bytes()


def test_saved_predictions_are_those_of_the_run(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*RUN, "--reference", "model.q.onnx", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["agreement"], found["max_logit_lsb"], found["micro_f1"]) == (1.0, 0.0, None)
    with np.load(files / "new.npz") as saved:
        assert saved["logits"].dtype == np.int32 and saved["logits"].shape == (40, 9)
        np.testing.assert_array_equal(saved["predictions"], saved["logits"].argmax(axis=1))
        assert str(saved["node_type"]) == "paper" and 0 < float(saved["scale"]) < 1


def test_run_shows_the_reference_before_the_program(
    files: Path, case: Case, capsys: pytest.CaptureFixture[str]
) -> None:
    """In the order of the demo: float model, quantized model, program."""
    labels = {"paper": np.arange(40) % 9}
    write_graph(files / "graph.npz", replace(case.graph, labels=labels, splits={"paper": {"test": np.arange(20)}}))
    assert main([*RUN, "--reference", "model.q.onnx"]) == 0
    lines = capsys.readouterr().out.splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("model "))
    assert lines[start].split() == ["model", "runs", "in", "test", "micro", "F1", "macro", "F1"]
    assert [line[:34].rstrip() for line in lines[start + 2 : start + 4]] == [
        "quantized model  onnxruntime",
        "program          emulated overlay",
    ]
    assert lines[start + 2].split()[-2:] == lines[start + 3].split()[-2:]
    assert [line.split()[0] for line in lines[start + 6 : start + 10]] == ["agreement", "max", "instructions", "stream"]
    assert main([*RUN, "--reference", "model.q.onnx", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["reference_micro_f1"] == found["micro_f1"] and found["reference_macro_f1"] == found["macro_f1"]


def test_compile_says_why_a_small_graph_needs_fewer_instructions(
    files: Path, case: Case, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(list(COMPILE)) == 0
    out = capsys.readouterr().out
    found = re.search(r"^(\d+) instructions in .*npz: (\d+) instructions", out, re.MULTILINE | re.DOTALL)
    assert found is not None and int(found[2]) < int(found[1]) and "fewer than compiled: " in out
    assert main(["compile", "model.q.onnx", "-o", "new.hfp"]) == 0
    assert "fewer than compiled" not in capsys.readouterr().out


def test_a_program_runs_on_a_graph_without_target_vertices(
    files: Path, case: Case, capsys: pytest.CaptureFixture[str]
) -> None:
    write_graph(files / "graph.npz", without_papers(case.graph))
    assert main([*RUN, "--reference", "model.q.onnx", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["agreement"], found["max_logit_lsb"], found["micro_f1"]) == (1.0, 0.0, None)


def test_an_empty_validation_split_is_no_split(files: Path, case: Case) -> None:
    splits = {"paper": {"val": np.zeros(0, np.int64)}}
    write_graph(files / "graph.npz", replace(case.graph, splits=splits))
    assert main(list(QUANTIZE)) == 0
    assert (files / "new.q.onnx").read_bytes() == (files / "model.q.onnx").read_bytes()


def test_inspect_shows_layers_and_meanings(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", "model.onnx", "--graph", "graph.npz"]) == 0
    out = capsys.readouterr().out
    assert "model.onnx: opset 20, float model" in out
    assert "source ids of writes (author -> paper)" in out
    assert "next: hetfab quantize model.onnx --graph graph.npz -o model.q.onnx" in out
    assert main(["inspect", "model.q.onnx", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["quantized"], found["refused"]) == (True, [])
    names = ("kind", "inputs", "channels", "input_bits", "weight_bits", "bits")
    assert [[layer[name] for name in names] for layer in found["layers"]] == [
        ["dense", 5, 9, 8, [8], 8],
        ["dense + mean + relu", 17, 9, 8, [8], 8],
        ["dense + mean", 9, 9, 8, [8], 32],
    ]
    assert main(["inspect", "model.q.onnx"]) == 0
    assert "channels out  weights  bits in  bits of weights  bits out" in capsys.readouterr().out
    assert found["operators"]["hgnn::QSegMean"] == 2
    assert [entry["meaning"] for entry in found["inputs"] if entry["name"] == "n_paper"] == ["number of paper nodes"]


def test_inspect_names_learned_tables(files: Path, case: Case, capsys: pytest.CaptureFixture[str]) -> None:
    builder = ModelBuilder(np.random.default_rng(0), case.graph)
    onnx.save(builder.finish(builder.mean(builder.table("term", 6), "in", "paper")), files / "model.onnx")
    assert main(["inspect", "model.onnx", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["tables"] == {"c0": 5}
    assert main(["inspect", "model.onnx"]) == 0
    out = capsys.readouterr().out
    assert "transductive: the learned table 'c0' fixes the number of nodes of its type to 5" in out


def test_a_binding_file_gives_inputs_their_meaning(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rewritten(files / "model.onnx", lambda model: renamed(model, {"x_paper": "papers", "src_writes": "from"}))
    bindings: dict[str, Binding] = {"papers": Features("paper"), "from": RelationEnd(WRITES, End.SOURCE)}
    (files / "bind.json").write_text(to_json(bindings))
    assert main([*QUANTIZE, "--bind", "bind.json"]) == 0
    assert main(["compile", "new.q.onnx", *COMPILE[2:]]) == 0, "the quantized model carries the whole binding"
    capsys.readouterr()
    assert main(["run", "new.hfp", "--graph", "graph.npz", "--reference", "new.q.onnx", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["agreement"], found["max_logit_lsb"]) == (1.0, 0.0)
