# SPDX-License-Identifier: Apache-2.0
"""Directives are read as the tool reads them, and the table of them names an origin for each entry."""

import pytest

from hetfab.hls.lint import pragmas
from hetfab.hls.lint.directives import read_directives, split_options
from hetfab.hls.lint.findings import Scope
from hetfab.hls.lint.program import Program

#: Idioms of public examples, each in a place of its own.
IDIOMS = """
template <int PIPE, int N>
void filter(int* in, int coefficients[N], int out[N]) {
#pragma HLS INTERFACE s_axilite port=return autorestart
#pragma HLS interface mode = m_axi port = in bundle = memory depth = N * (N + 1)
#pragma HLS INTERFACE m_axi port=coefficients, out offset=slave // two ports
#pragma HLS if (PIPE == 0) pipeline off
#pragma HLS IF (PIPE != 0) PIPELINE II=PIPE
    int buffer[N][N];
#pragma HLS ARRAY_PARTITION variable = buffer complete dim=2
#pragma HLS allocation instances = scale<N> limit = N / 2 function
#pragma HLS performance target_ti=1.5 unit=sec
Rows:
    for (int row = 0; row < N; ++row) {
#pragma HLS loop_tripcount min = N - 1 max = N * 4 \\
    avg = (N + 1) / 2
#pragma HLS array_stencil variable=in
#pragma HLS UNROLL skip_exit_check factor = N / 4
        if (N > 2) {
#pragma HLS latency min=1 max=1
            out[row] = coefficients[row] + buffer[row][0];
        }
    }
}
struct Window {
    Window() {
#pragma HLS ARRAY_PARTITION variable=this->values complete
#pragma HLS UNROLL region
    }
    int values[4];
};
"""


@pytest.mark.parametrize(
    ("body", "name", "options"),
    [
        ("PIPELINE II=1 rewind", "pipeline", [("ii", "1"), ("rewind", None)]),
        ("loop_tripcount min = N * 2 max = M", "loop_tripcount", [("min", "N * 2"), ("max", "M")]),
        ("loop_tripcount max = (A + B) / 2 min=1", "loop_tripcount", [("max", "(A + B) / 2"), ("min", "1")]),
        ("if (A == 1) unroll factor = F", "unroll", [("factor", "F")]),
        ("if (f(A)) unroll", "unroll", []),
        ("STREAM variable = s depth = 2 type=fifo", "stream", [("variable", "s"), ("depth", "2"), ("type", "fifo")]),
        ("STABLE variable=a, b", "stable", [("variable", "a, b")]),
        (
            "allocation instances=f<A> limit = A::n function",
            "allocation",
            [("instances", "f<A>"), ("limit", "A::n"), ("function", None)],
        ),
        ("", "", []),
    ],
)
def test_options_are_split(body: str, name: str, options: list[tuple[str, str | None]]) -> None:
    assert split_options(body) == (name, tuple(options))


def found(text: str) -> list[str]:
    """What the rules about directives find, those of any HLS code."""
    directives = read_directives("file.cpp", text.encode())
    program = Program({}, [], directives, ["file.cpp"], [])
    rules = [rule for rule in pragmas.RULES if rule.scope is Scope.ANY]
    return [f"{rule.id} {place.line}: {place.text}" for rule in rules for place in rule.check(program)]


def test_public_idioms_pass() -> None:
    assert len(read_directives("file.cpp", IDIOMS.encode())) == IDIOMS.count("#pragma HLS") == 14
    assert found(IDIOMS) == []


@pytest.mark.parametrize(
    ("old", "new", "finding"),
    [
        ("autorestart", "autostart", "HLS-P02 4: the option 'autostart' of INTERFACE"),
        ("offset=slave", "offset=slaves", "HLS-P03 6: 'offset=slaves' of INTERFACE"),
        ("array_stencil variable=in", "array_stencil variable=inn", "HLS-P05 17: 'variable=inn' of ARRAY_STENCIL"),
        ("avg = (N", "avrg = (N", "HLS-P02 15: the option 'avrg' of LOOP_TRIPCOUNT"),
        ("pipeline off", "pipelin off", "HLS-P01 7: the directive 'PIPELIN'"),
        (
            "UNROLL region",
            "UNROLL factor=2",
            "HLS-P04 28: UNROLL in the body of a function; it belongs in the body of a loop",
        ),
    ],
)
def test_a_changed_word_is_found(old: str, new: str, finding: str) -> None:
    assert old in IDIOMS
    assert found(IDIOMS.replace(old, new)) == [finding]


def test_a_directive_knows_its_function_and_loop() -> None:
    first, *_, last = read_directives("file.cpp", IDIOMS.encode())
    assert (first.place, first.function[2], first.loop_line) == ("function", "filter", 0)
    trips = next(d for d in read_directives("file.cpp", IDIOMS.encode()) if d.name == "loop_tripcount")
    assert (trips.place, trips.loop_line, trips.option("min")) == ("loop", 14, "N - 1")
    assert (last.place, last.function[2]) == ("function", "Window")


def test_every_entry_of_the_table_names_an_origin_and_known_values() -> None:
    table = pragmas.table()
    entries = [*table["directives"].values(), *table["modes"].values()]
    entries += [added for mode in table["modes"].values() for added in mode.get("added", {}).values()]
    assert {entry["origin"] for entry in entries} == set(table["origins"])
    kinds = {"flag", "integer", "name", "variable", "mode"}
    for entry in entries:
        values = entry["options"].values() if "options" in entry else [entry["value"]]
        assert all(isinstance(value, list) or value in kinds for value in values)
    for directive in table["directives"].values():
        assert set(directive["places"]) <= {"function", "loop", "region"} and directive["places"]
        assert set(directive.get("required", [])) <= set(directive["options"])
