# SPDX-License-Identifier: Apache-2.0
"""One distribution from five folders: the guards against second copies, and what an install holds."""

import importlib
import importlib.metadata
import importlib.resources
import importlib.util
import os
import re
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("overlay", "quantize", "hls", "driver", "cli")
#: Files of a package folder that an install leaves out.
NOT_INSTALLED = {".md"}
#: What a build reads beside the packages.
BESIDE = ("pyproject.toml", "MANIFEST.in", "README.md", "CHANGELOG.md", "LICENSE")
#: A time of a release: 2026-01-01 in UTC.
RELEASED = 1767225600


def python(program: str, folder: Path = ROOT) -> subprocess.CompletedProcess[str]:
    """Runs a program with ``folder`` first on ``sys.path``, as ``python -m`` does."""
    return subprocess.run([sys.executable, "-c", program], cwd=folder, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("package", PACKAGES)
def test_a_bare_import_from_the_root_is_refused_in_words(package: str) -> None:
    process = python(f"import {package}")
    assert process.returncode == 1
    assert process.stderr.strip().splitlines()[-1] == (
        f"ImportError: imported as '{package}', but this package is 'hetfab.{package}': "
        f"a second copy would have other classes. Write 'import hetfab.{package}'."
    )


@pytest.mark.parametrize("package", PACKAGES)
def test_lint_refuses_a_bare_import(package: str) -> None:
    process = subprocess.run(
        [Path(sys.executable).with_name("ruff"), "check", "--select=TID251", "--no-cache", "-"],
        input=f"import {package}\nfrom {package} import part\nimport hetfab.{package}\n",
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 1
    assert process.stdout.count(f"write hetfab.{package}: a bare import loads a second copy") == 2


def test_modules_are_listed_once_by_pytest(request: pytest.FixtureRequest) -> None:
    assert request.config.getoption("importmode") == "importlib"
    assert not set(PACKAGES) & set(sys.modules)


def test_benchmarks_do_not_load_a_second_copy() -> None:
    names = sorted(path.stem for path in (ROOT / "benchmarks").glob("*.py") if path.stem != "__init__")
    assert "cold_start" in names
    process = python(
        f"import importlib, sys\nfor name in {names}: importlib.import_module(f'benchmarks.{{name}}')\n"
        "for name, module in sys.modules.items(): print(name, getattr(module, '__file__', None), sep='\\t')"
    )
    assert process.returncode == 0, process.stderr
    loaded = [line.split("\t") for line in process.stdout.splitlines()]
    # An environment may lie in the tree; what others load twice is their affair.
    of_others = Path(sys.prefix)
    files = [Path(file) for _, file in loaded]
    ours = [file for file in files if file.is_relative_to(ROOT) and not file.is_relative_to(of_others)]
    assert ours and len(ours) == len(set(ours))
    assert not set(PACKAGES) & {name for name, _ in loaded}


def test_a_benchmark_runs_from_the_root() -> None:
    process = subprocess.run(
        [sys.executable, "-m", "benchmarks.cold_start", "--json", "--repeats", "1"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert re.fullmatch(r'\{"help_seconds": .*\}\n', process.stdout)


def listed_packages() -> set[str]:
    """The packages of pyproject.toml, read without a TOML parser, which Python 3.10 lacks."""
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    block = re.search(r"^packages = \[(.*?)\]", text, re.MULTILINE | re.DOTALL)
    assert block
    return set(re.findall(r'"([\w.]+)"', block.group(1)))


def package_files() -> Iterator[Path]:
    """Yields what the package folders hold, relative to the root, caches left out."""
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*")):
            hidden = any(part.startswith(".") for part in path.relative_to(ROOT).parts)
            if path.is_file() and "__pycache__" not in path.parts and not hidden:
                yield path.relative_to(ROOT)


def test_every_folder_with_python_files_is_listed() -> None:
    folders = {path.parent for path in package_files() if path.suffix == ".py"}
    assert {".".join(("hetfab", *folder.parts)) for folder in folders} == listed_packages()


@pytest.mark.parametrize("package", PACKAGES)
def test_types_are_announced(package: str) -> None:
    assert importlib.resources.files(f"hetfab.{package}").joinpath("py.typed").is_file()


def test_the_kernels_have_a_real_path() -> None:
    folder = importlib.resources.files("hetfab.hls")
    assert isinstance(folder, Path)
    assert folder.is_dir()


def release() -> ModuleType:
    """The module behind ``make dist``."""
    spec = importlib.util.spec_from_file_location("dist", ROOT / ".ci" / "dist.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Path]]:
    """The wheel and the sdist of this tree, whether or not git tracks its files yet."""
    module = release()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "tracked", lambda root: [*package_files(), *map(Path, BESIDE)])
        yield module.build(ROOT, tmp_path_factory.mktemp("dist"), RELEASED)


def wheel_files(wheel: Path) -> set[str]:
    """The files of the packages in a wheel, without the leading ``hetfab/``."""
    with zipfile.ZipFile(wheel) as archive:
        return {name.removeprefix("hetfab/") for name in archive.namelist() if name.startswith("hetfab/")}


def test_a_wheel_holds_every_file_and_nothing_else(dist: tuple[Path, Path]) -> None:
    """The kernels among them, which the emulated overlay is built from."""
    expected = {path.as_posix() for path in package_files() if path.suffix not in NOT_INSTALLED}
    assert {"overlay/isa/isa.json", "overlay/designs/pynq-z2.json", "cli/py.typed"} <= expected
    assert {"hls/kernels/agg.cpp", "hls/include/hetfab/isa.hpp", "hls/build/emulator.cpp"} <= expected
    assert wheel_files(dist[0]) == expected
    with zipfile.ZipFile(dist[0]) as archive:
        others = {name for name in archive.namelist() if not name.startswith("hetfab/")}
    described = f"hetfab-{importlib.metadata.version('hetfab')}.dist-info"
    names = ("METADATA", "WHEEL", "RECORD", "entry_points.txt", "top_level.txt", "licenses/LICENSE")
    assert others == {f"{described}/{name}" for name in names}


def test_an_sdist_holds_what_a_wheel_is_built_from(dist: tuple[Path, Path]) -> None:
    with tarfile.open(dist[1]) as archive:
        found = {name.partition("/")[2] for name in archive.getnames() if archive.getmember(name).isfile()}
    expected = {path.as_posix() for path in package_files() if path.suffix not in NOT_INSTALLED} | set(BESIDE)
    assert expected <= found
    assert {name for name in found - expected if not name.startswith("hetfab.egg-info/")} == {"PKG-INFO", "setup.cfg"}


def test_equal_sources_give_equal_bytes_at_another_time(
    dist: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Times, modes and order of the files that are packed do not count; those of the members are the stated one's."""
    module = release()
    monkeypatch.setattr(module, "tracked", lambda root: [*map(Path, BESIDE), *reversed(list(package_files()))])
    before = os.umask(0o077)
    try:
        again = module.build(ROOT, tmp_path / "dist", RELEASED)
    finally:
        os.umask(before)
    assert [path.read_bytes() for path in again] == [path.read_bytes() for path in dist]
    with tarfile.open(dist[1]) as archive:
        assert {(member.mtime, member.uid, member.uname) for member in archive.getmembers()} == {(RELEASED, 0, "")}
    with zipfile.ZipFile(dist[0]) as wheel:
        assert {entry.date_time for entry in wheel.infolist()} == {(2026, 1, 1, 0, 0, 0)}


def test_what_git_does_not_track_is_not_packed(tmp_path: Path) -> None:
    for name in ("overlay/a.py", "overlay/stray.json", "docs/page.md", "pyproject.toml"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("", "utf-8")
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
    subprocess.run(["git", "add", "overlay/a.py", "docs/page.md", "pyproject.toml"], cwd=tmp_path, check=True)
    found = release().tracked(tmp_path)
    assert sorted(found) == [Path("overlay/a.py"), Path("pyproject.toml")]


def test_a_regular_install_works(dist: tuple[Path, Path], tmp_path: Path) -> None:
    """What a wheel installs is imported with its data, from a folder that is not the repository."""
    site = tmp_path / "site"
    with zipfile.ZipFile(dist[0]) as archive:
        archive.extractall(site)
    process = python(
        f"import sys; sys.path.insert(0, {str(site)!r})\n"
        "sys.meta_path = [f for f in sys.meta_path if 'editable' not in str(f).lower()]\n"
        "import importlib.resources, hetfab.overlay.design as d, hetfab.cli.main\n"
        "print(d.__file__); print(d.default_design().name); print(importlib.resources.files('hetfab.hls'))",
        tmp_path,
    )
    assert process.returncode == 0, process.stderr
    file, name, kernels = process.stdout.splitlines()
    assert Path(file) == site / "hetfab/overlay/design.py"
    assert name and Path(kernels) == site / "hetfab/hls"
