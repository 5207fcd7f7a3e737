# SPDX-License-Identifier: Apache-2.0
"""The .hwh file: it says what the block design says, and pynq's parser understands it."""

import warnings
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from hetfab.overlay.blockdesign.build import block_design, register_bytes
from hetfab.overlay.blockdesign.hwh import hwh_text
from hetfab.overlay.blockdesign.platform import platform_of
from hetfab.overlay.design import default_design
from hetfab.overlay.isa.codec import RegisterOffset
from hetfab.overlay.isa.spec import isa
from tests.pynq_support import require_pynq

BOARDS = ("pynq-z2", "zcu104")


def tree(board: str) -> ElementTree.Element:
    return ElementTree.fromstring(hwh_text(block_design(default_design(board))))


@pytest.mark.parametrize("board", BOARDS)
def test_equal_designs_give_equal_text(board: str) -> None:
    assert hwh_text(block_design(default_design(board))) == hwh_text(block_design(default_design(board)))


@pytest.mark.parametrize("board", BOARDS)
def test_every_cell_is_a_module_with_its_ports(board: str) -> None:
    built = block_design(default_design(board))
    modules = {module.get("INSTANCE"): module for module in tree(board).iter("MODULE")}
    assert list(modules) == [cell.name for cell in built.cells]
    for cell in built.cells:
        module = modules[cell.name]
        assert module.get("VLNV") == cell.vlnv and module.get("FULLNAME") == f"/{cell.name}"
        assert [port.get("NAME") for port in module.iter("PORT")] == [pin.name for pin in cell.pins]
        assert [bus.get("NAME") for bus in module.iter("BUSINTERFACE")] == [i.name for i in cell.interfaces]
        settings = {p.get("NAME"): p.get("VALUE") for p in module.findall("PARAMETERS/PARAMETER")}
        assert settings == cell.parameters


@pytest.mark.parametrize("board", BOARDS)
def test_connections_name_ports_that_exist_and_both_sides_agree(board: str) -> None:
    root = tree(board)
    ports = {(m.get("INSTANCE"), p.get("NAME")): p for m in root.iter("MODULE") for p in m.iter("PORT")}
    for place, port in ports.items():
        for connection in port.iter("CONNECTION"):
            other = ports[connection.get("INSTANCE"), connection.get("PORT")]
            assert other.get("SIGNAME") == port.get("SIGNAME")
            back = {(c.get("INSTANCE"), c.get("PORT")) for c in other.iter("CONNECTION")}
            assert place in back


def test_bus_names_join_exactly_two_interfaces() -> None:
    names = [bus.get("BUSNAME") for bus in tree("pynq-z2").iter("BUSINTERFACE")]
    opened = [entry for entry in block_design(default_design("pynq-z2")).opens if entry.endpoint.port.islower()]
    assert all(names.count(name) == 2 for name in names if name != "__NOC__")
    assert 0 < names.count("__NOC__") <= len(opened)


#: Those of ap_ctrl_hs, and the memories by their first words.
REGISTERS = {
    "CTRL": (0, "read-write"),
    "GIER": (4, "read-write"),
    "IP_IER": (8, "read-write"),
    "IP_ISR": (12, "read-write"),
    "Memory_arguments": (int(RegisterOffset.PROGRAM_LENGTH), "read-write"),
    "Memory_status": (int(RegisterOffset.ISA_VERSION), "read-only"),
}


def test_registers_have_the_names_and_offsets_of_the_table() -> None:
    found = {}
    for register in tree("pynq-z2").iter("REGISTER"):
        properties = {p.get("NAME"): p.get("VALUE") for p in register.findall("PROPERTY")}
        found[register.get("NAME")] = int(str(properties["ADDRESS_OFFSET"]), 16), properties["ACCESS"]
    assert found == REGISTERS


def parsed(board: str, folder: Path) -> Any:
    """What pynq makes of the file."""
    require_pynq()
    path = folder / "overlay.hwh"
    path.write_text(hwh_text(block_design(default_design(board))), encoding="utf-8")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from hetfab.driver.pynq_device.device import metadata

        return metadata(path)


@pytest.mark.parametrize("board", BOARDS)
def test_pynq_finds_the_registers_and_their_addresses(board: str, tmp_path: Path) -> None:
    parser = parsed(board, tmp_path)
    platform = platform_of(block_design(default_design(board)).board)
    dispatch = parser.ip_dict["dispatch_0"]
    assert dispatch["type"] == f"hetfab.org:hls:dispatch:{isa().version[0]}.{isa().version[1]}"
    assert (dispatch["phys_addr"], dispatch["addr_range"]) == (platform.register_base, register_bytes())
    registers = dispatch["registers"]
    assert {name: (entry["address_offset"], entry["access"]) for name, entry in registers.items()} == REGISTERS
    assert registers["CTRL"]["fields"]["AP_DONE"]["bit_offset"] == 1
    assert parser.ip_dict["interrupts"]["phys_addr"] == platform.register_base + 0x1_0000
    assert set(parser.ip_dict) == {"dispatch_0", "interrupts", platform.cell}


@pytest.mark.parametrize(("board", "line"), [("pynq-z2", 61), ("zcu104", 121)])
def test_pynq_finds_the_interrupt_and_the_clock(board: str, line: int, tmp_path: Path) -> None:
    parser = parsed(board, tmp_path)
    pin = parser.interrupt_pins["dispatch_0/interrupt"]
    assert (pin["controller"], pin["index"]) == ("interrupts", 0)
    assert parser.interrupt_controllers["interrupts"]["raw_irq"] == line
    clock = parser.clock_dict[0]
    design = block_design(default_design(board))
    assert clock["enable"] == 1
    assert design.board.clock_source_mhz / (clock["divisor0"] * clock["divisor1"]) == design.clock_mhz
    assert not any(parser.clock_dict[number]["enable"] for number in (1, 2, 3))
