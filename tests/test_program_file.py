# SPDX-License-Identifier: Apache-2.0
"""The file format of programs: round trip, equal bytes, and every way in which a file can be wrong."""

import dataclasses
import io
import json
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hetfab.overlay.errors import DesignInvalidError, IsaVersionError, OutputUnwritableError, ProgramUnreadableError
from hetfab.overlay.isa.spec import isa
from hetfab.overlay.program import Program, read_program, write_program
from tests.conftest import SMALL_GEOMETRY
from tests.programs import bound_to, compiled, quantized
from tests.random_models import random_case

Header = dict[str, Any]
DO = "check the path, or compile the model again"
EXPECTED = "a .hfp file as `hetfab compile` writes it"


@pytest.fixture(scope="module")
def program() -> Program:
    """A program with constants, patches, rings, tables and edges."""
    case = random_case(3)
    return compiled(quantized(case).model, case.graph, SMALL_GEOMETRY)


@pytest.fixture
def file(tmp_path: Path, program: Program) -> Path:
    """The program's file."""
    path = tmp_path / "model.hfp"
    write_program(path, program)
    return path


def same(first: Any, second: Any) -> bool:
    """Equality of dataclasses that hold arrays."""
    if dataclasses.is_dataclass(first) and not isinstance(first, type):
        names = [field.name for field in dataclasses.fields(first)]
        return type(first) is type(second) and all(same(getattr(first, n), getattr(second, n)) for n in names)
    if isinstance(first, np.ndarray):
        return first.dtype == second.dtype and np.array_equal(first, second)
    if isinstance(first, tuple):
        return type(first) is type(second) and len(first) == len(second) and all(map(same, first, second))
    return type(first) is type(second) and bool(first == second)


