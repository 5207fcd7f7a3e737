# SPDX-License-Identifier: Apache-2.0
"""Where the tools of a build run: on this machine, or on another one by ssh, with the files copied there and back."""

import contextlib
import io
import os
import shlex
import signal
import subprocess
import tarfile
import threading
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Protocol

from hetfab.overlay.errors import HostUnreachableError

_VERSION_SECONDS = 300
#: What a tool gets to end after SIGTERM.
_GRACE_SECONDS = 10
_SSH_FAILED = 255
_SSH = ("ssh", "-o", "BatchMode=yes")


class Machine(Protocol):
    """Where commands run."""

    #: For messages: "on this machine".
    where: str

    def output(self, command: Sequence[str]) -> tuple[int, str]:
        """Runs a short command; returns its exit status, 127 where it is not there, and what it printed."""

    def run(
        self, command: Sequence[str], folder: Path, log: Path, sends: Iterable[Path], clears: Iterable[Path]
    ) -> int:
        """Runs a tool to its end; returns its exit status.

        Args:
            command: What to run.
            folder: Working folder, from the build's folder.
            log: File for what it prints.
            sends: Files and folders that it reads, from the build's folder.
            clears: Files and folders that it writes, and that earlier runs may have left.
        """

    def fetch(self, outputs: Iterable[Path]) -> None:
        """Brings files and folders that a tool wrote to this machine; what is not there is left out."""

    def stop(self) -> None:
        """Ends all tools that run."""


class ThisMachine:
    """The machine that hetfab runs on.

    Args:
        root: The build's folder.
        lock: Descriptor of the folder's lock. Tools inherit it, so that the folder stays locked while one of them
            lives, even where the build was killed.
    """

    def __init__(self, root: Path, lock: int) -> None:
        self.where = "on this machine"
        self._root = root
        self._processes = Processes(lock)

    def output(self, command: Sequence[str]) -> tuple[int, str]:
        """As ``Machine.output``."""
        try:
            result = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                timeout=_VERSION_SECONDS,
                check=False,
            )
        except FileNotFoundError:
            return 127, ""
        except PermissionError:
            return 126, ""
        except subprocess.TimeoutExpired:
            return 1, f"it did not end within {_VERSION_SECONDS} seconds"
        return result.returncode, result.stdout.decode(errors="replace")

    def run(
        self, command: Sequence[str], folder: Path, log: Path, sends: Iterable[Path], clears: Iterable[Path]
    ) -> int:
        """As ``Machine.run``."""
        return self._processes.run(command, self._root / folder, log)

    def fetch(self, outputs: Iterable[Path]) -> None:
        """As ``Machine.fetch``: they are there."""

    def stop(self) -> None:
        """As ``Machine.stop``."""
        self._processes.stop()


