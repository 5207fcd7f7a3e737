# SPDX-License-Identifier: Apache-2.0
"""A vector of the self-test while it is written: instructions, arrays in DRAM, and the names of what they leave there.

Everything goes from DRAM to DRAM, since that is all that a board shows.
"""

import enum
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hetfab.overlay.design import Geometry
from hetfab.overlay.isa import codec
from hetfab.overlay.isa.codec import Segment
from hetfab.overlay.isa.golden import GoldenMachine
from hetfab.overlay.isa.spec import isa
from hetfab.overlay.isa.words import decode, program_address

Bytes = npt.NDArray[np.uint8]

#: What keeps order and resolves addresses: no engine of the instruction set, and tested like one.
DISPATCH = "dispatch"
#: Random bytes behind every array: what is written beyond its end is found.
_GUARD = isa().block_bytes
_BLOCK = isa().block_bytes
#: Where the golden model sees the segments; any places will do.
_BASE, _DISTANCE = 1 << 32, 1 << 30


class Data(enum.Enum):
    """What a vector computes on."""

    #: Values of all sizes.
    ANY = "any"
    #: Equal values everywhere, so that it does not matter where a load puts them.
    FLAT = "flat"
    #: Small values and divisors, so that many results lie between two integers.
    TIES = "ties"


@dataclass(frozen=True)
class Tensor:
    """Rows of numbers that a vector leaves in DRAM.

    Attributes:
        name: What it is called in reports.
        segment: Where it is.
        offset: First byte.
        rows: Number of rows.
        columns: Numbers in a row.
        stride: Bytes from a row to the next.
        dtype: Of a number.
    """

    name: str
    segment: Segment
    offset: int
    rows: int
    columns: int
    stride: int
    dtype: str


@dataclass(frozen=True, eq=False)
class Vector:
    """A program for one instruction in one mode, and what DRAM holds before and after it.

    Attributes:
        operation: The instruction that it is for.
        engine: That instruction's engine.
        mode: Fields of it that the vector is for, and on which data.
        data: What it computes on.
        words: Its instructions, each waiting for the one before it.
        contents: Bytes of each segment before the run, but for the program.
        expected: Bytes of each segment after it.
        tensors: Names of places in the segments.
    """

    operation: str
    engine: str
    mode: Mapping[str, int]
    data: Data
    words: tuple[int, ...]
    contents: Mapping[Segment, Bytes]
    expected: Mapping[Segment, Bytes]
    tensors: tuple[Tensor, ...]

    @property
    def name(self) -> str:
        """The instruction with its mode, as reports print it."""
        fields = [f"{name}={value}" for name, value in self.mode.items()]
        fields += [] if self.data is Data.ANY else [f"on {self.data.value} data"]
        return " ".join([self.operation, *fields])


