# SPDX-License-Identifier: Apache-2.0
"""Writes an engine's IP description (IP-XACT, ``component.xml``) with the ports that the block design expects of it.

Vitis HLS writes the real one when it exports an engine. This one stands in its place where no tool has run, so that a
script can be checked against ports, and says what to compare the real one with.
"""

from xml.etree import ElementTree
from xml.etree.ElementTree import Element, SubElement

from hetfab.overlay.blockdesign.diagram import Cell, Direction, Interface, Pin, Protocol, Role

_SPIRIT = "http://www.spiritconsortium.org/XMLSchema/SPIRIT/1685-2009"
_BUS_TYPES = {Protocol.STREAM: "axis"}


def component_xml(cell: Cell) -> str:
    """The description of the IP that a cell is an instance of; equal cells give equal text."""
    ElementTree.register_namespace("spirit", _SPIRIT)
    root = Element(_tag("component"))
    for name, value in zip(("vendor", "library", "name", "version"), cell.vlnv.split(":"), strict=True):
        _text(root, name, value)
    buses = SubElement(root, _tag("busInterfaces"))
    for interface in cell.interfaces:
        buses.append(_bus(interface))
    ports = SubElement(SubElement(root, _tag("model")), _tag("ports"))
    for pin in cell.pins:
        ports.append(_port(pin))
    ElementTree.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ElementTree.tostring(root, "unicode") + "\n"


def _tag(name: str) -> str:
    return f"{{{_SPIRIT}}}{name}"


def _text(parent: Element, name: str, value: str) -> Element:
    child = SubElement(parent, _tag(name))
    child.text = value
    return child


def _bus(interface: Interface) -> Element:
    bus = Element(_tag("busInterface"))
    _text(bus, "name", interface.name)
    kind = _BUS_TYPES.get(interface.protocol, "aximm")
    names = {"vendor": "xilinx.com", "library": "interface", "name": kind, "version": "1.0"}
    SubElement(bus, _tag("busType"), {_tag(name): value for name, value in names.items()})
    SubElement(bus, _tag("master" if interface.role is Role.MASTER else "slave"))
    parameters = SubElement(bus, _tag("parameters"))
    values = {"DATA_WIDTH": str(interface.bits), "PROTOCOL": interface.protocol.value}
    for name, value in values.items():
        parameter = SubElement(parameters, _tag("parameter"))
        _text(parameter, "name", name)
        _text(parameter, "value", value)
    return bus


def _port(pin: Pin) -> Element:
    port = Element(_tag("port"))
    _text(port, "name", pin.name)
    wire = SubElement(port, _tag("wire"))
    _text(wire, "direction", "in" if pin.direction is Direction.IN else "out")
    if pin.bits > 1:
        vector = SubElement(wire, _tag("vector"))
        _text(vector, "left", str(pin.bits - 1))
        _text(vector, "right", "0")
    return port
