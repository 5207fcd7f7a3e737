# SPDX-License-Identifier: Apache-2.0
"""Address spaces and segments by Vivado's names, which masters reach which slaves, and rules of addresses."""

import posixpath
import re
from collections import defaultdict
from collections.abc import Iterator
from itertools import combinations

from hetfab.hls.tcl_check.diagram import Cell, Diagram, Segment
from hetfab.hls.tcl_check.problem import Problem

_GIB = 1 << 30
#: Smallest segment that a processor can map.
_PAGE = 4096
#: Segments behind a port of Zynq-7000: pattern, first address, bytes.
_ZYNQ = re.compile(r"S_AXI_(?P<port>HP\d|GP\d|ACP)")
_ULTRASCALE = ("HPC0", "HPC1", "HP0", "HP1", "HP2", "HP3")


def spaces_of(cell: Cell) -> list[str]:
    """Address spaces of a cell: ``Data`` of a processor, ``Data_<bus>`` of an engine's master."""
    if cell.is_processor:
        return [f"{cell.path}/Data"]
    if cell.is_bridge or cell.is_hierarchy:
        return []
    masters = [port.name for port in cell.ports.values() if port.bus and port.drives and port.signal == "aximm"]
    return [f"{cell.path}/Data_{name}" for name in masters]


def segments_of(cell: Cell) -> dict[str, str]:
    """Segments of a cell, by path, with the interface that they are behind."""
    found: dict[str, str] = {}
    slaves = [port.name for port in cell.ports.values() if port.bus and not port.drives and port.signal == "aximm"]
    for name in slaves if not (cell.is_bridge or cell.is_hierarchy) else []:
        interface = f"{cell.path}/{name}"
        if cell.ip is not None and cell.ip.name == "processing_system7":
            for segment in _zynq_segments(name):
                found[f"{cell.path}/{segment}"] = interface
        elif cell.is_processor:
            for segment in _ultrascale_segments(name):
                found[f"{cell.path}/{segment}"] = interface
        else:
            bus = "S_AXI" if name == "s_axi" else name
            found[f"{cell.path}/{bus}/Reg"] = interface
    return found


def _zynq_segments(interface: str) -> Iterator[str]:
    port = interface.removeprefix("S_AXI_")
    names = ["DDR_LOWOCM"] if port.startswith("HP") else ["DDR_LOWOCM", "IOP", "M_AXI_GP0", "M_AXI_GP1", "QSPI_LINEAR"]
    yield from (f"{interface}/{port}_{name}" for name in names)


def _ultrascale_segments(interface: str) -> Iterator[str]:
    port = interface.removeprefix("S_AXI_").removesuffix("_FPD")
    number = _ULTRASCALE.index(port)
    yield from (f"SAXIGP{number}/{port}_{name}" for name in ("DDR_LOW", "DDR_HIGH", "LPS_OCM", "QSPI", "PCIE_LOW"))


def reached(diagram: Diagram) -> dict[str, set[str]]:
    """For each address space, the slave interfaces that its master reaches, through interconnects."""
    ends: dict[str, set[str]] = defaultdict(set)
    for group in [*diagram.groups(), *(list(pair) for pair in diagram.bridged)]:
        for path in group:
            ends[path] |= set(group) - {path}
    found = {}
    for cell in diagram.cells.values():
        for space in spaces_of(cell):
            found[space] = _walk(diagram, ends, _masters(cell, space))
    return found


def _masters(cell: Cell, space: str) -> list[str]:
    if cell.is_processor:
        ports = [port.name for port in cell.ports.values() if port.bus and port.drives and port.signal == "aximm"]
        return [f"{cell.path}/{name}" for name in ports]
    return [f"{cell.path}/{posixpath.basename(space).removeprefix('Data_')}"]


def _walk(diagram: Diagram, ends: dict[str, set[str]], start: list[str]) -> set[str]:
    left, seen, slaves = list(start), set(start), set()
    while left:
        for path in ends.get(left.pop(), set()) - seen:
            seen.add(path)
            owner = diagram.cells.get(posixpath.dirname(path))
            if owner is not None and owner.is_bridge:
                masters = [f"{owner.path}/{port.name}" for port in owner.ports.values() if port.bus and port.drives]
                left += [master for master in masters if master not in seen]
                seen |= set(masters)
            else:
                slaves.add(path)
                left += [path] if owner is not None and owner.is_hierarchy else []
    return slaves


def address_problems(diagram: Diagram) -> Iterator[Problem]:
    """Rules of addresses: aligned, apart, reached, complete, within reach."""
    placed = [segment for segment in diagram.segments if segment.size]
    yield from _alignment(placed)
    yield from _overlaps(placed)
    yield from _reach(diagram)
    yield from _memory_ranges(diagram, placed)


