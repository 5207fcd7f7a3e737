# SPDX-License-Identifier: Apache-2.0
"""The golden model against the definitions in plain Python loops, its order of execution and its errors."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction

import numpy as np
import numpy.typing as npt
import pytest

from hetfab.overlay.design import Geometry, default_design
from hetfab.overlay.errors import StreamInvalidError
from hetfab.overlay.isa import codec
from hetfab.overlay.isa.arithmetic import reciprocals
from hetfab.overlay.isa.codec import Engine, Segment
from hetfab.overlay.isa.golden import GoldenMachine
from hetfab.overlay.isa.words import pack, program_address

DEFAULT = default_design().geometry
SMALL = replace(
    DEFAULT, gemm_d_rows=2, gemm_d_cols=16, gemm_l_rows=3, gemm_l_cols=8, act_d_words=64, act_l_words=32,
    wgt_d_words=64, wgt_l_words=64, par_words=8, acc_d_words=16, acc_l_words=32, sum_words=64, out_words=128,
    agg_contexts=2, agg_groups=4,
)  # fmt: skip
GEOMETRIES = pytest.mark.parametrize("geometry", [DEFAULT, SMALL], ids=["default", "small"])
BASE = 0x1000_0000
SIZE = 1 << 16


def wrapped(value: int) -> int:
    return (value + 2**31) % 2**32 - 2**31


def limited(value: int, low: int, high: int) -> int:
    return min(max(value, low), high)


def instruction(word: int) -> bytes:
    return word.to_bytes(16, "little")


def machine_of(geometry: Geometry) -> tuple[GoldenMachine, npt.NDArray[np.uint8]]:
    """A machine whose segments all lie in one buffer; segment i starts at i * SIZE."""
    machine = GoldenMachine(geometry)
    dram = np.zeros(8 * SIZE, np.uint8)
    machine.map_memory(BASE, dram)
    machine.segments = {s.name.lower(): (BASE + s.value * SIZE, SIZE) for s in Segment}
    return machine, dram


def put(machine: GoldenMachine, memory: str, first: int, values: npt.NDArray[np.generic]) -> None:
    """Writes an array to consecutive words."""
    flat = machine.memories[memory].reshape(-1)
    start = first * machine.memories[memory].shape[1]
    content = np.frombuffer(values.tobytes(), np.uint8)
    flat[start : start + len(content)] = content


def words(machine: GoldenMachine, memory: str, first: int, count: int, dtype: str) -> list[int]:
    view = machine.memories[memory][first : first + count].view(dtype).reshape(-1)
    return [int(value) for value in view]


def filled(machine: GoldenMachine) -> None:
    """Fills all memories, so that what an operation leaves alone can be told from zeros that it writes."""
    for memory in machine.memories.values():
        memory[...] = 0xA5


def others_are_untouched(machine: GoldenMachine, *written: str) -> None:
    assert all(set(m.reshape(-1).tolist()) <= {0xA5} for name, m in machine.memories.items() if name not in written)


@GEOMETRIES
@pytest.mark.parametrize(
    ("operation", "memory"),
    [("load_weights", "wgt_d_ram"), ("load_planes", "wgt_l_ram"), ("load_parameters", "par_ram")],
)
def test_loads_copy_words(geometry: Geometry, operation: str, memory: str) -> None:
    machine, dram = machine_of(geometry)
    filled(machine)
    dram[:] = np.random.default_rng(0).integers(0, 256, len(dram))
    address = program_address(Segment.FEATURES, 128)
    machine.execute(instruction(getattr(codec, operation)(ram=2, words=3, address=address)))
    start, size = Segment.FEATURES * SIZE + 128, geometry.word_bytes(memory)
    content = machine.memories[memory]
    assert content[2:5].tobytes() == dram[start : start + 3 * size].tobytes()
    assert set(content[:2].reshape(-1).tolist()) | set(content[5:].reshape(-1).tolist()) == {0xA5}
    others_are_untouched(machine, memory)


@GEOMETRIES
@pytest.mark.parametrize(("to_d", "to_l"), [(1, 0), (0, 1), (1, 1), (0, 0)])
@pytest.mark.parametrize("packed", [0, 1])
def test_activations_go_to_banks_by_the_row(geometry: Geometry, to_d: int, to_l: int, packed: int) -> None:
    """Byte by byte: a row is a bank, a bank's words are beats for GEMM-D and slices of 32 channels for GEMM-L."""
    machine, dram = machine_of(geometry)
    filled(machine)
    dram[:] = np.random.default_rng(0).integers(0, 256, len(dram))
    rows, row_blocks = geometry.gemm_l_rows + 1, 2
    word = codec.load_activations(
        ram_d=3, ram_l=5, to_d=to_d, to_l=to_l, packed=packed, rows=rows, row_blocks=row_blocks, stride_blocks=5,
        address=program_address(Segment.FEATURES, 128),
    )  # fmt: skip
    expected = {name: machine.memories[name].copy() for name in ("act_d_ram", "act_l_ram")}
    for row in range(rows):
        start = Segment.FEATURES * SIZE + 128 + row * 320
        content = [int(byte) for byte in dram[start : start + 128]]
        if to_d:
            block, bank = divmod(row, geometry.gemm_d_rows)
            for i, byte in enumerate(content):
                expected["act_d_ram"][3 + block * 16 + i // 8, 8 * bank + i % 8] = byte
        if to_l:
            block, bank = divmod(row, geometry.gemm_l_rows)
            nibbles = [nibble for byte in content for nibble in (byte & 15, byte >> 4)]
            if not packed:
                # Of every 32 channels the high halves, then the low halves.
                halves = [nibbles[first : first + 64] for first in range(0, 256, 64)]
                nibbles = [nibble for half in halves for nibble in half[1::2] + half[0::2]]
            for i, (low, high) in enumerate(zip(nibbles[0::2], nibbles[1::2], strict=True)):
                expected["act_l_ram"][5 + block * 8 + i // 16, 16 * bank + i % 16] = low | high << 4
    machine.execute(instruction(word))
    for name, memory in expected.items():
        assert np.array_equal(machine.memories[name], memory), name
    others_are_untouched(machine, "act_d_ram", "act_l_ram")


@GEOMETRIES
@pytest.mark.parametrize("beats", [8, 5, 11])
def test_stores_scatter_rows_and_leave_the_gaps(geometry: Geometry, beats: int) -> None:
    """Rows of out_ram begin a whole number of blocks apart."""
    machine, dram = machine_of(geometry)
    blocks = -(-beats // 8)
    content = np.random.default_rng(1).integers(1, 256, (2, 64 * blocks)).astype(np.uint8)
    put(machine, "out_ram", 4, content)
    dram[:] = 0
    address = program_address(Segment.OUTPUT, 72)
    machine.execute(instruction(codec.store_rows(ram=4, rows=2, row_beats=beats, stride_blocks=3, address=address)))
    start = Segment.OUTPUT * SIZE + 72
    for row in range(2):
        first = start + 192 * row
        assert dram[first : first + 8 * beats].tobytes() == content[row, : 8 * beats].tobytes()
    assert np.count_nonzero(dram) == 2 * 8 * beats


def halved(value: int, bits: int) -> int:
    """The two's complement value of some bits."""
    return value - (1 << bits) if value >> bits - 1 else value


@dataclass
class Product:
    """Operands of a product in plain integers, ``[rows, depth]`` and ``[depth, channels]``, and its first words."""

    machine: GoldenMachine
    memory: str
    rows: int
    groups: int
    acc: npt.NDArray[np.int32]

    def expect(self, activations: list[list[int]], weights: list[list[int]], accumulate: int, offset: int) -> None:
        """Compares the accumulators with ``sum(x * w) + offset * sum(w)``, wrapped, and what is before and behind.

        Args:
            activations: x as the array takes it.
            weights: As stored.
            accumulate: Whether the old values are added.
            offset: What an operand's offset adds per weight.
        """
        expected = [
            wrapped(
                sum(x * weight[c] for x, weight in zip(row, weights, strict=True))
                + offset * sum(weight[c] for weight in weights)
                + (int(self.acc[r, c]) if accumulate else 0)
            )
            for r, row in enumerate(activations)
            for c in range(self.acc.shape[1])
        ]
        count = self.rows * self.groups
        assert words(self.machine, self.memory, 1, count, "<i4") == expected
        content = self.machine.memories[self.memory]
        assert not content[0].any() and not content[1 + count :].any()


def product(geometry: Geometry, memory: str, columns: int, rows: int, random: np.random.Generator) -> Product:
    machine, _ = machine_of(geometry)
    acc = random.integers(-(2**31), 2**31, (rows, 2 * columns)).astype("<i4")
    acc[0, :4] = [2**31 - 1, -(2**31), 2**31 - 1, -(2**31)]
    put(machine, memory, 1, acc)
    return Product(machine, memory, rows, 2, acc)


def put_rows(product: Product, memory: str, first: int, rows: list[bytes], bank_bytes: int) -> None:
    """Lays rows out in banks, byte by byte."""
    content = product.machine.memories[memory]
    banks = content.shape[1] // bank_bytes
    for row, values in enumerate(rows):
        block, bank = divmod(row, banks)
        for i, value in enumerate(values):
            place = first + block * (len(values) // bank_bytes) + i // bank_bytes
            content[place, bank_bytes * bank + i % bank_bytes] = value


def nibble_bytes(values: list[int]) -> bytes:
    """Two values a byte, the even one in the low nibble."""
    return bytes(low & 15 | (high & 15) << 4 for low, high in zip(values[0::2], values[1::2], strict=True))


@GEOMETRIES
@pytest.mark.parametrize("packed", [0, 1])
@pytest.mark.parametrize("unsigned", [0, 1])
@pytest.mark.parametrize("accumulate", [0, 1])
def test_matmul_is_its_definition(geometry: Geometry, packed: int, unsigned: int, accumulate: int) -> None:
    random = np.random.default_rng(2)
    columns, beats, bits = geometry.gemm_d_cols, 3, 4 if packed else 8
    rows, depth = geometry.gemm_d_rows + 1, beats * 64 // bits
    case = product(geometry, "acc_d_ram", columns, rows, random)
    stored = random.integers(0, 1 << bits, (rows, depth)).tolist()
    weights = random.integers(1 - (1 << bits - 1), 1 << bits - 1, (depth, 2 * columns)).tolist()
    rows_bytes = [nibble_bytes(row) if packed else bytes(row) for row in stored]
    put_rows(case, "act_d_ram", 5, rows_bytes, 8)
    # A word is a step: 32 bits of each column, column group by column group.
    step = 32 // bits
    for number in range(2 * 2 * beats):
        group, k = divmod(number, 2 * beats)
        for column in range(columns):
            values = [weights[k * step + i][group * columns + column] for i in range(step)]
            content = nibble_bytes(values) if packed else bytes(value & 255 for value in values)
            case.machine.memories["wgt_d_ram"][7 + number, 4 * column : 4 * column + 4] = list(content)
    word = codec.matmul(
        act=5, wgt=7, accumulate=accumulate, unsigned=unsigned, packed=packed, acc=1, rows=rows, row_beats=beats,
        col_groups=2,
    )  # fmt: skip
    case.machine.execute(instruction(word))
    # Unsigned activations lose half of their range: their product is that of the values as they are, less it.
    values = stored if unsigned else [[halved(value, bits) for value in row] for row in stored]
    case.expect(values, weights, accumulate, -(1 << bits - 1) if unsigned else 0)


@pytest.mark.parametrize(("packed", "narrow", "smallest"), [(0, 0x81, 0x80), (1, 0x97, 0x87)])
def test_matmul_refuses_weights_that_are_not_narrow(packed: int, narrow: int, smallest: int) -> None:
    machine, _ = machine_of(SMALL)
    fields = {"act": 0, "wgt": 0, "accumulate": 0, "unsigned": 0, "packed": packed, "acc": 0, "rows": 1}
    word = codec.matmul(**fields, row_beats=1, col_groups=1)
    machine.memories["wgt_d_ram"][1, 5] = narrow
    machine.execute(instruction(word))
    machine.memories["wgt_d_ram"][1, 5] = smallest
    with pytest.raises(StreamInvalidError) as error:
        machine.execute(instruction(word))
    bits = 4 if packed else 8
    assert error.value.found == f"instruction 0 (matmul) uses a weight of {-(1 << bits - 1)}"
    assert error.value.expected == f"narrow weights of {bits} bits"


@GEOMETRIES
@pytest.mark.parametrize("slices", [1, 2])
@pytest.mark.parametrize("unsigned", [0, 1])
@pytest.mark.parametrize("accumulate", [0, 1])
@pytest.mark.parametrize(("planes", "bipolar"), [(1, 1), (1, 0), (2, 0), (5, 0), (8, 0)])
def test_matmul_planes_is_its_definition(
    geometry: Geometry, slices: int, unsigned: int, accumulate: int, planes: int, bipolar: int
) -> None:
    random = np.random.default_rng(3)
    columns, row_words, bits = geometry.gemm_l_cols, 2, 4 * slices
    rows, depth = geometry.gemm_l_rows + 1, 32 * row_words
    case = product(geometry, "acc_l_ram", columns, rows, random)
    stored = random.integers(0, 1 << bits, (rows, depth)).tolist()
    patterns = random.integers(0, 1 << planes, (depth, 2 * columns)).tolist()
    # Of every 32 channels the high slices, then the low slices.
    runs = [[row[first : first + 32] for first in range(0, depth, 32)] for row in stored]
    high_first = [
        [value >> 4 * s & 15 for run in row for s in reversed(range(slices)) for value in run] for row in runs
    ]
    put_rows(case, "act_l_ram", 3, [nibble_bytes(row) for row in high_first], 16)
    # A word is one plane of 32 channels: a bit of each, most significant plane first.
    for number in range(2 * row_words * planes):
        rest, plane = divmod(number, planes)
        group, k = divmod(rest, row_words)
        for column in range(columns):
            chosen = [pattern[group * columns + column] for pattern in patterns[32 * k : 32 * k + 32]]
            bits_of = sum((pattern >> planes - 1 - plane & 1) << i for i, pattern in enumerate(chosen))
            content = list(bits_of.to_bytes(4, "little"))
            case.machine.memories["wgt_l_ram"][9 + number, 4 * column : 4 * column + 4] = content
    word = codec.matmul_planes(
        act=3, wgt=9, accumulate=accumulate, unsigned=unsigned, bipolar=bipolar, slices=slices, planes=planes, acc=1,
        rows=rows, row_words=row_words, col_groups=2,
    )  # fmt: skip
    case.machine.execute(instruction(word))
    # Signed activations gain half of their range. A channel that bipolar weights take away enters as what it lacks
    # to the largest value: x * -1 + the largest.
    half, largest = 1 << bits - 1, (1 << bits) - 1
    entered = stored if unsigned else [[halved(value, bits) + half for value in row] for row in stored]
    if bipolar:
        weights = [[1 if bit else -1 for bit in row] for row in patterns]
        lacking = [sum(weight[c] < 0 for weight in weights) for c in range(2 * columns)]
        case.acc = case.acc.astype(np.int64) * accumulate + largest * np.array(lacking)
        case.expect(entered, weights, 1, 0)
    else:
        weights = [[halved(value, planes) for value in row] for row in patterns]
        case.expect(entered, weights, accumulate, 0)


def test_sums_of_matmul_planes_wrap_at_their_width() -> None:
    """In the array, before they are added to the accumulators; at the width that the design chose."""
    machine, _ = machine_of(replace(SMALL, act_l_words=2200, wgt_l_words=2200, gemm_l_acc_bits=24))
    machine.memories["act_l_ram"][...] = 0xFF
    put(machine, "wgt_l_ram", 0, np.tile(np.array([[0] * 32, [255] * 32], np.uint8), (1100, 1)))
    words_of_row = 1100
    word = codec.matmul_planes(
        act=0, wgt=0, accumulate=1, unsigned=1, bipolar=0, slices=2, planes=2, acc=0, rows=1, row_words=words_of_row,
        col_groups=1,
    )  # fmt: skip
    put(machine, "acc_l_ram", 0, np.array([7], "<i4"))
    machine.execute(instruction(word))
    total = 255 * 32 * words_of_row
    assert total > 1 << 23
    assert words(machine, "acc_l_ram", 0, 1, "<i4")[:2] == [7 + total - (1 << 24), total - (1 << 24)]


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ({"row_words": 0}, "row_words 0, slices 1, planes 1, bipolar 0"),
        ({"slices": 0}, "row_words 2, slices 0, planes 1, bipolar 0"),
        ({"slices": 3}, "row_words 2, slices 3, planes 1, bipolar 0"),
        ({"planes": 0}, "row_words 2, slices 1, planes 0, bipolar 0"),
        ({"planes": 9}, "row_words 2, slices 1, planes 9, bipolar 0"),
        ({"planes": 2, "bipolar": 1}, "row_words 2, slices 1, planes 2, bipolar 1"),
    ],
)
def test_shapes_that_gemm_l_does_not_have_are_refused(change: dict[str, int], found: str) -> None:
    fields = {"act": 0, "wgt": 0, "accumulate": 0, "unsigned": 0, "acc": 0, "rows": 1, "col_groups": 1}
    shape = {"row_words": 2, "slices": 1, "planes": 1, "bipolar": 0}
    error = failure(codec.matmul_planes(**fields, **{**shape, **change}))
    assert error.found == f"instruction 1 (matmul_planes) uses {found}"
    assert error.expected == "at least 1 word, 1 or 2 slices, 1 to 8 planes, 1 when bipolar"


def test_a_matmul_of_no_channels_is_refused() -> None:
    fields = {"act": 0, "wgt": 0, "accumulate": 0, "unsigned": 0, "packed": 0, "acc": 0, "rows": 1, "col_groups": 1}
    error = failure(codec.matmul(**fields, row_beats=0))
    assert error.found == "instruction 1 (matmul) uses rows of 0 beats"
    assert error.expected == "at least 1"


@dataclass
class VecTile:
    """Operands of the vector operations, in plain integers, and the machine that holds them."""

    machine: GoldenMachine
    core: int
    rows: int
    groups: int
    acc: npt.NDArray[np.int32]
    sums: npt.NDArray[np.int32]
    bias: npt.NDArray[np.int32]
    multiplier: npt.NDArray[np.uint16]
    place: dict[str, int] = field(default_factory=lambda: {"acc": 2, "out": 8, "par": 1, "row_blocks": 2})

    @property
    def channels(self) -> int:
        return self.groups * self.machine.geometry.lanes

    def fields(self, row_words: int) -> dict[str, int]:
        shape = {"core": self.core % 2, "rows": self.rows, "groups": self.groups, "row_words": row_words}
        return self.place | shape

    def q8(self, row: int, channel: int, shift: int) -> int:
        biased = wrapped(int(self.acc[row, channel]) + int(self.bias[channel]))
        term = round(Fraction(biased * int(self.multiplier[channel]), 2**shift))
        return wrapped(int(self.sums[row, channel]) + limited(term, -(2**23), 2**23 - 1))

    def joined(self, row: int, channel: int, shift: int) -> int:
        total = wrapped(int(self.acc[row, channel]) + int(self.sums[row, channel]))
        biased = wrapped(total + int(self.bias[channel]))
        return round(Fraction(biased * int(self.multiplier[channel]), 2**shift))

    def expect(self, values: Sequence[Sequence[int]], row_words: int, *, bits: int) -> None:
        """Compares out_ram: values of 4, 8 or 32 bits, zeros up to row_words, and nothing else touched."""
        word_bytes = self.machine.geometry.word_bytes("out_ram")
        expected = np.full_like(self.machine.memories["out_ram"], 0xA5)
        flat = expected.reshape(-1)
        for row, own in enumerate(values):
            if bits == 4:
                data = nibble_bytes([*own, *([0] * (len(own) % 2))])
            else:
                data = b"".join((value & (1 << bits) - 1).to_bytes(bits // 8, "little") for value in own)
            content = data.ljust(row_words * word_bytes, b"\0")
            start = self.place["out"] * word_bytes + row * 64 * self.place["row_blocks"]
            flat[start : start + len(content)] = list(content)
        assert np.array_equal(self.machine.memories["out_ram"], expected)


#: Words of rows of three groups, without and with zeros behind them: of bytes, of nibbles, of int32.
ROW_WORDS = {8: (3, 7), 4: (2, 5), 32: (12, 14)}


def vec_tile(geometry: Geometry, seed: int, core: int) -> VecTile:
    machine, _ = machine_of(geometry)
    random = np.random.default_rng(seed)
    rows, groups = 3, 3
    memory, columns = {
        0: ("acc_d_ram", geometry.gemm_d_cols),
        1: ("acc_l_ram", geometry.gemm_l_cols),
        FROM_SUM: ("sum_ram", geometry.lanes),
    }[core]
    channels = groups * geometry.lanes
    held = -(-channels // columns) * columns
    tile = VecTile(
        machine,
        core,
        rows,
        groups,
        random.integers(-(2**20), 2**20, (rows, held)).astype(np.int32),
        random.integers(-(2**15), 2**15, (rows, channels)).astype(np.int32),
        random.integers(-(2**16), 2**16, channels).astype(np.int32),
        random.integers(0, 2**16, channels).astype(np.uint16),
    )
    tile.acc[0, :3] = [2**31 - 1, -(2**31), 2**30]
    tile.sums[0, :3] = [2**31 - 1, -(2**31), 0]
    parameters = np.zeros(channels, [("bias", "<i4"), ("multiplier", "<u2"), ("zero", "<u2")])
    parameters["bias"], parameters["multiplier"] = tile.bias, tile.multiplier
    # Rows of sum_ram are five words apart, of which three are this tile's.
    for row in range(rows):
        put(machine, "sum_ram", 9 + 5 * row, tile.sums[row])
    put(machine, memory, 2, tile.acc)
    put(machine, "par_ram", 1, parameters)
    machine.memories["out_ram"][...] = 0xA5
    return tile


def limits(bits: int, relu: int, unsigned: int) -> tuple[int, int]:
    """Smallest and largest result of a width."""
    if unsigned:
        return 0, 2**bits - 1
    return (0 if relu else -(2 ** (bits - 1))), 2 ** (bits - 1) - 1


#: Accumulators that are sums of AGG, in place of a core's.
FROM_SUM = 2
SOURCES_OF_ACC = pytest.mark.parametrize("core", [0, 1, FROM_SUM], ids=["gemm_d", "gemm_l", "sums"])
CORES = pytest.mark.parametrize("core", [0, 1], ids=["gemm_d", "gemm_l"])
FORMS = pytest.mark.parametrize(("bits", "packed"), [(1, 0), (2, 1), (4, 0), (4, 1), (7, 0), (8, 0)])


@GEOMETRIES
@SOURCES_OF_ACC
@pytest.mark.parametrize("relu", [0, 1])
@pytest.mark.parametrize("unsigned", [0, 1])
@pytest.mark.parametrize("shift", [0, 1, 28])
@FORMS
def test_requantize_is_its_definition(
    geometry: Geometry, core: int, relu: int, unsigned: int, shift: int, bits: int, packed: int
) -> None:
    low, high = limits(bits, relu, unsigned)
    stored = 4 if packed else 8
    for row_words in ROW_WORDS[stored]:
        tile = vec_tile(geometry, 3, core)
        flags = {"signed": int(low < 0), "highest": high, "packed": packed, "to_exp": 0}
        flags |= {"from_sum": int(core == FROM_SUM), "shift": shift}
        tile.machine.execute(instruction(codec.requantize(**flags, **tile.fields(row_words))))
        biased = [[wrapped(int(tile.acc[r, c]) + int(tile.bias[c])) for c in range(tile.channels)] for r in range(3)]
        scaled = [
            [round(Fraction(value * int(m), 2**shift)) for value, m in zip(row, tile.multiplier, strict=True)]
            for row in biased
        ]
        tile.expect([[limited(value, low, high) for value in row] for row in scaled], row_words, bits=stored)


@GEOMETRIES
@CORES
@pytest.mark.parametrize(("relu", "unsigned"), [(0, 0), (1, 0), (1, 1)])
@pytest.mark.parametrize("shift", [0, 1, 28])
@FORMS
def test_requantize_joined_is_its_definition(
    geometry: Geometry, core: int, relu: int, unsigned: int, shift: int, bits: int, packed: int
) -> None:
    low, high = limits(bits, relu, unsigned)
    stored = 4 if packed else 8
    for row_words in ROW_WORDS[stored]:
        tile = vec_tile(geometry, 7, core)
        word = codec.requantize_joined(
            sum=9, sum_groups=4, signed=int(low < 0), highest=high, packed=packed, shift=shift,
            **tile.fields(row_words),
        )  # fmt: skip
        tile.machine.execute(instruction(word))
        rows, channels = range(tile.rows), range(tile.channels)
        results = [[limited(tile.joined(r, c, shift), low, high) for c in channels] for r in rows]
        tile.expect(results, row_words, bits=stored)


@GEOMETRIES
@CORES
@pytest.mark.parametrize("with_acc", [0, 1])
@pytest.mark.parametrize(("relu", "unsigned"), [(0, 0), (1, 0), (1, 1)])
@pytest.mark.parametrize("post_shift", [0, 15, 23, 31])
@FORMS
def test_combine_is_its_definition(
    geometry: Geometry, core: int, with_acc: int, relu: int, unsigned: int, post_shift: int, bits: int, packed: int
) -> None:
    low, high = limits(bits, relu, unsigned)
    stored = 4 if packed else 8
    for row_words in ROW_WORDS[stored]:
        tile = vec_tile(geometry, 4, core)
        word = codec.combine(
            sum=9, sum_groups=4, signed=int(low < 0), highest=high, packed=packed, with_acc=with_acc, shift=22,
            post_shift=post_shift, **tile.fields(row_words),
        )  # fmt: skip
        tile.machine.execute(instruction(word))
        expected = []
        for r in range(tile.rows):
            q8 = [tile.q8(r, c, 22) if with_acc else int(tile.sums[r, c]) for c in range(tile.channels)]
            expected.append([limited(round(Fraction(v * 2**15, 2**post_shift)), low, high) for v in q8])
        tile.expect(expected, row_words, bits=stored)


@GEOMETRIES
@CORES
@pytest.mark.parametrize("with_acc", [0, 1])
@pytest.mark.parametrize("row_words", ROW_WORDS[32])
def test_export_sums_is_its_definition(geometry: Geometry, core: int, with_acc: int, row_words: int) -> None:
    tile = vec_tile(geometry, 5, core)
    word = codec.export_sums(sum=9, sum_groups=4, with_acc=with_acc, shift=3, **tile.fields(row_words))
    tile.machine.execute(instruction(word))
    rows, channels = range(tile.rows), range(tile.channels)
    expected = [[tile.q8(r, c, 3) if with_acc else int(tile.sums[r, c]) for c in channels] for r in rows]
    tile.expect(expected, row_words, bits=32)


@GEOMETRIES
@SOURCES_OF_ACC
@pytest.mark.parametrize("row_words", ROW_WORDS[32])
def test_export_accumulators_is_its_definition(geometry: Geometry, core: int, row_words: int) -> None:
    tile = vec_tile(geometry, 6, core)
    from_sum = int(core == FROM_SUM)
    tile.machine.execute(instruction(codec.export_accumulators(from_sum=from_sum, **tile.fields(row_words))))
    rows, channels = range(tile.rows), range(tile.channels)
    expected = [[wrapped(int(tile.acc[r, c]) + int(tile.bias[c])) for c in channels] for r in rows]
    tile.expect(expected, row_words, bits=32)


DEGREES = [3, 0, 1, 0, 0, 7, 2]
SOURCES = 40


@dataclass
class Relation:
    """A relation in the machine's DRAM, with a gap of unused ids before the edges."""

    machine: GoldenMachine
    dram: npt.NDArray[np.uint8]
    features: npt.NDArray[np.uint8]
    ids: list[int]
    first: list[int]


def relation(geometry: Geometry, id_bytes: int, slot: int = 1) -> Relation:
    machine, dram = machine_of(geometry)
    random = np.random.default_rng(7)
    features = random.integers(0, 256, (SOURCES, 128)).astype(np.uint8)
    dram[Segment.ACTIVATIONS * SIZE : Segment.ACTIVATIONS * SIZE + features.size] = features.reshape(-1)
    ids = [SOURCES - 1, *(int(i) for i in random.integers(0, SOURCES, sum(DEGREES)))]
    ids[2] = ids[1]
    first = [1 + sum(DEGREES[:i]) for i in range(len(DEGREES))]
    reciprocal, exponent = reciprocals(np.array(DEGREES))
    records = np.stack([np.array(first), np.array(DEGREES), reciprocal, exponent], axis=1).astype("<u4")
    graph = Segment.GRAPH * SIZE
    dram[graph : graph + records.nbytes] = records.view(np.uint8).reshape(-1)
    content = np.array(ids, f"<u{id_bytes}").view(np.uint8)
    dram[graph + 1024 : graph + 1024 + len(content)] = content
    configures = [
        codec.configure_features(
            first_block=0,
            slot_bits=0,
            slot=slot,
            row_blocks=2,
            count=SOURCES,
            address=program_address(Segment.ACTIVATIONS, 8),
        ),
        codec.configure_destinations(slot=slot, parts=0, count=len(DEGREES), address=program_address(Segment.GRAPH, 0)),
        codec.configure_ids(slot=slot, edges=len(ids), id_bytes=id_bytes, address=program_address(Segment.GRAPH, 1024)),
    ]
    machine.run(pack(configures).tobytes())
    return Relation(machine, dram, features, ids, first)


@GEOMETRIES
@pytest.mark.parametrize("id_bytes", [2, 4])
@pytest.mark.parametrize("mode", [0, 1, 2])
@pytest.mark.parametrize(("unsigned", "accumulate"), [(0, 0), (1, 0), (0, 1)])
def test_reduce_is_its_definition(geometry: Geometry, id_bytes: int, mode: int, unsigned: int, accumulate: int) -> None:
    case = relation(geometry, id_bytes)
    channels, destination, rows = 3 * geometry.lanes, 1, len(DEGREES) - 1
    old = np.random.default_rng(8).integers(-(2**31), 2**31, (rows, channels)).astype("<i4")
    old[2:5, :2] = [2**31 - 1, -(2**31)]
    put(case.machine, "sum_ram", 4, old)
    word = codec.reduce(
        source=0, merge=0, spill=0, weighted=0, from_fifo=0,
                slot=1, rows=rows, mode=mode, unsigned=unsigned, accumulate=accumulate, groups=3,
        destination=destination, sum=4,
    )  # fmt: skip
    case.machine.execute(instruction(word))
    expected = []
    for r in range(rows):
        degree, first = DEGREES[destination + r], case.first[destination + r]
        for c in range(channels):
            values = [case.features[case.ids[e], 8 + c] for e in range(first, first + degree)]
            total = sum(int(v) if unsigned else int(v.astype(np.int8)) for v in values)
            term = [256 * total, mean_by_fractions(total, degree), total][mode]
            expected.append(wrapped(term + (int(old[r, c]) if accumulate else 0)))
    assert words(case.machine, "sum_ram", 4, rows * 3, "<i4") == expected


def mean_by_fractions(total: int, degree: int) -> int:
    """The mean as the arithmetic contract states it, on Python integers."""
    if degree == 0:
        return 0
    k = (degree - 1).bit_length()
    reciprocal = round(Fraction(1 << (16 + k), degree))
    return (total * reciprocal + (1 << (k + 7))) >> (k + 8)


def test_reduce_of_destinations_without_edges_is_zero() -> None:
    case = relation(SMALL, 2)
    put(case.machine, "sum_ram", 0, np.full(16, 77, "<i4"))
    word = codec.reduce(
        source=0,
        merge=0,
        spill=0,
        weighted=0,
        from_fifo=0,
        slot=1,
        rows=2,
        mode=1,
        unsigned=0,
        accumulate=0,
        groups=1,
        destination=3,
        sum=0,
    )
    case.machine.execute(instruction(word))
    assert words(case.machine, "sum_ram", 0, 2, "<i4") == [0] * 16


def test_configure_keeps_the_issued_instruction() -> None:
    machine, _ = machine_of(SMALL)
    address = program_address(Segment.GRAPH, 640)
    machine.execute(instruction(codec.configure_ids(slot=1, edges=9, id_bytes=4, address=address, signal0=3)))
    physical = BASE + Segment.GRAPH * SIZE + 640
    issued = codec.configure_ids(slot=1, edges=9, id_bytes=4, address=physical, signal0=3)
    assert machine.memories["agg_context"][6].tobytes() == instruction(issued)
    assert not machine.memories["agg_context"][[0, 1, 2, 3, 4, 5, 7]].any()


def sync(engine: Engine, **semaphores: int) -> int:
    return codec.sync(engine=engine, **semaphores)


def test_a_program_runs_in_its_order() -> None:
    machine, dram = machine_of(SMALL)
    source, target = program_address(Segment.FEATURES, 0), program_address(Segment.FEATURES, 64)
    dram[Segment.FEATURES * SIZE : Segment.FEATURES * SIZE + 64] = 1
    put(machine, "out_ram", 0, np.full(64, 2, np.uint8))
    rows = {"rows": 1, "row_blocks": 1, "stride_blocks": 1}
    both = {"to_d": 1, "to_l": 1, "packed": 1}
    program = [
        codec.load_planes(ram=0, words=2, address=target, signal0=1),
        codec.store_rows(ram=0, rows=1, row_beats=8, stride_blocks=1, address=target, wait0=1, signal0=2, signal1=3),
        codec.load_activations(**rows, **both, ram_d=0, ram_l=0, address=source),
        codec.load_activations(**rows, **both, ram_d=8, ram_l=4, address=target, wait0=2, wait1=3),
    ]
    machine.run(pack(program).tobytes())
    assert set(words(machine, "wgt_l_ram", 0, 2, "<u1")) == {0}
    for memory, count in (("act_d_ram", 8), ("act_l_ram", 4)):
        size = {"act_d_ram": 8, "act_l_ram": 16}[memory]
        first_bank = machine.memories[memory][: 2 * count, :size]
        assert [set(first_bank[i].tolist()) for i in range(2 * count)] == [{1}] * count + [{2}] * count


def test_signals_are_counted() -> None:
    machine, _ = machine_of(SMALL)
    program = [
        sync(Engine.LOAD, signal0=5, signal1=5),
        sync(Engine.VEC, wait0=5),
        sync(Engine.VEC, wait0=5),
        sync(Engine.VEC, wait0=5),
    ]
    machine.run(pack(program[:3]).tobytes())
    with pytest.raises(StreamInvalidError) as error:
        machine.run(pack(program).tobytes())
    assert str(error.value) == (
        "instruction 3 (sync) waits for semaphore 5 without an earlier signal of its own\n"
        "  expected: an earlier signal for every wait, the n-th for the n-th\n"
        "  do: signal the semaphore before the wait in program order"
    )


@pytest.mark.parametrize(
    "program",
    [
        [sync(Engine.AGG, wait1=31), sync(Engine.VEC, signal0=31)],
        [sync(Engine.AGG, wait1=31, signal0=31)],
        [sync(Engine.AGG, wait0=31, wait1=31)],
    ],
    ids=["later", "own", "twice"],
)
def test_a_wait_needs_a_signal_before_it(program: list[int]) -> None:
    machine, _ = machine_of(SMALL)
    with pytest.raises(StreamInvalidError, match=r"instruction 0 \(sync\) waits for semaphore 31 "):
        machine.run(pack(program).tobytes())


def test_a_program_is_whole_instructions() -> None:
    with pytest.raises(StreamInvalidError, match="the program has 17 bytes"):
        machine_of(SMALL)[0].run(bytes(17))


def failure(word: int, geometry: Geometry = SMALL) -> StreamInvalidError:
    with pytest.raises(StreamInvalidError) as error:
        machine_of(geometry)[0].run(pack([sync(Engine.LOAD), word]).tobytes())
    return error.value


def test_an_unknown_engine_is_refused() -> None:
    error = failure(9)
    assert str(error) == (
        "instruction 1 uses engine 9\n"
        "  expected: an engine of the design: load, store, gemm_d, gemm_l, vec, agg\n"
        "  do: correct the program, or report this if hetfab compiled it"
    )


def test_an_engine_that_the_design_lacks_is_refused() -> None:
    error = failure(sync(Engine.AGG), replace(SMALL, engines=("load", "store", "gemm_d", "vec")))
    assert error.found == "instruction 1 uses engine agg"
    assert error.expected == "an engine of the design: load, store, gemm_d, vec"


def test_an_unknown_opcode_is_refused() -> None:
    error = failure(Engine.STORE | 7 << 4)
    assert error.found == "instruction 1 uses opcode 7 of engine store"
    assert error.expected == "one of: 0 sync, 1 store_rows, 2 store_runs, 3 store_middle"


def load_error(rows: int, stride_blocks: int, address: int, ram_d: int = 0, ram_l: int = 0) -> StreamInvalidError:
    place = {"ram_d": ram_d, "ram_l": ram_l, "to_d": 1, "to_l": 1, "packed": 0}
    return failure(
        codec.load_activations(**place, rows=rows, row_blocks=1, stride_blocks=stride_blocks, address=address)
    )


def test_words_beyond_a_memory_are_refused() -> None:
    error = load_error(ram_d=57, rows=1, stride_blocks=1, address=0)
    assert error.found == "instruction 1 (load_activations) uses words 57 to 64 of act_d_ram"
    assert error.expected == "words below 64"
    error = load_error(ram_l=25, rows=4, stride_blocks=1, address=0)
    assert error.found == "instruction 1 (load_activations) uses words 25 to 32 of act_l_ram"


def test_an_offset_beyond_its_segment_is_refused() -> None:
    error = load_error(rows=1, stride_blocks=1, address=program_address(Segment.GRAPH, SIZE))
    assert error.found == "instruction 1 (load_activations) uses offset 65536 in segment 'graph'"
    assert error.expected == "an offset below its size, 65536 bytes"


def test_a_segment_number_beyond_the_eighth_is_refused() -> None:
    error = load_error(rows=1, stride_blocks=1, address=8 << 32)
    assert error.found == "instruction 1 (load_activations) uses segment 8"


def test_unmapped_memory_is_refused() -> None:
    error = load_error(rows=2, stride_blocks=4095, address=program_address(Segment.LOG, 0))
    first, last = BASE + 7 * SIZE, BASE + 7 * SIZE + 4095 * 64 + 63
    assert error.found == f"instruction 1 (load_activations) uses bytes {first:#x} to {last:#x} of DRAM"
    assert error.expected == "bytes of one mapped buffer"


def test_an_address_beyond_40_bits_is_refused() -> None:
    machine, _ = machine_of(SMALL)
    machine.segments["program"] = (2**40 - 64, 256)
    word = codec.load_weights(ram=0, words=1, address=64)
    with pytest.raises(StreamInvalidError, match="physical address 0x10000000000"):
        machine.execute(instruction(word))


def test_an_address_between_beats_is_refused() -> None:
    error = load_error(rows=1, stride_blocks=1, address=4)
    assert error.found == f"instruction 1 (load_activations) uses physical address {BASE + 4:#x}"
    assert error.expected == "a multiple of 8, a port's width"


def test_values_wider_than_their_row_are_refused() -> None:
    tile = {"core": 0, "acc": 0, "out": 0, "par": 0, "rows": 1, "row_blocks": 2}
    tile["from_sum"] = 0
    error = failure(codec.export_accumulators(**tile, groups=3, row_words=11))
    assert error.found == "instruction 1 (export_accumulators) uses 96 bytes in 11 words of an output row"
    flags = {"signed": 1, "highest": 7, "shift": 0, "to_exp": 0}
    error = failure(codec.requantize(**tile, **flags, packed=1, groups=3, row_words=1))
    assert error.found == "instruction 1 (requantize) uses 16 bytes in 1 words of an output row"
    assert error.expected == "values that fit the words"


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ({"mode": 3}, "mode 3"),
        ({"groups": 5}, "5 groups"),
        ({"destination": 1, "rows": 7}, "destinations up to 7"),
        ({"sum": 63, "rows": 2}, "words 63 to 64 of sum_ram"),
        ({"slot": 2}, "words 9 to 9 of agg_context"),
    ],
)
def test_reduce_refuses_what_its_context_does_not_have(change: dict[str, int], found: str) -> None:
    case = relation(SMALL, 2)
    fields = {"slot": 1, "rows": 1, "mode": 0, "unsigned": 0, "accumulate": 0, "groups": 1}
    word = codec.reduce(
        source=0, merge=0, spill=0, weighted=0, from_fifo=0, **{**fields, "destination": 0, "sum": 0, **change}
    )
    with pytest.raises(StreamInvalidError) as error:
        case.machine.execute(instruction(word), 12)
    assert error.value.found == f"instruction 12 (reduce) uses {found}"


@pytest.mark.parametrize(
    ("operation", "change", "found"),
    [
        ("configure_ids", {"edges": 3, "id_bytes": 2}, "edges up to 3"),
        ("configure_ids", {"edges": 20, "id_bytes": 3}, "ids of 3 bytes"),
    ],
)
def test_reduce_refuses_edges_outside_the_arrays(operation: str, change: dict[str, int], found: str) -> None:
    case = relation(SMALL, 2)
    address = program_address(Segment.GRAPH, 1024)
    case.machine.execute(instruction(getattr(codec, operation)(slot=1, address=address, **change)))
    word = codec.reduce(
        source=0,
        merge=0,
        spill=0,
        weighted=0,
        from_fifo=0,
        slot=1,
        rows=1,
        mode=0,
        unsigned=0,
        accumulate=0,
        groups=1,
        destination=0,
        sum=0,
    )
    with pytest.raises(StreamInvalidError, match=rf"instruction 0 \(reduce\) uses {found}"):
        case.machine.execute(instruction(word))


def test_reduce_refuses_the_first_source_beyond_the_count() -> None:
    case = relation(SMALL, 2)
    largest = max(case.ids[1 : 1 + DEGREES[0]])
    address = program_address(Segment.ACTIVATIONS, 8)
    word = codec.reduce(
        source=0,
        merge=0,
        spill=0,
        weighted=0,
        from_fifo=0,
        slot=1,
        rows=1,
        mode=0,
        unsigned=0,
        accumulate=0,
        groups=1,
        destination=0,
        sum=0,
    )
    configure = codec.configure_features(
        first_block=0, slot_bits=0, slot=1, row_blocks=2, count=largest + 1, address=address
    )
    case.machine.run(pack([configure, word]).tobytes())
    configure = codec.configure_features(
        first_block=0, slot_bits=0, slot=1, row_blocks=2, count=largest, address=address
    )
    with pytest.raises(StreamInvalidError) as error:
        case.machine.run(pack([configure, word]).tobytes())
    assert error.value.found == f"instruction 1 (reduce) uses source vertex {largest}"
    assert error.value.expected == f"source vertices below {largest}"


@pytest.mark.parametrize(
    ("column", "value", "found", "expected"),
    [
        (0, 5, "destination 2", "one whose edges follow those of destination 1"),
        (2, 1 << 17, "reciprocal 131072", "17 bits"),
        (3, 32, "exponent 32", "5 bits"),
    ],
)
def test_reduce_refuses_records_that_no_layout_allows(column: int, value: int, found: str, expected: str) -> None:
    case = relation(SMALL, 2)
    start = Segment.GRAPH * SIZE
    records = case.dram[start : start + 16 * len(DEGREES)].view("<u4").reshape(-1, 4)
    records[2, column] = value
    word = codec.reduce(
        source=0,
        merge=0,
        spill=0,
        weighted=0,
        from_fifo=0,
        slot=1,
        rows=2,
        mode=1,
        unsigned=0,
        accumulate=0,
        groups=1,
        destination=1,
        sum=0,
    )
    with pytest.raises(StreamInvalidError) as error:
        case.machine.execute(instruction(word))
    assert error.value.found == f"instruction 0 (reduce) uses {found}"
    assert error.value.expected == expected
