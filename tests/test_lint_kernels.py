# SPDX-License-Identifier: Apache-2.0
"""The lint on this project's kernels: no findings; it follows them to their ports; it sees what is broken in them."""

import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from hetfab.hls.build import emulator
from hetfab.hls.build.design_header import design_header
from hetfab.hls.lint.findings import Report
from hetfab.hls.lint.ports import accesses, steps_of
from hetfab.hls.lint.program import Program
from hetfab.hls.lint.run import lint, lint_kernels, read_kernels
from hetfab.overlay.design import Geometry
from hetfab.overlay.isa.spec import isa

HLS = Path(emulator.__file__).parents[1]
LOOP = re.compile(
    r"for \(\w+ (\w+) = (\d+); \1 (<=?) ([^;]+); \1(?:\+\+| \+= (\d+))\) \{\n#pragma HLS UNROLL factor=(.+)\n"
)
#: A loop that counts down to 1.
DOWNWARDS = re.compile(r"for \(\w+ (\w+) = ([^;]+); \1 > 0; \1--\) \{\n#pragma HLS UNROLL factor=(.+)\n")


@pytest.fixture(scope="module")
def program(default_geometry: Geometry) -> Program:
    """The kernels of the default design with all engines, and with the memories that they need."""
    geometry = replace(default_geometry, engines=tuple(engine.name for engine in isa().engines))
    geometry = replace(geometry, res_words=64, exp_words=64, dwp_words=64, mid_words=64, gather_beats=8)
    return read_kernels(replace(geometry, fun_words=64, norm_words=64))


@pytest.mark.parametrize("design", ["default_geometry", "small_geometry"])
def test_the_kernels_keep_every_rule(design: str, request: pytest.FixtureRequest) -> None:
    report = lint_kernels(request.getfixturevalue(design))
    assert report.findings == ()
    assert report.functions > 300 and report.rules > 30


def test_the_headers_keep_every_rule_in_their_general_form() -> None:
    report = lint([HLS / "include" / "hetfab"], house=True, include=[HLS / "include"], defines=["HETFAB_AP_INT"])
    assert report.findings == ()
    assert report.sources == len(list(HLS.glob("include/hetfab/*.hpp"))) and report.functions > 100


def test_the_header_for_hls4ml_keeps_the_rules_for_any_source() -> None:
    """Not the house's own, which Vivado HLS would not read: styles of pipelines and factors of unrolled loops."""
    header = HLS / "hls4ml_extension" / "hetero_dense.hpp"
    report = lint([header], include=[HLS / "include" / "hetfab"], defines=["HETFAB_AP_INT"])
    assert report.findings == ()
    assert report.functions > 60


def test_only_the_kernels_are_walked(program: Program) -> None:
    assert {Path(function.file).parents[0].name for function in program.functions.values()} == {"kernels", "hetfab"}


def test_every_engine_has_a_top_function(program: Program) -> None:
    assert {top.name for top in program.tops} == {"dispatch_top", *(f"{engine.name}_top" for engine in isa().engines)}


def test_accesses_are_followed_to_the_owners_of_the_instruction_set(program: Program) -> None:
    """Each RAM is written by the one writer and read by the one reader, through all calls and templates."""
    seen = {
        (top.name.removesuffix("_top"), access.port.name, access.kind)
        for top in program.tops
        for access in accesses(steps_of(program, top))
        if access.port.kind == "ram"
    }
    memories = [memory for memory in isa().memories if memory.word_bits]
    stated = {(m.writer, m.name, "write") for m in memories} | {(m.reader, m.name, "read") for m in memories}
    # These add to what they hold (their meaning in isa.json says so).
    adding = {(m.writer, m.name, "read") for m in memories if "also reads them" in m.meaning or m.name == "acc_l_ram"}
    assert seen == stated | adding


def test_every_unroll_factor_is_the_trips_of_its_loop() -> None:
    texts = [path.read_text("utf-8") for path in HLS.glob("include/hetfab/*.hpp")]
    loops = [match for text in texts for match in LOOP.finditer(text)]
    downwards = [match for text in texts for match in DOWNWARDS.finditer(text)]
    assert len(loops) + len(downwards) == sum(text.count("HLS UNROLL") for text in texts) > 30
    for loop in downwards:
        _, first, factor = loop.groups()
        assert factor == first.replace(" ", ""), loop.group()
    for loop in loops:
        _, start, comparison, bound, step, factor = loop.groups()
        extra = (comparison == "<=") - int(start)
        trips = bound.replace(" ", "") + (f"{extra:+}" if extra else "") + (f"/{step}" if step else "")
        assert factor == trips, loop.group()


def linted(folder: Path, geometry: Geometry, engine: str, file: str, old: str, new: str) -> Report:
    """The report on one engine, in a copy of the kernels with one text replaced."""
    for name in ("kernels", "include"):
        shutil.copytree(HLS / name, folder / name)
    path = folder / file
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")
    (folder / "kernels" / "design.hpp").write_text(design_header(geometry), encoding="utf-8")
    include = [folder / "include", folder / "kernels"]
    return lint([folder / "kernels" / f"{engine}.cpp"], house=True, include=include, defines=["HETFAB_AP_INT"])


@pytest.mark.parametrize(
    ("engine", "file", "old", "new", "rule"),
    [
        (
            "load",
            "include/hetfab/load.hpp",
            "dwp_ram, load_context,\n                 tokens);\n    tokens",
            "load_context,\n                 tokens);\n    tokens",
            "HLS-O01",
        ),
        (
            "store",
            "include/hetfab/store.hpp",
            "        mem.write_response();\n        responses++;",
            "        responses++;",
            "HLS-O02",
        ),
        (
            "store",
            "include/hetfab/store.hpp",
            "HETFAB_FENCE(mem, out_ram, mid_ram, tokens)",
            "HETFAB_FENCE(out_ram, mid_ram, tokens)",
            "HLS-O01",
        ),
        (
            "agg",
            "include/hetfab/reduce.hpp",
            "S<Z, 64> rounded = sum<Z, 64>",
            "S<Z, 32> rounded = sum<Z, 64>",
            "HLS-W01",
        ),
        ("vec", "kernels/vec.cpp", "port=par_ram storage_type=ram_1p latency=1", "port=par_ram latency=1", "HLS-I02"),
        ("gemm_d", "include/hetfab/drain.hpp", "acc_ram[word_] = word;", "acc_ram[1 << 20] = word;", "HLS-B04"),
        ("gemm_l", "include/hetfab/gemm_l.hpp", "UNROLL factor=rows", "UNROLL", "HLS-P06"),
        (
            "dispatch",
            "include/hetfab/dispatch.hpp",
            "instructions[engine].write(word)",
            "instructions[engine].write_nb(word)",
            "HLS-O03",
        ),
    ],
)
def test_a_fault_in_a_kernel_is_found_by_one_rule(
    tmp_path: Path, default_geometry: Geometry, engine: str, file: str, old: str, new: str, rule: str
) -> None:
    report = linted(tmp_path, default_geometry, engine, file, old, new)
    assert {finding.rule for finding in report.findings} == {rule}
    assert {Path(finding.file).relative_to(tmp_path).as_posix() for finding in report.findings} <= {
        file,
        f"include/hetfab/{engine}.hpp",
    }
