# SPDX-License-Identifier: Apache-2.0
"""The block design: every port connected once, memories with one writer and one reader; breaches are named."""

import itertools
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hetfab.overlay.blockdesign.build import MASTERS, block_design, cell_name, hls_vlnv, ram_ports, register_bytes
from hetfab.overlay.blockdesign.check import problems
from hetfab.overlay.blockdesign.diagram import (
    BlockDesign,
    Direction,
    Endpoint,
    Interface,
    Pin,
    Protocol,
    RangeKind,
    Role,
    Signal,
)
from hetfab.overlay.blockdesign.platform import clock_divisors, platform_of
from hetfab.overlay.board import board_names, read_board
from hetfab.overlay.costs.resources import block_rams, memory_resources
from hetfab.overlay.design import Design, default_design
from hetfab.overlay.errors import DesignInvalidError
from hetfab.overlay.isa.spec import Memory, isa

KERNELS = Path(__file__).parents[1] / "hls" / "kernels"
ENGINES = tuple(engine.name for engine in isa().engines)


@st.composite
def designs(draw: st.DrawFn) -> Design:
    """Designs of any board, with any engines."""
    design = default_design(draw(st.sampled_from(board_names())))
    columns = st.sampled_from([8, 16, 32])
    chosen = draw(st.sets(st.sampled_from(ENGINES)))
    geometry = replace(
        design.geometry,
        engines=tuple(name for name in ENGINES if name in chosen),
        gemm_d_rows=draw(st.sampled_from([2, 6, 16])),
        gemm_d_cols=draw(columns),
        gemm_l_rows=draw(st.sampled_from([1, 3, 8])),
        gemm_l_cols=draw(columns),
        act_d_words=draw(st.integers(1, 9000)),
        par_words=draw(st.integers(1, 512)),
        engine_fifo_depth=draw(st.integers(1, 40)),
    )
    return replace(design, clock_mhz=draw(st.floats(1, 400)), geometry=geometry)


def ends(built: BlockDesign) -> Counter[Endpoint]:
    """How often each port is connected or left open."""
    used = Counter(end for link in built.links for end in (link.master, link.slave))
    used.update(end for net in built.nets for end in (net.driver, *net.sinks))
    used.update(entry.endpoint for entry in built.opens)
    return used


@settings(max_examples=60, deadline=None)
@given(designs())
def test_every_port_is_connected_once(design: Design) -> None:
    built = block_design(design)
    ports = [Endpoint(cell.name, port.name) for cell in built.cells for port in cell.ports]
    assert ends(built) == Counter(ports)
    assert len(set(ports)) == len(ports)


@settings(max_examples=60, deadline=None)
@given(designs())
def test_streams_are_point_to_point_through_a_fifo(design: Design) -> None:
    built = block_design(design)
    links = {link.master: link.slave for link in built.links}
    for engine in design.geometry.engines:
        number = isa().engine(engine).id
        for kind, first, last in (
            (
                "instructions",
                Endpoint("dispatch_0", f"instructions_{number}"),
                Endpoint(cell_name(engine), "instructions"),
            ),
            ("tokens", Endpoint(cell_name(engine), "tokens"), Endpoint("dispatch_0", f"tokens_{number}")),
        ):
            fifo = links[first]
            assert fifo == Endpoint(f"{engine}_{kind}", "S_AXIS")
            assert links[Endpoint(fifo.cell, "M_AXIS")] == last
            depth = int(built.cell(fifo.cell).parameters["FIFO_DEPTH"])
            assert depth >= design.geometry.engine_fifo_depth and depth & (depth - 1) == 0


@settings(max_examples=60, deadline=None)
@given(designs())
def test_data_streams_join_two_engines_or_stay_open(design: Design) -> None:
    built, engines = block_design(design), design.geometry.engines
    links = {link.master: link.slave for link in built.links}
    opens = {entry.endpoint for entry in built.opens}
    for stream in isa().streams:
        first, last = Endpoint(cell_name(stream.writer), stream.name), Endpoint(cell_name(stream.reader), stream.name)
        if {stream.writer, stream.reader} <= set(engines):
            assert links[first] == Endpoint(stream.name, "S_AXIS")
            assert links[Endpoint(stream.name, "M_AXIS")] == last
            settings_of = built.cell(stream.name).parameters
            assert int(settings_of["FIFO_DEPTH"]) >= design.geometry.constants()[stream.depth]
            assert int(settings_of["TDATA_NUM_BYTES"]) == stream.bits // 8
        else:
            assert (first in opens, last in opens) == (stream.writer in engines, stream.reader in engines)
            assert stream.name not in {cell.name for cell in built.cells}


