# SPDX-License-Identifier: Apache-2.0
"""Messages between a host and a board: a header in JSON and raw bytes, both of bounded size (docs/flash.md)."""

import json
import struct
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

#: Both sides must have the same. It changes with every message.
LINK_VERSION = 1
#: What the board says before its first message, behind whatever its login shell prints.
GREETING = b"\nhetfab-board speaks\n"
#: What it says in place of that, before the reason.
REFUSAL = b"\nhetfab-board refuses "
#: Largest payload of one message; what is longer is sent in pieces.
PIECE_BYTES = 1 << 20
_LARGEST_HEADER_BYTES = 1 << 16
_PREFIX = struct.Struct(">II")

Header: TypeAlias = Mapping[str, Any]


def encode(header: Header, payload: bytes = b"") -> bytes:
    """Bytes of a message."""
    raw = json.dumps(header).encode()
    return _PREFIX.pack(len(raw), len(payload)) + raw + payload


def read_message(read: Callable[[int], bytes]) -> tuple[dict[str, Any], bytes]:
    """Reads a message.

    Args:
        read: Returns exactly as many bytes as it is asked for.

    Raises:
        ValueError: It is no message, or larger than a message may be.
    """
    header_bytes, payload_bytes = _PREFIX.unpack(read(_PREFIX.size))
    if header_bytes > _LARGEST_HEADER_BYTES or payload_bytes > PIECE_BYTES:
        raise ValueError(f"a message of {header_bytes} and {payload_bytes} bytes")
    try:
        header = json.loads(read(header_bytes).decode("utf-8"))
    except RecursionError as error:
        raise ValueError("a header that is nested too deeply") from error
    if not isinstance(header, dict):
        raise ValueError("a header that is no object")
    return header, read(payload_bytes)
