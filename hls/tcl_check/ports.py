# SPDX-License-Identifier: Apache-2.0
"""Ports of the vendor's IPs as their settings make them; one function for each IP that is modelled in full."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

Settings = Mapping[str, str]


@dataclass(frozen=True)
class Port:
    """A pin or an interface of a cell.

    Attributes:
        name: Its name.
        bus: Whether it is an interface.
        drives: An output pin, or a master interface; None where either may be.
        bits: Width, None where the other side decides.
        signal: ``clk``, ``rst``, ``intr`` or ``data`` of a pin; of an interface ``aximm``, ``axis`` or another kind.
        protocol: Of an AXI interface: ``AXI3``, ``AXI4``, ``AXI4LITE``; empty where the IP takes any.
        active_low: Polarity of a reset, None where either will do.
        required: Whether it may not stay open.
        group: Interface that the pin belongs to; either of them is connected.
        hertz: Clock that a clock pin gives, or that the cell was made for; 0 where nothing is said.
        words: Words of the RAM that an address pin is for; 0 where nothing is said.
    """

    name: str
    bus: bool = False
    drives: bool | None = False
    bits: int | None = 1
    signal: str = "data"
    protocol: str = ""
    active_low: bool | None = None
    required: bool = True
    group: str = ""
    hertz: int = 0
    words: int = 0


def clock(name: str, *, drives: bool = False, required: bool = True, hertz: int = 0) -> Port:
    """A clock pin."""
    return Port(name, drives=drives, signal="clk", required=required, hertz=hertz)


def reset(
    name: str, *, drives: bool = False, active_low: bool | None = True, required: bool = True, bits: int = 1
) -> Port:
    """A reset pin."""
    return Port(name, drives=drives, signal="rst", active_low=active_low, required=required, bits=bits)


def axi(name: str, protocol: str = "", bits: int | None = None, *, master: bool = False, required: bool = True) -> Port:
    """A memory-mapped AXI interface."""
    return Port(name, True, master, bits, "aximm", protocol, required=required)


def _interconnect(settings: Settings) -> list[Port]:
    slaves, masters = int(settings["NUM_SI"]), int(settings["NUM_MI"])
    ends = [f"S{i:02}" for i in range(slaves)] + [f"M{i:02}" for i in range(masters)]
    ports = [clock("ACLK"), reset("ARESETN")]
    for end in ends:
        ports += [clock(f"{end}_ACLK"), reset(f"{end}_ARESETN"), axi(f"{end}_AXI", master=end[0] == "M")]
    return ports


def _smartconnect(settings: Settings) -> list[Port]:
    slaves, masters = int(settings["NUM_SI"]), int(settings["NUM_MI"])
    clocks = int(settings["NUM_CLKS"])
    ports = [clock("aclk" if i == 0 else f"aclk{i}") for i in range(clocks)]
    ports.append(reset("aresetn", required=False))
    ports += [axi(f"S{i:02}_AXI") for i in range(slaves)]
    return ports + [axi(f"M{i:02}_AXI", master=True) for i in range(masters)]


def _protocol_converter(settings: Settings) -> list[Port]:
    bits = int(settings["DATA_WIDTH"])
    return [
        clock("aclk"),
        reset("aresetn"),
        axi("S_AXI", settings["SI_PROTOCOL"], bits),
        axi("M_AXI", settings["MI_PROTOCOL"], bits, master=True),
    ]


def _processor_reset(_: Settings) -> list[Port]:
    return [
        clock("slowest_sync_clk"),
        reset("ext_reset_in", active_low=None),
        reset("aux_reset_in", active_low=None, required=False),
        reset("mb_debug_sys_rst", active_low=False, required=False),
        Port("dcm_locked", required=False),
        reset("mb_reset", drives=True, active_low=False),
        reset("bus_struct_reset", drives=True, active_low=False),
        reset("peripheral_reset", drives=True, active_low=False),
        reset("interconnect_aresetn", drives=True),
        reset("peripheral_aresetn", drives=True),
    ]


def _constant(settings: Settings) -> list[Port]:
    return [Port("dout", drives=True, bits=int(settings["CONST_WIDTH"]), signal="any")]


def _concatenation(settings: Settings) -> list[Port]:
    count = int(settings["NUM_PORTS"])
    widths = [int(settings.get(f"IN{i}_WIDTH", "0")) or None for i in range(count)]
    inputs = [Port(f"In{i}", bits=width, signal="any", required=False) for i, width in enumerate(widths)]
    return [*inputs, Port("dout", drives=True, bits=None, signal="any")]


def _slice(settings: Settings) -> list[Port]:
    high, low = int(settings["DIN_FROM"]), int(settings["DIN_TO"])
    return [
        Port("Din", bits=int(settings["DIN_WIDTH"]), signal="any"),
        Port("Dout", drives=True, bits=high - low + 1, signal="any"),
    ]


def _interrupt_controller(settings: Settings) -> list[Port]:
    ports = [
        clock("s_axi_aclk"),
        reset("s_axi_aresetn"),
        axi("s_axi", "AXI4LITE", 32),
        Port("intr", bits=None, signal="intr"),
    ]
    # A single line is a pin that must lead somewhere; of a bus, the pin is a part.
    single = settings["C_IRQ_CONNECTION"] == "1"
    ports.append(Port("irq", drives=True, signal="intr", required=single))
    return ports if single else [*ports, Port("interrupt", True, True, None, "interrupt", required=False)]


def _stream_fifo(settings: Settings) -> list[Port]:
    bits = 8 * int(settings["TDATA_NUM_BYTES"]) or None
    return [
        clock("s_axis_aclk"),
        reset("s_axis_aresetn"),
        clock("m_axis_aclk", required=settings["IS_ACLK_ASYNC"] == "1"),
        Port("S_AXIS", True, False, bits, "axis"),
        Port("M_AXIS", True, True, bits, "axis"),
    ]


def _fifo_generator(settings: Settings) -> list[Port]:
    if settings["INTERFACE_TYPE"] != "AXI_STREAM":
        return []
    bits = 8 * int(settings["TDATA_NUM_BYTES"]) or None
    return [
        clock("s_aclk"),
        reset("s_aresetn"),
        Port("S_AXIS", True, False, bits, "axis"),
        Port("M_AXIS", True, True, bits, "axis"),
    ]


def _block_memory(settings: Settings) -> list[Port]:
    dual = settings["Memory_Type"] in ("Simple_Dual_Port_RAM", "True_Dual_Port_RAM")
    ports = []
    for letter in "AB" if dual else "A":
        group = f"BRAM_PORT{letter}"
        ports.append(Port(group, True, False, None, "bram", required=False))
        if settings["use_bram_block"] == "Stand_Alone":
            ports += _block_memory_pins(settings, letter, group)
    return ports


def _block_memory_pins(settings: Settings, letter: str, group: str) -> list[Port]:
    small = letter.lower()
    width, depth = settings["Write_Width_A"], int(settings["Write_Depth_A"])
    bytes_written = settings["Use_Byte_Write_Enable"] == "true"
    address = 32 if settings["Enable_32bit_Address"] == "true" else max((depth - 1).bit_length(), 1)
    enables = int(width) // int(settings["Byte_Size"]) if bytes_written else 1
    simple = settings["Memory_Type"] == "Simple_Dual_Port_RAM"
    pins = [
        Port(f"clk{small}", signal="clk", group=group),
        Port(f"addr{small}", bits=address, group=group, words=depth),
    ]
    if letter == "A" or not simple:
        pins.append(Port(f"we{small}", bits=enables, group=group))
        pins.append(Port(f"din{small}", bits=int(settings.get(f"Write_Width_{letter}", width)), group=group))
    if letter == "B" or not simple:
        read = int(settings.get(f"Read_Width_{letter}", width))
        pins.append(Port(f"dout{small}", drives=True, bits=read, group=group))
    if settings[f"Enable_{letter}"] == f"Use_EN{letter}_Pin":
        pins.append(Port(f"en{small}", group=group))
    if settings[f"Use_RST{letter}_Pin"] == "true":
        pins.append(Port(f"rst{small}", signal="rst", active_low=False, group=group))
    return pins


def _megahertz(text: str) -> int:
    return round(float(text) * 1_000_000)


def _zynq(settings: Settings) -> list[Port]:
    ports = [
        Port("DDR", True, True, None, "ddr", required=False),
        Port("FIXED_IO", True, True, None, "fixed", required=False),
    ]
    for i in range(4):
        if settings[f"PCW_EN_CLK{i}_PORT"] == "1":
            rate = _megahertz(settings[f"PCW_FPGA{i}_PERIPHERAL_FREQMHZ"])
            ports.append(clock(f"FCLK_CLK{i}", drives=True, hertz=rate))
        if settings[f"PCW_EN_RST{i}_PORT"] == "1":
            ports.append(reset(f"FCLK_RESET{i}_N", drives=True))
        if settings[f"PCW_USE_S_AXI_HP{i}"] == "1":
            bits = int(settings[f"PCW_S_AXI_HP{i}_DATA_WIDTH"])
            ports += [axi(f"S_AXI_HP{i}", "AXI3", bits), clock(f"S_AXI_HP{i}_ACLK")]
    for i in range(2):
        if settings[f"PCW_USE_M_AXI_GP{i}"] == "1":
            ports += [axi(f"M_AXI_GP{i}", "AXI3", 32, master=True), clock(f"M_AXI_GP{i}_ACLK")]
        if settings[f"PCW_USE_S_AXI_GP{i}"] == "1":
            ports += [axi(f"S_AXI_GP{i}", "AXI3", 32), clock(f"S_AXI_GP{i}_ACLK")]
    if settings["PCW_USE_S_AXI_ACP"] == "1":
        ports += [axi("S_AXI_ACP", "AXI3", 64), clock("S_AXI_ACP_ACLK")]
    if settings["PCW_USE_FABRIC_INTERRUPT"] == "1" and settings["PCW_IRQ_F2P_INTR"] == "1":
        ports.append(Port("IRQ_F2P", bits=None, signal="intr"))
    # What leaves by the fabric's pins (EMIO), and the USB and timer ports that are there by default.
    names = ["GPIO_0", "IIC_0", "IIC_1", "UART_0", "UART_1", "SPI_0", "SPI_1", "USBIND_0", "SDIO_0", "SDIO_1"]
    ports += [Port(name, True, True, None, "emio", required=False) for name in names]
    pins = [f"TTC{i}_WAVE{j}_OUT" for i in range(2) for j in range(3)]
    ports += [Port(name, drives=True, required=False) for name in pins]
    ports += [Port(name, drives=True, bits=None, required=False) for name in ("GPIO_O", "GPIO_T")]
    return [*ports, Port("GPIO_I", bits=None, required=False)]


def _zynq_ultrascale(settings: Settings) -> list[Port]:
    ports = []
    for i in range(4):
        if settings[f"PSU__FPGA_PL{i}_ENABLE"] == "1":
            rate = _megahertz(settings[f"PSU__CRL_APB__PL{i}_REF_CTRL__FREQMHZ"])
            ports += [clock(f"pl_clk{i}", drives=True, hertz=rate), reset(f"pl_resetn{i}", drives=True)]
    masters = ("HPM0_FPD", "HPM1_FPD", "HPM0_LPD")
    for i, name in enumerate(masters):
        if settings[f"PSU__USE__M_AXI_GP{i}"] == "1":
            bits = int(settings[f"PSU__MAXIGP{i}__DATA_WIDTH"])
            ports += [axi(f"M_AXI_{name}", "AXI4", bits, master=True), clock(f"maxi{name.lower()}_aclk")]
    slaves = ("HPC0_FPD", "HPC1_FPD", "HP0_FPD", "HP1_FPD", "HP2_FPD", "HP3_FPD")
    for i, name in enumerate(slaves):
        if settings[f"PSU__USE__S_AXI_GP{i}"] == "1":
            bits = int(settings[f"PSU__SAXIGP{i}__DATA_WIDTH"])
            ports += [axi(f"S_AXI_{name}", "AXI4", bits), clock(f"saxi{name.lower()}_aclk")]
    for i in range(2):
        if settings[f"PSU__USE__IRQ{i}"] == "1":
            ports.append(Port(f"pl_ps_irq{i}", bits=None, signal="intr"))
    return ports


PORTS: dict[str, Callable[[Settings], list[Port]]] = {
    "axi_interconnect": _interconnect,
    "smartconnect": _smartconnect,
    "axi_protocol_converter": _protocol_converter,
    "proc_sys_reset": _processor_reset,
    "xlconstant": _constant,
    "xlconcat": _concatenation,
    "xlslice": _slice,
    "axi_intc": _interrupt_controller,
    "axis_data_fifo": _stream_fifo,
    "fifo_generator": _fifo_generator,
    "blk_mem_gen": _block_memory,
    "processing_system7": _zynq,
    "zynq_ultra_ps_e": _zynq_ultrascale,
}
#: IPs that pass transfers from every slave interface to every master interface.
BRIDGES = frozenset({"axi_interconnect", "smartconnect", "axi_protocol_converter"})
PROCESSORS = frozenset({"processing_system7", "zynq_ultra_ps_e"})
