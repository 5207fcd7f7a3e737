# SPDX-License-Identifier: Apache-2.0
"""What instructions read and write of the memories, for all instructions of an operation at once."""

import functools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from hetfab.overlay.isa.codec import Segment
from hetfab.overlay.isa.spec import Box, evaluate, isa

_BLOCK = isa().block_bytes
_CONFIGURE = "configure_"
#: Segments that engines write, where order matters.
_WRITTEN = (Segment.ACTIVATIONS, Segment.OUTPUT)
_Numbers: TypeAlias = npt.NDArray[np.int64]


class Access(NamedTuple):
    """Units of a memory, from the first to before the last: words on chip, blocks of a segment in DRAM."""

    memory: str
    first: int
    last: int
    write: bool


@dataclass(frozen=True)
class Form:
    """What the boxes of an operation depend on.

    Attributes:
        engine: Whose operation it is.
        boxes: Boxes that it reads, then those that it writes, and whether it writes them.
        own: Its own fields among them.
        known: Constants, and fields of contexts.
        configured: Its fields by their names in a context, of an operation that fills one.
    """

    engine: str
    boxes: tuple[tuple[Box, bool], ...]
    own: tuple[str, ...]
    known: tuple[str, ...]
    configured: Mapping[str, str]

    def values(self, fields: Mapping[str, int], context: Mapping[str, int]) -> list[int]:
        """Values of ``own`` and ``known``; fields that are left out are 0."""
        return [fields.get(name, 0) for name in self.own] + [context[name] for name in self.known]


@functools.cache
def form_of(name: str) -> Form:
    """Of an operation."""
    operation = isa().operation(name)
    boxes = [(box, False) for box in operation.reads] + [(box, True) for box in operation.writes]
    texts = " ".join(f"{box.base} {box.rows} {box.row_stride} {box.row_length}" for box, _ in boxes)
    fields, used = [field.name for field in operation.fields], set(re.findall(r"[A-Za-z_][\w.]*", texts))
    prefix, found, context = name.partition(_CONFIGURE)
    return Form(
        operation.engine,
        tuple(boxes),
        tuple(sorted(used.intersection(fields))),
        tuple(sorted(used.difference(fields))),
        {field: f"{context}.{field}" for field in fields} if found and not prefix else {},
    )


def accesses_of(form: Form, values: Sequence[Sequence[int]]) -> Iterator[tuple[int, Access]]:
    """Places of instructions and what they access, box by box; nothing where a box is empty or only ever read.

    Args:
        form: Of their operation.
        values: Of each instruction.
    """
    # Expressions of numbers hold for arrays too.
    columns: Any = dict(zip((*form.own, *form.known), np.array(values, np.int64).T, strict=True))
    for box, write in form.boxes:
        base, rows, stride, length = (
            np.broadcast_to(np.asarray(evaluate(text, columns)), len(values))
            for text in (box.base, box.rows, box.row_stride, box.row_length)
        )
        last = base + (rows - 1) * stride + length
        filled = (rows != 0) & (length != 0)
        if box.memory != "dram":
            yield from _found(box.memory, filled, base, last, write)
            continue
        offset_bits = isa().offset_bits
        first = base & ((1 << offset_bits) - 1)
        blocks = first // _BLOCK, (first + last - base - 1) // _BLOCK + 1
        for segment in _WRITTEN:
            yield from _found(f"segment {int(segment)}", filled & (base >> offset_bits == segment), *blocks, write)


def _found(
    memory: str, mask: npt.NDArray[np.bool_], first: _Numbers, last: _Numbers, write: bool
) -> Iterator[tuple[int, Access]]:
    places = np.flatnonzero(mask)
    for place, start, end in zip(places.tolist(), first[places].tolist(), last[places].tolist(), strict=True):
        yield place, Access(memory, start, end, write)