def alter(path: Path, change: Callable[[Header], None], arrays: dict[str, np.ndarray[Any, Any]] | None = None) -> None:
    """Rewrites a file's header, and some of its arrays."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    header = json.loads(members["program.json"])
    change(header)
    members["program.json"] = json.dumps(header).encode()
    for name, array in (arrays or {}).items():
        buffer = io.BytesIO()
        np.save(buffer, array, allow_pickle=array.dtype == object)
        members[f"{name}.npy"] = buffer.getvalue()
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)


@pytest.mark.parametrize("seed", range(8))
def test_a_program_comes_back_as_it_was(tmp_path: Path, seed: int) -> None:
    case = random_case(seed)
    written = compiled(quantized(case).model, case.graph, SMALL_GEOMETRY)
    write_program(tmp_path / "model.hfp", written)
    read = read_program(tmp_path / "model.hfp")
    assert same(read, written)
    assert bound_to(read, case.graph).hash() == bound_to(written, case.graph).hash()


def test_equal_programs_give_equal_bytes(tmp_path: Path, file: Path, program: Program) -> None:
    again = tmp_path / "again.hfp"
    write_program(again, read_program(file))
    assert again.read_bytes() == file.read_bytes()
    case = random_case(3)
    write_program(again, compiled(quantized(case).model, case.graph, SMALL_GEOMETRY))
    assert again.read_bytes() == file.read_bytes()


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "absent.hfp"
    with pytest.raises(ProgramUnreadableError) as caught:
        read_program(path)
    found = f"cannot read the program '{path}': No such file or directory"
    assert caught.value.args == (found, EXPECTED, DO)


@pytest.mark.parametrize("content", [b"", b"no program at all", b"PK\x03\x04", np.lib.format.MAGIC_PREFIX])
def test_what_is_no_zip_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "model.hfp"
    path.write_bytes(content)
    with pytest.raises(ProgramUnreadableError) as caught:
        read_program(path)
    assert caught.value.args == (f"cannot read the program '{path}': File is not a zip file", EXPECTED, DO)


def test_every_truncation_is_refused(file: Path) -> None:
    whole = file.read_bytes()
    for length in np.linspace(0, len(whole) - 1, 40).astype(int):
        file.write_bytes(whole[:length])
        with pytest.raises(ProgramUnreadableError):
            read_program(file)


def test_every_flipped_byte_is_noticed_or_harmless(file: Path, program: Program) -> None:
    """The archive has a checksum for each member; bytes outside them (dates, attributes) mean nothing."""
    whole = bytearray(file.read_bytes())
    refused = 0
    for position in np.linspace(0, len(whole) - 1, 200).astype(int):
        whole[position] ^= 0x55
        file.write_bytes(whole)
        whole[position] ^= 0x55
        try:
            assert same(read_program(file), program)
        except ProgramUnreadableError:
            refused += 1
    assert refused > 100


@pytest.mark.parametrize("member", ["program.json", "words.npy", "patches.npy", "constants.npy"])
def test_a_missing_member_is_named(file: Path, member: str) -> None:
    with zipfile.ZipFile(file) as archive:
        members = {name: archive.read(name) for name in archive.namelist() if name != member}
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    with pytest.raises(ProgramUnreadableError, match=f"There is no item named '{member}' in the archive"):
        read_program(file)


def drop(key: str) -> Callable[[Header], None]:
    return lambda header: header.pop(key) and None


def put(value: Any, *keys: str | int) -> Callable[[Header], None]:
    def change(header: Header) -> None:
        place: Any = header
        for key in keys[:-1]:
            place = place[key]
        place[keys[-1]] = value

    return change


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (put("hetfab program", "format"), "it is not in the format 'hetfab program 4'"),
        (drop("format"), "it is not in the format 'hetfab program 4'"),
        (put("0" * 64, "geometry_hash"), "its header is damaged (the geometry does not have the stored hash)"),
        (drop("tensors"), "its header is damaged ('tensors')"),
        (put("sometimes", "blocks", 0, "part"), "its header is damaged ('sometimes' is not a valid Part)"),
        (put(999, "blocks", 0, "instructions"), "its header is damaged (its arrays have other lengths)"),
        (put("what", "symbols", 0, "kind"), "its header is damaged ('what' is not a valid SymbolKind)"),
        (put([], "layers"), "its header is damaged (block 0 is of layer 0, but there are 0 layers)"),
        (put([], "symbols"), "its header is damaged (patches name symbols beyond the table of 0)"),
        (put([], "rings"), "its header is damaged (patches name rings beyond the table of 0)"),
        (
            put([0] * 17, "tensors", -1, "channel_order"),
            "its header is damaged (the order of 't56' does not name each of its 17 channels once)",
        ),
        (put("absent", "output", "tensor"), "its header is damaged (there is no tensor 'absent')"),
    ],
)
def test_a_damaged_header_is_refused(file: Path, change: Callable[[Header], None], reason: str) -> None:
    alter(file, change)
    with pytest.raises(ProgramUnreadableError) as caught:
        read_program(file)
    assert caught.value.args == (f"cannot read the program '{file}': {reason}", EXPECTED, DO)


def leaves(value: Any, *keys: str | int) -> Iterator[tuple[tuple[str | int, ...], Any]]:
    """Places of all values of a header, of long lists the first and the last."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield from leaves(item, *keys, key)
    elif isinstance(value, list) and value:
        for index in sorted({0, len(value) - 1}):
            yield from leaves(value[index], *keys, index)
    else:
        yield keys, value


