# SPDX-License-Identifier: Apache-2.0
"""The port and stream models stop at every protocol violation that would hang or corrupt the hardware.

Debug builds also stop where a field or a lane would cut a value.
"""

import subprocess
from pathlib import Path

import pytest

from hetfab.hls.build import emulator
from hetfab.hls.build.compiler import find_compiler

HLS = Path(emulator.__file__).parents[1]


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> dict[bool, Path]:
    """The testbench that does one named thing wrong, as a debug build and as a fast one."""
    source = HLS / "testbench" / "shim_faults.cpp"
    paths = {}
    for debug in (False, True):
        paths[debug] = tmp_path_factory.mktemp("shim") / "shim_faults"
        flags = ["-std=c++17", "-O0", f"-I{HLS / 'include'}", *["-DHETFAB_DEBUG"] * debug]
        find_compiler().run([*flags, "-o", str(paths[debug]), str(source)])
    return paths


def printed(program: Path, violation: str) -> str:
    return subprocess.run([program, violation], capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize("debug", [False, True])
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
def test_a_violation_is_named(programs: dict[bool, Path], debug: bool, violation: str, text: str) -> None:
    assert printed(programs[debug], violation) == text + "\n"


@pytest.mark.parametrize(
    ("violation", "text", "cut"),
    [
        ("none-wide", "bytes 240 0\nbytes 0 255\nbytes 0 128", "bytes 240 0\nbytes 0 255\nbytes 0 128"),
        ("field-too-large", "16 does not fit 4 unsigned bits", "bytes 0 0"),
        ("field-negative", "-1 does not fit 4 unsigned bits", "bytes 240 0"),
        ("lane-too-large", "256 does not fit 8 unsigned bits", "bytes 0 0"),
        ("signed-lane-too-large", "128 does not fit 8 signed bits", "bytes 0 128"),
        ("signed-lane-too-small", "-129 does not fit 8 signed bits", "bytes 0 127"),
    ],
)
def test_debug_builds_stop_where_a_word_would_cut_a_value(
    programs: dict[bool, Path], violation: str, text: str, cut: str
) -> None:
    """Fast builds cut it, as hardware does."""
    assert printed(programs[True], violation) == text + "\n"
    assert printed(programs[False], violation) == cut + "\n"
