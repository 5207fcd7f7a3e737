# SPDX-License-Identifier: Apache-2.0
"""Rounded weights that are kept: in memory, and in a folder where several processes study the same model."""

import contextlib
import hashlib
import os
import zipfile
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from hetfab.quantize.weights import LayerWeights, QuantizedWeights

Key: TypeAlias = tuple[Hashable, ...]


@dataclass(eq=False)
class Roundings:
    """Rounded weights by layer, widths and method.

    Attributes:
        folder: Where processes that study this model share them, None for memory alone.
    """

    folder: Path | None = None
    _kept: dict[Key, LayerWeights] = field(default_factory=dict)

    def get(self, key: Key, compute: Callable[[], LayerWeights]) -> LayerWeights:
        """The weights of a key, which are computed only if no process has kept them."""
        if key not in self._kept:
            self._kept[key] = compute() if self.folder is None else _shared(self.folder, key, compute)
        return self._kept[key]


def _shared(folder: Path, key: Key, compute: Callable[[], LayerWeights]) -> LayerWeights:
    path = folder / f"{hashlib.sha256(repr(key).encode()).hexdigest()}.npz"
    try:
        return _read(path)
    except (OSError, EOFError, ValueError, zipfile.BadZipFile):
        found = compute()
    beside = path.with_suffix(f".{os.getpid()}.npz")
    try:
        _write(beside, found)
        # Nobody sees half of a file.
        beside.replace(path)
    except OSError:
        # What cannot be kept, as on a full disk, is computed again.
        with contextlib.suppress(OSError):
            beside.unlink()
    return found


def _write(path: Path, weights: LayerWeights) -> None:
    path.parent.mkdir(exist_ok=True)
    arrays: dict[str, Any] = {} if weights.bias is None else {"bias": weights.bias}
    for number, part in enumerate(weights.parts):
        # No integer has more than 8 bits.
        arrays[f"integers{number}"] = part.integers.astype(np.int8)
        arrays[f"mantissas{number}"], arrays[f"exponents{number}"] = part.mantissas, part.exponents
        arrays[f"form{number}"] = np.array([part.bits, part.narrow])
    np.savez(path, **arrays)


def _read(path: Path) -> LayerWeights:
    with np.load(path) as arrays:
        parts = [
            QuantizedWeights(
                arrays[f"integers{number}"].astype(np.int64),
                arrays[f"mantissas{number}"],
                arrays[f"exponents{number}"],
                int(arrays[f"form{number}"][0]),
                bool(arrays[f"form{number}"][1]),
            )
            for number in range(sum(name.startswith("form") for name in arrays))
        ]
        return LayerWeights(tuple(parts), arrays.get("bias"))
