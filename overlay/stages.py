# SPDX-License-Identifier: Apache-2.0
"""Cuts a program into its layers: each a program of its own, whose inputs are rows that the host gives. Only numpy.

A layer that runs alone can run on some rows only: the rows that it computes are a type of their own, and so are the
vertices that each of its edge sets leads from. So a few vertices, or a graph in parts, take the same instructions as
the whole graph, and give the same integers.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from typing import NamedTuple

import numpy as np

from hetfab.overlay.host_nodes import HostNode
from hetfab.overlay.isa.spec import Operation, isa
from hetfab.overlay.isa.words import decode
from hetfab.overlay.program import (
    Block,
    EdgePattern,
    Edges,
    Limits,
    Output,
    Part,
    Program,
    Symbol,
    SymbolKind,
    Tensor,
    Words,
)

#: The type of the rows that a stage computes.
ROWS = "rows"
_WAITS, _SIGNALS = ("wait0", "wait1"), ("signal0", "signal1")


class Role(Enum):
    """How a layer reads a tensor: row by row beside what it writes, the rows at the edges' other ends, or all of it."""

    ROWS = "rows of"
    SOURCES = "sources of"
    ALL = "all of"

    def name_of(self, tensor: str) -> str:
        """What a tensor that is read so is called in a stage."""
        return f"{self.value} {tensor}"


_FEATURES = "configure_features"
#: The roles of the tensors and counts that instructions name; in all others they are rows that the layer computes.
_ROLES = {
    _FEATURES: Role.SOURCES,
    "configure_sources": Role.SOURCES,
    "configure_types": Role.ALL,
}


