# SPDX-License-Identifier: Apache-2.0
"""Writes a block design as a hardware handoff file (.hwh), the XML from which PYNQ learns what an overlay holds.

It has what pynqmetadata reads: modules with VLNV, parameters, ports and buses, address ranges, DISPATCH's registers.
Registers have the names that Vitis HLS gives: ``CTRL``, ``GIER``, ``IP_IER``, ``IP_ISR``, and ``Memory_<name>`` for
each memory, by its first word.
"""

from xml.etree import ElementTree
from xml.etree.ElementTree import Element, SubElement

from hetfab.overlay.blockdesign.build import DISPATCH, cell_name, register_bytes
from hetfab.overlay.blockdesign.diagram import AddressRange, BlockDesign, Cell, Endpoint, Interface, Pin, Protocol
from hetfab.overlay.blockdesign.platform import platform_of
from hetfab.overlay.isa.spec import isa

_BUS_VLNV = {
    Protocol.AXI3: "xilinx.com:interface:aximm:1.0",
    Protocol.AXI4: "xilinx.com:interface:aximm:1.0",
    Protocol.AXI4_LITE: "xilinx.com:interface:aximm:1.0",
    Protocol.STREAM: "xilinx.com:interface:axis:1.0",
}
#: Vitis HLS's name and fields (name, lowest bit, access) of the registers of ap_ctrl_hs.
_CONTROL_REGISTERS = {
    "control": ("CTRL", (("AP_START", 0, True), ("AP_DONE", 1, False), ("AP_IDLE", 2, False), ("AP_READY", 3, False))),
    "interrupt_enable_global": ("GIER", (("Enable", 0, True),)),
    "interrupt_enable": ("IP_IER", (("CHAN0_INT_EN", 0, True), ("CHAN1_INT_EN", 1, True))),
    "interrupt_status": ("IP_ISR", (("CHAN0_INT_ST", 0, True), ("CHAN1_INT_ST", 1, True))),
}


def hwh_text(built: BlockDesign) -> str:
    """The content of the .hwh file; equal designs give equal text."""
    root = Element("EDKSYSTEM", EDWVERSION="1.2")
    platform = platform_of(built.board)
    SubElement(root, "SYSTEMINFO", ARCH=built.board.family, DEVICE=built.board.part, NAME=built.design.name)
    SubElement(root, "EXTERNALPORTS")
    SubElement(root, "EXTERNALINTERFACES")
    modules = SubElement(root, "MODULES")
    buses, wires = _bus_names(built), _wires(built)
    for cell in built.cells:
        module = SubElement(
            modules,
            "MODULE",
            FULLNAME=f"/{cell.name}",
            INSTANCE=cell.name,
            MODTYPE=cell.ip,
            VLNV=cell.vlnv,
            HWVERSION=cell.vlnv.split(":")[3],
            IS_PL="FALSE" if cell.name == platform.cell else "TRUE",
        )
        if cell.name == cell_name(DISPATCH):
            module.append(_address_blocks())
        module.append(_parameters(cell))
        module.append(_ports(cell, wires))
        module.append(_buses(cell, buses))
        module.append(_memory_map(cell, built.ranges))
    ElementTree.indent(root)
    return '<?xml version="1.0" encoding="UTF-8" standalone="no" ?>\n' + ElementTree.tostring(root, "unicode") + "\n"


def _bus_names(built: BlockDesign) -> dict[Endpoint, str]:
    """A name for each link, shared by both ends."""
    return {end: f"{link.master.cell}_{link.master.port}" for link in built.links for end in (link.master, link.slave)}


def _wires(built: BlockDesign) -> dict[Endpoint, tuple[str, tuple[Endpoint, ...]]]:
    """For each connected pin, the name of its net and the pins at the other side."""
    found: dict[Endpoint, tuple[str, tuple[Endpoint, ...]]] = {}
    for net in built.nets:
        name = f"{net.driver.cell}_{net.driver.port}"
        found[net.driver] = name, net.sinks
        found |= dict.fromkeys(net.sinks, (name, (net.driver,)))
    return found


