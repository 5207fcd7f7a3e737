# SPDX-License-Identifier: Apache-2.0
"""``--to remote://``: pynq's own PYNQ.remote client, and a server of its messages before the emulated device."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hetfab.driver.graph.npz import write_graph
from hetfab.driver.package import write_emulated_package
from hetfab.overlay.blockdesign.platform import platform_of
from hetfab.overlay.board import read_board
from hetfab.overlay.package import Package
from hetfab.overlay.program import write_program
from tests.conftest import SMALL_GEOMETRY
from tests.programs import compiled, quantized
from tests.pynq_support import require_pynq, small_design_of, supported_boards
from tests.random_models import Case, academic_case

SERVER = Path(__file__).parent / "pynq_remote_server.py"


@pytest.fixture(scope="module")
def case() -> Case:
    return academic_case()


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Package:
    require_pynq()
    import pynq

    if tuple(map(int, pynq.__version__.split(".")[:2])) < (3, 1):
        pytest.skip("python: pynq 3.0 has no PYNQ.remote")
    design = small_design_of(supported_boards(pynq.__version__)[0])
    return write_emulated_package(tmp_path_factory.mktemp("package"), design)


@pytest.fixture
def port(package: Package, request: pytest.FixtureRequest) -> Iterator[int]:
    """Where a server listens; a test may give the board another name."""
    board = package.design.board
    name = getattr(request, "param", board)
    words = [str(package.bit), name, platform_of(read_board(board)).architecture]
    with subprocess.Popen(
        [sys.executable, "-W", "ignore", str(SERVER), *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as server:
        assert server.stdin is not None and server.stdout is not None
        yield int(server.stdout.readline())
        server.stdin.close()


def hetfab(*words: str, folder: Path) -> tuple[int, dict[str, Any]]:
    """A command in a process of its own: pynq keeps what it knows of devices for the process."""
    ended = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "hetfab.cli.main", *words, "--json"],
        env={**os.environ, "HETFAB_DEVICE": ""},
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.stdout, ended.stderr
    return ended.returncode, json.loads(ended.stdout.splitlines()[-1])


def test_a_package_is_loaded_and_a_program_runs(port: int, package: Package, case: Case, tmp_path: Path) -> None:
    there = ["--to", f"remote://127.0.0.1:{port}"]
    status, flashed = hetfab("flash", str(package.bit), *there, folder=tmp_path)
    assert status == 0, flashed
    assert flashed["registers"] and all(row["found"] == row["expected"] for row in flashed["registers"])
    program, graph = tmp_path / "p.hfp", tmp_path / "g.npz"
    write_program(program, compiled(quantized(case).model, case.graph, SMALL_GEOMETRY))
    write_graph(graph, case.graph)
    files = [str(program), "--graph", str(graph)]
    status, here = hetfab("run", *files, folder=tmp_path)
    assert status == 0, here
    status, remote = hetfab("run", *files, *there, "--package", str(package.bit), folder=tmp_path)
    assert status == 0, remote
    assert remote["stream_hash"] == here["stream_hash"] and remote["counters"] == here["counters"]
    assert [remote[key] for key in here if "f1" in key] == [here[key] for key in here if "f1" in key]


@pytest.mark.parametrize("port", ["ZC706"], indirect=True)
def test_another_board_is_refused(port: int, package: Package, tmp_path: Path) -> None:
    if package.design.board == "zc706":
        pytest.skip("python: this pynq's first board is the ZC706")
    status, said = hetfab("flash", str(package.bit), "--to", f"remote://127.0.0.1:{port}", folder=tmp_path)
    assert (status, said["error"]["code"]) == (1, "board-mismatch")


def test_nobody_at_the_address_is_named(package: Package, tmp_path: Path) -> None:
    status, said = hetfab("flash", str(package.bit), "--to", "remote://127.0.0.1:9", folder=tmp_path)
    assert (status, said["error"]["code"]) == (3, "host-unreachable")
