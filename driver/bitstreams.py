# SPDX-License-Identifier: Apache-2.0
"""Bitstreams that others built: described for them, listed, and downloaded to where packages are found.

A contributed bitstream is an overlay package with ``<name>.bit.link`` in place of its .bit file, in PYNQ's form
(``pynqutils.setup_utils``): JSON with ``url`` and ``md5sum``. docs/bitstreams.md describes both.
"""

import contextlib
import functools
import hashlib
import json
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from hetfab.driver.download import Promise, check_link, download
from hetfab.driver.package import find_description, package_folders
from hetfab.overlay.archives import LARGEST_JSON_BYTES, read_limited
from hetfab.overlay.errors import (
    BitstreamInvalidError,
    HetfabError,
    OutputUnwritableError,
    OverlayPackageError,
    why_unreadable,
)
from hetfab.overlay.files import make_folder, write_atomic
from hetfab.overlay.package import (
    LARGEST_BYTES,
    Description,
    Kind,
    Origin,
    Package,
    link_of,
    read_description,
    read_package,
    with_origin,
)

_LONGEST_SHOWN = 80


@dataclass(frozen=True)
class Listed:
    """A package that was found by name.

    Attributes:
        path: Its .json file.
        description: What that says, None where it cannot be read.
        problem: Why not; empty where it can.
        here: Whether the .bit file is beside it.
    """

    path: Path
    description: Description | None
    problem: str
    here: bool


def listed() -> list[Listed]:
    """All packages in the folders where packages are looked for by name, the first of each name."""
    found: dict[str, Listed] = {}
    for folder in package_folders():
        for path in sorted(folder.glob("*/*.json")):
            if path.stem == path.parent.name:
                found.setdefault(path.stem, _listed(path))
    return list(found.values())


def _listed(path: Path) -> Listed:
    here = path.with_suffix(".bit").exists()
    try:
        return Listed(path, read_description(path), "", here)
    except HetfabError as error:
        return Listed(path, None, error.found, here)


def fetch(name: Path | str, folder: Path) -> Package:
    """Downloads the bitstream of a package and writes the whole package to ``folder/<name>``, or nothing.

    Args:
        name: As ``find_package`` takes it.
        folder: Made if it does not exist.

    Raises:
        OverlayPackageError: There is no such package, or it is damaged, or what came does not fit its description.
        FormatVersionError: It is of another version of the format.
        IsaVersionError: It is of another version of the instruction set.
        BitstreamInvalidError: It has no origin, or no link.
        DownloadRefusedError: The link has no checksum, or leads to something else.
        DownloadFailedError: The server does not give it.
        OutputUnwritableError: The folder cannot be written, or holds a package of this name.
    """
    path = find_description(name)
    said = read_description(path)
    if said.origin is None:
        raise _invalid(path, "says nothing of who built its bitstream and how large it is")
    target = folder / said.name / path.name
    # A description that lies there with its link is completed where it is.
    if target.exists() and not (target.samefile(path) and not target.with_suffix(".bit").exists()):
        raise OutputUnwritableError(
            f"'{target.parent}' holds a package already", "a folder without one of this name", "name another folder"
        )
    url, md5 = _read_link(link_of(path))
    hwh = _hwh(path, said)
    description = read_limited(path, LARGEST_JSON_BYTES)
    with _new_package(target) as new:
        download(url, new.with_suffix(".bit"), Promise(said.origin.bit_bytes, said.sha256["bit"], md5))
        _write(new.with_suffix(".hwh"), hwh)
        _write(new, description)
    return read_package(target)


@contextlib.contextmanager
def _new_package(target: Path) -> Iterator[Path]:
    """Where to write a package before it is at its place; it gets there if it is whole, its description last."""
    folder = make_folder(target.parents[1])
    try:
        with tempfile.TemporaryDirectory(prefix=".", suffix=".part", dir=folder) as beside:
            new = Path(beside) / target.name
            yield new
            _check_whole(new, target)
            make_folder(target.parent)
            for suffix in (".hwh", ".bit", ".json"):
                new.with_suffix(suffix).replace(target.with_suffix(suffix))
    except OSError as error:
        raise OutputUnwritableError(
            f"cannot write '{target.parent}': {error.strerror or error}",
            "a folder that this user may write to",
            "name another folder, or check its permissions and free space",
        ) from error


def _check_whole(new: Path, target: Path) -> None:
    """Names the place that a package is for where it is none."""
    try:
        read_package(new)
    except OverlayPackageError as error:
        raise OverlayPackageError(
            error.found.replace(str(new.parent), str(target.parent)),
            error.expected,
            "nothing was written; tell whoever described the bitstream",
        ) from error


