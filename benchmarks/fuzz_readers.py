# SPDX-License-Identifier: Apache-2.0
"""The readers that are fuzzed: seeds, how their files are mutated, the check of their header, and the code that counts.

A case is a folder of files. ``Reader.case`` makes its files from a number alone.
"""

import functools
import hashlib
import io
import json
import random
import tempfile
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from onnx import TensorProto, helper, numpy_helper

from benchmarks import fuzz_mutations as mutate
from hetfab.driver.demo import model_path
from hetfab.driver.graph import csv_folder, csv_table, facts, hgb, npz
from hetfab.driver.graph.generate import academic
from hetfab.driver.graph.heterograph import CsrFeatures, HeteroGraph
from hetfab.driver.graph.model_inputs import model_bindings, open_model
from hetfab.driver.graph.profile import profile, write_profile
from hetfab.driver.package import write_emulated_package
from hetfab.overlay import archives, bit_file, board, design, json_schema, package, program
from hetfab.overlay.blockdesign import handoff
from hetfab.overlay.compiler.compile import compile_model
from hetfab.overlay.compiler.lowered import LoweredModel
from hetfab.overlay.compiler.lowering import lower
from hetfab.overlay.model import binding
from hetfab.overlay.model import reader as models
from hetfab.overlay.model.parser import try_layers
from hetfab.overlay.model.schema import Relation
from hetfab.overlay.search import journal
from hetfab.overlay.timeline import machine
from hetfab.quantize.formats import foreign, qdq, qonnx
from hetfab.quantize.formats.deploy import deployable
from hetfab.quantize.post_training import quantize

Files = Mapping[str, bytes]


@dataclass(frozen=True)
class Code:
    """Functions of a module that are a reader's; all but ``without`` where ``only`` is empty."""

    module: Any
    only: tuple[str, ...] = ()
    without: tuple[str, ...] = ()


@dataclass(frozen=True)
class Reader:
    """A reader and how to make files for it.

    Attributes:
        name: In reports.
        seeds: Makes valid files.
        change: Mutates the files of a seed.
        read: Reads the files of a folder; raises ``HetfabError`` at most.
        header: Whether the files of a folder get past the first check of their form.
        code: Whose lines count.
    """

    name: str
    seeds: Callable[[], list[Files]]
    change: Callable[[random.Random, Files], Files]
    read: Callable[[Path], object]
    header: Callable[[Path], bool]
    code: tuple[Code, ...]

    def case(self, seeds: list[Files], seed: int, number: int) -> Files:
        """The files of a case; those of the first ``len(seeds)`` are the seeds."""
        if number < len(seeds):
            return seeds[number]
        draw = random.Random(f"{seed} {self.name} {number}")
        return self.change(draw, draw.choice(seeds))


@functools.cache
def _graph() -> HeteroGraph:
    graph = academic(papers=8)
    classes = (
        {graph.target: tuple(f"c{n}" for n in range(int(graph.labels[graph.target].max()) + 1))} if graph.target else {}
    )
    ids = {name: np.array([f"{name}{n}" for n in range(count)]) for name, count in graph.counts.items()}
    return HeteroGraph(
        graph.name, graph.target, graph.counts, graph.relations, graph.features, graph.labels,
        graph.splits, graph.metapaths, ids, classes,
    )  # fmt: skip


@functools.cache
def _quantized() -> Any:
    return quantize(open_model(model_path(), _graph()))


@functools.cache
def _lowered() -> LoweredModel:
    return lower(_quantized().model, model_bindings(_quantized().model, _graph()))


# --- ONNX


