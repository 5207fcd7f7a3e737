# SPDX-License-Identifier: Apache-2.0
"""Expands a program's blocks to a stream: repeats them, fills patched fields, leaves out the first waits of rings."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from hetfab.overlay.errors import LimitExceededError
from hetfab.overlay.isa.spec import isa
from hetfab.overlay.program import Block, Part, Program, Words

#: Gives the slots of a ring, by its number and the position of a use, in each iteration.
Slots: TypeAlias = Callable[[int, int], npt.NDArray[np.int64]]


def expand(
    program: Program, counts: Mapping[str, int], values: npt.NDArray[np.int64]
) -> tuple[Words, npt.NDArray[np.uint16]]:
    """Repeats each block as often as its part says and fills its patched fields.

    Args:
        program: Blocks and rings.
        counts: Vertices of each node type.
        values: int64, of each symbol.

    Returns:
        The stream, uint64 [n, 2], and the layer of each instruction, uint16 [n].

    Raises:
        LimitExceededError: A value does not fit its field.
    """
    taken = np.zeros(len(program.rings), np.int64)
    pieces: list[Words] = []
    layers: list[npt.NDArray[np.uint16]] = []
    for block in program.blocks:
        steps = iterations(block, counts)
        if not len(steps):
            continue
        uses = np.array(block.ring_uses, np.int64)
        slots = partial(_slots_in_turn, program, taken.copy(), uses, np.arange(len(steps)))
        taken += uses * len(steps)
        pieces.append(filled(program, block, steps, values, slots).reshape(-1, 2))
        layers.append(np.full(len(pieces[-1]), block.layer, np.uint16))
    if not pieces:
        return np.zeros((0, 2), np.uint64), np.zeros(0, np.uint16)
    return np.concatenate(pieces), np.concatenate(layers)


def _slots_in_turn(
    program: Program,
    taken: npt.NDArray[np.int64],
    uses: npt.NDArray[np.int64],
    steps: npt.NDArray[np.int64],
    ring: int,
    position: int,
) -> npt.NDArray[np.int64]:
    """Slots that are taken one after the other."""
    return np.asarray((taken[ring] + uses[ring] * steps + position) % program.rings[ring].slots)


def filled(
    program: Program,
    block: Block,
    steps: npt.NDArray[np.int64],
    values: npt.NDArray[np.int64],
    slots: Slots | None = None,
) -> Words:
    """The instructions of some iterations of a block, uint64 [iterations, n, 2].

    Args:
        program: Whose block it is.
        block: The block.
        steps: Loop indices.
        values: int64, of each symbol.
        slots: Those of rings; None for the first one of each.

    Raises:
        LimitExceededError: A value does not fit its field.
    """
    words = np.repeat(block.words[None], len(steps), axis=0)
    for patch in block.patches:
        value = patch["constant"] + patch["per_iteration"] * steps
        if patch["symbol"] >= 0:
            value = value + values[patch["symbol"]]
        if patch["ring"] >= 0 and slots is not None:
            value = value + slots(patch["ring"], patch["position"]) * program.rings[patch["ring"]].slot_words
        _check_range(program, block, patch, value)
        shifted = np.left_shift(value.astype(np.uint64), np.uint64(patch["shift"]))
        words[:, patch["instruction"], patch["word"]] |= shifted
    return words


def without_first_waits(
    program: Program, words: Words, layers: npt.NDArray[np.uint16]
) -> tuple[Words, npt.NDArray[np.uint16]]:
    """Leaves out the waits for slots that nobody has used yet, and instructions that then do nothing."""
    fields = [isa().header_field(name) for name in ("wait0", "wait1")]
    idle = np.zeros(len(words), np.bool_)
    for ring in program.rings:
        waits = [(words[:, 0] >> np.uint64(f.lsb)) & np.uint64(f.largest) == ring.free for f in fields]
        first = np.flatnonzero(waits[0] | waits[1])[: ring.slots if ring.free else 0]
        for field, waiting in zip(fields, waits, strict=True):
            words[first[waiting[first]], 0] &= ~np.uint64(field.largest << field.lsb)
        # A sync without waits and signals is its engine's id and zeros.
        idle[first] = words[first, 0] <= isa().header_field("engine").largest
    return words[~idle], layers[~idle]


def iterations(block: Block, counts: Mapping[str, int]) -> npt.NDArray[np.int64]:
    """Loop indices of a block: the tail's is the number of full tiles."""
    if block.part is Part.ONCE:
        return np.zeros(1, np.int64)
    full, tail = divmod(counts[block.node_type], block.tile_rows)
    if block.part is Part.FULL:
        return np.arange(full, dtype=np.int64)
    return np.full(1 if tail else 0, full, np.int64)


def _check_range(program: Program, block: Block, patch: Any, value: npt.NDArray[np.int64]) -> None:
    largest = (1 << int(patch["bits"])) - 1
    if value.size and (int(value.min()) < 0 or int(value.max()) > largest):
        layer = program.layers[block.layer].name
        raise LimitExceededError(
            f"layer '{layer}' needs the value {int(value.max())} in an instruction field of {patch['bits']} bits",
            f"at most {largest}",
            "use a smaller graph",
        )
