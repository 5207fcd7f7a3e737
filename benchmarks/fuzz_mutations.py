# SPDX-License-Identifier: Apache-2.0
"""Mutations of valid files that respect their structure: JSON, tables, XML, arrays, zips, protobuf, plain bytes.

Every function takes a generator of random numbers and gives the same result for the same state of it.
"""

import bz2
import copy
import functools
import io
import json
import random
import re
import struct
import warnings
import zipfile
import zlib
from collections.abc import Callable, Sequence
from typing import Any
from xml.etree import ElementTree

import numpy as np
import numpy.typing as npt
from google.protobuf.message import Message

#: What readers that trust a file would act on.
_PATHS = ("../secret.csv", "/etc/hostname", "..", "a/../../secret.csv", "~", "$(touch hit)", "`touch hit`; x", "nul\0")
_WORDS = (
    "",
    " ",
    "0",
    "-1",
    "NaN",
    "inf",
    "1e999",
    "9" * 30,
    "x" * 5000,
    "\ud7ff",
    "é",
    "true",
    "٣",
    "1_0",
    "\n",
    *_PATHS,
)
_NUMBERS = (
    0,
    1,
    -1,
    2,
    7,
    255,
    1 << 15,
    1 << 31,
    (1 << 31) - 1,
    1 << 32,
    1 << 40,
    1 << 63,
    1 << 64,
    -(1 << 63),
    10**30,
)
_DTYPES = ("int8", "int32", "int64", "uint64", ">i8", "float16", "float64", "complex64", "bool")
_SHAPES = ("(1099511627776,)", "(4294967296, 4294967296)", "(-1,)", "(2147483647, 9)", "()", "(3, 0)", "(1,)*70")
_TYPES = ("'<f8'", "'|O'", "'<U1000000000'", "[('a', '<f8', (1000000,))]", "'|V0'")
_FLOATS = (0.5, -0.0, 1e308, float("inf"), float("-inf"), float("nan"))
_CONTAINERS: tuple[Any, ...] = ([], {}, [[]], [{}], {"": None}, [None], [[[[[[0]]]]]])


def odd_value(draw: random.Random) -> Any:
    """A JSON value that readers tend to forget."""
    return draw.choice([None, True, False, *_NUMBERS, *_FLOATS, *_WORDS, *_CONTAINERS])


def mutated_json(draw: random.Random, tree: Any) -> Any:
    """The tree with one to three places changed, in place."""
    holder = [tree]
    for _ in range(draw.randint(1, 3)):
        _change_tree(draw, holder)
    return holder[0]


def _change_tree(draw: random.Random, holder: list[Any]) -> None:
    place: Any = holder
    key: Any = 0
    while isinstance(place[key], dict | list) and place[key] and draw.random() < 0.85:
        place = place[key]
        key = draw.choice(list(place)) if isinstance(place, dict) else draw.randrange(len(place))
    old = place[key]
    match draw.randrange(7):
        case 0 if place is not holder:
            del place[key]
        case 1 if isinstance(place, list) and place is not holder:
            place.insert(key, json.loads(json.dumps(old)))
        case 2 if isinstance(place, dict):
            place[draw.choice([*_WORDS, *place])] = place.pop(key)
        case 3 if isinstance(old, int | float) and not isinstance(old, bool):
            place[key] = old + draw.choice([1, -1, 1 << 16, -old, old])
        case 4 if isinstance(old, str) and old:
            at = draw.randrange(len(old))
            place[key] = old[:at] + draw.choice([*_WORDS, old[at:]]) + old[at + 1 :]
        case _:
            place[key] = copy.deepcopy(odd_value(draw))


def json_bytes(draw: random.Random, value: Any) -> bytes:
    """A tree, mutated in place, as a file; seldom damaged, deep, or of another encoding."""
    changed = mutated_json(draw, value)
    match draw.randrange(24):
        case 0:
            return mutated_bytes(draw, json.dumps(changed).encode())
        case 1:
            depth = draw.choice([10, 1000, 100_000])
            return b"[" * depth + json.dumps(changed).encode() + b"]" * depth
        case 2:
            return json.dumps(changed, ensure_ascii=False).encode("utf-16", "surrogatepass")
        case _:
            return json.dumps(changed).encode()


