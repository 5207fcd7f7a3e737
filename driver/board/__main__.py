# SPDX-License-Identifier: Apache-2.0
"""``python -m hetfab.driver.board``: what a host starts on a board over ssh; it speaks on its standard streams."""

import os
import sys
from pathlib import Path
from typing import BinaryIO

from hetfab.driver.board.frames import GREETING
from hetfab.driver.board.serving import serve
from hetfab.driver.board.store import store_folder

#: Without it pynq finds no device. Login shells of PYNQ's images set it, a command over ssh gets none of that.
_XRT_VARIABLE, _XRT_FOLDER = "XILINX_XRT", Path("/usr")
_XRT_LIBRARY = "lib/libxrt_core.so"


def main() -> None:
    """Serves the host at the other end of the standard streams."""
    host = os.fdopen(os.dup(sys.stdout.fileno()), "wb", buffering=0)
    # What anything here prints must not get between the messages.
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    if (_XRT_FOLDER / _XRT_LIBRARY).exists():
        os.environ.setdefault(_XRT_VARIABLE, str(_XRT_FOLDER))
    folder = store_folder()
    write_all(host, GREETING)
    serve(lambda size: read_exactly(sys.stdin.buffer, size), lambda raw: write_all(host, raw), folder)


def read_exactly(stream: BinaryIO, size: int) -> bytes:
    """Reads as many bytes as asked for.

    Raises:
        EOFError: The stream ends before.
    """
    raw = stream.read(size)
    if len(raw) != size:
        raise EOFError(f"the link ended {size - len(raw)} bytes early")
    return raw


def write_all(stream: BinaryIO, raw: bytes) -> None:
    """Writes all bytes.

    Raises:
        EOFError: Nobody reads any more.
    """
    view = memoryview(raw)
    try:
        while view:
            view = view[stream.write(view) :]
    except BrokenPipeError as error:
        raise EOFError("the host does not read any more") from error


if __name__ == "__main__":
    main()
