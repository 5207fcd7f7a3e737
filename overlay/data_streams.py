# SPDX-License-Identifier: Apache-2.0
"""The rows that the instructions of a stream send to a FIFO between two engines, and take from it."""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from hetfab.overlay.isa.spec import Isa, Stream, evaluate
from hetfab.overlay.program import Words


def rows_moved(words: Words, table: Isa, rows: Mapping[str, str]) -> npt.NDArray[np.int64]:
    """Rows of each instruction.

    Args:
        words: uint64 [n, 2], the instructions.
        table: The instruction set.
        rows: Rows of an operation by its name, as ``Stream.sent`` and ``Stream.taken``.

    Returns:
        int64 [n], 0 for other operations.
    """
    found = np.zeros(len(words), np.int64)
    engine, opcode = table.header_field("engine"), table.header_field("opcode")
    for name, text in rows.items():
        operation = table.operation(name)
        header = table.engine(operation.engine).id << engine.lsb | operation.opcode << opcode.lsb
        mask = engine.largest << engine.lsb | opcode.largest << opcode.lsb
        for index in np.flatnonzero(words[:, 0] & np.uint64(mask) == header).tolist():
            word = int(words[index, 1]) << 64 | int(words[index, 0])
            found[index] = evaluate(text, {field.name: field.get(word) for field in operation.fields})
    return found


def stream_rows(words: Words, table: Isa, stream: Stream) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Rows that each instruction sends to a stream, and those that it takes, int64 [n] each."""
    return rows_moved(words, table, stream.sent), rows_moved(words, table, stream.taken)
