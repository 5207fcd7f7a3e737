# SPDX-License-Identifier: Apache-2.0
"""Outputs are whole or not there: links, special files, modes, writers that fail, and outputs over inputs."""

import os
import shutil
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

import pytest

from hetfab.cli.main import main
from hetfab.driver.demo import model_path
from hetfab.driver.graph.generate import academic
from hetfab.driver.graph.npz import write_graph
from hetfab.overlay.errors import OutputUnwritableError
from hetfab.overlay.files import check_outputs, write_atomic
from tests.demo_files import DemoFiles


@pytest.fixture(autouse=True)
def umask() -> Iterator[None]:
    before = os.umask(0o027)
    yield
    os.umask(before)


def writer(content: bytes) -> Callable[[BinaryIO], None]:
    def write(file: BinaryIO) -> None:
        file.write(content)

    return write


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


# write_atomic


def test_a_new_file_obeys_the_umask(tmp_path: Path) -> None:
    write_atomic(tmp_path / "new", writer(b"new"))
    assert (mode(tmp_path / "new"), (tmp_path / "new").read_bytes()) == (0o640, b"new")


@pytest.mark.parametrize("kept", [0o600, 0o664, 0o755])
def test_a_file_that_is_replaced_keeps_its_mode(tmp_path: Path, kept: int) -> None:
    (tmp_path / "old").write_bytes(b"old")
    (tmp_path / "old").chmod(kept)
    write_atomic(tmp_path / "old", writer(b"new"))
    assert (mode(tmp_path / "old"), (tmp_path / "old").read_bytes()) == (kept, b"new")


@pytest.mark.parametrize("dangling", [False, True])
def test_a_link_stays_and_its_target_is_written(tmp_path: Path, dangling: bool) -> None:
    (tmp_path / "folder").mkdir()
    target, link = tmp_path / "folder" / "target", tmp_path / "link"
    if not dangling:
        target.write_bytes(b"old")
    link.symlink_to("folder/target")
    write_atomic(link, writer(b"new"))
    assert link.is_symlink() and target.read_bytes() == b"new"
    assert [path.name for path in target.parent.iterdir()] == ["target"]


@pytest.mark.parametrize("failure", [RuntimeError("halfway"), KeyboardInterrupt(), OSError(28, "No space left")])
@pytest.mark.parametrize("there", [False, True])
def test_a_writer_that_fails_halfway_leaves_nothing(tmp_path: Path, failure: BaseException, there: bool) -> None:
    path = tmp_path / "file"
    if there:
        path.write_bytes(b"old")

    def fail(file: BinaryIO) -> None:
        file.write(b"half" * 10_000)
        file.flush()
        raise failure

    expected = OutputUnwritableError if isinstance(failure, OSError) else type(failure)
    with pytest.raises(expected):
        write_atomic(path, fail)
    assert [(other.name, other.read_bytes()) for other in tmp_path.iterdir()] == ([("file", b"old")] if there else [])


def make_special(path: Path, kind: str) -> None:
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "device":
        path.symlink_to("/dev/null")
    else:
        path.symlink_to(path.name)


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("fifo", "it is a device, a pipe or a socket"),
        ("device", "it is a device, a pipe or a socket"),
        ("folder", "it is a folder"),
        ("loop", "Too many levels of symbolic links"),
    ],
)
def test_what_is_no_regular_file_is_refused_and_stays(tmp_path: Path, kind: str, reason: str) -> None:
    path = tmp_path / "special"
    make_special(path, kind)
    before = path.lstat().st_ino
    attempts: list[Callable[[], None]] = [
        lambda: write_atomic(path, writer(b"")),
        lambda: check_outputs({"--output": path}, {}),
    ]
    for attempt in attempts:
        with pytest.raises(OutputUnwritableError) as caught:
            attempt()
        assert caught.value.found == f"cannot write '{path}': {reason}"
    assert path.lstat().st_ino == before and len(list(tmp_path.iterdir())) == 1
    assert stat.S_ISCHR(Path("/dev/null").stat().st_mode)


# Outputs over inputs and other outputs


