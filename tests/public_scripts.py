# SPDX-License-Identifier: Apache-2.0
"""Public Tcl scripts that are known to have run, laid out as their projects do it, for the Tcl model.

The checkouts are no part of hetfab. ``HETFAB_TCL_SCRIPTS`` names a folder with one folder for each repository.
"""

import ast
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from hetfab.hls.tcl_check.check import check_script
from hetfab.hls.tcl_check.problem import Problem, Tool

VARIABLE = "HETFAB_TCL_SCRIPTS"


@dataclass(frozen=True)
class Laid:
    """A script with all that it needs beside it."""

    script: Path
    tool: Tool
    version: str
    part: str
    folder: Path
    given: tuple[str, ...] = ()
    arguments: tuple[str, ...] = ()
    variables: dict[str, str] = field(default_factory=dict)

    def problems(self) -> list[Problem]:
        """What the model refuses."""
        return check_script(
            self.script,
            self.tool,
            self.version,
            [self.part],
            self.folder,
            given=self.given,
            arguments=self.arguments,
            variables=self.variables,
        )


def checkouts() -> Path | None:
    """The folder of the checkouts, where there is one."""
    name = os.environ.get(VARIABLE)
    return Path(name) if name else None


def component(folder: Path, vlnv: str) -> None:
    """Puts an IP without a word on its ports into a repository."""
    names = ("vendor", "library", "name", "version")
    parts = "".join(
        f"<spirit:{name}>{value}</spirit:{name}>" for name, value in zip(names, vlnv.split(":"), strict=True)
    )
    folder.mkdir(parents=True, exist_ok=True)
    space = 'xmlns:spirit="http://www.spiritconsortium.org/XMLSchema/SPIRIT/1685-2009"'
    (folder / "component.xml").write_text(f"<spirit:component {space}>{parts}</spirit:component>\n", encoding="utf-8")


#: What config/vta_config.py of tvm-vta writes for the target pynq and the default sizes.
_VTA = {
    "CFLAGS": "-DVTA_LOG_WGT_WIDTH=3 -DVTA_LOG_INP_WIDTH=3 -DVTA_LOG_ACC_WIDTH=5 -DVTA_LOG_BATCH=0",
    "TARGET": "pynq",
    "FPGA_DEVICE": "xc7z020clg484-1",
    "FPGA_FAMILY": "zynq-7000",
    "FPGA_BOARD": "None",
    "FPGA_BOARD_REV": "None",
    "FPGA_PERIOD": "7",
    "FPGA_FREQ": "100",
    "INP_MEM_AXI_RATIO": "2",
    "WGT_MEM_AXI_RATIO": "32",
    "OUT_MEM_AXI_RATIO": "2",
    "INP_MEM_BANKS": "1",
    "WGT_MEM_BANKS": "2",
    "OUT_MEM_BANKS": "1",
    "INP_MEM_WIDTH": "128",
    "WGT_MEM_WIDTH": "1024",
    "OUT_MEM_WIDTH": "128",
    "INP_MEM_DEPTH": "2048",
    "WGT_MEM_DEPTH": "1024",
    "OUT_MEM_DEPTH": "2048",
    "NUM_WGT_MEM_URAM": "0",
    "AXI_CACHE_BITS": "1111",
    "AXI_PROT_BITS": "000",
    "IP_REG_MAP_RANGE": "0x1000",
    "FETCH_BASE_ADDR": "0x43C00000",
    "LOAD_BASE_ADDR": "0x43C01000",
    "COMPUTE_BASE_ADDR": "0x43C02000",
    "STORE_BASE_ADDR": "0x43C03000",
}


def _vta_config(folder: Path) -> Path:
    path = folder / "vta_config.tcl"
    path.write_text("".join(f'set {name} "{value}"\n' for name, value in _VTA.items()), encoding="utf-8")
    return path


def vta_hls(repository: Path, folder: Path) -> Laid:
    """As the Makefile calls it: ``vivado_hls -f hls.tcl -tclargs <root> <config>``."""
    script = repository / "hardware/xilinx/scripts/hls.tcl"
    arguments = ("-f", "hls.tcl", str(repository), str(_vta_config(folder)))
    return Laid(script, Tool.VITIS_HLS, "2020.1", _VTA["FPGA_DEVICE"], folder, arguments=arguments)


