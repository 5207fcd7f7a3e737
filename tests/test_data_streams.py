# SPDX-License-Identifier: Apache-2.0
"""Rows that one engine sends to another: which programs may do it, and how the timeline times it.

No operation of this version takes rows by itself, so STORE stands in for the reader.
"""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hetfab.overlay import order
from hetfab.overlay.data_streams import stream_rows
from hetfab.overlay.design import default_design
from hetfab.overlay.errors import StreamInvalidError
from hetfab.overlay.isa import codec
from hetfab.overlay.isa.codec import Engine
from hetfab.overlay.isa.spec import isa
from hetfab.overlay.isa.words import pack
from hetfab.overlay.order import check_order
from hetfab.overlay.run_log import RUN_LOG_DTYPE
from hetfab.overlay.timeline import simulate as timeline
from hetfab.overlay.timeline.machine import Machine, machine
from hetfab.overlay.timeline.simulate import Timeline, simulate
from tests.streams import machines

RULE = "the rows of a sender taken after it in program order, before anything depends on its end"


def send(rows: int, **header: int) -> int:
    return codec.compose(to_fifo=1, edges=0, rows=rows, address=0, **header)


def take(rows: int, **header: int) -> int:
    return codec.store_rows(ram=0, rows=rows, row_beats=0, stride_blocks=0, address=0, **header)


def vec(**header: int) -> int:
    return codec.sync(engine=Engine.VEC, **header)


#: The instruction set where STORE takes rows.
TABLE = replace(isa(), streams=(replace(isa().stream("rows_fifo"), taken={"store_rows": "rows"}),))


@pytest.fixture(scope="module", autouse=True)
def table() -> Iterator[None]:
    """Order and timeline see it."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (order, timeline):
            patch.setattr(module, "isa", lambda: TABLE)
        yield


def test_rows_are_those_of_the_fields() -> None:
    words = pack([send(7), codec.compose(to_fifo=0, edges=0, rows=9, address=0), take(3), vec(), take(4)])
    sent, taken = stream_rows(words, TABLE, TABLE.stream("rows_fifo"))
    assert sent.tolist() == [7, 0, 0, 0, 0]
    assert taken.tolist() == [0, 0, 3, 0, 4]


@pytest.mark.parametrize(
    "words",
    [
        [send(7), take(3), vec(signal0=3), take(4, wait0=3), send(2), take(2)],
        [vec(signal0=1), send(7, wait0=1, signal0=2), take(7), vec(wait0=2)],
        [send(5), take(5, signal0=4), send(5, wait0=4), take(5)],
        [codec.compose(to_fifo=0, edges=0, rows=9, address=0), vec()],
    ],
)
def test_rows_taken_while_their_sender_runs_pass(words: list[int]) -> None:
    check_order(pack(words))


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ([take(3), send(3)], "instruction 0 takes 3 rows from rows_fifo, which has 0"),
        ([send(3), take(4)], "instruction 1 takes 4 rows from rows_fifo, which has 3"),
        ([send(3), take(2)], "1 rows that instruction 0 sends to rows_fifo are not taken"),
        (
            [send(3, signal0=1), take(3, wait0=1)],
            "instruction 1 depends on the end of instruction 0, of whose rows in rows_fifo 3 are not taken yet",
        ),
        (
            [send(3, signal0=1), vec(wait0=1, signal0=2), take(3, wait0=2)],
            "instruction 1 depends on the end of instruction 0, of whose rows in rows_fifo 3 are not taken yet",
        ),
        (
            [send(3), take(2), codec.configure_left(edges=0, rows=0, address=0), take(1)],
            "instruction 2 depends on the end of instruction 0, of whose rows in rows_fifo 1 are not taken yet",
        ),
        (
            [vec(signal0=1), send(3, wait0=1, signal0=2), take(2), vec(wait0=2), take(1)],
            "instruction 3 depends on the end of instruction 1, of whose rows in rows_fifo 1 are not taken yet",
        ),
    ],
)
def test_rows_that_could_hang_are_refused(words: list[int], found: str) -> None:
    with pytest.raises(StreamInvalidError) as caught:
        check_order(pack(words))
    assert caught.value.args == (found, RULE, "report this: the compiler wrote a wrong program")


def timed(on: Machine, send_cycles: int, takes: list[tuple[int, int, int]]) -> Timeline:
    """A sender, and readers of so many rows, ids and cycles."""
    words = pack([send(sum(rows for rows, _, _ in takes)), *(take(rows) for rows, _, _ in takes)])
    log = np.zeros(len(words), RUN_LOG_DTYPE)
    log["engine"] = [Engine.SGB] + [Engine.STORE] * len(takes)
    log["cycles"] = [send_cycles, *(cycles for _, _, cycles in takes)]
    log["edges"] = [0, *(ids for _, ids, _ in takes)]
    return simulate(words, log, on)


readers = st.lists(st.tuples(st.integers(1, 40), st.integers(0, 900), st.integers(6, 400)), min_size=1, max_size=6)


@given(machines, st.integers(6, 4000), readers)
def test_readers_run_beside_their_sender(on: Machine, cycles: int, takes: list[tuple[int, int, int]]) -> None:
    """None ends before its rows are made, the sender not before it made them, and a deeper FIFO never costs."""
    found = timed(on, cycles, takes)
    made = found.starts[0] + cycles * np.cumsum([rows for rows, _, _ in takes]) / sum(rows for rows, _, _ in takes)
    assert np.all(found.ends[1:] >= made - 1e-6)
    assert found.ends[0] >= found.starts[0] + cycles
    assert timed(replace(on, rows_fifo_words=10**6), cycles, takes).total_cycles <= found.total_cycles + 1e-6


def test_a_late_reader_holds_its_sender_up() -> None:
    on = replace(machine(default_design()), rows_fifo_words=100)
    late = pack([vec(signal0=3), send(1), take(1, wait0=3)])
    log = np.zeros(3, RUN_LOG_DTYPE)
    log["engine"] = [Engine.VEC, Engine.SGB, Engine.STORE]
    log["cycles"], log["edges"] = [5000, 1000, 10], [0, 0, 399]
    found = simulate(late, log, on)
    # Of 400 words 100 are in the FIFO when the reader begins; the other 300 take 3 quarters of the sender's cycles.
    assert found.ends[1] == found.ends[2] == found.starts[2] + 750
    assert simulate(late, log, replace(on, rows_fifo_words=400)).ends[1] == found.starts[1] + 1000