def _image_model() -> onnx.ModelProto:
    rng = np.random.default_rng(0)
    weights = {"w": rng.normal(size=(4, 3, 3, 3)), "b": rng.normal(size=4), "d": rng.normal(size=(4, 5))}
    nodes = [
        helper.make_node("Conv", ["image", "w", "b"], ["c"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c"], ["r"]),
        helper.make_node("GlobalAveragePool", ["r"], ["p"]),
        helper.make_node("Flatten", ["p"], ["f"]),
        helper.make_node("MatMul", ["f", "d"], ["logits"]),
    ]
    sizes: dict[str, list[Any]] = {"image": ["n", 3, 8, 8], "logits": ["n", 5]}
    image, logits = (helper.make_tensor_value_info(name, TensorProto.FLOAT, size) for name, size in sizes.items())
    constants = [numpy_helper.from_array(value.astype(np.float32), name) for name, value in weights.items()]
    graph = helper.make_graph(nodes, "image", [image], [logits], constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def _first_version_model() -> onnx.ModelProto:
    """A mean in version 1 of the domain, with its count as an attribute and its weights beside the model."""
    kinds = TensorProto.FLOAT, TensorProto.INT64
    inputs: list[tuple[str, int, list[Any]]] = [
        ("x_paper", kinds[0], [8, 4]),
        ("src_written", kinds[1], ["e"]),
        ("dst_written", kinds[1], ["e"]),
    ]
    nodes = [
        helper.make_node("SegMean", ["x_paper", "src_written", "dst_written"], ["m"], domain="hgnn", n=8),
        helper.make_node("MatMul", ["m", "w"], ["logits"]),
    ]
    constant = numpy_helper.from_array(np.ones((4, 3), np.float32), "w")
    graph = helper.make_graph(
        nodes, "first", [helper.make_tensor_value_info(*value) for value in inputs],
        [helper.make_tensor_value_info("logits", kinds[0], [8, 3])], [constant],
    )  # fmt: skip
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("hgnn", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


def _onnx_seeds() -> list[Files]:
    demo = onnx.load(model_path())
    found = [demo, _quantized().model, _image_model(), _first_version_model()]
    raw = [{"m.onnx": model.SerializeToString()} for model in found]
    beside = _image_model()
    weights = beside.graph.initializer[0]
    content = weights.raw_data
    onnx.external_data_helper.set_external_data(weights, "w.bin", 0, len(content))
    weights.ClearField("raw_data")
    return [*raw, {"m.onnx": beside.SerializeToString(), "w.bin": content}]


def _onnx_change(draw: random.Random, files: Files) -> Files:
    if draw.random() < 0.1:
        return {**files, "m.onnx": mutate.mutated_bytes(draw, files["m.onnx"])}
    model = onnx.ModelProto.FromString(files["m.onnx"])
    mutate.mutated_message(draw, model)
    return {**files, "m.onnx": model.SerializeToString()}


def _onnx_read(folder: Path) -> object:
    model = models.read_model(folder / "m.onnx")
    models.check_one_output(model)
    return models.bindings_of(model), models.input_widths(model), try_layers(model)


def _onnx_header(folder: Path) -> bool:
    model = onnx.ModelProto()
    try:
        model.ParseFromString((folder / "m.onnx").read_bytes())
    except DecodeError:
        return False
    return bool(model.graph.node)


# --- graphs


def _npz_seeds() -> list[Files]:
    graph = _graph()
    name = next(iter(graph.features))
    dense = graph.dense_features(name)
    rows, columns = np.nonzero(dense)
    indptr = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=len(dense)))])
    sparse = CsrFeatures(indptr, columns.astype(np.int32), dense[rows, columns], dense.shape[1])
    labels = {name: (np.arange(3 * graph.counts[name]).reshape(-1, 3) % 2).astype(np.uint8)}
    other = HeteroGraph("s", name, graph.counts, graph.relations, {name: sparse}, labels, {}, graph.metapaths)
    return [_written(functools.partial(_write_graph, found), "g.npz") for found in (graph, other)]


def _write_graph(graph: HeteroGraph, path: Path) -> None:
    npz.write_graph(path, graph)


def _written(write: Callable[[Path], Any], name: str) -> Files:
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder) / name)
        return {name: (Path(folder) / name).read_bytes()}


def _members(raw: bytes) -> dict[str, bytes]:
    return dict(_unzipped(raw))


@functools.cache
def _unzipped(raw: bytes) -> Files:
    with zipfile.ZipFile(io.BytesIO(raw)) as archive:
        return {entry.filename: archive.read(entry) for entry in archive.infolist()}


