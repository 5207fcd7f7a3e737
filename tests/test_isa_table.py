# SPDX-License-Identifier: Apache-2.0
"""The tables of the instruction set do not contradict themselves."""

import re
from collections import Counter
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hetfab.overlay.design import default_design
from hetfab.overlay.isa.spec import Field, Operation, Record, evaluate, isa
from tests.conftest import SMALL_GEOMETRY
from tests.sets_definition import read_set, write_set

GEOMETRY = default_design().geometry
KERNELS = Path(__file__).parents[1] / "hls" / "kernels"
CONTEXT = {
    f"{operation.name.removeprefix('configure_')}.{field.name}": field
    for operation in isa().operations
    if operation.name.startswith("configure_")
    for field in operation.fields
}
OPERATIONS = pytest.mark.parametrize("operation", isa().operations, ids=lambda operation: operation.name)


def bits(field: Field) -> set[int]:
    return set(range(field.lsb, field.lsb + field.bits))


def layouts() -> dict[str, tuple[Field, ...]]:
    """Every word that has fields: the instructions with their header, and the token."""
    return {"token": isa().token} | {o.name: (*isa().header, *o.fields) for o in isa().operations}


@pytest.mark.parametrize("name", layouts())
def test_fields_do_not_overlap(name: str) -> None:
    overlapping = [(a.name, b.name) for a, b in combinations(layouts()[name], 2) if bits(a) & bits(b)]
    assert overlapping == []


@pytest.mark.parametrize("name", layouts())
def test_fields_lie_inside_their_word_and_on_one_side_of_bit_64(name: str) -> None:
    size = isa().token_bits if name == "token" else isa().instruction_bits
    for field in layouts()[name]:
        assert field.bits >= 1
        assert field.lsb + field.bits <= size
        assert field.lsb // 64 == (field.lsb + field.bits - 1) // 64


@pytest.mark.parametrize("name", layouts())
def test_field_names_are_unique(name: str) -> None:
    counts = Counter(field.name for field in layouts()[name])
    assert max(counts.values()) == 1


def test_names_of_operations_engines_memories_and_registers_are_unique() -> None:
    for entries in (isa().operations, isa().engines, isa().memories, isa().registers, isa().layouts):
        names = [entry.name for entry in entries]
        assert len(set(names)) == len(names)


def test_no_engine_has_two_operations_of_one_opcode() -> None:
    for engine in isa().engines:
        opcodes = [o.opcode for o in isa().operations if o.engine in ("*", engine.name)]
        assert len(set(opcodes)) == len(opcodes)


def test_every_operation_is_found_by_its_header() -> None:
    for operation in isa().operations:
        engines = isa().engines if operation.engine == "*" else [isa().engine(operation.engine)]
        for engine in engines:
            assert isa().find(engine.id, operation.opcode) is operation


def test_ids_and_opcodes_fit_the_header() -> None:
    assert max(engine.id for engine in isa().engines) <= isa().header_field("engine").largest
    assert max(operation.opcode for operation in isa().operations) <= isa().header_field("opcode").largest
    for name in ("wait0", "wait1", "signal0", "signal1"):
        assert isa().header_field(name).largest == isa().semaphores


def test_addresses_hold_offset_and_segment_at_one_place() -> None:
    fields = [o.address_field for o in isa().operations if o.address_field is not None]
    assert {(field.lsb, field.bits) for field in fields} == {(88, 40)}
    assert isa().offset_bits + isa().segment_bits <= 40
    assert len(isa().segments) == 1 << isa().segment_bits


@OPERATIONS
@given(data=st.data())
def test_boxes_are_numbers_for_any_fields(operation: Operation, data: st.DataObject) -> None:
    fields = {field.name: data.draw(st.integers(0, field.largest)) for field in operation.fields}
    boxes = (*operation.reads, *operation.writes)
    text = " ".join(part for box in boxes for part in (box.base, box.rows, box.row_stride, box.row_length))
    used = {name: field for name, field in CONTEXT.items() if name in text}
    context = {name: data.draw(st.integers(0, field.largest)) for name, field in used.items()}
    names = GEOMETRY.constants() | fields | context
    for region in (*read_set(operation, names), *write_set(operation, names)):
        assert min(region.base, region.rows, region.row_stride, region.row_length) >= 0


@OPERATIONS
def test_boxes_respect_the_one_writer_and_one_reader_of_a_memory(operation: Operation) -> None:
    memories = {memory.name: memory for memory in isa().memories}
    for box in operation.reads:
        assert box.memory == "dram" or operation.engine in (
            memories[box.memory].reader,
            memories[box.memory].writer,
        )
    for box in operation.writes:
        assert box.memory == "dram" or operation.engine == memories[box.memory].writer