def expected_rams(memory: Memory, design: Design) -> list[str]:
    """The RAMs of a memory; none in DRAM, nor where its writer or its reader is absent, nor of no words."""
    geometry = design.geometry
    if not memory.word_bits or not {memory.writer, memory.reader} <= set(geometry.engines):
        return []
    if not geometry.depth(memory.name):
        return []
    partitioned = {"act_d_ram": geometry.gemm_d_rows, "act_l_ram": geometry.gemm_l_rows, "out_ram": 2, "fun_ram": 4}
    partitioned["feature_ram"] = geometry.agg_word_beats
    banks = partitioned.get(memory.name)
    return [memory.name] if banks is None else [f"{memory.name}_{bank}" for bank in range(banks)]


@settings(max_examples=60, deadline=None)
@given(designs())
def test_every_memory_has_one_writer_and_one_reader(design: Design) -> None:
    built = block_design(design)
    drivers = {sink: net.driver for net in built.nets for sink in net.sinks}
    readers = {net.driver: net.sinks for net in built.nets}
    rams = {cell.name: cell for cell in built.cells_of("blk_mem_gen")}
    assert set(rams) == {name for memory in isa().memories for name in expected_rams(memory, design)}
    for memory in isa().memories:
        names = expected_rams(memory, design)
        for name in names:
            last = "a" if memory.writer == memory.reader else "b"
            assert drivers[Endpoint(name, "wea")] == Endpoint(cell_name(memory.writer), f"{name}_we0")
            assert drivers[Endpoint(name, f"addr{last}")] == Endpoint(cell_name(memory.reader), f"{name}_address0")
            assert readers[Endpoint(name, f"dout{last}")] == (Endpoint(cell_name(memory.reader), f"{name}_q0"),)
            kind = rams[name].parameters["Memory_Type"]
            if kind == "True_Dual_Port_RAM":
                assert drivers[Endpoint(name, "web")] == Endpoint("constant_0_1", "dout")
            else:
                assert Endpoint(name, "web") not in drivers
            # Ports that write and read take twice the block RAM for wide words: the area is counted for what is built.
            counted = memory_resources(design.geometry, memory.name).bram36
            shape = design.geometry.depth(memory.name), 8 * design.geometry.word_bytes(memory.name) // len(names)
            assert counted == len(names) * block_rams(*shape, true_dual=kind != "Simple_Dual_Port_RAM")
            assert int(rams[name].parameters["Write_Depth_A"]) == design.geometry.depth(memory.name)
        bits = [int(rams[name].parameters["Write_Width_A"]) for name in names]
        assert not bits or sum(bits) == 8 * design.geometry.word_bytes(memory.name)


def test_an_absent_core_leaves_the_ports_of_the_others_idle() -> None:
    """LOAD and VEC have ports for both cores, whichever there is."""
    design = default_design()
    engines = tuple(engine for engine in design.geometry.engines if engine != "gemm_l")
    built = block_design(replace(design, geometry=replace(design.geometry, engines=engines)))
    assert not [cell.name for cell in built.cells if "gemm_l" in cell.name or cell.name.startswith("act_l_ram")]
    opens = {entry.endpoint: entry.reason for entry in built.opens}
    last = design.geometry.gemm_l_rows - 1
    assert opens[Endpoint("load_0", f"act_l_ram_{last}_we0")] == (
        "no engine of the design is at the other side of act_l_ram"
    )
    drivers = {sink: net.driver.cell for net in built.nets for sink in net.sinks}
    assert drivers[Endpoint("vec_0", "acc_l_ram_q0")] == f"constant_0_{32 * design.geometry.gemm_l_cols}"
    assert drivers[Endpoint("vec_0", "acc_d_ram_q0")] == "acc_d_ram"


@settings(max_examples=60, deadline=None)
@given(designs())
def test_addresses_are_apart_and_masters_see_all_of_dram(design: Design) -> None:
    built = block_design(design)
    board = read_board(design.board)
    registers = [entry for entry in built.ranges if entry.kind is RangeKind.REGISTERS]
    spans = sorted((entry.base, entry.base + entry.size) for entry in registers)
    assert all(first[1] <= second[0] for first, second in itertools.pairwise(spans))
    assert all(entry.base % entry.size == 0 for entry in built.ranges)
    memory = {entry.master: (entry.base, entry.size) for entry in built.ranges if entry.kind is RangeKind.MEMORY}
    masters = [(engine, port) for engine, port in MASTERS if engine in (*design.geometry.engines, "dispatch")]
    assert memory == {Endpoint(cell_name(e), f"m_axi_{port}"): (0, board.dram_low_bytes) for e, port in masters}