def _npz_change(draw: random.Random, files: Files) -> Files:
    members = _members(files["g.npz"])
    for name in {draw.choice([*members, *["meta.npy"] * 8]): None for _ in range(draw.randint(1, 2))}:
        array = np.load(io.BytesIO(members[name]))
        if name == "meta.npy" and draw.random() < 0.9:
            file = io.BytesIO()
            np.save(file, np.array(json.dumps(mutate.mutated_json(draw, json.loads(str(array))))))
            members[name] = file.getvalue()
        else:
            members[name] = mutate.mutated_npy(draw, array)
    return {"g.npz": mutate.zipped(draw, members)}


def _zip_header(path: Path, member: str) -> bool:
    try:
        with zipfile.ZipFile(path) as archive:
            return member in archive.namelist()
    except (*archives.DAMAGE, OverflowError):
        return False


def _hgb_seeds() -> list[Files]:
    nodes = "\n".join(f"{n}\tname{n}\t{n % 3}\t{n}.5,{n % 2},0" for n in range(12))
    bare = "\n".join(f"{n}\tname{n}\t{n // 6}" for n in range(12))
    links = "\n".join(f"{3 * n}\t{3 * n + 1}\t{0}\t1.0\n{3 * n + 1}\t{3 * n + 2}\t1\t1" for n in range(4))
    info = {
        "node.dat": {"node type": {"0": "paper", "1": "author", "2": "venue"}},
        "link.dat": {"link type": {"0": {"meaning": "written by"}, "1": {"meaning": "at"}}},
        "label.dat": {"node type": {"0": {"0": "physics", "1": "music"}}},
    }
    one = {
        "node.dat": nodes, "link.dat": links, "info.dat": json.dumps(info),
        "label.dat": "0\tname0\t0\t1\n3\tname3\t0\t0", "label.dat.test": "6\tname6\t0\t1",
    }  # fmt: skip
    several = {"node.dat": bare, "link.dat": "0\t6\t0\t1\n1\t7\t0\t1", "label.dat": "0\ta\t0\t0,2\n1\tb\t0\t1"}
    return [{name: text.encode() for name, text in files.items()} for files in (one, several)]


def _hgb_change(draw: random.Random, files: Files) -> Files:
    name = draw.choice(list(files))
    if draw.random() < 0.03:
        return {each: raw for each, raw in files.items() if each != name}
    if name == "info.dat":
        return {**files, name: mutate.json_bytes(draw, json.loads(files[name]))}
    return {**files, name: mutate.mutated_table(draw, files[name].decode(), "\t")}


def _hgb_header(folder: Path) -> bool:
    try:
        first = (folder / "node.dat").read_text("utf-8-sig").split("\n")[0]
    except (OSError, ValueError):
        return False
    return len(first.split("\t")) in (3, 4) and (folder / "link.dat").is_file()


def _csv_seeds() -> list[Files]:
    schema = {
        "name": "shop", "target": "user",
        "node_types": {
            "user": {"file": "users.csv", "id": "id", "features": ["age", "height"], "label": "kind", "split": "part"},
            "item": {"file": "items.csv", "id": "id", "features": "numeric", "label": ["new", "old"]},
            "tag": {},
        },
        "relations": [
            {"name": "buys", "source": "user", "destination": "item", "file": "buys.csv", "reverse": "bought",
             "source_column": "user", "destination_column": "item"},
            {"name": "has", "source": "item", "destination": "tag", "file": "has.csv",
             "source_column": "item", "destination_column": "tag"},
        ],
        "metapaths": {"UIU": ["buys", "bought"]},
    }  # fmt: skip
    users = "id,age,height,kind,part\na,1,1.5,new,train\nb,2,,x,val\nc,3,0.5,new,test\n".replace(",,", ",7,")
    items = 'id,price,new,old\n"i,1",1,0,1\ni2,2e1,1,1\n'
    classes = json.loads(json.dumps(schema))
    classes["node_types"]["user"]["classes"] = ["new", "x"]
    classes["delimiter"] = ";"
    texts = {
        "users.csv": users, "items.csv": items,
        "buys.csv": 'user,item\na,"i,1"\nb,i2\n', "has.csv": "item,tag\ni2,red\ni2,blue\n"
    }  # fmt: skip
    first = {"graph.json": json.dumps(schema), **texts}
    second = {name: text.replace("i,1", "i1").replace(",", ";") for name, text in texts.items()}
    return [
        {name: text.encode() for name, text in files.items()}
        for files in (first, {"graph.json": json.dumps(classes), **second})
    ]