def test_every_value_of_another_type_is_refused(file: Path) -> None:
    with zipfile.ZipFile(file) as archive:
        header = json.loads(archive.read("program.json"))
    whole = file.read_bytes()
    places = [(keys, value) for keys, value in leaves(header) if keys[0] != "design"]
    assert len(places) > 100
    for keys, value in places:
        alter(file, put(7 if isinstance(value, str) else "7", *keys))
        with pytest.raises((ProgramUnreadableError, IsaVersionError)):
            read_program(file)
        file.write_bytes(whole)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (put("8", "tensors", 0, "bits"), "'bits' of Tensor is '8'"),
        (put(True, "tensors", 0, "bits"), "'bits' of Tensor is True"),
        (put(1, "tensors", 0, "packed"), "'packed' of Tensor is 1"),
        (put({"a": 1.5}, "limits", "fixed_counts"), "'fixed_counts' of Limits is {'a': 1.5}"),
        (put(["x" * 99], "layers", 0, "tile_rows"), f"'tile_rows' of LayerInfo is ('{58 * 'x'}..."),
        (put(None, "edges", 0, "relations", 0, 1), "'name' of Relation is None"),
    ],
)
def test_the_field_is_named(file: Path, change: Callable[[Header], None], reason: str) -> None:
    alter(file, change)
    with pytest.raises(ProgramUnreadableError) as caught:
        read_program(file)
    assert caught.value.found == f"cannot read the program '{file}': its header is damaged ({reason})"


@pytest.mark.parametrize("header", [[], "text", None])
def test_a_header_that_is_no_object_is_refused(file: Path, header: Any) -> None:
    with zipfile.ZipFile(file) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in (members | {"program.json": json.dumps(header).encode()}).items():
            archive.writestr(name, content)
    with pytest.raises(ProgramUnreadableError, match="it is not in the format 'hetfab program 4'"):
        read_program(file)


@pytest.mark.parametrize(
    "arrays",
    [
        {"words": np.zeros((3, 2), np.int64)},
        {"words": np.zeros(6, np.uint64)},
        {"words": np.zeros((3, 3), np.uint64)},
        {"patches": np.zeros(3, np.int64)},
        {"constants": np.zeros(3, np.int64)},
        {"constants": np.zeros((3, 2), np.uint8)},
    ],
)
def test_arrays_of_another_type_are_refused(file: Path, arrays: dict[str, np.ndarray[Any, Any]]) -> None:
    alter(file, lambda header: None, arrays)
    with pytest.raises(ProgramUnreadableError) as caught:
        read_program(file)
    assert (
        caught.value.found == f"cannot read the program '{file}': its header is damaged (its arrays have other types)"
    )


def test_pickled_content_is_never_loaded(file: Path) -> None:
    alter(file, lambda header: None, {"constants": np.array([{"a": 1}], dtype=object)})
    with pytest.raises(ProgramUnreadableError, match="Object arrays cannot be loaded when allow_pickle=False"):
        read_program(file)


def test_another_version_of_the_instruction_set_is_refused(file: Path) -> None:
    alter(file, put([7, 3], "isa_version"))
    with pytest.raises(IsaVersionError) as caught:
        read_program(file)
    major, minor = isa().version
    assert caught.value.args == (
        f"'{file}' is for version 7.3 of the instruction set",
        f"version {major}.{minor}",
        f"make it anew: hetfab compile model -o {file}",
    )


@pytest.mark.parametrize("version", ["text", 3, None, {}])
def test_a_version_that_is_none_is_refused(file: Path, version: Any) -> None:
    alter(file, put(version, "isa_version"))
    with pytest.raises(IsaVersionError) as caught:
        read_program(file)
    assert caught.value.found == f"'{file}' is for version {version!r} of the instruction set"


def test_an_impossible_design_is_refused(file: Path) -> None:
    alter(file, put(3, "design", "geometry", "gemm_d_rows"))
    with pytest.raises(DesignInvalidError, match=r"gemm_d_rows is 3"):
        read_program(file)


def test_an_unwritable_target_is_refused(tmp_path: Path, program: Program) -> None:
    path = tmp_path / "absent" / "model.hfp"
    with pytest.raises(OutputUnwritableError) as caught:
        write_program(path, program)
    assert caught.value.found == f"cannot write '{path}': No such file or directory"
    assert not path.parent.exists()