def _alignment(placed: list[Segment]) -> Iterator[Problem]:
    for entry in placed:
        if entry.size & (entry.size - 1) or entry.base % entry.size or entry.size < _PAGE:
            text = f"{entry.name} has {entry.size:#x} bytes at {entry.base:#x}"
            fix = "a power of two of 4 KiB or more, at a multiple of itself"
            yield Problem("address-alignment", 0, text, fix)


def _overlaps(placed: list[Segment]) -> Iterator[Problem]:
    for first, second in combinations(placed, 2):
        apart = first.base >= second.base + second.size or second.base >= first.base + first.size
        if first.space == second.space and not apart:
            text = f"{first.name} and {second.name} overlap in {first.space}"
            yield Problem("address-overlap", 0, text, "move one of them: -offset of assign_bd_address")


def _reach(diagram: Diagram) -> Iterator[Problem]:
    slaves = reached(diagram)
    behind = {name: interface for cell in diagram.cells.values() for name, interface in segments_of(cell).items()}
    told = {(segment.space, segment.name) for segment in diagram.segments}
    touched = {(space, behind[name]) for space, name in told if name in behind}
    for space, name in sorted(told):
        if name in behind and space in slaves and behind[name] not in slaves[space] and not _has_opaque(diagram):
            text = f"{space} has an address for {name}, which it does not reach"
            yield Problem("address-unreachable", 0, text, "connect the master, or drop the address")
    for space, interfaces in slaves.items() if not diagram.addresses_are_automatic else ():
        for interface in sorted(interfaces & set(behind.values())):
            if (space, interface) not in touched:
                text = f"{space} has no address for {interface}"
                yield Problem("address-missing", 0, text, "assign_bd_address, or exclude_bd_addr_seg")
    if diagram.addresses_are_automatic:
        return
    for space, interfaces in slaves.items():
        for name, interface in sorted(behind.items()):
            optional = name.endswith(("DDR_HIGH", "PCIE_LOW", "IOP", "M_AXI_GP0", "M_AXI_GP1", "QSPI_LINEAR"))
            if interface in interfaces and (space, interface) in touched and (space, name) not in told and not optional:
                text = f"{space} neither maps nor excludes {name}"
                yield Problem("address-missing", 0, text, "assign_bd_address, or exclude_bd_addr_seg")


def _has_opaque(diagram: Diagram) -> bool:
    return any(cell.is_opaque for cell in diagram.cells.values())


def _memory_ranges(diagram: Diagram, placed: list[Segment]) -> Iterator[Problem]:
    """A range of DRAM is within the port's reach; hetfab's engines see all of it, as they send physical addresses."""
    memory = [entry for entry in placed if "_DDR_LOW" in entry.name]
    for entry in memory:
        limit = _GIB if entry.name.endswith("LOWOCM") else 2 * _GIB
        if entry.base + entry.size > limit:
            text = f"{entry.name} has {entry.size:#x} bytes at {entry.base:#x}"
            yield Problem("address-range", 0, text, f"the port reaches {limit:#x} bytes")
    own = [entry for entry in memory if _is_own(diagram, entry)]
    ranges = {(entry.base, entry.size) for entry in own}
    if len(ranges) > 1 or any(base for base, _ in ranges):
        shown = ", ".join(f"{size:#x} at {base:#x}" for base, size in sorted(ranges))
        text = f"hetfab's engines see DRAM of {shown}"
        yield Problem("address-range", 0, text, "map it from 0 on, in the same size for every engine")
    for entry in placed:
        if entry.space.endswith("/Data") and not entry.name.startswith(posixpath.dirname(entry.space) + "/"):
            yield from _control_window(diagram, entry)


def _is_own(diagram: Diagram, entry: Segment) -> bool:
    cell = diagram.cells.get(posixpath.dirname(entry.space))
    return cell is not None and cell.ip is not None and cell.ip.vlnv.startswith("hetfab.org:")


#: Where a processor's control ports forward to: first address, first address behind.
_WINDOWS = {
    "processing_system7": ((0x4000_0000, 0xC000_0000),),
    "zynq_ultra_ps_e": ((0x8000_0000, 0xC000_0000), (0x4_0000_0000, 0x8000_0000_0000)),
}


def _control_window(diagram: Diagram, entry: Segment) -> Iterator[Problem]:
    cell = diagram.cells.get(posixpath.dirname(entry.space))
    windows = _WINDOWS.get(cell.ip.name, ()) if cell is not None and cell.ip is not None else ()
    if windows and not any(low <= entry.base and entry.base + entry.size <= high for low, high in windows):
        text = f"{entry.name} is at {entry.base:#x}, which {cell.path if cell else ''} does not forward"
        yield Problem("address-window", 0, text, " or ".join(f"{low:#x} to {high - 1:#x}" for low, high in windows))