def _csv_change(draw: random.Random, files: Files) -> Files:
    name = draw.choice([*files, *["graph.json"] * 4])
    if name == "graph.json":
        return {**files, name: mutate.json_bytes(draw, json.loads(files[name]))}
    if draw.random() < 0.03:
        return {each: raw for each, raw in files.items() if each != name}
    delimiter = ";" if b";" in files[name] else ","
    return {**files, name: mutate.mutated_table(draw, files[name].decode(), delimiter)}


def _json_header(path: Path, *keys: str) -> bool:
    try:
        found = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(found, dict) and all(key in found for key in keys)


# --- programs, designs, workloads, boards


def _hfp_seeds() -> list[Files]:
    found = compile_model(_quantized(), design.default_design("zcu104"))
    return [_written(lambda path: program.write_program(path, found), "p.hfp")]


def _hfp_change(draw: random.Random, files: Files) -> Files:
    members = _members(files["p.hfp"])
    name = draw.choice([*members, *["program.json"] * 6])
    if name == "program.json":
        members[name] = json.dumps(mutate.mutated_json(draw, json.loads(members[name]))).encode()
    else:
        members[name] = mutate.mutated_npy(draw, np.load(io.BytesIO(members[name])))
    return {"p.hfp": mutate.zipped(draw, members)}


def _json_seeds(name: str, *tables: Any) -> list[Files]:
    return [{name: json.dumps(table).encode()} for table in tables]


def _json_change(draw: random.Random, files: Files) -> Files:
    ((name, raw),) = files.items()
    return {name: mutate.json_bytes(draw, json.loads(raw))}


def _design_seeds() -> list[Files]:
    return _json_seeds("d.json", *(design.default_design(name).as_dict() for name in ("zcu104", "pynq-z2")))


def _workload_seeds() -> list[Files]:
    _lowered()
    return [{"w.json": _written(lambda path: write_profile(path, profile(_graph())), "w.json")["w.json"]}]


def _board_seeds() -> list[Files]:
    folder = Path(board.__file__).parent / "boards"
    return _json_seeds("b.json", *(json.loads((folder / f"{name}.json").read_text()) for name in board.board_names()))


# --- what tools and searches left


def _foreign_seeds() -> list[Files]:
    """A network that Brevitas quantized, as QONNX and as QCDQ, and one with forms that those lack."""
    folder = Path(__file__).parents[1] / "tests" / "quantized_elsewhere"
    found = [path.read_bytes() for path in sorted(folder.glob("*.onnx"))]
    made = [model.SerializeToString() for model in (_rounded_model(), _bipolar_model())]
    return [{"m.onnx": raw} for raw in (*found, *made)]


def _bipolar_model() -> onnx.ModelProto:
    """QONNX with weights of one bit."""
    constants = {"s": np.float32(0.25), "z": np.float32(0), "bits": np.float32(4), "w": np.ones((4, 3), np.float32)}
    flags = {"domain": "qonnx.custom_op.general"}
    nodes = [
        helper.make_node("Quant", ["x", "s", "z", "bits"], ["x_q"], signed=1, narrow=0, rounding_mode="ROUND", **flags),
        helper.make_node("BipolarQuant", ["w", "s"], ["w_q"], **flags),
        helper.make_node("MatMul", ["x_q", "w_q"], ["logits"]),
    ]
    return _samples_model("bipolar", nodes, constants, 17, (flags["domain"],))


def _samples_model(
    name: str, nodes: list[onnx.NodeProto], constants: dict[str, Any], version: int, domains: tuple[str, ...] = ()
) -> onnx.ModelProto:
    """Three logits of four numbers."""
    sizes: dict[str, list[Any]] = {"x": ["n", 4], "logits": ["n", 3]}
    read, logits = (helper.make_tensor_value_info(each, TensorProto.FLOAT, size) for each, size in sizes.items())
    tensors = [numpy_helper.from_array(np.asarray(value), each) for each, value in constants.items()]
    graph = helper.make_graph(nodes, name, [read], [logits], tensors)
    opsets = [helper.make_opsetid("", version), *(helper.make_opsetid(domain, 1) for domain in domains)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10)


