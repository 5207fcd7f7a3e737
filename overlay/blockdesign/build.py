# SPDX-License-Identifier: Apache-2.0
"""Derives the block design of an overlay from its design, its board and the instruction set (docs/pynq.md).

One cell per engine and one per bank of an on-chip memory; FIFOs carry instructions and tokens between DISPATCH and the
engines; a DRAM port for each AXI master, as far as the board has ports; registers and the interrupt controller behind
the processor's control port.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum

from hetfab.overlay.blockdesign.check import problems
from hetfab.overlay.blockdesign.diagram import (
    AddressRange,
    BlockDesign,
    Cell,
    Direction,
    Endpoint,
    Interface,
    Link,
    Net,
    Open,
    Pin,
    Protocol,
    RangeKind,
    Role,
    Signal,
)
from hetfab.overlay.blockdesign.platform import (
    Platform,
    fabric_clock_mhz,
    platform_of,
    processing_system_parameters,
)
from hetfab.overlay.board import Board, read_board
from hetfab.overlay.design import Design, Geometry
from hetfab.overlay.errors import DesignInvalidError
from hetfab.overlay.isa.spec import Memory, Stream, evaluate, isa

#: m_axi ports of the top functions, those with the most traffic first: (engine, port). Ports beyond the board's share
#: the last one, so that the program's fetches share STORE's.
MASTERS = (
    *(("agg", "features"), ("agg", "graph"), ("load", "memory"), ("store", "memory")),
    *(("sgb", "right"), ("sgb", "out"), ("sgb", "left")),
    *(("rst", "graph"), ("rst", "out"), ("dispatch", "program")),
)
DISPATCH = "dispatch"
#: Smallest depth of the stream FIFO; DISPATCH never has more than the geometry's ``engine_fifo_depth`` in one.
_SMALLEST_FIFO = 16
_PAGE = 4096
#: Distance of two register files.
_REGISTER_SPACING = 0x1_0000
_CONTROL_BITS = 32
_ADDRESS_BITS = 64
_INTERRUPT_REGISTER_BYTES = 32


def masters_by_port(engines: Iterable[str], ports: int) -> list[list[tuple[str, str]]]:
    """The m_axi ports at each DRAM port that is used: one, and at the last what is left.

    Args:
        engines: Engines of the design.
        ports: DRAM ports of the board.
    """
    present = {*engines, DISPATCH}
    masters = [master for master in MASTERS if master[0] in present]
    alone = [[master] for master in masters[: ports - 1]]
    return [*alone, masters[ports - 1 :]] if len(masters) >= ports else alone


def hls_vlnv(engine: str) -> str:
    """VLNV of an engine's IP; its version is the instruction set's."""
    return f"hetfab.org:hls:{engine}:{'.'.join(map(str, isa().version))}"


def cell_name(engine: str) -> str:
    """Name of an engine's instance."""
    return f"{engine}_0"


def register_bytes() -> int:
    """Bytes of DISPATCH's register file: the power of two that holds all registers, at least a page."""
    end = max(register.offset for register in isa().registers) + 4
    return max(1 << (end - 1).bit_length(), _PAGE)


def token_bits() -> int:
    """Width of a token."""
    return max(field.lsb + field.bits for field in isa().token)


def block_design(design: Design) -> BlockDesign:
    """The block design of a design.

    Raises:
        DesignInvalidError: The board is unknown, the clock cannot be made, or the parts do not fit together.
    """
    board = read_board(design.board)
    builder = _Builder(design, board, platform_of(board))
    builder.add_all()
    built = builder.finish()
    found = problems(built)
    if found:
        raise DesignInvalidError(
            f"the block design of '{design.name}' is wrong: " + "; ".join(found),
            "every port connected once, widths that match, addresses that do not overlap",
            "report this with the design file",
        )
    return built


class _RamKind(Enum):
    """What the ports of a RAM do, as blk_mem_gen names it: one for both; one writes and one reads; each does both."""

    SINGLE = "Single_Port_RAM"
    SIMPLE = "Simple_Dual_Port_RAM"
    TRUE = "True_Dual_Port_RAM"


@dataclass(frozen=True)
class _RamPort:
    """How an engine uses an on-chip memory."""

    memory: Memory
    reads: bool
    writes: bool


