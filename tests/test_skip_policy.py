# SPDX-License-Identifier: Apache-2.0
"""The skip policy: reasons of a known kind are counted, any other skip fails the run."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parent

ALLOWED = """
import pytest

@pytest.mark.skip(reason="board: no PYNQ-Z2 here")
def test_board(): pass

def test_data(): pytest.skip("data: no ACM files")

@pytest.mark.xfail(reason="known")
def test_expected_failure(): assert False

def test_runs(): pass
"""


def run(folder: Path, text: str, *options: str) -> subprocess.CompletedProcess[str]:
    (folder / "test_probe.py").write_text(text, encoding="utf-8")
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("PYTEST", "COV"))}
    return subprocess.run(
        [
            Path(sys.executable).with_name("pytest"),
            "-p",
            "skip_policy",
            "-p",
            "no:cacheprovider",
            *options,
            ".",
        ],
        cwd=folder,
        env=environment | {"PYTHONPATH": str(TESTS)},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("options", [(), ("-n", "2")], ids=["one process", "workers"])
def test_known_reasons_are_counted_and_pass(tmp_path: Path, options: tuple[str, ...]) -> None:
    process = run(tmp_path, ALLOWED, *options)
    assert process.returncode == 0, process.stdout + process.stderr
    assert "board       1  without a board" in process.stdout
    assert "vendor      0  without a vendor's tool" in process.stdout
    assert "    1 x data: no ACM files" in process.stdout
    assert "known" not in process.stdout.partition("skips by reason")[2]


@pytest.mark.parametrize("options", [(), ("-n", "2")], ids=["one process", "workers"])
@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("import pytest\ndef test_a(): pytest.skip('compiler: no g++')\n", "compiler: no g++"),
        ("import pytest\npytest.skip('later', allow_module_level=True)\n", "later"),
        ("import pytest\npytest.importorskip('no_such_package')\n", "could not import 'no_such_package'"),
    ],
    ids=["test", "module", "importorskip"],
)
def test_any_other_skip_fails_the_run(tmp_path: Path, text: str, reason: str, options: tuple[str, ...]) -> None:
    process = run(tmp_path, text, *options)
    assert process.returncode == 1, process.stdout + process.stderr
    assert f"skipped because '{reason}" in process.stdout
    assert "which is none of: vendor, board, data, cpu, python" in process.stdout