def _rounded_model() -> onnx.ModelProto:
    """Weights that are turned and joined, a tensor that is rounded twice, one of 16 bits, one cut by Clip."""
    rng = np.random.default_rng(1)
    constants = {
        "s": np.float32(0.25), "z": np.int8(0), "u": np.uint8(0), "wide": np.int16(0), "low": np.int8(-7),
        "high": np.int8(7), "steps": np.array([0.5, 0.25, 1], np.float32), "zeros": np.zeros(3, np.int8),
        "a": rng.integers(-9, 9, (4, 4)).astype(np.int8), "b": rng.integers(-9, 9, (4, 2)).astype(np.int8),
        "c": rng.normal(size=(6, 3)).astype(np.float32),
    }  # fmt: skip
    nodes = [
        helper.make_node("DequantizeLinear", ["a", "s", "z"], ["a_f"]),
        helper.make_node("DequantizeLinear", ["b", "s", "z"], ["b_f"]),
        helper.make_node("QuantizeLinear", ["c", "steps", "zeros"], ["c_q"], axis=1),
        helper.make_node("DequantizeLinear", ["c_q", "steps", "zeros"], ["c_f"], axis=1),
        helper.make_node("Transpose", ["a_f"], ["a_t"]),
        helper.make_node("Concat", ["a_t", "b_f"], ["ab"], axis=1),
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["x_q"]),
        helper.make_node("Clip", ["x_q", "low", "high"], ["x_c"]),
        helper.make_node("DequantizeLinear", ["x_c", "s", "z"], ["x_f"]),
        helper.make_node("MatMul", ["x_f", "ab"], ["y"]),
        helper.make_node("QuantizeLinear", ["y", "s", "wide"], ["y_q"]),
        helper.make_node("DequantizeLinear", ["y_q", "s", "wide"], ["y_f"]),
        helper.make_node("Relu", ["y_f"], ["r"]),
        helper.make_node("QuantizeLinear", ["r", "s", "u"], ["r_q"]),
        helper.make_node("DequantizeLinear", ["r_q", "s", "u"], ["r_f"]),
        helper.make_node("QuantizeLinear", ["r_f", "s", "z"], ["r_p"]),
        helper.make_node("DequantizeLinear", ["r_p", "s", "z"], ["r_g"]),
        helper.make_node("MatMul", ["r_g", "c_f"], ["logits"]),
    ]
    return _samples_model("rounded", nodes, constants, 21)


def _foreign_read(folder: Path) -> object:
    return deployable(models.read_model(folder / "m.onnx"))


def _bind_seeds() -> list[Files]:
    pair = Relation("a", "to", "b"), Relation("b", "back", "a")
    end = binding.End.SOURCE
    few: tuple[dict[str, binding.Binding], ...] = (
        {"x": binding.Features("a"), "n": binding.NodeCount("b"), "w": binding.EdgeWeights(pair[0])},
        {"p": binding.MetapathEnd("aba", pair, end), "m": binding.MetapathMean(pair, "a")},
        {"e": binding.StackedEnd(("a", "b"), pair, True, end), "k": binding.EdgeTypes(("a", "b"), pair, True)},
        {"l": binding.LoopedEnd(Relation("a", "of", "a"), end), "j": binding.JoinedEnd("a", pair[1:], end)},
    )
    found = model_bindings(_quantized().model, _graph())
    return [{"b.json": binding.to_json(table).encode()} for table in (*few, found)]


def _journal_seeds() -> list[Files]:
    entries = [{"search": "s"}, *({"key": f"k {n}", "value": {"ms": n / 3, "bits": [n, 4]}} for n in range(9))]
    return [{"j.jsonl": "".join(json.dumps(entry) + "\n" for entry in entries).encode()}]


def _journal_change(draw: random.Random, files: Files) -> Files:
    lines = files["j.jsonl"].splitlines()
    if draw.random() < 0.2:
        return {"j.jsonl": mutate.mutated_bytes(draw, files["j.jsonl"])}
    at = draw.randrange(len(lines))
    lines[at] = mutate.json_bytes(draw, json.loads(lines[at]))
    return {"j.jsonl": b"\n".join(lines) + b"\n"}


def _journal_read(folder: Path) -> object:
    with journal.Journal(folder / "j.jsonl", "s") as found:
        return [found.result(f"k {number}", lambda: 0) for number in range(9)]


