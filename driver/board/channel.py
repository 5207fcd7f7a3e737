# SPDX-License-Identifier: Apache-2.0
"""Bytes to and from a process, each wait with a deadline: a peer that stops reading or answering holds nobody up."""

import os
import select
import time

from hetfab.overlay.errors import LinkLostError

_CHUNK_BYTES = 1 << 16


class ChannelEndedError(Exception):
    """The other side closed its end."""


class Channel:
    """Two descriptors as one channel; it closes them.

    Args:
        source: Descriptor to read from.
        sink: Descriptor to write to.
    """

    def __init__(self, source: int, sink: int) -> None:
        self._source, self._sink = source, sink
        os.set_blocking(source, False)
        os.set_blocking(sink, False)
        self._buffered = bytearray()
        self._open = True

    def send(self, raw: bytes, seconds: float) -> None:
        """Writes all bytes.

        Raises:
            ChannelEndedError: Nobody reads any more.
            LinkLostError: The other side did not take them in time.
        """
        end = time.monotonic() + seconds
        view = memoryview(raw)
        while view:
            self._await(end, seconds, writes=True)
            try:
                view = view[os.write(self._sink, view[:_CHUNK_BYTES]) :]
            except BrokenPipeError as error:
                raise ChannelEndedError from error

    def receive(self, size: int, seconds: float) -> bytes:
        """Reads exactly as many bytes as asked for.

        Raises:
            ChannelEndedError: The channel ended before.
            LinkLostError: They did not come in time.
        """
        end = time.monotonic() + seconds
        while len(self._buffered) < size:
            self._await(end, seconds, writes=False)
            piece = os.read(self._source, _CHUNK_BYTES)
            if not piece:
                raise ChannelEndedError
            self._buffered += piece
        found = bytes(self._buffered[:size])
        del self._buffered[:size]
        return found

    def close(self) -> None:
        """Closes both descriptors; again is allowed and does nothing."""
        if self._open:
            self._open = False
            os.close(self._source)
            if self._sink != self._source:
                os.close(self._sink)

    def _await(self, end: float, seconds: float, *, writes: bool) -> None:
        if not self._open:
            raise ChannelEndedError
        left = max(0.0, end - time.monotonic())
        # Not select, which takes no descriptor above 1023.
        ready = select.poll()
        ready.register(self._sink if writes else self._source, select.POLLOUT if writes else select.POLLIN)
        if not ready.poll(1e3 * left):
            raise LinkLostError(
                f"the board did not {'take' if writes else 'send'} anything for {seconds:g} s",
                "a board that answers",
                "check the board and its network, then run the same command again",
            )
