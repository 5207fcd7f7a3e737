# SPDX-License-Identifier: Apache-2.0
"""The container of an overlay: ``<name>/<name>.{bit,hwh,json}``, PYNQ's convention plus a description (docs/pynq.md).

The description holds the design and the hashes of the other two files, and is written last: a package is there when it
is complete.
"""

import dataclasses
import enum
import functools
import hashlib
import json
import re
from collections.abc import Mapping
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
LARGEST_BYTES = {"bit": 512 << 20, "hwh": 64 << 20}
#: Emulated .bit files of version 1 did not state their format.
_UNSTATED = {"format": "hetfab overlay 1"}
_LONGEST_SHOWN = 80


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
        bit_sha256: SHA-256 of the .bit file.
    """

    name: str
    kind: Kind
    design: Design
    bit: Path
    bit_sha256: str

    @property
    def hwh(self) -> Path:
        """Path of the hardware handoff file."""
        return self.bit.with_suffix(".hwh")


@dataclass(frozen=True)
class Origin:
    """Who built a bitstream that others may use, and what speaks for it (docs/bitstreams.md).

    Attributes:
        tool: Name and release of the tool that wrote it.
        builder: Who ran the tool, as they want to be named.
        bit_bytes: Size of the .bit file.
        vectors: By engine, vectors of the self-test that this very bitstream passed.
    """

    tool: str
    builder: str
    bit_bytes: int
    vectors: Mapping[str, int]


@dataclass(frozen=True)
class Description:
    """What the .json file of a package says.

    Attributes:
        name: Name of the overlay, and of its files.
        kind: Emulated, or a bitstream.
        design: The overlay's design.
        sha256: Of the files beside it, by suffix.
        origin: Of a bitstream that was contributed.
    """

    name: str
    kind: Kind
    design: Design
    sha256: Mapping[str, str]
    origin: Origin | None


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
    contents = {"hwh": hwh, "bit": bit, "json": _encoded(header)}
    for suffix, raw in contents.items():
        write_atomic(target / f"{design.name}.{suffix}", functools.partial(_write, raw))
    return Package(design.name, kind, design, target / f"{design.name}.bit", _sha256(bit))


def with_origin(description: Path, origin: Origin) -> bytes:
    """Content of a description with the origin of its bitstream.

    Raises:
        ValueError: The origin is none that ``read_description`` takes.
        OverlayPackageError: The description is damaged.
    """
    stated = dataclasses.asdict(origin)
    _origin(stated)
    return _encoded(_header(description) | {"origin": stated})


def read_description(path: Path) -> Description:
    """Reads the ``.json`` file of a package, whose other files may be elsewhere.

    Raises:
        OverlayPackageError: It is missing or damaged.
        FormatVersionError: It is of another version of the format.
        IsaVersionError: It is of another version of the instruction set.
    """
    header = _header(path)
    if header.get("isa_version") != list(isa().version):
        shown = ascii(header.get("isa_version"))[:_LONGEST_SHOWN]
        raise IsaVersionError(
            f"the overlay package '{path}' is for version {shown} of the instruction set",
            f"version {list(isa().version)}",
            f"make it anew: {_remake(header)}; or use the hetfab that it was built with",
        )
    try:
        design = design_from_dict(header["design"], str(path))
        kind = Kind(header["kind"])
        if header["geometry_hash"] != design.geometry.hash():
            raise ValueError("the geometry does not have the stored hash")
        if not header.get("name") == design.name == path.stem:
            raise ValueError(f"it describes {str(header.get('name'))[:64]!r} with the design '{design.name}'")
        origin = None if header.get("origin") is None else _origin(header["origin"])
    except (DesignInvalidError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise _damaged(path, why_unreadable(error)) from error
    return Description(design.name, kind, design, header["sha256"], origin)


def read_package(description: Path) -> Package:
    """Reads the package of a ``.json`` file and checks that the files beside it are whole and belong to it.

    Raises:
        OverlayPackageError: A file is missing, damaged, or of another package.
        FormatVersionError: It is of another version of the format.
        IsaVersionError: It is of another version of the instruction set.
    """
    said = read_description(description)
    files = {}
    for suffix in ("bit", "hwh"):
        path = description.with_suffix(f".{suffix}")
        if suffix == "bit" and not path.exists() and link_of(description).exists():
            raise OverlayPackageError(
                f"the bitstream '{path}' is not here, only a link to it",
                "a package with its bitstream",
                f"hetfab bitstream {said.name}, which downloads and checks it",
            )
        try:
            files[suffix] = read_limited(path, LARGEST_BYTES[suffix])
        except (OSError, ValueError) as error:
            raise _damaged(path, why_unreadable(error)) from error
        if _sha256(files[suffix]) != said.sha256[suffix]:
            raise _damaged(path, f"it is not the file that '{description.name}' describes")
    try:
        read_handoff(files["hwh"])
        emulated = decode_bit_file(files["bit"]).emulated()
    except (ValueError, RecursionError) as error:
        raise _damaged(description, why_unreadable(error)) from error
    if (emulated is None) != (said.kind is Kind.HARDWARE):
        raise _damaged(description, f"it says '{said.kind.value}', the .bit file does not")
    return Package(said.name, said.kind, said.design, description.with_suffix(".bit"), said.sha256["bit"])


def link_of(description: Path) -> Path:
    """Path of the link that stands where a package's bitstream has to be downloaded first."""
    return description.with_suffix(".bit.link")


