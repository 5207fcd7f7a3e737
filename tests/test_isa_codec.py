# SPDX-License-Identifier: Apache-2.0
"""The generated codec against the tables, and against a second implementation: C++ with ``isa.hpp``."""

import random
import subprocess
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hetfab.overlay.errors import FieldRangeError, StreamInvalidError
from hetfab.overlay.isa import codec
from hetfab.overlay.isa.spec import Field, Operation, isa
from hetfab.overlay.isa.words import decode, field_slot, pack, program_address
from tests.word_lists import unpack

INCLUDE = Path(__file__).parents[1] / "hls" / "include"
CONTROL = tuple(field for field in isa().header if field.name not in ("engine", "opcode"))
OPERATIONS = pytest.mark.parametrize("operation", isa().operations, ids=lambda operation: operation.name)


def all_fields(operation: Operation) -> tuple[Field, ...]:
    return (*CONTROL, *operation.fields)


def encode(operation: Operation, engine: int, values: dict[str, int]) -> int:
    """Calls the operation's packer; only ``sync`` is told its engine."""
    any_engine = {"engine": codec.Engine(engine)} if operation.engine == "*" else {}
    word = getattr(codec, operation.name)(**any_engine, **values)
    assert isinstance(word, int)
    return word


def engines_of(operation: Operation) -> list[int]:
    return [engine.id for engine in isa().engines if operation.engine in ("*", engine.name)]


@OPERATIONS
@given(data=st.data())
def test_every_field_comes_back_by_the_tables(operation: Operation, data: st.DataObject) -> None:
    engine = data.draw(st.sampled_from(engines_of(operation)))
    values = {field.name: data.draw(st.integers(0, field.largest)) for field in all_fields(operation)}
    word = encode(operation, engine, values)
    assert {field.name: field.get(word) for field in all_fields(operation)} == values
    assert isa().header_field("engine").get(word) == engine
    assert isa().header_field("opcode").get(word) == operation.opcode
    decoded = decode(word)
    assert decoded.operation is operation
    assert decoded.fields == values | {"engine": engine, "opcode": operation.opcode}


@OPERATIONS
def test_fields_that_are_not_given_leave_no_bit(operation: Operation) -> None:
    engine = engines_of(operation)[0]
    word = encode(operation, engine, {field.name: 0 for field in operation.fields})
    assert word == engine | operation.opcode << 4


@OPERATIONS
def test_a_value_outside_its_field_is_refused_by_name(operation: Operation) -> None:
    engine = engines_of(operation)[0]
    for field in all_fields(operation):
        for value in (field.largest + 1, -1):
            values = {other.name: 0 for other in all_fields(operation)} | {field.name: value}
            with pytest.raises(FieldRangeError) as error:
                encode(operation, engine, values)
            assert error.value.found == f"field '{field.name}' of '{operation.name}' is {value}"
            assert error.value.expected == f"0 to {field.largest} ({field.bits} bits)"


def test_the_whole_text_of_a_refusal() -> None:
    with pytest.raises(FieldRangeError) as error:
        codec.matmul(act=0, wgt=0, accumulate=0, unsigned=0, packed=0, acc=0, rows=256, row_beats=1, col_groups=1)
    assert str(error.value) == (
        "field 'rows' of 'matmul' is 256\n"
        "  expected: 0 to 255 (8 bits)\n"
        "  do: use a smaller tile, or report this if hetfab compiled the program"
    )


def test_numpy_integers_keep_their_high_bits() -> None:
    address = np.int64(2**39 + 5)
    word = codec.configure_destinations(slot=0, parts=0, count=0, address=address)  # type: ignore[arg-type]
    assert isa().operation("configure_destinations").field("address").get(word) == 2**39 + 5


@given(st.lists(st.integers(0, 2**128 - 1), max_size=5))
def test_packed_words_are_little_endian_halves(words: list[int]) -> None:
    array = pack(words)
    assert array.shape == (len(words), 2)
    assert array.tobytes() == b"".join(word.to_bytes(16, "little") for word in words)
    assert unpack(array) == words


@OPERATIONS
def test_a_field_patched_in_the_array_is_the_field(operation: Operation) -> None:
    word = encode(operation, engines_of(operation)[0], {field.name: 0 for field in operation.fields})
    for field in all_fields(operation):
        half, shift, bits = field_slot(operation.name, field.name)
        array = pack([word, word])
        array[1, half] |= np.uint64(field.largest << shift)
        first, second = unpack(array)
        assert bits == field.bits
        assert first == word
        assert second == word | field.largest << field.lsb