@dataclass(frozen=True)
class Read:
    """A tensor that a layer reads.

    Attributes:
        tensor: Its name in the whole program.
        role: How it is read.
        node_type: Of ``Role.SOURCES``, the type that edges lead from; else the tensor's own.
        edges: Of ``Role.SOURCES``, the edge sets whose sources it has rows of.
    """

    tensor: str
    role: Role
    node_type: str
    edges: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Its name in the stage."""
        return self.role.name_of(self.tensor)


@dataclass(frozen=True, eq=False)
class Stage:
    """A layer as a program of its own.

    Attributes:
        layer: Its number in the whole program.
        program: The program. ``ROWS`` are the rows that it computes; ``sources_of`` names those of each type that
            edges lead from. Its output is a tensor as it lies in DRAM, in the segment ``output``.
        output: The tensor of the whole program that it computes.
        reads: What it reads.
        edges: Its edge sets, as the whole program has them.
        host: What the host runs in the place of a program, None for a layer of the overlay.
    """

    layer: int
    program: Program
    output: Tensor
    reads: tuple[Read, ...]
    edges: tuple[Edges, ...]
    host: HostNode | None = None

    def read_as(self, role: Role) -> list[Read]:
        """What it reads in one role."""
        return [read for read in self.reads if read.role is role]


def sources_of(node_type: str) -> str:
    """What a stage calls the vertices of a type that edges lead from."""
    return f"{Role.SOURCES.value} {node_type}"


def stages(program: Program) -> list[Stage]:
    """All layers of a program on a graph, in order."""
    blocks = _without_waits_between_layers(program)
    return [_stage(program, number, [b for b in blocks if b.layer == number]) for number in range(len(program.layers))]


def _stage(program: Program, number: int, blocks: list[Block]) -> Stage:
    info = program.layers[number]
    edges = tuple(each for each in program.edges if each.name in info.aggregations)
    rewriter = _Rewriter(program, program.tensor(info.name))
    written = tuple(rewriter.block(block) for block in blocks)
    by_features = [Read(each.features, Role.ROWS, each.destination_type) for each in edges if each.features]
    host = next((node for node in program.host_nodes if node.output == info.name), None)
    by_host = [Read(name, Role.ROWS, program.tensor(name).node_type) for name in (host.inputs if host else ())]
    reads = tuple(dict.fromkeys([*rewriter.found(), *by_features, *by_host]))
    output = rewriter.output
    named = {read.node_type for read in reads if read.role is Role.ALL}
    part = Program(
        design=program.design,
        model_name=program.model_name,
        model_hash=program.model_hash,
        bindings=program.bindings,
        layers=tuple(replace(info, node_type=ROWS) for info in program.layers),
        blocks=written,
        symbols=tuple(rewriter.symbols),
        rings=program.rings,
        tensors=(_given(output, Role.ROWS, ROWS, "output"), *(_input(program, read) for read in reads)),
        edges=tuple(_local(each) for each in edges),
        output=Output(Role.ROWS.name_of(output.name), program.output.scale, program.output.lsb),
        limits=Limits(program.limits.largest_degree, {}),
        constants=program.constants,
        stacks=tuple(stack for stack in program.stacks if stack.name in named),
    )
    return Stage(number, part, output, reads, edges, host)


def _input(program: Program, read: Read) -> Tensor:
    """A tensor of a stage: features that are to be rounded, or rows as they lie in DRAM."""
    tensor = program.tensor(read.tensor)
    node_type = {Role.ROWS: ROWS, Role.SOURCES: sources_of(read.node_type), Role.ALL: read.node_type}[read.role]
    if is_features(tensor):
        return replace(tensor, name=read.name, node_type=node_type)
    return _given(tensor, read.role, node_type, "features")


def is_features(tensor: Tensor) -> bool:
    """Whether a tensor is rounded from features of the graph."""
    return tensor.segment in ("features", "graph")


def _given(tensor: Tensor, role: Role, node_type: str, segment: str) -> Tensor:
    """Rows as they lie in DRAM, whatever the order of their channels."""
    return replace(
        tensor,
        name=role.name_of(tensor.name),
        segment=segment,
        node_type=node_type,
        constant_offset=-1,
        channel_order=(),
        whole="",
        part=0,
    )


def _local(edges: Edges) -> Edges:
    """An edge set between the rows of a stage; those of a stack or a pattern are given as any other."""
    if edges.features:
        return replace(edges, destination_type=ROWS, features=Role.ROWS.name_of(edges.features))
    return replace(
        edges,
        source_type=sources_of(edges.source_type),
        destination_type=ROWS,
        stacked=False,
        joined=False,
        pattern=EdgePattern.NONE,
    )


class _Rewriter:
    """Gives the patches of a layer's blocks their symbols in the stage, and collects what the layer reads.

    What instructions say of an edge set begins with its features, goes on with its edges, and ends with its scores.
    """

    def __init__(self, program: Program, output: Tensor) -> None:
        self._program = program
        self.output = output
        self.symbols: dict[Symbol, int] = {}
        self._reads: dict[tuple[str, Role, str], dict[str, None]] = {}
        self._source_type = ""
        self._edges = ""
        self._features = ""

    def found(self) -> list[Read]:
        """What the layer reads."""
        return [Read(*read, tuple(edges)) for read, edges in self._reads.items()]

    def block(self, block: Block) -> Block:
        """A block of the stage."""
        patches = block.patches.copy()
        operations = [decode(int(high) << 64 | int(low)).operation for low, high in block.words.tolist()]
        for index in np.argsort(patches["instruction"], kind="stable").tolist():
            if patches["symbol"][index] >= 0:
                symbol = self._program.symbols[patches["symbol"][index]]
                renamed = self._renamed(symbol, operations[patches["instruction"][index]])
                patches["symbol"][index] = self.symbols.setdefault(renamed, len(self.symbols))
        return replace(block, node_type=block.node_type and ROWS, patches=patches)

    def _renamed(self, symbol: Symbol, operation: Operation) -> Symbol:
        role = _ROLES.get(operation.name, Role.ROWS)
        match symbol.kind:
            case SymbolKind.TENSOR:
                return replace(symbol, name=self._read(symbol.name, role, operation.name == _FEATURES))
            case SymbolKind.COUNT:
                self._source_type = symbol.name if operation.name == _FEATURES else self._source_type
                names = {Role.ROWS: ROWS, Role.SOURCES: sources_of(symbol.name), Role.ALL: symbol.name}
                return replace(symbol, name=names[role])
            case SymbolKind.TAIL_ROWS:
                return replace(symbol, name=ROWS)
            case SymbolKind.DESTINATIONS | SymbolKind.RUNS:
                self._begin_edges(symbol.name)
        return symbol

    def _read(self, name: str, role: Role, of_features: bool) -> str:
        if of_features:
            self._features = name
        elif role is Role.SOURCES:
            self._reads.setdefault((name, role, self._source_type), {})[self._edges] = None
        elif name != self.output.name:
            self._reads.setdefault((name, role, self._program.tensor(name).node_type), {})
        return role.name_of(name)

    def _begin_edges(self, name: str) -> None:
        """The edge set that the features said before belong to; of weights' rows there are none."""
        self._edges = name
        if self._features:
            self._reads.setdefault((self._features, Role.SOURCES, self._source_type), {})[name] = None
        self._features = ""


