# SPDX-License-Identifier: Apache-2.0
"""The read and write sets of the generated C++, called from Python."""

import ctypes
import functools
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from hetfab.hls.build.compiler import find_compiler
from hetfab.overlay.design import Geometry
from hetfab.overlay.isa.generate_sets import set_constants
from hetfab.overlay.isa.spec import isa
from hetfab.overlay.isa.words import pack
from tests.sets_definition import Region

HLS = Path(__file__).parents[1] / "hls"
SLOTS = isa().operation("reduce").field("slot").largest + 1
LARGEST_COUNT = max(len(operation.reads) + len(operation.writes) for operation in isa().operations)


def declared_sets(word: int, contexts: Sequence[int], geometry: Geometry) -> tuple[list[Region], list[Region]]:
    """Read and write set of an issued instruction.

    Args:
        word: The instruction, 128 bits.
        contexts: Contexts of AGG and behind them those of SGB, as many words as are needed.
        geometry: What it was compiled for.
    """
    slots = np.zeros((isa().size("context_words") * SLOTS + isa().size("sgb_words"), 2), np.uint64)
    slots[: len(contexts)] = pack(contexts)
    halves = pack([word])
    found = np.zeros((LARGEST_COUNT, 6), np.uint64)
    constants = np.array([geometry.constants()[name] for name in set_constants()], np.uint64)
    pointers = [array.ctypes.data for array in (halves, slots, constants, found)]
    count = _library().hetfab_sets(*(ctypes.c_void_p(pointer) for pointer in pointers))
    sets: tuple[list[Region], list[Region]] = ([], [])
    for memory, write, *box in found[:count].tolist():
        sets[write].append(Region(isa().memories[memory].name, *box))
    return sets


@functools.cache
def _library() -> ctypes.CDLL:
    with tempfile.TemporaryDirectory() as folder:
        library = Path(folder) / "sets.so"
        flags = ["-std=c++17", "-shared", "-fPIC", "-Wall", "-Wextra", "-Werror", f"-I{HLS}", f"-I{HLS / 'include'}"]
        find_compiler().run([*flags, "-o", str(library), str(HLS / "testbench" / "declared_sets.cpp")])
        return ctypes.CDLL(str(library))
