# SPDX-License-Identifier: Apache-2.0
"""The read and write sets of the generated C++, called from Python."""

import ctypes
import functools
import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from hetfab.hls.build.compiler import find_compiler
from hetfab.overlay.design import Geometry
from hetfab.overlay.isa.generate_sets import set_constants
from hetfab.overlay.isa.spec import Box, Operation, evaluate, isa
from hetfab.overlay.isa.words import pack
from tests.sets_definition import Region

HLS = Path(__file__).parents[1] / "hls"
CONFIGURES = [operation for operation in isa().operations if operation.name.startswith("configure_")]
LARGEST_COUNT = max(len(operation.reads) + len(operation.writes) for operation in isa().operations)


def declared_sets(
    word: int, contexts: Mapping[str, int], slots: Mapping[str, int], geometry: Geometry
) -> tuple[list[Region], list[Region]]:
    """Read and write set of an issued instruction.

    Args:
        word: The instruction, 128 bits.
        contexts: What configure instructions left last, by their names.
        slots: Where they left it, by the fields that name a slot: ``slot`` or ``scores``.
        geometry: What it was compiled for.
    """
    kept = [0] * sum(_context_sizes().values())
    for name, configured in contexts.items():
        box = context_box(isa().operation(name))
        before = list(_context_sizes()).index(box.memory)
        kept[sum(list(_context_sizes().values())[:before]) + evaluate(box.base, slots)] = configured
    words = pack(kept)
    halves = pack([word])
    found = np.zeros((LARGEST_COUNT, 6), np.uint64)
    constants = np.array([geometry.constants()[name] for name in set_constants()], np.uint64)
    pointers = [array.ctypes.data for array in (halves, words, constants, found)]
    count = _library().hetfab_sets(*(ctypes.c_void_p(pointer) for pointer in pointers))
    sets: tuple[list[Region], list[Region]] = ([], [])
    for memory, write, *box in found[:count].tolist():
        sets[write].append(Region(isa().memories[memory].name, *box))
    return sets


def context_box(operation: Operation) -> Box:
    """Where a configure instruction keeps itself."""
    return next(box for box in operation.writes if box.memory.endswith("_context"))


@functools.cache
def _context_sizes() -> dict[str, int]:
    """Words of each memory of contexts, for every slot that a field can name."""
    sizes: dict[str, int] = {}
    for operation in CONFIGURES:
        last = {field.name: field.largest for field in operation.fields}
        box = context_box(operation)
        sizes[box.memory] = max(sizes.get(box.memory, 0), evaluate(box.base, last) + 1)
    return sizes


@functools.cache
def _library() -> ctypes.CDLL:
    with tempfile.TemporaryDirectory() as folder:
        library = Path(folder) / "sets.so"
        flags = ["-std=c++17", "-shared", "-fPIC", "-Wall", "-Wextra", "-Werror", f"-I{HLS}", f"-I{HLS / 'include'}"]
        find_compiler().run([*flags, "-o", str(library), str(HLS / "testbench" / "declared_sets.cpp")])
        return ctypes.CDLL(str(library))
