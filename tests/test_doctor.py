# SPDX-License-Identifier: Apache-2.0
"""``hetfab doctor`` and ``hetfab cache`` say what is there, and what is missing when it is."""

import importlib.metadata
import json
from pathlib import Path
from typing import Any

import pytest

from hetfab.cli.main import main
from hetfab.driver.doctor import findings, targets
from hetfab.hls.build.cache import cached_file


def by_name(found: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {entry["name"]: entry for entry in found}


def test_what_is_installed_is_found_with_its_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert by_name(result["findings"])["numpy"]["found"] == importlib.metadata.version("numpy")
    assert by_name(result["targets"])["emulated overlay"]["possible"] is True


def test_a_missing_compiler_is_named_with_its_cure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    found = findings()
    assert next(x for x in found if x.name == "C++ compiler").found == ""
    target = next(x for x in targets(found) if x.name == "emulated overlay")
    assert not target.possible
    assert target.missing == "C++ compiler (apt-get install g++, or set CXX)"


def test_a_missing_package_rules_out_only_what_needs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    version = importlib.metadata.version

    def without_hls4ml(name: str) -> str:
        if name == "hls4ml":
            raise importlib.metadata.PackageNotFoundError(name)
        return version(name)

    monkeypatch.setattr(importlib.metadata, "version", without_hls4ml)
    possible = {target.name: target for target in targets(findings())}
    assert possible["emulated overlay"].possible
    assert possible["C simulation with ap_int"].missing == "hls4ml (pip install 'hetfab[hls]')"


def test_an_unwritable_cache_is_seen(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("")
    monkeypatch.setenv("HETFAB_CACHE", str(file / "cache"))
    assert next(x for x in findings() if x.name == "cache folder").found == ""


def test_the_cache_is_shown_and_emptied(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HETFAB_CACHE", str(tmp_path / "cache"))

    def build(folder: Path) -> Path:
        path = folder / "built"
        path.write_bytes(b"12345")
        return path

    built = cached_file("overlay.so", build)
    assert main(["cache", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert (shown["bytes"], shown["cleared"], built.exists()) == (5, False, True)
    assert main(["cache", "--clear"]) == 0
    assert "5 bytes, deleted" in capsys.readouterr().out
    assert not built.exists()
    assert main(["cache", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["bytes"] == 0
