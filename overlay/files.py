# SPDX-License-Identifier: Apache-2.0
"""Writes files whole or not at all, and finds before long work what would keep them from being written."""

import contextlib
import os
import secrets
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import BinaryIO

from hetfab.overlay.errors import OutputUnwritableError


def write_atomic(path: Path, write: Callable[[BinaryIO], None]) -> None:
    """Writes a file under a temporary name beside its target and renames it.

    A symbolic link stays; the file that it names is written. A file that is replaced hands its mode on; a new one gets
    what the umask leaves.

    Args:
        path: The target. Its folder must exist.
        write: Receives the open binary file.

    Raises:
        OutputUnwritableError: The folder is missing or read-only, the target is not a regular file, or the disk is
            full.
    """
    target = Path(os.path.realpath(path))
    there = _status(path)
    with _temporary_beside(path, target) as (file, temporary):
        write(file)
        if there is not None:
            os.fchmod(file.fileno(), stat.S_IMODE(there.st_mode))
        file.flush()
        os.fsync(file.fileno())
        temporary.replace(target)


def make_folder(path: Path) -> Path:
    """Makes a folder, with those above it, where it is not there, and returns it.

    Raises:
        OutputUnwritableError: It cannot be made.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except FileExistsError as error:
        raise OutputUnwritableError(
            f"cannot make the folder '{path}': it is a file", "the path of a folder", "name another folder"
        ) from error
    except OSError as error:
        raise _unwritable(path, error) from error
    return path


def check_outputs(outputs: Mapping[str, Path | None], inputs: Mapping[str, Path | Iterable[Path] | None]) -> None:
    """Raises at once, before long work, if ``write_atomic`` could not write an output or would destroy an input.

    Args:
        outputs: The files that a command writes, by the name of their option; None where it is not given.
        inputs: What it reads, by option or argument; where a folder is read, the files in it.

    Raises:
        OutputUnwritableError: As ``write_atomic``; also when an output is an input or another output.
    """
    taken = [("the input", name, path) for name, paths in inputs.items() for path in _listed(paths)]
    for name, path in outputs.items():
        if path is None:
            continue
        _status(path)
        for role, other_name, other in taken:
            if _same_file(path, other):
                raise OutputUnwritableError(
                    f"cannot write '{path}' ({name}): it is {role} '{other}' ({other_name})",
                    "a file of its own for each output",
                    f"give {name} another file name",
                )
        with _temporary_beside(path, Path(os.path.realpath(path))):
            pass
        taken.append(("the output", name, path))


def _listed(paths: Path | Iterable[Path] | None) -> list[Path]:
    if paths is None:
        return []
    return [paths] if isinstance(paths, Path) else list(paths)


def _same_file(first: Path, second: Path) -> bool:
    """Whether two paths lead to one file, by its place or, where both exist, by its inode."""
    if os.path.realpath(first) == os.path.realpath(second):
        return True
    try:
        return first.samefile(second)
    except OSError:
        return False


def _status(path: Path) -> os.stat_result | None:
    """What is at an output's place, None where nothing is.

    Raises:
        OutputUnwritableError: It is not a regular file, or cannot be reached.
    """
    try:
        there = path.stat()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _unwritable(path, error) from error
    if not stat.S_ISREG(there.st_mode):
        kind = "a folder" if stat.S_ISDIR(there.st_mode) else "a device, a pipe or a socket"
        do = "add a file name to the path" if stat.S_ISDIR(there.st_mode) else "name a file that may be replaced"
        raise OutputUnwritableError(f"cannot write '{path}': it is {kind}", "the path of a file", do)
    return there


@contextlib.contextmanager
def _temporary_beside(path: Path, target: Path) -> Iterator[tuple[BinaryIO, Path]]:
    """An open file beside the target that is gone afterwards, unless it was renamed; named after ``path`` in errors."""
    temporary = target.with_name(f".{secrets.token_hex(8)}.part")
    try:
        # Not tempfile.mkstemp, whose mode 0600 hides what the umask allows.
        handle = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        try:
            with os.fdopen(handle, "wb") as file:
                yield file, temporary
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise _unwritable(path, error) from error


def _unwritable(path: Path, error: OSError) -> OutputUnwritableError:
    return OutputUnwritableError(
        f"cannot write '{path}': {error.strerror or error}",
        "a path in an existing folder that this user may write to",
        "name another file, or create the folder and check its permissions and free space",
    )
