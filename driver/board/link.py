# SPDX-License-Identifier: Apache-2.0
"""The host's end of a link to a board: requests and answers, each with a deadline, failures as errors of hetfab."""

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from hetfab.driver.board.channel import Channel, ChannelEndedError
from hetfab.driver.board.frames import (
    GREETING,
    LINK_VERSION,
    PIECE_BYTES,
    REFUSAL,
    encode,
    read_message,
)
from hetfab.overlay.errors import (
    AnswerGarbledError,
    BoardPythonError,
    BoardSoftwareError,
    CopyDamagedError,
    HetfabError,
)
from hetfab.overlay.isa.spec import isa

#: How long an answer may take that needs no work.
ANSWER_SECONDS = 30.0
#: What a login shell may print before the board's side speaks.
_LARGEST_PREAMBLE_BYTES = 1 << 16
_LARGEST_REFUSAL_BYTES = 1000
_SHOWN_CHARACTERS = 60
#: How long Python may take to start on a board.
_START_SECONDS = 60.0


@dataclass(frozen=True)
class BoardFacts:
    """What a board says of itself.

    Attributes:
        board: Its name as PYNQ's image has it, None where it has none.
        machine: Its processor, as ``armv7l`` or ``aarch64``.
        python: Version.
        hetfab: Version, None where it is not installed as a package.
        numpy: Version.
        pynq: Version, None without pynq.
    """

    board: str | None
    machine: str
    python: str
    hetfab: str | None
    numpy: str
    pynq: str | None


