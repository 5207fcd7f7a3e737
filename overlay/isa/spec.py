# SPDX-License-Identifier: Apache-2.0
"""The instruction set as tables, read from ``isa.json``, the one source of fields, memories and registers.

Everything that must know an encoding reads it from here or from a file generated from here.
"""

import ast
import dataclasses
import functools
import json
import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from hetfab.overlay.isa.counter_table import counter_table


@dataclass(frozen=True)
class Field:
    """A bit range of an instruction; it never straddles bit 64. ``values`` are the names of 0, 1, ... if it has any."""

    name: str
    lsb: int
    bits: int
    meaning: str
    address: bool = False
    values: tuple[str, ...] = ()

    @property
    def largest(self) -> int:
        """Largest value that fits."""
        return (1 << self.bits) - 1

    def get(self, word: int) -> int:
        """Reads the field from a 128-bit instruction."""
        return (word >> self.lsb) & self.largest


@dataclass(frozen=True)
class Box:
    """A strided box of a memory: ``rows`` runs of ``row_length`` units, ``row_stride`` apart.

    All members but ``memory`` are sums and products of fields, context fields and design constants. The unit
    is the memory's: bytes in DRAM, words on chip.
    """

    memory: str
    base: str
    rows: str
    row_stride: str
    row_length: str


@dataclass(frozen=True)
class Operation:
    """One operation of one engine. ``sync`` exists on every engine and has the engine name ``*``."""

    engine: str
    name: str
    opcode: int
    meaning: str
    fields: tuple[Field, ...]
    reads: tuple[Box, ...]
    writes: tuple[Box, ...]

    def field(self, name: str) -> Field:
        """One of its own fields."""
        return next(field for field in self.fields if field.name == name)

    @property
    def address_field(self) -> Field | None:
        """The field that DISPATCH turns from (segment, offset) into a physical address."""
        return next((field for field in self.fields if field.address), None)


@dataclass(frozen=True)
class Engine:
    """An engine and its id in the header."""

    name: str
    id: int
    meaning: str


@dataclass(frozen=True)
class Memory:
    """A memory; ``word_bits``, ``banks`` and ``depth`` are expressions over the design's constants, empty for DRAM.

    A word is spread over equal banks, each a RAM of its own; without ``banks`` the memory is one RAM.
    """

    name: str
    unit: str
    meaning: str
    word_bits: str = ""
    banks: str = ""
    depth: str = ""
    writer: str = ""
    reader: str = ""


@dataclass(frozen=True)
class Stream:
    """A FIFO of rows from one engine to another; ``depth`` is an expression over the design's constants.

    ``sent`` and ``taken`` are the rows that an operation sends and takes, expressions over its fields.
    """

    name: str
    bits: int
    depth: str
    writer: str
    reader: str
    sent: Mapping[str, str]
    taken: Mapping[str, str]
    meaning: str


@dataclass(frozen=True)
class Register:
    """A 32-bit word of DISPATCH's registers. A 64-bit number is two of them, ``_low`` and ``_high``."""

    name: str
    offset: int
    writable: bool
    meaning: str


@dataclass(frozen=True)
class RegisterGroup:
    """The registers of one name: ``count`` numbers of ``bits`` bits from word ``word`` of a register memory on."""

    name: str
    word: int
    count: int
    bits: int


@dataclass(frozen=True)
class RegisterMemory:
    """A memory of 32-bit words behind DISPATCH's registers: what the driver writes, or what it reads.

    Attributes:
        name: Name of the top function's argument.
        offset: Byte offset of its first word, a multiple of ``bytes``.
        words: Words that are used.
        groups: What they are.
    """

    name: str
    offset: int
    words: int
    groups: tuple[RegisterGroup, ...]

    @property
    def bytes(self) -> int:
        """Bytes that it takes in the address map: the power of two that holds its words."""
        return 1 << (4 * self.words - 1).bit_length()


@dataclass(frozen=True)
class NamedText:
    """A tensor layout, or a fault code."""

    name: str
    meaning: str
    code: int = 0


@dataclass(frozen=True)
class Size:
    """A size that instruction set, kernels and cost functions share."""

    name: str
    value: int
    meaning: str


@dataclass(frozen=True)
class RecordField:
    """A number of a record: ``bits`` of the numpy type ``type``, from bit ``lsb`` of the record on."""

    name: str
    type: str
    bits: int
    lsb: int
    meaning: str


