# SPDX-License-Identifier: Apache-2.0
"""A board: part, resources, ports and DRAM, one data file each in ``boards/``."""

import json
from dataclasses import dataclass
from pathlib import Path

from hetfab.overlay.errors import DesignInvalidError

_FOLDER = Path(__file__).parent / "boards"


@dataclass(frozen=True)
class Board:
    """What a design must fit and what its time depends on.

    Attributes:
        name: Name of the file.
        part: The FPGA.
        family: ``zynq-7000`` or ``zynq-ultrascale+``.
        resources: Units of ``lut``, ``ff``, ``dsp``, ``bram36`` and ``uram``.
        dsp: Primitive, ``dsp48e1`` or ``dsp48e2``.
        ports: AXI ports to DRAM.
        port_bits: Width of a port.
        axi_version: Of these ports, 3 or 4.
        dram_bytes: Size of the DRAM.
        dram_bytes_per_second: Peak rate of the DRAM.
        contiguous_bytes: What the board's Linux reserves for contiguous memory (CMA).
        clock_source_mhz: The PLL that fabric clocks are divided from.
        pynq: Releases of pynq that load overlays on it.
    """

    name: str
    part: str
    family: str
    resources: dict[str, int]
    dsp: str
    ports: int
    port_bits: int
    axi_version: int
    dram_bytes: int
    dram_bytes_per_second: float
    contiguous_bytes: int
    clock_source_mhz: float
    pynq: tuple[str, ...]


def board_names() -> list[str]:
    """Names of all boards."""
    return sorted(path.stem for path in _FOLDER.glob("*.json"))


def read_board(name: str) -> Board:
    """Reads a board's file.

    Raises:
        DesignInvalidError: There is no such board.
    """
    if name not in board_names():
        raise DesignInvalidError(
            f"there is no board '{name}'", "one of " + ", ".join(board_names()), "correct 'board' in the design file"
        )
    table = json.loads((_FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    return Board(
        name=table["name"],
        part=table["part"],
        family=table["family"],
        resources=table["resources"],
        dsp=table["dsp"],
        ports=table["axi"]["ports"],
        port_bits=table["axi"]["data_bits"],
        axi_version=table["axi"]["version"],
        dram_bytes=table["dram"]["bytes"],
        dram_bytes_per_second=table["dram"]["bytes_per_second"],
        contiguous_bytes=table["dram"]["contiguous_bytes"],
        clock_source_mhz=table["clock_source_mhz"],
        pynq=tuple(table["pynq"]),
    )
