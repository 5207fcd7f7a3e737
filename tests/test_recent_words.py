# SPDX-License-Identifier: Apache-2.0
"""SGB's bitmap at one id per cycle: reads that miss the last writes find what these wrote."""

import ctypes
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hetfab.hls.build.compiler import find_compiler
from hetfab.overlay.isa.spec import isa

HLS = Path(__file__).parents[1] / "hls"
RECENT = isa().size("sgb_recent")
COLUMNS = 400


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    path = tmp_path_factory.mktemp("recent") / "recent.so"
    flags = [
        "-std=c++17",
        "-shared",
        "-fPIC",
        "-Wall",
        "-Wextra",
        "-Werror",
        "-Wno-unknown-pragmas",
        "-Wno-unused-label",
    ]
    source = HLS / "testbench" / "recent_words.cpp"
    find_compiler().run([*flags, f"-I{HLS}", f"-I{HLS / 'include'}", "-o", str(path), str(source)])
    return ctypes.CDLL(str(path))


def new_columns(library: ctypes.CDLL, columns: list[int], lag: int) -> list[bool]:
    given_columns, found = np.array(columns, np.uint32), np.zeros(len(columns), np.uint8)
    pointers = [ctypes.c_void_p(array.ctypes.data) for array in (given_columns, found)]
    numbers = [ctypes.c_uint64(number) for number in (len(columns), COLUMNS, lag)]
    library.hetfab_meet_columns(pointers[0], *numbers, pointers[1])
    return [bool(flag) for flag in found]


# Few words, so that they are met again while their writes are under way.
@given(st.lists(st.integers(0, COLUMNS - 1), max_size=80), st.integers(0, RECENT))
def test_columns_are_new_once_however_late_writes_are(library: ctypes.CDLL, columns: list[int], lag: int) -> None:
    assert new_columns(library, columns, lag) == [column not in columns[:at] for at, column in enumerate(columns)]


def test_a_later_write_would_be_missed(library: ctypes.CDLL) -> None:
    columns = [64 * word for word in range(RECENT + 1)] + [0]
    assert new_columns(library, columns, RECENT)[-1] is False
    assert new_columns(library, columns, RECENT + 1)[-1] is True