@dataclass(frozen=True)
class Record:
    """What one entry of an array in DRAM holds; bytes behind the last field are zero."""

    name: str
    bytes: int
    fields: tuple[RecordField, ...]

    @property
    def dtype(self) -> np.dtype[np.void]:
        """The record as numpy reads and writes it."""
        return np.dtype(
            {
                "names": [field.name for field in self.fields],
                "formats": [field.type for field in self.fields],
                "offsets": [field.lsb // 8 for field in self.fields],
                "itemsize": self.bytes,
            }
        )

    def bits(self, name: str) -> int:
        """Bits of a field."""
        return next(field.bits for field in self.fields if field.name == name)


@dataclass(frozen=True)
class Isa:
    """The whole instruction set."""

    version: tuple[int, int]
    instruction_bits: int
    sizes: tuple[Size, ...]
    semaphores: int
    semaphore_bits: int
    offset_bits: int
    segment_bits: int
    segments: tuple[str, ...]
    header: tuple[Field, ...]
    token_bits: int
    token: tuple[Field, ...]
    engines: tuple[Engine, ...]
    memories: tuple[Memory, ...]
    streams: tuple[Stream, ...]
    layouts: tuple[NamedText, ...]
    records: tuple[Record, ...]
    operations: tuple[Operation, ...]
    faults: tuple[NamedText, ...]
    registers: tuple[Register, ...]
    register_memories: tuple[RegisterMemory, ...]

    def size(self, name: str) -> int:
        """The value of a size."""
        return self._sizes[name]

    @functools.cached_property
    def _sizes(self) -> Mapping[str, int]:
        return {size.name: size.value for size in self.sizes}

    @property
    def block_bytes(self) -> int:
        """Bytes of a block, the unit of rows in DRAM."""
        return self.size("block_bytes")

    def record(self, name: str) -> Record:
        """The record of a name."""
        return next(record for record in self.records if record.name == name)

    def engine(self, name: str) -> Engine:
        """The engine of a name."""
        return next(engine for engine in self.engines if engine.name == name)

    def operation(self, name: str) -> Operation:
        """The operation of a name; names are unique over all engines."""
        return self._operations[name]

    @functools.cached_property
    def _operations(self) -> Mapping[str, Operation]:
        return {operation.name: operation for operation in self.operations}

    def memory(self, name: str) -> Memory:
        """The memory of a name."""
        return self._memories[name]

    @functools.cached_property
    def _memories(self) -> Mapping[str, Memory]:
        return {memory.name: memory for memory in self.memories}

    def stream(self, name: str) -> Stream:
        """The data stream of a name."""
        return next(stream for stream in self.streams if stream.name == name)

    def header_field(self, name: str) -> Field:
        """A field that all instructions have."""
        return self._header_fields[name]

    @functools.cached_property
    def _header_fields(self) -> Mapping[str, Field]:
        return {field.name: field for field in self.header}

    def register(self, name: str) -> Register:
        """The register of a name."""
        return next(register for register in self.registers if register.name == name)

    def find(self, engine_id: int, opcode: int) -> Operation | None:
        """The operation of a header, None when there is none."""
        names = {engine.id: engine.name for engine in self.engines}
        for operation in self.operations:
            if operation.opcode == opcode and operation.engine in ("*", names.get(engine_id, "")):
                return operation if engine_id in names else None
        return None


_Evaluated: TypeAlias = Callable[[Mapping[str, int]], int]
_OPERATIONS: Mapping[type[ast.operator], Callable[[int, int], int]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.FloorDiv: operator.floordiv,
}


def evaluate(expression: str, names: Mapping[str, int]) -> int:
    """Value of an expression of ``+``, ``-``, ``*`` and ``//`` over ``names``; ``ids.edges`` is one name.

    Raises:
        KeyError: A name is missing.
    """
    return _compiled(expression)(names)


@functools.cache
def _compiled(expression: str) -> _Evaluated:
    return _evaluated(ast.parse(expression, mode="eval").body)


def _evaluated(node: ast.expr) -> _Evaluated:
    """A node as nested functions: instructions are many, and their expressions few."""
    match node:
        case ast.Constant(value=int(value)):
            return lambda names: value
        case ast.Name(id=name):
            return operator.itemgetter(name)
        case ast.Attribute(value=ast.Name(id=owner), attr=name):
            return operator.itemgetter(f"{owner}.{name}")
        case ast.BinOp(left=left, op=operation, right=right) if type(operation) in _OPERATIONS:
            taken, one, other = _OPERATIONS[type(operation)], _evaluated(left), _evaluated(right)
            return lambda names: taken(one(names), other(names))
    raise ValueError(f"only sums, differences, products and quotients are allowed, not '{ast.unparse(node)}'")


@functools.cache
def isa() -> Isa:
    """The instruction set of this version of hetfab."""
    return parse(json.loads((Path(__file__).parent / "isa.json").read_text(encoding="utf-8")))


def parse(table: dict[str, Any]) -> Isa:
    """Turns the JSON table into an ``Isa``."""
    sizes = tuple(Size(**entry) for entry in table["sizes"])
    records = tuple(_record(entry) for entry in table["records"])
    known = {size.name: size.value for size in sizes}
    known |= {f"{record.name}_bytes": record.bytes for record in records}
    known |= {f"{record.name}_bits": 8 * record.bytes for record in records}
    return Isa(
        version=(table["version"][0], table["version"][1]),
        instruction_bits=table["instruction_bits"],
        sizes=sizes,
        semaphores=table["semaphores"],
        semaphore_bits=table["semaphore_bits"],
        offset_bits=table["address"]["offset_bits"],
        segment_bits=table["address"]["segment_bits"],
        segments=tuple(table["segments"]),
        header=_fields(table["header"]),
        token_bits=table["token_bits"],
        token=_fields(table["token"]),
        engines=tuple(Engine(**entry) for entry in table["engines"]),
        memories=tuple(Memory(**_with_numbers(entry, known)) for entry in table["memories"]),
        streams=tuple(Stream(**entry) for entry in table["streams"]),
        layouts=tuple(NamedText(**entry) for entry in table["layouts"]),
        records=records,
        operations=tuple(_operation(entry, known) for entry in table["operations"]),
        faults=tuple(NamedText(**entry) for entry in table["faults"]),
        registers=_registers(table),
        register_memories=_register_memories(table),
    )


def _fields(entries: list[dict[str, Any]]) -> tuple[Field, ...]:
    return tuple(Field(**{**entry, "values": tuple(entry.get("values", ()))}) for entry in entries)


def _record(entry: dict[str, Any]) -> Record:
    fields: list[RecordField] = []
    lsb = 0
    for field in entry["fields"]:
        fields.append(RecordField(lsb=lsb, **field))
        lsb += 8 * np.dtype(field["type"]).itemsize
    return Record(entry["name"], entry["bytes"], tuple(fields))


def _with_numbers(entry: dict[str, str], known: Mapping[str, int]) -> dict[str, str]:
    """Puts numbers for sizes into the expressions of a memory or a box."""
    texts = dict(entry)
    for key in texts.keys() - {"name", "meaning", "memory"}:
        texts[key] = re.sub(r"\w+", lambda match: str(known.get(match[0], match[0])), texts[key])
    return texts


def _operation(entry: dict[str, Any], known: Mapping[str, int]) -> Operation:
    return Operation(
        engine=entry["engine"],
        name=entry["name"],
        opcode=entry["opcode"],
        meaning=entry["meaning"],
        fields=_fields(entry["fields"]),
        reads=tuple(Box(**_with_numbers(box, known)) for box in entry["reads"]),
        writes=tuple(Box(**_with_numbers(box, known)) for box in entry["writes"]),
    )


def _suffixes(table: dict[str, Any], argument: dict[str, Any]) -> list[str]:
    """What the names of an argument's registers end with: one for each of what it is there for, or nothing."""
    each = {
        "": [""],
        "segments": [f"_{name}" for name in table["segments"]],
        "engines": [f"_{engine['name']}" for engine in table["engines"]],
        "counters": [f"_{counter.name}" for counter in counter_table().counters],
        "semaphores": [f"_{semaphore}" for semaphore in range(table["semaphores"] + 1)],
    }
    return each[argument.get("each", "")]


def _register_memories(table: dict[str, Any]) -> tuple[RegisterMemory, ...]:
    """Lays the memories out as Vitis HLS does: each takes a power of two of bytes, at a multiple of it."""
    entry = table["registers"]
    memories: list[RegisterMemory] = []
    offset = entry["first_memory_offset"]
    for name in ("arguments", "status"):
        groups, word = [], 0
        for argument in entry[name]:
            count = len(_suffixes(table, argument))
            groups.append(RegisterGroup(argument["name"], word, count, argument["bits"]))
            word += count * argument["bits"] // 32
        unplaced = RegisterMemory(name, 0, word, tuple(groups))
        offset = -(-offset // unplaced.bytes) * unplaced.bytes
        memories.append(dataclasses.replace(unplaced, offset=offset))
        offset += unplaced.bytes
    return tuple(memories)


def _registers(table: dict[str, Any]) -> tuple[Register, ...]:
    """Names the words of the register file."""
    entry = table["registers"]
    registers = [Register(r["name"], r["offset"], True, r["meaning"]) for r in entry["control"]]
    definitions = {f"counter_{counter.name}": counter.definition for counter in counter_table().counters}
    for memory in _register_memories(table):
        offset = memory.offset
        for argument in entry[memory.name]:
            for suffix in _suffixes(table, argument):
                name = argument["name"] + suffix
                meaning = f"{definitions[name]} {argument['meaning']}" if name in definitions else argument["meaning"]
                for half in [""] if argument["bits"] == 32 else ["_low", "_high"]:
                    registers.append(Register(name + half, offset, memory.name == "arguments", meaning))
                    offset += 4
    return tuple(registers)
