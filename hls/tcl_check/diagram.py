# SPDX-License-Identifier: Apache-2.0
"""A block design while a script makes it: cells in hierarchies, what is joined, address segments."""

import fnmatch
import posixpath
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from hetfab.hls.tcl_check.catalogue import Ip, defaults
from hetfab.hls.tcl_check.ports import BRIDGES, PORTS, PROCESSORS, Port


@dataclass
class Cell:
    """An instance of an IP, or a hierarchy.

    Attributes:
        path: Where it is.
        ip: What it is an instance of, None for a hierarchy.
        settings: Values of ``CONFIG`` properties.
        own_ports: Of a hierarchy.
        automated: Whether a rule of the tool connects what the script leaves open.
    """

    path: str
    ip: Ip | None
    settings: dict[str, str]
    own_ports: dict[str, Port] = field(default_factory=dict)
    automated: bool = False

    @property
    def is_hierarchy(self) -> bool:
        """Whether it holds other cells."""
        return self.ip is None

    @property
    def is_opaque(self) -> bool:
        """Whether the model does not know its ports."""
        return self.ip is not None and self.ip.is_opaque

    @property
    def ports(self) -> dict[str, Port]:
        """Its pins and interfaces, by name."""
        if self.ip is None:
            return self.own_ports
        if self.ip.ports is not None:
            return {port.name: port for port in self.ip.ports}
        make = PORTS.get(self.ip.name)
        return {} if make is None or self.is_opaque else {port.name: port for port in make(self.settings)}

    @property
    def is_processor(self) -> bool:
        """Whether it is a processing system."""
        return self.ip is not None and self.ip.name in PROCESSORS

    @property
    def is_bridge(self) -> bool:
        """Whether transfers pass through it."""
        return self.ip is not None and self.ip.name in BRIDGES


@dataclass(frozen=True)
class Segment:
    """A slave's place in a master's address space; without a size it is left out on purpose."""

    space: str
    name: str
    base: int
    size: int


class Diagram:
    """The state of a block design.

    Args:
        name: Of the design.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.instance = "/"
        self.cells: dict[str, Cell] = {"/": Cell("/", None, {})}
        self.segments: list[Segment] = []
        self.addresses_are_automatic = False
        self.bridged: list[tuple[str, str]] = []
        self.bus_ends: dict[str, int] = {}
        self._parent: dict[str, str] = {}

    def add(self, path: str, ip: Ip | None) -> Cell:
        """Adds a cell."""
        settings = defaults(ip.name) if ip is not None and ip.is_vendors else {}
        self.cells[path] = Cell(path, ip, settings)
        return self.cells[path]

    def full(self, name: str) -> str:
        """A name below the current instance as a path."""
        return posixpath.normpath(posixpath.join(self.instance, name))

    def find_cells(self, pattern: str) -> list[Cell]:
        """Cells that a pattern names."""
        wanted = self.full(pattern)
        return [cell for path, cell in self.cells.items() if _matches(path, wanted)]

    def find_ports(self, pattern: str, *, bus: bool) -> list[str]:
        """Paths of pins or interfaces that a pattern names; any name of a cell whose ports are not known."""
        wanted = self.full(pattern)
        owner, _, name = wanted.rpartition("/")
        found = []
        for path, cell in self.cells.items():
            if not _matches(path, owner or "/"):
                continue
            if cell.is_opaque:
                found.append(posixpath.join(path, name))
            found += [
                posixpath.join(path, port.name)
                for port in cell.ports.values()
                if port.bus == bus and fnmatch.fnmatchcase(port.name, name)
            ]
        return found

    def port(self, path: str) -> tuple[Cell, Port | None] | None:
        """The cell and the port of a path; no port where the cell's ports are not known."""
        owner, _, name = path.rpartition("/")
        cell = self.cells.get(owner or "/")
        if cell is None:
            return None
        if cell.is_opaque:
            return cell, None
        return (cell, cell.ports[name]) if name in cell.ports else None

    def join(self, paths: Iterable[str]) -> None:
        """Joins pins or interfaces."""
        first, *others = [self._root(path) for path in paths]
        for other in others:
            self._parent[other] = first

    def joined(self, path: str) -> bool:
        """Whether a pin or an interface is part of any connection."""
        return path in self._parent

    def groups(self) -> Iterator[list[str]]:
        """What is joined, each group with its pins or interfaces."""
        found: dict[str, list[str]] = {}
        for path in list(self._parent):
            found.setdefault(self._root(path), []).append(path)
        yield from found.values()

    def _root(self, path: str) -> str:
        above = self._parent.setdefault(path, path)
        while above != self._parent[above]:
            above = self._parent[above]
        self._parent[path] = above
        return above

    def move(self, path: str, hierarchy: str) -> None:
        """Moves a cell into a hierarchy, with its connections."""
        target = posixpath.join(hierarchy, posixpath.basename(path))
        cell = self.cells.pop(path)
        cell.path = target
        self.cells[target] = cell

        def moved(end: str) -> str:
            return target + end[len(path) :] if end.startswith(path + "/") else end

        self._parent = {moved(end): moved(above) for end, above in self._parent.items()}
        self.bus_ends = {moved(end): count for end, count in self.bus_ends.items()}
        self.bridged = [(moved(a), moved(b)) for a, b in self.bridged]
        self.segments = [Segment(moved(s.space), moved(s.name), s.base, s.size) for s in self.segments]


def _matches(path: str, pattern: str) -> bool:
    return path == pattern or (path.count("/") == pattern.count("/") and fnmatch.fnmatchcase(path, pattern))