def vta_vivado(repository: Path, folder: Path) -> Laid:
    """The block design of four engines, whose archives Vivado HLS has written."""
    script = repository / "hardware/xilinx/scripts/vivado.tcl"
    names = ("fetch", "load", "compute", "store")
    given = tuple(f"ip/vta_{name}/soln/impl/ip/xilinx_com_hls_{name}_1_0.zip" for name in names)
    arguments = ("ip", str(_vta_config(folder)))
    return Laid(script, Tool.VIVADO, "2020.1", _VTA["FPGA_DEVICE"], folder, given, arguments)


def _hls4ml(repository: Path, folder: Path, part: str) -> None:
    """The files that hls4ml's writers put beside the scripts."""
    words = {"project_name": "myproject", "backend": "vitis", "part": part, "clock_period": "5"}
    words |= {"clock_uncertainty": "12.5%", "version": "1.0.0", "maximum_size": "4096"}
    lines = [f'variable {name}\nset {name} "{value}"\n' for name, value in words.items()]
    widths = "set bit_width_hls_output 32\nset bit_width_hls_input 32\n"
    (folder / "project.tcl").write_text("".join(lines) + widths, encoding="utf-8")
    options = {"reset": 1, "csim": 1, "synth": 1, "cosim": 0, "validation": 0, "export": 1, "vsynth": 0, "fifo_opt": 0}
    text = "".join(f"    {name} {value}\n" for name, value in options.items())
    (folder / "build_opt.tcl").write_text(f"array set opt {{\n{text}}}\n", encoding="utf-8")
    (folder / "firmware/weights").mkdir(parents=True)
    (folder / "firmware/myproject.cpp").write_text("void myproject() {}\n", encoding="utf-8")
    (folder / "myproject_test.cpp").write_text("int main() {}\n", encoding="utf-8")


def hls4ml_build(repository: Path, folder: Path) -> Laid:
    """A project of the Vitis backend, with C simulation, synthesis and export."""
    part = "xcvu13p-flga2577-2-e"
    _hls4ml(repository, folder, part)
    script = folder / "build_prj.tcl"
    shutil.copy(repository / "hls4ml/templates/vitis/build_prj.tcl", script)
    return Laid(script, Tool.VITIS_HLS, "2024.1", part, folder)


def _hls4ml_design(repository: Path, folder: Path, board: str, part: str) -> Laid:
    _hls4ml(repository, folder, part)
    component(folder / "myproject_prj/solution1/impl/ip", "xilinx.com:hls:myproject_axi:1.0")
    script = folder / "design.tcl"
    shutil.copy(repository / f"hls4ml/templates/vivado_accelerator/{board}/tcl_scripts/axi_stream_design.tcl", script)
    return Laid(script, Tool.VIVADO, "2020.1", part, folder)


def hls4ml_pynq(repository: Path, folder: Path) -> Laid:
    """The block design of the VivadoAccelerator backend for the PYNQ-Z2."""
    return _hls4ml_design(repository, folder, "pynq-z2", "xc7z020clg400-1")


def hls4ml_zcu102(repository: Path, folder: Path) -> Laid:
    """The same for the ZCU102."""
    return _hls4ml_design(repository, folder, "zcu102", "xczu9eg-ffvb1156-2-e")