def ram_ports(engine: str) -> list[_RamPort]:
    """The memories that an engine's operations read or write, with what they do there."""
    operations = [operation for operation in isa().operations if operation.engine == engine]
    read = {box.memory for operation in operations for box in operation.reads}
    written = {box.memory for operation in operations for box in operation.writes}
    used = [memory for memory in isa().memories if memory.word_bits and memory.name in read | written]
    return [_RamPort(memory, memory.name in read, memory.name in written) for memory in used]


def _address_bits(depth: int) -> int:
    return max((depth - 1).bit_length(), 1)


def ram_names(memory: Memory, geometry: Geometry) -> list[str]:
    """Names of a memory's RAMs: of banks as Vitis HLS names the ports of a partitioned array, the number behind."""
    if not memory.banks:
        return [memory.name]
    return [f"{memory.name}_{bank}" for bank in range(geometry.banks(memory.name))]


def _ram_bits(memory: Memory, geometry: Geometry) -> int:
    """Bits of a word in one of a memory's RAMs."""
    return 8 * geometry.word_bytes(memory.name) // geometry.banks(memory.name)


def _ram_pins(port: _RamPort, geometry: Geometry) -> list[Pin]:
    """Pins of an ap_memory port with one port for each RAM."""
    word, address = _ram_bits(port.memory, geometry), _address_bits(geometry.depth(port.memory.name))
    pins: list[Pin] = []
    for name in ram_names(port.memory, geometry):
        pins += [Pin(f"{name}_address0", Direction.OUT, address), Pin(f"{name}_ce0", Direction.OUT)]
        if port.writes:
            pins += [Pin(f"{name}_we0", Direction.OUT), Pin(f"{name}_d0", Direction.OUT, word)]
        if port.reads:
            pins.append(Pin(f"{name}_q0", Direction.IN, word))
    return pins


