# SPDX-License-Identifier: Apache-2.0
"""The cache of built overlays and what a user is told when one cannot be built."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from hetfab.hls.build.cache import cache_folder, cached_file
from hetfab.hls.build.emulator import Arithmetic, Bodies, Emulator, build_emulator
from hetfab.overlay.design import Geometry, default_design
from hetfab.overlay.errors import (
    CacheUnwritableError,
    CompilerFailedError,
    CompilerMissingError,
    DeviceMemoryError,
    GeometryMismatchError,
    HetfabError,
    PackageMissingError,
)

KERNELS = Path(build_emulator.__code__.co_filename).parents[1] / "kernels"


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("HETFAB_CACHE", str(folder))
    return folder


@pytest.fixture
def counting_compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A compiler that writes a line per compilation instead of compiling; returns the file of lines."""
    calls = tmp_path / "calls"
    script = tmp_path / "cxx"
    script.write_text(
        "#!/bin/sh\n"
        'if [ "$1" = --version ]; then echo "counting 1.0"; exit 0; fi\n'
        f'echo run >> "{calls}"; sleep 0.3\n'
        'while [ "$1" != -o ]; do shift; done; echo library > "$2"\n'
    )
    script.chmod(0o755)
    monkeypatch.setenv("CXX", str(script))
    return calls


def text(error: HetfabError) -> list[str]:
    return [error.found, error.expected, error.do]


def test_a_second_build_is_the_first(own_cache: Path, counting_compiler: Path, small_geometry: Geometry) -> None:
    first = build_emulator(small_geometry)
    assert build_emulator(small_geometry) == first
    assert counting_compiler.read_text().splitlines() == ["run"]
    assert first.parent == own_cache == cache_folder()
    assert sorted(path.suffix for path in own_cache.iterdir()) == [".lock", ".so"]


def test_everything_that_matters_changes_the_file(
    own_cache: Path, counting_compiler: Path, small_geometry: Geometry
) -> None:
    builds = [
        build_emulator(small_geometry),
        build_emulator(replace(small_geometry, queue_depth=5)),
        build_emulator(small_geometry, debug=True),
        build_emulator(small_geometry, bodies=Bodies.PLAIN),
        build_emulator(small_geometry, march="x86-64"),
        build_emulator(small_geometry, defines=["ANY=1"]),
        build_emulator(small_geometry, Arithmetic.AP_INT),
    ]
    counting_compiler.with_name("cxx").write_text(
        counting_compiler.with_name("cxx").read_text().replace("counting 1.0", "counting 1.1")
    )
    builds.append(build_emulator(small_geometry))
    assert len(set(builds)) == len(builds) == len(counting_compiler.read_text().splitlines())


def test_checked_and_ap_int_builds_have_plain_bodies(
    own_cache: Path, counting_compiler: Path, small_geometry: Geometry
) -> None:
    for arithmetic, debug in ((Arithmetic.NATIVE, True), (Arithmetic.AP_INT, False)):
        builds = {build_emulator(small_geometry, arithmetic, debug=debug, bodies=bodies) for bodies in Bodies}
        assert len(builds) == 1


