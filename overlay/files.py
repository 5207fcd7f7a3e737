# SPDX-License-Identifier: Apache-2.0
"""Atomic file writing: a file is complete or it is not there."""

import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from hetfab.overlay.errors import OutputUnwritableError


def write_atomic(path: Path, write: Callable[[BinaryIO], None]) -> None:
    """Writes a file under a temporary name beside its target and renames it.

    Args:
        path: The target. Its folder must exist.
        write: Receives the open binary file.

    Raises:
        OutputUnwritableError: The folder is missing or read-only, or the disk is full.
    """
    temporary: Path | None = None
    try:
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        temporary = Path(name)
        with os.fdopen(handle, "wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        temporary.chmod(0o644)
        temporary.replace(path)
    except OSError as error:
        raise _unwritable(path, error) from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def make_folder(path: Path) -> Path:
    """Makes a folder, with those above it, where it is not there, and returns it.

    Raises:
        OutputUnwritableError: It cannot be made.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _unwritable(path, error) from error
    return path


def check_writable(path: Path) -> None:
    """Raises at once, before long work, if ``write_atomic`` could not write ``path``.

    Raises:
        OutputUnwritableError: As ``write_atomic``; also when the target is a folder.
    """
    if path.is_dir():
        raise OutputUnwritableError(
            f"cannot write '{path}': it is a folder", "the path of a file", "add a file name to the path"
        )
    try:
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    except OSError as error:
        raise _unwritable(path, error) from error
    os.close(handle)
    Path(name).unlink()


def _unwritable(path: Path, error: OSError) -> OutputUnwritableError:
    return OutputUnwritableError(
        f"cannot write '{path}': {error.strerror or error}",
        "a path in an existing folder that this user may write to",
        "name another file, or create the folder and check its permissions and free space",
    )