def test_an_output_that_is_an_input_names_both(tmp_path: Path) -> None:
    given, link, hard = (tmp_path / name for name in ("given", "link", "hard"))
    given.write_bytes(b"given")
    link.symlink_to(given)
    hard.hardlink_to(given)
    for output in (given, link, hard, tmp_path / "." / "absent" / ".." / "given"):
        with pytest.raises(OutputUnwritableError) as caught:
            check_outputs({"--output": output}, {"MODEL": tmp_path / "other", "--graph": [given]})
        assert caught.value.found == f"cannot write '{output}' (--output): it is the input '{given}' (--graph)"
        assert caught.value.do == "give --output another file name"


def test_two_outputs_in_one_file_are_refused_before_it_is_there(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("new")
    first, second = tmp_path / "new", tmp_path / "link"
    with pytest.raises(OutputUnwritableError) as caught:
        check_outputs({"--output": first, "--trace": second}, {})
    assert caught.value.found == f"cannot write '{second}' (--trace): it is the output '{first}' (--output)"
    assert [path.name for path in tmp_path.iterdir()] == ["link"]


def test_outputs_of_their_own_are_accepted(tmp_path: Path) -> None:
    (tmp_path / "old").write_bytes(b"old")
    check_outputs({"--output": tmp_path / "old", "--trace": tmp_path / "new", "--other": None}, {"--bind": None})
    assert [path.name for path in tmp_path.iterdir()] == ["old"]


# The commands


@pytest.fixture
def folder(tmp_path: Path, demo_files: DemoFiles, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, with the demo's files, a design and a graph of CSV files."""
    for source, name in ((model_path(), "m.onnx"), (demo_files.quantized, "q.onnx"), (demo_files.program, "p.hfp")):
        shutil.copy(source, tmp_path / name)
    write_graph(tmp_path / "g.npz", academic())
    (tmp_path / "d.json").write_text("{}")
    csv = tmp_path / "csv"
    csv.mkdir()
    (csv / "graph.json").write_text('{"node_types": {"a": {"file": "a.csv", "id": "id"}}, "relations": []}')
    (csv / "a.csv").write_text("id\n1\n")
    hgb = tmp_path / "hgb"
    hgb.mkdir()
    for name in ("node.dat", "link.dat"):
        (hgb / name).write_text("")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("quantize m.onnx --graph g.npz -o g.npz", "'g.npz' (--output): it is the input 'g.npz' (--graph)"),
        ("quantize m.onnx --graph g.npz -o ./m.onnx", "'m.onnx' (--output): it is the input 'm.onnx' (MODEL)"),
        ("quantize m.onnx --graph g.npz --bind d.json -o d.json", "it is the input 'd.json' (--bind)"),
        ("quantize m.onnx --graph csv -o csv/a.csv", "it is the input 'csv/a.csv' (--graph)"),
        ("compile q.onnx --graph g.npz -o q.onnx", "it is the input 'q.onnx' (MODEL)"),
        ("compile q.onnx --design d.json -o d.json", "it is the input 'd.json' (--design)"),
        ("run p.hfp --graph g.npz -o p.hfp", "it is the input 'p.hfp' (PROGRAM)"),
        ("run p.hfp --graph g.npz --reference q.onnx --trace q.onnx", "it is the input 'q.onnx' (--reference)"),
        ("run p.hfp --graph g.npz -o new --trace new", "'new' (--trace): it is the output 'new' (--output)"),
        ("graph g.npz -o g.npz", "it is the input 'g.npz' (GRAPH)"),
        ("graph csv/graph.json -o csv/graph.json", "it is the input 'csv/graph.json' (GRAPH)"),
        ("graph hgb -o hgb/label.dat.test", "it is the input 'hgb/label.dat.test' (GRAPH)"),
        ("graph g.npz -o a.svg --picture a.svg", "'a.svg' (--picture): it is the output 'a.svg' (--output)"),
    ],
)
def test_no_command_writes_over_what_it_reads(
    folder: Path, capsys: pytest.CaptureFixture[str], line: str, found: str
) -> None:
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert main(line.split()) == 1
    assert found in capsys.readouterr().err
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before
