# SPDX-License-Identifier: Apache-2.0
"""The machine that the timeline simulator times: constants of DISPATCH and DRAM in cycles of one clock.

They are those of ``constants.json``, and in their place those that ``hetfab calibrate`` has measured on the design's
board, from a file of the user's (docs/calibrate.md).
"""

import dataclasses
import functools
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from hetfab.overlay.board import read_board
from hetfab.overlay.costs.bursts import BURSTS_AHEAD, ROW_BEATS_AHEAD, ROWS_AHEAD
from hetfab.overlay.design import Design
from hetfab.overlay.errors import ConstantsInvalidError, why_unreadable
from hetfab.overlay.files import make_folder, write_atomic
from hetfab.overlay.isa.spec import isa

#: Environment variable that names another file of measured constants.
CONSTANTS_VARIABLE = "HETFAB_CONSTANTS"
#: DRAM rate at which results are compared with other accelerators, in bytes per cycle.
COMPARISON_RATE = 8.0


@dataclass(frozen=True)
class Constant:
    """A constant of the timing model and where it comes from."""

    name: str
    value: float
    unit: str
    origin: str


@functools.cache
def constants() -> dict[str, Constant]:
    """All constants by name, as they are where none was measured."""
    table = json.loads((Path(__file__).parent / "constants.json").read_text(encoding="utf-8"))
    return {entry["name"]: Constant(**entry) for entry in table}


def constants_file() -> Path:
    """The file of measured constants: ``$HETFAB_CONSTANTS``, or one in the user's folder of settings."""
    settings = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
    return Path(os.environ.get(CONSTANTS_VARIABLE) or Path(settings) / "hetfab" / "constants.json")


def measured_constants(board: str) -> dict[str, Constant]:
    """Constants that were measured on a board, by name; none where the file is not there.

    Raises:
        ConstantsInvalidError: The file is damaged.
    """
    return {constant.name: constant for constant in read_measured(constants_file()).get(board, ())}


def save_measured(path: Path, board: str, found: Sequence[Constant]) -> None:
    """Writes constants that were measured on a board, in place of those of that board that a file has.

    Raises:
        ConstantsInvalidError: The file is there and damaged.
        OutputUnwritableError: It cannot be written.
    """
    table = read_measured(path) | {board: tuple(found)}
    content = {name: [dataclasses.asdict(constant) for constant in entries] for name, entries in table.items()}
    make_folder(path.parent)
    text = json.dumps(content, indent=1) + "\n"

    def write(file: BinaryIO) -> None:
        file.write(text.encode())

    write_atomic(path, write)


def read_measured(path: Path) -> dict[str, tuple[Constant, ...]]:
    """The constants of each board in a file, none where there is no file.

    Raises:
        ConstantsInvalidError: The file is damaged.
    """
    if not path.is_file():
        return {}
    try:
        table = json.loads(path.read_text(encoding="utf-8"))
        found = {board: tuple(_checked(entry) for entry in entries) for board, entries in table.items()}
    except (OSError, ValueError, TypeError, AttributeError, RecursionError) as error:
        raise ConstantsInvalidError(
            f"cannot read the measured constants '{path}': {why_unreadable(error)}",
            "a file that `hetfab calibrate` wrote",
            "delete it and calibrate again",
        ) from error
    return found


def _checked(entry: dict[str, object]) -> Constant:
    constant = Constant(**entry)  # type: ignore[arg-type]
    if constant.name not in constants() or constant.unit != constants()[constant.name].unit:
        raise ValueError(f"'{constant.name}' in '{constant.unit}' is no constant of the timing model")
    if not isinstance(constant.value, int | float) or not 0 <= constant.value < float("inf"):
        raise ValueError(f"'{constant.name}' is {constant.value!r}, no number of at least 0")
    return constant


def origin_text(board: str) -> str:
    """Which constants of a board were measured, and where, in words; empty where none was."""
    found = measured_constants(board)
    origins = sorted({constant.origin for constant in found.values()})
    return f"{', '.join(sorted(found))}: {'; '.join(origins)}" if found else ""