def describe(
    package: Package, *, tool: str, builder: str, report: Mapping[str, Any], url: str, folder: Path
) -> Description:
    """Writes what a contribution consists of to ``folder/<name>``: description, handoff and link.

    Args:
        package: The package that ``hetfab build`` wrote.
        tool: Name and release of the tool that wrote the bitstream.
        builder: Who ran it.
        report: What ``hetfab selftest --package ... --json`` printed.
        url: Where the .bit file will be.
        folder: Made if it does not exist.

    Raises:
        BitstreamInvalidError: The report is of another bitstream, of an emulation, or names differences; or the
            tool or the builder is no text of one line. Nothing is written before all is checked.
        DownloadRefusedError: The link could not be followed.
        OutputUnwritableError: The folder cannot be written, or holds the package itself.
    """
    check_link(url)
    given = package.bit.with_suffix(".json")
    target = folder / package.name / given.name
    if target.exists() and target.samefile(given):
        raise OutputUnwritableError(
            f"'{target.parent}' holds the package itself", "another folder for what is contributed", "give it with -o"
        )
    bit = read_limited(package.bit, LARGEST_BYTES["bit"])
    hwh = _hwh(given, read_description(given))
    try:
        content = with_origin(given, Origin(tool, builder, len(bit), _passed(package, report)))
    except ValueError as error:
        raise _invalid(package.bit, f"cannot be described: {error}") from error
    make_folder(target.parent)
    _write(target.with_suffix(".hwh"), hwh)
    link = {"url": url, "md5sum": hashlib.md5(bit, usedforsecurity=False).hexdigest()}
    _write(link_of(target), (json.dumps(link, indent=1) + "\n").encode())
    _write(target, content)
    return read_description(target)


def read_report(path: Path) -> Mapping[str, Any]:
    """Reads what ``hetfab selftest --json`` printed.

    Raises:
        BitstreamInvalidError: It cannot be read.
    """
    return _json_object(path)


def _passed(package: Package, report: Mapping[str, Any]) -> dict[str, int]:
    """Vectors by engine that an overlay passed."""
    vectors = report.get("vectors")
    if not isinstance(vectors, dict) or not vectors or "failed" not in report:
        raise _invalid(package.bit, "has no report of a self-test")
    if report.get("identity") != package.design.identity:
        raise _invalid(package.bit, f"has a report of another overlay, {_shown(report.get('identity'))}")
    on_a_board = report.get("kind") == Kind.HARDWARE.value and report.get("way") in ("local", "ssh", "remote")
    if package.kind is Kind.HARDWARE and not on_a_board:
        raise _invalid(package.bit, "has a report of an emulated overlay, and not of this bitstream on a board")
    if report.get("kind") != package.kind.value:
        raise _invalid(package.bit, f"has a report of another kind of overlay, {_shown(report.get('kind'))}")
    tested = report.get("sha256")
    found = tested.get("bit") if isinstance(tested, dict) else None
    if found != package.bit_sha256:
        raise _invalid(package.bit, f"has a report of another bitstream, of SHA-256 {_shown(found)}")
    if report["failed"]:
        raise _invalid(package.bit, "failed its self-test")
    return vectors


def _read_link(path: Path) -> tuple[str, str]:
    """Where a bitstream is, and its MD5: empty where the link states none."""
    link = _json_object(path)
    if not isinstance(link.get("url"), str):
        raise _invalid(path, "names no url")
    md5 = link.get("md5sum", "")
    return link["url"], md5 if isinstance(md5, str) else ""


def _json_object(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(read_limited(path, LARGEST_JSON_BYTES).decode("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise _invalid(path, f"cannot be read: {why_unreadable(error)}") from error
    if not isinstance(found, dict):
        raise _invalid(path, "is no JSON object")
    return found


def _hwh(path: Path, said: Description) -> bytes:
    """The handoff beside a description."""
    try:
        hwh = read_limited(path.with_suffix(".hwh"), LARGEST_BYTES["hwh"])
    except (OSError, ValueError) as error:
        raise _invalid(path.with_suffix(".hwh"), f"cannot be read: {why_unreadable(error)}") from error
    if hashlib.sha256(hwh).hexdigest() != said.sha256["hwh"]:
        raise _invalid(path.with_suffix(".hwh"), f"is not the file that '{path.name}' describes")
    return hwh


def _write(path: Path, content: bytes) -> None:
    write_atomic(path, functools.partial(_put, content))


def _put(content: bytes, file: BinaryIO) -> None:
    file.write(content)


def _shown(value: Any) -> str:
    """A value of a report as a message shows it: printable and short."""
    return ascii(value)[:_LONGEST_SHOWN]


def _invalid(path: Path, reason: str) -> BitstreamInvalidError:
    return BitstreamInvalidError(
        f"'{path}' {reason}",
        "<name>.json, <name>.hwh and <name>.bit.link as `hetfab bitstream PACKAGE --selftest REPORT ...` writes them",
        "describe the bitstream again, with the report of `hetfab selftest --to local --package PACKAGE --json`",
    )
