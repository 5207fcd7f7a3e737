# SPDX-License-Identifier: Apache-2.0
"""What ``--to`` may say, and the ways to a board of which no part is on this machine: JTAG and PYNQ.remote.

Neither has run with a board. Stand-ins record how they are called and fail as the real ones say that they do.
"""

import hashlib
import json
import os
import re
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hetfab.cli.main import ExitCode, main
from hetfab.driver import jtag, pynq_remote
from hetfab.driver.board.address import Address, Way, parse_address
from hetfab.driver.board.identity import check_board, known_board
from hetfab.driver.board.link import BoardFacts
from hetfab.driver.board.ssh import ssh_command
from hetfab.driver.emulated import EmulatedTransport
from hetfab.driver.flash import flash
from hetfab.driver.package import write_emulated_package
from hetfab.driver.target import board_target
from hetfab.overlay.bit_file import BitFile
from hetfab.overlay.blockdesign.build import block_design, hls_vlnv
from hetfab.overlay.blockdesign.hwh import hwh_text
from hetfab.overlay.board import board_names, read_board
from hetfab.overlay.design import Design, default_design
from hetfab.overlay.errors import (
    BoardMismatchError,
    BoardSoftwareError,
    BusError,
    CopyDamagedError,
    DeviceLostError,
    HetfabError,
    HostUnreachableError,
    LinkLostError,
    LoadDeadlineError,
    OverlayPackageError,
    PackageMissingError,
    TargetInvalidError,
    ToolMissingError,
)
from hetfab.overlay.package import Kind, Package, write_package

SYNC = bytes.fromhex("aa995566")


def hardware(folder: Path, design: Design | None = None) -> Package:
    """A package that says that it is a bitstream."""
    design = design or default_design()
    part = read_board(design.board).part.removeprefix("xc")
    bit = BitFile(design.name, part, "2026/01/02", "03:04:05", SYNC * 8).encode()
    return write_package(folder, design, Kind.HARDWARE, bit, hwh_text(block_design(design)).encode())


# The text behind --to

NAMES = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,20}", fullmatch=True)
HOSTS = st.from_regex(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,30}[A-Za-z0-9])?", fullmatch=True)


@given(st.sampled_from([Way.SSH, Way.REMOTE]), HOSTS, st.none() | NAMES, st.none() | st.integers(0, 65535))
def test_addresses_are_read_as_they_are_written(way: Way, host: str, user: str | None, port: int | None) -> None:
    address = Address(way, host, user if way is Way.SSH else None, port)
    assert parse_address(str(address)) == address


def test_addresses_of_this_machine_and_of_version_6() -> None:
    assert [parse_address(text).way for text in ("emulated", "local", "jtag")] == [Way.EMULATED, Way.LOCAL, Way.JTAG]
    assert parse_address("ssh://root@[fe80::1]:22") == Address(Way.SSH, "fe80::1", "root", 22)
    assert str(parse_address("ssh://[fe80::1]")) == "ssh://[fe80::1]"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("nowhere", "it is none of the forms"),
        ("http://pynq", "it is none of the forms"),
        ("ssh://", "'' is no host"),
        ("ssh://-oProxyCommand=x", "'-oProxyCommand=x' is no host"),
        ("ssh://a;b", "'a;b' is no host"),
        ("ssh://$(id)", "'$(id)' is no host"),
        ("ssh://-l@pynq", "'-l' is no user"),
        ("ssh://a b@pynq", "'a b' is no user"),
        ("ssh://pynq/etc", "nothing may follow the host"),
        ("ssh://pynq?x", "nothing may follow the host"),
        ("ssh://pynq:abc", "Port could not be cast to integer value as 'abc'"),
        ("ssh://pynq:70000", "Port out of range 0-65535"),
        ("remote://me@pynq", "'me' is no user"),
    ],
)
def test_other_texts_are_refused(text: str, reason: str) -> None:
    with pytest.raises(TargetInvalidError) as caught:
        parse_address(text)
    assert caught.value.found == f"the target '{text}' says nothing: {reason}"
    assert "ssh://[user@]host[:port]" in caught.value.expected