@dataclass(frozen=True)
class Machine:
    """Everything that time depends on beside the bound stream and its run log.

    Attributes:
        clock_mhz: Clock of all engines.
        queue_depth: Instructions that DISPATCH queues per engine.
        engine_fifo_depth: Instructions issued to an engine and not yet done.
        rows_fifo_words: Words that SGB may be ahead of AGG.
        start_cycles: From the start register's write to DISPATCH's first fetch.
        queue_cycles: Between two instructions that DISPATCH queues.
        pass_cycles: A turn of each engine: between two instructions that DISPATCH issues to one of them.
        fetch_instructions: Instructions of one fetch.
        fetch_cycles: Cycles that a fetch's data takes.
        issue_cycles: From DISPATCH's issue to the engine's start.
        token_cycles: From an engine's end to DISPATCH's use of its signals.
        read_latency: Cycles from a read request to its first beat.
        write_latency: Cycles from the last beat of a write to its response.
        bursts_ahead: Bursts that a port requests ahead.
        rows_ahead: Rows that AGG requests ahead at most.
        row_beats_ahead: Beats of these rows at most, unless one row has more.
        port_rate: Bytes per cycle of one AXI port.
        dram_rate: Bytes per cycle of the DRAM controller, for all ports together.
    """

    clock_mhz: float
    queue_depth: int
    engine_fifo_depth: int
    rows_fifo_words: int
    start_cycles: float
    queue_cycles: float
    pass_cycles: float
    fetch_instructions: int
    fetch_cycles: float
    issue_cycles: float
    token_cycles: float
    read_latency: float
    write_latency: float
    bursts_ahead: int
    rows_ahead: int
    row_beats_ahead: int
    port_rate: float
    dram_rate: float


def machine(
    design: Design, *, dram_rate: float | None = None, replaced: Mapping[str, Constant] | None = None
) -> Machine:
    """The machine of a design on its board.

    Args:
        design: The design.
        dram_rate: Bytes per cycle instead of the board's rate, such as ``COMPARISON_RATE``.
        replaced: Constants in place of those that were measured on the board.

    Raises:
        DesignInvalidError: There is no such board.
        ConstantsInvalidError: The file of measured constants is damaged.
    """
    board = read_board(design.board)
    measured = measured_constants(design.board) if replaced is None else replaced
    value = {name: constant.value for name, constant in {**constants(), **measured}.items()}
    cycles_per_ns = design.clock_mhz / 1e3
    absent = len(isa().engines) - len(design.geometry.engines)
    round_of_turns = len(design.geometry.engines) * value["turn_cycles"] + absent * value["absent_turn_cycles"]
    sustained = board.dram_bytes_per_second * value["dram_efficiency"] / (design.clock_mhz * 1e6)
    return Machine(
        clock_mhz=design.clock_mhz,
        queue_depth=design.geometry.queue_depth,
        engine_fifo_depth=design.geometry.engine_fifo_depth,
        rows_fifo_words=design.geometry.rows_fifo_words,
        start_cycles=value["start_cycles"],
        queue_cycles=value["queue_cycles"],
        pass_cycles=round_of_turns,
        fetch_instructions=int(value["fetch_instructions"]),
        fetch_cycles=value["fetch_cycles"],
        issue_cycles=value["issue_cycles"],
        # On average the signaller's turn and the waiter's are together a round away.
        token_cycles=value["retire_cycles"] + round_of_turns,
        read_latency=value["read_latency_ns"] * cycles_per_ns,
        write_latency=value["write_latency_ns"] * cycles_per_ns,
        bursts_ahead=BURSTS_AHEAD,
        rows_ahead=ROWS_AHEAD,
        row_beats_ahead=ROW_BEATS_AHEAD,
        port_rate=board.port_bits / 8,
        dram_rate=sustained if dram_rate is None else dram_rate,
    )