def _origin(entry: Any) -> Origin:
    origin = Origin(**entry)
    texts = (origin.tool, origin.builder)
    if not all(isinstance(text, str) and text.isprintable() and 0 < len(text) <= 200 for text in texts):
        raise ValueError("the tool and the builder of its bitstream are no texts of one line")
    counts = (origin.bit_bytes, *dict(origin.vectors).values())
    if not all(isinstance(count, int) and count > 0 for count in counts) or not origin.vectors:
        raise ValueError("the size of its bitstream or the vectors that it passed are no numbers")
    if origin.bit_bytes > LARGEST_BYTES["bit"] or not all(str(engine).isidentifier() for engine in origin.vectors):
        raise ValueError("its bitstream is too large, or an engine has no name")
    return origin


def read_emulated_bit(bit: Path) -> Design:
    """The design in the .bit file of an emulated overlay, as a device reads it that gets that file alone.

    Raises:
        OverlayPackageError: The file is missing, damaged, or a bitstream for a board, or the .hwh file beside it is
            another one's.
        FormatVersionError: It is of another version of the format.
    """
    try:
        content = decode_bit_file(read_limited(bit, LARGEST_BYTES["bit"])).emulated()
        if content is None:
            raise ValueError("it is a bitstream for a board, not an emulated overlay")
        _check_format(bit, {**_UNSTATED, **content})
        design = design_from_dict(content["design"], str(bit))
        hwh = read_limited(bit.with_suffix(".hwh"), LARGEST_BYTES["hwh"])
        if _sha256(hwh) != content["hwh_sha256"]:
            raise ValueError(f"'{bit.with_suffix('.hwh').name}' is of another overlay")
        read_handoff(hwh)
    except (DesignInvalidError, OSError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise _damaged(bit, why_unreadable(error)) from error
    return design


def _header(description: Path) -> dict[str, Any]:
    try:
        header: dict[str, Any] = json.loads(read_limited(description, LARGEST_JSON_BYTES).decode("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise _damaged(description, why_unreadable(error)) from error
    _check_format(description, header)
    hashes = header.get("sha256")
    if not isinstance(hashes, dict) or not all(_is_sha256(hashes.get(suffix)) for suffix in ("bit", "hwh")):
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


def _encoded(header: dict[str, Any]) -> bytes:
    return (json.dumps(header, indent=1, sort_keys=True) + "\n").encode()


def _write(raw: bytes, file: BinaryIO) -> None:
    file.write(raw)


def _sha256(raw: bytes) -> str:
    return hashlib.sha256(raw).hexdigest()


def _is_sha256(text: Any) -> bool:
    return isinstance(text, str) and re.fullmatch("[0-9a-f]{64}", text) is not None


def _damaged(path: Path, reason: str) -> OverlayPackageError:
    return OverlayPackageError(
        f"cannot use '{path}': {reason}",
        "a whole overlay package: <name>.bit, <name>.hwh and <name>.json of one build",
        "copy all three files again, or build the overlay again",
    )