def mutated_bytes(draw: random.Random, raw: bytes) -> bytes:
    """Bytes with one to four places changed: bits, numbers, pieces left out, repeated or moved."""
    data = bytearray(raw)
    for _ in range(draw.randint(1, 4)):
        at = draw.randrange(len(data) + 1)
        length = draw.choice([1, 2, 4, 8, 64, 1000])
        match draw.randrange(7):
            case 0 if at < len(data):
                data[at] ^= 1 << draw.randrange(8)
            case 1:
                data[at : at + 4] = struct.pack(draw.choice("<>") + "I", draw.choice(_NUMBERS[:10]) & 0xFFFF_FFFF)
            case 2:
                del data[at : at + length]
            case 3:
                data[at:at] = data[at : at + length]
            case 4:
                data[at:at] = draw.randbytes(length)
            case 5:
                del data[at:]
            case _:
                other = draw.randrange(len(data) + 1)
                data[at : at + length] = data[other : other + length]
    return bytes(data)


def mutated_table(draw: random.Random, text: str, delimiter: str) -> bytes:
    """A text table with cells, rows, delimiters or its encoding changed."""
    lines = [line.split(delimiter) for line in text.splitlines()]
    for _ in range(draw.randint(1, 3)):
        row = lines[draw.randrange(len(lines))] if lines else [""]
        column = draw.randrange(len(row)) if row else 0
        match draw.randrange(8):
            case 0 if row:
                row[column] = draw.choice([*_WORDS, '"', '""', "\0", ",", "\t", str(draw.choice(_NUMBERS))])
            case 1 if row:
                row[column] = str(draw.choice([*_NUMBERS, *_FLOATS]))
            case 2 if row:
                row[column] = (draw.choice(lines) or [""])[-1] if lines else ""
            case 3:
                row.append(draw.choice(_WORDS))
            case 4 if row:
                del row[column]
            case 5 if lines:
                lines.insert(draw.randrange(len(lines) + 1), list(draw.choice(lines)))
            case 6 if lines:
                del lines[draw.randrange(len(lines))]
            case _ if row:
                number = re.sub(r"\d+", lambda found: str(int(found[0]) + draw.choice([1, -1, 100])), row[column])
                row[column] = number
    ended = draw.choice(["\n", "\n", "\n", "\r\n", "\r"])
    raw = ended.join(delimiter.join(row) for row in lines).encode("utf-8", "surrogatepass")
    return mutated_bytes(draw, raw) if draw.random() < 0.1 else raw


def mutated_xml(draw: random.Random, text: str) -> bytes:
    """An XML file with elements and attributes changed; seldom with entities, or damaged."""
    root = ElementTree.fromstring(text)
    for _ in range(draw.randint(1, 3)):
        elements = list(root.iter())
        element = draw.choice(elements)
        match draw.randrange(6):
            case 0 if element.attrib:
                name = draw.choice(list(element.attrib))
                element.attrib[name] = _xml_text(draw.choice([*_WORDS, *map(str, _NUMBERS), "0x4000_0000"]))
            case 1 if element.attrib:
                del element.attrib[draw.choice(list(element.attrib))]
            case 2 if len(element):
                element.remove(draw.choice(list(element)))
            case 3 if len(element):
                element.append(draw.choice(list(element)))
            case 4:
                element.tag = draw.choice(["MODULE", "MODULES", "X", "MEMRANGE"])
            case _ if element.attrib:
                name = draw.choice(list(element.attrib))
                element.attrib[name] = draw.choice(elements).get(name, "1")
    raw = ElementTree.tostring(root)
    match draw.randrange(20):
        case 0:
            return mutated_bytes(draw, raw)
        case 1:
            lines = [f'<!ENTITY e{n} "{f"&e{n - 1};" * 10 if n else "x" * 10}">' for n in range(9)]
            return f'<!DOCTYPE d [{"".join(lines)}]><EDKSYSTEM A="&e8;"/>'.encode()
        case 2:
            return b'<!DOCTYPE d [<!ENTITY e SYSTEM "../secret.csv">]><EDKSYSTEM>&e;</EDKSYSTEM>'
        case 3:
            depth = draw.choice([100, 50_000])
            return b"<EDKSYSTEM>" + b"<M>" * depth + b"</M>" * depth + b"</EDKSYSTEM>"
        case _:
            return raw