@settings(max_examples=60, deadline=None)
@given(designs())
def test_only_ports_of_the_board_are_used(design: Design) -> None:
    built = block_design(design)
    board, platform = built.board, platform_of(built.board)
    ports = [port for port in built.cell(platform.cell).interfaces if port.role is Role.SLAVE]
    masters = sum(engine in (*design.geometry.engines, "dispatch") for engine, _ in MASTERS)
    assert len(ports) == min(board.ports, masters)
    version = Protocol.AXI3 if board.family == "zynq-7000" else Protocol.AXI4
    assert {(port.protocol, port.bits) for port in ports} == {(version, 64)}
    assert built.clock_mhz <= design.clock_mhz * (1 + 1e-6)


def with_all_engines() -> Design:
    """A board for all engines: the default design with those that it lacks."""
    design = default_design("zcu104")
    return replace(design, geometry=replace(design.geometry, engines=tuple(engine.name for engine in isa().engines)))


def test_engines_are_tied_to_run_for_ever_with_physical_addresses() -> None:
    built = block_design(with_all_engines())
    drivers = {sink: net.driver for net in built.nets for sink in net.sinks}
    one, zero = built.cell("constant_1_1"), built.cell("constant_0_64")
    assert one.parameters == {"CONST_WIDTH": "1", "CONST_VAL": "1"}
    assert zero.parameters == {"CONST_WIDTH": "64", "CONST_VAL": "0"}
    for engine in ENGINES:
        assert drivers[Endpoint(cell_name(engine), "ap_start")].cell == one.name
    for engine, port in MASTERS:
        assert drivers[Endpoint(cell_name(engine), port)].cell == zero.name
    assert not [pin for pin in built.cell("dispatch_0").pins if pin.name == "ap_start"]


def test_the_default_design_shares_ports_as_described() -> None:
    built = block_design(default_design())
    targets = {entry.master: entry.slave.port for entry in built.ranges if entry.kind is RangeKind.MEMORY}
    assert targets == {
        Endpoint("agg_0", "m_axi_features"): "S_AXI_HP0",
        Endpoint("agg_0", "m_axi_graph"): "S_AXI_HP1",
        Endpoint("load_0", "m_axi_memory"): "S_AXI_HP2",
        Endpoint("store_0", "m_axi_memory"): "S_AXI_HP3",
        Endpoint("dispatch_0", "m_axi_program"): "S_AXI_HP3",
    }
    assert built.clock_mhz == 100
    dispatch = next(entry for entry in built.ranges if entry.slave.cell == "dispatch_0")
    assert (dispatch.base, dispatch.size) == (0x4000_0000, register_bytes())
    assert register_bytes() > max(register.offset for register in isa().registers)


def between(design: Design) -> dict[str, str]:
    """The IP of the cell between each AXI master and its DRAM port."""
    built = block_design(design)
    links = {link.master: link.slave for link in built.links}
    masters = [entry.master for entry in built.ranges if entry.kind is RangeKind.MEMORY]
    return {str(master): built.cell(links[master].cell).ip for master in masters}


def test_a_master_alone_reaches_its_dram_port_without_an_interconnect() -> None:
    design = default_design()
    assert between(design) == {
        "agg_0/m_axi_features": "axi_protocol_converter",
        "agg_0/m_axi_graph": "axi_protocol_converter",
        "load_0/m_axi_memory": "axi_protocol_converter",
        "store_0/m_axi_memory": "axi_interconnect",
        "dispatch_0/m_axi_program": "axi_interconnect",
    }
    cores = replace(design, geometry=replace(design.geometry, engines=("load", "store", "gemm_d", "gemm_l", "vec")))
    assert set(between(cores).values()) == {"axi_protocol_converter"}
    assert set(between(replace(cores, board="zcu104")).values()) == {"zynq_ultra_ps_e"}


@pytest.mark.parametrize("engine", ["dispatch", *ENGINES])
def test_no_burst_is_longer_than_a_converter_passes(engine: str) -> None:
    """The converters split nothing, so no adapter may send more than AXI3's 16 beats at once."""
    text = (KERNELS / f"{engine}.cpp").read_text(encoding="utf-8")
    ports = len(re.findall(r"mode=m_axi", text))
    lengths = [int(beats) for beats in re.findall(r"max_(?:read|write)_burst_length=(\d+)", text)]
    assert len(lengths) == 2 * ports and all(beats <= 16 for beats in lengths)
    for cell in block_design(default_design()).cells_of("axi_protocol_converter"):
        assert cell.parameters["TRANSLATION_MODE"] == "0"


