# SPDX-License-Identifier: Apache-2.0
"""Register offsets have the form that Vitis HLS gives them in the address map of its ``x<top>_control_s_axi.v`` files.

The rule, from public files: control at 0x00 to 0x0c, then arguments in the order of the function; a memory takes the
power of two of bytes that holds it, at a multiple of that.
"""

import re
from pathlib import Path

from hetfab.overlay.isa.spec import isa

DISPATCH = Path(__file__).parents[1] / "hls" / "kernels" / "dispatch.cpp"
#: Memories by name and bytes, with first and last address as a public file has them: ChaCha20XOR_control_s_axi.v
#: (Vitis HLS 2022.2), behind two 32-bit arguments.
CHACHA = (("key", 32, 0x20, 0x3F), ("nonce", 12, 0x40, 0x4F), ("in_r", 114, 0x80, 0xFF), ("out_r", 114, 0x100, 0x17F))


def memories(first: int, sizes: list[int]) -> list[tuple[int, int]]:
    """First and last address of each memory, by the rule."""
    found = []
    for size in sizes:
        taken = 1 << (size - 1).bit_length()
        first = -(-first // taken) * taken
        found.append((first, first + taken - 1))
        first += taken
    return found


def test_the_rule_gives_the_addresses_of_a_public_file() -> None:
    assert memories(0x20, [size for _, size, _, _ in CHACHA]) == [(first, last) for _, _, first, last in CHACHA]


def test_the_register_memories_have_the_addresses_of_the_rule() -> None:
    """Apart from the room before the first, which is given."""
    table = isa().register_memories
    expected = memories(table[0].offset, [4 * memory.words for memory in table])
    assert [(memory.offset, memory.offset + memory.bytes - 1) for memory in table] == expected
    assert table[0].offset > max(register.offset for register in isa().registers if "interrupt" in register.name)


def test_every_word_of_a_memory_is_one_register() -> None:
    offsets = [register.offset for register in isa().registers]
    for memory in isa().register_memories:
        assert [offset for offset in offsets if memory.offset <= offset < memory.offset + memory.bytes] == [
            memory.offset + 4 * word for word in range(memory.words)
        ]
        for group in memory.groups:
            named = [r for r in isa().registers if re.fullmatch(rf"{group.name}(_\w+)?", r.name)]
            assert memory.offset + 4 * group.word in [register.offset for register in named]


def test_the_kernel_states_the_same_offsets() -> None:
    text = DISPATCH.read_text(encoding="utf-8")
    stated = re.findall(r"mode=s_axilite port=(\w+) bundle=control offset=0x(\w+)", text)
    assert [(name, int(offset, 16)) for name, offset in stated] == [
        (memory.name, memory.offset) for memory in isa().register_memories
    ]
