# SPDX-License-Identifier: Apache-2.0
"""A program: blocks of instructions for a model and a geometry, and its file format ``.hfp``.

Only numpy is needed, so that a board can read one. ``bind`` turns a program and a graph into the bound stream.
The file is a zip archive of ``program.json`` and arrays; docs/program.md describes it.
"""

import dataclasses
import enum
import io
import itertools
import json
import shlex
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias

import numpy as np
import numpy.typing as npt

from hetfab.overlay.archives import DAMAGE, ArrayArchive
from hetfab.overlay.design import Design, design_from_dict
from hetfab.overlay.errors import IsaVersionError, ProgramUnreadableError, why_unreadable
from hetfab.overlay.field_types import check_fields
from hetfab.overlay.files import write_atomic
from hetfab.overlay.host_nodes import ON_HOST, HostNode
from hetfab.overlay.images import Image
from hetfab.overlay.isa.attention import LOGIT_BITS
from hetfab.overlay.isa.spec import isa
from hetfab.overlay.layouts import blocks_of, score_row_bytes, stored_bits
from hetfab.overlay.model.schema import Relation
from hetfab.overlay.versions import PROGRAM

#: Names, tables and constants of unary functions of the largest models take a few MB.
_LARGEST_HEADER_BYTES = 256 << 20
Words: TypeAlias = npt.NDArray[np.uint64]

#: A field of a block's instruction that is not constant: value = constant + per_iteration * i + symbol + slot of a
#: ring. ``symbol`` and ``ring`` index the program's tables, -1 for none; ``position`` counts the ring's uses within
#: the iteration, -1 for the slot that was taken last before the block.
PATCH_DTYPE = np.dtype(
    [
        ("instruction", np.uint16),
        ("word", np.uint8),
        ("shift", np.uint8),
        ("bits", np.uint8),
        ("ring", np.int8),
        ("position", np.int16),
        ("symbol", np.int16),
        ("constant", np.int64),
        ("per_iteration", np.int64),
    ]
)


class Part(enum.Enum):
    """How often a block runs: once, per full tile of rows, or for the rows that are left (at most once)."""

    ONCE = "once"
    FULL = "full"
    TAIL = "tail"


class SymbolKind(enum.Enum):
    """What a symbol stands for when a program is bound to a graph."""

    TENSOR = "tensor"
    COUNT = "count"
    TAIL_ROWS = "tail_rows"
    EDGES = "edges"
    ID_BYTES = "id_bytes"
    IDS = "ids"
    DESTINATIONS = "destinations"
    RUNS = "runs"
    UNITS = "units"
    UNIT_COUNT = "unit_count"
    PARTS = "parts"


@dataclass(frozen=True)
class Symbol:
    """A value that only the graph gives.

    Attributes:
        kind: What it is.
        name: A tensor, node type or edge set.
        tile_rows: Of TAIL_ROWS, and of edges in parts, rows of a full tile.
        slots: Of a schedule (RUNS, UNITS, UNIT_COUNT), rows that its part of the scratchpad holds; likewise of edges in
            parts (DESTINATIONS, IDS, PARTS), 0 of others.
    """

    kind: SymbolKind
    name: str
    tile_rows: int = 0
    slots: int = 0


@dataclass(frozen=True)
class Stack:
    """Rows of node types one behind the other, which count as the nodes of a type of their own.

    Attributes:
        name: Name of that type.
        types: Node types in order; one may occur several times.
        rows: Rows beside theirs, behind them: those of no node.
    """

    name: str
    types: tuple[str, ...]
    rows: int = 0

    def starts(self, counts: Mapping[str, int]) -> list[int]:
        """The first row of each type, and behind them the number of rows."""
        starts = list(itertools.accumulate((counts[name] for name in self.types), initial=0))
        return [*starts[:-1], starts[-1] + self.rows]


class EdgePattern(enum.Enum):
    """Edges that follow from counts: among the rows of a stack whose M parts have N rows each, or into M rows.

    Row ``m * N + n`` is row n of part m.
    """

    NONE = "none"
    #: Vertex n has an edge from row n of each part, of the part's number as its type.
    ACROSS = "across"
    #: Row n of each part has an edge from row n of each part.
    AMONG = "among"
    #: Vertex m has an edge from each row of part m; parts may differ in their rows.
    WITHIN = "within"