class Use(NamedTuple):
    """Where an instruction waits or signals: its block, its place there, and the field that names the semaphore."""

    block: int
    instruction: int
    field: str


def waits_between_layers(program: Program) -> list[tuple[Use, Use]]:
    """Each wait and its signal of the semaphores that order whole layers.

    Such semaphores are used in blocks that run once, so their n-th wait is known to pair with their n-th signal. All
    others are of slots that are filled and emptied in one tile.
    """
    waits: dict[int, list[Use]] = defaultdict(list)
    signals: dict[int, list[Use]] = defaultdict(list)
    repeated = {0, *(ring.free for ring in program.rings)}
    for number, block in enumerate(program.blocks):
        for index, field, semaphore in uses_of(block.words):
            if block.part is not Part.ONCE:
                repeated.add(semaphore)
            (waits if field in _WAITS else signals)[semaphore].append(Use(number, index, field))
    once = sorted({*waits, *signals} - repeated)
    return [pair for semaphore in once for pair in zip(waits[semaphore], signals[semaphore], strict=True)]


def _without_waits_between_layers(program: Program) -> list[Block]:
    """The blocks without waits for other layers, and without signals that only they wait for."""
    dropped: dict[int, list[Use]] = defaultdict(list)
    for pair in waits_between_layers(program):
        if len({program.blocks[use.block].layer for use in pair}) > 1:
            for use in pair:
                dropped[use.block].append(use)
    return [
        without_uses(block, [(use.instruction, use.field) for use in dropped[number]])
        for number, block in enumerate(program.blocks)
    ]


def uses_of(words: Words) -> Iterator[tuple[int, str, int]]:
    """Instruction, field and semaphore of each wait and signal."""
    for index, low in enumerate(words[:, 0].tolist()):
        for name in (*_WAITS, *_SIGNALS):
            semaphore = isa().header_field(name).get(low)
            if semaphore:
                yield index, name, semaphore


def without_uses(block: Block, uses: Sequence[tuple[int, str]]) -> Block:
    """The block without some waits and signals, and without instructions that then do nothing.

    Args:
        block: The block.
        uses: Instruction and field of each.
    """
    if not uses:
        return block
    words, patches = block.words.copy(), block.patches.copy()
    for instruction, name in uses:
        field = isa().header_field(name)
        words[instruction, 0] &= ~np.uint64(field.largest << field.lsb)
    # A sync without waits and signals is its engine's id and zeros.
    idle = np.zeros(len(words), np.bool_)
    idle[[instruction for instruction, _ in uses]] = True
    idle &= (words[:, 0] <= isa().header_field("engine").largest) & (words[:, 1] == 0)
    patches["instruction"] -= np.cumsum(idle)[patches["instruction"]].astype(np.uint16)
    return replace(block, words=words[~idle], patches=patches)