class BoardLink:
    """Requests to a board.

    Args:
        channel: To the board's side, which is starting.
        name: How messages call the board.
        ended: Says why the channel ended, by whether the board had answered.
        answer_seconds: How long an answer may take that needs no work.

    Raises:
        BoardPythonError: The board's Python is too old.
        BoardSoftwareError: The board lacks hetfab, or has another version.
        BoardBusyError: Another program works with the board.
        HetfabError: What ``ended`` says.
    """

    def __init__(
        self,
        channel: Channel,
        name: str,
        ended: Callable[[bool], HetfabError],
        *,
        answer_seconds: float = ANSWER_SECONDS,
    ) -> None:
        self.name = name
        self._channel = channel
        self._ended = ended
        self._answer_seconds = answer_seconds
        #: Whether requests still find the board.
        self.alive = True
        self._begun = False
        with self._in_step():
            self._await_greeting()
            self.facts = self._read_facts()

    def request(
        self, do: str, payload: bytes = b"", *, seconds: float = 0.0, **fields: Any
    ) -> tuple[Mapping[str, Any], bytes]:
        """Asks for one thing and returns the answer.

        Args:
            do: What.
            payload: Raw bytes, at most one piece.
            seconds: How much longer than usual the answer may take.
            fields: What belongs to the request.

        Raises:
            HetfabError: What the board answers.
            LinkLostError: It does not answer.
            AnswerGarbledError: It answers what no board does.
        """
        with self._in_step():
            self._send(encode({"do": do, **fields}, payload), seconds)
            answer = self._message(seconds)
        return self._checked(*answer)

    def send_file(self, path: Path, name: str, suffix: str) -> str:
        """Copies a file of a package to the board.

        Returns:
            SHA-256 of what is there now, computed on the board.

        Raises:
            HetfabError: As ``request``.
        """
        with self._in_step(), path.open("rb") as file:
            size = path.stat().st_size
            self._send(encode({"do": "receive", "name": name, "suffix": suffix, "size": size}))
            sent = 0
            for piece in pieces_of(file, size):
                self._send(encode({}, piece))
                sent += len(piece)
            if sent != size:
                raise CopyDamagedError(
                    f"'{path}' became shorter while it was copied", "a file at rest", "run the same command again"
                )
            received = self._message(size / PIECE_BYTES)
        answer, _ = self._checked(*received)
        return str(answer.get("checksum"))

    def whole_number(self, answer: Mapping[str, Any], name: str, largest: int) -> int:
        """A whole number of an answer, from 0 to the largest that it may be.

        Raises:
            AnswerGarbledError: It is none.
        """
        value = answer.get(name)
        if type(value) is not int or not 0 <= value <= largest:
            raise self._garbled(f"{str(value)[:_SHOWN_CHARACTERS]!r} as '{name}', a whole number up to {largest:,}")
        return value

    def truth(self, answer: Mapping[str, Any], name: str) -> bool:
        """A truth value of an answer.

        Raises:
            AnswerGarbledError: It is none.
        """
        value = answer.get(name)
        if type(value) is not bool:
            raise self._garbled(f"{str(value)[:_SHOWN_CHARACTERS]!r} as '{name}', true or false")
        return value

    def close(self) -> None:
        """Ends the link; the board's side frees what it holds. Again is allowed and does nothing."""
        self.alive = False
        self._channel.close()

    def _send(self, raw: bytes, seconds: float = 0.0) -> None:
        try:
            self._channel.send(raw, self._answer_seconds + seconds)
        except ChannelEndedError as error:
            raise self._end() from error

    def _receive(self, size: int, seconds: float) -> bytes:
        try:
            return self._channel.receive(size, seconds)
        except ChannelEndedError as error:
            raise self._end() from error

    def _end(self) -> HetfabError:
        """Why the channel ended."""
        self.close()
        return self._ended(self._begun)

    @contextlib.contextmanager
    def _in_step(self) -> Iterator[None]:
        """Ends the link where a request ends without its answer, as by an interrupt: the next would get that one."""
        with contextlib.ExitStack() as unless_answered:
            unless_answered.callback(self.close)
            yield
            unless_answered.pop_all()

    def _message(self, seconds: float) -> tuple[dict[str, Any], bytes]:
        try:
            return read_message(lambda size: self._receive(size, self._answer_seconds + seconds))
        except ValueError as error:
            raise self._garbled(str(error)) from error

    def _checked(self, header: dict[str, Any], payload: bytes) -> tuple[dict[str, Any], bytes]:
        """An answer that is no error."""
        if "error" in header:
            raise _error_of(header["error"]) or self._garbled("an error without words")
        return header, payload

    def _await_greeting(self) -> None:
        """Skips what a login shell prints."""
        seen = bytearray(b"\n")
        while not seen.endswith(GREETING):
            if REFUSAL in seen:
                raise self._refused(seen)
            if len(seen) > _LARGEST_PREAMBLE_BYTES:
                raise self._garbled("something else than a board's side of hetfab")
            seen += self._receive(1, _START_SECONDS)
        self._begun = True

    def _refused(self, seen: bytearray) -> HetfabError:
        reason = bytearray(seen.partition(REFUSAL)[2])
        while not reason.endswith(b"\n") and len(reason) < _LARGEST_REFUSAL_BYTES:
            reason += self._receive(1, _START_SECONDS)
        text = reason.decode("utf-8", errors="replace").strip()
        what, _, detail = text.partition(" ")
        if what == "python":
            return BoardPythonError(
                f"{self.name} runs hetfab with Python {detail}",
                "Python 3.10 or newer, as PYNQ's images have it from 3.0.1 on",
                "put a newer image on the board's card, or make 'python3' there a newer Python",
            )
        return BoardSoftwareError(
            f"{self.name} cannot import what it needs: {detail}",
            "hetfab, numpy and click where its Python looks for packages",
            "install hetfab's wheel there: pip install --no-deps hetfab-*.whl",
        )

    def _read_facts(self) -> BoardFacts:
        about, _ = self._checked(*self._message(_START_SECONDS))
        theirs, ours = (about.get("link"), about.get("isa")), (LINK_VERSION, list(isa().version))
        if theirs != ours:
            raise BoardSoftwareError(
                f"{self.name} has hetfab {about.get('hetfab')} with the instruction set {about.get('isa')} and version "
                f"{about.get('link')} of the link",
                f"the instruction set {ours[1]} and version {ours[0]} of the link",
                "install the same wheel of hetfab on host and board",
            )
        machine, python, numpy = (self._word(about, name) for name in ("machine", "python", "numpy"))
        board, hetfab, pynq = (
            None if about.get(name) is None else self._word(about, name) for name in ("board", "hetfab", "pynq")
        )
        return BoardFacts(board, machine, python, hetfab, numpy, pynq)

    def _word(self, about: Mapping[str, Any], name: str) -> str:
        word = about.get(name)
        if not isinstance(word, str):
            raise self._garbled(f"{str(word)[:_SHOWN_CHARACTERS]!r} as its '{name}', a text")
        return word

    def _garbled(self, found: str) -> AnswerGarbledError:
        return AnswerGarbledError(
            f"{self.name} sent {found}",
            "answers of the board's side of hetfab",
            "install the same wheel of hetfab on host and board; look what its login shell prints",
        )


def pieces(size: int) -> Iterator[tuple[int, int]]:
    """Offsets and sizes of the pieces that so many bytes are moved in."""
    for offset in range(0, size, PIECE_BYTES):
        yield offset, min(PIECE_BYTES, size - offset)


def pieces_of(file: BinaryIO, size: int) -> Iterator[bytes]:
    """So many bytes of a file in pieces, fewer where it ends before."""
    for _, wanted in pieces(size):
        if piece := file.read(wanted):
            yield piece


def _error_of(words: object) -> HetfabError | None:
    """The error that a board sent, of the class of its code; None where it is none."""
    if not isinstance(words, Mapping) or not {"code", "found", "expected", "do"} <= set(words):
        return None
    parts = [str(words[name]) for name in ("found", "expected", "do")]
    kind = _kinds(HetfabError).get(str(words["code"]), HetfabError)
    return kind(*parts)


def _kinds(base: type[HetfabError]) -> dict[str, type[HetfabError]]:
    """Classes of errors by code, those that are made of the three parts alone."""
    found = {}
    for kind in base.__subclasses__():
        if "__init__" not in vars(kind):
            found[kind.code] = kind
        found |= _kinds(kind)
    return found