def _parameters(cell: Cell) -> Element:
    element = Element("PARAMETERS")
    for name, value in cell.parameters.items():
        SubElement(element, "PARAMETER", NAME=name, VALUE=value)
    return element


def _ports(cell: Cell, wires: dict[Endpoint, tuple[str, tuple[Endpoint, ...]]]) -> Element:
    element = Element("PORTS")
    for pin in cell.pins:
        port = SubElement(element, "PORT", _port_attributes(pin))
        name, others = wires.get(Endpoint(cell.name, pin.name), ("", ()))
        port.set("SIGNAME", name)
        connections = SubElement(port, "CONNECTIONS")
        for other in others:
            SubElement(connections, "CONNECTION", INSTANCE=other.cell, PORT=other.port)
    return element


def _port_attributes(pin: Pin) -> dict[str, str]:
    attributes = {"DIR": pin.direction.value, "NAME": pin.name, "SIGIS": pin.signal.value}
    return attributes | ({"LEFT": str(pin.bits - 1), "RIGHT": "0"} if pin.bits > 1 else {})


def _buses(cell: Cell, names: dict[Endpoint, str]) -> Element:
    element = Element("BUSINTERFACES")
    for interface in cell.interfaces:
        element.append(_bus(interface, names.get(Endpoint(cell.name, interface.name), "__NOC__")))
    return element


def _bus(interface: Interface, name: str) -> Element:
    bus = Element(
        "BUSINTERFACE",
        BUSNAME=name,
        DATAWIDTH=str(interface.bits),
        NAME=interface.name,
        TYPE=interface.role.value,
        VLNV=_BUS_VLNV[interface.protocol],
    )
    SubElement(bus, "PARAMETER", NAME="DATA_WIDTH", VALUE=str(interface.bits))
    SubElement(bus, "PARAMETER", NAME="PROTOCOL", VALUE=interface.protocol.value)
    SubElement(bus, "PORTMAPS")
    return bus


def _memory_map(cell: Cell, ranges: tuple[AddressRange, ...]) -> Element:
    element = Element("MEMORYMAP")
    for entry in ranges:
        if entry.master.cell == cell.name:
            SubElement(
                element,
                "MEMRANGE",
                ADDRESSBLOCK=entry.segment,
                BASEVALUE=f"0x{entry.base:08X}",
                HIGHVALUE=f"0x{entry.base + entry.size - 1:08X}",
                INSTANCE=entry.slave.cell,
                MASTERBUSINTERFACE=entry.master.port,
                MEMTYPE=entry.kind.value,
                SLAVEBUSINTERFACE=entry.slave.port,
            )
    return element


def _address_blocks() -> Element:
    element = Element("ADDRESSBLOCKS")
    block = SubElement(
        element,
        "ADDRESSBLOCK",
        ACCESS="read-write",
        INTERFACE="s_axi_control",
        NAME="Reg",
        RANGE=str(register_bytes()),
        USAGE="register",
    )
    registers = SubElement(block, "REGISTERS")
    for known, (name, bits) in _CONTROL_REGISTERS.items():
        register = isa().register(known)
        entry = _register(registers, name, register.offset, register.meaning, writable=True)
        fields = SubElement(entry, "FIELDS")
        for bit_name, bit, writable in bits:
            field = SubElement(fields, "FIELD", NAME=bit_name)
            access = "read-write" if writable else "read-only"
            _properties(field, bit_name, access, BIT_OFFSET=str(bit), BIT_WIDTH="1")
    for memory in isa().register_memories:
        name = f"Memory_{memory.name}"
        entry = _register(registers, name, memory.offset, memory.name, writable=memory.name == "arguments")
        SubElement(entry, "FIELDS")
    return element


def _register(parent: Element, name: str, offset: int, meaning: str, *, writable: bool) -> Element:
    entry = SubElement(parent, "REGISTER", NAME=name)
    access = "read-write" if writable else "read-only"
    _properties(entry, meaning, access, ADDRESS_OFFSET=hex(offset), SIZE="32")
    return entry


def _properties(parent: Element, description: str, access: str, **others: str) -> None:
    for name, value in {"DESCRIPTION": description, "ACCESS": access, **others}.items():
        SubElement(parent, "PROPERTY", NAME=name, VALUE=value)
