# SPDX-License-Identifier: Apache-2.0
"""Compiled algorithms of the host: what happens where a library of the cache does not load."""

from pathlib import Path

import pytest

from hetfab.hls.build import host_library as module
from hetfab.hls.build.cache import CACHE_VARIABLE
from hetfab.hls.build.host_library import host_library
from hetfab.overlay.errors import CacheUnwritableError


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A library of one function, in place of those of the product."""
    (tmp_path / "answer.cpp").write_text('extern "C" int answer() { return 42; }\n', encoding="utf-8")
    monkeypatch.setattr(module, "_HLS", tmp_path)
    return "answer.cpp"


def library_in(folder: Path) -> Path:
    (library,) = folder.glob("*.so")
    return library


def test_a_damaged_library_is_built_again(source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In another folder, as a library that is loaded already is not read again."""
    first, second = tmp_path / "first", tmp_path / "second"
    monkeypatch.setenv(CACHE_VARIABLE, str(first))
    assert host_library([source]).answer() == 42
    whole = library_in(first).read_bytes()
    second.mkdir()
    (second / library_in(first).name).write_bytes(whole[:40])
    monkeypatch.setenv(CACHE_VARIABLE, str(second))
    assert host_library([source]).answer() == 42
    assert library_in(second).stat().st_size == len(whole)


def test_a_library_that_never_loads_is_named(source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As from a folder that is mounted with noexec."""
    built = []

    def no_library(folder: Path, **_: object) -> Path:
        built.append(folder / "answer.so")
        built[-1].write_bytes(b"no library")
        return built[-1]

    cache = tmp_path / "cache"
    monkeypatch.setenv(CACHE_VARIABLE, str(cache))
    monkeypatch.setattr(module, "_compile", no_library)
    with pytest.raises(CacheUnwritableError) as caught:
        host_library([source])
    found, expected, do = caught.value.args
    assert found.startswith(f"'{library_in(cache)}' does not load, built anew too: ")
    assert expected == "a folder that compiled code may be loaded from, not one mounted with noexec"
    assert do == "set HETFAB_CACHE to another folder"
    assert len(built) == 2
