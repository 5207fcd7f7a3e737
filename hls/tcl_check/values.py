# SPDX-License-Identifier: Apache-2.0
"""Kinds of values in the tables of commands and of IPs, and whether a text is of a kind.

A kind is ``text``, ``name``, ``integer``, ``number``, ``period`` or ``percent``; a range ``1..16``, powers of two
``2^4..2^15``, or texts to choose from, ``in|out``.
"""

import re

_PATTERNS = {
    "text": r".*",
    "name": r"/?[A-Za-z_][\w/.-]*",
    "identifier": r"[A-Za-z_]\w*",
    "integer": r"-?\d+|0[xX][0-9A-Fa-f]+",
    "number": r"-?\d+(\.\d+)?",
    "hex": r"0[xX][0-9A-Fa-f]{1,16}",
    "size": r"0[xX][0-9A-Fa-f]+|\d+[KMG]?",
    "period": r"\d+(\.\d+)?(ns|MHz)?",
    "uncertainty": r"\d+(\.\d+)?(%|ns)?",
    "vlnv": r"[\w.-]+:[\w.-]+:[\w.-]+:(\d+\.\d+|\*)",
    "version": r"\d+\.\d+(\.\d+)?",
    "domain": r"[A-Za-z][\w.-]*",
    "path": r"[^\s]+",
    "paths": r"\S+( +\S+)*",
    "rule": r"[a-z.]+:bd_rule:\w+",
}
#: Stands for a word whose value only the running script knows.
UNKNOWN = "\0"
_RANGE = re.compile(r"(-?\d+)\.\.(-?\d+)")
_POWERS = re.compile(r"2\^(\d+)\.\.2\^(\d+)")


def is_of_kind(text: str, kind: str) -> bool:
    """Whether a text is a value of a kind; what is not known may be."""
    if UNKNOWN in text:
        return True
    if kind in _PATTERNS:
        return re.fullmatch(_PATTERNS[kind], text, re.DOTALL) is not None
    if powers := _POWERS.fullmatch(kind):
        low, high = (int(group) for group in powers.groups())
        return text.isdecimal() and text in {str(1 << bit) for bit in range(low, high + 1)}
    if limits := _RANGE.fullmatch(kind):
        low, high = (int(group) for group in limits.groups())
        return re.fullmatch(r"-?\d+", text) is not None and low <= int(text) <= high
    return text in kind.split("|")


def described(kind: str) -> str:
    """A kind in words, as a fix says it."""
    if kind in _PATTERNS:
        return f"a value of the form '{kind}'"
    if _POWERS.fullmatch(kind) or _RANGE.fullmatch(kind):
        return f"a number of {kind}"
    return "one of " + ", ".join(kind.split("|"))


def whole_number(text: str) -> int:
    """A size or an address: decimal, hexadecimal, or with K, M or G.

    Raises:
        ValueError: The text is none of these.
    """
    if text and text[-1] in "KMG":
        return int(text[:-1]) << {"K": 10, "M": 20, "G": 30}[text[-1]]
    return int(text, 0)
