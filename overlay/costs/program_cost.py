# SPDX-License-Identifier: Apache-2.0
"""Costs of a whole bound stream: the run log that the emulator will write, computed without running it."""

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from hetfab.overlay.bind import BoundProgram
from hetfab.overlay.costs.cycles import COSTS, Cost, Gather, feature_bursts, reduce_cost
from hetfab.overlay.design import Geometry
from hetfab.overlay.errors import StreamInvalidError
from hetfab.overlay.isa.codec import Segment
from hetfab.overlay.isa.spec import Field, Operation, isa
from hetfab.overlay.program import Words
from hetfab.overlay.run_log import RUN_LOG_DTYPE

Array: TypeAlias = npt.NDArray[Any]

_RECORD = isa().record("destination")
#: Contexts of the operations whose costs depend on one.
_CONTEXTS = {"reduce": ("features", "destinations", "ids"), "load_lines": ("lines",), "load_windows": ("windows",)}


def expected_log(bound: BoundProgram) -> Array:
    """The run log of a bound program, by the cost functions.

    Returns:
        Records with ``RUN_LOG_DTYPE``; cycles are modelled, all other counts exact.

    Raises:
        StreamInvalidError: An instruction uses a slot that was not configured.
    """
    log = expected_records(bound.words, bound.contents[Segment.GRAPH], bound.program.design.geometry)
    log["layer"] = bound.layers
    return log


def expected_records(words: Words, graph: npt.NDArray[np.uint8], geometry: Geometry) -> Array:
    """The run log of a stream as the overlay writes it, without layers.

    Args:
        words: uint64 [n, 2], the stream.
        graph: Content of the segment that holds destinations and ids.
        geometry: The overlay's.

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
            _fill(log, chosen, _cost_of(words, graph, geometry, operation, chosen))
    return log


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


def _cost_of(words: Words, graph: npt.NDArray[np.uint8], geometry: Geometry, operation: Operation, rows: Array) -> Cost:
    if operation.name in ("compose", "transpose"):
        raise StreamInvalidError(
            f"instruction {rows[0]} is a '{operation.name}', whose cost depends on what other instructions write",
            "a stream without instructions of SGB that build graphs",
            "use hetfab.overlay.costs.graphs with the graphs",
        )
    fields = operation_fields(words, operation, rows)
    if operation.name in _CONTEXTS:
        fields |= _contexts(words, rows, fields["slot"], operation.name)
    if operation.name == "reduce":
        return reduce_cost(fields, _gather(graph, fields))
    return COSTS[operation.name](fields, geometry)


def _contexts(words: Words, rows: Array, slots: Array, user: str) -> dict[str, Array]:
    """The configured fields that each user finds in its slot: those of the last configure before it."""
    found: dict[str, Array] = {}
    for prefix in _CONTEXTS[user]:
        operation = isa().operation(f"configure_{prefix}")
        configures = operation_rows(words, operation)
        own = operation_fields(words, operation, configures)
        for field in operation.fields:
            found[f"{prefix}.{field.name}"] = np.zeros(len(rows), np.int64)
        for slot in np.unique(slots):
            users = np.flatnonzero(slots == slot)
            of_slot = np.flatnonzero(own["slot"] == slot)
            places = np.searchsorted(configures[of_slot], rows[users]) - 1
            if np.any(places < 0):
                raise _unconfigured(int(rows[users][places < 0][0]), int(slot), user, operation.name)
            last = of_slot[places]
            for field in operation.fields:
                found[f"{prefix}.{field.name}"][users] = own[field.name][last]
    return found


def _unconfigured(index: int, slot: int, user: str, name: str) -> StreamInvalidError:
    return StreamInvalidError(
        f"instruction {index} is a '{user}' with slot {slot}, for which no '{name}' came before",
        "a stream that configures a slot before it uses it",
        "report this: the compiler wrote a wrong program",
    )


def _gather(graph: npt.NDArray[np.uint8], fields: dict[str, Array]) -> Gather:
    count = len(fields["rows"])
    edges, empty, first_edge, bursts = (np.zeros(count, np.int64) for _ in range(4))
    for i in range(count):
        start = _offset(fields["destinations.address"][i]) + _RECORD.bytes * int(fields["destination"][i])
        records = graph[start : start + _RECORD.bytes * int(fields["rows"][i])].view(_RECORD.dtype)
        if not len(records) or not fields["groups"][i]:
            continue
        degrees = records["degree"].astype(np.int64)
        edges[i], empty[i], first_edge[i] = degrees.sum(), np.count_nonzero(degrees == 0), records["first"][0]
        id_bytes = int(fields["ids.id_bytes"][i])
        place = _offset(fields["ids.address"][i]) + id_bytes * int(first_edge[i])
        ids = graph[place : place + id_bytes * int(edges[i])].view(f"<u{id_bytes}").astype(np.int64)
        address = _offset(fields["features.address"][i]) + ids * isa().block_bytes * int(
            fields["features.row_blocks"][i]
        )
        bursts[i] = feature_bursts(address, int(fields["groups"][i])).sum()
    return Gather(edges, empty, first_edge, bursts)


def _offset(address: Array) -> int:
    """Offset in the segment; segments begin at page boundaries, so alignments are those of physical addresses."""
    return int(address) & ((1 << isa().offset_bits) - 1)


def _fill(log: Array, rows: Array, cost: Cost) -> None:
    for name in ("cycles", "read_bytes", "read_bursts", "write_bytes", "write_bursts", "macs", "edges"):
        log[name][rows] = getattr(cost, name)
