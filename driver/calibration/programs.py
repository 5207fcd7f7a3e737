# SPDX-License-Identifier: Apache-2.0
"""Micro-programs whose time per repetition is one part of the timing model (docs/calibrate.md)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from hetfab.overlay.design import Geometry
from hetfab.overlay.isa import codec
from hetfab.overlay.isa.codec import Engine, Segment
from hetfab.overlay.isa.spec import isa
from hetfab.overlay.isa.words import program_address
from hetfab.overlay.layouts import destination_records

Bytes = npt.NDArray[np.uint8]

_BLOCK, _BEAT = isa().block_bytes, isa().size("beat_bytes")
#: Of a copy that takes longer than DISPATCH needs for an instruction, and so its latency shows.
SHORT_BEATS = 64
#: Destinations, edges of each and source vertices of a gather that keeps the feature port busy.
_ROWS, _DEGREE, _SOURCES = 32, 128, 512
#: What a long copy moves at most.
_LONG_BYTES = 1 << 16


@dataclass(frozen=True, eq=False)
class MicroProgram:
    """Instructions, some of which repeat.

    Attributes:
        name: What it shows.
        begin: Instructions before the repetitions.
        repeated: Instructions of each repetition.
        repeats: The two numbers of repetitions whose times are compared.
        contents: Bytes of segments that it reads.
        sizes: Bytes of segments that it writes.
    """

    name: str
    begin: tuple[int, ...]
    repeated: tuple[int, ...]
    repeats: tuple[int, int] = (64, 320)
    contents: Mapping[Segment, Bytes] = field(default_factory=dict)
    sizes: Mapping[Segment, int] = field(default_factory=dict)

    def words(self, repeats: int) -> list[int]:
        """All instructions."""
        return [*self.begin, *(self.repeated * repeats)]


def _sync(engine: str, **header: int) -> int:
    return codec.sync(engine=Engine(isa().engine(engine).id), **header)


def turns() -> MicroProgram:
    """An engine gets an instruction in each turn of DISPATCH."""
    return MicroProgram("an instruction of one engine", (), (_sync("load"),))


def queueing(engines: Sequence[str]) -> MicroProgram:
    """All engines get instructions, so that DISPATCH's fetching and queueing bounds the time."""
    per_fetch = isa().size("burst_beats")
    # Whole fetches, so that each repetition has as many.
    words = tuple(_sync(engine) for engine in engines) * per_fetch
    return MicroProgram("an instruction of every engine", (), words, (4, 20))


def handing_over() -> MicroProgram:
    """Two engines wait for each other in turn."""
    words = (_sync("load", wait0=2, signal0=1), _sync("store", wait0=1, signal0=2))
    first = (_sync("load", signal0=1), _sync("store", wait0=1, signal0=2))
    return MicroProgram("an instruction that waits for another engine", first, words)


def reading(geometry: Geometry, beats: int) -> MicroProgram:
    """Copies to a memory on chip, each with a latency that nothing covers."""
    word, size = _load(geometry, beats * _BEAT)
    return MicroProgram(f"a read of {beats} beats", (), (word,), contents={Segment.CONSTANTS: _zeros(size)})


def writing(beats: int) -> MicroProgram:
    """Copies to DRAM, each with a response that is waited for."""
    return MicroProgram(f"a write of {beats} beats", (), (_store(beats),), sizes={Segment.OUTPUT: beats * _BEAT})