def test_a_password_is_refused_and_not_repeated(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["flash", "x", "--to", "ssh://xilinx:secret@pynq"]) == ExitCode.USAGE
    said = " ".join(capsys.readouterr().err.split())
    assert "'ssh://xilinx:***@pynq' holds a password" in said and "ssh-copy-id" in said and "secret" not in said


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("ssh://root:s3cret?x@pynq", "ssh://root:***@pynq"),
        ("ssh://root:s3cret#x@pynq", "ssh://root:***@pynq"),
        ("ssh://root:s3c/ret@pynq", "ssh://root:***@pynq"),
        ("ssh://root:s3@cret@pynq", "ssh://root:***@pynq"),
        ("ssh://root:s3:cret@pynq:22", "ssh://root:***@pynq:22"),
        ("ssh://root@home:s3cret@pynq", "ssh://root@home:***@pynq"),
        ("ssh://:s3cret@pynq", "ssh://:***@pynq"),
        ("ssh://[root:s3cret@pynq", "ssh://[root:***@pynq"),
        ("ssh:root:s3cret@pynq", "ssh:***@pynq"),
        ("root:s3cret@pynq", "root:***@pynq"),
        ("remote://root:s3\ncret@pynq", "remote://root:***@pynq"),
    ],
)
def test_no_part_of_what_may_be_a_password_is_repeated(text: str, shown: str) -> None:
    with pytest.raises(TargetInvalidError) as caught:
        parse_address(text)
    assert caught.value.found.startswith(f"the target '{shown}' holds a password")
    assert not {"s3", "cret"} & set(re.split(r"\W+", str(caught.value))) and "s3c" not in str(caught.value)


def test_a_host_is_taken_as_it_was_typed() -> None:
    """OpenSSH compares names in its settings with their case."""
    for text in ("ssh://MyBoard", "ssh://MyBoard:22", "ssh://root@MyBoard", "ssh://MyBoard@MyBoard:22/"):
        assert parse_address(text).host == "MyBoard" and ssh_command(parse_address(text))[-2] == "MyBoard"
    assert parse_address("ssh://[FE80::1]:22").host == "FE80::1"


def test_ssh_gets_no_text_of_the_users_but_names() -> None:
    command = ssh_command(Address(Way.SSH, "pynq", "root", 2222))
    assert command[0] == "ssh" and command[-3:-1] == ["--", "pynq"]
    assert {"BatchMode=yes", "StrictHostKeyChecking=yes"} <= set(command)
    assert command[command.index("-p") + 1] == "2222" and command[command.index("-l") + 1] == "root"
    assert ssh_command(Address(Way.SSH, "other"))[-1] == command[-1]


def test_options_that_do_not_go_together_are_refused(tmp_path: Path) -> None:
    for words in (["--to", "ssh://pynq"], ["--to", "ssh://pynq", "--design", "d.json", "--package", "p"]):
        assert main(["selftest", *words]) == ExitCode.USAGE
    package = write_emulated_package(tmp_path, default_design())
    with pytest.raises(TargetInvalidError, match="programs do not run over 'jtag'"):
        board_target(parse_address("jtag"), str(package.bit))
    with pytest.raises(TargetInvalidError, match="the emulated overlay keeps nothing"):
        flash(package, parse_address("emulated"))


