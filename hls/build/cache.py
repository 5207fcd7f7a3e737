# SPDX-License-Identifier: Apache-2.0
"""The user's cache of built overlays by their content: libraries, built once for all processes, and packages."""

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from hetfab.overlay.errors import CacheUnwritableError

#: Environment variable that names another folder.
CACHE_VARIABLE = "HETFAB_CACHE"
_PACKAGES = "packages"


def cache_folder() -> Path:
    """The folder of built overlays: ``$HETFAB_CACHE``, or the user's cache folder."""
    chosen = os.environ.get(CACHE_VARIABLE)
    if chosen:
        return Path(chosen)
    try:
        import platformdirs
    except ModuleNotFoundError:  # A board has none; on Linux it gives this folder.
        caches = os.environ.get("XDG_CACHE_HOME")
        return (Path(caches) if caches else Path.home() / ".cache") / "hetfab"
    return Path(platformdirs.user_cache_dir("hetfab"))


def cache_content() -> list[Path]:
    """Files of the cache: built overlays, the locks of their builds, and packages of emulated overlays."""
    folder = cache_folder()
    return sorted(path for path in [*folder.glob("*"), *folder.glob(f"{_PACKAGES}/**/*")] if path.is_file())


def package_folder(key: str) -> Path:
    """The folder of the cache for a package of an emulated overlay; it may not exist.

    Args:
        key: Must change with everything that the package depends on.
    """
    return cache_folder() / _PACKAGES / key


def clear_cache() -> None:
    """Deletes all built overlays. Locks stay: another process may hold one.

    Raises:
        CacheUnwritableError: A file cannot be deleted.
    """
    with _writable(cache_folder()):
        for path in cache_content():
            if path.suffix != ".lock":
                path.unlink(missing_ok=True)


def cached_file(name: str, build: Callable[[Path], Path]) -> Path:
    """A file of the cache, built when it is not there.

    Other processes that want the same file wait for the one that builds it.

    Args:
        name: File name; it must change with everything that the content depends on.
        build: Builds the file somewhere in the empty folder that it receives, and returns its path there.

    Raises:
        CacheUnwritableError: The folder cannot be made or written.
    """
    target = cache_folder() / name
    if target.is_file():
        return target
    with _writable(target.parent), _locked(target.with_suffix(".lock")):
        if not target.is_file():
            folder = Path(tempfile.mkdtemp(prefix=f".{target.stem}.", dir=target.parent))
            try:
                build(folder).replace(target)
            finally:
                shutil.rmtree(folder, ignore_errors=True)
    return target


@contextlib.contextmanager
def _writable(folder: Path) -> Iterator[None]:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        raise CacheUnwritableError(
            f"cannot write built overlays to '{folder}': {error.strerror or error}",
            "a folder that this user may create and write to, with free space",
            f"set {CACHE_VARIABLE} to another folder",
        ) from error


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
