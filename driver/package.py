# SPDX-License-Identifier: Apache-2.0
"""Overlay packages for the driver: writes those of emulated overlays, finds packages by name (docs/pynq.md)."""

import hashlib
import json
import os
from pathlib import Path

from hetfab.driver.board.store import store_folder
from hetfab.overlay.bit_file import emulated_bit_file
from hetfab.overlay.board import read_board
from hetfab.overlay.design import Design
from hetfab.overlay.errors import OverlayPackageError
from hetfab.overlay.isa.spec import isa
from hetfab.overlay.package import Kind, Package, read_package, write_package
from hetfab.overlay.versions import PACKAGE

#: Environment variable with folders that hold packages, separated as in ``PATH``.
FOLDERS_VARIABLE = "HETFAB_OVERLAYS"
#: Folder of the packages that are installed with hetfab; the entry point ``pynq.overlays`` names it.
INSTALLED = Path(__file__).parent / "overlays"


def write_emulated_package(folder: Path, design: Design) -> Package:
    """Writes the package of an emulated overlay to ``folder/<name>``; equal designs give equal bytes.

    Args:
        folder: Made if it does not exist.
        design: Its name becomes the package's.

    Raises:
        OutputUnwritableError: The folder cannot be written.
        DesignInvalidError: The design's board or clock is not known.
    """
    from hetfab.overlay.blockdesign.build import block_design
    from hetfab.overlay.blockdesign.hwh import hwh_text

    hwh = hwh_text(block_design(design)).encode()
    content = {"format": PACKAGE.mark, "design": design.as_dict(), "hwh_sha256": _sha256(hwh)}
    bit = emulated_bit_file(design.name, read_board(design.board).part, content).encode()
    return write_package(folder, design, Kind.EMULATED, bit, hwh)


def emulated_package(design: Design) -> Package:
    """The package of a design's emulated overlay, written to the user's cache folder.

    Raises:
        OutputUnwritableError: The folder cannot be written.
        DesignInvalidError: The design's board or clock is not known.
    """
    from hetfab.hls.build.cache import package_folder

    content = json.dumps([list(isa().version), design.as_dict()], sort_keys=True)
    return write_emulated_package(package_folder(_sha256(content.encode())[:16]), design)


def package_folders() -> list[Path]:
    """Folders in which packages are looked for by name, those of ``$HETFAB_OVERLAYS`` first."""
    named = [Path(entry) for entry in os.environ.get(FOLDERS_VARIABLE, "").split(os.pathsep) if entry]
    return [*named, Path("overlays"), store_folder(), INSTALLED]


def find_description(name: Path | str) -> Path:
    """The ``.json`` file of a package; of several of one name, the first that has its bitstream.

    Args:
        name: As ``find_package`` takes it.

    Raises:
        OverlayPackageError: There is none.
    """
    path = Path(name)
    candidates = [path.with_suffix(".json")] if path.suffix in (".bit", ".hwh", ".json") else []
    candidates.append(path / f"{path.name}.json")
    if path.name == str(name):
        candidates += [folder / path.name / f"{path.name}.json" for folder in package_folders()]
    found = [candidate for candidate in candidates if candidate.is_file()]
    if not found:
        raise OverlayPackageError(
            f"there is no overlay package '{name}': none of " + ", ".join(f"'{path}'" for path in candidates),
            "the path of a package's folder or .bit file, or a package's name",
            f"correct the path, or name the folder of packages in {FOLDERS_VARIABLE}",
        )
    return next((each for each in found if each.with_suffix(".bit").exists()), found[0])


def find_package(name: Path | str) -> Package:
    """Finds and reads a package.

    Args:
        name: Path of one of its files or of its folder; or its name, which is looked for in the folders of
            ``$HETFAB_OVERLAYS``, in ``overlays`` here, among the packages that arrived over ssh, and among those that
            are installed with hetfab.

    Raises:
        OverlayPackageError: There is none, or it is damaged.
        FormatVersionError: It is of another version of the format.
        IsaVersionError: It is of another version of the instruction set.
    """
    return read_package(find_description(name))


def _sha256(raw: bytes) -> str:
    return hashlib.sha256(raw).hexdigest()
