# SPDX-License-Identifier: Apache-2.0
"""Files that lie: sizes, paths, numbers and names that a reader must not believe, and the fuzzer itself, in small."""

import io
import json
import struct
import subprocess
import sys
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from hetfab.driver.demo import model_path
from hetfab.driver.graph.csv_folder import read_csv_folder
from hetfab.driver.graph.generate import academic
from hetfab.driver.graph.heterograph import HeteroGraph
from hetfab.driver.graph.hgb import read_hgb
from hetfab.driver.graph.npz import read_graph, write_graph
from hetfab.driver.package import write_emulated_package
from hetfab.overlay.archives import ArrayArchive, read_limited
from hetfab.overlay.bit_file import decode_bit_file, emulated_bit_file
from hetfab.overlay.blockdesign.handoff import read_handoff
from hetfab.overlay.design import default_design
from hetfab.overlay.errors import (
    GraphInvalidError,
    GraphUnreadableError,
    ModelStructureError,
    ModelUnreadableError,
    OverlayPackageError,
)
from hetfab.overlay.model.reader import read_model
from hetfab.overlay.package import read_package

ROOT = Path(__file__).parents[1]


def archive(*members: tuple[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> io.BytesIO:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as opened:
        for name, raw in members:
            opened.writestr(zipfile.ZipInfo(name), raw, method)
    return file


def npy(shape: str, dtype: str = "'<f8'", content: bytes = bytes(8), version: int = 1) -> bytes:
    header = f"{{'descr': {dtype}, 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    return b"\x93NUMPY" + bytes([version, 0]) + struct.pack("<H", len(header)) + header + content


@pytest.mark.parametrize(
    ("member", "reason"),
    [
        (npy("(1099511627776,)"), "its header says 8796093022208 bytes, it has 8"),
        (npy("(4294967296, 4294967296)"), "its header says"),
        (npy("(-1,)"), r"its header has the shape \(-1,\)"),
        (npy("(1000000000000,)", "'<U0'", b""), r"its header has the shape \(1000000000000,\)"),
        (npy("(1,)", "'<U100000000'"), "its header says 400000000 bytes, it has 8"),
        (npy("(1,)", "'|O'"), "Object arrays cannot be loaded"),
        (npy("(1,"), "its header is damaged"),
        (npy("(1,)", version=9), r"arrays of version \(9, 0\) are not read|invalid version"),
    ],
    ids=["large", "overflow", "negative", "empty", "wide", "pickled", "short", "version"],
)
def test_headers_of_arrays_are_compared_with_their_bytes(member: bytes, reason: str) -> None:
    with ArrayArchive(archive(("a.npy", member))) as opened, pytest.raises(ValueError, match=reason):
        opened["a"]


def lying(size: int) -> io.BytesIO:
    """An archive whose directory states another size of a member than it has."""
    raw = bytearray(archive(("a.npy", npy("(1,)"))).getvalue())
    struct.pack_into("<I", raw, raw.index(b"PK\x01\x02") + 24, size)
    return io.BytesIO(bytes(raw))


def test_a_member_cannot_be_larger_than_deflate_makes_it() -> None:
    with pytest.raises(ValueError, match=r"'a\.npy' cannot have the 4000000000 bytes that the directory says"):
        ArrayArchive(lying(4_000_000_000))


def test_arrays_beyond_the_machines_memory_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sysconf", lambda name: 8)
    with pytest.raises(ValueError, match=r"its arrays take \d+ bytes, this machine has 64 bytes of memory"):
        ArrayArchive(archive(("a.npy", npy("(1,)"))))


def test_members_are_read_up_to_a_size_and_only_as_numpy_writes_them() -> None:
    with ArrayArchive(archive(("a.json", b"{}" + b" " * 100))) as opened:
        assert opened.member("a.json", 102).startswith(b"{}")
        with pytest.raises(ValueError, match=r"'a\.json' is larger than 10 bytes"):
            opened.member("a.json", 10)
    with pytest.raises(ValueError, match="compressed in another way than by deflate"):
        ArrayArchive(archive(("a.npy", npy("(1,)")), method=zipfile.ZIP_BZIP2))
    with pytest.warns(UserWarning, match="Duplicate name"):
        double = archive(("a.npy", npy("(1,)")), ("a.npy", npy("(1,)")))
    with pytest.raises(ValueError, match="several members of one name"):
        ArrayArchive(double)


@pytest.mark.parametrize("order", ["C", "F"])
def test_arrays_are_read_as_numpy_reads_them(order: Any) -> None:
    table = np.asarray(np.arange(12.0).reshape(3, 4), order=order)
    arrays: dict[str, Any] = {"table": table, "none": np.zeros((0, 3), np.int32), "one": np.array("text")}
    file = io.BytesIO()
    np.savez_compressed(file, **arrays)
    with ArrayArchive(file) as opened:
        assert set(opened.names()) == set(arrays)
        for name, expected in arrays.items():
            np.testing.assert_array_equal(opened[name], expected)
            assert opened[name].dtype == expected.dtype and opened[name].flags.writeable


def test_files_are_read_up_to_a_size(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(bytes(11))
    assert len(read_limited(tmp_path / "f", 11)) == 11
    with pytest.raises(ValueError, match="it is larger than 10 bytes"):
        read_limited(tmp_path / "f", 10)


def csv_folder(folder: Path, **changed: Any) -> Path:
    folder.mkdir(exist_ok=True)
    table = {"file": "a.csv", "id": "id", "label": "kind"}
    (folder / "graph.json").write_text(json.dumps({"node_types": {"a": table | changed.pop("table", {})}, **changed}))
    (folder / "a.csv").write_text("id,kind\nx,1\ny,2\n")
    return folder


@pytest.mark.parametrize("name", ["../secret.csv", "/etc/hostname", "a/../../secret.csv", "link.csv", "nul\0"])
def test_no_path_leads_out_of_a_folder(name: str, tmp_path: Path) -> None:
    (tmp_path / "secret.csv").write_text("id,kind\nsecret,1\n")
    folder = csv_folder(tmp_path / "graph", table={"file": name})
    (folder / "link.csv").symlink_to(tmp_path / "secret.csv")
    with pytest.raises(GraphInvalidError) as caught:
        read_csv_folder(folder)
    assert "node type 'a', file" in caught.value.found and caught.value.expected == "a file in the folder of graph.json"


@pytest.mark.parametrize("delimiter", ['"', "\n", "\r", " "])
def test_cells_are_not_separated_by_what_ends_them(delimiter: str, tmp_path: Path) -> None:
    with pytest.raises(GraphInvalidError) as caught:
        read_csv_folder(csv_folder(tmp_path / "g", delimiter=delimiter))
    assert caught.value.expected == "one character that can stand between cells"


def test_a_class_beyond_all_tables_is_refused(tmp_path: Path) -> None:
    folder = csv_folder(tmp_path / "g")
    (folder / "a.csv").write_text("id,kind\nx,1\ny,99999999999999999999\n")
    with pytest.raises(GraphInvalidError, match="line 3, column 'kind': the cell '99999999999999999999'") as caught:
        read_csv_folder(folder)
    assert caught.value.expected == "a class of at most 7 digits"


@pytest.mark.parametrize(
    ("name", "text", "found"),
    [
        ("node.dat", "0\tn\t0\n99999999999999999999\tm\t0\n", "the ids of 2 nodes are not 0 to 1"),
        ("node.dat", "0\tn\t0\n1\tm\t999999999999\n", "there is a type 999999999999"),
        ("label.dat", "0\tn\t0\t99999999999999999999\n", "node 0, classes 99999999999999999999"),
        ("label.dat", "0\tn\t0\t9999999,1\n" * 200, "nodes of type '0' have a table of 10000000 classes each"),
    ],
)
def test_numbers_of_tables_are_bounded(name: str, text: str, found: str, tmp_path: Path) -> None:
    files = {"node.dat": "".join(f"{n}\tn\t0\n" for n in range(200)), "link.dat": "0\t1\t0\t1\n", name: text}
    if name == "node.dat":
        files["link.dat"] = "0\t0\t0\t1\n"
    for each, content in files.items():
        (tmp_path / each).write_text(content)
    with pytest.raises(GraphInvalidError, match=found):
        read_hgb(tmp_path)


@pytest.mark.parametrize(
    "info", ['{"node.dat": {"node type": {"0": {}, "1": 7}}, "link.dat": {"link type": {}}}', "[" * 100_000]
)
def test_names_that_are_no_text_are_no_names(info: str, tmp_path: Path) -> None:
    (tmp_path / "node.dat").write_text("0\tn\t0\n1\tm\t1\n")
    (tmp_path / "link.dat").write_text("0\t1\t0\t1\n")
    (tmp_path / "info.dat").write_text(info)
    assert len(read_hgb(tmp_path).counts) == 2


def test_counts_and_widths_are_bounded(tmp_path: Path) -> None:
    with pytest.raises(GraphInvalidError, match="node type 'a' has the count 2147483648"):
        HeteroGraph("g", None, {"a": 1 << 31})
    graph = academic(papers=4)
    write_graph(tmp_path / "g.npz", graph)
    with np.load(tmp_path / "g.npz") as opened:
        arrays = {name: opened[name] for name in opened.files}
    meta = json.loads(str(arrays["meta"]))
    meta["node_types"]["paper"]["feature_dim"] = float("inf")
    np.savez(tmp_path / "g.npz", **(arrays | {"meta": np.array(json.dumps(meta))}))
    with pytest.raises(GraphUnreadableError, match="the array 'meta' lacks or garbles"):
        read_graph(tmp_path / "g.npz")


@pytest.mark.parametrize("change", ["bytes", "type"])
def test_damaged_constants_of_a_model_are_refused(change: str, tmp_path: Path) -> None:
    model = onnx.load(model_path())
    tensor = next(each for each in model.graph.initializer if len(each.raw_data) > 8)
    if change == "bytes":
        tensor.raw_data = tensor.raw_data[:-3]
    else:
        tensor.data_type = 32768
    onnx.save(model, tmp_path / "m.onnx")
    with pytest.raises(ModelUnreadableError, match="cannot read the model"):
        read_model(tmp_path / "m.onnx")


@pytest.mark.parametrize(
    ("name", "reason"),
    [(b"x" * 5000, ".*File name too long"), (b"\xff" * 9, "a name is not UTF-8")],
    ids=["long", "raw"],
)
def test_a_name_that_no_file_can_have_is_refused(name: bytes, reason: str, tmp_path: Path) -> None:
    model = onnx.load(model_path())
    tensor = model.graph.initializer[0]
    onnx.external_data_helper.set_external_data(tensor, "x" * len(name), 0, 8)
    tensor.ClearField("raw_data")
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString().replace(b"x" * len(name), name))
    with pytest.raises(ModelUnreadableError, match=f"that are in another file: {reason}"):
        read_model(tmp_path / "m.onnx")


@pytest.mark.parametrize("field", ["graph", "node", "input"])
def test_names_of_a_model_are_text(field: str, tmp_path: Path) -> None:
    model = onnx.load(model_path())
    if field == "input":
        model.graph.node[0].input[0] = "namename"
    else:
        {"graph": model.graph, "node": model.graph.node[0]}[field].name = "namename"
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString().replace(b"namename", b"name\xff\xd2me"))
    with pytest.raises(ModelUnreadableError, match="a name in it is not UTF-8"):
        read_model(tmp_path / "m.onnx")


def test_attributes_of_functions_outside_of_functions_are_refused(tmp_path: Path) -> None:
    x, y = (onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [2, 2]) for name in ("x_a", "y"))
    weights = onnx.numpy_helper.from_array(np.eye(2, dtype=np.float32), "w")
    node = onnx.helper.make_node("Gemm", ["x_a", "w"], ["y"], transB=1)
    node.attribute[0].ref_attr_name = "given"
    graph = onnx.helper.make_graph([node], "g", [x], [y], [weights])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, tmp_path / "m.onnx")
    with pytest.raises(ModelUnreadableError, match="the attribute 'transB' is that of a function, and there is none"):
        read_model(tmp_path / "m.onnx")


