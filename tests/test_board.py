# SPDX-License-Identifier: Apache-2.0
"""A board behind a real OpenSSH server: packages arrive whole, programs run there, and each failure has its name.

The board is the emulated device in an environment with a board's packages only (``tests/ssh_board.py``).
"""

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pytest

from hetfab.cli.main import ExitCode, main
from hetfab.driver.board.copying import copy_package
from hetfab.driver.board.link import pieces_of as link_pieces
from hetfab.driver.board.ssh import CONFIG_VARIABLE, open_link
from hetfab.driver.board.store import checksum
from hetfab.driver.flash import flash
from hetfab.driver.overlay import HetfabOverlay
from hetfab.driver.package import write_emulated_package
from hetfab.driver.selftest.vectors import vectors
from hetfab.driver.target import board_target
from hetfab.hls.build.cache import cache_folder
from hetfab.hls.build.emulator import build_emulator
from hetfab.overlay.design import default_design
from hetfab.overlay.errors import (
    BoardBusyError,
    BoardMismatchError,
    BoardPythonError,
    BoardSoftwareError,
    CopyDamagedError,
    DiskFullError,
    HetfabError,
    HostKeyError,
    HostUnreachableError,
    LinkLostError,
    LoginRefusedError,
)
from hetfab.overlay.package import Package
from tests.demo_files import DemoFiles
from tests.ssh_board import SshBoard, board_python, make_board

#: A Python that is too old: bootstrapping it must not need words that it lacks.
OLD_PYTHON = "import sys\nsys.version_info = (3, 8, 10, 'final', 0)\n"
#: A Python whose packages lack hetfab.
NO_HETFAB = "import sys\nsys.modules['hetfab'] = None\n"
#: A card that says that all is written, and loses the end.
SHORT_CARD = """
import os
really = os.fsync
def fsync(descriptor):
    os.ftruncate(descriptor, max(0, os.fstat(descriptor).st_size - 100))
    really(descriptor)
os.fsync = fsync
"""
#: A card that is full when a file of this suffix comes.
FULL_CARD = """
import errno
import os
really = os.fsync
def fsync(descriptor):
    if os.readlink(f"/proc/self/fd/{{descriptor}}").endswith(".{suffix}.part"):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    really(descriptor)
os.fsync = fsync
"""
#: A side that fails by a defect.
DEFECT = "import hetfab.driver.board.serving as serving\ndel serving.read_message\n"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SshBoard]:
    python = board_python()
    build_emulator(default_design().geometry)
    board = make_board(tmp_path_factory.mktemp("ssh") / "board", python, str(cache_folder()))
    board.start()
    try:
        yield board
    finally:
        board.stop()


@pytest.fixture
def board(server: SshBoard, monkeypatch: pytest.MonkeyPatch) -> Iterator[SshBoard]:
    """The board as it should be, before and after."""
    monkeypatch.setenv(CONFIG_VARIABLE, str(server.folder / "config"))
    server.login()
    yield server
    server.know_key(server.key)


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Package:
    return write_emulated_package(tmp_path_factory.mktemp("package"), default_design())


def customised(folder: Path, text: str) -> dict[str, str]:
    """Variables of a login whose Python begins with a text."""
    folder.mkdir(exist_ok=True)
    (folder / "sitecustomize.py").write_text(text, encoding="utf-8")
    return {"PYTHONPATH": str(folder)}


def fails(board: SshBoard, package: Package, kind: type[HetfabError]) -> HetfabError:
    """Flashes, and is refused by exactly this error."""
    with pytest.raises(HetfabError) as caught:
        flash(package, board.address)
    assert type(caught.value) is kind, caught.value
    return caught.value


def works(board: SshBoard, package: Package) -> None:
    """The second try."""
    flashed = flash(package, board.address)
    assert flashed.registers and all(row.found == row.expected for row in flashed.registers)
    assert flashed.checksums["bit"] == checksum(package.bit)