def test_times_are_not_measured_over_a_link(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    package = write_emulated_package(tmp_path, default_design())
    assert main(["calibrate", "--to", "ssh://pynq", "--package", str(package.bit)]) == ExitCode.INPUT
    assert "whose time would be measured too" in capsys.readouterr().err


# Which board it is


def test_names_of_pynqs_images() -> None:
    assert known_board("Pynq-Z2") == "pynq-z2" and known_board("ZCU104") == "zcu104"
    assert known_board("Ultra96") == known_board("Ultra96v2") == "ultra96-v2" and known_board("KV260") == "kv260"
    assert known_board("zc") is known_board("MyBoard") is known_board("") is None
    assert [known_board(name) for name in board_names()] == board_names()


def test_a_board_of_another_name_or_processor_is_refused(tmp_path: Path) -> None:
    package, emulated = hardware(tmp_path), write_emulated_package(tmp_path / "e", default_design())
    facts = BoardFacts("Pynq-Z2", "armv7l", "3.10.4", "0.1.0", "1.21.5", "3.0.1")
    check_board(facts, "'it'", package)
    check_board(replace(facts, board="MyBoard"), "'it'", package)
    check_board(replace(facts, machine="x86_64"), "'it'", emulated)
    with pytest.raises(BoardMismatchError, match="'it' is a 'ZCU104'; the package 'pynq-z2' is for 'pynq-z2'"):
        check_board(replace(facts, board="ZCU104"), "'it'", package)
    with pytest.raises(BoardMismatchError, match="'it' is a board with the processor aarch64"):
        check_board(replace(facts, board=None, machine="aarch64"), "'it'", package)


# JTAG

DETECTED = """Jtag frequency : requested 6.00MHz   -> real 6.00MHz
index 0:
	idcode   0x4ba00477
	type     ARM cortex A9
	irlength 4
index 1:
	idcode 0x3727093
	manufacturer xilinx
	family zynq
	model  xc7z020
	irlength 6
"""


@pytest.fixture
def loader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A stand-in for openFPGALoader: records its arguments, prints and ends as a test says."""
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "detected").write_text(DETECTED, encoding="utf-8")
    tool = folder / "openFPGALoader"
    tool.write_text(
        f"#!{sys.executable}\n"
        "import json, pathlib, sys\n"
        f"folder = pathlib.Path({str(folder)!r})\n"
        "with (folder / 'calls').open('a') as calls: calls.write(json.dumps(sys.argv[1:]) + '\\n')\n"
        "print((folder / 'detected').read_text() if '--detect' in sys.argv else 'load program')\n"
        "name = 'detect' if '--detect' in sys.argv else 'load'\n"
        "sys.exit(int((folder / name).read_text()) if (folder / name).exists() else 0)\n",
        encoding="utf-8",
    )
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    monkeypatch.delenv(jtag.CABLE_VARIABLE, raising=False)
    return folder


def calls(loader: Path) -> list[list[str]]:
    return [json.loads(line) for line in (loader / "calls").read_text(encoding="utf-8").splitlines()]


def test_a_bitstream_is_loaded_over_jtag(
    loader: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    package = hardware(tmp_path)
    assert main(["flash", str(package.bit), "--to", "jtag"]) == ExitCode.DONE
    assert "as far as openFPGALoader says; nobody has read its registers" in capsys.readouterr().out
    assert calls(loader) == [["--board", "pynq_z2", "--detect"], ["--board", "pynq_z2", str(package.bit)]]
    monkeypatch.setenv(jtag.CABLE_VARIABLE, "digilent_hs2")
    assert main(["flash", str(package.bit), "--to", "jtag", "--json"]) == ExitCode.DONE
    assert json.loads(capsys.readouterr().out)["registers"] == []
    assert calls(loader)[-1] == ["--cable", "digilent_hs2", str(package.bit)]


def test_boards_without_a_name_need_a_cable(loader: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = hardware(tmp_path, default_design("zcu104"))
    with pytest.raises(TargetInvalidError, match="has no name for the board 'zcu104'"):
        jtag.load_over_jtag(package)
    monkeypatch.setenv(jtag.CABLE_VARIABLE, "--board")
    with pytest.raises(TargetInvalidError, match="HETFAB_JTAG_CABLE is '--board'"):
        jtag.load_over_jtag(package)
    monkeypatch.setenv(jtag.CABLE_VARIABLE, "ft4232")
    (loader / "detected").write_text("index 0:\n\tmodel  xczu7cg/eg/ev\n", encoding="utf-8")
    jtag.load_over_jtag(package)
    (loader / "detected").write_text("index 0:\n\tmodel  xczu3cg/eg\n", encoding="utf-8")
    with pytest.raises(BoardMismatchError, match="the part at the cable is xczu3cg/eg; the board 'zcu104' has xczu7ev"):
        jtag.load_over_jtag(package)
    assert sum("--detect" not in call for call in calls(loader)) == 1


@pytest.mark.parametrize(("board", "said"), [("pynq-z2", "index 0:\n"), ("kv260", "index 0:\n\tmodel  xczu3cg/eg\n")])
def test_a_part_that_is_not_known_is_loaded(
    board: str, said: str, loader: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is named at the cable, or the board's part is not named after its die."""
    monkeypatch.setenv(jtag.CABLE_VARIABLE, "ft4232")
    (loader / "detected").write_text(said, encoding="utf-8")
    package = hardware(tmp_path, default_design(board))
    jtag.load_over_jtag(package)
    assert calls(loader)[-1] == ["--cable", "ft4232", str(package.bit)]


def test_failures_over_jtag_are_named(loader: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = hardware(tmp_path)
    with pytest.raises(OverlayPackageError, match="'pynq-z2' is an emulated overlay, which no fabric takes"):
        jtag.load_over_jtag(write_emulated_package(tmp_path / "e", default_design()))
    (loader / "load").write_text("1", encoding="utf-8")
    with pytest.raises(DeviceLostError, match=r"openFPGALoader did not load '.*pynq-z2\.bit': load program"):
        jtag.load_over_jtag(package)
    (loader / "detect").write_text("1", encoding="utf-8")
    (loader / "detected").write_text("unable to open ftdi device: -3 (device not found)\n", encoding="utf-8")
    with pytest.raises(DeviceLostError, match="finds no board at the cable: unable to open ftdi device"):
        jtag.load_over_jtag(package)
    (loader / "openFPGALoader").write_text("#!/bin/sh\nexec sleep 20\n", encoding="utf-8")
    monkeypatch.setattr(jtag, "_SECONDS", 0.2)
    with pytest.raises(LoadDeadlineError, match=r"openFPGALoader did not end within 0\.2 s"):
        jtag.load_over_jtag(package)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ToolMissingError, match="there is no command 'openFPGALoader' on the path"):
        jtag.load_over_jtag(package)


# PYNQ.remote


class RpcError(Exception):
    """As gRPC's."""


class RemoteStandIn:
    """What hetfab uses of pynq 3.1's PYNQ.remote, in front of an emulated overlay; records files and calls."""

    def __init__(self, design: Design) -> None:
        self.overlay = EmulatedTransport(design)
        self.files: dict[str, bytes] = {}
        self.written: list[str] = []
        self.loaded: list[str] = []
        self.name, self.arch = "Pynq-Z2", "armv7l"
        self.connected: tuple[int, str, int] | None = None
        self.loses, self.gone, self.silent = 0, False, False
        self.refuses: Exception | None = None
        self.hangs = threading.Event()
        self.hangs.set()

    def modules(self) -> dict[str, ModuleType]:
        """The modules by name."""
        board = self

        def remote_device(index: int, ip_addr: str, port: int) -> RemoteStandIn:
            if board.silent:
                raise RuntimeError("Failed to connect to remote device")
            board.answer()
            board.connected = (index, ip_addr, port)
            return board

        class Mmio:
            def __init__(self, base: int, length: int, device: object = None) -> None:
                assert device is board

            def read(self, offset: int) -> int:
                if board.gone:
                    raise RpcError("StatusCode.UNAVAILABLE")
                board.answer()
                value = board.overlay.read_register(offset)
                return value - (value >> 31 << 32)  # The answer is a signed number.

            def write(self, offset: int, value: int) -> None:
                board.overlay.write_register(offset, value)

        class Overlay:
            def __init__(self, path: str, device: object = None) -> None:
                assert device is board
                board.answer()
                board.loaded.append(path)
                cell = {"type": hls_vlnv("dispatch"), "phys_addr": 0x4000_0000, "addr_range": 0x1_0000}
                self.ip_dict, self.device = {"dispatch_0": cell}, board

            def is_loaded(self) -> bool:
                return True

        def module(name: str, **content: Any) -> ModuleType:
            made = ModuleType(name)
            made.__spec__ = ModuleSpec(name, None)
            vars(made).update(content)
            return made

        active = SimpleNamespace(active_device=None)
        parts = {"MMIO": Mmio, "Clocks": SimpleNamespace(fclk0_mhz=100.0), "DefaultIP": object, "Overlay": Overlay}
        return {
            "grpc": module("grpc", RpcError=RpcError),
            "pynq": module("pynq", Device=active, **parts),
            "pynq.buffer": module("pynq.buffer", allocate=self._allocate),
            "pynq.pl_server": module("pynq.pl_server"),
            "pynq.pl_server.remote_device": module("r", PYNQ_PORT=7967, RemoteDevice=remote_device),
            "pynq.pl_server.embedded_device": module("e", bit2bin=lambda raw: raw[::-1]),
        }

    def answer(self) -> None:
        """What every request meets."""
        self.hangs.wait(20.0)
        if self.refuses is not None:
            raise self.refuses

    def exists_file(self, path: str) -> SimpleNamespace:
        """As pynq's."""
        return SimpleNamespace(exists=path in self.files)

    def read_file(self, path: str) -> bytes:
        """As pynq's."""
        return self.files[path]

    def write_file(self, path: str, content: bytes) -> None:
        """As pynq's; may lose the end."""
        self.answer()
        self.written.append(path)
        self.files[path] = content[: len(content) - self.loses]

    def _allocate(self, shape: tuple[int], dtype: type, target: object, cacheable: int) -> Any:
        assert target is self and cacheable == 1
        buffer = self.overlay.allocate(*shape)

        class Buffer:
            physical_address = buffer.physical_address
            flush, invalidate, freebuffer = buffer.sync_to_device, buffer.sync_from_device, buffer.free

            def view(self, kind: type) -> Any:
                return buffer.array

        return Buffer()


@pytest.fixture
def remote(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[RemoteStandIn]:
    own = ("hetfab.driver.pynq_transport", "hetfab.driver.remote_transport")
    board = RemoteStandIn(default_design())
    for name in own:
        monkeypatch.delitem(sys.modules, name, raising=False)
    for name, module in board.modules().items():
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setenv(pynq_remote.VARIABLE, "")
    monkeypatch.delenv(pynq_remote.VARIABLE)
    monkeypatch.setattr(pynq_remote, "package_folder", lambda key: tmp_path / key)
    yield board
    for name in own:
        sys.modules.pop(name, None)
    board.overlay.close()


def test_an_overlay_is_loaded_and_used_over_pynq_remote(
    remote: RemoteStandIn, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    package = hardware(tmp_path)
    assert main(["flash", str(package.bit), "--to", "remote://pynq:7000", "--json"]) == ExitCode.DONE
    said = json.loads(capsys.readouterr().out)
    assert said["registers"] and all(row["found"] == row["expected"] for row in said["registers"])
    assert remote.connected == (0, "pynq", 7000) and os.environ[pynq_remote.VARIABLE] == "pynq"
    key = hashlib.sha256(package.bit.read_bytes() + package.hwh.read_bytes()).hexdigest()[:24]
    assert remote.files == {f"/lib/firmware/hetfab_{key}.bin": package.bit.read_bytes()[::-1]}
    assert [Path(path).read_bytes() for path in remote.loaded] == [package.bit.read_bytes()]
    session = board_target(parse_address("remote://pynq"), str(package.bit)).open()
    assert remote.connected == (0, "pynq", 7967) and len(remote.written) == 1
    buffer = session.transport.allocate(64)
    buffer.array[:] = np.arange(64)
    buffer.sync_to_device()
    buffer.array[:] = 0
    buffer.sync_from_device()
    assert buffer.array.tolist() == list(range(64))
    buffer.free()


def test_failures_over_pynq_remote_are_named(remote: RemoteStandIn, tmp_path: Path) -> None:
    package, address = hardware(tmp_path), parse_address("remote://pynq")
    remote.silent = True
    with pytest.raises(HostUnreachableError, match=r"no PYNQ\.remote answers at 'remote://pynq': Failed to connect"):
        flash(package, address)
    remote.silent, remote.name = False, "ZCU104"
    with pytest.raises(BoardMismatchError, match="'remote://pynq' is a 'ZCU104'"):
        flash(package, address)
    remote.name, remote.loses = "Unknown", 10
    with pytest.raises(CopyDamagedError, match=r"hetfab_\w+\.bin' arrived at 'remote://pynq' damaged or short, and st"):
        flash(package, address)
    assert remote.loaded == []
    remote.loses = 0
    session = board_target(address, str(package.bit)).open()  # What arrived short is sent again.
    remote.gone = True
    with pytest.raises(LinkLostError, match=r"'remote://pynq' does not answer: StatusCode\.UNAVAILABLE"):
        session.transport.read_register(0)


def test_refusals_over_pynq_remote_are_named(remote: RemoteStandIn, tmp_path: Path) -> None:
    """What the board's side answers with a failure, pynq's client raises as RuntimeError."""
    package, address = hardware(tmp_path), parse_address("remote://pynq")
    remote.refuses = RpcError("StatusCode.UNAVAILABLE")
    with pytest.raises(HostUnreachableError, match=r"no PYNQ\.remote answers at 'remote://pynq': StatusCode"):
        flash(package, address)
    remote.refuses = None
    transport = board_target(address, str(package.bit)).transport()
    remote.refuses = RuntimeError("no such id")
    for access in (lambda: transport.read_register(0), transport.reload):
        with pytest.raises(HetfabError, match="'remote://pynq' answers with a failure: no such id") as caught:
            access()
        assert type(caught.value) is (BoardSoftwareError if access == transport.reload else BusError)


def test_a_copy_that_pynq_remote_refuses_is_named(
    remote: RemoteStandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write_file(path: str, content: bytes) -> None:
        raise RuntimeError("read-only")

    monkeypatch.setattr(remote, "write_file", write_file)
    with pytest.raises(BoardSoftwareError, match="'remote://pynq' answers with a failure: read-only"):
        flash(hardware(tmp_path), parse_address("remote://pynq"))
    assert remote.loaded == []


def test_a_silent_pynq_remote_is_named(remote: RemoteStandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package, address = hardware(tmp_path), parse_address("remote://pynq")
    transport = board_target(address, str(package.bit)).transport()
    monkeypatch.setattr("hetfab.driver.remote_transport.ANSWER_SECONDS", 0.2)
    remote.hangs.clear()
    try:
        with pytest.raises(LinkLostError, match=r"'remote://pynq' did not answer for 0\.2 s"):
            transport.read_register(0)
        with pytest.raises(HostUnreachableError, match=r"no PYNQ\.remote answers at 'remote://pynq': .* not answer"):
            flash(package, address)
    finally:
        remote.hangs.set()


def test_without_pynq_there_is_no_remote(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(PackageMissingError, match="the Python package 'pynq' is not installed"):
        flash(hardware(tmp_path), parse_address("remote://pynq"))
