# SPDX-License-Identifier: Apache-2.0
"""Builds blocks of instructions: fields that are constant or affine in the loop index, ring slots, semaphores.

Semaphores are placed by construction. Each buffer is a ring of slots with two semaphores: its writer waits for a free
slot and signals a full one, its reader the other way round. All iterations are alike; bind leaves out the waits for
slots that nobody has used (docs/decisions/0003-semaphores-by-rings.md).
"""

import functools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from hetfab.overlay.compiler.rings import RING_MEMORIES, SLOTS, slot_words
from hetfab.overlay.compiler.semaphores import RING_FREE
from hetfab.overlay.design import Geometry
from hetfab.overlay.errors import FieldRangeError
from hetfab.overlay.isa.codec import Engine
from hetfab.overlay.isa.spec import isa
from hetfab.overlay.isa.words import field_slot, pack
from hetfab.overlay.program import PATCH_DTYPE, Block, Part, Ring, Symbol, SymbolKind

_WAITS, _SIGNALS = ("wait0", "wait1"), ("signal0", "signal1")


@dataclass(frozen=True)
class Affine:
    """``constant + per_iteration * i + symbol + slot of a ring``.

    Attributes:
        constant: Constant part.
        per_iteration: Factor of the loop index.
        symbol: What only the graph gives.
        ring: Memory of the ring, empty for none; its slot is the one that was taken last.
    """

    constant: int = 0
    per_iteration: int = 0
    symbol: Symbol | None = None
    ring: str = ""


@dataclass
class _OpenBlock:
    layer: int
    part: Part
    node_type: str
    tile_rows: int
    words: list[int] = field(default_factory=list)
    patches: list[tuple[int, ...]] = field(default_factory=list)
    uses: dict[str, int] = field(default_factory=dict)


class Emitter:
    """Collects the blocks of a program.

    Args:
        geometry: The design's geometry; it sets the rings' slots.
        rings: Memories that are rings.
    """

    def __init__(self, geometry: Geometry, rings: Sequence[str] = RING_MEMORIES) -> None:
        self.rings = tuple(Ring(name, SLOTS, slot_words(geometry, name), int(RING_FREE.get(name, 0))) for name in rings)
        self.symbols: dict[Symbol, int] = {}
        self.blocks: list[Block] = []
        self._open: _OpenBlock | None = None

    def begin(self, layer: int, part: Part, node_type: str = "", tile_rows: int = 0) -> None:
        """Starts a block; the one before it is closed."""
        self.end()
        self._open = _OpenBlock(layer, part, node_type, tile_rows)

    def end(self) -> None:
        """Closes the open block, if there is one and it is not empty."""
        block, self._open = self._open, None
        if block is None or not block.words:
            return
        words = pack(block.words)
        uses = tuple(block.uses.get(ring.memory, 0) for ring in self.rings)
        patches = np.array(block.patches, dtype=PATCH_DTYPE)
        self.blocks.append(Block(block.layer, block.part, block.node_type, block.tile_rows, words, patches, uses))

    def take(self, ring: str) -> None:
        """Moves to the next slot of a ring: what is emitted from here on means that slot."""
        self._current.uses[ring] = self._current.uses.get(ring, 0) + 1

    def sync(self, engine: Engine, *, waits: Iterable[int] = (), signals: Iterable[int] = ()) -> None:
        """Emits instructions that only wait and signal, at most two of each per instruction."""
        waiting, signalling = list(waits), list(signals)
        while waiting or signalling:
            self._append("sync", engine, waiting[:2], signalling[:2], {})
            waiting, signalling = waiting[2:], signalling[2:]

    def emit(
        self,
        operation: str,
        fields: Mapping[str, int | Affine],
        *,
        waits: Sequence[int] = (),
        signals: Sequence[int] = (),
    ) -> None:
        """Emits an instruction; waits and signals beyond two go to a ``sync`` before and after it."""
        engine = _engine(operation)
        if len(waits) > 2:
            self.sync(engine, waits=waits[2:])
        self._append(operation, engine, waits[:2], signals[:2], fields)
        if len(signals) > 2:
            self.sync(engine, signals=signals[2:])

    @property
    def _current(self) -> _OpenBlock:
        if self._open is None:
            raise RuntimeError("begin() comes before the first instruction")
        return self._open

    def _append(
        self,
        operation: str,
        engine: Engine,
        waits: Sequence[int],
        signals: Sequence[int],
        fields: Mapping[str, int | Affine],
    ) -> None:
        block, slots, word = self._current, _slots(operation), _head(operation, engine)
        header = (*zip(_WAITS, waits, strict=False), *zip(_SIGNALS, signals, strict=False))
        for name, value in (*header, *fields.items()):
            half, shift, bits = slots[name]
            if isinstance(value, int):
                if not 0 <= value < 1 << bits:
                    raise FieldRangeError(
                        f"a layer of the model needs {name} = {value} in the instruction '{operation}'",
                        f"at most {(1 << bits) - 1}, what {bits} bits hold",
                        "use a model with fewer channels",
                    )
                word |= value << (64 * half + shift)
            else:
                block.patches.append(self._patch(block, (half, shift, bits), value))
        block.words.append(word)

    def _patch(self, block: _OpenBlock, slot: tuple[int, int, int], value: Affine) -> tuple[int, ...]:
        symbol = -1 if value.symbol is None else self.symbols.setdefault(value.symbol, len(self.symbols))
        ring = RING_MEMORIES.index(value.ring) if value.ring else -1
        position = block.uses.get(value.ring, 0) - 1
        return (len(block.words), *slot, ring, position, symbol, value.constant, value.per_iteration)


@functools.cache
def _engine(operation: str) -> Engine:
    return Engine(isa().engine(isa().operation(operation).engine).id)


@functools.cache
def _slots(operation: str) -> Mapping[str, tuple[int, int, int]]:
    """``field_slot`` of all fields."""
    fields = (*isa().header, *isa().operation(operation).fields)
    return {field.name: field_slot(operation, field.name) for field in fields}


@functools.cache
def _head(operation: str, engine: Engine) -> int:
    """The word of an instruction without waits, signals and fields."""
    values = {"engine": int(engine), "opcode": isa().operation(operation).opcode}
    return sum(values[field.name] << field.lsb for field in isa().header if field.name in values)


def tensor_address(name: str, offset: int = 0, per_iteration: int = 0) -> Affine:
    """Address of a tensor, from its first byte."""
    return Affine(offset, per_iteration, Symbol(SymbolKind.TENSOR, name))


def slot_of(ring: str, offset: int = 0) -> Affine:
    """A word of the slot of a ring that was taken last."""
    return Affine(offset, ring=ring)
