# SPDX-License-Identifier: Apache-2.0
"""``hetfab build``: dry runs for every board, what is printed, and what is refused."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from hetfab.cli.main import main
from hetfab.hls.build.bitstream.scripts import VERSIONS
from hetfab.hls.build.bitstream.steps import step_names
from hetfab.overlay.board import board_names
from hetfab.overlay.design import default_design
from tests.vendor_tools.workshop import open_workshop

ENGINES = ("dispatch", *default_design().geometry.engines)


@pytest.mark.parametrize("board", board_names())
def test_a_dry_run_passes_for_every_board(tmp_path: Path, capsys: pytest.CaptureFixture[str], board: str) -> None:
    assert main(["build", "--board", board, "--dry-run", "-o", str(tmp_path), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["version"] == VERSIONS[-1] and found["output"] == str(tmp_path)
    scripts = [
        *(f"hls/{engine}/synthesis.tcl" for engine in ENGINES),
        "vivado/block_design.tcl",
        "vivado/bitstream.tcl",
    ]
    assert found["scripts"] == scripts
    assert all((tmp_path / path).stat().st_size for path in scripts)
    assert (tmp_path / "sources" / "design.hpp").exists()
    # Nothing that stands for a tool's product stays behind.
    assert not any((tmp_path / "ip").glob("**/*.xml"))


@pytest.mark.parametrize("version", VERSIONS)
def test_a_dry_run_passes_for_every_release(tmp_path: Path, capsys: pytest.CaptureFixture[str], version: str) -> None:
    options = ["--dry-run", "-o", str(tmp_path), "--tool-version", version, "--json"]
    assert main(["build", "--board", "pynq-z2", *options]) == 0
    assert json.loads(capsys.readouterr().out)["version"] == version


def test_a_dry_run_prints_steps_and_scripts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["build", "--board", "zcu104", "--dry-run", "-o", str(tmp_path / "b")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["step", "script"]
    assert "synthesis:vec       hls/vec/synthesis.tcl" in lines
    assert not any(line.startswith("warning") for line in lines)
    assert lines[-1] == f"9 scripts for {VERSIONS[-1]} in '{tmp_path / 'b'}' pass; no tool was run"


def test_a_design_close_to_its_boards_limits_is_warned_of(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["build", "--board", "kv260", "--dry-run", "-o", str(tmp_path)]) == 0
    assert "warning: bram36: 98% of the board's 144 (modelled)" in capsys.readouterr().out


def test_the_steps_of_the_options_are_those_of_a_build(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["build", "--help"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert f"[{'|'.join(step_names())}]" in text.replace("| ", "|").replace("- ", "-")


def test_luts_over_the_board_are_refused_by_name_before_anything(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    design = default_design()
    large = replace(design, geometry=replace(design.geometry, gemm_l_rows=32, gemm_l_cols=64))
    path = tmp_path / "large.json"
    path.write_text(json.dumps(large.as_dict()), encoding="utf-8")
    folder = tmp_path / "build"
    assert main(["build", "--design", str(path), "--dry-run", "-o", str(folder), "--json"]) == 1
    error = json.loads(capsys.readouterr().out)["error"]
    assert error["code"] == "design-too-large"
    assert "does not fit the board 'pynq-z2': lut: needs " in error["found"]
    assert not folder.exists()


@pytest.mark.parametrize(
    ("options", "status", "words"),
    [
        ([], 2, "Give one of --design and --board."),
        (["--board", "pynq-z2", "--design", "x.json"], 2, "Give one of --design and --board."),
        (["--board", "pynq-z2", "--from", "timing", "--to", "ip"], 2, "--from timing comes after --to ip."),
        (["--board", "arty"], 1, "there is no board 'arty'"),
        (["--board", "pynq-z2", "--dry-run", "--tool-version", "2019.1"], 3, "--tool-version is 2019.1"),
        (["--board", "pynq-z2", "--jobs", "0"], 2, "--jobs"),
    ],
)
def test_wrong_options_are_refused(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    options: list[str],
    status: int,
    words: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["build", *options]) == status
    assert words in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_whole_build_prints_times_and_differences(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    open_workshop(tmp_path, monkeypatch, "2023.2")
    monkeypatch.chdir(tmp_path)
    assert main(["build", "--board", "pynq-z2"]) == 0
    out = capsys.readouterr().out
    assert [line.split()[0] for line in out.splitlines()[2:16]] == [
        "sources",
        *(f"synthesis:{engine}" for engine in ENGINES),
        "ip",
        "resources",
        "block-design",
        "bitstream",
        "timing",
        "package",
    ]
    assert "agg     agg_gather   interval 2 instead of 1" in out
    assert "timing: 0.221 ns to spare at 100 MHz" in out
    assert "next: copy 'build/pynq-z2/overlays/pynq-z2' to the board" in out
    assert main(["build", "--board", "pynq-z2", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert {each["state"] for each in found["steps"]} == {"kept"}
    assert found["package"] == "build/pynq-z2/overlays/pynq-z2"
    assert found["closure"]["timing"]["failing"] == 0


def test_a_build_to_a_step_reports_what_there_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    open_workshop(tmp_path, monkeypatch, "2023.2")
    monkeypatch.chdir(tmp_path)
    assert main(["build", "--board", "pynq-z2", "--to", "sources", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [each["step"] for each in found["steps"]] == ["sources"]
    assert found["package"] is None and found["synthesis"] is None and found["closure"] is None


def _two_designs(folder: Path) -> list[str]:
    """Options with two designs of few engines."""
    design = replace(default_design(), geometry=replace(default_design().geometry, engines=("load", "store")))
    options = []
    for name in ("one", "two"):
        path = folder / f"{name}.json"
        path.write_text(json.dumps(replace(design, name=name).as_dict()), encoding="utf-8")
        options += ["--design", str(path)]
    return options


def test_several_designs_are_built_and_one_that_fails_ends_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    workshop = open_workshop(tmp_path, monkeypatch, "2024.1")
    workshop.want(check=False)
    monkeypatch.chdir(tmp_path)
    given = ["build", *_two_designs(tmp_path), "-o", "builds", "--workers", "2", "--json"]
    (tmp_path / "builds").mkdir()
    (tmp_path / "builds" / "one").touch()
    assert main(given) == 4
    error = json.loads(capsys.readouterr().out)["error"]
    assert error["code"] == "build" and error["found"].startswith("1 of 2 builds failed\none: ")
    (tmp_path / "builds" / "one").unlink()
    assert main(given) == 0
    builds = json.loads(capsys.readouterr().out)["builds"]
    assert list(builds) == ["one", "two"]
    states = {name: {step["state"] for step in built["steps"]} for name, built in builds.items()}
    assert states == {"one": {"done"}, "two": {"kept"}}
    for name, built in builds.items():
        assert built["package"] == str(tmp_path / "builds" / name / "overlays" / name)


def test_several_designs_need_names_of_their_own_and_a_whole_build(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = _two_designs(tmp_path)
    for further, words in (
        (options[:2], "Two designs have the same name"),
        (["--dry-run"], "--emulated and --dry-run take one design."),
    ):
        assert main(["build", *options, *further]) == 2
        assert words in capsys.readouterr().err
    assert main(["build", "--board", "pynq-z2", "--workers", "2"]) == 2
    assert "--workers and --cluster are for several designs" in capsys.readouterr().err
