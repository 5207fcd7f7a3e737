# SPDX-License-Identifier: Apache-2.0
"""Proves that a bound stream drains at any queue depth (docs/architecture.md, "Order")."""

import numpy as np

from hetfab.overlay.errors import StreamInvalidError
from hetfab.overlay.isa.spec import isa
from hetfab.overlay.program import Words


def check_order(words: Words) -> None:
    """Proves that a bound stream drains at any queue depth.

    If in program order no wait comes before its signal, the oldest instruction that is not retired is always at the
    head of its queue, or next to be fetched, with its waits satisfied. It also checks that each semaphore has one
    signalling and one waiting engine, on which the pairing of the n-th wait with the n-th signal rests.

    Raises:
        StreamInvalidError: One of the two does not hold.
    """
    first = words[:, 0]
    fields = {field.name: (first >> np.uint64(field.lsb)) & np.uint64(field.largest) for field in isa().header}
    for semaphore in range(1, isa().semaphores + 1):
        waits = sum((fields[name] == semaphore).astype(np.int64) for name in ("wait0", "wait1"))
        signals = sum((fields[name] == semaphore).astype(np.int64) for name in ("signal0", "signal1"))
        if not np.any(waits) and not np.any(signals):
            continue
        for role, uses in (("waits for", waits), ("signals", signals)):
            engines = np.unique(fields["engine"][np.asarray(uses) > 0])
            if len(engines) > 1:
                raise _broken(f"more than one engine {role} semaphore {semaphore}: {engines.tolist()}")
        signalled_before = np.cumsum(signals) - signals
        ahead = signalled_before - np.cumsum(waits)
        if np.any(ahead < 0):
            index = int(np.argmax(ahead < 0))
            raise _broken(f"instruction {index} waits for semaphore {semaphore} before it is signalled")


def _broken(found: str) -> StreamInvalidError:
    return StreamInvalidError(
        found,
        "one signalling and one waiting engine per semaphore, every signal before its wait in program order",
        "report this: the compiler wrote a wrong program",
    )
