# SPDX-License-Identifier: Apache-2.0
"""Register offsets have the form that Vitis HLS gives them in its ``x<top>_hw.h`` headers.

The rule, from public headers: control at 0x00 to 0x0c, then arguments in the order of the function, each with its data
words and one word more, which is reserved for inputs and holds the valid flag of outputs.
"""

import re
from pathlib import Path

from hetfab.overlay.isa.spec import isa

DISPATCH = Path(__file__).parents[1] / "hls" / "kernels" / "dispatch.cpp"
#: Offsets by name and width in bits, as public headers have them:
#: CTSRD-CHERI/cheri-hls, examples/spmv_crs/bare_metal_cpu_hls_fg/xhls_top_hw.h (Vitis HLS 2023.1).
CHERI = (("size", 32, 0x10), ("xval", 64, 0x18), ("xcols", 64, 0x24), ("xrowDelimiters", 64, 0x30), ("xvec", 64, 0x3C))
#: UCLA-VAST/TAPA-CS, apps/vadd/VecAdd_1/.autopilot/db/driver/src/xvecadd_1_hw.h (Vitis HLS 2022.1).
TAPA = (("a", 64, 0x10), ("b", 64, 0x1C), ("c", 64, 0x28), ("n", 64, 0x34))
_ARGUMENT = re.compile(r"(?:volatile )?std::uint(32|64)_t\*? (\w+)")


def header(top: str, arguments: list[tuple[str, int]]) -> str:
    """The part of the header that gives offsets, by the rule."""
    lines = [
        f"#define X{top}_CONTROL_ADDR_{name} 0x{4 * i:02x}" for i, name in enumerate(("AP_CTRL", "GIE", "IER", "ISR"))
    ]
    offset = 0x10
    for name, bits in arguments:
        lines.append(f"#define X{top}_CONTROL_ADDR_{name.upper()}_DATA 0x{offset:02x}")
        lines.append(f"#define X{top}_CONTROL_BITS_{name.upper()}_DATA {bits}")
        offset += bits // 8 + 4
    return "\n".join(lines) + "\n"


def offsets(text: str) -> dict[str, int]:
    """Offset of each register in a header, 64 bits by their low word."""
    found = re.findall(r"_CONTROL_ADDR_(\w+?)(?:_DATA)?\s+0x([0-9a-fA-F]+)$", text, re.MULTILINE)
    return {name.lower(): int(value, 16) for name, value in found}


def test_the_rule_gives_the_offsets_of_public_headers() -> None:
    for table in (CHERI, TAPA):
        arguments = [(name, bits) for name, bits, _ in table]
        expected = {name.lower(): offset for name, _, offset in table}
        assert expected.items() <= offsets(header("TOP", arguments)).items()


def test_the_register_table_has_the_offsets_of_the_rule() -> None:
    """The arguments are read from the kernel, the offsets from the instruction set's table."""
    signature = re.search(r"void dispatch_top\((.*?)\) \{", DISPATCH.read_text(encoding="utf-8"), re.DOTALL)
    assert signature is not None
    arguments = [(name, int(bits)) for bits, name in _ARGUMENT.findall(signature[1])]
    expected = offsets(header("DISPATCH_TOP", arguments))
    control = {"control": "ap_ctrl", "interrupt_enable_global": "gie", "interrupt_enable": "ier"}
    control["interrupt_status"] = "isr"
    words = {}
    for register in isa().registers:
        name = control.get(register.name, register.name)
        if not name.endswith("_high"):
            words[name.removesuffix("_low")] = register.offset
        else:
            assert register.offset == words[name.removesuffix("_high")] + 4
    assert words == expected


def test_the_kernel_states_the_same_offsets() -> None:
    stated = re.findall(
        r"mode=s_axilite port=(\w+) bundle=control offset=0x(\w+)", DISPATCH.read_text(encoding="utf-8")
    )
    registers = {register.name: register.offset for register in isa().registers}
    for name, offset in stated:
        assert registers.get(name, registers.get(f"{name}_low")) == int(offset, 16)
    assert len(stated) > 50