def streaming(geometry: Geometry) -> MicroProgram:
    """LOAD, STORE and AGG move as much as their ports do, at the same time."""
    load, load_bytes = _load(geometry, _LONG_BYTES)
    beats = min(geometry.out_words, _LONG_BYTES // _BEAT) // 8 * 8
    store, store_bytes = _store(beats), beats * _BEAT
    sizes = {Segment.OUTPUT: store_bytes}
    contents = {Segment.CONSTANTS: _zeros(load_bytes)}
    if "agg" not in geometry.engines:
        count = max(1, load_bytes // store_bytes)
        return MicroProgram("all ports", (), (load, *[store] * count), (16, 48), contents, sizes)
    gather = _gather(geometry, geometry.agg_groups)
    moved = _ROWS * _DEGREE * geometry.agg_groups * _BEAT
    loads, stores = max(1, moved // load_bytes), max(1, moved // store_bytes)
    repeated = [gather.repeated[0], *[load] * loads]
    for number in range(stores):
        repeated.insert(1 + number * (len(repeated) - 1) // stores, store)
    return MicroProgram("all ports", gather.begin, tuple(repeated), (6, 18), {**contents, **gather.contents}, sizes)


def _load(geometry: Geometry, size: int) -> tuple[int, int]:
    """A copy of at most so many bytes to a core's weights, and how many it has."""
    name, memory = ("load_weights", "wgt_d_ram") if "gemm_d" in geometry.engines else ("load_planes", "wgt_l_ram")
    words = min(geometry.depth(memory), size // geometry.word_bytes(memory))
    word: int = getattr(codec, name)(ram=0, words=words, address=program_address(Segment.CONSTANTS, 0))
    return word, words * geometry.word_bytes(memory)


def _store(beats: int) -> int:
    stride = beats * _BEAT // _BLOCK
    address = program_address(Segment.OUTPUT, 0)
    return codec.store_rows(ram=0, rows=1, row_beats=beats, stride_blocks=stride, address=address)


def short_bursts(geometry: Geometry) -> MicroProgram:
    """Rows of one block each, so that every burst is half as long as it may be."""
    core = int("gemm_d" not in geometry.engines)
    depth = (
        geometry.act_l_words // 4 * geometry.gemm_l_rows if core else geometry.act_d_words // 8 * geometry.gemm_d_rows
    )
    rows = min(64, depth)
    word = codec.load_activations(
        ram_d=0, ram_l=0, rows=rows, to_d=1 - core, to_l=core, packed=0, row_blocks=1, stride_blocks=2,
        address=program_address(Segment.FEATURES, 0),
    )  # fmt: skip
    return MicroProgram("bursts of 8 beats", (), (word,), contents={Segment.FEATURES: _zeros(rows * 2 * _BLOCK)})


def gathered_rows(geometry: Geometry) -> MicroProgram:
    """Rows of one beat each, whose latency requests ahead cover in part."""
    return _gather(geometry, 1)


def _gather(geometry: Geometry, groups: int) -> MicroProgram:
    rows = min(_ROWS, geometry.sum_words // groups)
    indptr = np.arange(rows + 1) * _DEGREE
    ids = (np.arange(indptr[-1]) * 7 % _SOURCES).astype("<u2")
    blocks = -(-groups * _BEAT // _BLOCK)
    records = destination_records(indptr)
    place = -(-len(records) // _BLOCK) * _BLOCK
    graph = np.zeros(place + ids.nbytes, np.uint8)
    graph[: len(records)], graph[place:] = records, ids.view(np.uint8)
    address = program_address(Segment.GRAPH, 0)
    features = program_address(Segment.FEATURES, 0)
    begin = (
        codec.configure_features(
            slot=0, row_blocks=blocks, first_block=0, slot_bits=0, count=_SOURCES, address=features
        ),
        codec.configure_destinations(slot=0, count=rows, parts=0, address=address),
        codec.configure_ids(slot=0, edges=len(ids), id_bytes=2, address=address + place),
        codec.configure_spilled(slot=0, row_blocks=1, count=0, address=features),
    )
    reduce = codec.reduce(
        slot=0, rows=rows, mode=0, unsigned=0, accumulate=0, groups=groups, source=0, merge=0, spill=0, weighted=0,
        from_fifo=0, destination=0, sum=0,
    )  # fmt: skip
    contents = {Segment.FEATURES: _zeros(_SOURCES * blocks * _BLOCK), Segment.GRAPH: graph}
    return MicroProgram(f"gathered rows of {groups} beats", begin, (reduce,), (6, 18), contents)


def _zeros(count: int) -> Bytes:
    return np.zeros(count, np.uint8)
