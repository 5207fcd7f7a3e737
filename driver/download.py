# SPDX-License-Identifier: Apache-2.0
"""Downloads a file of which size and checksums are known before, over HTTP or HTTPS, whole or not at all.

Standard library only, as it also runs on boards. No other scheme is followed, in redirects either, so that a link
cannot name files of this machine.
"""

import hashlib
import http.client
import io
import re
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import IO, Any, BinaryIO

from hetfab.overlay.errors import DownloadFailedError, DownloadRefusedError, counted
from hetfab.overlay.files import write_atomic

_SCHEMES = ("https", "http")
_CHUNK_BYTES = 1 << 20
_SILENT_SECONDS = 30.0
_LONGEST_SHOWN = 200


@dataclass(frozen=True)
class Promise:
    """What a download has to be.

    Attributes:
        bytes: Its size.
        sha256: SHA-256, 64 hexadecimal digits.
        md5: MD5, 32 of them, as PYNQ's links state it.
    """

    bytes: int
    sha256: str
    md5: str


def download(url: str, target: Path, promised: Promise, deadline_seconds: float = 1800) -> None:
    """Writes what a link leads to.

    Args:
        url: The link.
        target: Path of the file. Its folder must exist.
        promised: What it has to be.
        deadline_seconds: For all of it.

    Raises:
        DownloadRefusedError: There is no checksum, the link or a redirect is of another scheme, or what came is longer,
            shorter, or another file than promised. Nothing is kept.
        DownloadFailedError: The server cannot be reached, has no such file, or the time is over.
        OutputUnwritableError: The target cannot be written.
    """
    _check_promise(url, promised)
    _check_scheme(url, url)
    until = monotonic() + deadline_seconds

    def write(file: BinaryIO) -> None:
        with _opened(url, min(_SILENT_SECONDS, deadline_seconds)) as response:
            _receive(response, file, url, promised, until)

    write_atomic(target, write)


def check_link(url: str) -> None:
    """Raises if a link could not be followed.

    Raises:
        DownloadRefusedError: It is of another scheme, names no server, or has characters that no link has.
    """
    _check_scheme(url, url)
    try:
        names_a_server = bool(urllib.parse.urlsplit(url).hostname) and re.fullmatch("[!-~]+", url) is not None
    except ValueError:
        names_a_server = False
    if not names_a_server:
        raise DownloadRefusedError(
            f"the link '{_shown(url)}' leads nowhere",
            "a link as https://server/name.bit, in ASCII and without blanks",
            "correct the link",
        )


def _opened(url: str, seconds: float) -> Any:
    """The server's response."""
    try:
        return _opener(url).open(url, timeout=seconds)
    except urllib.error.HTTPError as error:
        raise _failed(url, f"the server answers {error.code} {error.reason}") from error
    except http.client.HTTPException as error:
        raise _failed(url, f"the server does not speak HTTP ({type(error).__name__})") from error
    except (OSError, ValueError) as error:
        raise _failed(url, str(getattr(error, "reason", error))) from error


def _receive(response: Any, file: BinaryIO, url: str, promised: Promise, until: float) -> None:
    """Copies a response and compares it with what was promised, its size before anything is taken."""
    stated = response.headers.get("Content-Length", "")
    if re.fullmatch("[0-9]{1,12}", stated) and int(stated) != promised.bytes:
        raise _other(url, counted(int(stated), "byte"), counted(promised.bytes, "byte"))
    sums, received = (hashlib.sha256(), hashlib.md5(usedforsecurity=False)), 0
    while True:
        if monotonic() > until:
            raise _failed(url, "the time is over")
        try:
            # What has arrived, and no waiting for a whole chunk: the time is looked at after each.
            chunk = response.read1(_CHUNK_BYTES)
        except (OSError, http.client.HTTPException) as error:
            raise _broken_off(url, received, promised) from error
        if not chunk:
            break
        received += len(chunk)
        if received > promised.bytes:
            raise _other(url, f"more than {counted(promised.bytes, 'byte')}", counted(promised.bytes, "byte"))
        for each in sums:
            each.update(chunk)
        file.write(chunk)
    if received < promised.bytes and stated:
        raise _broken_off(url, received, promised)
    if received != promised.bytes:
        raise _other(url, counted(received, "byte"), counted(promised.bytes, "byte"))
    for name, found, expected in zip(("SHA-256", "MD5"), sums, (promised.sha256, promised.md5), strict=True):
        if found.hexdigest() != expected:
            raise _other(url, f"{name} {found.hexdigest()}", f"{name} {expected}")


class _CheckedRedirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects to the allowed schemes, and not from HTTPS to HTTP."""

    def __init__(self, url: str) -> None:
        self._url = url

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Any, newurl: str
    ) -> urllib.request.Request | None:
        _check_scheme(newurl, self._url)
        # Python 3.10 does not know 308, which is 307 for what asks for a file.
        return super().redirect_request(req, fp, 307 if code == 308 else code, msg, headers, newurl)

    def http_error_302(self, req: Any, fp: Any, code: int, msg: str, headers: Any) -> Any:
        # The base class answers other schemes with an HTTPError of its own, before it asks ``redirect_request``.
        _check_scheme(urllib.parse.urljoin(req.full_url, headers.get("Location", "")), self._url)
        # The base class reads the body of a redirect to its end, and no server has to end one.
        fp.close()
        return super().http_error_302(req, io.BytesIO(), code, msg, headers)

    http_error_301 = http_error_303 = http_error_307 = http_error_308 = http_error_302


def _opener(url: str) -> urllib.request.OpenerDirector:
    """An opener that knows HTTP and HTTPS alone."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
        _CheckedRedirects(url),
    ):
        opener.add_handler(handler)
    return opener


def _check_promise(url: str, promised: Promise) -> None:
    for name, text, digits in (("SHA-256", promised.sha256, 64), ("MD5", promised.md5, 32)):
        if not isinstance(text, str) or not re.fullmatch(f"[0-9a-f]{{{digits}}}", text):
            raise DownloadRefusedError(
                f"the link '{_shown(url)}' has no {name}",
                f"a checksum of {digits} hexadecimal digits beside each link; nothing is downloaded without",
                "ask whoever made the link for it",
            )


def _check_scheme(url: str, link: str) -> None:
    scheme, before = (each.partition(":")[0].lower() for each in (url, link))
    if scheme not in _SCHEMES or (before == "https" and scheme == "http"):
        led = "" if url == link else f" leads to '{_shown(url)}', which"
        raise DownloadRefusedError(
            f"the link '{_shown(link)}'{led} is not followed",
            "a link and redirects that begin with https:// or http://, and none from the first to the second",
            "ask whoever made the link for another, or copy the file into its folder by hand",
        )


def _other(url: str, found: str, expected: str) -> DownloadRefusedError:
    return DownloadRefusedError(
        f"what came from '{_shown(url)}' has {found}",
        expected,
        "try again; if it stays so, the file at the link is another one: tell whoever made the link",
    )


def _broken_off(url: str, received: int, promised: Promise) -> DownloadFailedError:
    return _failed(url, f"it broke off after {counted(received, 'byte')} of {promised.bytes:,}")


def _failed(url: str, reason: str) -> DownloadFailedError:
    return DownloadFailedError(
        f"cannot download '{_shown(url)}': {_shown(reason)}",
        "a server that has the file, and a network that reaches it",
        "check the network and the link, or copy the file into its folder by hand",
    )


def _shown(text: str) -> str:
    """A link, or what a server says, as a message shows it: printable and short."""
    return ascii(text)[1:-1][:_LONGEST_SHOWN]
