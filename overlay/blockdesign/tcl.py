# SPDX-License-Identifier: Apache-2.0
"""Spells a block design as commands of Vivado: cells with their settings, connections, addresses.

Pins of a grouped memory port are connected one by one: their names do not depend on how a version of the tools groups
them. Precedents of the commands are in docs/block-design.md.
"""

from collections.abc import Iterator, Mapping

from hetfab.overlay.blockdesign.diagram import AddressRange, BlockDesign, Cell, RangeKind
from hetfab.overlay.blockdesign.platform import Platform, platform_of

#: Settings that Vivado derives itself; the .hwh file has them, a script may not set them.
_DERIVED = ("DIVISOR0", "DIVISOR1", "CLKSRC", "ACT_FREQMHZ", "PCW_ACT_", "C_S_AXI_")
#: IPs whose VLNV is hetfab's own.
_OWN_LIBRARY = "hetfab.org:hls:"


def block_design_commands(built: BlockDesign, ip_versions: Mapping[str, str]) -> list[str]:
    """The commands that make a block design, between ``create_bd_design`` and ``validate_bd_design``.

    Args:
        built: The block design.
        ip_versions: For each vendor IP, such as ``axi_intc``, the version that the tool has.
    """
    platform = platform_of(built.board)
    parts = (
        _cells(built, ip_versions),
        _external_interfaces(built, platform),
        _links(built),
        _nets(built),
        _addresses(built, platform),
    )
    return [line for part in parts for line in part]


def tool_vlnv(cell: Cell, ip_versions: Mapping[str, str]) -> str:
    """A cell's VLNV with the version that the tool has."""
    if cell.vlnv.startswith(_OWN_LIBRARY):
        return cell.vlnv
    name = cell.vlnv.rpartition(":")[0]
    return f"{name}:{ip_versions[cell.ip]}"


def scripted_parameters(cell: Cell) -> dict[str, str]:
    """The settings of a cell that a script sets: those that Vivado does not derive."""
    return {name: value for name, value in cell.parameters.items() if not _is_derived(name)}


def _is_derived(name: str) -> bool:
    return name.startswith(_DERIVED) or name.endswith(_DERIVED)


def _cells(built: BlockDesign, ip_versions: Mapping[str, str]) -> Iterator[str]:
    for cell in built.cells:
        yield f"create_bd_cell -type ip -vlnv {tool_vlnv(cell, ip_versions)} {cell.name}"
        settings = [f"CONFIG.{name} {{{value}}}" for name, value in scripted_parameters(cell).items()]
        if settings:
            yield f"set_property -dict [list {' '.join(settings)}] [get_bd_cells {cell.name}]"


def _external_interfaces(built: BlockDesign, platform: Platform) -> Iterator[str]:
    """Zynq-7000's DRAM and fixed pins leave the design by name; Zynq UltraScale+ has none."""
    for interface, vlnv in platform.external_interfaces.items():
        yield f"create_bd_intf_port -mode Master -vlnv {vlnv} {interface}"
        yield f"connect_bd_intf_net [get_bd_intf_ports {interface}] [get_bd_intf_pins {platform.cell}/{interface}]"


def _links(built: BlockDesign) -> Iterator[str]:
    for link in built.links:
        yield f"connect_bd_intf_net [get_bd_intf_pins {link.master}] [get_bd_intf_pins {link.slave}]"


def _nets(built: BlockDesign) -> Iterator[str]:
    for net in built.nets:
        pins = " ".join(f"[get_bd_pins {end}]" for end in (net.driver, *net.sinks))
        yield f"connect_bd_net {pins}"


def _addresses(built: BlockDesign, platform: Platform) -> Iterator[str]:
    for entry in built.ranges:
        space = f"-target_address_space [get_bd_addr_spaces {address_space(built, entry)}]"
        place = f"-offset {entry.base:#x} -range {entry.size:#x}"
        yield f"assign_bd_address {place} {space} [get_bd_addr_segs {address_segment(entry, platform)}]"
        if entry.kind is RangeKind.MEMORY:
            for pattern in platform.unused_segments:
                segment = f"{_segment_bus(entry, platform)}/{pattern.format(_port_number(entry))}"
                yield f"exclude_bd_addr_seg {space} [get_bd_addr_segs {entry.slave.cell}/{segment}]"


def address_space(built: BlockDesign, entry: AddressRange) -> str:
    """The master's address space as Vivado names it: ``Data`` of a processor, ``Data_<bus>`` of an engine."""
    master = built.cell(entry.master.cell)
    if master.vlnv.startswith(_OWN_LIBRARY):
        return f"{entry.master.cell}/Data_{entry.master.port}"
    return f"{entry.master.cell}/Data"


def address_segment(entry: AddressRange, platform: Platform) -> str:
    """The slave's segment as Vivado names it: cell, bus, segment."""
    return f"{entry.slave.cell}/{_segment_bus(entry, platform)}/{entry.segment}"


def _segment_bus(entry: AddressRange, platform: Platform) -> str:
    if entry.kind is RangeKind.MEMORY:
        return platform.segment_bus.format(hp=_port_number(entry), slave=_port_number(entry) + 2)
    # The interrupt controller's segment is below the upper-case name of its bus.
    return "S_AXI" if entry.slave.port == "s_axi" else entry.slave.port


def _port_number(entry: AddressRange) -> int:
    return int(entry.slave.port.removesuffix("_FPD")[-1])