@given(segment=st.sampled_from(list(codec.Segment)), offset=st.integers(0, 2**32 - 1))
def test_a_program_address_is_the_offset_below_the_segment(segment: codec.Segment, offset: int) -> None:
    address = program_address(segment, offset)
    assert address & 0xFFFF_FFFF == offset
    assert isa().segments[address >> 32] == segment.name.lower()


@pytest.mark.parametrize("offset", [-1, 2**32])
def test_an_offset_outside_its_bits_is_refused(offset: int) -> None:
    with pytest.raises(FieldRangeError) as error:
        program_address(codec.Segment.GRAPH, offset)
    assert str(error.value) == (
        f"offset {offset} in segment 'graph'\n"
        "  expected: 0 to 4294967295 (32 bits)\n"
        "  do: split the graph or the model: a segment holds at most 4 GiB"
    )


@pytest.mark.parametrize(("engine", "opcode"), [(0, 15), (3, 15), (9, 0), (15, 1)])
def test_an_unknown_operation_is_not_decoded(engine: int, opcode: int) -> None:
    with pytest.raises(StreamInvalidError) as error:
        decode(engine | opcode << 4)
    assert error.value.found == f"an instruction names engine {engine}, opcode {opcode}"


def test_enumerations_are_the_tables() -> None:
    assert {e.name.lower(): e.value for e in codec.Engine} == {e.name: e.id for e in isa().engines}
    assert [s.name.lower() for s in codec.Segment] == list(isa().segments)
    assert {f.name.lower(): f.value for f in codec.Fault} == {f.name: f.code for f in isa().faults}
    offsets = {register.name: register.offset for register in isa().registers}
    assert {r.name.lower(): r.value for r in codec.RegisterOffset} == offsets


def test_cpp_packs_and_unpacks_the_same_words(tmp_path: Path) -> None:
    """Python packs and C++ takes apart; C++ packs from values and gets Python's word."""
    program = tmp_path / "round_trip"
    source = program.with_suffix(".cpp")
    source.write_text(cpp_program())
    command = ["g++", "-std=c++17", "-Wall", "-Werror", f"-I{INCLUDE}", str(source), "-o", str(program)]
    subprocess.run(command, check=True)
    generator = random.Random(1)
    lines, expected = [], []
    for position, operation in enumerate(isa().operations):
        for trial in range(40):
            engine = generator.choice(engines_of(operation))
            values = random_values(operation, generator, trial)
            word = encode(operation, engine, values)
            fields = [engine, operation.opcode, *values.values()]
            lines.append(" ".join(map(str, (position, word & 2**64 - 1, word >> 64, *fields))))
            expected.append(" ".join(map(str, (*fields, word & 2**64 - 1, word >> 64))))
    result = subprocess.run([program], input="\n".join(lines), capture_output=True, text=True, check=True)
    assert result.stdout.splitlines() == expected


def random_values(operation: Operation, generator: random.Random, trial: int) -> dict[str, int]:
    """All zero, all largest, then random."""
    if trial < 2:
        return {field.name: trial * field.largest for field in all_fields(operation)}
    return {field.name: generator.randint(0, field.largest) for field in all_fields(operation)}


def cpp_program() -> str:
    """Reads lines of operation, word and fields; prints the word's fields and the word packed from them."""
    cases = []
    for position, operation in enumerate(isa().operations):
        names = [f"Header::{pascal(field.name)}" for field in isa().header]
        names += [f"{pascal(operation.name)}::{pascal(field.name)}" for field in operation.fields]
        cases.append(f"        case {position}: round_trip<{', '.join(names)}>(word); break;")
    return _CPP.replace("CASES", "\n".join(cases))


def pascal(name: str) -> str:
    return "".join(part.capitalize() for part in name.split("_"))


_CPP = r"""
#include <cstdint>
#include <iostream>
#include "hetfab/isa.hpp"

using namespace hetfab::isa;
using Word = unsigned __int128;

template <typename F>
std::uint64_t get(Word word) {
    return static_cast<std::uint64_t>(word >> F::lsb) & ((std::uint64_t{1} << F::bits) - 1);
}

template <typename F>
Word put() {
    std::uint64_t value = 0;
    std::cin >> value;
    return static_cast<Word>(value) << F::lsb;
}

template <typename... Fields>
void round_trip(Word word) {
    Word packed = 0;
    ((packed |= put<Fields>()), ...);
    ((std::cout << get<Fields>(word) << ' '), ...);
    const auto low = static_cast<std::uint64_t>(packed), high = static_cast<std::uint64_t>(packed >> 64);
    std::cout << low << ' ' << high << '\n';
}

int main() {
    int operation = 0;
    std::uint64_t low = 0, high = 0;
    while (std::cin >> operation >> low >> high) {
        const Word word = static_cast<Word>(high) << 64 | low;
        switch (operation) {
CASES
        default: return 1;
        }
    }
    return 0;
}
"""
