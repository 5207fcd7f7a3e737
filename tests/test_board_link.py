# SPDX-License-Identifier: Apache-2.0
"""Both ends of a link to a board in one process: what either sends wrongly is named, bounded, and ends the link."""

import contextlib
import errno
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pytest

from hetfab.driver.board.__main__ import read_exactly, write_all
from hetfab.driver.board.channel import Channel
from hetfab.driver.board.copying import copy_package
from hetfab.driver.board.frames import GREETING, LINK_VERSION, PIECE_BYTES, REFUSAL, encode, read_message
from hetfab.driver.board.link import BoardLink, pieces_of
from hetfab.driver.board.serving import about_board, serve
from hetfab.driver.board.store import SUFFIXES, Store, checksum
from hetfab.driver.board.transport import LinkTransport
from hetfab.driver.emulated import EmulatedTransport
from hetfab.driver.package import write_emulated_package
from hetfab.driver.session import Session
from hetfab.overlay.design import default_design
from hetfab.overlay.errors import (
    AnswerGarbledError,
    BoardBusyError,
    BoardPythonError,
    BoardSoftwareError,
    BusError,
    CopyDamagedError,
    DeviceMemoryError,
    DiskFullError,
    GeometryMismatchError,
    HetfabError,
    LinkLostError,
    OutputUnwritableError,
    OverlayPackageError,
    OverlayStateError,
)
from hetfab.overlay.isa.codec import RegisterOffset
from hetfab.overlay.package import Package


@contextmanager
def board(side: Callable[[Any, Any], None]) -> Iterator[Channel]:
    """A channel to a board's side that runs in a thread.

    Args:
        side: Takes a file to read from and one to write to; both are closed when it ends.
    """
    requests, answers = os.pipe(), os.pipe()

    def run() -> None:
        with os.fdopen(requests[0], "rb") as source, os.fdopen(answers[1], "wb", buffering=0) as sink:
            side(source, sink)

    thread = threading.Thread(target=run)
    channel = Channel(answers[0], requests[1])
    thread.start()
    try:
        yield channel
    finally:
        channel.close()
        thread.join(20.0)
        assert not thread.is_alive()


def honest(folder: Path) -> Callable[[Any, Any], None]:
    """The real side."""

    def side(source: Any, sink: Any) -> None:
        write_all(sink, GREETING)
        serve(lambda size: read_exactly(source, size), lambda raw: write_all(sink, raw), folder)

    return side


def lying(*answers: bytes, hears: int = 0) -> Callable[[Any, Any], None]:
    """A side that sends these bytes, and then reads on until the link ends, or so many bytes."""

    def side(source: Any, sink: Any) -> None:
        with contextlib.suppress(BrokenPipeError):
            for answer in answers:
                sink.write(answer)
        source.read(hears or -1)

    return side


def ended(begun: bool) -> HetfabError:
    return LinkLostError("it ended", f"begun: {begun}", "nothing")


def files_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


def link_to(channel: Channel, seconds: float = 20.0) -> BoardLink:
    return BoardLink(channel, "'it'", ended, answer_seconds=seconds)


HELLO = GREETING + encode(about_board())


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Package:
    return write_emulated_package(tmp_path_factory.mktemp("package"), default_design())


@contextmanager
def loaded(
    package: Package, folder: Path, monkeypatch: pytest.MonkeyPatch, kind: type[EmulatedTransport] = EmulatedTransport
) -> Iterator[LinkTransport]:
    """A package's overlay over a link."""
    monkeypatch.setattr("hetfab.driver.overlay.open_transport", lambda found: kind(found.design))
    with board(honest(folder)) as channel:
        link = link_to(channel)
        copy_package(link, package)
        yield LinkTransport(lambda: link, package.name)


# What a board does over a link is what it does here