@dataclass(frozen=True)
class Ring:
    """Slots of an on-chip memory that are used in turn.

    Attributes:
        memory: Its name.
        slots: Number of slots.
        slot_words: Words of a slot.
        free: Semaphore that the writer waits for before it takes a slot, 0 for none. The first ``slots`` waits are
            left out when the program is bound.
    """

    memory: str
    slots: int
    slot_words: int
    free: int


@dataclass(frozen=True, eq=False)
class Block:
    """Instructions that run as often as ``part`` says.

    Attributes:
        layer: Index into the program's layers.
        part: When it runs.
        node_type: Whose rows are tiled; empty for ``Part.ONCE``.
        tile_rows: Rows of a full tile.
        words: uint64 [n, 2], low word first, patched fields zero.
        patches: Fields that are not constant, ``PATCH_DTYPE``.
        ring_uses: How often one iteration takes a slot of each ring.
    """

    layer: int
    part: Part
    node_type: str
    tile_rows: int
    words: Words
    patches: npt.NDArray[Any]
    ring_uses: tuple[int, ...]


@dataclass(frozen=True)
class Tensor:
    """A matrix in DRAM with one row per node of a type.

    Attributes:
        name: Name in the quantized model; of a feature tensor, the model input.
        segment: Segment that holds it; ``graph`` of features that are read as edges only.
        node_type: Whose nodes are its rows.
        channels: Columns.
        bits: Width of its integers, 2 to 8, 16 for scores, or 32 for logits.
        packed: Whether two channels share a byte.
        signed: Whether its integers are signed.
        scale: Value of one step.
        constant_offset: Of a constant tensor, its place in the constants; else -1.
        channel_order: Of the columns, the model's channels; empty where they are in the model's order.
        whole: The tensor of a stack that this one is a part of, empty for none.
        part: Which part.
        leading: Of features, the columns in their stored order that its rows hold, beside the non-zeros of the others
            as edges; 0 where they hold all.
    """

    name: str
    segment: str
    node_type: str
    channels: int
    bits: int
    packed: bool
    signed: bool
    scale: float
    constant_offset: int = -1
    channel_order: tuple[int, ...] = ()
    whole: str = ""
    part: int = 0
    leading: int = 0

    @property
    def row_channels(self) -> int:
        """Columns that a row holds."""
        return self.leading or self.channels

    @property
    def row_blocks(self) -> int:
        """Length of a row in blocks."""
        return blocks_of(-(-self.row_channels * self.stored_bits // 8))

    @property
    def stored_bits(self) -> int:
        """Bits that an integer takes in DRAM."""
        return stored_bits(self.bits, self.packed)

    @property
    def row_bytes(self) -> int:
        """Length of a row in bytes: whole blocks, of scores whole beats."""
        if self.bits == LOGIT_BITS:
            return score_row_bytes(self.channels)
        return self.row_blocks * isa().block_bytes


@dataclass(frozen=True)
class Edges:
    """An edge set that is aggregated over: a relation, the semantic graph of a metapath, or the non-zeros of features.

    Attributes:
        name: Its name.
        relations: The relation alone, the relations along the metapath, or those of a stack; of features none.
        metapath: Whether it is a semantic graph.
        source_type: Type of the vertices that are read; of features empty.
        destination_type: Type of the vertices that are written: of edges of a stack, the stack or one of its types.
        features: The feature tensor whose columns are the sources, empty for edges of the graph.
        table_rows: Of features: rows of the table that is read, one for each column that is not leading, or two where
            features are signed.
        part: Of features: which part of their non-zeros.
        parts: Of features: how many parts there are.
        weighted: Whether ids hold weights: of features their values, of a relation those that its ends' degrees give.
        stacked: Whether these are the edges of all ``relations`` among the rows of the stack ``source_type``.
        self_loops: Whether each row has one to itself: of stacked edges beside the relations', of a type of its own; of
            a relation in place of those that it has.
        typed: Whether ids hold types: the relation's number, or the part's.
        pattern: How edges follow from the parts of the stack ``source_type``.
        total: Whether rows are summed, where a mean is not taken.
        joined: Whether these are the edges of all ``relations`` into one type, each relation's from its own part of the
            stack ``source_type``.
        by_destination: Whether weights of a relation count the edges into both ends, not those out of the source.
    """

    name: str
    relations: tuple[Relation, ...]
    metapath: bool
    source_type: str
    destination_type: str
    features: str = ""
    table_rows: int = 0
    part: int = 0
    parts: int = 1
    weighted: bool = False
    stacked: bool = False
    self_loops: bool = False
    typed: bool = False
    pattern: EdgePattern = EdgePattern.NONE
    total: bool = False
    joined: bool = False
    by_destination: bool = False

    @property
    def of_graph(self) -> bool:
        """Whether a graph gives them."""
        return not self.features and self.pattern is EdgePattern.NONE


@dataclass(frozen=True)
class LayerInfo:
    """What a layer is and where it runs, for reports.

    Attributes:
        name: Name of its output tensor.
        kind: The vector operation that ends it.
        engines: Engines that work on it.
        node_type: Whose rows it computes.
        inputs: Channels of the dense term's input, 0 without one.
        channels: Channels of its output.
        aggregations: Names of the edge sets that are aggregated.
        tile_rows: Rows of a tile.
        channels_on_l: Of the output channels, those that GEMM-L computes.
        weight_bits_on_d: Widths of the weights on GEMM-D, ascending.
        weight_bits_on_l: Widths of those on GEMM-L.
        gathered: Whether AGG computes the dense term, from the non-zeros of features.
        leading: Columns of the features that the matrix engines multiply beside it, 0 for none.
    """

    name: str
    kind: str
    engines: tuple[str, ...]
    node_type: str
    inputs: int
    channels: int
    aggregations: tuple[str, ...]
    tile_rows: int
    channels_on_l: int
    weight_bits_on_d: tuple[int, ...]
    weight_bits_on_l: tuple[int, ...]
    gathered: bool = False
    leading: int = 0

    @property
    def channels_on_d(self) -> int:
        """Of the output channels, those that GEMM-D computes."""
        multiplied = self.inputs and (self.leading or not self.gathered) and self.kind != ON_HOST
        return self.channels - self.channels_on_l if multiplied else 0


@dataclass(frozen=True)
class Output:
    """The logits: int32 values times ``scale``; ``lsb`` is the scale of the last stored tensor before them."""

    tensor: str
    scale: float
    lsb: float


@dataclass(frozen=True)
class Limits:
    """What the program is proven for: the largest number of edges into one node, and fixed node counts."""

    largest_degree: int
    fixed_counts: dict[str, int]


@dataclass(frozen=True, eq=False)
class Program:
    """Everything that ``bind`` needs beside a graph.

    Attributes:
        design: The design that it was compiled for.
        model_name: Name of the model file.
        model_hash: SHA-256 of the quantized model.
        bindings: The model's input binding as JSON.
        layers: Layer table.
        blocks: Instructions in program order.
        symbols: Table that patches index.
        rings: Table that patches index.
        tensors: All tensors in DRAM.
        edges: All edge sets.
        output: The logits.
        limits: What it is proven for.
        constants: uint8, content of the constants segment.
        images: Of a network on samples, all stored tensors; empty for one on a graph.
        stacks: Types whose rows are those of others.
        host_nodes: What the host runs; each has a row in the layer table, named by its output.
    """

    design: Design
    model_name: str
    model_hash: str
    bindings: str
    layers: tuple[LayerInfo, ...]
    blocks: tuple[Block, ...]
    symbols: tuple[Symbol, ...]
    rings: tuple[Ring, ...]
    tensors: tuple[Tensor, ...]
    edges: tuple[Edges, ...]
    output: Output
    limits: Limits
    constants: npt.NDArray[np.uint8]
    images: tuple[Image, ...] = ()
    stacks: tuple[Stack, ...] = ()
    host_nodes: tuple[HostNode, ...] = ()

    def tensor(self, name: str) -> Tensor:
        """The tensor of a name."""
        return next(tensor for tensor in self.tensors if tensor.name == name)

    def image(self, name: str) -> Image:
        """The image of a name."""
        return next(image for image in self.images if image.name == name)

    def stack(self, name: str) -> Stack:
        """The stack of a name."""
        return next(stack for stack in self.stacks if stack.name == name)

    def all_counts(self, counts: Mapping[str, int]) -> dict[str, int]:
        """The nodes of each type, stacks included."""
        return {**counts, **{stack.name: stack.starts(counts)[-1] for stack in self.stacks}}

    @property
    def samples(self) -> Image | None:
        """What a sample becomes, None where the program reads a graph."""
        return next((image for image in self.images if image.segment == "features"), None)

    @property
    def instructions(self) -> int:
        """Instructions in all blocks, each block counted once."""
        return sum(len(block.words) for block in self.blocks)


def write_program(path: Path, program: Program) -> None:
    """Writes a ``.hfp`` file; equal programs give equal bytes.

    Raises:
        OutputUnwritableError: The path cannot be written.
    """
    header = {
        "format": PROGRAM.mark,
        "isa_version": list(isa().version),
        "geometry_hash": program.design.geometry.hash(),
        **{
            field.name: _plain(getattr(program, field.name))
            for field in dataclasses.fields(program)
            if field.name not in ("blocks", "constants", "design")
        },
        "design": program.design.as_dict(),
        "blocks": [
            {
                "layer": block.layer,
                "part": block.part.value,
                "node_type": block.node_type,
                "tile_rows": block.tile_rows,
                "instructions": len(block.words),
                "patches": len(block.patches),
                "ring_uses": list(block.ring_uses),
            }
            for block in program.blocks
        ],
    }
    arrays = {
        "words.npy": np.concatenate([block.words for block in program.blocks]),
        "patches.npy": np.concatenate([block.patches for block in program.blocks]),
        "constants.npy": program.constants,
    }

    def write(file: BinaryIO) -> None:
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr(_entry("program.json"), json.dumps(header, indent=1, sort_keys=True))
            for name, array in arrays.items():
                buffer = io.BytesIO()
                np.save(buffer, array, allow_pickle=False)
                archive.writestr(_entry(name), buffer.getvalue())

    write_atomic(path, write)


def read_program(path: Path) -> Program:
    """Reads a ``.hfp`` file.

    Raises:
        ProgramUnreadableError: The file is missing, is not a program, is truncated or was altered.
        FormatVersionError: It is of another version of the format.
        IsaVersionError: It is of another version of the instruction set.
    """
    try:
        with ArrayArchive(path) as archive:
            header = json.loads(archive.member("program.json", _LARGEST_HEADER_BYTES))
            _check_format(path, header)
            arrays = {name: archive[name] for name in ("words", "patches", "constants")}
    except (*DAMAGE, RecursionError) as error:
        raise _unreadable(path, error.args[0] if isinstance(error, KeyError) else why_unreadable(error)) from error
    version = header.get("isa_version")
    if version != list(isa().version):
        raise IsaVersionError(
            f"'{path}' is for version {_dotted(version)} of the instruction set",
            f"version {'.'.join(map(str, isa().version))}",
            f"make it anew: {_remake(path, header)}",
        )
    try:
        return _program(header, arrays, str(path))
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, OverflowError) as error:
        raise _unreadable(path, f"its header is damaged ({error})") from error


def _check_format(path: Path, header: Any) -> None:
    version = PROGRAM.stated(header.get("format")) if isinstance(header, dict) else None
    if version is None:
        raise _unreadable(path, f"it is not in the format '{PROGRAM.mark}'")
    PROGRAM.current(header, version, str(path), _remake(path, header))


def _remake(path: Path, header: dict[str, Any]) -> str:
    """The command that compiles a program again; its model's name is one of few things that all versions state."""
    name = header.get("model_name")
    model = name if isinstance(name, str) and name.isprintable() and 0 < len(name) < 100 else "MODEL.q.onnx"
    return shlex.join(["hetfab", "compile", model, "-o", str(path)])


def _program(header: dict[str, Any], arrays: dict[str, npt.NDArray[Any]], source: str) -> Program:
    design = design_from_dict(header["design"], source)
    if design.geometry.hash() != header["geometry_hash"]:
        raise ValueError("the geometry does not have the stored hash")
    program = Program(
        design=design,
        model_name=header["model_name"],
        model_hash=header["model_hash"],
        bindings=header["bindings"],
        layers=tuple(LayerInfo(**_tuples(entry)) for entry in header["layers"]),
        blocks=_blocks(header["blocks"], arrays),
        symbols=tuple(Symbol(SymbolKind(s["kind"]), s["name"], s["tile_rows"], s["slots"]) for s in header["symbols"]),
        rings=tuple(Ring(**entry) for entry in header["rings"]),
        tensors=tuple(Tensor(**_tuples(entry)) for entry in header["tensors"]),
        edges=tuple(
            Edges(
                **{
                    **entry,
                    "relations": tuple(Relation(*r) for r in entry["relations"]),
                    "pattern": EdgePattern(entry["pattern"]),
                }
            )
            for entry in header["edges"]
        ),
        output=Output(**header["output"]),
        limits=Limits(**header["limits"]),
        constants=arrays["constants"],
        images=tuple(Image(**_tuples(entry)) for entry in header["images"]),
        stacks=tuple(Stack(**_tuples(entry)) for entry in header["stacks"]),
        host_nodes=tuple(HostNode(**_tuples(entry)) for entry in header["host_nodes"]),
    )
    check_fields(program)
    _check_references(program)
    return program


def _check_references(program: Program) -> None:
    """Refuses names and indices that point to nothing."""
    for number, block in enumerate(program.blocks):
        if block.layer not in range(len(program.layers)):
            raise ValueError(f"block {number} is of layer {block.layer}, but there are {len(program.layers)} layers")
        for table, size in (("symbol", len(program.symbols)), ("ring", len(program.rings))):
            if (block.patches[table] >= size).any():
                raise ValueError(f"patches name {table}s beyond the table of {size}")
    for tensor in program.tensors:
        if tensor.channel_order and sorted(tensor.channel_order) != list(range(tensor.channels)):
            raise ValueError(f"the order of '{tensor.name}' does not name each of its {tensor.channels} channels once")
        if tensor.leading and not (0 < tensor.leading < tensor.channels and tensor.segment == "features"):
            raise ValueError(f"{tensor.leading} columns of '{tensor.name}' cannot lead its {tensor.channels}")
    named = [program.output.tensor, *(edges.features for edges in program.edges if edges.features)]
    named += [tensor.whole for tensor in program.tensors if tensor.whole]
    named += [name for node in program.host_nodes for name in (*node.inputs, node.output)]
    for name in named:
        if name not in [tensor.name for tensor in program.tensors]:
            raise ValueError(f"there is no tensor '{name}'")
    for node in program.host_nodes:
        _ = node.model_bytes
        if not node.inputs:
            raise ValueError(f"what the host computes of '{node.output}' reads nothing")
        if node.output not in [layer.name for layer in program.layers]:
            raise ValueError(f"there is no layer '{node.output}'")
    stacks = [stack.name for stack in program.stacks]
    for edges in program.edges:
        of_stack = edges.stacked or edges.joined or edges.pattern is not EdgePattern.NONE
        if of_stack and edges.source_type not in stacks:
            raise ValueError(f"there is no stack '{edges.source_type}'")


def _blocks(entries: list[dict[str, Any]], arrays: dict[str, npt.NDArray[Any]]) -> tuple[Block, ...]:
    words, patches, constants = arrays["words"], arrays["patches"], arrays["constants"]
    wrong_types = words.dtype != np.uint64 or patches.dtype != PATCH_DTYPE or constants.dtype != np.uint8
    if wrong_types or words.shape[1:] != (2,) or patches.ndim != 1 or constants.ndim != 1:
        raise ValueError("its arrays have other types")
    blocks = []
    first_word = first_patch = 0
    for entry in entries:
        last_word, last_patch = first_word + entry["instructions"], first_patch + entry["patches"]
        blocks.append(
            Block(
                entry["layer"],
                Part(entry["part"]),
                entry["node_type"],
                entry["tile_rows"],
                words[first_word:last_word],
                patches[first_patch:last_patch],
                tuple(entry["ring_uses"]),
            )
        )
        first_word, first_patch = last_word, last_patch
    if (first_word, first_patch) != (len(words), len(patches)):
        raise ValueError("its arrays have other lengths")
    return tuple(blocks)


def _tuples(entry: dict[str, Any]) -> dict[str, Any]:
    """An object with tuples where JSON has lists."""
    return {name: tuple(value) if isinstance(value, list) else value for name, value in entry.items()}


def _plain(value: Any) -> Any:
    """Dataclasses, tuples and enumerations as JSON has them."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: _plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return value.value if isinstance(value, enum.Enum) else value


def _dotted(version: Any) -> str:
    return ".".join(map(str, version)) if isinstance(version, list) else repr(version)


def _entry(name: str) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
    entry.compress_type = zipfile.ZIP_DEFLATED
    return entry


def _unreadable(path: Path, reason: str) -> ProgramUnreadableError:
    return ProgramUnreadableError(
        f"cannot read the program '{path}': {reason}",
        "a .hfp file as `hetfab compile` writes it",
        "check the path, or compile the model again",
    )
