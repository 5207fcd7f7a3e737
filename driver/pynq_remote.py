# SPDX-License-Identifier: Apache-2.0
"""Opens an overlay on a board that runs PYNQ.remote: pynq on this machine, registers and memory by gRPC.

pynq's own ``RemoteDevice`` loads whatever file of a bitstream's name the board has; here files get names by their
content, and are compared after the copy. The channel is neither encrypted nor does it ask who uses it. No board has
been reached this way.
"""

import hashlib
import importlib.util
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hetfab.driver.board.address import Address
from hetfab.driver.board.identity import check_board
from hetfab.driver.board.link import BoardFacts
from hetfab.hls.build.cache import package_folder
from hetfab.overlay.errors import (
    BoardSoftwareError,
    CopyDamagedError,
    HetfabError,
    HostUnreachableError,
    LinkLostError,
    PackageMissingError,
    PynqVersionError,
)
from hetfab.overlay.files import make_folder, write_atomic
from hetfab.overlay.package import Package

if TYPE_CHECKING:
    from hetfab.driver.remote_transport import RemoteTransport

#: pynq leaves out what needs a board's own kernel where this names a device when it is imported.
VARIABLE = "PYNQ_REMOTE_DEVICES"
_FIRMWARE = "/lib/firmware/"
#: What pynq calls a board that does not say its name.
_NAMELESS = "Unknown"


def open_remote(address: Address, package: Package) -> "RemoteTransport":
    """Copies a package's bitstream to a board and loads it.

    Raises:
        PackageMissingError: pynq is not installed here.
        PynqVersionError: pynq is older than 3.1, and has no PYNQ.remote.
        HostUnreachableError: No board answers there.
        BoardMismatchError: It is another board.
        CopyDamagedError: After the copy the board's file is not what it is here.
        LinkLostError: The board stopped answering.
        BoardSoftwareError: It refuses what it is asked.
    """
    device = _device(address)
    from hetfab.driver.remote_transport import RemoteTransport

    name = None if device.name == _NAMELESS else str(device.name)
    check_board(BoardFacts(name, str(device.arch), "", "", "", None), f"'{address}'", package)
    bit = _named_by_content(package)
    _copy(device, bit, address)
    return RemoteTransport(address, bit, device)


def _device(address: Address) -> Any:
    """The device of pynq for the board, which becomes the active one: clocks are looked for nowhere else."""
    if importlib.util.find_spec("pynq") is None:
        raise PackageMissingError(
            "the Python package 'pynq' is not installed",
            "pynq 3.1 or newer on this machine, whose PYNQ.remote drives the board",
            "pip install 'hetfab[emulation]', or reach the board over ssh",
        )
    os.environ.setdefault(VARIABLE, address.host)
    from pynq import Device

    try:
        from pynq.pl_server.remote_device import PYNQ_PORT, RemoteDevice
    except ImportError as error:
        raise PynqVersionError(
            f"the installed pynq has no PYNQ.remote: {error}",
            "pynq 3.1 or newer with grpcio",
            "install it on this machine, or reach the board over ssh",
        ) from error
    from hetfab.driver.remote_transport import answered

    try:
        # It asks for processor and name; what it says of a board that is not there is a RuntimeError.
        device = answered(
            address, lambda: RemoteDevice(0, address.host, address.port or PYNQ_PORT), refused=HostUnreachableError
        )
    except (HostUnreachableError, LinkLostError) as error:
        reason = error.found if isinstance(error.__cause__, HetfabError) else error.__cause__
        raise HostUnreachableError(
            f"no PYNQ.remote answers at '{address}': {reason}",
            "a board with PYNQ's remote image on the network",
            "check name, port, power and network, or reach the board over ssh",
        ) from error
    Device.active_device = device
    return device


def _named_by_content(package: Package) -> Path:
    """Files of a package under a name that no other content has."""
    raw, hwh = package.bit.read_bytes(), package.hwh.read_bytes()
    key = hashlib.sha256(raw + hwh).hexdigest()[:24]
    bit = make_folder(package_folder(f"remote-{key}")) / f"hetfab_{key}.bit"
    write_atomic(bit.with_suffix(".hwh"), lambda file: _write(file, hwh))
    write_atomic(bit, lambda file: _write(file, raw))
    return bit


def _write(file: Any, raw: bytes) -> None:
    file.write(raw)


def _copy(device: Any, bit: Path, address: Address) -> None:
    """Puts the bitstream where pynq will look for it, unless the very same is there."""
    from pynq.pl_server.embedded_device import bit2bin

    content = bytes(bit2bin(bit.read_bytes()))
    path = f"{_FIRMWARE}{bit.stem}.bin"
    from hetfab.driver.remote_transport import answered

    def checksum() -> str:
        return answered(address, lambda: _checksum(device, path), len(content), BoardSoftwareError)

    if checksum() == hashlib.sha256(content).hexdigest():
        return
    answered(address, lambda: device.write_file(path, content), len(content), BoardSoftwareError)
    if checksum() != hashlib.sha256(content).hexdigest():
        # PYNQ.remote has no request that removes a file.
        raise CopyDamagedError(
            f"'{path}' arrived at '{address}' damaged or short, and stays there until it is sent again",
            f"{len(content):,} bytes with the SHA-256 that they have on the host; nothing was loaded",
            "run the same command again, which overwrites it; if this stays, check the board's storage and the network",
        )


def _checksum(device: Any, path: str) -> str:
    """SHA-256 of a file of the board, "" where there is none."""
    if not device.exists_file(path).exists:
        return ""
    return hashlib.sha256(device.read_file(path)).hexdigest()