def test_two_processes_at_once_build_once(own_cache: Path, counting_compiler: Path) -> None:
    code = (
        "from hetfab.hls.build.emulator import build_emulator; "
        "from hetfab.overlay.design import default_design; "
        "print(build_emulator(default_design().geometry))"
    )
    processes = [subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) for _ in range(2)]
    outputs = [process.communicate()[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    assert outputs[0] == outputs[1]
    assert counting_compiler.read_text().splitlines() == ["run"]


def test_a_failed_build_leaves_nothing_behind(own_cache: Path) -> None:
    def fail(folder: Path) -> Path:
        (folder / "half").write_text("half of a file")
        raise CompilerFailedError("found", "expected", "do")

    with pytest.raises(CompilerFailedError):
        cached_file("emulator-1.so", fail)
    assert [path.name for path in own_cache.iterdir()] == ["emulator-1.lock"]


@pytest.mark.parametrize("command", ["no-such-compiler", "no-such-compiler -m32"])
def test_a_missing_compiler_is_named(
    own_cache: Path, monkeypatch: pytest.MonkeyPatch, small_geometry: Geometry, command: str
) -> None:
    monkeypatch.setenv("CXX", command)
    with pytest.raises(CompilerMissingError) as caught:
        build_emulator(small_geometry)
    assert text(caught.value) == [
        f"no C++ compiler: '{command}' (CXX) is not an executable command",
        "a C++17 compiler, which builds the emulated overlay on first use",
        "install one (apt-get install g++), or set CXX to its command",
    ]


def test_the_default_compiler_is_named(
    own_cache: Path, monkeypatch: pytest.MonkeyPatch, small_geometry: Geometry
) -> None:
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setenv("PATH", str(own_cache))
    with pytest.raises(CompilerMissingError) as caught:
        build_emulator(small_geometry)
    assert caught.value.found == "no C++ compiler: 'g++' (the default compiler) is not an executable command"


def test_a_compiler_that_is_none_is_named(
    own_cache: Path, monkeypatch: pytest.MonkeyPatch, small_geometry: Geometry
) -> None:
    monkeypatch.setenv("CXX", "false")
    with pytest.raises(CompilerMissingError) as caught:
        build_emulator(small_geometry)
    assert caught.value.found == "no C++ compiler: 'false' (CXX) does not answer --version"


def test_the_compilers_first_errors_are_shown(own_cache: Path) -> None:
    narrow = replace(default_design().geometry, bus_bits=128)
    with pytest.raises(CompilerFailedError) as caught:
        build_emulator(narrow)
    assert caught.value.found.splitlines()[0].endswith("ended with status 1:")
    assert "a design's bus has 64 bits" in caught.value.found
    assert 2 <= len(caught.value.found.splitlines()) <= 9
    assert text(caught.value)[1:] == [
        "a compiler of C++17 that accepts the kernels of this version of hetfab",
        "set CXX to g++ 9 or newer; if it is, report the lines above",
    ]


def test_an_unwritable_cache_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small_geometry: Geometry
) -> None:
    (tmp_path / "file").write_text("not a folder")
    folder = tmp_path / "file" / "cache"
    monkeypatch.setenv("HETFAB_CACHE", str(folder))
    with pytest.raises(CacheUnwritableError) as caught:
        build_emulator(small_geometry)
    assert text(caught.value) == [
        f"cannot write built overlays to '{folder}': Not a directory",
        "a folder that this user may create and write to, with free space",
        "set HETFAB_CACHE to another folder",
    ]


def test_missing_headers_are_named(own_cache: Path, monkeypatch: pytest.MonkeyPatch, small_geometry: Geometry) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(PackageMissingError) as caught:
        build_emulator(small_geometry, Arithmetic.AP_INT)
    assert text(caught.value) == [
        "the Python package hls4ml is not installed",
        "hls4ml 1.3, which brings the ap_int headers",
        "pip install 'hetfab[hls]', or use native integers",
    ]


def test_hls4ml_is_not_imported() -> None:
    code = (
        "import sys; from hetfab.hls.build import emulator; emulator.ap_types_folder(); print('hls4ml' in sys.modules)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout == "False\n"


def test_a_library_of_another_geometry_is_refused(small_geometry: Geometry) -> None:
    other = replace(small_geometry, queue_depth=5)
    with pytest.raises(GeometryMismatchError) as caught:
        Emulator(build_emulator(small_geometry), other)
    assert f"was built for the geometry {small_geometry.hash()[:16]}" in caught.value.found
    assert caught.value.expected == f"an emulator of the geometry {other.hash()[:16]}"


def test_memories_are_checked_by_name_and_depth(small_emulator: Emulator) -> None:
    with pytest.raises(DeviceMemoryError, match=r"no on-chip memory 'dram'"):
        small_emulator.read_ram("dram", 0, 1)
    with pytest.raises(DeviceMemoryError, match=r"words 127 to 128 of act_l_ram"):
        small_emulator.read_ram("act_l_ram", 127, 2)


@pytest.mark.parametrize("arithmetic", list(Arithmetic))
@pytest.mark.parametrize("engine", ["load", "store", "gemm_d", "gemm_l", "vec", "agg", "dispatch"])
def test_top_functions_compile(engine: str, arithmetic: Arithmetic, tmp_path: Path, default_geometry: Geometry) -> None:
    from hetfab.hls.build import emulator
    from hetfab.hls.build.compiler import find_compiler
    from hetfab.hls.build.design_header import design_header

    (tmp_path / "design.hpp").write_text(design_header(default_geometry))
    flags = [
        "-std=c++17",
        "-fsyntax-only",
        "-Wall",
        "-Wextra",
        "-Wconversion",
        "-Werror",
        "-Wno-unknown-pragmas",
    ]
    flags += ["-Wno-unused-label", f"-I{KERNELS.parent / 'include'}", f"-I{tmp_path}"]
    if arithmetic is Arithmetic.AP_INT:
        flags += ["-DHETFAB_AP_INT", "-DHETFAB_PLANE_BOXES", "-isystem", str(emulator.ap_types_folder())]
    find_compiler().run([*flags, str(KERNELS / f"{engine}.cpp")])


def test_the_top_function_of_dispatch_is_that_of_the_tables() -> None:
    from hetfab.overlay.isa.generate_cpp import dispatch_top

    assert (KERNELS / "dispatch.cpp").read_text() == dispatch_top()
