# SPDX-License-Identifier: Apache-2.0
"""Rules of connections that a block design must keep when it is validated."""

import posixpath
from collections.abc import Iterator
from dataclasses import dataclass

from hetfab.hls.tcl_check.addresses import address_problems
from hetfab.hls.tcl_check.diagram import Cell, Diagram
from hetfab.hls.tcl_check.ports import Port
from hetfab.hls.tcl_check.problem import Problem
from hetfab.overlay.isa.spec import isa

_OPEN = {"clk": "unconnected-clock", "rst": "unconnected-reset"}
#: Clocks may differ by this share: PLLs do not meet every frequency.
_CLOCK_TOLERANCE = 0.01


@dataclass(frozen=True)
class _End:
    """One end of a connection whose port is known."""

    path: str
    cell: Cell
    port: Port


def diagram_problems(diagram: Diagram) -> Iterator[Problem]:
    """All breaches: what is open, what is joined wrongly, addresses."""
    yield from _open_ports(diagram)
    for group in diagram.groups():
        yield from _group(diagram, group)
    yield from address_problems(diagram)


def _open_ports(diagram: Diagram) -> Iterator[Problem]:
    for cell in diagram.cells.values():
        if cell.is_hierarchy or cell.automated:
            continue
        ports = cell.ports
        for port in ports.values():
            path = f"{cell.path}/{port.name}"
            if not port.required or diagram.joined(path) or (port.drives and port.signal != "intr" and not port.bus):
                continue
            if _is_absent_engine(diagram, cell, port) or _is_absent_partner(diagram, cell, port):
                continue
            if port.group and diagram.joined(f"{cell.path}/{port.group}"):
                continue
            kind = "unconnected-interface" if port.bus else _OPEN.get(port.signal, "unconnected-pin")
            if port.drives and port.signal == "intr":
                fix = "connect it to an axi_intc"
            else:
                fix = "connect it: connect_bd_intf_net" if port.bus else "connect it: connect_bd_net"
            yield Problem(kind, 0, f"{path} is open", fix)


def _is_absent_engine(diagram: Diagram, cell: Cell, port: Port) -> bool:
    """Whether both streams between DISPATCH and an engine are open: the design lacks the engine."""
    if cell.ip is None or not cell.ip.vlnv.startswith("hetfab.org:hls:dispatch:") or port.signal != "axis":
        return False
    number = port.name.rpartition("_")[2]
    return not any(diagram.joined(f"{cell.path}/{name}_{number}") for name in ("instructions", "tokens"))


def _is_absent_partner(diagram: Diagram, cell: Cell, port: Port) -> bool:
    """Whether the design lacks the engine at the other side of a data stream."""
    stream = next((stream for stream in isa().streams if stream.name == port.name), None)
    if stream is None or cell.ip is None or port.signal != "axis":
        return False
    engines = {found.ip.vlnv.split(":")[2] for found in diagram.cells.values() if found.ip is not None}
    return cell.ip.vlnv.startswith("hetfab.org:hls:") and not {stream.writer, stream.reader} <= engines


def _group(diagram: Diagram, group: list[str]) -> Iterator[Problem]:
    known, unknown = [], 0
    for path in sorted(group):
        found = diagram.port(path)
        if found is None:
            yield Problem("unknown-object", 0, f"{path} is connected, but its cell has lost it", "connect it last")
        elif found[1] is None or found[0].is_hierarchy:
            unknown += 1
        else:
            known.append(_End(path, found[0], found[1]))
    if not known:
        return
    if known[0].port.bus:
        yield from _interfaces(diagram, known, unknown)
    else:
        yield from _pins(diagram, known, unknown)


def _interfaces(diagram: Diagram, ends: list[_End], unknown: int) -> Iterator[Problem]:
    names = ", ".join(end.path for end in ends)
    if len(ends) > 2:
        yield Problem("interface-shared", 0, f"{names} are one connection", "an interface has one other side")
    masters = [end for end in ends if end.port.drives]
    if len(ends) == 2 and ends[0].port.signal not in ("emio", "ddr", "fixed"):
        if len(masters) != 1:
            yield Problem("interface-role", 0, f"{names} are {len(masters)} masters", "join a master and a slave")
            return
        yield from _pair(masters[0], next(end for end in ends if end is not masters[0]))
    elif len(ends) == 1 and not unknown:
        yield Problem("unconnected-interface", 0, f"{names} has no other side", "connect it: connect_bd_intf_net")


def _pair(master: _End, slave: _End) -> Iterator[Problem]:
    both = f"{master.path} and {slave.path}"
    if master.port.signal != slave.port.signal:
        text = f"{both} are {master.port.signal} and {slave.port.signal}"
        yield Problem("interface-kind", 0, text, "join interfaces of one kind")
        return
    protocols = (master.port.protocol, slave.port.protocol)
    if protocols == ("AXI4", "AXI3"):
        text = f"{master.path} sends AXI4 bursts of up to 256 beats to {slave.path}, which takes AXI3's 16"
        yield Problem("axi3-burst", 0, text, "put an axi_protocol_converter between them")
    elif all(protocols) and protocols[0] != protocols[1]:
        text = f"{both} are {protocols[0]} and {protocols[1]}"
        yield Problem("axi-protocol", 0, text, "put an interconnect between them")
    widths = (master.port.bits, slave.port.bits)
    if None not in widths and widths[0] != widths[1]:
        text = f"{both} have {widths[0]} and {widths[1]} bits"
        yield Problem("width-mismatch", 0, text, "give both the same width, or put a converter between them")


