# SPDX-License-Identifier: Apache-2.0
"""Entry points: what pynq finds of an installed hetfab, by its metadata and by pynq's own lookup."""

import importlib
import importlib.metadata
import os
import subprocess
import sys
from pathlib import Path

import pytest

from hetfab.driver import package as packages
from hetfab.driver.package import find_package, write_emulated_package
from hetfab.driver.pynq_device import EMULATED, VARIABLE
from hetfab.overlay.blockdesign.build import hls_vlnv
from hetfab.overlay.errors import OverlayPackageError
from hetfab.overlay.package import Kind
from tests.pynq_support import has_pynq, require_pynq, small_design_of, supported_boards

GROUPS = {
    "pynq.lib": "hetfab.driver.pynq_transport",
    "pynq.overlays": "hetfab.driver.overlays",
    "pynq.notebooks": "hetfab.driver.notebooks",
}
#: What a board does not have, or loads slowly.
HEAVY = ("onnx", "onnxruntime", "scipy", "qonnx", "rich", "joblib", "jinja2", "matplotlib")


def entry(group: str) -> importlib.metadata.EntryPoint:
    """The entry point of hetfab in a group."""
    (found,) = {point for point in importlib.metadata.entry_points(group=group) if point.name == "hetfab"}
    return found


def run(program: str, folder: Path, **variables: str) -> str:
    """What a program prints that runs in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program],
        cwd=folder,
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("group", GROUPS)
def test_each_group_names_a_module(group: str) -> None:
    assert entry(group).value == GROUPS[group]
    # Without pynq nothing looks these up, and the module of drivers cannot be imported.
    if group != "pynq.lib" or has_pynq():
        assert entry(group).load().__name__ == GROUPS[group]


@pytest.mark.parametrize("group", ["pynq.overlays", "pynq.notebooks"])
def test_folders_load_nothing(group: str, tmp_path: Path) -> None:
    program = f"import sys, {GROUPS[group]}\nprint([name for name in ('numpy', *{HEAVY}) if name in sys.modules])"
    assert run(program, tmp_path) == "[]\n"


def test_the_folder_of_overlays_holds_no_package_yet() -> None:
    folder = Path(next(iter(importlib.import_module(GROUPS["pynq.overlays"]).__path__)))
    assert folder == packages.INSTALLED
    assert not [path for path in folder.rglob("*") if path.suffix in (".bit", ".hwh", ".json")]
    with pytest.raises(OverlayPackageError, match=str(folder / "pynq-z2")):
        find_package("pynq-z2")


def test_a_package_in_that_folder_is_found_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packages, "INSTALLED", tmp_path / "installed")
    written = write_emulated_package(tmp_path / "installed", small_design_of("pynq-z2"))
    assert find_package("small") == written and written.kind is Kind.EMULATED


def test_the_folder_of_notebooks_holds_one() -> None:
    folder = Path(next(iter(importlib.import_module(GROUPS["pynq.notebooks"]).__path__)))
    assert [path.name for path in folder.glob("*.ipynb")] == ["first_run.ipynb"]


def test_the_module_of_drivers_needs_no_device(tmp_path: Path) -> None:
    require_pynq()
    program = (
        f"import sys, {GROUPS['pynq.lib']}\nfrom pynq.overlay import _ip_drivers\nfrom pynq.pl_server.device import "
        f"DeviceMeta\nprint(_ip_drivers[{hls_vlnv('dispatch')!r}].__module__, hasattr(DeviceMeta, '_devices'), "
        f"[name for name in {HEAVY} if name in sys.modules])"
    )
    assert run(program, tmp_path, **{VARIABLE: ""}) == f"{GROUPS['pynq.lib']} False []\n"


def test_pynq_binds_the_driver_and_finds_packages_by_name(tmp_path: Path) -> None:
    """The program imports of hetfab only what selects the device, and where packages are in this test."""
    require_pynq()
    import pynq

    write_emulated_package(tmp_path / "installed", small_design_of(supported_boards(pynq.__version__)[0]))
    program = (
        "import hetfab.driver.pynq_device as device; device.register()\n"
        f"import sys, hetfab.driver.overlays as folder; folder.__path__ = [{str(tmp_path / 'installed')!r}]\n"
        f"assert {GROUPS['pynq.lib']!r} not in sys.modules\n"
        "from pynq import Overlay\n"
        "overlay = Overlay('small.bit')\n"
        f"(name,) = [n for n, e in overlay.ip_dict.items() if e['type'] == {hls_vlnv('dispatch')!r}]\n"
        "print(overlay.bitfile_name)\n"
        "print(type(getattr(overlay, name)).__module__, type(getattr(overlay, name)).__name__)\n"
    )
    found = run(program, tmp_path, **{VARIABLE: EMULATED})
    assert found.splitlines() == [
        str(tmp_path / "installed" / "small" / "small.bit"),
        f"{GROUPS['pynq.lib']} Dispatch",
    ]


def test_pynq_copies_the_notebook(tmp_path: Path) -> None:
    require_pynq()
    program = (
        "import sys; sys.argv = ['get-notebooks', 'hetfab', '-o', '-p', 'copied']\n"
        "from pynq._cli.get_notebooks import main; main()"
    )
    run(program, tmp_path)
    copied = [path.relative_to(tmp_path / "copied") for path in (tmp_path / "copied").rglob("*.ipynb")]
    assert copied == [Path("hetfab/first_run.ipynb")]
