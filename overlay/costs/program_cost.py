# SPDX-License-Identifier: Apache-2.0
"""Costs of a whole bound stream: the run log that the emulator will write, computed without running it."""

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from hetfab.overlay.bind import BoundProgram
from hetfab.overlay.costs.attention import attend_costs
from hetfab.overlay.costs.cycles import COSTS, Cost, reduce_cost, stage_cost
from hetfab.overlay.costs.gathers import AggInstructions, Tags, gathers
from hetfab.overlay.costs.kept_counts import kept_counts
from hetfab.overlay.dense_stages import Stage
from hetfab.overlay.design import Geometry
from hetfab.overlay.errors import StreamInvalidError
from hetfab.overlay.isa.codec import AttendKind, Segment
from hetfab.overlay.isa.spec import Field, Operation, isa
from hetfab.overlay.program import Words
from hetfab.overlay.run_log import RUN_LOG_DTYPE

Array: TypeAlias = npt.NDArray[Any]

#: Contexts of the operations whose costs depend on one.
_CONTEXTS = {
    "reduce": ("features", "destinations", "ids", "spilled"),
    "attend": ("features", "destinations", "ids", "spilled", "sources", "targets", "types"),
    "load_lines": ("lines",),
    "load_windows": ("windows",),
    "pool_max": ("pool",),
    "pool_average": ("pool",),
}
#: Operations whose costs depend on what other instructions write: the module that has their costs, by the engine.
_OF_GRAPHS: dict[str, tuple[tuple[str, ...], str]] = {
    "sgb": (("compose", "widen", "transpose"), "graphs"),
    "rst": (("match", "walk", "recouple", "grow_tiles"), "restructuring"),
}
#: Those that the field 'scores' names, as 'slot' names the others.
_OF_SCORES = ("sources", "targets", "types")


def expected_log(bound: BoundProgram, *, tags: type[Tags] = Tags) -> Array:
    """The run log of a bound program, by the cost functions.

    Args:
        bound: The program.
        tags: Those of AGG's scratchpad, or what bounds them.

    Returns:
        Records with ``RUN_LOG_DTYPE``; cycles are modelled, all other counts exact.

    Raises:
        StreamInvalidError: An instruction uses a context that was not configured.
    """
    design = bound.program.design
    log = expected_records(bound.words, bound.contents[Segment.GRAPH], design.geometry, design.stages, tags)
    log["layer"] = bound.layers
    return log


def expected_records(
    words: Words,
    graph: npt.NDArray[np.uint8],
    geometry: Geometry,
    stages: Sequence[Stage] = (),
    tags: type[Tags] = Tags,
) -> Array:
    """The run log of a stream as the overlay writes it, without layers.

    Args:
        words: uint64 [n, 2], the stream.
        graph: Content of the segment that holds destinations and ids.
        geometry: The overlay's.
        stages: Its dense stages with fixed weights.
        tags: As for ``expected_log``.

    Raises:
        StreamInvalidError: As ``expected_log``.
    """
    log = np.zeros(len(words), RUN_LOG_DTYPE)
    log["index"] = np.arange(len(words))
    log["engine"] = field_values(words, isa().header_field("engine"))
    log["opcode"] = field_values(words, isa().header_field("opcode"))
    for operation in isa().operations:
        chosen = operation_rows(words, operation)
        if len(chosen):
            _fill(log, chosen, _cost_of(words, graph, geometry, operation, chosen, tags))
    if stages:
        _fill_stages(log, words, geometry, stages)
    return log


def _fill_stages(log: Array, words: Words, geometry: Geometry, stages: Sequence[Stage]) -> None:
    """The records of matmuls whose weights are a stage's."""
    matmul = isa().operation("matmul")
    rows = operation_rows(words, matmul)
    rows = rows[operation_fields(words, matmul, rows)["wgt"] >= geometry.wgt_d_words]
    if len(rows):
        _fill(log, rows, stage_cost(operation_fields(words, matmul, rows), geometry, stages))


def additions(words: Words, log: Array, geometry: Geometry) -> int:
    """Channels of gathered rows that AGG adds in a stream with this run log, padding included."""
    reduce = isa().operation("reduce")
    rows = operation_rows(words, reduce)
    groups = operation_fields(words, reduce, rows)["groups"]
    return int((log["edges"][rows].astype(np.int64) * groups).sum()) * geometry.lanes


def field_values(words: Words, field: Field) -> Array:
    """A field of every instruction, int64 [n]."""
    half, shift = divmod(field.lsb, 64)
    return ((words[:, half] >> np.uint64(shift)) & np.uint64(field.largest)).astype(np.int64)


