# SPDX-License-Identifier: Apache-2.0
"""The port and stream models stop at every protocol violation that would hang or corrupt the hardware."""

import subprocess
from pathlib import Path

import pytest

from hetfab.hls.build import emulator
from hetfab.hls.build.compiler import find_compiler

HLS = Path(emulator.__file__).parents[1]


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The testbench that violates the protocol in one named way."""
    path = tmp_path_factory.mktemp("shim") / "shim_faults"
    source = HLS / "testbench" / "shim_faults.cpp"
    find_compiler().run(["-std=c++17", "-O0", f"-I{HLS / 'include'}", "-o", str(path), str(source)])
    return path


@pytest.mark.parametrize(
    ("violation", "text"),
    [
        ("none", "before 0, after 1 2"),
        ("empty-read", "a read request of zero beats"),
        ("empty-write", "a write request of zero beats"),
        ("read-without-request", "a beat read without a request"),
        ("read-past-request", "a beat read without a request"),
        ("beats-ahead", "more beats requested ahead than the adapter keeps outstanding"),
        ("requests-ahead", "more beats requested ahead than the adapter keeps outstanding"),
        ("write-without-request", "a beat written without a request, or past its request"),
        ("write-past-request", "a beat written without a request, or past its request"),
        ("response-without-request", "a write response without a request"),
        ("response-before-beats", "a write response before all beats"),
        ("writes-outstanding", "more write bursts outstanding than the adapter keeps"),
        ("beats-left-unread", "the instruction ended with beats not yet read"),
        ("response-missing", "the instruction ended without its write response"),
        ("read-empty-stream", "a blocking read of an empty stream"),
        ("write-full-stream", "a write to a full stream"),
    ],
)
def test_a_violation_is_named(program: Path, violation: str, text: str) -> None:
    result = subprocess.run([program, violation], capture_output=True, text=True, check=True)
    assert result.stdout == text + "\n"