def _pins(diagram: Diagram, ends: list[_End], unknown: int) -> Iterator[Problem]:
    drivers = [end for end in ends if end.port.drives]
    sinks = [end for end in ends if not end.port.drives]
    names = ", ".join(end.path for end in ends[:4])
    if len(drivers) > 1:
        yield Problem("several-drivers", 0, f"{', '.join(end.path for end in drivers)} drive one net", "keep one")
        return
    if not drivers:
        if not unknown:
            yield Problem("no-driver", 0, f"nothing drives {names}", "connect an output to it")
        return
    if not sinks and not unknown:
        yield Problem("no-sink", 0, f"{drivers[0].path} drives nothing", "connect an input to it")
    for sink in sinks:
        yield from _wire(diagram, drivers[0], sink)


def _wire(diagram: Diagram, driver: _End, sink: _End) -> Iterator[Problem]:
    both = f"{driver.path} and {sink.path}"
    widths = (driver.port.bits, sink.port.bits)
    if None not in widths and widths[0] != widths[1]:
        text = f"{both} have {widths[0]} and {widths[1]} bits"
        yield Problem("width-mismatch", 0, text, "give both the same width")
    if sink.port.signal == "clk" and driver.port.signal != "clk":
        yield Problem("clock-source", 0, f"{driver.path} is no clock, {sink.path} is", "connect a clock")
    if driver.port.signal == "clk" and sink.port.signal not in ("clk", "any"):
        yield Problem("clock-source", 0, f"{driver.path} is a clock, {sink.path} is not", "connect a signal")
    yield from _reset_wire(driver, sink)
    hertz = (driver.port.hertz, sink.port.hertz)
    if all(hertz) and abs(hertz[0] - hertz[1]) > _CLOCK_TOLERANCE * hertz[1]:
        text = f"{driver.path} gives {hertz[0] / 1e6:g} MHz, {sink.cell.path} was made for {hertz[1] / 1e6:g} MHz"
        yield Problem("clock-frequency", 0, text, "give the clock for which the engine was synthesised")
    words = (driver.port.words, sink.port.words)
    if all(words) and words[0] != words[1]:
        text = f"{driver.path} addresses {words[0]} words, {sink.cell.path} has {words[1]}"
        yield Problem("memory-depth", 0, text, "give the memory the depth that the engine was synthesised for")
    if sink.cell.is_processor and sink.port.signal == "intr":
        yield from _interrupt(diagram, driver)


def _reset_wire(driver: _End, sink: _End) -> Iterator[Problem]:
    is_reset = (driver.port.signal == "rst", sink.port.signal == "rst")
    if is_reset[0] and not is_reset[1] and sink.port.signal != "any":
        yield Problem("reset-source", 0, f"{driver.path} is a reset, {sink.path} is not", "connect a signal")
    if is_reset[1] and driver.port.signal in ("clk", "intr"):
        yield Problem("reset-source", 0, f"{driver.path} is no reset, {sink.path} is", "connect a reset")
    polarity = (driver.port.active_low, sink.port.active_low)
    if all(is_reset) and None not in polarity and polarity[0] != polarity[1]:
        words = ["low" if low else "high" for low in polarity]
        text = f"{driver.path} is active {words[0]}, {sink.path} active {words[1]}"
        yield Problem("reset-polarity", 0, text, "connect peripheral_aresetn or peripheral_reset, as the sink wants")


def _interrupt(diagram: Diagram, driver: _End) -> Iterator[Problem]:
    """PYNQ finds interrupts behind an axi_intc alone, or behind a concatenation of such (pynqmetadata)."""
    for source in _interrupt_sources(diagram, driver.path):
        cell = diagram.cells[posixpath.dirname(source)]
        if cell.ip is None or cell.ip.name != "axi_intc":
            text = f"{source} reaches the processor's interrupts without an axi_intc"
            yield Problem(
                "interrupt-controller", 0, text, "put an axi_intc between them: PYNQ finds no other interrupts"
            )


def _interrupt_sources(diagram: Diagram, path: str) -> list[str]:
    cell = diagram.cells[posixpath.dirname(path)]
    if cell.ip is None or cell.ip.name != "xlconcat":
        return [path]
    inputs = {f"{cell.path}/{port.name}" for port in cell.ports.values() if not port.drives}
    ends = [end for group in diagram.groups() if inputs & set(group) for end in group]
    return [end for end in ends if end not in inputs and _drives(diagram, end)]


def _drives(diagram: Diagram, path: str) -> bool:
    found = diagram.port(path)
    return found is not None and not found[0].is_hierarchy and found[1] is not None and bool(found[1].drives)