def test_every_on_chip_memory_has_an_existing_writer_and_reader_and_is_used() -> None:
    engines = {engine.name for engine in isa().engines}
    written = {box.memory for operation in isa().operations for box in operation.writes}
    read = {box.memory for operation in isa().operations for box in operation.reads}
    for memory in isa().memories:
        if memory.name == "dram":
            continue
        assert {memory.writer, memory.reader} <= engines
        assert memory.name in written & read
        assert GEOMETRY.word_bytes(memory.name) > 0
        assert SMALL_GEOMETRY.depth(memory.name) > 0


def test_registers_are_words_in_ascending_order() -> None:
    offsets = [register.offset for register in isa().registers]
    assert offsets == sorted(set(offsets))
    assert all(offset % 4 == 0 for offset in offsets)
    assert offsets[:5] == [0x00, 0x04, 0x08, 0x0C, 0x100]


def test_a_64_bit_argument_is_low_and_high() -> None:
    offset = isa().register("segment_base_program_low").offset
    assert isa().register("segment_base_program_high").offset == offset + 4
    assert isa().register("segment_base_constants_low").offset == offset + 8


@pytest.mark.parametrize("expression", ["rows / 2", "rows % 2", "-rows", "max(rows, 2)", "rows ** 2", "'rows'"])
def test_expressions_have_four_operators_only(expression: str) -> None:
    with pytest.raises(ValueError, match="only sums, differences, products and quotients are allowed"):
        evaluate(expression, {"rows": 3})


def test_expressions_follow_the_precedence_of_products() -> None:
    assert evaluate("base + 2 * rows * ids.edges + 1", {"base": 5, "rows": 3, "ids.edges": 7}) == 48
    assert evaluate("(1 - core) * ((rows + 3) // 4)", {"core": 0, "rows": 5}) == 2
    assert evaluate("7 - rows // 2 * 2", {"rows": 5}) == 3


def test_sizes_fit_each_other() -> None:
    size = isa().size
    assert size("outstanding_bursts") == 2 * size("bursts_ahead")
    # The cost functions count with rows of blocks that begin at the start or the middle of a burst.
    assert size("burst_beats") * size("beat_bytes") == 2 * size("block_bytes")
    assert size("page_bytes") % (size("burst_beats") * size("beat_bytes")) == 0


@pytest.mark.parametrize("kernel", ["load", "store", "agg"])
def test_ports_of_kernels_are_built_for_the_sizes(kernel: str) -> None:
    """Pragmas hold numbers alone. A direction that a port does not use has the least that the tool takes."""
    text = (KERNELS / f"{kernel}.cpp").read_text(encoding="utf-8")
    pattern = r"mode=m_axi port=(\w+).*?num_read_outstanding=(\d+) max_read_burst_length=(\d+) "
    pattern += r"num_write_outstanding=(\d+) max_write_burst_length=(\d+).*?max_widen_bitwidth=(\d+)"
    ports = re.findall(pattern, text, re.DOTALL)
    assert len(ports) == text.count("mode=m_axi") > 0
    for port, *numbers in ports:
        *directions, width = (int(number) for number in numbers)
        (bursts, beats), other = sorted(zip(directions[::2], directions[1::2], strict=True), reverse=True)
        # AGG spills sums by the port that it reads features by.
        assert other == ((isa().size("outstanding_bursts"), beats) if port == "features" else (1, 2))
        assert beats == isa().size("burst_beats") and width == 8 * isa().size("beat_bytes")
        # AGG requests features row by row, so how many are outstanding there is a choice of its own.
        assert bursts == isa().size("outstanding_bursts") or port == "features"


@pytest.mark.parametrize("record", isa().records, ids=lambda record: record.name)
def test_fields_of_records_fit_their_types_and_the_record(record: Record) -> None:
    assert record.dtype.itemsize == record.bytes
    for field in record.fields:
        size = np.dtype(field.type).itemsize
        assert 1 <= field.bits <= 8 * size
        assert field.lsb % (8 * size) == 0 and field.lsb // 8 + size <= record.bytes
        # A kernel reads a record in beats.
        assert field.lsb // 64 == (field.lsb + field.bits - 1) // 64


@given(data=st.data())
def test_records_hold_what_the_fields_say(data: st.DataObject) -> None:
    record = data.draw(st.sampled_from(isa().records))
    values = {field.name: data.draw(st.integers(0, 2 ** (field.bits - 1) - 1)) for field in record.fields}
    entry = np.zeros(1, record.dtype)
    for name, value in values.items():
        entry[name] = value
    word = int.from_bytes(entry.tobytes(), "little")
    assert {field.name: word >> field.lsb & (1 << field.bits) - 1 for field in record.fields} == values
    assert word == sum(values[field.name] << field.lsb for field in record.fields)
