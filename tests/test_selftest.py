# SPDX-License-Identifier: Apache-2.0
"""The self-test: vectors for every instruction and mode, equal on every overlay; seeded defects and their engines."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

from hetfab.cli.main import ExitCode, main
from hetfab.driver.package import write_emulated_package
from hetfab.driver.selftest.draft import Vector, after, modes_of
from hetfab.driver.selftest.run import selftest
from hetfab.driver.selftest.vectors import exists, lacks, values_of, vectors
from hetfab.overlay.design import Geometry, default_design
from hetfab.overlay.errors import SelftestFailedError
from hetfab.overlay.isa.codec import Segment
from hetfab.overlay.isa.spec import isa
from hetfab.overlay.isa.words import decode
from tests.selftest_defects import DEFECTS, DESIGN, Defect, build_seeded, open_session, outcome_of, seeded

#: Engines of the instruction set, and what keeps order.
ENGINES = {engine.name for engine in isa().engines} | {"dispatch"}


@pytest.fixture(scope="module")
def wanted() -> list[Vector]:
    """The vectors of the small design, which has everything."""
    return vectors(DESIGN.geometry)


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small design with all defects."""
    return build_seeded(tmp_path_factory.mktemp("seeded"))


def missing(geometry: Geometry, found: list[Vector]) -> set[tuple[str, str, int]]:
    """Values of fields that a design has and no vector."""
    has = {mode for vector in found for mode in modes_of(vector.words)}
    values = {
        (operation.name, field, value)
        for operation in isa().operations
        if operation.name == "sync" or exists(geometry, operation)
        for field, value in values_of(operation)
        if not lacks(geometry, operation.name, field, value)
    }
    return values - has


def test_every_instruction_in_every_mode_has_a_vector(wanted: list[Vector]) -> None:
    """On a design that has everything nothing may be left out as absent."""
    executed = {decode(word).operation.name for vector in wanted for word in vector.words}
    assert executed == {operation.name for operation in isa().operations}
    assert {vector.operation for vector in wanted} == executed
    everything = {(o.name, field, value) for o in isa().operations for field, value in values_of(o)}
    assert everything <= {mode for vector in wanted for mode in modes_of(vector.words)}


@pytest.mark.parametrize("name", ["pynq-z2", "pynq-z2-images", "pynq-z2-attention"])
def test_default_designs_have_vectors_for_what_they_have(name: str) -> None:
    geometry = default_design(name).geometry
    found = vectors(geometry)
    assert not missing(geometry, found)
    engines = {decode(word).fields["engine"] for vector in found for word in vector.words}
    assert engines == {isa().engine(engine).id for engine in geometry.engines}


def test_every_place_of_a_semaphore_is_used_by_every_engine(wanted: list[Vector]) -> None:
    found = {
        (decoded.fields["engine"], name)
        for vector in wanted
        if vector.operation == "sync"
        for decoded in map(decode, vector.words)
        for name in ("wait0", "wait1", "signal0", "signal1")
        if decoded.fields[name]
    }
    assert len(found) == 4 * len(isa().engines)


def test_results_do_not_depend_on_what_memories_held(wanted: list[Vector]) -> None:
    """A board's memories hold anything before the first vector."""
    for vector in wanted:
        found = after(DESIGN.geometry, vector.words, vector.contents, before=0x3C)
        for segment, content in vector.expected.items():
            assert np.array_equal(found[segment], content), vector.name


def test_every_vector_leaves_something(wanted: list[Vector]) -> None:
    for vector in wanted:
        changed = any(not np.array_equal(vector.contents[s], vector.expected[s]) for s in vector.contents)
        assert changed != (vector.operation == "sync"), vector.name
        assert set(vector.contents) == set(Segment) - {Segment.PROGRAM}


def test_an_overlay_without_defects_passes(wanted: list[Vector], library: Path) -> None:
    outcome = outcome_of(library, 0, wanted)
    assert not outcome.differences and outcome.first is None
    assert set(outcome.vectors) == ENGINES and not outcome.failed
    assert sum(outcome.vectors.values()) == len(wanted)
    outcome.check()


@pytest.mark.parametrize("number", range(1, len(DEFECTS) + 1), ids=lambda number: DEFECTS[number - 1].what)
def test_seeded_defects_are_found_with_their_engine(number: int, wanted: list[Vector], library: Path) -> None:
    outcome = outcome_of(library, number, wanted)
    assert DEFECTS[number - 1].is_named(outcome), [outcome.suspects, outcome.first]


def test_every_engine_has_seeded_defects() -> None:
    assert {defect.engine for defect in DEFECTS} == ENGINES
    assert len({(defect.engine, defect.what) for defect in DEFECTS}) == len(DEFECTS) >= 30
    assert [defect.what for defect in DEFECTS if defect.alike] == ["the low half of out_ram is stored twice"]


def number_of(what: str) -> int:
    return 1 + [defect.what for defect in DEFECTS].index(what)


