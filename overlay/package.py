# SPDX-License-Identifier: Apache-2.0
"""The container of an overlay: ``<name>/<name>.{bit,hwh,json}``, PYNQ's convention plus a description (docs/pynq.md).

The description holds the design and the hashes of the other two files, and is written last: a package is there when it
is complete.
"""

import enum
import functools
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from hetfab.overlay.archives import LARGEST_JSON_BYTES, read_limited
from hetfab.overlay.bit_file import decode_bit_file
from hetfab.overlay.blockdesign.handoff import read_handoff
from hetfab.overlay.design import Design, design_from_dict
from hetfab.overlay.errors import (
    DesignInvalidError,
    IsaVersionError,
    OutputUnwritableError,
    OverlayPackageError,
    why_unreadable,
)
from hetfab.overlay.files import write_atomic
from hetfab.overlay.isa.spec import isa
from hetfab.overlay.versions import PACKAGE

#: The largest parts have bitstreams of some 200 MB, and handoffs of a few.
_LARGEST_BYTES = {"bit": 512 << 20, "hwh": 64 << 20}
#: Emulated .bit files of version 1 did not state their format.
_UNSTATED = {"format": "hetfab overlay 1"}


class Kind(enum.Enum):
    """What stands in the .bit file."""

    EMULATED = "emulated"
    HARDWARE = "hardware"


@dataclass(frozen=True)
class Package:
    """An overlay package whose files belong together.

    Attributes:
        name: Name of the overlay, and of its files.
        kind: Emulated, or a bitstream.
        design: The overlay's design.
        bit: Path of the .bit file; ``hwh`` is beside it.
    """

    name: str
    kind: Kind
    design: Design
    bit: Path

    @property
    def hwh(self) -> Path:
        """Path of the hardware handoff file."""
        return self.bit.with_suffix(".hwh")


def write_package(folder: Path, design: Design, kind: Kind, bit: bytes, hwh: bytes) -> Package:
    """Writes a package to ``folder/<name>``; equal content gives equal bytes.

    Args:
        folder: Made if it does not exist.
        design: Its name becomes the package's.
        kind: What ``bit`` is.
        bit: A .bit file.
        hwh: The hardware handoff of the same build.

    Raises:
        OutputUnwritableError: The folder cannot be written.
    """
    target = folder / design.name
    try:
        target.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputUnwritableError(
            f"cannot make the folder '{target}': {error.strerror or error}",
            "a place where this user may create folders",
            "name another folder",
        ) from error
    header = {
        "format": PACKAGE.mark,
        "name": design.name,
        "kind": kind.value,
        "isa_version": list(isa().version),
        "geometry_hash": design.geometry.hash(),
        "design": design.as_dict(),
        "sha256": {"bit": _sha256(bit), "hwh": _sha256(hwh)},
    }
    contents = {"hwh": hwh, "bit": bit, "json": (json.dumps(header, indent=1, sort_keys=True) + "\n").encode()}
    for suffix, raw in contents.items():
        write_atomic(target / f"{design.name}.{suffix}", functools.partial(_write, raw))
    return Package(design.name, kind, design, target / f"{design.name}.bit")


def read_package(description: Path) -> Package:
    """Reads the package of a ``.json`` file and checks that the files beside it are whole and belong to it.

    Raises:
        OverlayPackageError: A file is missing, damaged, or of another package.
        FormatVersionError: It is of another version of the format.
        IsaVersionError: It is of another version of the instruction set.
    """
    header = _header(description)
    if header.get("isa_version") != list(isa().version):
        raise IsaVersionError(
            f"the overlay package '{description}' is for version {header.get('isa_version')} of the instruction set",
            f"version {list(isa().version)}",
            f"make it anew: {_remake(header)}; or use the hetfab that it was built with",
        )
    files = {}
    for suffix in ("bit", "hwh"):
        path = description.with_suffix(f".{suffix}")
        try:
            files[suffix] = read_limited(path, _LARGEST_BYTES[suffix])
        except (OSError, ValueError) as error:
            raise _damaged(path, why_unreadable(error)) from error
        if _sha256(files[suffix]) != header["sha256"][suffix]:
            raise _damaged(path, f"it is not the file that '{description.name}' describes")
    try:
        design = design_from_dict(header["design"], str(description))
        kind = Kind(header["kind"])
        if header["geometry_hash"] != design.geometry.hash():
            raise ValueError("the geometry does not have the stored hash")
        if not header.get("name") == design.name == description.stem:
            raise ValueError(f"it describes {str(header.get('name'))[:64]!r} with the design '{design.name}'")
        read_handoff(files["hwh"])
        emulated = decode_bit_file(files["bit"]).emulated()
    except (DesignInvalidError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise _damaged(description, why_unreadable(error)) from error
    if (emulated is None) != (kind is Kind.HARDWARE):
        raise _damaged(description, f"it says '{kind.value}', the .bit file does not")
    return Package(design.name, kind, design, description.with_suffix(".bit"))


def read_emulated_bit(bit: Path) -> Design:
    """The design in the .bit file of an emulated overlay, as a device reads it that gets that file alone.

    Raises:
        OverlayPackageError: The file is missing, damaged, or a bitstream for a board, or the .hwh file beside it is
            another one's.
        FormatVersionError: It is of another version of the format.
    """
    try:
        content = decode_bit_file(read_limited(bit, _LARGEST_BYTES["bit"])).emulated()
        if content is None:
            raise ValueError("it is a bitstream for a board, not an emulated overlay")
        _check_format(bit, {**_UNSTATED, **content})
        design = design_from_dict(content["design"], str(bit))
        hwh = read_limited(bit.with_suffix(".hwh"), _LARGEST_BYTES["hwh"])
        if _sha256(hwh) != content["hwh_sha256"]:
            raise ValueError(f"'{bit.with_suffix('.hwh').name}' is of another overlay")
        read_handoff(hwh)
    except (DesignInvalidError, OSError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise _damaged(bit, why_unreadable(error)) from error
    return design


def _header(description: Path) -> dict[str, Any]:
    try:
        header = json.loads(read_limited(description, LARGEST_JSON_BYTES).decode("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise _damaged(description, why_unreadable(error)) from error
    _check_format(description, header)
    hashes = header.get("sha256")
    if not isinstance(hashes, dict) or not {"bit", "hwh"} <= set(hashes):
        raise _damaged(description, "it has no hashes of the .bit and .hwh files")
    return header


def _check_format(path: Path, header: Any) -> None:
    version = PACKAGE.stated(header.get("format")) if isinstance(header, dict) else None
    if version is None:
        raise _damaged(path, f"it is not in the format '{PACKAGE.mark}'")
    PACKAGE.current(header, version, str(path), _remake(header))


def _remake(header: dict[str, Any]) -> str:
    """The command that builds a package again; the name of its board is one of few things that all versions state."""
    design = header.get("design")
    named = design.get("board") if isinstance(design, dict) else None
    board = named if isinstance(named, str) and named.replace("-", "").isalnum() else "BOARD"
    return f"hetfab build --board {board}" + (" --emulated" if header.get("kind") != Kind.HARDWARE.value else "")


def _write(raw: bytes, file: BinaryIO) -> None:
    file.write(raw)


def _sha256(raw: bytes) -> str:
    return hashlib.sha256(raw).hexdigest()


def _damaged(path: Path, reason: str) -> OverlayPackageError:
    return OverlayPackageError(
        f"cannot use '{path}': {reason}",
        "a whole overlay package: <name>.bit, <name>.hwh and <name>.json of one build",
        "copy all three files again, or build the overlay again",
    )
