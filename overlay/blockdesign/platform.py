# SPDX-License-Identifier: Apache-2.0
"""The processing systems of the two families: names of ports and pins, addresses, and settings.

Zynq-7000 is ``processing_system7`` with AXI3 ports, Zynq UltraScale+ is ``zynq_ultra_ps_e`` with AXI4 ports.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from hetfab.overlay.blockdesign.diagram import Protocol
from hetfab.overlay.board import Board
from hetfab.overlay.design import Design
from hetfab.overlay.errors import DesignInvalidError

#: Clocks that a processing system can give to the fabric; hetfab uses the first.
FABRIC_CLOCKS = 4
_LARGEST_DIVISOR = 63


@dataclass(frozen=True)
class Platform:
    """A family's processing system.

    Attributes:
        cell: Name of its instance.
        vlnv: Its IP.
        control_port: The master that reaches registers.
        control_protocol: What that port speaks.
        control_clock: Its clock pin.
        memory_port: Pattern of the ports to DRAM; ``{}`` is the number.
        memory_clock: Pattern of their clock pins.
        memory_segment: Pattern of their address segments.
        segment_bus: Pattern of the bus in a segment's path, by ``hp``, the port, or ``slave``, its number among slaves.
        unused_segments: Pattern of segments behind a port that hetfab's masters do not see.
        external_interfaces: Interfaces that leave the block design, with the VLNV of each.
        clock: Pin of the first fabric clock.
        reset: Pin of the fabric's reset, low when active.
        interrupt: Pin that takes interrupts.
        register_base: First address that the control port forwards.
        architecture: Of its CPU, as ``uname`` says it.
    """

    cell: str
    vlnv: str
    control_port: str
    control_protocol: Protocol
    control_clock: str
    memory_port: str
    memory_clock: str
    memory_segment: str
    segment_bus: str
    unused_segments: tuple[str, ...]
    external_interfaces: Mapping[str, str]
    clock: str
    reset: str
    interrupt: str
    register_base: int
    architecture: str


PLATFORMS = {
    "zynq-7000": Platform(
        cell="processing_system7_0",
        vlnv="xilinx.com:ip:processing_system7:5.5",
        control_port="M_AXI_GP0",
        control_protocol=Protocol.AXI3,
        control_clock="M_AXI_GP0_ACLK",
        memory_port="S_AXI_HP{}",
        memory_clock="S_AXI_HP{}_ACLK",
        memory_segment="HP{}_DDR_LOWOCM",
        segment_bus="S_AXI_HP{hp}",
        unused_segments=(),
        external_interfaces={
            "DDR": "xilinx.com:interface:ddrx_rtl:1.0",
            "FIXED_IO": "xilinx.com:display_processing_system7:fixedio_rtl:1.0",
        },
        clock="FCLK_CLK0",
        reset="FCLK_RESET0_N",
        interrupt="IRQ_F2P",
        register_base=0x4000_0000,
        architecture="armv7l",
    ),
    "zynq-ultrascale+": Platform(
        cell="zynq_ultra_ps_e_0",
        vlnv="xilinx.com:ip:zynq_ultra_ps_e:3.5",
        control_port="M_AXI_HPM0_FPD",
        control_protocol=Protocol.AXI4,
        control_clock="maxihpm0_fpd_aclk",
        memory_port="S_AXI_HP{}_FPD",
        memory_clock="saxihp{}_fpd_aclk",
        memory_segment="HP{}_DDR_LOW",
        segment_bus="SAXIGP{slave}",
        unused_segments=("HP{}_LPS_OCM", "HP{}_QSPI"),
        external_interfaces={},
        clock="pl_clk0",
        reset="pl_resetn0",
        interrupt="pl_ps_irq0",
        register_base=0xA000_0000,
        architecture="aarch64",
    ),
}


def platform_of(board: Board) -> Platform:
    """The processing system of a board.

    Raises:
        DesignInvalidError: The board's family is not known.
    """
    if board.family not in PLATFORMS:
        raise DesignInvalidError(
            f"the board '{board.name}' is of the family '{board.family}'",
            "one of " + ", ".join(PLATFORMS),
            "correct 'family' in the board's file",
        )
    return PLATFORMS[board.family]


def clock_divisors(source_mhz: float, clock_mhz: float) -> tuple[int, int]:
    """The pair of divisors, 1 to 63 each, whose clock is the highest that does not exceed ``clock_mhz``.

    Raises:
        DesignInvalidError: Even the largest divisors give a higher clock.
    """
    pairs = [(first, second) for first in range(1, _LARGEST_DIVISOR + 1) for second in range(1, first + 1)]
    slow_enough = [pair for pair in pairs if source_mhz / (pair[0] * pair[1]) <= clock_mhz * (1 + 1e-9)]
    if not slow_enough:
        raise DesignInvalidError(
            f"a clock of {clock_mhz:g} MHz from a PLL of {source_mhz:g} MHz",
            f"at least {source_mhz / _LARGEST_DIVISOR**2:g} MHz",
            "ask for a higher clock: 'clock_mhz' of a design file, or --clock of a search",
        )
    return max(slow_enough, key=lambda pair: (source_mhz / (pair[0] * pair[1]), -pair[0]))


def fabric_clock_mhz(design: Design, board: Board) -> float:
    """The clock that the board gives to a design."""
    first, second = clock_divisors(board.clock_source_mhz, design.clock_mhz)
    return board.clock_source_mhz / (first * second)


def processing_system_parameters(design: Design, board: Board, memory_ports: int) -> dict[str, str]:
    """Settings of the processing system's IP: fabric clock, ports, interrupt."""
    divisors = clock_divisors(board.clock_source_mhz, design.clock_mhz)
    make = _zynq_parameters if board.family == "zynq-7000" else _ultrascale_parameters
    parameters = make(design, board, memory_ports, divisors)
    return {name: str(value) for name, value in parameters.items()}


