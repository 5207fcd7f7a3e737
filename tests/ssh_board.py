# SPDX-License-Identifier: Apache-2.0
"""A board that ssh reaches: OpenSSH's server on the loopback, in front of an environment with a board's packages only.

The server has keys, settings and a port of its own, all in one folder. What logs in runs with the environment's Python;
a test may change what the login meets: limits, another Python, a disk that loses bytes.
"""

import os
import shlex
import shutil
import socket
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from hetfab.driver.board.address import Address, Way

#: Environment variable with the Python of a board's environment; ``make test-board`` sets it.
PYTHON_VARIABLE = "HETFAB_BOARD_PYTHON"
_START_SECONDS = 20.0


def board_python() -> Path:
    """Python of an environment with numpy, click and hetfab alone; skips the calling test where there is none."""
    chosen = os.environ.get(PYTHON_VARIABLE)
    if not chosen:
        pytest.skip("python: there is no board's environment (make test-board makes one)")
    return Path(chosen)


def sshd() -> str:
    """OpenSSH's server; skips the calling test where there is none."""
    found = shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if found is None:
        pytest.skip("python: there is no sshd (make test-board says how to install it)")
    return found


@dataclass
class SshBoard:
    """A server that runs.

    Attributes:
        folder: Of its keys, settings and logs.
        port: On the loopback.
        environment: Variables of what logs in.
        before: Line of a shell script that what logs in runs first.
        process: The server's, None while it is down.
    """

    folder: Path
    port: int
    environment: dict[str, str]
    before: str = ":"
    process: "subprocess.Popen[bytes] | None" = field(default=None, repr=False)

    @property
    def address(self) -> Address:
        """Where it is."""
        return Address(Way.SSH, "127.0.0.1", None, self.port)

    @property
    def store(self) -> Path:
        """Where packages arrive."""
        return self.folder / "store"

    def login(self, before: str = ":", **environment: str) -> None:
        """Writes what a login runs."""
        words = self.environment | environment
        lines = [f"export {name}={shlex.quote(value)}" for name, value in words.items()]
        script = "\n".join(["#!/bin/sh", *lines, before, 'exec sh -c "$SSH_ORIGINAL_COMMAND"', ""])
        (self.folder / "login").write_text(script, encoding="utf-8")
        (self.folder / "login").chmod(0o755)

    def start(self) -> None:
        """Starts the server and waits until it listens."""
        self.process = subprocess.Popen(
            [sshd(), "-D", "-e", "-f", str(self.folder / "sshd_config")],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=(self.folder / "log").open("ab"),
        )
        end = time.monotonic() + _START_SECONDS
        while time.monotonic() < end and self.process.poll() is None:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1.0).close()
            except OSError:
                time.sleep(0.02)
            else:
                return
        raise OSError("sshd does not listen:\n" + (self.folder / "log").read_text(encoding="utf-8"))

    def stop(self) -> None:
        """Ends the server; who is logged in stays."""
        if self.process is not None:
            self.process.terminate()
            self.process.wait()
            self.process = None

    def know_key(self, key: str) -> None:
        """Writes the file of known hosts with a public key."""
        (self.folder / "known_hosts").write_text(f"[127.0.0.1]:{self.port} {key}\n", encoding="utf-8")

    @property
    def key(self) -> str:
        """The server's public key."""
        return (self.folder / "host_key.pub").read_text(encoding="utf-8").strip()


def make_board(folder: Path, python: Path, cache: str) -> SshBoard:
    """Makes keys and settings, and a client's settings that lead to them.

    Args:
        folder: Where; nobody else may write there, or ssh refuses it.
        python: The board's.
        cache: Folder of built overlays: an emulated board needs one, and has no compiler to spend time with.
    """
    folder.mkdir(mode=0o700)
    if os.geteuid() == 0:
        # Where root's sshd puts its unprivileged part; Debian's start script makes it.
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
    for name in ("host_key", "user_key", "other_key"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)], check=True)
    shutil.copy(folder / "user_key.pub", folder / "authorized_keys")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    (folder / "sshd_config").write_text(
        f"""Port {port}
ListenAddress 127.0.0.1
HostKey {folder}/host_key
PidFile {folder}/pid
AuthorizedKeysFile {folder}/authorized_keys
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin prohibit-password
UsePAM no
StrictModes no
ForceCommand {folder}/login
""",
        encoding="utf-8",
    )
    (folder / "config").write_text(
        f"IdentityFile {folder}/user_key\nIdentitiesOnly yes\nUserKnownHostsFile {folder}/known_hosts\n"
        f"GlobalKnownHostsFile none\n",
        encoding="utf-8",
    )
    path = f"{python.parent}:/usr/local/bin:/usr/bin:/bin"
    board = SshBoard(
        folder, port, {"PATH": path, "HETFAB_CACHE": cache, "HETFAB_BOARD_FOLDER": str(folder / "store"), "BOARD": ""}
    )
    board.know_key(board.key)
    board.login()
    return board