def ran(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    assert main([*arguments, "--json"]) == ExitCode.DONE
    result: dict[str, Any] = json.loads(capsys.readouterr().out)
    return result


def test_the_environment_has_a_boards_packages_only() -> None:
    text = (
        "import importlib.metadata as m, json, sys\n"
        "print(json.dumps([sys.version_info[:2], sorted(d.metadata['Name'] for d in m.distributions())]))"
    )
    found = subprocess.run([board_python(), "-I", "-c", text], capture_output=True, text=True, check=True)
    version, names = json.loads(found.stdout)
    assert names == ["click", "hetfab", "numpy"]
    if version != [3, 10]:
        pytest.skip(f"python: the board's environment has Python {version[0]}.{version[1]}, not 3.10")


def test_a_package_is_flashed_and_its_registers_read_back(
    board: SshBoard, package: Package, capsys: pytest.CaptureFixture[str]
) -> None:
    board.login("echo Welcome to the board; echo again >&2")
    first = ran(capsys, "flash", str(package.bit), "--to", str(board.address))
    files = {suffix: package.bit.with_suffix(f".{suffix}") for suffix in ("bit", "hwh", "json")}
    assert first["copied_bytes"] == sum(path.stat().st_size for path in files.values())
    assert first["sha256"] == {suffix: checksum(path) for suffix, path in files.items()}
    assert {row["register"] for row in first["registers"]} >= {"isa_version", "geometry_hash_low"}
    assert all(row["found"] == row["expected"] for row in first["registers"])
    assert first["board_says"]["pynq"] is None and first["board_says"]["python"].startswith("3.")
    for suffix, path in files.items():
        assert (board.store / package.name / f"{package.name}.{suffix}").read_bytes() == path.read_bytes()
    assert ran(capsys, "flash", str(package.bit), "--to", str(board.address))["copied_bytes"] == 0


def test_a_program_runs_on_the_board(
    board: SshBoard, package: Package, demo_files: DemoFiles, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same predictions, counters and modelled time as from the emulated overlay of this machine."""
    said = []
    for name, more in (("here", []), ("there", ["--to", str(board.address), "--package", str(package.bit)])):
        files = [str(demo_files.program), "--graph", str(demo_files.graph), "-o", str(tmp_path / f"{name}.npz")]
        said.append(ran(capsys, "run", *files, *more))
    assert said[0] == said[1]
    here, there = (np.load(tmp_path / f"{name}.npz") for name in ("here", "there"))
    assert set(here.files) == set(there.files)
    assert all((here[name] == there[name]).all() for name in here.files)


def test_a_program_runs_on_the_board_itself(
    board: SshBoard, package: Package, demo_files: DemoFiles, tmp_path: Path
) -> None:
    """The commands of a board's owner, with what a board has."""
    files = [str(demo_files.program), "--graph", str(demo_files.graph), "-o", str(tmp_path / "p.npz")]
    there = ["--package", package.name]  # It arrived by ssh.
    works(board, package)
    for words in (["flash", str(package.bit)], ["run", *files, *there], ["selftest", *there]):
        found = subprocess.run(
            [board_python().parent / "hetfab", *words, "--to", "local", "--json"],
            env=board.environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert found.returncode == 0, found.stderr
    with np.load(tmp_path / "p.npz") as saved:
        assert len(saved.files) > 0


def test_no_command_needs_more_than_a_board_has_before_it_works(board: SshBoard) -> None:
    text = (
        "import importlib\nfrom hetfab.cli.main import COMMANDS\n"
        "for entry in COMMANDS.values(): importlib.import_module(entry.module)\n"
        "from hetfab.driver import overlay\n"
    )
    found = subprocess.run([board_python(), "-I", "-c", text], capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr


def test_the_selftest_runs_over_the_link(
    board: SshBoard, package: Package, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With one vector of each engine: the whole of it runs on the board itself."""
    every = vectors(package.design.geometry)
    chosen = list({vector.engine: vector for vector in every}.values())
    monkeypatch.setattr("hetfab.driver.selftest.vectors.vectors", lambda geometry: chosen)
    result = ran(capsys, "selftest", "--to", str(board.address), "--package", str(package.bit))
    assert result["target"] == f"the overlay 'pynq-z2' on '{board.address}'"
    assert result["suspects"] == [] and set(result["vectors"]) >= {"gemm_d", "agg", "vec"}


def test_an_unknown_and_a_changed_key_are_refused(board: SshBoard, package: Package) -> None:
    (board.folder / "known_hosts").write_text("", encoding="utf-8")
    unknown = fails(board, package, HostKeyError)
    assert unknown.found == f"the key of '{board.address}' is not in known_hosts"
    board.know_key((board.folder / "other_key.pub").read_text(encoding="utf-8").strip())
    changed = fails(board, package, HostKeyError)
    assert changed.found == f"the key of '{board.address}' is not the one that known_hosts has"
    assert "ssh-keygen -R" in changed.do and "log in once" in changed.do
    board.know_key(board.key)
    works(board, package)


def test_a_user_without_a_key_is_refused(
    board: SshBoard, package: Package, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = (board.folder / "config").read_text(encoding="utf-8").replace("user_key", "other_key")
    (tmp_path / "config").write_text(text, encoding="utf-8")
    monkeypatch.setenv(CONFIG_VARIABLE, str(tmp_path / "config"))
    refused = fails(board, package, LoginRefusedError)
    assert "Permission denied" in refused.found and "passwords are never asked for" in refused.expected
    monkeypatch.setenv(CONFIG_VARIABLE, str(board.folder / "config"))
    works(board, package)


def test_a_copy_that_arrives_short_is_refused(board: SshBoard, package: Package, tmp_path: Path) -> None:
    remove(board.store)
    board.login(**customised(tmp_path / "site", SHORT_CARD))
    damaged = fails(board, package, CopyDamagedError)
    assert damaged.found == "of the package 'pynq-z2' arrived damaged or short: " + ", ".join(
        f"'pynq-z2.{suffix}'" for suffix in ("hwh", "bit", "json")
    )
    assert left_in(board.store) == []
    board.login()
    works(board, package)


def test_another_board_is_refused(board: SshBoard, package: Package) -> None:
    board.login(BOARD="ZCU104")
    wrong = fails(board, package, BoardMismatchError)
    assert wrong.found == f"'{board.address}' is a 'ZCU104'; the package 'pynq-z2' is for 'pynq-z2' (xc7z020clg400-1)"
    board.login(BOARD="Pynq-Z2")
    works(board, package)


def test_an_old_python_and_a_missing_hetfab_are_refused(board: SshBoard, package: Package, tmp_path: Path) -> None:
    board.login(**customised(tmp_path / "site", OLD_PYTHON))
    assert fails(board, package, BoardPythonError).found == f"'{board.address}' runs hetfab with Python 3.8.10"
    board.login(**customised(tmp_path / "site", NO_HETFAB))
    lacking = fails(board, package, BoardSoftwareError)
    assert "cannot import what it needs: " in lacking.found and "--no-deps" in lacking.do
    board.login(PATH=str(tmp_path))
    assert "python3" in fails(board, package, BoardPythonError).found
    board.login()
    works(board, package)


@pytest.mark.parametrize("full_at", ["hwh", "bit"])
def test_a_full_disk_is_refused_and_nothing_of_the_copy_stays(
    full_at: str, board: SshBoard, package: Package, tmp_path: Path
) -> None:
    remove(board.store)
    board.login(**customised(tmp_path / "site", FULL_CARD.format(suffix=full_at)))
    full = fails(board, package, DiskFullError)
    assert full.found.startswith(f"the board has no room for 'pynq-z2/.pynq-z2.{full_at}.part' of ")
    assert "HETFAB_BOARD_FOLDER" in full.do
    assert left_in(board.store) == []
    board.login()
    works(board, package)


def test_a_lost_link_is_named_and_the_overlay_loaded_again(
    board: SshBoard, package: Package, demo_files: DemoFiles
) -> None:
    board.login('echo $PPID > "$HETFAB_BOARD_FOLDER/../session"')
    transport = board_target(board.address, str(package.bit)).transport()
    with HetfabOverlay(package, demo_files.program, transport=transport) as overlay:
        first = overlay.predict(demo_files.graph)
        os.kill(int((board.folder / "session").read_text(encoding="utf-8")), signal.SIGKILL)
        with pytest.raises(HetfabError) as caught:
            overlay.predict()
        assert type(caught.value) is LinkLostError and str(board.address) in caught.value.found
        overlay.recover()
        assert (overlay.predict(demo_files.graph).logits == first.logits).all()


@pytest.mark.parametrize("whole", [0, 1])
def test_a_link_that_breaks_while_files_are_copied_leaves_nothing(
    whole: int, board: SshBoard, package: Package, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the first file is copied, and while the second is."""
    remove(board.store)
    files = iter(range(3))
    board.login('echo $PPID > "$HETFAB_BOARD_FOLDER/../session"')
    link = open_link(board.address)

    def pieces_of(file: BinaryIO, size: int) -> Iterator[bytes]:
        if next(files) < whole:
            return link_pieces(file, size)
        return cut_after(file.read(1000), int((board.folder / "session").read_text(encoding="utf-8")))

    monkeypatch.setattr("hetfab.driver.board.link.pieces_of", pieces_of)
    with pytest.raises(HetfabError) as caught:
        copy_package(link, package)
    link.close()
    assert type(caught.value) is LinkLostError
    monkeypatch.undo()
    monkeypatch.setenv(CONFIG_VARIABLE, str(board.folder / "config"))
    wait_until_free(board)
    assert left_in(board.store) == []
    works(board, package)


def test_a_board_that_hangs_is_named_in_time(board: SshBoard) -> None:
    board.login('echo $$ > "$HETFAB_BOARD_FOLDER/../side"')
    link = open_link(board.address, answer_seconds=0.5)
    side = int((board.folder / "side").read_text(encoding="utf-8"))
    os.kill(side, signal.SIGSTOP)
    try:
        with pytest.raises(LinkLostError) as caught:
            link.request("has", name="x", checksums={})
    finally:
        os.kill(side, signal.SIGKILL)
    assert caught.value.found == "the board did not send anything for 0.5 s"
    assert not link.alive


def test_one_program_at_a_time_works_with_a_board(board: SshBoard, package: Package) -> None:
    link = open_link(board.address)
    busy = fails(board, package, BoardBusyError)
    link.close()
    assert busy.found == "another program works with the overlay of this board"
    wait_until_free(board)
    works(board, package)


def test_a_board_that_is_down_is_refused(board: SshBoard, package: Package) -> None:
    board.stop()
    assert "Connection refused" in fails(board, package, HostUnreachableError).found
    board.start()
    works(board, package)


def test_a_defect_of_the_boards_side_is_shown(board: SshBoard, package: Package, tmp_path: Path) -> None:
    board.login(**customised(tmp_path / "site", DEFECT))
    broken = fails(board, package, BoardSoftwareError)
    assert "ended with status 1: " in broken.found and "NameError: name 'read_message' is not defined" in broken.found
    board.login()
    works(board, package)


def cut_after(piece: bytes, session: int) -> Iterator[bytes]:
    """A piece of a file; then the link is cut."""
    yield piece
    os.kill(session, signal.SIGKILL)
    while True:
        yield piece


def wait_until_free(board: SshBoard) -> None:
    """Waits until the board's side of a link that ended has ended too."""
    end = time.monotonic() + 20.0
    while True:
        try:
            open_link(board.address).close()
        except BoardBusyError:
            assert time.monotonic() < end
            time.sleep(0.05)
        else:
            return


def left_in(store: Path) -> list[str]:
    """Files of packages, whole or not."""
    return sorted(path.name for path in store.rglob("*") if path.is_file() and path.name != ".lock")


def remove(store: Path) -> None:
    for path in store.rglob("*"):
        if path.is_file():
            path.unlink()
