# SPDX-License-Identifier: Apache-2.0
"""Rules that every block design keeps; ``problems`` names each breach."""

from collections import Counter
from collections.abc import Iterator
from itertools import combinations

from hetfab.overlay.blockdesign.diagram import BlockDesign, Direction, Endpoint, Interface, Pin, Role, Signal
from hetfab.overlay.blockdesign.platform import platform_of

_ENGINE_LIBRARY = "hetfab.org:hls:"


def problems(built: BlockDesign) -> list[str]:
    """All breaches of the rules: names, connections, widths, memories, addresses, ports, interrupts."""
    rules = (_names, _connections, _links, _nets, _memories, _addresses, _board_ports, _interrupts)
    return [problem for rule in rules for problem in rule(built)]


def _names(built: BlockDesign) -> Iterator[str]:
    counts = Counter(cell.name for cell in built.cells)
    for cell in built.cells:
        counts.update(f"{cell.name}/{port.name}" for port in cell.ports)
    yield from (f"the name '{name}' is used {count} times" for name, count in counts.items() if count > 1)


def _ports(built: BlockDesign) -> dict[Endpoint, Interface | Pin]:
    return {Endpoint(cell.name, port.name): port for cell in built.cells for port in cell.ports}


def _connections(built: BlockDesign) -> Iterator[str]:
    """Every port is connected exactly once, or open on purpose."""
    uses = Counter(end for link in built.links for end in (link.master, link.slave))
    uses.update(end for net in built.nets for end in (net.driver, *net.sinks))
    uses.update(entry.endpoint for entry in built.opens)
    ports = _ports(built)
    for end in ports:
        if uses[end] != 1:
            yield f"{end} is connected {uses[end]} times"
    yield from (f"{end} is connected but does not exist" for end in uses if end not in ports)


def _links(built: BlockDesign) -> Iterator[str]:
    ports = _ports(built)
    for link in built.links:
        master, slave = ports.get(link.master), ports.get(link.slave)
        if not isinstance(master, Interface) or not isinstance(slave, Interface):
            yield f"{link.master} to {link.slave} is no link of two interfaces"
        elif (master.role, slave.role) != (Role.MASTER, Role.SLAVE):
            yield f"{link.master} to {link.slave} does not run from a master to a slave"
        elif (master.protocol, master.bits) != (slave.protocol, slave.bits):
            yield (
                f"{link.master} is {master.protocol.value} of {master.bits} bits, "
                f"{link.slave} is {slave.protocol.value} of {slave.bits} bits"
            )


def _nets(built: BlockDesign) -> Iterator[str]:
    ports = _ports(built)
    for net in built.nets:
        driver = ports.get(net.driver)
        for end in net.sinks:
            sink = ports.get(end)
            if not isinstance(driver, Pin) or not isinstance(sink, Pin):
                yield f"{net.driver} to {end} is no net of pins"
            elif (driver.direction, sink.direction) != (Direction.OUT, Direction.IN):
                yield f"{net.driver} to {end} does not run from an output to an input"
            elif (driver.bits, driver.signal) != (sink.bits, sink.signal):
                yield (
                    f"{net.driver} is {driver.signal.value} of {driver.bits} bits, "
                    f"{end} is {sink.signal.value} of {sink.bits} bits"
                )
            elif driver.signal is Signal.RESET and driver.active_low != sink.active_low:
                levels = ["low" if pin.active_low else "high" for pin in (driver, sink)]
                yield f"{net.driver} is a reset active {levels[0]}, {end} one active {levels[1]}"


def _memories(built: BlockDesign) -> Iterator[str]:
    """Each RAM port belongs to one engine; of two ports, one engine writes the first and another reads the second."""
    engines = {cell.name for cell in built.cells if cell.vlnv.startswith(_ENGINE_LIBRARY)}
    for memory in built.cells_of("blk_mem_gen"):
        letters = [letter for letter in "ab" if any(pin.name == f"clk{letter}" for pin in memory.pins)]
        owners = []
        for letter in letters:
            inputs = {f"{kind}{letter}" for kind in ("addr", "en", "we", "din")}
            drivers = {
                net.driver.cell
                for net in built.nets
                for sink in net.sinks
                if sink.cell == memory.name and sink.port in inputs and net.driver.cell in engines
            }
            if len(drivers) != 1:
                yield f"port {letter} of {memory.name} is driven by {sorted(drivers) or 'no engine'}"
            owners += sorted(drivers)
        if len(set(owners)) != len(owners):
            yield f"both ports of {memory.name} belong to {owners[0]}"
        yield from _writer_and_reader(built, memory.name, letters, engines)


def _writer_and_reader(built: BlockDesign, memory: str, letters: list[str], engines: set[str]) -> Iterator[str]:
    sinks = {sink: net.driver for net in built.nets for sink in net.sinks}
    read = {net.driver for net in built.nets for sink in net.sinks if sink.cell in engines}
    writers = [sinks[end].cell for x in letters if (end := Endpoint(memory, f"we{x}")) in sinks]
    writers = [cell for cell in writers if cell in engines]
    if len(writers) != 1:
        yield f"{memory} is written by {len(writers)} engines"
    if Endpoint(memory, f"dout{letters[-1]}") not in read:
        yield f"no engine reads {memory}"


def _addresses(built: BlockDesign) -> Iterator[str]:
    for entry in built.ranges:
        if entry.size & (entry.size - 1) or entry.base % entry.size:
            yield f"{entry.slave} has {entry.size} bytes at {entry.base:#x}, no aligned power of two"
    for first, second in combinations(built.ranges, 2):
        overlap = first.base < second.base + second.size and second.base < first.base + first.size
        if first.master == second.master and overlap:
            yield f"{first.slave} and {second.slave} overlap for {first.master}"
    masters = {
        Endpoint(cell.name, interface.name)
        for cell in built.cells
        for interface in cell.interfaces
        if interface.name.startswith("m_axi_")
    }
    unmapped = masters - {entry.master for entry in built.ranges}
    yield from (f"{end} has no address range" for end in sorted(unmapped))


def _board_ports(built: BlockDesign) -> Iterator[str]:
    """No more DRAM ports than the board has, each of its version and width."""
    platform = platform_of(built.board)
    cell = built.cell(platform.cell)
    ports = [interface for interface in cell.interfaces if interface.role is Role.SLAVE]
    if len(ports) > built.board.ports:
        yield f"{len(ports)} DRAM ports are used, the board has {built.board.ports}"
    for port in ports:
        if port.protocol.value != f"AXI{built.board.axi_version}" or port.bits != built.board.port_bits:
            yield f"{port.name} is {port.protocol.value} of {port.bits} bits"


def _interrupts(built: BlockDesign) -> Iterator[str]:
    """PYNQ finds interrupts behind an axi_intc alone."""
    platform = platform_of(built.board)
    controllers = {cell.name for cell in built.cells_of("axi_intc")}
    for net in built.nets:
        if Endpoint(platform.cell, platform.interrupt) in net.sinks and net.driver.cell not in controllers:
            yield f"{net.driver} reaches the processor's interrupts without an axi_intc"
