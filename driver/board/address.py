# SPDX-License-Identifier: Apache-2.0
"""The text behind ``--to``: which overlay a command works on, and how it is reached (docs/flash.md)."""

import re
from dataclasses import dataclass
from enum import Enum
from urllib.parse import SplitResult, urlsplit

from hetfab.overlay.errors import TargetInvalidError

#: What ssh takes as names without a meaning of its own: no leading dash, nothing that a shell reads.
_USER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,63}")
_HOST = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,252}|[0-9A-Fa-f:.]{2,45}")
#: What may be a password: all between a colon, not the one of the scheme, and the last @.
_PASSWORD = re.compile(r"^((?:[A-Za-z]+://|(?![A-Za-z]+://))[^:]*):.*@", re.DOTALL)
FORMS = "emulated, local, ssh://[user@]host[:port], jtag or remote://host[:port]"


class Way(Enum):
    """How an overlay is reached."""

    EMULATED = "emulated"
    LOCAL = "local"
    SSH = "ssh"
    JTAG = "jtag"
    REMOTE = "remote"


@dataclass(frozen=True)
class Address:
    """A target.

    Attributes:
        way: How it is reached.
        host: Name or address of the board, "" where it is this machine.
        user: Who logs in, None for whom ssh chooses.
        port: None for the usual one.
    """

    way: Way
    host: str = ""
    user: str | None = None
    port: int | None = None

    def __str__(self) -> str:
        """As ``--to`` takes it."""
        if not self.host:
            return self.way.value
        host = f"[{self.host}]" if ":" in self.host else self.host
        user = "" if self.user is None else f"{self.user}@"
        return f"{self.way.value}://{user}{host}" + ("" if self.port is None else f":{self.port}")


def parse_address(text: str) -> Address:
    """Reads a target.

    Raises:
        TargetInvalidError: It is none, or holds a password.
    """
    if text in (Way.EMULATED.value, Way.LOCAL.value, Way.JTAG.value):
        return Address(Way(text))
    if _PASSWORD.search(text):
        raise TargetInvalidError(
            f"the target '{_shown(text)}' holds a password, which everybody on this machine could read",
            "a key that the board knows: ssh-copy-id user@host",
            "leave the password out, and change it",
        )
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError as error:
        raise _invalid(text, str(error)) from error
    if parts.scheme not in (Way.SSH.value, Way.REMOTE.value):
        raise _invalid(text, "it is none of the forms")
    way, host = Way(parts.scheme), _host(parts)
    reason = _problem(way, parts, host)
    if reason:
        raise _invalid(text, reason)
    return Address(way, host, parts.username, port)


def _host(parts: SplitResult) -> str:
    """The host as it was typed: names in ssh's settings differ by their case, and ``hostname`` is in small letters."""
    found = parts.hostname or ""
    place = parts.netloc.rpartition("@")[2]
    start = place.lower().find(found)
    return place[start : start + len(found)]


def _problem(way: Way, parts: SplitResult, host: str) -> str:
    """What is wrong with the parts of a target, "" where nothing is."""
    if parts.path not in ("", "/") or parts.query or parts.fragment:
        return "nothing may follow the host"
    if not _HOST.fullmatch(host):
        return f"{host!r} is no host"
    if parts.username is not None and (way is Way.REMOTE or not _USER.fullmatch(parts.username)):
        return f"{parts.username!r} is no user"
    return ""


def _shown(text: str) -> str:
    """The text without what may be a password."""
    return _PASSWORD.sub(r"\1:***@", text)


def _invalid(text: str, reason: str) -> TargetInvalidError:
    return TargetInvalidError(f"the target '{text}' says nothing: {reason}", FORMS, "correct --to")
