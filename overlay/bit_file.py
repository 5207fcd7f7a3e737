# SPDX-License-Identifier: Apache-2.0
"""The container of Xilinx bitstreams (.bit): a header of fields, then the data.

An emulated overlay has a valid header and data that no board accepts: it lacks the sync word that configuration logic
waits for, so nothing is configured, and Linux's zynq-fpga driver refuses it before it writes anything. pynq reads the
header in ``pynq.pl_server.embedded_device.parse_bit_header``.
"""

import json
import struct
from dataclasses import dataclass
from typing import Any

#: The first field of every .bit file.
_OPENING = bytes.fromhex("0ff00ff00ff00ff000")
_TEXT_FIELDS = {"a": "design", "b": "part", "c": "date", "d": "time"}
_DATA_FIELD = 0x65
_SYNC_WORD = bytes.fromhex("aa995566")
_MARK = b"HETFAB EMULATED OVERLAY "
_PADDING = b"\xff" * 32
#: All emulated overlays have one date, so that equal designs give equal bytes.
_DATE, _TIME = "2000/01/01", "00:00:00"


@dataclass(frozen=True)
class BitFile:
    """A .bit file.

    Attributes:
        design: Name of the design, with Vivado's settings behind semicolons.
        part: The FPGA, without the leading ``xc``.
        date: Of the build, ``yyyy/mm/dd``.
        time: Of the build, ``hh:mm:ss``.
        data: What goes to the configuration port.
    """

    design: str
    part: str
    date: str
    time: str
    data: bytes

    def emulated(self) -> dict[str, Any] | None:
        """The content of an emulated overlay, None where the data is a bitstream.

        Raises:
            ValueError: The content is damaged.
        """
        start = self.data.find(_MARK)
        if start < 0:
            return None
        content: dict[str, Any] = json.loads(self.data[start + len(_MARK) :].rstrip(b"\0"))
        return content

    def encode(self) -> bytes:
        """The file's bytes."""
        fields = b"".join(_text_field(key, getattr(self, name)) for key, name in _TEXT_FIELDS.items())
        opening = struct.pack(">H", len(_OPENING)) + _OPENING + struct.pack(">H", 1)
        return opening + fields + struct.pack(">BI", _DATA_FIELD, len(self.data)) + self.data


def emulated_bit_file(name: str, part: str, content: dict[str, Any]) -> BitFile:
    """A .bit file for an emulated overlay.

    Args:
        name: Of the overlay.
        part: As in a board's file.
        content: What ``BitFile.emulated`` returns; plain JSON.
    """
    data = _PADDING + _MARK + json.dumps(content, sort_keys=True).encode("ascii")
    # pynq swaps the bytes of 32-bit words.
    data += b"\0" * (-len(data) % 4)
    if _SYNC_WORD in data:  # ASCII text cannot hold it.
        raise ValueError("the data of an emulated overlay holds a sync word")
    return BitFile(f"emulated_{name};UserID=0XFFFFFFFF", part.removeprefix("xc"), _DATE, _TIME, data)


def decode_bit_file(raw: bytes) -> BitFile:
    """Takes a .bit file apart.

    Raises:
        ValueError: The header is damaged, or the file is shorter or longer than it says.
    """
    reader = _Reader(raw)
    if reader.take(reader.number(">H")) != _OPENING or reader.number(">H") != 1:
        raise ValueError("it does not begin as a bitstream does")
    texts: dict[str, str] = {}
    for key, name in _TEXT_FIELDS.items():
        found = reader.take(1)
        if found != key.encode():
            raise ValueError(f"its header has the field {found!r} where '{key}' belongs")
        texts[name] = reader.take(reader.number(">H")).rstrip(b"\0").decode("ascii")
    if reader.number(">B") != _DATA_FIELD:
        raise ValueError("its header has no data field")
    size = reader.number(">I")
    data = reader.take(size)
    if reader.rest:
        raise ValueError(f"it is {reader.rest} bytes longer than its header says")
    return BitFile(**texts, data=data)


class _Reader:
    """Takes bytes from the front."""

    def __init__(self, raw: bytes) -> None:
        self._raw, self._position = raw, 0

    @property
    def rest(self) -> int:
        return len(self._raw) - self._position

    def take(self, count: int) -> bytes:
        if count > self.rest:
            raise ValueError(f"it ends {count - self.rest} bytes early")
        self._position += count
        return self._raw[self._position - count : self._position]

    def number(self, layout: str) -> int:
        value: int = struct.unpack(layout, self.take(struct.calcsize(layout)))[0]
        return value


def _text_field(key: str, text: str) -> bytes:
    raw = text.encode("ascii", "replace") + b"\0"  # As the tools write it; a design may be called otherwise.
    return key.encode() + struct.pack(">H", len(raw)) + raw