def _finn(repository: Path, folder: Path, board: str, part: str) -> Laid:
    """Three partitions, filled in as make_zynq_proj.py does it: input DMA, network, output DMA."""
    module = ast.parse((repository / "src/finn/transformation/fpgadataflow/templates.py").read_text(encoding="utf-8"))
    texts = {
        target.id: str(statement.value.value)
        for statement in module.body
        if isinstance(statement, ast.Assign) and isinstance(statement.value, ast.Constant)
        for target in statement.targets
        if isinstance(target, ast.Name)
    }
    lines: list[str] = []
    names = ("idma0", "StreamingDataflowPartition_1", "odma0")
    for number, name in enumerate(names):
        vlnv = f"xilinx_finn:finn:{name}:1.0"
        component(folder / "ip" / name, vlnv)
        paths = "[concat [get_property ip_repo_paths [current_project]] [list ip/" + name + "]]"
        lines += [f"set_property ip_repo_paths {paths} [current_project]", "update_ip_catalog -rebuild -scan_changes"]
        lines.append(f"create_bd_cell -type ip -vlnv {vlnv} {name}")
        if name.endswith("dma0"):
            place = number // 2
            pins = [(f"{name}/m_axi_gmem0", f"smartconnect_0/S0{place}_AXI")]
            pins.append((f"{name}/s_axi_control_0", f"axi_interconnect_0/M0{place}_AXI"))
            lines += [f"connect_bd_intf_net [get_bd_intf_pins {a}] [get_bd_intf_pins {b}]" for a, b in pins]
            lines.append(f"assign_axi_addr_proc {name}/s_axi_control_0")
        lines.append(f"connect_bd_net [get_bd_pins {name}/ap_clk] [get_bd_pins smartconnect_0/aclk]")
        lines.append(f"connect_bd_net [get_bd_pins {name}/ap_rst_n] [get_bd_pins smartconnect_0/aresetn]")
        if number:
            streams = f"[get_bd_intf_pins {name}/s_axis_0] [get_bd_intf_pins {names[number - 1]}/m_axis_0]"
            lines.append(f"connect_bd_intf_net {streams}")
    script = folder / "ip_config.tcl"
    filled = texts["custom_zynq_shell_template"] % (100, 2, 2, board, part, "\n".join(lines) + "\n", 0)
    script.write_text(filled, encoding="utf-8")
    return Laid(script, Tool.VIVADO, "2022.2", part, folder, variables={"FINN_ROOT": str(repository)})


def finn_pynq(repository: Path, folder: Path) -> Laid:
    """FINN's project for the PYNQ-Z2."""
    return _finn(repository, folder, "Pynq-Z2", "xc7z020clg400-1")


def finn_zcu104(repository: Path, folder: Path) -> Laid:
    """FINN's project for the ZCU104."""
    return _finn(repository, folder, "ZCU104", "xczu7ev-ffvc1156-2-e")


def pynq_base(repository: Path, folder: Path) -> Laid:
    """The base overlay of the PYNQ-Z2; IPs that Vitis HLS makes first have no ports here."""
    working = folder / "boards/Pynq-Z2/base"
    working.mkdir(parents=True)
    for path in (repository / "boards/ip").rglob("component.xml"):
        target = folder / "boards/ip" / path.relative_to(repository / "boards/ip")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
    hls = ("color_convert:1.0", "pixel_pack:1.0", "pixel_unpack:1.0", "trace_cntrl_32:1.4", "trace_cntrl_64:1.4")
    for name in hls:
        component(folder / "boards/ip/hls" / name.split(":")[0], f"xilinx.com:hls:{name}")
    script = repository / "boards/Pynq-Z2/base/base.tcl"
    return Laid(script, Tool.VIVADO, "2024.1", "xc7z020clg400-1", working)


#: Repository, path of the script in it, who lays it out.
SCRIPTS: tuple[tuple[str, str, Callable[[Path, Path], Laid]], ...] = (
    ("finn", "src/finn/transformation/fpgadataflow/templates.py", finn_pynq),
    ("finn", "src/finn/transformation/fpgadataflow/templates.py", finn_zcu104),
    ("tvm-vta", "hardware/xilinx/scripts/hls.tcl", vta_hls),
    ("tvm-vta", "hardware/xilinx/scripts/vivado.tcl", vta_vivado),
    ("hls4ml", "hls4ml/templates/vitis/build_prj.tcl", hls4ml_build),
    ("hls4ml", "hls4ml/templates/vivado_accelerator/pynq-z2/tcl_scripts/axi_stream_design.tcl", hls4ml_pynq),
    ("hls4ml", "hls4ml/templates/vivado_accelerator/zcu102/tcl_scripts/axi_stream_design.tcl", hls4ml_zcu102),
    ("PYNQ", "boards/Pynq-Z2/base/base.tcl", pynq_base),
)