def test_the_first_difference_is_a_number_of_a_tensor(wanted: list[Vector], library: Path) -> None:
    outcome = outcome_of(library, number_of("products are not added to what the accumulators hold"), wanted)
    first, suspect = outcome.first, outcome.suspects[0]
    assert first is not None
    assert (first.engine, first.instruction, first.mode) == ("gemm_d", "matmul", "matmul accumulate=1")
    assert (suspect.engine, suspect.instruction, suspect.mode) == ("gemm_d", "matmul", "accumulate=1")
    assert (first.tensor, first.row, first.column) == ("accumulators", 0, 0)
    vector = next(vector for vector in wanted if vector.name == "matmul accumulate=1")
    tensor = vector.tensors[0]
    expected = int(vector.expected[tensor.segment][tensor.offset : tensor.offset + 4].view("<i4")[0])
    assert first.expected == expected and first.found == expected // 2
    with pytest.raises(SelftestFailedError) as caught:
        outcome.check()
    assert caught.value.found == (
        f"{sum(outcome.failed.values())} of {len(wanted)} vectors differ; the engine 'gemm_d' explains it best: "
        f"matmul accumulate=1\nmatmul accumulate=1: accumulators, row 0, column 0: {expected // 2}, not {expected}"
    )
    assert caught.value.as_dict()["outcome"] == outcome.as_dict()


def test_a_run_that_stops_is_a_difference_in_words(wanted: list[Vector], library: Path) -> None:
    """The vectors after it run on an overlay that was opened again."""
    outcome = outcome_of(library, number_of("the second signal of a token is lost"), wanted)
    first = outcome.first
    assert first is not None
    assert first.text().startswith(f"{first.mode}: the run stopped: no engine can step: ")
    assert set(outcome.failed) == {"dispatch"}


def test_engines_that_explain_it_equally_are_all_named(wanted: list[Vector], library: Path) -> None:
    outcome = outcome_of(library, number_of("the low half of out_ram is stored twice"), wanted)
    with pytest.raises(SelftestFailedError) as caught:
        outcome.check()
    assert "the engine 'vec' explains it best" in caught.value.found and "(so would store)" in caught.value.found


def test_a_semaphore_that_keeps_a_count_is_a_difference(wanted: list[Vector], library: Path) -> None:
    number = number_of("a wait takes nothing from its semaphore")
    with seeded(library, number):
        outcome = selftest(open_session, [vector for vector in wanted if vector.operation == "sync"])
    first = outcome.first
    assert first is not None
    assert (first.tensor, first.found, first.expected) == ("semaphores", 3, 0)


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = main(["selftest", *arguments])
    output = capsys.readouterr()
    return code, output.out, output.err


@pytest.fixture
def design(tmp_path: Path) -> Path:
    path = tmp_path / "small.json"
    path.write_text(json.dumps(DESIGN.as_dict()), "utf-8")
    return path


def test_the_command_prints_a_table_of_engines(design: Path, library: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with seeded(library, 0):
        code, out, _ = run(capsys, "--design", str(design))
    assert code == ExitCode.DONE
    lines = out.splitlines()
    assert lines[0].split() == ["engine", "vectors", "differ"]
    assert {line.split()[0] for line in lines[2 : 2 + len(ENGINES)]} == ENGINES
    assert lines[-1] == "the emulated overlay 'small' gives what the golden model gives, in every bit"


def test_a_defect_ends_the_command_with_its_engine(
    design: Path, library: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with seeded(library, number_of("a turned graph names the next row")):
        code, out, err = run(capsys, "--design", str(design), "--json")
    error = json.loads(out)["error"]
    assert code == ExitCode.FAILED and error["code"] == "selftest-failed"
    assert error["outcome"]["suspects"][0]["engine"] == "sgb"
    assert error["outcome"]["first"]["instruction"] == "transpose"
    assert "the engine 'sgb' explains it best: transpose" in error["found"]
    assert "sgb" in err


def test_packages_are_tested_where_they_are_loaded(
    tmp_path: Path, library: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("hetfab.driver.overlay._pynq_has_a_device", lambda: False)
    write_emulated_package(tmp_path, DESIGN)
    with seeded(library, 0):
        code, out, _ = run(capsys, "--to", "local", "--package", str(tmp_path / "small"), "--json")
    result = json.loads(out)
    assert code == ExitCode.DONE
    assert result["target"] == "the overlay 'small' on this machine" and result["suspects"] == []
    bit = (tmp_path / "small" / "small.bit").read_bytes()
    assert (result["way"], result["kind"]) == ("local", "emulated")
    assert result["sha256"] == {"bit": hashlib.sha256(bit).hexdigest()}


@pytest.mark.parametrize("arguments", [["--to", "local"], ["--package", "x"], ["--to", "nowhere"]])
def test_options_that_do_not_go_together_are_refused(arguments: list[str]) -> None:
    assert main(["selftest", *arguments]) == ExitCode.USAGE


def test_defects_need_their_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A kernel that changes under a defect is noticed."""
    monkeypatch.setattr("tests.selftest_defects.DEFECTS", (Defect("load", "nothing", "load.hpp", "no such text", ""),))
    with pytest.raises(ValueError, match=r"load\.hpp has 0 of the text of 'nothing', not one"):
        build_seeded(tmp_path)
