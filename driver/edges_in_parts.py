# SPDX-License-Identifier: Apache-2.0
"""Puts edges in parts by compiled code, where this machine has a compiler."""

import functools

from hetfab.overlay.errors import CacheUnwritableError, CompilerFailedError, CompilerMissingError
from hetfab.overlay.parts import Ids, Numbers, Parts, PartsMaker, in_parts


def make_parts(indptr: Numbers, ids: Ids, vertices: int, slots: int, tile_rows: int) -> Parts:
    """As ``overlay.parts.in_parts``, with the same results; ids may be ordered where they are."""
    return _maker()(indptr, ids, vertices, slots, tile_rows)


@functools.cache
def _maker() -> PartsMaker:
    """Compiled; a board may lack a compiler that works, or a place for what it makes."""
    from hetfab.hls.build.parts import compiled_parts_maker

    try:
        return compiled_parts_maker()
    except (CompilerMissingError, CompilerFailedError, CacheUnwritableError):
        return in_parts