def operation_rows(words: Words, operation: Operation) -> Array:
    """Indices of the instructions of an operation."""
    opcodes = field_values(words, isa().header_field("opcode"))
    chosen = opcodes == operation.opcode
    if operation.engine != "*":
        engines = field_values(words, isa().header_field("engine"))
        chosen &= engines == isa().engine(operation.engine).id
    return np.flatnonzero(chosen)


def operation_fields(words: Words, operation: Operation, rows: Array) -> dict[str, Array]:
    """Header and own fields of some instructions of an operation, int64 [n] by name."""
    return {field.name: field_values(words[rows], field) for field in (*isa().header, *operation.fields)}


def _cost_of(
    words: Words,
    graph: npt.NDArray[np.uint8],
    geometry: Geometry,
    operation: Operation,
    rows: Array,
    tags: type[Tags],
) -> Cost:
    of_graphs, module = _OF_GRAPHS.get(operation.engine, ((), ""))
    if operation.name in of_graphs:
        raise StreamInvalidError(
            f"instruction {rows[0]} is a '{operation.name}', whose cost depends on what other instructions write",
            f"a stream without {' and '.join((', '.join(of_graphs[:-1]), of_graphs[-1]))}",
            f"use hetfab.overlay.costs.{module} with the graphs",
        )
    fields = operation_fields(words, operation, rows)
    if operation.name == "reduce" and np.any(fields["from_fifo"]):
        raise StreamInvalidError(
            f"instruction {rows[fields['from_fifo'] > 0][0]} is a 'reduce' of rows that another instruction makes",
            "a stream whose rows are all in the graph segment",
            "use hetfab.overlay.costs.fifo_rows with the rows",
        )
    for prefix in _CONTEXTS.get(operation.name, ()):
        fields |= _context(words, operation, rows, _slots(fields, prefix), prefix)
    if operation.name in ("reduce", "attend"):
        configure = isa().operation("configure_features")
        cleared = operation_rows(words, configure)
        clears = operation_fields(words, configure, cleared)
        given = AggInstructions(fields, graph, geometry, rows, clears, cleared, tags)
        if operation.name == "attend":
            return kept_counts(attend_costs, given)
        return reduce_cost(fields, kept_counts(gathers, given), geometry)
    return COSTS[operation.name](fields, geometry)


def _slots(fields: dict[str, Array], prefix: str) -> Array:
    """The slot of a context that each instruction names; -1 where it needs none."""
    name = "scores" if prefix in _OF_SCORES else "slot"
    slots = fields.get(name, np.zeros(len(fields["engine"]), np.int64))
    needed = np.ones(len(slots), bool)
    if prefix == "spilled":
        # Only sums that are merged or spilled need an array of them, and sums by maxima that are spilled.
        needed = (fields["merge"] | fields["spill"]) != 0
        needed |= fields["maxima"] == 0 if "maxima" in fields else False
    elif prefix == "types":
        needed = fields["kind"] == AttendKind.TYPED
    return np.where(needed, slots, -1)


def _context(words: Words, user: Operation, rows: Array, slots: Array, prefix: str) -> dict[str, Array]:
    """The configured fields that instructions find in their slot: those of the last configure before each.

    A slot of -1 stands for none, whose fields are zero.
    """
    operation = isa().operation(f"configure_{prefix}")
    configures = operation_rows(words, operation)
    own = operation_fields(words, operation, configures)
    own_slots = own.get("scores" if prefix in _OF_SCORES else "slot", np.zeros(len(configures), np.int64))
    found = {f"{prefix}.{field.name}": np.zeros(len(rows), np.int64) for field in operation.fields}
    for slot in np.unique(slots[slots >= 0]):
        users = np.flatnonzero(slots == slot)
        of_slot = np.flatnonzero(own_slots == slot)
        places = np.searchsorted(configures[of_slot], rows[users]) - 1
        if np.any(places < 0):
            raise _unconfigured(int(rows[users][places < 0][0]), user, int(slot), operation)
        last = of_slot[places]
        for field in operation.fields:
            found[f"{prefix}.{field.name}"][users] = own[field.name][last]
    return found


def _unconfigured(index: int, user: Operation, slot: int, configure: Operation) -> StreamInvalidError:
    where = f"slot {slot}" if any(field.name in ("slot", "scores") for field in configure.fields) else "a context"
    return StreamInvalidError(
        f"instruction {index} is a '{user.name}' with {where}, for which no '{configure.name}' came before",
        "a stream that configures a context before it uses it",
        "report this: the compiler wrote a wrong program",
    )


def _fill(log: Array, rows: Array, cost: Cost) -> None:
    for name in ("cycles", "read_bytes", "read_bursts", "write_bytes", "write_bursts", "macs", "edges", "misses"):
        log[name][rows] = getattr(cost, name)
