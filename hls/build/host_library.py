# SPDX-License-Identifier: Apache-2.0
"""Compiled algorithms of the host: a library of C++ that is built on first use and kept in the user's cache."""

import ctypes
import functools
import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

from hetfab.hls.build.cache import CACHE_VARIABLE, cached_file
from hetfab.hls.build.compiler import Compiler, find_compiler, host_processor
from hetfab.overlay.errors import CacheUnwritableError

_HLS = Path(__file__).resolve().parents[1]
_FLAGS = ("-std=c++17", "-shared", "-fPIC", "-Wall", "-Wextra", "-Wconversion", "-Werror", "-O3")


def host_library(sources: Sequence[str], march: str = "native") -> ctypes.CDLL:
    """Loads a library.

    Args:
        sources: All files that it is made of, below the folder ``hls``; the first one is compiled.
        march: The processor that it is for.

    Raises:
        CompilerMissingError: No C++ compiler.
        CompilerFailedError: The compiler refused the sources.
        CacheUnwritableError: The cache cannot be written, or nothing loads from it.
    """
    compiler, flags = find_compiler(), (*_FLAGS, f"-march={march}")
    texts = [(_HLS / name).read_text("utf-8") for name in sources]
    key = hashlib.sha256("\0".join([*texts, *compiler.command, compiler.version, *flags, host_processor()]).encode())
    source = _HLS / sources[0]
    build = functools.partial(_compile, source=source, compiler=compiler, flags=flags)
    return _loaded(functools.partial(cached_file, f"{source.stem}-{key.hexdigest()[:24]}.so", build))


def _loaded(cached: Callable[[], Path]) -> ctypes.CDLL:
    """Loads a file of the cache; one that does not load, as after a failure of the disk, is built once more."""
    library = cached()
    try:
        return ctypes.CDLL(str(library))
    except OSError:
        pass
    try:
        library.unlink(missing_ok=True)
        return ctypes.CDLL(str(cached()))
    except OSError as error:
        raise CacheUnwritableError(
            f"'{library}' does not load, built anew too: {error}",
            "a folder that compiled code may be loaded from, not one mounted with noexec",
            f"set {CACHE_VARIABLE} to another folder",
        ) from error


def _compile(folder: Path, *, source: Path, compiler: Compiler, flags: Sequence[str]) -> Path:
    library = folder / f"{source.stem}.so"
    compiler.run([*flags, f"-I{_HLS}", "-o", str(library), str(source)])
    return library