def _journal_header(folder: Path) -> bool:
    try:
        return bool(json.loads((folder / "j.jsonl").read_text("utf-8").split("\n")[0]))
    except (ValueError, RecursionError):
        return False


def _constants_seeds() -> list[Files]:
    measured = {
        name: [asdict(replace(constant, origin="measured")) for constant in list(machine.constants().values())[:3]]
        for name in ("zcu104", "pynq-z2")
    }
    return _json_seeds("c.json", measured)


# --- overlay packages


@functools.cache
def _package_files() -> Files:
    with tempfile.TemporaryDirectory() as folder:
        written = write_emulated_package(Path(folder), design.default_design("pynq-z2"))
        return {
            f"pynq-z2.{suffix}": written.bit.with_suffix(f".{suffix}").read_bytes() for suffix in ("bit", "hwh", "json")
        }


def _handoff_seeds() -> list[Files]:
    """A package, and one whose handoff holds what is read of it alone: it is quicker to take apart."""
    whole = _package_files()
    root = ElementTree.fromstring(whole["pynq-z2.hwh"])
    modules = root.findall("MODULES/MODULE")
    holder = root.find("MODULES")
    for module in modules:
        for part in module.findall("PORTS") + module.findall("BUSINTERFACES") + module.findall("ADDRESSBLOCKS"):
            module.remove(part)
        if (
            holder is not None
            and module.find("MEMORYMAP/MEMRANGE") is None
            and "dispatch" not in module.get("VLNV", "")
        ):
            holder.remove(module)
    return [_rehashed({**whole, "pynq-z2.hwh": ElementTree.tostring(root)})]


def _hwh_change(draw: random.Random, files: Files) -> Files:
    changed = {**files, "pynq-z2.hwh": mutate.mutated_xml(draw, files["pynq-z2.hwh"].decode())}
    return _rehashed(changed)


def _bit_change(draw: random.Random, files: Files) -> Files:
    opened = bit_file.decode_bit_file(files["pynq-z2.bit"])
    if draw.random() < 0.3:
        return {**files, "pynq-z2.bit": mutate.mutated_bytes(draw, files["pynq-z2.bit"])}
    content = mutate.mutated_json(draw, opened.emulated())
    mark = opened.data.index(b"{")
    body = opened.data[:mark] + json.dumps(content).encode()
    body = mutate.mutated_bytes(draw, body) if draw.random() < 0.2 else body
    return {**files, "pynq-z2.bit": bit_file.BitFile("d", opened.part, opened.date, opened.time, body).encode()}


def _package_change(draw: random.Random, files: Files) -> Files:
    kind = draw.random()
    if kind < 0.2:
        return _rehashed(_bit_change(draw, files), bit=False)
    if kind < 0.3:
        return {each: raw for each, raw in files.items() if each != draw.choice(list(files))}
    return {**files, "pynq-z2.json": mutate.json_bytes(draw, json.loads(files["pynq-z2.json"]))}


def _rehashed(files: Files, *, bit: bool = True) -> Files:
    """The same with the hashes that its description and its .bit file should have."""
    found = dict(files)
    if bit:
        opened = bit_file.decode_bit_file(found["pynq-z2.bit"])
        content = opened.emulated()
        if content is not None:
            content["hwh_sha256"] = hashlib.sha256(found["pynq-z2.hwh"]).hexdigest()
            name = opened.design.partition(";")[0].removeprefix("emulated_")
            found["pynq-z2.bit"] = bit_file.emulated_bit_file(name, opened.part, content).encode()
    header = json.loads(found["pynq-z2.json"])
    header["sha256"] = {suffix: hashlib.sha256(found[f"pynq-z2.{suffix}"]).hexdigest() for suffix in ("bit", "hwh")}
    return {**found, "pynq-z2.json": json.dumps(header).encode()}


def _hwh_read(folder: Path) -> object:
    return package.read_package(folder / "pynq-z2.json"), package.read_emulated_bit(folder / "pynq-z2.bit")


def _bit_header(folder: Path) -> bool:
    return (folder / "pynq-z2.bit").read_bytes()[2:11] == bytes.fromhex("0ff00ff00ff00ff000")


