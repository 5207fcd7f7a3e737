# SPDX-License-Identifier: Apache-2.0
"""The kernels use the HLS constructs that docs/synthesis.md lists, and none that the design excludes."""

import re
from pathlib import Path

import pytest

from hetfab.hls.build import emulator
from hetfab.overlay.isa.loops import loops
from hetfab.overlay.isa.spec import isa

ROOT = Path(__file__).parents[1]
HLS = Path(emulator.__file__).parents[1]
SOURCES = sorted([*HLS.glob("include/hetfab/*.hpp"), *HLS.glob("kernels/*")])
DIRECTIVE = re.compile(r"^\s*#pragma HLS (\w+)(.*)$", re.MULTILINE)
EXCLUDED = [
    r"while \((true|1)\)",
    r"for \(;;\)",
    r"hls::task",
    r"ap_axi_sdata|hls_task|hls_directio|hls_streamofblocks|hls_vector",
    r"write_nb|\.full\(",
    r"^\s+static (?!constexpr|_?assert)(?!.*\()",
]


def directives() -> list[tuple[Path, str, str]]:
    """File, directive and options of every HLS pragma."""
    joined = [(path, path.read_text(encoding="utf-8").replace("\\\n", " ")) for path in SOURCES]
    return [(path, match[1], match[2]) for path, text in joined for match in DIRECTIVE.finditer(text)]


def test_every_directive_and_option_is_listed() -> None:
    page = (ROOT / "docs" / "synthesis.md").read_text(encoding="utf-8")
    code = " ".join(re.findall(r"`([^`]*)`", page))
    found = directives()
    assert len(found) > 60
    for path, directive, options in found:
        assert re.search(rf"\b{directive}\b", code), f"{path.name}: {directive} is not in docs/synthesis.md"
        for option in re.findall(r"(\w+)=", options):
            assert f"{option}=" in code, f"{path.name}: {directive} {option}= is not in docs/synthesis.md"


def test_every_directive_has_a_row_of_what_a_report_must_show() -> None:
    page = (ROOT / "docs" / "synthesis.md").read_text(encoding="utf-8")
    section = page.partition("## What to check in the reports")[2]
    rows = set(re.findall(r"^\| `([^`]+)` [^|]*\| [^|]+ \| [^|]+ \|$", section, re.MULTILINE))
    used = {name for _, name, _ in directives() if name != "INTERFACE"}
    modes = {match[1] for _, _, options in directives() if (match := re.match(r" mode=(\w+)", options))}
    used |= {f"INTERFACE mode={mode}" for mode in modes} | {"HETFAB_FENCE"}
    assert used <= rows
    assert {name for name in rows if name.isupper() or name.startswith("INTERFACE")} <= used


def test_every_engine_fences_before_its_token() -> None:
    fences: dict[str, set[str]] = {}
    for path in HLS.glob("include/hetfab/*.hpp"):
        text = path.read_text(encoding="utf-8")
        tokens = len(re.findall(r"tokens\.write\(make_token", text))
        fenced = re.findall(r"HETFAB_FENCE\(([^)]*), tokens\);\n\s+tokens\.write\(make_token", text)
        assert tokens == len(fenced), path.name
        fences |= {path.stem: set(fenced[0].split(", "))} if fenced else {}
    engines = {engine.name for engine in isa().engines}
    assert set(fences) == engines
    for engine in engines:
        written = {m.name for m in isa().memories if m.word_bits and m.writer == engine}
        if engine.startswith("gemm_"):
            # A core's header names its memories without the core: acc_ram for acc_d_ram.
            written = {name.replace(f"_{engine[-1]}_", "_") for name in written}
        assert (written and written <= fences[engine]) or engine == "store", engine
    assert "mem" in fences["store"]


def test_every_interface_states_its_mode() -> None:
    interfaces = [(path, options) for path, directive, options in directives() if directive == "INTERFACE"]
    assert interfaces
    assert [path.name for path, options in interfaces if not options.startswith(" mode=")] == []


def test_every_pipelined_loop_states_interval_and_style() -> None:
    pipelines = [options for _, directive, options in directives() if directive == "PIPELINE"]
    assert len(pipelines) > 8
    assert all(re.fullmatch(r" II=[12] style=stp", options) for options in pipelines)


def test_intervals_are_those_of_the_table() -> None:
    """A loop whose trips are not counted has an interval of 1."""
    stated = re.compile(r"#pragma HLS PIPELINE II=(\d+) style=stp\n(?:\s*events\.trip\(isa::loops::(\w+)\))?")
    found = [match.groups() for path in SOURCES for match in stated.finditer(path.read_text(encoding="utf-8"))]
    assert {name for _, name in found if name} >= set(loops()) - {"instruction"}
    assert not [name for interval, name in found if int(interval) != (loops()[name].ii if name else 1)]


@pytest.mark.parametrize("pattern", EXCLUDED)
def test_excluded_constructs_are_absent(pattern: str) -> None:
    host_only = {"shim.hpp"}
    found = [
        f"{path.name}: {match.group().strip()}"
        for path in SOURCES
        if path.name not in host_only
        for match in re.finditer(pattern, path.read_text(encoding="utf-8"), re.MULTILINE)
    ]
    assert not found