def test_operators_with_other_numbers_of_inputs_are_refused(tmp_path: Path) -> None:
    model = onnx.load(model_path())
    node = next(each for each in model.graph.node if each.op_type == "SegMean")
    node.input.append(node.input[-1])
    onnx.save(model, tmp_path / "m.onnx")
    with pytest.raises(ModelStructureError, match=r"\(SegMean\) has 5 instead of 4"):
        read_model(tmp_path / "m.onnx")


@pytest.fixture(scope="module")
def handoff(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return write_emulated_package(tmp_path_factory.mktemp("o"), default_design()).hwh.read_bytes()


def test_a_handoff_names_dispatch_and_its_registers(handoff: bytes) -> None:
    found = read_handoff(handoff)
    assert found.instance == "dispatch_0" and found.size >= 4096 and found.base % found.size == 0


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda raw: b"<!DOCTYPE d [<!ENTITY e 'x'>]>" + raw.partition(b"?>")[2], "has a document type"),
        (lambda raw: raw[:-20], "is not XML"),
        (lambda raw: b"<A/>", "begins with 'A', not with 'EDKSYSTEM'"),
        (lambda raw: b"<EDKSYSTEM>" + b"<M>" * 100, "more than 64 elements in one another"),
        (lambda raw: raw.replace(b":dispatch:", b":other:"), "has 0 named modules"),
        (lambda raw: raw.replace(b'INSTANCE="dispatch_0" MASTER', b'INSTANCE="x" MASTER'), "has 0 address ranges"),
        (lambda raw: raw.replace(b'BASEVALUE="0x4', b'BASEVALUE="4'), "has the address '4"),
        (lambda raw: raw.replace(b'BASEVALUE="0x4000', b'BASEVALUE="0xF000'), "gives 'dispatch_0' the"),
    ],
)
def test_handoffs_that_lie_are_refused(handoff: bytes, change: Callable[[bytes], bytes], reason: str) -> None:
    changed = change(handoff)
    assert changed != handoff
    with pytest.raises(ValueError, match=reason):
        read_handoff(changed)