@pytest.mark.parametrize("engine", ["dispatch", *ENGINES])
def test_ports_are_those_of_the_top_function(engine: str) -> None:
    """The pragmas of the kernel's top function name its ports."""
    text = (KERNELS / f"{engine}.cpp").read_text(encoding="utf-8")
    masters = re.findall(r"mode=m_axi port=(\w+) bundle=(\w+) offset=direct", text)
    assert {(engine, port) for port, _ in masters} == {entry for entry in MASTERS if entry[0] == engine}
    assert all(port == bundle for port, bundle in masters)
    rams = re.findall(r"mode=ap_memory port=(\w+) storage_type=ram_1p", text)
    assert sorted(rams) == sorted(port.memory.name for port in ram_ports(engine))
    banked = re.findall(r"ARRAY_PARTITION variable=(\w+) type=complete dim=1", text)
    assert sorted(banked) == sorted(port.memory.name for port in ram_ports(engine) if port.memory.banks)
    for name in banked:
        # The array's first dimension is the banks, which are what the block design has RAMs of.
        size = re.search(rf"{name}\[(?:Design::)?(\w+)\]\s*\[(?:[\w:]+\()?(Design::[^\])]+)\)?\]", text)
        assert size and size[1] == isa().memory(name).banks
        assert size[2].replace("Design::", "").replace("/", "//") == isa().memory(name).depth
    cell = block_design(with_all_engines()).cell(cell_name(engine))
    streams = {
        re.sub(r"_\d+$", "", interface.name) for interface in cell.interfaces if interface.protocol is Protocol.STREAM
    }
    assert streams == set(re.findall(r"mode=axis port=(\w+)", text))
    assert cell.vlnv == hls_vlnv(engine) == f"hetfab.org:hls:{engine}:{isa().version[0]}.{isa().version[1]}"
    widths = set(re.findall(r"max_widen_bitwidth=(\d+)", text))
    found = {str(interface.bits) for interface in cell.interfaces if interface.name.startswith("m_axi_")}
    assert found == widths


def without_link(built: BlockDesign) -> BlockDesign:
    return replace(built, links=built.links[1:])


def with_link_twice(built: BlockDesign) -> BlockDesign:
    return replace(built, links=(*built.links, built.links[0]))


def with_overlap(built: BlockDesign) -> BlockDesign:
    first, *rest = built.ranges
    return replace(built, ranges=(first, replace(rest[0], base=first.base), *rest[1:]))


def with_odd_base(built: BlockDesign) -> BlockDesign:
    first, *rest = built.ranges
    return replace(built, ranges=(replace(first, base=first.base + 64), *rest))


def with_second_writer(built: BlockDesign) -> BlockDesign:
    """Joins the reader's write enable to the reading engine."""
    target = Endpoint("acc_d_ram", "web")
    nets = tuple(replace(net, sinks=tuple(end for end in net.sinks if end != target)) for net in built.nets)
    writer = next(net for net in nets if net.driver == Endpoint("gemm_d_0", "acc_d_ram_we0"))
    joined = replace(writer, sinks=(*writer.sinks, target))
    return replace(built, nets=tuple(joined if net is writer else net for net in nets))


def with_other_width(built: BlockDesign) -> BlockDesign:
    cells = []
    for cell in built.cells:
        if cell.name == "load_0":
            pins = tuple(replace(pin, bits=3) if pin.name == "wgt_d_ram_d0" else pin for pin in cell.pins)
            cell = replace(cell, pins=pins)
        cells.append(cell)
    return replace(built, cells=tuple(cells))


def with_fewer_ports(built: BlockDesign) -> BlockDesign:
    return replace(built, board=replace(built.board, ports=3, axi_version=4))


def with_same_name(built: BlockDesign) -> BlockDesign:
    return replace(built, cells=(*built.cells, built.cell("reset")))


def reversed_link(built: BlockDesign) -> BlockDesign:
    first, *rest = built.links
    return replace(built, links=(replace(first, master=first.slave, slave=first.master), *rest))


def with_active_high_reset(built: BlockDesign) -> BlockDesign:
    def changed(pin: Pin) -> Pin:
        return replace(pin, active_low=False) if pin.name == "peripheral_aresetn" else pin

    cells = (replace(cell, pins=tuple(changed(pin) for pin in cell.pins)) for cell in built.cells)
    return replace(built, cells=tuple(cells))


