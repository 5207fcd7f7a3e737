# SPDX-License-Identifier: Apache-2.0
"""VEC's results of 16 bits, tables of functions and normalization: all executions give the same memories."""

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import pytest

from hetfab.hls.build.emulator import Bodies, Emulator, Progress, build_emulator
from hetfab.overlay.costs.program_cost import expected_records
from hetfab.overlay.design import Geometry
from hetfab.overlay.errors import StreamInvalidError
from hetfab.overlay.isa import codec
from hetfab.overlay.isa.codec import Segment
from hetfab.overlay.isa.golden import GoldenMachine
from hetfab.overlay.isa.spec import isa
from hetfab.overlay.isa.words import pack, program_address
from tests.test_dispatch import Device
from tests.test_instructions import (
    POST_LEFT,
    Bench,
    joined_fields,
    make_ties,
    source_fields,
    sum_fields,
    vec_fields,
    word_fields,
)

SEEDS = range(24)
UNIT = isa().size("fun_unit")


def equal_banks(bench: Bench) -> None:
    """What LOAD leaves in fun_ram."""
    tables = bench.golden.memories["fun_ram"]
    tables.reshape(len(tables), -1, 8)[...] = tables[:, np.newaxis, :8]


def function_fields(bench: Bench) -> dict[str, int]:
    """Fields of the operations that end in 16 bits or in a table."""
    pick, geometry = bench.pick, bench.geometry
    equal_banks(bench)
    mapped, signed = pick(0, 1), pick(0, 1)
    width = pick(1, 12) if mapped else pick(1, 16)
    words = max(UNIT, (1 << width) // 8)
    table = pick(0, (geometry.fun_words - words) // UNIT) if mapped else pick(0, 15)
    fields = vec_fields(bench, 1 if mapped else 2)
    half_left_out = not mapped and fields["groups"] > 0 and not fields["row_blocks"] and pick(0, 1)
    fields["row_words"] = 2 * fields["groups"] - 1 if half_left_out else fields["row_words"]
    return fields | {"mapped": mapped, "signed": signed, "width": width - 1, "table": table}


def load_function(bench: Bench) -> list[int]:
    fields = word_fields(bench, "fun_ram")
    return [codec.load_function(**fields)]


def requantize_function(bench: Bench) -> list[int]:
    fields = function_fields(bench)
    shift = int(bench.random.choice([0, 16, 24, 30, 33, 40, 46]))
    return [codec.requantize_function(**(fields | source_fields(bench, fields)), shift=shift)]


def requantize_function_ties(bench: Bench) -> list[int]:
    make_ties(bench)
    fields = function_fields(bench)
    return [codec.requantize_function(**(fields | source_fields(bench, fields)), shift=bench.pick(0, 4))]


def combine_function(bench: Bench) -> list[int]:
    fields = function_fields(bench)
    groups = fields["groups"]
    sums = sum_fields(bench, fields)
    if fields["groups"] != groups:
        fields["row_words"] = 2 * fields["groups"]
    post_shift = int(bench.random.choice([POST_LEFT, POST_LEFT + 8, 30, 33, 39, 45]))
    return [codec.combine_function(**fields, **sums, post_shift=post_shift)]


def combine_function_ties(bench: Bench) -> list[int]:
    make_ties(bench)
    return combine_function(bench)


def joined_function(bench: Bench, shift: int) -> list[int]:
    fields = function_fields(bench)
    groups = fields["groups"]
    fields = joined_fields(bench, fields)
    if fields["groups"] != groups:
        fields["row_words"] = 2 * fields["groups"]
    return [codec.requantize_joined_function(**fields, shift=shift)]


def requantize_joined_function(bench: Bench) -> list[int]:
    return joined_function(bench, int(bench.random.choice([0, 16, 24, 30, 33, 40, 46])))


def requantize_joined_function_ties(bench: Bench) -> list[int]:
    make_ties(bench)
    return joined_function(bench, bench.pick(0, 4))


def norm_fields(bench: Bench, spread: dict[str, int]) -> dict[str, int]:
    """Fields of a normalize, and its parameters in par_ram."""
    geometry, pick, memories = bench.geometry, bench.pick, bench.golden.memories
    fields = vec_fields(bench, 1)
    fields["groups"] = max(1, min(fields["groups"], (geometry.par_words - 1) // 2))
    fields["row_words"] = max(fields["row_words"], fields["groups"])
    distance = 8 * fields["row_blocks"] or fields["row_words"]
    fields["rows"] = min(fields["rows"], geometry.norm_words // fields["groups"], geometry.out_words // distance)
    fields["out"] = min(fields["out"], geometry.out_words - fields["rows"] * distance)
    fields["row_words"] = min(fields["row_words"], distance)
    columns = geometry.gemm_l_cols if fields["core"] else geometry.gemm_d_cols
    depth = geometry.acc_l_words if fields["core"] else geometry.acc_d_words
    fields["acc"] = pick(0, depth - fields["rows"] * -(-fields["groups"] * 8 // columns))
    fields["par"] = pick(0, geometry.par_words - 2 * fields["groups"] - 1)
    record = np.zeros(1, isa().record("spread").dtype)
    for name, value in spread.items():
        record[name] = value
    memories["par_ram"][fields["par"] + 2 * fields["groups"], :8] = record.view(np.uint8)
    return fields | {"signed": pick(0, 1), "highest": pick(0, 255)}


def normalize(bench: Bench) -> list[int]:
    """Any values and parameters, most of them limited."""
    pick = bench.pick
    spread = {"epsilon_low": pick(0, 2**32 - 1), "epsilon_high": pick(0, 2**16 - 1), "channels": pick(0, 1023)}
    fields = norm_fields(bench, spread)
    shift, post_shift = int(bench.random.choice([0, 24, 30, 40])), pick(0, 40)
    return [codec.normalize(**(fields | source_fields(bench, fields)), shift=shift, post_shift=post_shift)]


def normalize_rows(bench: Bench) -> list[int]:
    """Values and gains as models have them: results spread over their range, some rows are equal values or zero."""
    pick, random, memories = bench.pick, bench.random, bench.golden.memories
    make_ties(bench)
    for name in ("acc_d_ram", "acc_l_ram", "sum_ram"):
        values = memories[name].view("<i4")
        values[...] = np.where(random.random((len(values), 1)) < 0.2, pick(-3, 3), values << pick(0, 5))
    gains = memories["par_ram"].view(isa().record("gain").dtype)
    fields = norm_fields(bench, {"epsilon_low": pick(0, 1) * pick(0, 2**20)})
    place = fields["par"]
    gains[place + fields["groups"] : place + 2 * fields["groups"]]["gain"] = pick(-(2**15), 2**15 - 1)
    channels = 8 * fields["groups"] * pick(0, 1)
    spread = memories["par_ram"][place + 2 * fields["groups"], :8].view(isa().record("spread").dtype)
    spread["channels"] = channels
    post_shift = pick(14, 22) - (0 if channels else 3)
    return [codec.normalize(**(fields | source_fields(bench, fields)), shift=pick(0, 1), post_shift=post_shift)]


MAKERS = [
    load_function,
    requantize_function,
    requantize_function_ties,
    combine_function,
    combine_function_ties,
    requantize_joined_function,
    requantize_joined_function_ties,
    normalize,
    normalize_rows,
]


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("maker", MAKERS, ids=lambda maker: maker.__name__)
def test_all_executions_agree(
    maker: Callable[[Bench], list[int]],
    seed: int,
    small_geometry: Geometry,
    small_checked_emulators: dict[str, Emulator],
) -> None:
    bench = Bench(small_geometry, small_checked_emulators, np.random.default_rng(4000 + seed))
    words = maker(bench)
    bench.compare(words)
    expected = expected_records(pack(words), np.zeros(0, np.uint8), small_geometry)
    assert np.array_equal(small_checked_emulators["native"].run_log(), expected)


def test_scores_of_a_vertex_take_a_beat(small_geometry: Geometry) -> None:
    """Rows of four int16, stored one behind the other."""
    machine = GoldenMachine(small_geometry)
    dram = np.zeros(256, np.uint8)
    machine.map_memory(0, dram)
    machine.segments = {"output": (0, 256)}
    scores = np.random.default_rng(1).integers(-40_000, 40_000, (6, 16))
    machine.memories["acc_d_ram"][:6] = scores.astype("<i4").view(np.uint8)
    machine.memories["par_ram"].view(isa().record("parameter").dtype)["multiplier"] = 1
    rows = {"rows": 6, "groups": 1, "row_blocks": 0, "row_words": 1, "acc": 0, "par": 0, "out": 3, "core": 0}
    made = codec.requantize_function(**rows, mapped=0, signed=1, from_sum=0, width=15, table=0, shift=0)
    stored = codec.store_runs(
        ram=3, banks=1, columns=5, ram_banks=1, row_beats=1, joined=1, pixel_stride=6, stride_blocks=0,
        address=program_address(Segment.OUTPUT, 8),
    )  # fmt: skip
    machine.run(b"".join(word.to_bytes(16, "little") for word in (made, stored)))
    found = dram[8 : 8 + 48].view("<i2").reshape(6, 4)
    assert np.array_equal(found, np.clip(scores[:, :4], -(2**15), 2**15 - 1))
    assert not dram[56:].any()


FUNCTION = {
    "acc": 0, "par": 0, "out": 0, "core": 0, "signed": 1, "from_sum": 0, "rows": 2, "groups": 2, "row_blocks": 0,
    "row_words": 4, "shift": 0,
}  # fmt: skip
ENDS = {"mapped": 1, "width": 7, "table": 0}
NORM = {"highest": 9, "post_shift": 0}
#: What is wrong: the instruction, what it uses, what is expected.
PROBLEMS = {
    "a wide table": (
        codec.requantize_function(**FUNCTION, **(ENDS | {"width": 12})),
        "a table of 13 bits from word 0 of fun_ram on",
        "at most 12 bits, within 512 words",
    ),
    "a table beyond the end": (
        codec.requantize_function(**FUNCTION, **(ENDS | {"width": 11, "table": 1})),
        "a table of 12 bits from word 32 of fun_ram on",
        "at most 12 bits, within 512 words",
    ),
    "no group": (
        codec.normalize(**(FUNCTION | {"groups": 0}), **NORM),
        "2 rows of 0 groups to normalize",
        "at least 1 group, and at most 40 words",
    ),
    "more rows than VEC keeps": (
        codec.normalize(**(FUNCTION | {"rows": 21}), **NORM),
        "21 rows of 2 groups to normalize",
        "at least 1 group, and at most 40 words",
    ),
}


@pytest.fixture(params=list(Bodies), ids=lambda bodies: bodies.value)
def device(small_geometry: Geometry, request: pytest.FixtureRequest) -> Iterator[Device]:
    """A device of the small design, with each kind of bodies; a fault is the last thing that it does."""
    with Emulator(build_emulator(small_geometry, bodies=request.param), small_geometry) as emulator:
        yield Device(emulator)


@pytest.mark.parametrize("problem", PROBLEMS)
def test_both_refuse_it_in_the_same_words(problem: str, small_geometry: Geometry, device: Device) -> None:
    word, found, expected = PROBLEMS[problem]
    with pytest.raises(StreamInvalidError) as error:
        GoldenMachine(small_geometry).run(pack([word]).tobytes())
    assert error.value.found.endswith(f") uses {found}")
    assert error.value.expected == expected
    assert device.run([word]) is Progress.FAULT
    assert device.emulator.message().endswith(f"instruction 0: {found}, not {expected}")


@pytest.mark.parametrize(("mapped", "words", "found"), [(1, 1, "16 bytes in 1 words"), (0, 2, "24 bytes in 2 words")])
def test_results_that_do_not_fit_their_row(
    mapped: int, words: int, found: str, small_geometry: Geometry, device: Device
) -> None:
    word = codec.requantize_function(**(FUNCTION | {"row_words": words}), **(ENDS | {"mapped": mapped}))
    with pytest.raises(StreamInvalidError, match=found):
        GoldenMachine(small_geometry).run(pack([word]).tobytes())
    assert device.run([word]) is Progress.FAULT
    assert device.emulator.message().endswith(f"words of results in {words} words of an output row")


def test_a_design_without_functions_refuses_them(small_geometry: Geometry) -> None:
    machine = GoldenMachine(replace(small_geometry, fun_words=0, norm_words=0))
    with pytest.raises(StreamInvalidError, match="uses results of 16 bits or a table"):
        machine.run(codec.requantize_function(**FUNCTION, **ENDS).to_bytes(16, "little"))
    with pytest.raises(StreamInvalidError, match="2 rows of 2 groups"):
        machine.run(codec.normalize(**FUNCTION, **NORM).to_bytes(16, "little"))