def _xml_text(text: str) -> str:
    return "".join(letter for letter in text if letter >= " ")


class _Hit:
    """Pickled, it makes whoever unpickles it call a function."""

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str]]:
        return len, ("hit",)


def mutated_npy(draw: random.Random, array: npt.NDArray[Any]) -> bytes:
    """An array's ``.npy`` bytes with other values, shape, type or header."""
    changed = array.copy()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        match draw.randrange(8):
            case 0 | 1 if changed.size and changed.dtype.kind in "iuf":
                odd = [*_NUMBERS[:12], *_FLOATS] if changed.dtype.kind == "f" else [0, 1, -1, 127, 65535, 1 << 30]
                for _ in range(draw.randint(1, 4)):
                    value = np.array(draw.choice(odd)).astype(changed.dtype)
                    changed.reshape(-1)[draw.randrange(changed.size)] = value
            case 2 if changed.dtype.kind in "iuf":
                changed = changed.astype(draw.choice(_DTYPES))
            case 3:
                pieces = [changed[:0], changed[: len(changed) // 2]] if changed.ndim else []
                changed = draw.choice([changed.reshape(-1), changed[..., None], *pieces])
            case 4 if changed.ndim:
                changed = np.concatenate([changed, changed])
            case 5 if draw.random() < 0.5:
                changed = np.array([_Hit()], dtype=object)
            case 6:
                return _lying_npy(draw, changed)
            case _ if changed.ndim:
                changed = np.roll(changed, 1)
    file = io.BytesIO()
    np.lib.format.write_array(file, np.asarray(changed), allow_pickle=True)
    return mutated_bytes(draw, file.getvalue()) if draw.random() < 0.1 else file.getvalue()


def _lying_npy(draw: random.Random, array: npt.NDArray[Any]) -> bytes:
    """An array whose header states another shape or type than its bytes have."""
    shape, descr = draw.choice(_SHAPES), draw.choice([repr(array.dtype.str), *_TYPES])
    header = f"{{'descr': {descr}, 'fortran_order': {draw.choice(['True', 'False', '7'])}, 'shape': {shape}, }}"
    raw = header.encode().ljust(118) + b"\n"
    return b"\x93NUMPY" + bytes([draw.choice([1, 1, 1, 2, 9]), 0]) + struct.pack("<H", len(raw)) + raw + array.tobytes()


def zipped(draw: random.Random, members: dict[str, bytes]) -> bytes:
    """A zip of members, mostly whole; else with members left out, doubled, misnamed, lying or damaged."""
    entries = list(members.items())
    method = draw.choice([zipfile.ZIP_DEFLATED, zipfile.ZIP_STORED])
    name = draw.choice(list(members))
    kind = draw.randrange(16)
    if kind == 0:
        entries = [entry for entry in entries if entry[0] != name]
    elif kind == 1:
        entries.append((name, draw.choice(list(members.values()))))
    elif kind == 2:
        entries = [(draw.choice(_PATHS[:4]) if each == name else each, raw) for each, raw in entries]
    elif kind == 3:
        entries = [(each, raw + bytes(4 << 20) if each == name else raw) for each, raw in entries]
    data = zip_bytes(
        [(each, raw, zipfile.ZIP_BZIP2 if kind == 7 and each == name else method) for each, raw in entries]
    )
    if kind in (4, 5):
        return mutated_bytes(draw, data)
    if kind == 6:
        return _lying_zip(draw, data)
    return data


def zip_bytes(entries: Sequence[tuple[str, bytes, int]]) -> bytes:
    """A zip of (name, content, method), as ``zipfile`` writes it; what a member is compressed to is remembered."""
    body, directory = bytearray(), bytearray()
    for name, raw, method in entries:
        checksum, packed = _packed(raw, method)
        version = zipfile.BZIP2_VERSION if method == zipfile.ZIP_BZIP2 else zipfile.DEFAULT_VERSION
        letters = name.partition("\0")[0].encode()
        utf8 = 0 if letters.isascii() else 0x800
        # The first of January 1980, as in each ZipInfo.
        common = struct.pack("<4H3I2H", utf8, method, 0, 0x21, checksum, len(packed), len(raw), len(letters), 0)
        directory += struct.pack("<4s2BH", b"PK\x01\x02", version, 3, version) + common
        directory += struct.pack("<3H2I", 0, 0, 0, 0o600 << 16, len(body)) + letters
        body += struct.pack("<4sH", b"PK\x03\x04", version) + common + letters + packed
    end = struct.pack("<4s4H2IH", b"PK\x05\x06", 0, 0, len(entries), len(entries), len(directory), len(body), 0)
    return bytes(body + directory + end)


@functools.lru_cache(maxsize=256)
def _packed(raw: bytes, method: int) -> tuple[int, bytes]:
    """Checksum and compressed content of a zip's member."""
    if method == zipfile.ZIP_DEFLATED:
        squeezer = zlib.compressobj(1, zlib.DEFLATED, -15)
        return zlib.crc32(raw), squeezer.compress(raw) + squeezer.flush()
    return zlib.crc32(raw), bz2.compress(raw, 1) if method == zipfile.ZIP_BZIP2 else raw


def _lying_zip(draw: random.Random, data: bytes) -> bytes:
    """A zip whose directory states other sizes, methods or flags than its members have."""
    raw = bytearray(data)
    places = [found.start() for found in re.finditer(b"PK\x01\x02", data)]
    at = draw.choice(places) if places else 0
    offset, layout, value = draw.choice(
        [(24, "<I", 0xFFFF_FFF0), (20, "<I", 3), (10, "<H", 99), (8, "<H", 1), (24, "<I", 1 << 28), (42, "<I", 1 << 20)]
    )
    if at + offset + 4 <= len(raw):
        struct.pack_into(layout, raw, at + offset, value)
    return bytes(raw)


def mutated_message(draw: random.Random, message: Message) -> None:
    """Changes one to three fields anywhere in a protobuf message."""
    for _ in range(draw.randint(1, 3)):
        place: Any = message
        while True:
            inner = _children(place)
            if not inner or draw.random() < 0.2:
                break
            place = draw.choice(inner)
        _change_field(draw, place)


def _children(place: Any) -> list[Any]:
    found = []
    for field, value in place.ListFields():
        if field.message_type is not None:
            found += list(value)[:200] if _repeats(field) else [value]
    return found


def _repeats(field: Any) -> bool:
    return bool(field.is_repeated if hasattr(field, "is_repeated") else field.label == field.LABEL_REPEATED)


def _change_field(draw: random.Random, place: Any) -> None:
    present = [field for field, _ in place.ListFields()]
    fields = present if present and draw.random() < 0.85 else list(place.DESCRIPTOR.fields)
    field = draw.choice(fields)
    try:
        if _repeats(field):
            _change_repeated(draw, field, getattr(place, field.name))
        elif field.message_type is not None or draw.random() < 0.1:
            place.ClearField(field.name)
        else:
            setattr(place, field.name, _field_value(draw, field, getattr(place, field.name)))
    except (TypeError, ValueError, OverflowError, struct.error):
        # The value does not fit the field's type; another field will do.
        place.ClearField(field.name)


def _change_repeated(draw: random.Random, field: Any, values: Any) -> None:
    at = draw.randrange(len(values)) if len(values) else 0
    match draw.randrange(4):
        case 0 if len(values):
            del values[at]
        case 1 if len(values) and field.message_type is not None:
            values.add().CopyFrom(values[at])
        case 2 if len(values) > 1 and field.message_type is not None:
            values[at].CopyFrom(values[draw.randrange(len(values))])
        case 3 if len(values):
            values.reverse() if field.message_type is None else values.pop(at)
        case _ if field.message_type is None:
            old = values[at] if len(values) else field.default_value
            values.append(_field_value(draw, field, old if not isinstance(old, list) else 0))


def _field_value(draw: random.Random, field: Any, old: Any) -> Any:
    if isinstance(old, bytes):
        return mutated_bytes(draw, old)
    if isinstance(old, str):
        return draw.choice([*_WORDS, old + "_", old[:-1], "hgnn", "Add", "x_paper", "src_PAP", "location"])
    if isinstance(old, float):
        return draw.choice([*_FLOATS, old * 2, 0.0])
    return draw.choice([*_NUMBERS[:13], -1, old + 1, old - 1, 16, 10])