def without_clock(built: BlockDesign) -> BlockDesign:
    clock = Endpoint("gemm_d_0", "ap_clk")
    nets = tuple(replace(net, sinks=tuple(end for end in net.sinks if end != clock)) for net in built.nets)
    return replace(built, nets=nets)


def without_interrupt_controller(built: BlockDesign) -> BlockDesign:
    nets = (
        replace(net, driver=Endpoint("dispatch_0", "interrupt")) if net.driver == Endpoint("interrupts", "irq") else net
        for net in built.nets
    )
    return replace(built, nets=tuple(nets))


def without_protocol_converter(built: BlockDesign) -> BlockDesign:
    """AGG's AXI4 master straight to a port that takes AXI3."""
    port = Endpoint("processing_system7_0", "S_AXI_HP0")
    links = (
        replace(link, slave=port) if link.master == Endpoint("agg_0", "m_axi_features") else link
        for link in built.links
        if link.slave != port
    )
    return replace(built, links=tuple(links))


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (with_active_high_reset, "reset/peripheral_aresetn is a reset active high, dispatch_0/ap_rst_n one active low"),
        (without_clock, "gemm_d_0/ap_clk is connected 0 times"),
        (without_interrupt_controller, "dispatch_0/interrupt reaches the processor's interrupts without an axi_intc"),
        (
            without_protocol_converter,
            "agg_0/m_axi_features is AXI4 of 64 bits, processing_system7_0/S_AXI_HP0 is AXI3 of 64 bits",
        ),
        (without_link, "is connected 0 times"),
        (with_link_twice, "is connected 2 times"),
        (with_overlap, "dispatch_0/s_axi_control and interrupts/s_axi overlap for processing_system7_0/M_AXI_GP0"),
        (with_odd_base, "has 4096 bytes at 0x40000040, no aligned power of two"),
        (with_second_writer, "acc_d_ram is written by 2 engines"),
        (with_other_width, "load_0/wgt_d_ram_d0 is undef of 3 bits, wgt_d_ram/dina is undef of {wgt_d} bits"),
        (with_fewer_ports, "4 DRAM ports are used, the board has 3"),
        (with_same_name, "the name 'reset' is used 2 times"),
        (reversed_link, "does not run from a master to a slave"),
    ],
)
def test_breaches_are_named(change: Callable[[BlockDesign], BlockDesign], text: str) -> None:
    built = block_design(default_design())
    assert not problems(built)
    text = text.format(wgt_d=32 * built.design.geometry.gemm_d_cols)
    assert [problem for problem in problems(change(built)) if text in problem]


@pytest.mark.parametrize(("source", "clock"), [(1000.0, 100.0), (1500.0, 187.5), (1500.0, 200.0), (1000.0, 0.3)])
def test_clocks_are_the_highest_that_do_not_exceed(source: float, clock: float) -> None:
    first, second = clock_divisors(source, clock)
    products = {a * b for a in range(1, 64) for b in range(1, 64)}
    assert first * second == min(product for product in products if source / product <= clock)


def test_a_clock_that_no_divisor_gives_is_refused() -> None:
    with pytest.raises(DesignInvalidError, match=r"a clock of 0\.1 MHz from a PLL of 1000 MHz"):
        block_design(replace(default_design(), clock_mhz=0.1))


def test_an_unknown_family_is_refused() -> None:
    with pytest.raises(DesignInvalidError, match="is of the family 'versal'"):
        platform_of(replace(read_board("pynq-z2"), family="versal"))


@pytest.mark.parametrize("name", board_names())
def test_boards_have_what_a_block_design_needs(name: str) -> None:
    board = read_board(name)
    assert platform_of(board).architecture in ("armv7l", "aarch64")
    assert 0 < board.dram_low_bytes <= board.dram_bytes
    assert board.contiguous_bytes is None or 0 < board.contiguous_bytes <= board.dram_low_bytes
    assert board.pynq and board.axi_version in (3, 4)


def test_data_classes_find_their_parts() -> None:
    cell = block_design(default_design()).cell("dispatch_0")
    assert cell.interface("s_axi_control") == Interface("s_axi_control", Protocol.AXI4_LITE, Role.SLAVE, 32)
    assert cell.pin("interrupt") == Pin("interrupt", Direction.OUT, 1, Signal.INTERRUPT)
    assert cell.ip == "dispatch"