class Host:
    """Another machine, reached by ssh without a password.

    Args:
        root: The build's folder here.
        lock: As of ``ThisMachine``.
        host: ``user@machine``.
        remote: The build's folder there, from the user's home.
    """

    def __init__(self, root: Path, lock: int, host: str, remote: str) -> None:
        self.where = f"on '{host}'"
        self._root, self._host, self._remote = root, host, remote
        self._processes = Processes(lock)

    def output(self, command: Sequence[str]) -> tuple[int, str]:
        """As ``Machine.output``."""
        result = self._ssh(shlex.join(command))
        if result.returncode == _SSH_FAILED:
            raise self._unreachable("run a command on", result.stderr.decode(errors="replace"))
        return result.returncode, (result.stdout + result.stderr).decode(errors="replace")

    def run(
        self, command: Sequence[str], folder: Path, log: Path, sends: Iterable[Path], clears: Iterable[Path]
    ) -> int:
        """As ``Machine.run``."""
        old = list(clears)
        outer = [path for path in old if not any(path != other and path.is_relative_to(other) for other in old)]
        parents = sorted({str(path.parent) for path in outer})
        home = shlex.quote(self._remote)
        script = " && ".join(
            [
                f"mkdir -p {home}",
                f"cd {home}",
                shlex.join(["rm", "-rf", "--", *map(str, old)]),
                shlex.join(["mkdir", "-p", "--", *parents]),
                "tar -xf -",
            ]
        )
        self._need(self._ssh(script, _packed(self._root, sends)), "copy files to")
        there = shlex.quote(f"{self._remote}/{folder}")
        status = self._processes.run(
            [*_SSH, self._host, f"cd {there} && exec {shlex.join(command)}"], self._root / folder, log
        )
        if status == _SSH_FAILED:
            raise self._unreachable("run a tool on", log.read_text(encoding="utf-8", errors="replace"))
        return status

    def fetch(self, outputs: Iterable[Path]) -> None:
        """As ``Machine.fetch``."""
        names = shlex.join(map(str, outputs))
        there = shlex.quote(self._remote)
        script = (
            f'cd {there} && for f in {names}; do [ ! -e "$f" ] || printf "%s\\0" "$f"; done | tar -cf - --null -T -'
        )
        _unpack(self._need(self._ssh(script), "copy files from"), self._root)

    def stop(self) -> None:
        """As ``Machine.stop``."""
        self._processes.stop()

    def _ssh(self, script: str, content: bytes = b"") -> "subprocess.CompletedProcess[bytes]":
        try:
            return subprocess.run([*_SSH, self._host, script], input=content, capture_output=True, check=False)
        except FileNotFoundError as error:
            raise HostUnreachableError(
                "there is no command 'ssh' on the path", "ssh, which --host needs", "apt-get install openssh-client"
            ) from error

    def _need(self, result: "subprocess.CompletedProcess[bytes]", what: str) -> bytes:
        if result.returncode != 0:
            raise self._unreachable(what, result.stderr.decode(errors="replace"))
        return result.stdout

    def _unreachable(self, what: str, text: str) -> HostUnreachableError:
        reason = text.strip().splitlines()[-1] if text.strip() else "ssh said nothing"
        return HostUnreachableError(
            f"cannot {what} '{self._host}': {reason}",
            "a host that ssh reaches with a key, with tar and room in the home folder",
            f"try 'ssh {self._host} true', then run the same command again",
        )


class Processes:
    """Tools that run; ``stop`` ends them all.

    Args:
        lock: Descriptor that they inherit.
    """

    def __init__(self, lock: int) -> None:
        self._lock = lock
        self._guard = threading.Lock()
        self._live: set[subprocess.Popen[bytes]] = set()
        self._stopped = False

    def run(self, command: Sequence[str], folder: Path, log: Path) -> int:
        """Runs a command in a session of its own to its end; returns the exit status, 127 where it is not there."""
        with log.open("wb") as file:
            try:
                # A session of its own: an interrupt in the terminal comes here first, and ends the tool by `stop`.
                process = subprocess.Popen(
                    command,
                    cwd=folder,
                    stdin=subprocess.DEVNULL,
                    stdout=file,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                    pass_fds=(self._lock,),
                )
            except FileNotFoundError:
                return 127
            with self._guard:
                self._live.add(process)
                stopped = self._stopped
            try:
                if stopped:
                    _end(process)
                return process.wait()
            finally:
                # An interrupt of the wait leaves it running.
                if process.poll() is None:
                    _end(process)
                with self._guard:
                    self._live.discard(process)

    def stop(self) -> None:
        """Ends what runs, and what is still to be started."""
        with self._guard:
            self._stopped = True
            live = list(self._live)
        for process in live:
            _end(process)


def _end(process: "subprocess.Popen[bytes]") -> None:
    """Ends a process with all that it started."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_GRACE_SECONDS)
            return


def _packed(root: Path, paths: Iterable[Path]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for path in paths:
            archive.add(root / path, arcname=str(path))
    return buffer.getvalue()


def _unpack(raw: bytes, root: Path) -> None:
    """Writes plain files below ``root``, and nothing else that an archive could hold."""
    with tarfile.open(fileobj=io.BytesIO(raw), mode="r|") as archive:
        for member in archive:
            target = root / member.name
            file = archive.extractfile(member) if member.isfile() else None
            if file is None or ".." in target.parts or not target.is_relative_to(root):
                continue
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(file.read())