def _zynq_parameters(
    design: Design, board: Board, memory_ports: int, divisors: tuple[int, int]
) -> dict[str, str | int | float]:
    clock = fabric_clock_mhz(design, board)
    parameters: dict[str, str | int | float] = {"PCW_USE_M_AXI_GP0": 1, "PCW_USE_FABRIC_INTERRUPT": 1}
    parameters |= {"PCW_EN_CLK0_PORT": 1, "PCW_EN_RST0_PORT": 1}
    parameters |= {"PCW_IRQ_F2P_INTR": 1, "PCW_FPGA0_PERIPHERAL_FREQMHZ": design.clock_mhz}
    for number in range(FABRIC_CLOCKS):
        used = number == 0
        parameters[f"PCW_FPGA_FCLK{number}_ENABLE"] = int(used)
        parameters[f"PCW_FCLK{number}_PERIPHERAL_CLKSRC"] = "IO PLL"
        parameters[f"PCW_FCLK{number}_PERIPHERAL_DIVISOR0"] = divisors[0] if used else 1
        parameters[f"PCW_FCLK{number}_PERIPHERAL_DIVISOR1"] = divisors[1] if used else 1
        parameters[f"PCW_ACT_FPGA{number}_PERIPHERAL_FREQMHZ"] = clock if used else 10.0
    for number in range(memory_ports):
        parameters[f"PCW_USE_S_AXI_HP{number}"] = 1
        parameters[f"PCW_S_AXI_HP{number}_DATA_WIDTH"] = board.port_bits
    return parameters


def _ultrascale_parameters(
    design: Design, board: Board, memory_ports: int, divisors: tuple[int, int]
) -> dict[str, str | int | float]:
    clock = fabric_clock_mhz(design, board)
    parameters: dict[str, str | int | float] = {"PSU__USE__M_AXI_GP0": 1, "PSU__MAXIGP0__DATA_WIDTH": 32}
    parameters |= {"PSU__USE__M_AXI_GP1": 0, "PSU__USE__M_AXI_GP2": 0, "PSU__USE__IRQ0": 1}
    for number in range(FABRIC_CLOCKS):
        used = number == 0
        control = f"PSU__CRL_APB__PL{number}_REF_CTRL__"
        parameters[f"PSU__FPGA_PL{number}_ENABLE"] = int(used)
        # PYNQ computes with the IO PLL alone.
        parameters[f"{control}SRCSEL"] = "IOPLL"
        parameters[f"{control}DIVISOR0"] = divisors[0] if used else 1
        parameters[f"{control}DIVISOR1"] = divisors[1] if used else 1
        parameters[f"{control}FREQMHZ"] = design.clock_mhz if used else 100
        parameters[f"{control}ACT_FREQMHZ"] = clock if used else 100
    for number in range(memory_ports):
        # The ports HP0 to HP3 have the numbers 2 to 5 among the slaves.
        parameters[f"PSU__USE__S_AXI_GP{number + 2}"] = 1
        parameters[f"PSU__SAXIGP{number + 2}__DATA_WIDTH"] = board.port_bits
    return parameters
