# SPDX-License-Identifier: Apache-2.0
"""``hetfab lint``: what it prints and returns, what it refuses, and the page of its rules."""

import importlib.util
import json
from pathlib import Path

import pytest

from hetfab.cli.main import main
from hetfab.hls.lint import page
from hetfab.hls.lint.rules import RULES
from hetfab.overlay import design as design_module
from tests.lint_faults import FAULTS

RECURSION = next(fault for fault in FAULTS if fault.name == "recursion")
FENCE = next(fault for fault in FAULTS if fault.name == "token without a fence")


def test_sources_that_keep_the_rules(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = tmp_path / "engine.cpp"
    source.write_text(RECURSION.repaired, encoding="utf-8")
    assert main(["lint", str(source)]) == 0
    assert capsys.readouterr().out == "1 file with 2 functions keep 19 rules\n"
    assert main(["lint", "--json", "--house", str(tmp_path)]) == 0
    assert json.loads(capsys.readouterr().out) == {
        "sources": 1,
        "functions": 2,
        "rules": len(RULES),
        "findings": [],
    }


def test_a_finding_says_place_rule_and_repair(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = tmp_path / "engine.cpp"
    source.write_text(RECURSION.source, encoding="utf-8")
    assert main(["lint", str(source)]) == 1
    assert capsys.readouterr().err.splitlines() == [
        "error: 1 place where HLS sources break a rule:",
        f"        {source}:2: HLS-L04: recursion: depth -> depth",
        "          expected: no function reaches itself, through a pointer to it neither",
        "          do: write a loop, or a template that recurs over a constant",
        "  expected: sources that keep the 19 rules of docs/lint.md",
        "  do: repair each place as it says",
    ]
    assert main(["lint", "--json", str(source)]) == 1
    error = json.loads(capsys.readouterr().out)["error"]
    assert (error["code"], [finding["rule"] for finding in error["findings"]]) == ("rules-broken", ["HLS-L04"])
    assert error["findings"][0]["file"] == str(source) and error["findings"][0]["line"] == 2


def test_the_rules_of_the_house_hold_only_when_asked_for(tmp_path: Path) -> None:
    source = tmp_path / "engine.cpp"
    source.write_text(FENCE.source, encoding="utf-8")
    assert main(["lint", str(source)]) == 0
    assert main(["lint", "--house", str(source)]) == 1


def test_sources_that_do_not_compile(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = tmp_path / "engine.cpp"
    source.write_text('#include "missing.hpp"\nvoid f() {}\n', encoding="utf-8")
    assert main(["lint", str(source)]) == 1
    assert f"{source}:1: HLS-S01: the parser stops: 'missing.hpp' file not found" in capsys.readouterr().err
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "missing.hpp").write_text("", encoding="utf-8")
    assert main(["lint", str(source), "-I", str(tmp_path / "other")]) == 0


def test_macros_reach_the_sources(tmp_path: Path) -> None:
    source = tmp_path / "engine.cpp"
    source.write_text("#ifndef NARROW\n#error\n#endif\nvoid f() {}\n", encoding="utf-8")
    assert main(["lint", str(source)]) == 1
    assert main(["lint", str(source), "-D", "NARROW"]) == 0


def test_the_kernels_of_a_design_file(capsys: pytest.CaptureFixture[str]) -> None:
    design = Path(design_module.__file__).parent / "designs" / "zcu104.json"
    assert main(["lint", "--json", "--design", str(design)]) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["rules"], report["findings"]) == (len(RULES), []) and report["functions"] > 300


def test_a_path_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["lint", str(tmp_path / "engine.cpp")]) == 1
    assert capsys.readouterr().err.splitlines() == [
        f"error: no file '{tmp_path / 'engine.cpp'}'",
        "  expected: C++ sources or headers, or folders of them",
        "  do: correct the path",
    ]
    assert main(["lint", str(tmp_path)]) == 1
    assert f"no C++ source in '{tmp_path}'" in capsys.readouterr().err


def test_missing_packages_are_named(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name in {"clang", "tree_sitter"} else found(name)
    )
    assert main(["lint"]) == 3
    assert capsys.readouterr().err.splitlines() == [
        "error: missing Python packages: libclang, tree-sitter",
        "  expected: the packages that read C++ for the lint, and the headers of AMD's types",
        "  do: pip install 'hetfab[lint]'",
    ]


def test_the_page_has_the_rules_of_today() -> None:
    assert page.main(["--check"]) == 0


def test_a_stale_page_is_noticed_and_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    copy = tmp_path / "lint.md"
    copy.write_text(page.PAGE.read_text(encoding="utf-8").replace(RULES[0].expected, "anything"), encoding="utf-8")
    assert page.main(["--check"], copy) == 1
    assert capsys.readouterr().err == "lint.md is stale; run: python -m hetfab.hls.lint.page\n"
    assert page.main([], copy) == 0
    assert copy.read_text(encoding="utf-8") == page.PAGE.read_text(encoding="utf-8")


def test_rules_have_names_of_their_own_and_state_origin_and_repair() -> None:
    assert len({rule.id for rule in RULES}) == len(RULES)
    assert all(rule.expected and rule.do and rule.source for rule in RULES)
    table = page.rule_tables()
    assert all(f"| `{rule.id}` | {rule.expected} |" in table for rule in RULES)
