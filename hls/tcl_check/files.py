# SPDX-License-Identifier: Apache-2.0
"""The files that a script sees: those on disk, those that are given, and those that the modelled tool has made."""

import fnmatch
import os
from collections.abc import Iterable
from pathlib import Path


class Files:
    """Paths relative to a working folder. Nothing is written.

    Args:
        folder: The working folder.
        given: Paths, relative to it, that are taken as files that exist.
    """

    def __init__(self, folder: Path, given: Iterable[str] = ()) -> None:
        self._working = folder.resolve()
        self._made: set[Path] = set()
        self._folders: set[Path] = set()
        self._deleted: set[Path] = set()
        for path in given:
            self.make(path)

    @property
    def working(self) -> Path:
        """The working folder."""
        return self._working

    def path(self, name: str) -> Path:
        """A name as an absolute path."""
        return Path(os.path.normpath(self._working / name))

    def change(self, name: str) -> bool:
        """Changes the working folder; False where there is none."""
        if self.is_folder(name):
            self._working = self.path(name)
            return True
        return False

    def exists(self, name: str) -> bool:
        """Whether there is a file or a folder."""
        return self.is_file(name) or self.is_folder(name)

    def is_file(self, name: str) -> bool:
        """Whether there is a file."""
        path = self.path(name)
        return path in self._made or (path.is_file() and path not in self._deleted)

    def is_folder(self, name: str) -> bool:
        """Whether there is a folder."""
        path = self.path(name)
        return path in self._folders or (path.is_dir() and path not in self._deleted)

    def make(self, name: str) -> None:
        """A file appears, with its folders."""
        path = self.path(name)
        self._made.add(path)
        self.make_folder(str(path.parent))

    def make_folder(self, name: str) -> None:
        """A folder appears, with those above it."""
        path = self.path(name)
        self._folders |= {path, *path.parents}

    def delete(self, name: str) -> None:
        """A file or a folder disappears."""
        path = self.path(name)
        self._made = {made for made in self._made if made != path and path not in made.parents}
        self._folders = {made for made in self._folders if made != path and path not in made.parents}
        self._deleted.add(path)

    def matching(self, pattern: str) -> list[str]:
        """Files and folders that match a pattern, as paths of the pattern's form."""
        wanted = self.path(pattern)
        on_disk = set(wanted.parent.glob(wanted.name)) if wanted.parent.is_dir() else set()
        known = (on_disk - self._deleted) | self._made | self._folders
        found = sorted(str(path) for path in known if fnmatch.fnmatch(str(path), str(wanted)))
        return found if Path(pattern).is_absolute() else [os.path.relpath(path, self._working) for path in found]
