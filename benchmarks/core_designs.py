# SPDX-License-Identifier: Apache-2.0
"""Designs with both GEMM cores, with GEMM-D alone and with GEMM-L alone that a board holds.

All vary the arrays, the memories of weights and those of activations of one design, and leave the rest of it. What a
design with both cores has of a core, a design with that core alone may have too.
"""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from hetfab.overlay.board import read_board
from hetfab.overlay.costs.resources import resource_rows
from hetfab.overlay.design import Design, Geometry

#: Cores of each kind of design.
CORES = {"both": ("gemm_d", "gemm_l"), "GEMM-D": ("gemm_d",), "GEMM-L": ("gemm_l",)}
#: LUTs stay below this share of the board's, as those of the default designs: a design with attention leaves no more.
LUT_SHARE = 0.95
_SMALLEST = 16
_WEIGHTS = (512, 1024, 2048, 3072)
_ROWS = {"gemm_d": (2, 4, 6, 8, 10, 12, 14, 16), "gemm_l": (1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 16)}
#: What a core alone has beside these.
_MORE_WEIGHTS = (1536, 4096, 6144, 8192)
_MORE_ROWS = {"gemm_d": (18, 20, 22, 24, 28, 32), "gemm_l": (9, 11, 13, 15, 17, 18, 19, 20, 21, 22, 24, 28, 32)}
_COLUMNS, _MORE_COLUMNS = (8, 16), (24, 32)
_TILES, _MORE_TILES = (512,), (256, 768, 1024, 2048)
_LETTERS = {"gemm_d": "d", "gemm_l": "l"}


def held_designs(base: Design, cores: Sequence[str]) -> tuple[list[Design], int]:
    """Designs that the board holds and that no other of them exceeds in all sizes, and how many points there were.

    Args:
        base: What all have in common.
        cores: Which they have.
    """
    points = list(candidates(base.geometry, cores))
    held = [design for design in (replace(base, geometry=point) for point in points) if holds(design)]
    return _largest(held), len(points)


def holds(design: Design) -> bool:
    """Whether the board holds a design with room to place it."""
    limits = {"lut": LUT_SHARE}
    return all(
        need <= limits.get(name, 1) * there for name, need, there in resource_rows(design, read_board(design.board))
    )


def candidates(base: Geometry, cores: Sequence[str]) -> Iterator[Geometry]:
    """The points of a sweep."""
    alone = len(cores) == 1
    sizes = [_sizes(core, alone) if core in cores else [_absent(core)] for core in CORES["both"]]
    engines = tuple(name for name in base.engines if name not in CORES["both"] or name in cores)
    for both in itertools.product(*sizes):
        yield replace(base, engines=engines, **{name: value for one in both for name, value in one.items()})


def _sizes(core: str, alone: bool) -> list[dict[str, int]]:
    more = int(alone)
    grid = itertools.product(
        _ROWS[core] + more * _MORE_ROWS[core],
        _COLUMNS + more * _MORE_COLUMNS,
        _WEIGHTS + more * _MORE_WEIGHTS,
        _TILES + more * _MORE_TILES,
    )
    return [_named(core, *point) for point in grid]


def _named(core: str, rows: int, columns: int, weights: int, tile: int) -> dict[str, int]:
    letter = _LETTERS[core]
    sizes = {f"{core}_rows": rows, f"{core}_cols": columns}
    return sizes | {f"wgt_{letter}_words": weights, f"act_{letter}_words": tile}


def _absent(core: str) -> dict[str, int]:
    """A core that is missing: its memories are gone with it, their sizes say nothing."""
    letter = _LETTERS[core]
    smallest = {"gemm_d": _named(core, 2, 8, _SMALLEST, _SMALLEST), "gemm_l": _named(core, 1, 8, _SMALLEST, _SMALLEST)}
    return smallest[core] | {f"acc_{letter}_words": _SMALLEST}


def _largest(designs: Sequence[Design]) -> list[Design]:
    """Those that no other exceeds in one size and reaches in all."""
    names = [name for core in CORES["both"] for name in _absent(core)]
    sizes = np.array([[getattr(design.geometry, name) for name in names] for design in designs]).reshape(-1, len(names))
    found = []
    for own, design in zip(sizes, designs, strict=True):
        reach = (sizes >= own).all(axis=1)
        if not (sizes[reach] > own).any():
            found.append(design)
    return found
