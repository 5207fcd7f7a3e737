# SPDX-License-Identifier: Apache-2.0
"""Opens a link to a board by the system's OpenSSH, which knows the user's keys, hosts and settings.

Host keys are verified: a host that is not in ``known_hosts`` is refused, and so is one whose key has changed. Nothing
is asked for, so no password is ever typed or passed on. No text of the user's becomes part of a command for a shell.
"""

import contextlib
import os
import shlex
import subprocess
import tempfile
from typing import BinaryIO

from hetfab.driver.board.address import Address
from hetfab.driver.board.channel import Channel
from hetfab.driver.board.frames import REFUSAL
from hetfab.driver.board.link import ANSWER_SECONDS, BoardLink
from hetfab.overlay.errors import (
    BoardPythonError,
    BoardSoftwareError,
    HetfabError,
    HostKeyError,
    HostUnreachableError,
    LinkLostError,
    LoginRefusedError,
    ToolMissingError,
)

#: Environment variable with the file that ssh reads in place of the user's own settings.
CONFIG_VARIABLE = "HETFAB_SSH_CONFIG"
_OPTIONS = (
    "BatchMode=yes",
    "StrictHostKeyChecking=yes",
    "ConnectTimeout=15",
    "ServerAliveInterval=5",
    "ServerAliveCountMax=3",
    "ClearAllForwardings=yes",
)
#: The environment of PYNQ's images, else what the user's login gives.
_PYNQ_PYTHON = "/usr/local/share/pynq-venv/bin/python3"
_SCRIPT = f'p={_PYNQ_PYTHON}; [ -x "$p" ] || p=python3; exec "$p" -c "$1"'
#: For a Python of any version: newer words are imported only where they are understood.
_BOOTSTRAP = f"""
import sys
refusal = {REFUSAL.decode()!r}
if sys.version_info < (3, 10):
    sys.stdout.write(refusal + "python %d.%d.%d\\n" % tuple(sys.version_info[:3]))
    sys.exit(0)
try:
    from hetfab.driver.board.__main__ import main
except ImportError as error:
    sys.stdout.write(refusal + "import %s\\n" % error)
    sys.exit(0)
main()
"""
_SSH_FAILED, _NOT_FOUND = 255, 127
_END_SECONDS = 2.0
_SHOWN_LINES = 3


def open_link(address: Address, *, answer_seconds: float = ANSWER_SECONDS) -> BoardLink:
    """Starts the board's side and opens a link to it.

    Args:
        address: Where.
        answer_seconds: How long an answer may take that needs no work.

    Raises:
        ToolMissingError: There is no ssh on this machine.
        HostUnreachableError: The board is not there.
        HostKeyError: Its key is not known, or another one.
        LoginRefusedError: It does not let the user in.
        BoardPythonError: It has no Python, or one that is too old.
        BoardSoftwareError: It lacks hetfab, or has another version.
        BoardBusyError: Another program works with it.
    """
    with contextlib.ExitStack() as unless_open:
        said = unless_open.enter_context(tempfile.TemporaryFile())
        try:
            process = subprocess.Popen(
                ssh_command(address),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=said,
                # Its messages are read here.
                env={**os.environ, "LC_ALL": "C"},
                # An interrupt in the terminal is for this process, which ends the link.
                start_new_session=True,
                bufsize=0,
            )
        except FileNotFoundError as error:
            raise ToolMissingError(
                "there is no command 'ssh' on the path", "OpenSSH's client", "apt-get install openssh-client"
            ) from error
        channel = _Process(process, said)
        unless_open.callback(channel.close)
        link = BoardLink(
            channel, f"'{address}'", lambda begun: channel.explain(address, begun=begun), answer_seconds=answer_seconds
        )
        unless_open.pop_all()
    return link


def ssh_command(address: Address) -> list[str]:
    """The command that starts the board's side."""
    config = os.environ.get(CONFIG_VARIABLE)
    return [
        "ssh",
        *(["-F", config] if config else []),
        "-T",
        "-a",
        "-x",
        *(word for option in _OPTIONS for word in ("-o", option)),
        *(["-p", str(address.port)] if address.port is not None else []),
        *(["-l", address.user] if address.user is not None else []),
        "--",
        address.host,
        shlex.join(["exec", "sh", "-c", _SCRIPT, "sh", _BOOTSTRAP]),
    ]


class _Process(Channel):
    """The streams of an ssh that runs."""

    def __init__(self, process: "subprocess.Popen[bytes]", said: BinaryIO) -> None:
        assert process.stdin is not None and process.stdout is not None
        # The descriptors' owner is the channel, not the files of Popen.
        super().__init__(os.dup(process.stdout.fileno()), os.dup(process.stdin.fileno()))
        process.stdout.close()
        process.stdin.close()
        self._process = process
        self._said = said

    def close(self) -> None:
        """Ends the link; the board's side ends by itself."""
        super().close()
        try:
            self._process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def explain(self, address: Address, *, begun: bool) -> HetfabError:
        """Why it ended, after it was closed.

        Args:
            address: Where it led.
            begun: Whether the board's side had answered.
        """
        self._said.seek(0)
        text = self._said.read().decode("utf-8", errors="replace")
        return _failure(address, self._process.returncode, text, begun=begun)


def _failure(address: Address, status: int, text: str, *, begun: bool) -> HetfabError:
    """What an ssh that ended says, as an error."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    reason = "; ".join(lines[-_SHOWN_LINES:]) or "ssh said nothing"
    host = f"'{address}'"
    if status == _NOT_FOUND:
        return BoardPythonError(
            f"{host} has no command python3: {reason}",
            "Python 3.10 or newer, as PYNQ's images have it from 3.0.1 on",
            "check that this is a board with PYNQ's image",
        )
    if status != _SSH_FAILED:
        return BoardSoftwareError(
            f"the board's side on {host} ended with status {status}: {reason}",
            "a side that answers until the link ends",
            "run 'python3 -m hetfab.driver.board' on the board as the same user and report what it prints",
        )
    if begun:
        return LinkLostError(
            f"the link to {host} broke: {reason}",
            "a link that lasts as long as the command",
            "check the board's power and its network, then run the same command again",
        )
    lower = text.lower()
    if "host key verification failed" in lower or "host identification has changed" in lower:
        changed = "host identification has changed" in lower
        return HostKeyError(
            f"the key of {host} is " + ("not the one that known_hosts has" if changed else "not in known_hosts"),
            "a host whose key was verified once",
            "compare the key with the board's own, ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub; then "
            + (f"ssh-keygen -R {address.host} and " if changed else "")
            + "log in once with ssh by hand",
        )
    if "permission denied" in lower or "too many authentication failures" in lower:
        return LoginRefusedError(
            f"{host} does not let the user in: {reason}",
            "a user whose public key the board has; passwords are never asked for",
            "ssh-copy-id to the board, for the user root if it is a PYNQ board, then run the same command again",
        )
    return HostUnreachableError(
        f"cannot reach {host}: {reason}",
        "a board that ssh reaches with a key",
        "check name, port, power and network; try the same with ssh by hand",
    )