class Draft:
    """Collects the instructions and arrays of a vector.

    Args:
        geometry: The overlay's.
        operation: The instruction that it is for.
        mode: Fields of that instruction; those left out have their plainest value.
        data: What it computes on.
        seed: Of all random values.
    """

    def __init__(self, geometry: Geometry, operation: str, mode: Mapping[str, int], data: Data, seed: int) -> None:
        self.geometry = geometry
        self.operation = operation
        self.mode = mode
        self.data = data
        self.random = np.random.default_rng(seed)
        self.words: list[int] = []
        self._pieces: dict[Segment, list[Bytes]] = {segment: [] for segment in Segment}
        self._tensors: list[Tensor] = []

    def flag(self, name: str, default: int = 0) -> int:
        """A field of the mode."""
        return self.mode.get(name, default)

    def issue(self, operation: str, **fields: int) -> None:
        """Appends an instruction."""
        self.words.append(getattr(codec, operation)(**fields))

    def put(self, segment: Segment, content: npt.NDArray[np.generic]) -> int:
        """Lays an array into a segment, behind those before it.

        Returns:
            Its address in a program.
        """
        raw = np.frombuffer(np.ascontiguousarray(content).tobytes(), np.uint8)
        offset = sum(map(len, self._pieces[segment]))
        tail = self.noise(-len(raw) % _BLOCK + _GUARD)
        self._pieces[segment].append(np.concatenate([raw, tail]))
        return program_address(segment, offset)

    def room(
        self,
        name: str,
        segment: Segment,
        shape: tuple[int, int],
        dtype: str,
        stride: int = 0,
    ) -> int:
        """Lays out room for a tensor that the vector writes, filled with noise.

        Args:
            name: Of the tensor.
            segment: Where it is.
            shape: Rows, and numbers in a row.
            dtype: Of a number.
            stride: Bytes from a row to the next; without it the rows are padded to whole blocks.

        Returns:
            Its address in a program.
        """
        rows, columns = shape
        stride = stride or -(-columns * np.dtype(dtype).itemsize // _BLOCK) * _BLOCK
        address = self.put(segment, self.noise(rows * stride))
        offset = address - program_address(segment, 0)
        self._tensors.append(Tensor(name, segment, offset, rows, columns, stride, dtype))
        return address

    def noise(self, count: int) -> Bytes:
        """Random bytes."""
        return self.random.integers(0, 256, count, dtype=np.uint8)

    def finished(self) -> Vector:
        """The vector, with what the golden model makes of it."""
        engine = isa().operation(self.operation).engine.replace("*", DISPATCH)
        # Vectors of semaphores have an order of their own.
        words = tuple(self.words if self.operation == "sync" else chained(self.words))
        contents = {segment: np.concatenate([*pieces, self.noise(_GUARD)]) for segment, pieces in self._pieces.items()}
        del contents[Segment.PROGRAM]
        expected = after(self.geometry, words, contents)
        return Vector(
            operation=self.operation,
            engine=engine,
            mode=dict(self.mode),
            data=self.data,
            words=words,
            contents=contents,
            expected=expected,
            tensors=tuple(self._tensors),
        )


def chained(words: Sequence[int]) -> list[int]:
    """The instructions in a fixed order: whenever the engine changes, the next one waits for the one before.

    Each pair of engines has a semaphore of its own.
    """
    engine, signal, wait = (isa().header_field(name) for name in ("engine", "signal0", "wait0"))
    semaphores: dict[tuple[int, int], int] = {}
    found = list(words)
    for place, (one, other) in enumerate(itertools.pairwise(words)):
        pair = engine.get(one), engine.get(other)
        if pair[0] != pair[1]:
            number = semaphores.setdefault(pair, len(semaphores) + 1)
            found[place] |= number << signal.lsb
            found[place + 1] |= number << wait.lsb
    return found


def after(
    geometry: Geometry, words: Sequence[int], contents: Mapping[Segment, Bytes], before: int = 0xA5
) -> dict[Segment, Bytes]:
    """What the golden model leaves in the segments.

    Args:
        geometry: The overlay's.
        words: The program.
        contents: The segments before it.
        before: Every byte of the memories on chip before it, which must not matter.
    """
    machine = GoldenMachine(geometry)
    for memory in machine.memories.values():
        memory[...] = before
    found = {segment: content.copy() for segment, content in contents.items()}
    for segment, content in found.items():
        machine.segments[segment.name.lower()] = (_BASE + segment * _DISTANCE, len(content))
        machine.map_memory(_BASE + segment * _DISTANCE, content)
    machine.run(b"".join(word.to_bytes(isa().instruction_bits // 8, "little") for word in words))
    return found


def modes_of(words: Sequence[int]) -> set[tuple[str, str, int]]:
    """Operation, field and value of all fields of one bit or of named values in instructions."""
    found = set()
    for word in words:
        decoded = decode(word)
        for field in decoded.operation.fields:
            if field.bits == 1 or field.values:
                found.add((decoded.operation.name, field.name, decoded.fields[field.name]))
    return found