class _Builder:
    """Collects cells and connections."""

    def __init__(self, design: Design, board: Board, platform: Platform) -> None:
        self._design, self._board, self._platform = design, board, platform
        self._cells: dict[str, Cell] = {}
        self._links: list[Link] = []
        self._sinks: dict[Endpoint, list[Endpoint]] = {}
        self._ranges: list[AddressRange] = []
        self._opens: list[Open] = []
        self._engines = [engine.name for engine in isa().engines if engine.name in design.geometry.engines]
        self._ports = masters_by_port(self._engines, board.ports)
        self._masters = [master for masters in self._ports for master in masters]

    def add_all(self) -> None:
        """Adds everything, processors first."""
        self._add_processing_system()
        self._add_reset()
        self._add_dispatch()
        for engine in self._engines:
            self._add_engine(engine)
        for entry in isa().engines:
            self._add_streams(entry.name)
        for stream in isa().streams:
            self._add_data_stream(stream)
        for memory in isa().memories:
            if memory.word_bits:
                self._add_ram(memory)
        self._add_control()
        for number in range(self._memory_ports):
            self._add_memory_port(number)

    def finish(self) -> BlockDesign:
        """The collected design."""
        nets = tuple(Net(driver, tuple(sinks)) for driver, sinks in self._sinks.items())
        clock = fabric_clock_mhz(self._design, self._board)
        return BlockDesign(
            self._design,
            self._board,
            clock,
            tuple(self._cells.values()),
            tuple(self._links),
            nets,
            tuple(self._ranges),
            tuple(self._opens),
        )

    @property
    def _memory_ports(self) -> int:
        return len(self._ports)

    def _add(
        self,
        name: str,
        vlnv: str,
        parameters: Mapping[str, object] | None = None,
        interfaces: Iterable[Interface] = (),
        pins: Iterable[Pin] = (),
    ) -> None:
        texts = {key: str(value) for key, value in (parameters or {}).items()}
        self._cells[name] = Cell(name, vlnv, texts, tuple(interfaces), tuple(pins))

    def _link(self, master: tuple[str, str], slave: tuple[str, str]) -> None:
        self._links.append(Link(Endpoint(*master), Endpoint(*slave)))

    def _join(self, driver: tuple[str, str], sink: tuple[str, str]) -> None:
        self._sinks.setdefault(Endpoint(*driver), []).append(Endpoint(*sink))

    def _open(self, cell: str, port: str, reason: str) -> None:
        self._opens.append(Open(Endpoint(cell, port), reason))

    def _clocked(self, cell: str, clock: str, reset: str | None = None) -> None:
        self._join((self._platform.cell, self._platform.clock), (cell, clock))
        if reset is not None:
            self._join(("reset", "peripheral_aresetn"), (cell, reset))

    def _constant(self, bits: int, value: int) -> tuple[str, str]:
        """The output of a constant, made on first use."""
        name = f"constant_{value}_{bits}"
        if name not in self._cells:
            parameters = {"CONST_WIDTH": bits, "CONST_VAL": value}
            self._add(name, "xilinx.com:ip:xlconstant:1.1", parameters, pins=[Pin("dout", Direction.OUT, bits)])
        return name, "dout"

    def _add_processing_system(self) -> None:
        platform, board = self._platform, self._board
        parameters = processing_system_parameters(self._design, board, self._memory_ports)
        protocol = Protocol.AXI3 if board.axi_version == 3 else Protocol.AXI4
        interfaces = [Interface(platform.control_port, platform.control_protocol, Role.MASTER, _CONTROL_BITS)]
        pins = [
            Pin(platform.clock, Direction.OUT, 1, Signal.CLOCK),
            Pin(platform.reset, Direction.OUT, 1, Signal.RESET),
            Pin(platform.interrupt, Direction.IN, 1, Signal.INTERRUPT),
            Pin(platform.control_clock, Direction.IN, 1, Signal.CLOCK),
        ]
        for number in range(self._memory_ports):
            interfaces.append(Interface(platform.memory_port.format(number), protocol, Role.SLAVE, board.port_bits))
            pins.append(Pin(platform.memory_clock.format(number), Direction.IN, 1, Signal.CLOCK))
        self._add(platform.cell, platform.vlnv, parameters, interfaces, pins)
        self._clocked(platform.cell, platform.control_clock)
        for number in range(self._memory_ports):
            self._clocked(platform.cell, platform.memory_clock.format(number))

    def _add_reset(self) -> None:
        pins = [
            Pin("slowest_sync_clk", Direction.IN, 1, Signal.CLOCK),
            Pin("ext_reset_in", Direction.IN, 1, Signal.RESET),
            Pin("peripheral_aresetn", Direction.OUT, 1, Signal.RESET),
        ]
        self._add("reset", "xilinx.com:ip:proc_sys_reset:5.0", pins=pins)
        self._clocked("reset", "slowest_sync_clk")
        self._join((self._platform.cell, self._platform.reset), ("reset", "ext_reset_in"))

    def _hls_ports(self, engine: str) -> tuple[list[Interface], list[Pin]]:
        """Ports that every top function has: AXI masters with their offsets, clock, reset."""
        masters = [port for owner, port in self._masters if owner == engine]
        bits = self._design.geometry.bus_bits
        interfaces = [Interface(f"m_axi_{port}", Protocol.AXI4, Role.MASTER, bits) for port in masters]
        pins = [Pin("ap_clk", Direction.IN, 1, Signal.CLOCK), Pin("ap_rst_n", Direction.IN, 1, Signal.RESET)]
        return interfaces, pins + [Pin(port, Direction.IN, _ADDRESS_BITS) for port in masters]

    def _tie_hls_ports(self, engine: str) -> None:
        """Clock, reset, and an address offset of 0 for each master: instructions hold physical addresses."""
        cell = cell_name(engine)
        self._clocked(cell, "ap_clk", "ap_rst_n")
        for owner, port in self._masters:
            if owner == engine:
                self._join(self._constant(_ADDRESS_BITS, 0), (cell, port))

    def _add_dispatch(self) -> None:
        interfaces, pins = self._hls_ports(DISPATCH)
        interfaces.append(Interface("s_axi_control", Protocol.AXI4_LITE, Role.SLAVE, _CONTROL_BITS))
        for engine in isa().engines:
            bits = isa().instruction_bits
            interfaces.append(Interface(f"instructions_{engine.id}", Protocol.STREAM, Role.MASTER, bits))
            interfaces.append(Interface(f"tokens_{engine.id}", Protocol.STREAM, Role.SLAVE, token_bits()))
        pins.append(Pin("interrupt", Direction.OUT, 1, Signal.INTERRUPT))
        parameters = {
            "C_S_AXI_CONTROL_ADDR_WIDTH": (register_bytes() - 1).bit_length(),
            "C_S_AXI_CONTROL_DATA_WIDTH": _CONTROL_BITS,
        }
        self._add(cell_name(DISPATCH), hls_vlnv(DISPATCH), parameters, interfaces, pins)
        self._tie_hls_ports(DISPATCH)

    def _add_engine(self, engine: str) -> None:
        cell = cell_name(engine)
        interfaces, pins = self._hls_ports(engine)
        interfaces.append(Interface("instructions", Protocol.STREAM, Role.SLAVE, isa().instruction_bits))
        interfaces.append(Interface("tokens", Protocol.STREAM, Role.MASTER, token_bits()))
        for stream in isa().streams:
            if engine in (stream.writer, stream.reader):
                role = Role.MASTER if engine == stream.writer else Role.SLAVE
                interfaces.append(Interface(stream.name, Protocol.STREAM, role, stream.bits))
        pins.append(Pin("ap_start", Direction.IN))
        states = [Pin(name, Direction.OUT) for name in ("ap_done", "ap_idle", "ap_ready")]
        rams = [pin for port in ram_ports(engine) for pin in _ram_pins(port, self._design.geometry)]
        self._add(cell, hls_vlnv(engine), None, interfaces, [*pins, *states, *rams])
        self._tie_hls_ports(engine)
        self._join(self._constant(1, 1), (cell, "ap_start"))
        for state in states:
            self._open(cell, state.name, "the engine restarts by itself; its tokens say what is done")

    def _add_streams(self, engine: str) -> None:
        number = isa().engine(engine).id
        dispatch = cell_name(DISPATCH)
        if engine not in self._engines:
            for port in (f"instructions_{number}", f"tokens_{number}"):
                self._open(dispatch, port, f"the design has no {engine}; DISPATCH refuses its instructions")
            return
        cell = cell_name(engine)
        depth = self._design.geometry.engine_fifo_depth
        self._add_fifo(f"{engine}_instructions", isa().instruction_bits, depth)
        self._link((dispatch, f"instructions_{number}"), (f"{engine}_instructions", "S_AXIS"))
        self._link((f"{engine}_instructions", "M_AXIS"), (cell, "instructions"))
        self._add_fifo(f"{engine}_tokens", token_bits(), depth)
        self._link((cell, "tokens"), (f"{engine}_tokens", "S_AXIS"))
        self._link((f"{engine}_tokens", "M_AXIS"), (dispatch, f"tokens_{number}"))

    def _add_data_stream(self, stream: Stream) -> None:
        """A FIFO between two engines; a design with only one of them leaves its port open."""
        present = [engine for engine in (stream.writer, stream.reader) if engine in self._engines]
        if len(present) < 2:
            for engine in present:
                self._open(
                    cell_name(engine), stream.name, f"no engine of the design is at the other side of {stream.name}"
                )
            return
        self._add_fifo(stream.name, stream.bits, evaluate(stream.depth, self._design.geometry.constants()))
        self._link((cell_name(stream.writer), stream.name), (stream.name, "S_AXIS"))
        self._link((stream.name, "M_AXIS"), (cell_name(stream.reader), stream.name))

    def _add_fifo(self, name: str, bits: int, depth: int) -> None:
        needed = max(depth, _SMALLEST_FIFO)
        parameters = {"TDATA_NUM_BYTES": bits // 8, "FIFO_DEPTH": 1 << (needed - 1).bit_length(), "HAS_TLAST": 0}
        interfaces = [
            Interface("S_AXIS", Protocol.STREAM, Role.SLAVE, bits),
            Interface("M_AXIS", Protocol.STREAM, Role.MASTER, bits),
        ]
        pins = [
            Pin("s_axis_aclk", Direction.IN, 1, Signal.CLOCK),
            Pin("s_axis_aresetn", Direction.IN, 1, Signal.RESET),
        ]
        self._add(name, "xilinx.com:ip:axis_data_fifo:2.0", parameters, interfaces, pins)
        self._clocked(name, "s_axis_aclk", "s_axis_aresetn")

    def _add_ram(self, memory: Memory) -> None:
        """RAMs with a port for the writer and one for the reader; a port without one stays idle."""
        users = list(dict.fromkeys((memory.writer, memory.reader)))
        present = [user for user in users if user in self._engines]
        geometry = self._design.geometry
        if present != users or not geometry.depth(memory.name):
            why = f"no engine of the design is at the other side of {memory.name}"
            for user in present:
                self._idle_ram_port(user, memory, why if present != users else f"the design has no {memory.name}")
            return
        depth, bits = geometry.depth(memory.name), _ram_bits(memory, geometry)
        kind = _ram_kind(memory, users)
        parameters = {
            "Memory_Type": kind.value,
            "use_bram_block": "Stand_Alone",
            "Assume_Synchronous_Clk": "true",
            "Write_Depth_A": str(depth),
        }
        pins: list[Pin] = []
        for letter in "AB"[: len(users)]:
            parameters |= {
                f"Write_Width_{letter}": str(bits),
                f"Read_Width_{letter}": str(bits),
                f"Enable_{letter}": f"Use_EN{letter}_Pin",
                # The reader's pipeline expects data one cycle after the address.
                f"Register_Port{letter}_Output_of_Memory_Primitives": "false",
            }
            pins += _block_memory_pins(kind, letter.lower(), depth, bits)
        for name in ram_names(memory, geometry):
            self._add(name, "xilinx.com:ip:blk_mem_gen:8.4", parameters, pins=pins)
            for letter, user in zip("ab", users, strict=False):
                self._connect_ram_port(name, memory, user, letter, kind)

    def _connect_ram_port(self, name: str, memory: Memory, engine: str, letter: str, kind: _RamKind) -> None:
        cell = cell_name(engine)
        port = _ram_port(engine, memory)
        bits = _ram_bits(memory, self._design.geometry)
        self._clocked(name, f"clk{letter}")
        self._join((cell, f"{name}_address0"), (name, f"addr{letter}"))
        self._join((cell, f"{name}_ce0"), (name, f"en{letter}"))
        if port.writes:
            self._join((cell, f"{name}_we0"), (name, f"we{letter}"))
            self._join((cell, f"{name}_d0"), (name, f"din{letter}"))
        elif kind is not _RamKind.SIMPLE:
            self._join(self._constant(1, 0), (name, f"we{letter}"))
            self._join(self._constant(bits, 0), (name, f"din{letter}"))
        if port.reads:
            self._join((name, f"dout{letter}"), (cell, f"{name}_q0"))

    def _idle_ram_port(self, engine: str, memory: Memory, why: str) -> None:
        port = _ram_port(engine, memory)
        for pin in _ram_pins(port, self._design.geometry):
            if pin.direction is Direction.IN:
                self._join(self._constant(pin.bits, 0), (cell_name(engine), pin.name))
            else:
                self._open(cell_name(engine), pin.name, why)

    def _add_interconnect(self, name: str, slaves: list[Interface], masters: list[Interface]) -> None:
        parameters = {"NUM_SI": len(slaves), "NUM_MI": len(masters)}
        clocks = ["", *(f"{i.name[:3]}_" for i in (*slaves, *masters))]
        pins = [Pin(f"{clock}ACLK", Direction.IN, 1, Signal.CLOCK) for clock in clocks]
        pins += [Pin(f"{clock}ARESETN", Direction.IN, 1, Signal.RESET) for clock in clocks]
        self._add(name, "xilinx.com:ip:axi_interconnect:2.1", parameters, [*slaves, *masters], pins)
        for clock in clocks:
            self._clocked(name, f"{clock}ACLK", f"{clock}ARESETN")

    def _add_control(self) -> None:
        """Registers and the interrupt controller behind the processor's control port."""
        platform, name = self._platform, "control_interconnect"
        dispatch = cell_name(DISPATCH)
        pins = [
            Pin("s_axi_aclk", Direction.IN, 1, Signal.CLOCK),
            Pin("s_axi_aresetn", Direction.IN, 1, Signal.RESET),
            Pin("intr", Direction.IN, 1, Signal.INTERRUPT),
            Pin("irq", Direction.OUT, 1, Signal.INTERRUPT),
        ]
        slave = Interface("s_axi", Protocol.AXI4_LITE, Role.SLAVE, _CONTROL_BITS)
        # Edges: pynq acknowledges while DISPATCH's line is still high, and a level would be latched again.
        parameters = {"C_IRQ_CONNECTION": 1, "C_KIND_OF_INTR": "0xFFFFFFFF", "C_KIND_OF_EDGE": "0xFFFFFFFF"}
        self._add("interrupts", "xilinx.com:ip:axi_intc:4.1", parameters, [slave], pins)
        self._clocked("interrupts", "s_axi_aclk", "s_axi_aresetn")
        self._join((dispatch, "interrupt"), ("interrupts", "intr"))
        self._join(("interrupts", "irq"), (platform.cell, platform.interrupt))

        incoming = Interface("S00_AXI", platform.control_protocol, Role.SLAVE, _CONTROL_BITS)
        outgoing = [Interface(f"M0{i}_AXI", Protocol.AXI4_LITE, Role.MASTER, _CONTROL_BITS) for i in (0, 1)]
        self._add_interconnect(name, [incoming], outgoing)
        self._link((platform.cell, platform.control_port), (name, "S00_AXI"))
        slaves = ((dispatch, "s_axi_control", register_bytes()), ("interrupts", "s_axi", _PAGE))
        for number, (cell, port, size) in enumerate(slaves):
            self._link((name, f"M0{number}_AXI"), (cell, port))
            base = platform.register_base + number * _REGISTER_SPACING
            master = Endpoint(platform.cell, platform.control_port)
            self._ranges.append(AddressRange(master, Endpoint(cell, port), base, size, RangeKind.REGISTERS, "Reg"))

    def _add_memory_port(self, number: int) -> None:
        """One DRAM port and the masters that use it; a master alone needs no arbiter."""
        platform, board = self._platform, self._board
        target = self._cells[platform.cell].interface(platform.memory_port.format(number))
        ends = [(cell_name(engine), f"m_axi_{port}") for engine, port in self._ports[number]]
        masters = [self._cells[cell].interface(port) for cell, port in ends]
        if len(ends) > 1 or masters[0].bits != target.bits:
            slaves = self._add_memory_interconnect(number, masters, target)
        elif masters[0].protocol is not target.protocol:
            slaves = [self._add_protocol_converter(number, masters[0], target)]
        else:
            slaves = [(platform.cell, target.name)]
        for end, slave in zip(ends, slaves, strict=True):
            self._link(end, slave)
            self._ranges.append(
                AddressRange(
                    Endpoint(*end),
                    Endpoint(platform.cell, target.name),
                    0,
                    board.dram_low_bytes,
                    RangeKind.MEMORY,
                    platform.memory_segment.format(number),
                )
            )

    def _add_memory_interconnect(
        self, number: int, masters: list[Interface], target: Interface
    ) -> list[tuple[str, str]]:
        """What several masters share a DRAM port by; its slave interfaces, in their order."""
        name = f"memory_interconnect_{number}"
        slaves = [
            Interface(f"S0{index}_AXI", Protocol.AXI4, Role.SLAVE, master.bits) for index, master in enumerate(masters)
        ]
        self._add_interconnect(name, slaves, [Interface("M00_AXI", target.protocol, Role.MASTER, target.bits)])
        self._link((name, "M00_AXI"), (self._platform.cell, target.name))
        return [(name, slave.name) for slave in slaves]

    def _add_protocol_converter(self, number: int, master: Interface, target: Interface) -> tuple[str, str]:
        """AXI4 as AXI3 in wires, since no burst is longer than AXI3's 16 beats; its slave interface."""
        name = f"memory_converter_{number}"
        parameters = {
            "SI_PROTOCOL": master.protocol.value,
            "MI_PROTOCOL": target.protocol.value,
            "DATA_WIDTH": target.bits,
            # No bursts to split: the adapters are made with bursts of at most 16 beats.
            "TRANSLATION_MODE": 0,
        }
        interfaces = [
            Interface("S_AXI", master.protocol, Role.SLAVE, target.bits),
            Interface("M_AXI", target.protocol, Role.MASTER, target.bits),
        ]
        pins = [Pin("aclk", Direction.IN, 1, Signal.CLOCK), Pin("aresetn", Direction.IN, 1, Signal.RESET)]
        self._add(name, "xilinx.com:ip:axi_protocol_converter:2.1", parameters, interfaces, pins)
        self._clocked(name, "aclk", "aresetn")
        self._link((name, "M_AXI"), (self._platform.cell, target.name))
        return name, "S_AXI"


def _ram_port(engine: str, memory: Memory) -> _RamPort:
    return next(port for port in ram_ports(engine) if port.memory.name == memory.name)


def _ram_kind(memory: Memory, users: list[str]) -> _RamKind:
    """A writer that also reads takes a port that does both, which halves the width of a block RAM."""
    if len(users) == 1:
        return _RamKind.SINGLE
    return _RamKind.TRUE if _ram_port(memory.writer, memory).reads else _RamKind.SIMPLE


def _block_memory_pins(kind: _RamKind, letter: str, depth: int, bits: int) -> list[Pin]:
    pins = [
        Pin(f"clk{letter}", Direction.IN, 1, Signal.CLOCK),
        Pin(f"addr{letter}", Direction.IN, _address_bits(depth)),
        Pin(f"en{letter}", Direction.IN),
    ]
    if kind is not _RamKind.SIMPLE or letter == "a":
        pins += [Pin(f"we{letter}", Direction.IN), Pin(f"din{letter}", Direction.IN, bits)]
    if kind is not _RamKind.SIMPLE or letter == "b":
        pins.append(Pin(f"dout{letter}", Direction.OUT, bits))
    return pins