def _xml_header(folder: Path) -> bool:
    return b"<EDKSYSTEM" in (folder / "pynq-z2.hwh").read_bytes()[:4096]


_OF_DESIGN = ("read_design", "design_from_dict", "_stages", "_check_text", "_check_engines", "_check_values")
_OF_PROGRAM = ("read_program", "_program", "_check_references", "_blocks", "_tuples", "_dotted", "_unreadable")
_OF_WORKLOAD = ("read_workload", "_checked", "_unreadable")
_OF_BINDING = ("read_bindings", "from_json", "_binding", "_check")
_OF_BIT = (Code(bit_file, ("decode_bit_file", "emulated", "take", "number")), Code(package, ("read_emulated_bit",)))
READERS = {
    reader.name: reader
    for reader in (
        Reader(
            "onnx", _onnx_seeds, _onnx_change, _onnx_read, _onnx_header,
            (Code(models, without=("is_quantized", "model_hash", "normalise")),),
        ),
        Reader(
            "npz", _npz_seeds, _npz_change, lambda folder: npz.read_graph(folder / "g.npz"),
            lambda folder: _zip_header(folder / "g.npz", "meta.npy"),
            (
                Code(npz, without=("write_graph", "write", "_arrays", "_meta", "_type_entry")),
                Code(archives, without=("read_limited", "member", "names")),
            ),
        ),
        Reader("hgb", _hgb_seeds, _hgb_change, lambda folder: hgb.read_hgb(folder, val=0.5), _hgb_header, (Code(hgb),)),
        Reader(
            "csv", _csv_seeds, _csv_change, csv_folder.read_csv_folder,
            lambda folder: _json_header(folder / "graph.json", "node_types"),
            (Code(csv_folder, without=("csv_files",)), Code(csv_table)),
        ),
        Reader(
            "hfp", _hfp_seeds, _hfp_change, lambda folder: program.read_program(folder / "p.hfp"),
            lambda folder: _zip_header(folder / "p.hfp", "program.json"), (Code(program, _OF_PROGRAM),),
        ),
        Reader(
            "design", _design_seeds, _json_change, lambda folder: design.read_design(folder / "d.json"),
            lambda folder: _json_header(folder / "d.json"), (Code(design, _OF_DESIGN),),
        ),
        Reader(
            "workload", _workload_seeds, _json_change,
            lambda folder: facts.read_workload(folder / "w.json", _lowered()),
            lambda folder: _json_header(folder / "w.json"), (Code(facts, _OF_WORKLOAD),),
        ),
        Reader(
            "board", _board_seeds, _json_change, lambda folder: board.read_board_file(folder / "b.json"),
            lambda folder: _json_header(folder / "b.json"), (Code(board, ("read_board_file",)), Code(json_schema)),
        ),
        Reader(
            "foreign", _foreign_seeds, _onnx_change, _foreign_read, _onnx_header,
            (Code(foreign, without=("symmetric", "with_constants")), Code(qdq), Code(qonnx)),
        ),
        Reader(
            "bind", _bind_seeds, _json_change, lambda folder: binding.read_bindings(folder / "b.json"),
            lambda folder: _json_header(folder / "b.json"), (Code(binding, _OF_BINDING),),
        ),
        Reader(
            "journal", _journal_seeds, _journal_change, _journal_read, _journal_header, (Code(journal, ("_lines",)),)
        ),
        Reader(
            "constants", _constants_seeds, _json_change, lambda folder: machine.read_measured(folder / "c.json"),
            lambda folder: _json_header(folder / "c.json"), (Code(machine, ("read_measured", "_checked")),),
        ),
        Reader("hwh", _handoff_seeds, _hwh_change, _hwh_read, _xml_header, (Code(handoff),)),
        Reader(
            "bit", _handoff_seeds, _bit_change, lambda folder: package.read_emulated_bit(folder / "pynq-z2.bit"),
            _bit_header, _OF_BIT,
        ),
        Reader(
            "package", _handoff_seeds, _package_change, lambda folder: package.read_package(folder / "pynq-z2.json"),
            lambda folder: _json_header(folder / "pynq-z2.json", "format"),
            (Code(package, ("read_package", "_header", "_damaged")),),
        ),
    )
}  # fmt: skip
