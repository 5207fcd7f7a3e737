# SPDX-License-Identifier: Apache-2.0
"""``--to remote://``: pynq's own PYNQ.remote client, and a server of its messages before the emulated device."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import pytest

from hetfab.driver.emulated import EmulatedTransport
from hetfab.driver.graph.npz import write_graph
from hetfab.driver.package import write_emulated_package
from hetfab.driver.session import Session
from hetfab.overlay.blockdesign.platform import platform_of
from hetfab.overlay.board import read_board
from hetfab.overlay.package import Package
from hetfab.overlay.program import write_program
from tests.conftest import SMALL_GEOMETRY
from tests.programs import bound_to, compiled, quantized
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
def port(package: Package) -> Iterator[int]:
    """Where a server listens."""
    board = package.design.board
    words = [str(package.bit), board, platform_of(read_board(board)).architecture]
    with subprocess.Popen(
        [sys.executable, "-W", "ignore", str(SERVER), *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as server:
        assert server.stdin is not None and server.stdout is not None
        yield int(server.stdout.readline())
        server.stdin.close()


def test_a_package_is_loaded_and_a_program_runs(port: int, package: Package, case: Case, tmp_path: Path) -> None:
    """In a process of its own: pynq keeps what it knows of devices for the process."""
    program = compiled(quantized(case).model, case.graph, SMALL_GEOMETRY)
    write_program(tmp_path / "p.hfp", program)
    write_graph(tmp_path / "g.npz", case.graph)
    words = ["run", "p.hfp", "--graph", "g.npz", "--to", f"remote://127.0.0.1:{port}", "--package", str(package.bit)]
    ended = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "hetfab.cli.main", *words, "--json"],
        env={**os.environ, "HETFAB_DEVICE": ""},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    found = json.loads(ended.stdout.splitlines()[-1])
    with EmulatedTransport(package.design) as transport:
        here = Session(transport, package.design).run(bound_to(program, case.graph, side_by_side=True))
    assert found["stream_hash"] == here.stream_hash
    assert found["counters"] == asdict(here.counters)
