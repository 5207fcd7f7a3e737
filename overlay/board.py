# SPDX-License-Identifier: Apache-2.0
"""A board: part, resources, ports and DRAM, one data file each in ``boards/`` (docs/boards.md)."""

import functools
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hetfab.overlay.archives import LARGEST_JSON_BYTES, read_limited
from hetfab.overlay.errors import DesignInvalidError, why_unreadable
from hetfab.overlay.json_schema import schema_problems

_FOLDER = Path(__file__).parent / "boards"
_SCHEMA = _FOLDER / "schema.json"
#: What Zynq-7000 images have.
_SMALLEST_CONTIGUOUS_BYTES = 128 << 20


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
        dram_low_bytes: What of it lies at address 0 without a gap, where the overlay's buffers are.
        dram_bytes_per_second: Peak rate of the DRAM.
        contiguous_bytes: What the board's Linux reserves for contiguous memory (CMA); None where it is not known.
        clock_source_mhz: The PLL that fabric clocks are divided from.
        cpu_ratio: Time of a thread on its processor over that on the machine of ``restructure/prices.json``.
        pynq: Releases of pynq that load overlays on it.
        jtag: What openFPGALoader calls it, None where it has no name for it.
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
    dram_low_bytes: int
    dram_bytes_per_second: float
    contiguous_bytes: int | None
    clock_source_mhz: float
    cpu_ratio: float
    pynq: tuple[str, ...]
    jtag: str | None = None

    @property
    def assumed_contiguous_bytes(self) -> int:
        """What to count on: where the file does not know the CMA, as much as the smallest board has."""
        return self.contiguous_bytes or _SMALLEST_CONTIGUOUS_BYTES


def board_names() -> list[str]:
    """Names of all boards."""
    return sorted(path.stem for path in _FOLDER.glob("*.json") if path != _SCHEMA)


@functools.cache
def board_schema() -> dict[str, Any]:
    """The JSON schema of a board's file."""
    schema: dict[str, Any] = json.loads(_SCHEMA.read_text(encoding="utf-8"))
    return schema


def read_board(name: str) -> Board:
    """Reads a board's file.

    Raises:
        DesignInvalidError: There is no such board, or its file breaks the schema.
    """
    if name not in board_names():
        raise DesignInvalidError(
            f"there is no board '{name}'", "one of " + ", ".join(board_names()), "correct 'board' in the design file"
        )
    return read_board_file(_FOLDER / f"{name}.json")


def read_board_file(path: Path) -> Board:
    """Reads a board from a file of the user's own.

    Raises:
        DesignInvalidError: The file is unreadable or breaks ``boards/schema.json``; each field is named.
    """
    try:
        table = json.loads(read_limited(path, LARGEST_JSON_BYTES).decode("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise DesignInvalidError(
            f"cannot read the board '{path}': {why_unreadable(error)}",
            "a JSON file as in overlay/boards",
            "correct the file",
        ) from error
    problems = list(schema_problems(table, board_schema()))
    if problems:
        raise DesignInvalidError(
            f"the board '{path}' cannot be used: "
            + "; ".join(f"{field or 'the file'} is {found}" for field, found, _ in problems),
            "; ".join(f"{field or 'the file'}: {expected}" for field, _, expected in problems),
            "correct the file; overlay/boards/schema.json says what each field may be",
        )
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
        dram_low_bytes=table["dram"]["low_bytes"],
        dram_bytes_per_second=table["dram"]["bytes_per_second"],
        contiguous_bytes=table["dram"]["contiguous_bytes"],
        clock_source_mhz=table["clock_source_mhz"],
        cpu_ratio=table["cpu_ratio"],
        pynq=tuple(table["pynq"]),
        jtag=table.get("jtag"),
    )
