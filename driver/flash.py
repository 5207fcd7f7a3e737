# SPDX-License-Identifier: Apache-2.0
"""Loads an overlay package into a board's fabric, and compares what runs there with the package (docs/flash.md)."""

from dataclasses import dataclass
from typing import Any

from hetfab.driver.board.address import Address, Way
from hetfab.driver.session import Session
from hetfab.driver.transport import Transport
from hetfab.overlay.design import Design
from hetfab.overlay.errors import TargetInvalidError
from hetfab.overlay.isa.codec import RegisterOffset
from hetfab.overlay.isa.spec import isa
from hetfab.overlay.package import Package


@dataclass(frozen=True)
class Compared:
    """A register of the running overlay beside what the package says.

    Attributes:
        register: Its name.
        found: Its value.
        expected: What the package says.
    """

    register: str
    found: int
    expected: int


@dataclass(frozen=True)
class Flashed:
    """A package that was loaded.

    Attributes:
        registers: Registers of the running overlay; none over a way that sees no registers.
        copied: Bytes that were copied to the board, None where nothing is copied.
        checksums: SHA-256 of each file by suffix, as computed on the board; none where nothing is copied.
        board: What the board says of itself, by name; empty where it is not asked.
    """

    registers: tuple[Compared, ...]
    copied: int | None
    checksums: dict[str, str]
    board: dict[str, Any]


def flash(package: Package, address: Address) -> Flashed:
    """Loads a package's overlay; it stays in the fabric until another one is loaded or the board loses its power.

    Raises:
        TargetInvalidError: There is no board at the address.
        HetfabError: What keeps it from being loaded, by name; the next try begins anew.
    """
    match address.way:
        case Way.LOCAL:
            from hetfab.driver.overlay import open_transport

            return Flashed(_compared(open_transport(package), package.design), None, {}, {})
        case Way.SSH:
            return _over_ssh(package, address)
        case Way.JTAG:
            from hetfab.driver.jtag import load_over_jtag

            load_over_jtag(package)
            return Flashed((), None, {}, {})
        case Way.REMOTE:
            from hetfab.driver.pynq_remote import open_remote

            return Flashed(_compared(open_remote(address, package), package.design), None, {}, {})
        case Way.EMULATED:
            raise TargetInvalidError(
                "the emulated overlay keeps nothing: there is no fabric to load",
                "a board: local, ssh://[user@]host[:port], jtag or remote://host[:port]",
                "leave flashing out; hetfab run uses the emulated overlay by itself",
            )


def _over_ssh(package: Package, address: Address) -> Flashed:
    from dataclasses import asdict

    from hetfab.driver.board.copying import Loading

    loading = Loading(address, package)
    compared = _compared(loading.open(), package.design)
    copy = loading.copy
    return Flashed(compared, 0 if copy.was_there else sum(copy.sizes.values()), copy.checksums, asdict(loading.facts))


def _compared(transport: Transport, design: Design) -> tuple[Compared, ...]:
    """Starts the empty program, without which registers read as zero, and reads who is there; lets the overlay go.

    Raises:
        HetfabError: As ``Session``: it is not the overlay of the package.
    """
    try:
        Session(transport, design)
        return tuple(
            Compared(register.name.lower(), transport.read_register(register), expected)
            for register, expected in _identity(design).items()
        )
    finally:
        transport.close()


def _identity(design: Design) -> dict[RegisterOffset, int]:
    """What the registers of a design's overlay hold that say who it is."""
    geometry, (major, minor) = design.geometry, isa().version
    number = int(design.identity, 16)
    return {
        RegisterOffset.ISA_VERSION: major << 16 | minor,
        RegisterOffset.GEOMETRY_HASH_LOW: number & 0xFFFF_FFFF,
        RegisterOffset.GEOMETRY_HASH_HIGH: number >> 32,
        RegisterOffset.GEMM_D_SHAPE: geometry.gemm_d_cols << 16 | geometry.gemm_d_rows,
        RegisterOffset.GEMM_L_SHAPE: geometry.gemm_l_cols << 16 | geometry.gemm_l_rows,
    }
