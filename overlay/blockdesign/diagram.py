# SPDX-License-Identifier: Apache-2.0
"""A block design as plain data: cells, bus links, nets and addresses. Whatever writes a file of it starts here.

Interfaces are buses (AXI, AXI stream) and are linked in pairs. Pins are signals or vectors and are joined by nets. Pins
of vendor cells that keep their default are not listed.
"""

import enum
from collections.abc import Mapping
from dataclasses import dataclass

from hetfab.overlay.board import Board
from hetfab.overlay.design import Design


class Protocol(enum.Enum):
    """What an interface speaks."""

    AXI3 = "AXI3"
    AXI4 = "AXI4"
    AXI4_LITE = "AXI4LITE"
    STREAM = "AXIS"


class Role(enum.Enum):
    """Who begins a transfer on an interface."""

    MASTER = "MASTER"
    SLAVE = "SLAVE"


class Direction(enum.Enum):
    """Direction of a pin, seen from its cell."""

    IN = "I"
    OUT = "O"


class Signal(enum.Enum):
    """What a pin carries."""

    CLOCK = "clk"
    RESET = "rst"
    INTERRUPT = "INTERRUPT"
    DATA = "undef"


@dataclass(frozen=True)
class Interface:
    """A bus of a cell; ``bits`` is the width of its data."""

    name: str
    protocol: Protocol
    role: Role
    bits: int


@dataclass(frozen=True)
class Pin:
    """A signal of a cell; ``active_low`` is the polarity of a reset."""

    name: str
    direction: Direction
    bits: int = 1
    signal: Signal = Signal.DATA
    active_low: bool = True


@dataclass(frozen=True)
class Cell:
    """An instance of an IP.

    Attributes:
        name: Name of the instance.
        vlnv: Vendor, library, name and version, with colons between.
        parameters: The IP's settings, as Vivado spells them.
        interfaces: Its buses.
        pins: Its signals outside the buses.
    """

    name: str
    vlnv: str
    parameters: Mapping[str, str]
    interfaces: tuple[Interface, ...] = ()
    pins: tuple[Pin, ...] = ()

    @property
    def ip(self) -> str:
        """The IP's name in the VLNV."""
        return self.vlnv.split(":")[2]

    @property
    def ports(self) -> tuple[Interface | Pin, ...]:
        """Interfaces and pins."""
        return (*self.interfaces, *self.pins)

    def interface(self, name: str) -> Interface:
        """The interface of a name."""
        return next(interface for interface in self.interfaces if interface.name == name)

    def pin(self, name: str) -> Pin:
        """The pin of a name."""
        return next(pin for pin in self.pins if pin.name == name)


@dataclass(frozen=True, order=True)
class Endpoint:
    """An interface or a pin of a cell."""

    cell: str
    port: str

    def __str__(self) -> str:
        return f"{self.cell}/{self.port}"


@dataclass(frozen=True)
class Link:
    """Two interfaces, joined."""

    master: Endpoint
    slave: Endpoint


@dataclass(frozen=True)
class Net:
    """One driving pin and the pins that it drives."""

    driver: Endpoint
    sinks: tuple[Endpoint, ...]


class RangeKind(enum.Enum):
    """What an address range leads to."""

    REGISTERS = "REGISTER"
    MEMORY = "MEMORY"


@dataclass(frozen=True)
class AddressRange:
    """Where a master sees a slave.

    Attributes:
        master: The interface that sends the address.
        slave: The interface that answers.
        base: First address.
        size: Bytes, a power of two; ``base`` is a multiple of it.
        kind: Registers or memory.
        segment: Vivado's name of the slave's segment.
    """

    master: Endpoint
    slave: Endpoint
    base: int
    size: int
    kind: RangeKind
    segment: str


@dataclass(frozen=True)
class Open:
    """An interface or pin that stays unconnected on purpose."""

    endpoint: Endpoint
    reason: str


@dataclass(frozen=True)
class BlockDesign:
    """The whole design.

    Attributes:
        design: What it was derived from.
        board: The design's board.
        clock_mhz: The clock that the board's PLL gives; at most the design's.
        cells: All instances.
        links: All bus connections.
        nets: All signal connections.
        ranges: The address map of every master.
        opens: What is not connected.
    """

    design: Design
    board: Board
    clock_mhz: float
    cells: tuple[Cell, ...]
    links: tuple[Link, ...]
    nets: tuple[Net, ...]
    ranges: tuple[AddressRange, ...]
    opens: tuple[Open, ...]

    def cell(self, name: str) -> Cell:
        """The cell of a name."""
        return next(cell for cell in self.cells if cell.name == name)

    def cells_of(self, ip: str) -> list[Cell]:
        """The instances of an IP."""
        return [cell for cell in self.cells if cell.ip == ip]
