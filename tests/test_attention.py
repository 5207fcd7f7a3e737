# SPDX-License-Identifier: Apache-2.0
"""AGG's attention over whole layers: one result for any tiling, any split of the edges and any order of merges."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hetfab.hls.build.emulator import Emulator, Progress
from hetfab.overlay.costs.program_cost import expected_records
from hetfab.overlay.design import Geometry
from hetfab.overlay.isa.arithmetic import LARGEST_DEGREE
from hetfab.overlay.isa.codec import AttendKind, AttendSource, RegisterOffset, Segment
from hetfab.overlay.isa.golden import GoldenMachine
from hetfab.overlay.isa.words import pack
from hetfab.overlay.run_log import RUN_LOG_DTYPE
from tests.attention_layers import Layer, LayerProgram, layers, long_layers
from tests.conftest import SMALL_GEOMETRY

Array = npt.NDArray[Any]
BASES = {segment: 0x1000_0000 * (1 + segment) for segment in Segment}


def golden(geometry: Geometry, program: LayerProgram) -> Array:
    """sum_ram as int32 after a program."""
    machine = GoldenMachine(geometry)
    for segment, content in program.dram.items():
        machine.map_memory(BASES[segment], content.copy())
        machine.segments[segment.name.lower()] = BASES[segment], content.size
    machine.run(program.dram[Segment.PROGRAM].tobytes())
    return machine.memories["sum_ram"].view("<i4")


def emulated(emulator: Emulator, program: LayerProgram) -> tuple[Array, Array]:
    """sum_ram as int32 after a program, and the run log."""
    dram = {segment: content.copy() for segment, content in program.dram.items()}
    for segment, content in dram.items():
        emulator.map_memory(BASES[segment], content)
        emulator.write_register(RegisterOffset[f"SEGMENT_BASE_{segment.name}_LOW"], BASES[segment])
        emulator.write_register(RegisterOffset[f"SEGMENT_SIZE_{segment.name}_LOW"], content.size)
    try:
        emulator.write_register(RegisterOffset.PROGRAM_LENGTH, len(program.words))
        emulator.write_register(RegisterOffset.CONTROL, 1)
        assert emulator.advance(100_000) is Progress.DONE, emulator.message()
        return emulator.read_ram("sum_ram", 0, SMALL_GEOMETRY.sum_words).view("<i4"), emulator.run_log()
    finally:
        for base in BASES.values():
            emulator.unmap_memory(base)


def whole(layer: Layer, source: AttendSource, first: int, rows: int) -> LayerProgram:
    program = LayerProgram(layer, [layer])
    program.configure(0)
    program.attend(first, rows, source=source)
    return program.finished()


def split(layer: Layer, random: np.random.Generator, first: int, rows: int) -> LayerProgram:
    """The edges dealt to some parts: maxima of all of them, then their sums, either in an order of its own."""
    parts = int(random.integers(2, 5))
    part_of = random.integers(0, parts, len(layer.sources))
    program = LayerProgram(layer, [layer.part(part_of == part) for part in range(parts)])
    for number, part in enumerate(random.permutation(parts).tolist()):
        program.configure(part)
        program.attend(first, rows, weigh=0, spill=1, merge=int(number > 0))
    for number, part in enumerate(random.permutation(parts).tolist()):
        program.configure(part)
        program.attend(first, rows, maxima=0, spill=int(number < parts - 1), merge=int(number > 0))
    return program.finished()


def tiles(layer: Layer, random: np.random.Generator) -> list[tuple[int, int]]:
    """Runs of destinations that the small design's sum_ram holds."""
    words = max(layer.heads * layer.head_groups, layer.source_scores.shape[1] // 8)
    most = SMALL_GEOMETRY.sum_words // words
    found, first = [], 0
    while first < layer.destinations:
        rows = int(random.integers(1, min(most, layer.destinations - first) + 1))
        found.append((first, rows))
        first += rows
    return found


RECORDED = [name for name in RUN_LOG_DTYPE.names or () if name != "layer"]


def check(layer: Layer, seed: int, emulators: dict[str, Emulator]) -> None:
    """All ways and executions give the definition, for any order of edges, and cost what the cost functions say."""
    random, expected = np.random.default_rng(seed), layer.expected()
    for first, rows in tiles(layer, random):
        for program in (
            *(whole(layer.shuffled(random), source, first, rows) for source in AttendSource),
            split(layer.shuffled(random), random, first, rows),
        ):
            results = [golden(SMALL_GEOMETRY, program)]
            costs = expected_records(pack(program.words), program.dram[Segment.GRAPH], SMALL_GEOMETRY)
            for emulator in emulators.values():
                found, log = emulated(emulator, program)
                results.append(found)
                for name in RECORDED:
                    assert np.array_equal(log[name], costs[name]), name
            for result in results:
                found = result.reshape(-1)[: rows * expected.shape[1]].reshape(rows, -1)
                np.testing.assert_array_equal(found, expected[first : first + rows])


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(layer=layers(), seed=st.integers(0, 2**32 - 1))
def test_every_way_gives_the_definition(layer: Layer, seed: int, small_emulators: dict[str, Emulator]) -> None:
    check(layer, seed, small_emulators)


@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(layer=layers(), seed=st.integers(0, 2**32 - 1))
def test_checked_integers_give_the_definition(
    layer: Layer, seed: int, small_checked_emulators: dict[str, Emulator]
) -> None:
    check(layer, seed, small_checked_emulators)


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(layer=long_layers(), seed=st.integers(0, 2**32 - 1))
def test_every_way_gives_the_definition_of_many_edges(
    layer: Layer, seed: int, small_emulators: dict[str, Emulator]
) -> None:
    check(layer, seed, small_emulators)


@settings(max_examples=2, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(layer=long_layers(), seed=st.integers(0, 2**32 - 1))
def test_checked_integers_give_the_definition_of_many_edges(
    layer: Layer, seed: int, small_checked_emulators: dict[str, Emulator]
) -> None:
    check(layer, seed, small_checked_emulators)


@pytest.mark.parametrize("kind", AttendKind, ids=lambda kind: kind.name)
def test_the_largest_degree_gives_the_definition(kind: AttendKind, small_emulators: dict[str, Emulator]) -> None:
    """Of the largest features and weights, so that sums reach their limits, whole and in parts."""
    random, edges = np.random.default_rng(kind), LARGEST_DEGREE
    features = np.stack([np.full(8, 255, np.uint8), np.zeros(8, np.uint8)])
    scores = np.zeros((2, 8 if kind is AttendKind.DOT else 1), np.int8 if kind is AttendKind.DOT else np.int16)
    sources = (np.arange(edges) % 1000 == 999).astype(np.int64)
    layer = Layer(
        np.array([0, 0, edges]), sources, np.zeros(edges, np.int64), features, scores, scores,
        np.zeros((1, 1), np.int16), kind, 1, 1, 0,
    )  # fmt: skip
    expected = layer.expected().reshape(-1)
    for program in (whole(layer, AttendSource.DRAM, 0, 2), split(layer, random, 0, 2)):
        results = [golden(SMALL_GEOMETRY, program), *(emulated(e, program)[0] for e in small_emulators.values())]
        for result in results:
            np.testing.assert_array_equal(result.reshape(-1)[: expected.size], expected)
