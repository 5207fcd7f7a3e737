# SPDX-License-Identifier: Apache-2.0
"""Runs a bound program and takes every tensor that it stores out of device memory, as integers."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from hetfab.driver.session import DEADLINE_SECONDS, Session
from hetfab.overlay.bind import BoundProgram
from hetfab.overlay.images import Image, image_values
from hetfab.overlay.isa.codec import Segment
from hetfab.overlay.program import Tensor

Bytes: TypeAlias = npt.NDArray[np.uint8]
Integers: TypeAlias = npt.NDArray[np.int64]

#: Where features and what a program computes lie.
_SEGMENTS = ("features", "activations", "output")


def stored_tensors(
    session: Session, bound: BoundProgram, *, deadline_seconds: float = DEADLINE_SECONDS
) -> dict[str, Integers]:
    """Runs a program, and reads its tensors in the order in which its layers write them, the features first.

    Images share memory. Where a later layer writes over one, the stream is run again as far as that layer: it waits
    for nothing that comes later, so any beginning of it is a program too.

    Args:
        session: The overlay.
        bound: Bound for its design.
        deadline_seconds: How long to wait for each run.

    Returns:
        By name: int64 [rows, channels] of a program on a graph, [*shape of the image] of one on samples, channels in
        the model's order.

    Raises:
        HetfabError: As ``Session.load`` and ``Resident.run``.
    """
    found: dict[str, Integers] = {}
    for stop in _stops(bound):
        with session.load(_beginning(bound, stop.instructions)) as resident:
            resident.run(deadline_seconds=deadline_seconds)
            for name in stop.names:
                found[name] = _values(bound, name, resident.content(_segment(bound, name)))
    return {name: found[name] for name in names_in_order(bound)}


def names_in_order(bound: BoundProgram) -> list[str]:
    """Tensors in the order in which layers write them, the features first; a stack is behind its last part."""
    program = bound.program
    written = {layer.name: index for index, layer in enumerate(program.layers)}
    if program.images:
        held = [image.name for image in program.images if image.segment in _SEGMENTS]
    else:
        held = [tensor.name for tensor in program.tensors if tensor.segment in _SEGMENTS]
    for tensor in program.tensors:
        if tensor.whole and tensor.name in written:
            written[tensor.whole] = max(written[tensor.name], written.get(tensor.whole, -1))
    return sorted(held, key=lambda name: written.get(name, -1))


@dataclass(frozen=True)
class _Stop:
    """Tensors that memory holds when so many instructions have run."""

    instructions: int
    names: tuple[str, ...]


def _stops(bound: BoundProgram) -> list[_Stop]:
    """As few ends as let each tensor be read."""
    stops: list[_Stop] = []
    overwritten = -1
    for written, last, name in sorted(_lives(bound), key=lambda life: life[1]):
        if written <= overwritten:
            stops[-1] = _Stop(max(stops[-1].instructions, written), (*stops[-1].names, name))
        else:
            overwritten = last
            stops.append(_Stop(written, (name,)))
    return stops


def _lives(bound: BoundProgram) -> Iterator[tuple[int, int, str]]:
    """Of each tensor, the fewest and the most instructions after which memory holds it, and its name."""
    end = len(bound.words)
    if not bound.program.images:
        yield from ((end, end, name) for name in names_in_order(bound))
        return
    layers = {layer.name: index for index, layer in enumerate(bound.program.layers)}
    images = [bound.program.image(name) for name in names_in_order(bound)]
    for index, image in enumerate(images):
        own = np.flatnonzero(bound.layers == layers[image.name]) if image.name in layers else np.zeros(0, np.int64)
        written = int(own[-1]) + 1 if len(own) else 0
        over = [layers[other.name] for other in images[index + 1 :] if _overlap(image, other)]
        first = int(np.flatnonzero(np.isin(bound.layers, over))[0]) if over else end
        # A layer may fetch its weights before the one that it overwrites has ended.
        yield written, max(first, written), image.name


def _overlap(first: Image, second: Image) -> bool:
    return first.segment == second.segment and (
        first.offset < second.offset + second.size_bytes and second.offset < first.offset + first.size_bytes
    )


def _beginning(bound: BoundProgram, instructions: int) -> BoundProgram:
    """The program up to an instruction."""
    if instructions == len(bound.words):
        return bound
    words = bound.words[:instructions]
    contents = {**bound.contents, Segment.PROGRAM: words.view(np.uint8).reshape(-1)}
    sizes = {**bound.sizes, Segment.PROGRAM: contents[Segment.PROGRAM].size}
    return replace(bound, words=words, layers=bound.layers[:instructions], contents=contents, sizes=sizes)


def _segment(bound: BoundProgram, name: str) -> Segment:
    program = bound.program
    return Segment[(program.image(name) if program.images else program.tensor(name)).segment.upper()]


def _values(bound: BoundProgram, name: str, content: Bytes) -> Integers:
    if bound.program.images:
        return image_values(bound.program.image(name), content)
    tensor = bound.program.tensor(name)
    return tensor_values(tensor, bound.counts[tensor.node_type], content[bound.offsets[name] :])


def tensor_values(tensor: Tensor, rows: int, content: Bytes) -> Integers:
    """The integers of a tensor, int64 [rows, channels that a row holds], in the model's order of channels.

    Args:
        tensor: How its rows lie.
        rows: How many there are.
        content: Bytes from its first row on.
    """
    stored = np.ascontiguousarray(content[: rows * tensor.row_bytes].reshape(rows, tensor.row_bytes))
    if tensor.packed:
        nibbles = np.stack([stored & 15, stored >> 4], axis=-1).reshape(rows, 2 * tensor.row_bytes).astype(np.int64)
        values = np.where(nibbles > 7, nibbles - 16, nibbles) if tensor.signed else nibbles
    else:
        kind = "i" if tensor.signed or tensor.stored_bits > 8 else "u"  # Scores and logits are signed.
        values = stored.view(f"<{kind}{tensor.stored_bits // 8}").astype(np.int64)
    places = (
        np.argsort(tensor.channel_order[: tensor.row_channels]) if tensor.channel_order else slice(tensor.row_channels)
    )
    return np.asarray(values[:, places])