def test_registers_memory_and_errors_cross_the_link(
    package: Package, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with loaded(package, tmp_path, monkeypatch) as transport:
        assert Session(transport, package.design).design == package.design
        buffer = transport.allocate(2 * PIECE_BYTES + 77)
        buffer.array[:] = noise = np.random.default_rng(1).integers(0, 256, buffer.array.size, np.uint8)
        buffer.sync_to_device()
        buffer.array[:] = 0
        buffer.sync_from_device()
        assert (buffer.array == noise).all() and buffer.physical_address % 64 == 0
        buffer.free()
        with pytest.raises(OverlayStateError, match="the buffer was freed"):
            buffer.sync_to_device()
        with pytest.raises(DeviceMemoryError) as caught:
            transport.allocate(1 << 40)
        with pytest.raises(DeviceMemoryError) as here:
            EmulatedTransport(package.design).allocate(1 << 40)
        assert caught.value.as_dict() == here.value.as_dict()
        transport.check_loaded()
        transport.reload()
        assert transport.read_register(RegisterOffset.ISA_VERSION) == 0
        transport.close()
        with pytest.raises(OverlayStateError, match="the overlay is closed"):
            transport.check_loaded()


class RefusedBus(EmulatedTransport):
    """A board whose bus refuses an access."""

    def read_register(self, offset: int) -> int:
        raise BusError("the access failed", "a bus that answers", "load it again")


class OtherOverlay(EmulatedTransport):
    """A board with another overlay than its package's."""

    def read_register(self, offset: int) -> int:
        return super().read_register(offset) ^ (offset == RegisterOffset.GEOMETRY_HASH_LOW)


@pytest.mark.parametrize(("kind", "error"), [(RefusedBus, BusError), (OtherOverlay, GeometryMismatchError)])
def test_failures_of_the_device_keep_their_names(
    kind: type[EmulatedTransport],
    error: type[HetfabError],
    package: Package,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with loaded(package, tmp_path, monkeypatch, kind) as transport, pytest.raises(error) as caught:
        Session(transport, package.design)
    assert type(caught.value) is error


def test_a_board_compares_what_it_received_with_what_was_announced(package: Package, tmp_path: Path) -> None:
    with board(honest(tmp_path)) as channel:
        link = link_to(channel)
        ours = {suffix: checksum(package.bit.with_suffix(f".{suffix}")) for suffix in ("bit", "hwh", "json")}
        for suffix in ours:
            assert link.send_file(package.bit.with_suffix(f".{suffix}"), package.name, suffix) == ours[suffix]
        with pytest.raises(CopyDamagedError, match=r"arrived damaged or short: 'pynq-z2\.bit'"):
            link.request("commit", name=package.name, checksums=ours | {"bit": "0" * 64})
        assert not any(path.is_file() for path in (tmp_path / package.name).iterdir())
        assert not copy_package(link, package).was_there and copy_package(link, package).was_there


def test_a_copy_replaces_a_package_of_the_name_only_when_it_is_whole(package: Package, tmp_path: Path) -> None:
    with board(honest(tmp_path)) as channel:
        link = link_to(channel)
        copy_package(link, package)
        link.send_file(package.hwh, package.name, "json")
        with pytest.raises(CopyDamagedError):
            link.request("commit", name=package.name, checksums=dict.fromkeys(("bit", "hwh", "json"), ""))
        assert copy_package(link, package).was_there


@pytest.mark.parametrize("fails", ["hwh", "bit", "json"])
def test_of_a_copy_whose_link_breaks_nothing_stays(
    fails: str, package: Package, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def pieces(file: BinaryIO, size: int) -> Iterator[bytes]:
        if file.name.endswith(f".{fails}"):
            yield b"x"
            raise KeyboardInterrupt
        yield from pieces_of(file, size)

    monkeypatch.setattr("hetfab.driver.board.link.pieces_of", pieces)
    with board(honest(tmp_path)) as channel, pytest.raises(KeyboardInterrupt):
        copy_package(link_to(channel), package)
    assert files_in(tmp_path) == [".lock"]


@pytest.mark.parametrize("fails", ["hwh", "bit", "json"])
def test_of_a_copy_that_finds_no_room_nothing_stays(
    fails: str, package: Package, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    really = os.fsync

    def fsync(descriptor: int) -> None:
        if Path(f"/proc/self/fd/{descriptor}").readlink().name.endswith(f".{fails}.part"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        really(descriptor)

    monkeypatch.setattr("os.fsync", fsync)
    with board(honest(tmp_path)) as channel:
        link = link_to(channel)
        with pytest.raises(DiskFullError, match=rf"no room for 'pynq-z2/\.pynq-z2\.{fails}\.part'"):
            copy_package(link, package)
        assert files_in(tmp_path) == [".lock"]  # While the link is still there.
        monkeypatch.undo()
        assert not copy_package(link, package).was_there


def test_what_a_power_cut_left_of_a_copy_is_removed(tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / ".x.hwh.part").write_bytes(b"x")
    (tmp_path / "x" / "x.hwh").write_bytes(b"x")
    with Store(tmp_path):
        assert files_in(tmp_path) == [".lock", "x.hwh"]


@pytest.mark.parametrize("name", ["my design", "größe", "-rf", "x" * 120, "a;b$(c)"])
def test_a_package_may_be_called_as_its_design(name: str, package: Package, tmp_path: Path) -> None:
    for suffix in SUFFIXES:
        shutil.copy(package.bit.with_suffix(f".{suffix}"), tmp_path / f"{name}.{suffix}")
    package = replace(package, name=name, bit=tmp_path / f"{name}.bit")
    with board(honest(tmp_path / "there")) as channel:
        link = link_to(channel)
        assert not copy_package(link, package).was_there and copy_package(link, package).was_there
    assert (tmp_path / "there" / name / f"{name}.bit").read_bytes() == package.bit.read_bytes()


def test_a_name_that_is_too_long_for_a_card_is_named(package: Package, tmp_path: Path) -> None:
    with board(honest(tmp_path)) as channel:
        link = link_to(channel)
        for ask in (
            lambda: link.request("has", name="x" * 300, checksums=dict.fromkeys(SUFFIXES, "")),
            lambda: link.send_file(package.bit, "x" * 300, "bit"),
            lambda: link.request("commit", name="x" * 300, checksums=dict.fromkeys(SUFFIXES, "")),
        ):
            with pytest.raises(OutputUnwritableError, match=r"'.*x.*' on the board: File name too long"):
                ask()
        assert link.alive and not copy_package(link, package).was_there


@pytest.mark.parametrize("do", ["has", "commit"])
def test_a_card_that_fails_while_it_is_read_is_named(do: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(path: Path) -> str:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr("hetfab.driver.board.store.checksum", fails)
    with board(honest(tmp_path)) as channel:
        link = link_to(channel)
        with pytest.raises(OutputUnwritableError, match=r"cannot read '.*x' on the board: Input/output error"):
            link.request(do, name="x", checksums=dict.fromkeys(SUFFIXES, ""))
        assert link.alive


def test_a_system_that_refuses_is_named(package: Package, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(package: Package) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), "/dev/mem")

    monkeypatch.setattr("hetfab.driver.overlay.open_transport", refuse)
    with board(honest(tmp_path)) as channel:
        link = link_to(channel)
        copy_package(link, package)
        with pytest.raises(BoardSoftwareError, match=r"refuses what 'load' needs: .* denied: '/dev/mem'"):
            LinkTransport(lambda: link, package.name)


# A board that is not what it should be


@pytest.mark.parametrize(
    ("sent", "kind", "found"),
    [
        (REFUSAL + b"python 3.8.10\n", BoardPythonError, "'it' runs hetfab with Python 3.8.10"),
        (REFUSAL + b"import No module named 'numpy'\n", BoardSoftwareError, "cannot import what it needs: No module"),
        (b"x" * 70_000, AnswerGarbledError, "'it' sent something else than a board's side of hetfab"),
        (GREETING + b"\xff" * 8, AnswerGarbledError, "'it' sent a message of 4294967295 and 4294967295 bytes"),
        (GREETING + b"\0\0\0\2\0\0\0\0[]", AnswerGarbledError, "'it' sent a header that is no object"),
        (GREETING + b"\0\0\0\1\0\0\0\0{", AnswerGarbledError, "'it' sent Expecting property name"),
        (GREETING + encode({"error": "x"}), AnswerGarbledError, "'it' sent an error without words"),
        (
            GREETING + encode(about_board() | {"link": 99}),
            BoardSoftwareError,
            f"of the link\n  expected: the instruction set {about_board()['isa']} and version {LINK_VERSION} of",
        ),
    ],
)
def test_another_beginning_is_refused(sent: bytes, kind: type[HetfabError], found: str) -> None:
    with board(lying(sent)) as channel, pytest.raises(HetfabError) as caught:
        link_to(channel)
    assert type(caught.value) is kind and found in str(caught.value)


def test_errors_come_back_as_what_they_were() -> None:
    words = {"code": "disk-full", "found": "a", "expected": "b", "do": "c"}
    unknown = words | {"code": "of tomorrow"}
    with board(lying(HELLO, encode({"error": words}), encode({"error": unknown}))) as channel:
        link = link_to(channel)
        for kind in ("DiskFullError", "HetfabError"):
            with pytest.raises(HetfabError) as caught:
                link.request("has")
            assert type(caught.value).__name__ == kind and caught.value.found == "a"


def test_a_link_that_ends_says_whether_it_had_begun() -> None:
    with board(lying(b"Welcome\n", hears=1)) as channel:
        os.write(channel._sink, b"x")
        with pytest.raises(LinkLostError) as caught:
            link_to(channel)
    assert caught.value.expected == "begun: False"
    with board(lying(HELLO, hears=1)) as channel:
        link = link_to(channel)
        with pytest.raises(LinkLostError) as caught:
            link.request("has")
    assert caught.value.expected == "begun: True" and not link.alive


def test_a_board_that_takes_nothing_holds_nobody_up() -> None:
    stop = threading.Event()

    def deaf(source: Any, sink: Any) -> None:
        sink.write(HELLO)
        stop.wait(20.0)

    with board(deaf) as channel:
        link = link_to(channel, 0.2)
        with pytest.raises(LinkLostError, match=r"the board did not take anything for 0\.2 s"):
            link.request("put", b"x" * PIECE_BYTES, buffer=1, offset=0)
        stop.set()


@pytest.mark.parametrize(("name", "word"), [("machine", None), ("numpy", 1), ("board", ["pynq"])])
def test_what_a_board_says_of_itself_are_words(name: str, word: object) -> None:
    with (
        board(lying(GREETING + encode({**about_board(), name: word}))) as channel,
        pytest.raises(AnswerGarbledError, match=f"as its '{name}'"),
    ):
        link_to(channel)


def test_an_interrupted_request_ends_the_link(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the next request would take this one's answer."""
    with board(lying(HELLO, encode({"has": True}))) as channel:
        link = link_to(channel)

        def interrupted(size: int, seconds: float) -> bytes:
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(channel, "receive", interrupted)
            with pytest.raises(KeyboardInterrupt):
                link.request("has")
        assert not link.alive
        with pytest.raises(LinkLostError):
            link.request("has")


def test_what_cannot_be_loaded_ends_the_link(tmp_path: Path) -> None:
    with board(honest(tmp_path)) as channel:
        link = link_to(channel)
        with pytest.raises(OverlayPackageError, match=r"cannot use '.*nothing\.json': No such file or directory"):
            LinkTransport(lambda: link, "nothing")
        assert not link.alive


def test_a_broken_link_is_replaced_once_the_board_is_free(tmp_path: Path) -> None:
    """The old side holds the board until it notices that its link broke."""
    with contextlib.ExitStack() as links:
        tries = iter([None, BoardBusyError("a", "b", "c"), BoardBusyError("a", "b", "c"), None])

        def connect() -> BoardLink:
            if refused := next(tries):
                raise refused
            return link_to(links.enter_context(board(lying(HELLO, encode({})))))

        transport = LinkTransport(connect, "x")
        transport.link.close()
        transport.reload()
        assert transport.link.alive and next(tries, "none") == "none"


def test_a_board_that_stays_busy_is_named() -> None:
    with board(lying(HELLO, encode({}))) as channel:
        answers = iter([link_to(channel)])

        def connect() -> BoardLink:
            for link in answers:
                return link
            raise BoardBusyError("another program works with it", "b", "c")

        transport = LinkTransport(connect, "x", free_seconds=0.3)
        transport.link.close()
        with pytest.raises(BoardBusyError, match="another program works with it"):
            transport.reload()


def test_a_file_that_shrinks_while_it_is_copied_is_noticed(
    package: Package, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hetfab.driver.board.link.pieces_of", lambda file, size: iter([b"x"]))
    with board(honest(tmp_path)) as channel:
        link = link_to(channel)
        with pytest.raises(CopyDamagedError, match="became shorter while it was copied"):
            link.send_file(package.bit, package.name, "bit")
        assert not link.alive


def test_memory_of_another_size_is_refused() -> None:
    answers = [encode({}), encode({"buffer": 1, "address": 64}), encode({}), encode({}, b"short")]
    with board(lying(HELLO, *answers)) as channel:
        link = link_to(channel)
        transport = LinkTransport(lambda: link, "x")
        with pytest.raises(AnswerGarbledError, match="'it' sent 5 bytes"):
            transport.allocate(64).sync_from_device()


GARBLED: list[object] = [None, "x", -1, 1.5, True, [], 1 << 65]


@pytest.mark.parametrize("answer", [{}, *({"value": value} for value in [*GARBLED, 1 << 32])])
def test_a_register_of_another_kind_is_refused(answer: dict[str, Any]) -> None:
    with pytest.raises(AnswerGarbledError, match=r"'it' sent '.*' as 'value', a whole number up to 4,294,967,295"):
        answered_with(answer, lambda transport: transport.read_register(0))


@pytest.mark.parametrize("name", ["buffer", "address"])
@pytest.mark.parametrize("value", [..., *GARBLED])
def test_a_buffer_of_another_kind_is_refused(name: str, value: object) -> None:
    answer = {"buffer": 1, "address": 64} | {name: value}
    if value is ...:
        del answer[name]
    with pytest.raises(AnswerGarbledError, match=f"'it' sent '.*' as '{name}'"):
        answered_with(answer, lambda transport: transport.allocate(64))


@pytest.mark.parametrize("answer", [{}, *({"records": value} for value in [*GARBLED[1:], 1 << 50])])
def test_a_log_of_another_length_is_refused(answer: dict[str, Any]) -> None:
    with pytest.raises(AnswerGarbledError, match=r"'it' sent '.*' as 'records'"):
        answered_with(answer, lambda transport: transport.run_log())


@pytest.mark.parametrize("answer", [{}, {"has": None}, {"has": 1}, {"has": "no"}])
def test_whether_a_package_is_there_is_true_or_false(answer: dict[str, Any], package: Package) -> None:
    with board(lying(HELLO, encode(answer))) as channel:
        link = link_to(channel)
        with pytest.raises(AnswerGarbledError, match=r"'it' sent '.*' as 'has', true or false"):
            copy_package(link, package)


def answered_with(answer: dict[str, Any], ask: Callable[[LinkTransport], object]) -> None:
    """Asks a board that loads whatever it is told, and then answers so."""
    with board(lying(HELLO, encode({}), encode(answer))) as channel:
        link = link_to(channel)
        ask(LinkTransport(lambda: link, "x"))


# A host that is not what it should be


@pytest.mark.parametrize(
    "request_",
    [
        b"\xff" * 8,
        encode({"do": "everything"}),
        encode({"do": "free"}),
        encode({"do": "has", "name": "../../etc", "checksums": {"hwh": ""}}),
        encode({"do": "receive", "name": "x/y", "suffix": "bit", "size": 0}),
        encode({"do": "receive", "name": "x", "suffix": "py", "size": 0}),
        encode({"do": "receive", "name": "x", "suffix": "bit", "size": 5}) + encode({}, b"123456"),
        encode({"do": "receive", "name": "x", "suffix": "bit", "size": 5}) + encode({}),
    ],
)
def test_a_board_ends_a_link_on_which_it_understands_nothing(request_: bytes, tmp_path: Path) -> None:
    with board(honest(tmp_path / "store")) as channel:
        link = link_to(channel)
        channel.send(request_, 20.0)
        with pytest.raises(HetfabError) as caught:
            link.request("has")
        assert type(caught.value) is LinkLostError
    assert files_in(tmp_path) == [".lock"]


def test_a_board_gives_no_bytes_outside_a_buffer(
    package: Package, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with loaded(package, tmp_path, monkeypatch) as transport:
        transport.allocate(64)
        for offset, size in ((-1, 1), (0, 65), (64, 1), (0, -1)):
            with pytest.raises(AnswerGarbledError, match="of 64"):
                transport.link.request("get", buffer=1, offset=offset, size=size)


def test_a_store_is_for_one_process(tmp_path: Path) -> None:
    with Store(tmp_path), pytest.raises(HetfabError) as caught:
        Store(tmp_path)
    assert caught.value.code == "board-busy"
    Store(tmp_path).__exit__(None, None, None)


def test_messages_are_read_as_they_are_written() -> None:
    raw = encode({"do": "x", "name": "ä"}, b"payload") + encode({})
    place = 0

    def read(size: int) -> bytes:
        nonlocal place
        place += size
        return raw[place - size : place]

    assert read_message(read) == ({"do": "x", "name": "ä"}, b"payload")
    assert read_message(read) == ({}, b"")
