# SPDX-License-Identifier: Apache-2.0
"""One distribution from five folders: the guards against second copies, and what an install holds."""

import importlib
import importlib.resources
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("overlay", "quantize", "hls", "driver", "cli")
#: Files of a package folder that an install leaves out.
NOT_INSTALLED = {".md"}


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


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what a build reads, since setuptools leaves files beside its sources."""
    folder = tmp_path_factory.mktemp("source")
    for package in PACKAGES:
        shutil.copytree(ROOT / package, folder / package, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder)
    return folder


def build(source: Path, kind: str, target: Path) -> Path:
    """Builds a wheel or an sdist with the setuptools of this environment."""
    target.mkdir(exist_ok=True)
    process = python(f"from setuptools import build_meta as b; b.build_{kind}({str(target)!r})", source)
    assert process.returncode == 0, process.stderr
    (built,) = target.iterdir()
    return built


def wheel_files(wheel: Path) -> set[str]:
    """The files of the packages in a wheel, without the leading ``hetfab/``."""
    with zipfile.ZipFile(wheel) as archive:
        return {name.removeprefix("hetfab/") for name in archive.namelist() if name.startswith("hetfab/")}


def test_a_wheel_and_an_sdist_hold_every_file(copy: Path, tmp_path: Path) -> None:
    expected = {path.relative_to(copy).as_posix() for package in PACKAGES for path in (copy / package).rglob("*")}
    expected = {name for name in expected if (copy / name).is_file() and Path(name).suffix not in NOT_INSTALLED}
    assert {"overlay/isa/isa.json", "overlay/designs/pynq-z2.json", "cli/py.typed"} <= expected

    sdist = build(copy, "sdist", tmp_path / "sdist")
    with tarfile.open(sdist) as archive:
        # Debian's Python 3.11.2 has no filters yet; newer ones warn without one.
        archive.extraction_filter = getattr(tarfile, "data_filter", None)
        archive.extractall(tmp_path / "unpacked")
    (unpacked,) = (tmp_path / "unpacked").iterdir()
    wheel = build(unpacked, "wheel", tmp_path / "wheel")
    assert wheel_files(wheel) == expected


def test_a_regular_install_works(copy: Path, tmp_path: Path) -> None:
    """What a wheel installs is imported with its data, from a folder that is not the repository."""
    wheel = build(copy, "wheel", tmp_path / "wheel")
    site = tmp_path / "site"
    with zipfile.ZipFile(wheel) as archive:
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
