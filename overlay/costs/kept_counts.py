# SPDX-License-Identifier: Apache-2.0
"""Keeps what AGG's instructions meet in a graph, for other programs that ask the same of it.

Programs that a search compares differ in their arrays and in the weights of their products more often than in what AGG
reads, and to walk through a graph takes longer than to compare what is asked.
"""

import dataclasses
import hashlib
from collections import OrderedDict
from collections.abc import Callable
from typing import TypeVar, cast

import numpy as np

from hetfab.overlay.costs.cycles import Cost, Gather
from hetfab.overlay.costs.gathers import AggInstructions
from hetfab.overlay.isa.spec import isa

_Found = TypeVar("_Found", Cost, Gather)

#: Operations that are kept: those of some programs.
_MOST = 64
#: How parameters of a geometry begin that AGG does not have.
_OF_OTHERS = ("gemm_", "act_", "wgt_", "acc_", "out_")

_kept: OrderedDict[bytes, Cost | Gather] = OrderedDict()


def kept_counts(count: Callable[[AggInstructions], _Found], given: AggInstructions) -> _Found:
    """What a function of ``given`` finds; its arrays cannot be written."""
    key = count.__name__.encode() + _digest(given)
    if key not in _kept:
        found = count(given)
        for values in vars(found).values():
            values.flags.writeable = False
        _kept[key] = found
        while len(_kept) > _MOST:
            _kept.popitem(last=False)
    _kept.move_to_end(key)
    return cast(_Found, _kept[key])


def _digest(given: AggInstructions) -> bytes:
    """Of all that counts depend on: of places in the stream, only what comes after what."""
    header = {field.name for field in isa().header}
    geometry = {
        name: value for name, value in dataclasses.asdict(given.geometry).items() if not name.startswith(_OF_OTHERS)
    }
    arrays = {name: values for name, values in given.fields.items() if name not in header}
    arrays |= {f"clears {name}": values for name, values in given.clears.items() if name not in header}
    arrays["cleared before"] = np.searchsorted(given.rows, given.cleared)
    found = hashlib.blake2b(repr((geometry, given.tags)).encode())
    for name, values in arrays.items():
        found.update(f"{name} {values.dtype} {values.shape}".encode())
        found.update(values.tobytes())
    found.update(given.graph.data)
    return found.digest()
