# SPDX-License-Identifier: Apache-2.0
"""Proves that a bound stream drains at any queue depth (docs/architecture.md, "Order")."""

from collections import deque
from collections.abc import Mapping
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from hetfab.overlay.data_streams import stream_rows
from hetfab.overlay.errors import StreamInvalidError
from hetfab.overlay.isa.spec import Stream, isa
from hetfab.overlay.program import Words

Array: TypeAlias = npt.NDArray[Any]

_HEADER = ("engine", "wait0", "wait1", "signal0", "signal1")


def check_order(words: Words) -> None:
    """Proves that a bound stream drains at any queue depth.

    If in program order no wait comes before its signal, the oldest instruction that is not retired is always at the
    head of its queue, or next to be fetched, with its waits satisfied. It also checks that each semaphore has one
    signalling and one waiting engine, on which the pairing of the n-th wait with the n-th signal rests.

    Rows that an engine sends to another one by a FIFO are taken after it in program order, and before they all are no
    instruction depends on its end: so they are taken while it runs, however few of them the FIFO holds.

    Raises:
        StreamInvalidError: One of these does not hold.
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
    for stream in isa().streams:
        sent, taken = stream_rows(words, isa(), stream)
        if sent.any() or taken.any():
            _check_data_stream(stream, fields, sent.tolist(), taken.tolist())


def _check_data_stream(stream: Stream, fields: Mapping[str, Array], sent: list[int], taken: list[int]) -> None:
    """Walks a stream that sends or takes rows; ``late`` is what ends only after the sender of rows not yet taken."""
    rows, sender = 0, -1
    late: set[int] = set()
    signals: dict[int, deque[bool]] = {}
    headers = zip(*(fields[name].tolist() for name in _HEADER), strict=True)
    for index, (engine, wait0, wait1, signal0, signal1) in enumerate(headers):
        waits = [signals[wait].popleft() for wait in (wait0, wait1) if wait]
        is_late = engine in late or any(waits)
        if is_late and rows:
            raise _not_taken(
                f"instruction {index} depends on the end of instruction {sender}, of whose rows in {stream.name} "
                f"{rows} are not taken yet"
            )
        if taken[index] > rows:
            raise _not_taken(f"instruction {index} takes {taken[index]} rows from {stream.name}, which has {rows}")
        rows -= taken[index]
        if sent[index]:
            rows, sender, is_late = sent[index], index, True
            late = set()
            signals = {semaphore: deque([False] * len(given)) for semaphore, given in signals.items()}
        if is_late:
            late.add(engine)
        for signal in (signal0, signal1):
            if signal:
                signals.setdefault(signal, deque()).append(is_late)
    if rows:
        raise _not_taken(f"{rows} rows that instruction {sender} sends to {stream.name} are not taken")


def _not_taken(found: str) -> StreamInvalidError:
    return StreamInvalidError(
        found,
        "the rows of a sender taken after it in program order, before anything depends on its end",
        "report this: the compiler wrote a wrong program",
    )


def _broken(found: str) -> StreamInvalidError:
    return StreamInvalidError(
        found,
        "one signalling and one waiting engine per semaphore, every signal before its wait in program order",
        "report this: the compiler wrote a wrong program",
    )
