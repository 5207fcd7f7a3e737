# SPDX-License-Identifier: Apache-2.0
"""The overlay that a command works on: the emulated one of a design, or that of a package on this board."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from hetfab.driver.session import Session
from hetfab.overlay.design import Design, default_design, read_design


class Place(Enum):
    """Where an overlay is."""

    EMULATED = "emulated"
    LOCAL = "local"


@dataclass(frozen=True)
class Target:
    """An overlay that can be opened, as often as it has to be.

    Attributes:
        name: How reports call it.
        design: What it is.
        place: Where it is.
        open: Loads it.
    """

    name: str
    design: Design
    place: Place
    open: Callable[[], Session]


def emulated_target(design: Path | None) -> Target:
    """The emulated overlay of a design.

    Args:
        design: Path of the design, None for the default one.

    Raises:
        DesignInvalidError: The design cannot be read.
    """
    from hetfab.driver.emulated import EmulatedTransport

    chosen = default_design() if design is None else read_design(design)
    name = f"the emulated overlay '{chosen.name}'"
    return Target(name, chosen, Place.EMULATED, lambda: Session(EmulatedTransport(chosen), chosen))


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
    return Target(name, found.design, Place.LOCAL, lambda: Session(open_transport(found), found.design))
