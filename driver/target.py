# SPDX-License-Identifier: Apache-2.0
"""The overlay that a command works on: the emulated one of a design, or that of a package, here or on a board."""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from hetfab.driver.board.address import Address, Way
from hetfab.driver.checks import Checks
from hetfab.driver.session import RunWatcher, Session
from hetfab.driver.transport import Transport
from hetfab.overlay.design import Design, default_design, read_design
from hetfab.overlay.errors import TargetInvalidError
from hetfab.overlay.package import Package


@dataclass(frozen=True)
class Target:
    """An overlay that can be opened, as often as it has to be.

    Attributes:
        name: How reports call it.
        design: What it is.
        way: How it is reached.
        transport: Loads it.
        package: What is loaded; None where an emulated overlay is made from the design alone.
        checks: How far its runs are checked.
    """

    name: str
    design: Design
    way: Way
    transport: Callable[[], Transport]
    package: Package | None = None
    checks: Checks = Checks.MEMORY

    def open(self, watcher: RunWatcher | None = None) -> Session:
        """Loads it, runs the empty program and compares its identity.

        Args:
            watcher: Is told of each run.

        Raises:
            HetfabError: It cannot be loaded, or is not what it should be.
        """
        with contextlib.ExitStack() as unless_open:
            transport = self.transport()
            unless_open.callback(transport.close)
            session = Session(transport, self.design, checks=self.checks, watcher=watcher)
            unless_open.pop_all()
        return session

    @contextlib.contextmanager
    def session(self, watcher: RunWatcher | None = None) -> Iterator[Session]:
        """The same, which is let go afterwards."""
        session = self.open(watcher)
        try:
            yield session
        finally:
            session.transport.close()


def emulated_target(design: Path | Design | None) -> Target:
    """The emulated overlay of a design.

    Args:
        design: The design, or its path; None for the default one.

    Raises:
        DesignInvalidError: The design cannot be read.
    """
    from hetfab.driver.emulated import EmulatedTransport

    chosen = default_design() if design is None else design if isinstance(design, Design) else read_design(design)
    return Target(f"the emulated overlay '{chosen.name}'", chosen, Way.EMULATED, lambda: EmulatedTransport(chosen))


def local_target(package: str) -> Target:
    """The overlay of a package, over pynq on this machine.

    Args:
        package: Path of the package, or its name.

    Raises:
        OverlayPackageError: There is none, or it is damaged.
        IsaVersionError: It is of another version of the instruction set.
    """
    from hetfab.driver.overlay import open_transport
    from hetfab.driver.package import find_package

    found = find_package(package)
    name = f"the overlay '{found.name}' on this machine"
    return Target(name, found.design, Way.LOCAL, lambda: open_transport(found), found)


def board_target(address: Address, package: str) -> Target:
    """The overlay of a package on a board that is reached over a network; the package is copied there as needed.

    Args:
        address: Where, by ssh or by PYNQ.remote.
        package: Path of the package here, or its name.

    Raises:
        OverlayPackageError: There is none, or it is damaged.
        IsaVersionError: It is of another version of the instruction set.
        TargetInvalidError: Programs do not run that way.
    """
    from hetfab.driver.package import find_package

    found = find_package(package)
    name = f"the overlay '{found.name}' on '{address}'"
    return Target(name, found.design, address.way, _opener(address, found), found)


def _opener(address: Address, package: Package) -> Callable[[], Transport]:
    if address.way is Way.SSH:
        from hetfab.driver.board.copying import Loading

        return Loading(address, package).open
    if address.way is Way.REMOTE:
        from hetfab.driver.pynq_remote import open_remote

        return lambda: open_remote(address, package)
    raise TargetInvalidError(
        f"programs do not run over '{address}': JTAG loads a bitstream and sees no registers",
        "a way to the overlay's registers and memory: local, ssh:// or remote://",
        "run this on the board, or over ssh",
    )