def test_a_package_has_one_name(tmp_path: Path) -> None:
    package = write_emulated_package(tmp_path, replace(default_design(), name="small"))
    description = package.bit.with_suffix(".json")
    header = json.loads(description.read_text())
    for name in ("../other", None, ["small"]):
        description.write_text(json.dumps(header | {"name": name}))
        with pytest.raises(OverlayPackageError, match=r"it describes .* with the design 'small'"):
            read_package(description)
    del header["name"]
    description.write_text(json.dumps(header))
    with pytest.raises(OverlayPackageError, match="it describes 'None'"):
        read_package(description)


def test_nesting_inside_a_bit_file_is_refused(tmp_path: Path) -> None:
    package = write_emulated_package(tmp_path, replace(default_design(), name="small"))
    found = decode_bit_file(package.bit.read_bytes())
    mark = found.data.index(b"{")
    nested = replace(found, data=found.data[:mark] + b"[" * 100_000)
    package.bit.write_bytes(nested.encode())
    from hetfab.overlay.package import read_emulated_bit

    with pytest.raises(OverlayPackageError, match="nested too deeply"):
        read_emulated_bit(package.bit)
    assert emulated_bit_file("a", "xc7", {}).emulated() == {}


def test_the_fuzzer_finds_nothing_in_a_few_cases(tmp_path: Path) -> None:
    """All readers; hours of it are for nights."""
    command = [sys.executable, "-m", "benchmarks.fuzz", "--json", "--folder", str(tmp_path), "--hang-seconds", "60"]
    done = subprocess.run([*command, "--cases", "50"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["cases"] == 50 * len(found["readers"]) and found["peak_mb"] > 0
    assert [found[key] for key in ("crashes", "hangs", "untyped_errors")] == [0, 0, 0], done.stdout
    # Half of the cases at least get past the first look; the first are unchanged files, and are read.
    assert all(each["header_share"] >= 0.5 and each["read"] for each in found["readers"].values()), done.stdout
    again = subprocess.run(
        [*command, "--cases", "50", "--resume"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert json.loads(again.stdout)["readers"] == found["readers"]
