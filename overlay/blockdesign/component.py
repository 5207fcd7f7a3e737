# SPDX-License-Identifier: Apache-2.0
"""Writes an engine's IP description (IP-XACT, ``component.xml``) with the ports that the block design expects of it.

Vitis HLS writes the real one when it exports an engine. This one stands in its place where no tool has run, so that a
script can be checked against ports, and says what to compare the real one with.
"""

from collections.abc import Mapping
from xml.etree import ElementTree
from xml.etree.ElementTree import Element, SubElement

from hetfab.overlay.blockdesign.diagram import Cell, Direction, Interface, Pin, Protocol, Role, Signal

_SPIRIT = "http://www.spiritconsortium.org/XMLSchema/SPIRIT/1685-2009"
_BUS_TYPES = {Protocol.STREAM: "axis"}


def component_xml(cell: Cell, clock_hertz: int, words: Mapping[str, int]) -> str:
    """The description of the IP that a cell is an instance of; equal cells give equal text.

    Args:
        cell: An engine's cell.
        clock_hertz: Clock that the engine is synthesised for.
        words: For each address pin, the words of the RAM behind it. hetfab's own note (``MEM_WORDS``).
    """
    ElementTree.register_namespace("spirit", _SPIRIT)
    root = Element(_tag("component"))
    for name, value in zip(("vendor", "library", "name", "version"), cell.vlnv.split(":"), strict=True):
        _text(root, name, value)
    buses = SubElement(root, _tag("busInterfaces"))
    for interface in cell.interfaces:
        buses.append(_bus(interface))
    for pin in cell.pins:
        parameters = _signal_parameters(pin, clock_hertz, words)
        if parameters:
            buses.append(_signal(pin, parameters))
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
    _parameters(bus, {"DATA_WIDTH": str(interface.bits), "PROTOCOL": interface.protocol.value})
    return bus


def _parameters(bus: Element, values: Mapping[str, str]) -> None:
    parameters = SubElement(bus, _tag("parameters"))
    for name, value in values.items():
        parameter = SubElement(parameters, _tag("parameter"))
        _text(parameter, "name", name)
        _text(parameter, "value", value)


_SIGNAL_TYPES = {Signal.CLOCK: "clock", Signal.RESET: "reset", Signal.INTERRUPT: "interrupt", Signal.DATA: "data"}


def _signal_parameters(pin: Pin, clock_hertz: int, words: Mapping[str, int]) -> dict[str, str]:
    if pin.signal is Signal.CLOCK:
        return {"FREQ_HZ": str(clock_hertz)}
    if pin.signal is Signal.RESET:
        return {"POLARITY": "ACTIVE_LOW"}
    if pin.signal is Signal.INTERRUPT:
        return {"SENSITIVITY": "LEVEL_HIGH"}
    return {"MEM_WORDS": str(words[pin.name])} if pin.name in words else {}


def _signal(pin: Pin, parameters: Mapping[str, str]) -> Element:
    """An interface of one pin, which says what the pin is."""
    bus = Element(_tag("busInterface"))
    _text(bus, "name", pin.name)
    names = {"vendor": "xilinx.com", "library": "signal", "name": _SIGNAL_TYPES[pin.signal], "version": "1.0"}
    SubElement(bus, _tag("busType"), {_tag(name): value for name, value in names.items()})
    SubElement(bus, _tag("master" if pin.direction is Direction.OUT else "slave"))
    ports = SubElement(SubElement(bus, _tag("portMaps")), _tag("portMap"))
    _text(SubElement(ports, _tag("logicalPort")), "name", _SIGNAL_TYPES[pin.signal].upper())
    _text(SubElement(ports, _tag("physicalPort")), "name", pin.name)
    _parameters(bus, parameters)
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
