# SPDX-License-Identifier: Apache-2.0
"""Rules about directives: names, options, values and places, by the table in pragmas.json."""

import functools
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hetfab.hls.lint.directives import Directive
from hetfab.hls.lint.findings import Found, Scope, rule
from hetfab.hls.lint.program import Program

_TABLE = "hls/lint/pragmas.json, which names an origin for each entry"
_PLACES = {"function": "the body of a function", "loop": "the body of a loop", "region": "a block"}


@functools.cache
def table() -> Any:
    """Directives and interface modes: their options, values and places."""
    return json.loads((Path(__file__).parent / "pragmas.json").read_text(encoding="utf-8"))


def mode_of(directive: Directive) -> str | None:
    """The mode of an INTERFACE directive, in either spelling."""
    named = directive.option("mode")
    return named or next((key for key, value in directive.options if value is None and key in table()["modes"]), None)


def allowed_options(directive: Directive) -> dict[str, Any]:
    """The options of a directive with their values; of an INTERFACE those of its mode."""
    options: dict[str, Any] = dict(table()["directives"][directive.name]["options"])
    if directive.name == "interface":
        mode = table()["modes"].get(mode_of(directive), {"options": {}})
        options |= mode["options"] | {key: entry["value"] for key, entry in mode.get("added", {}).items()}
        options |= dict.fromkeys(table()["modes"], "flag")
    return options


def _found(directive: Directive, text: str) -> Found:
    return Found(directive.file, directive.line, text)


def _known(program: Program) -> Iterator[Directive]:
    return (d for d in program.directives if d.name in table()["directives"])


@rule(
    "HLS-P01",
    "every directive is one that the tool knows, after '#pragma HLS' in capitals",
    do="correct its name: the tool ignores what it does not know",
    source=_TABLE,
)
def unknown_directive(program: Program) -> Iterator[Found]:
    """Directives that are in no table."""
    for directive in program.directives:
        if directive.keyword != "HLS":
            yield _found(directive, f"'#pragma {directive.keyword}'")
        elif directive.name not in table()["directives"]:
            yield _found(directive, f"the directive '{directive.name.upper()}'")


@rule(
    "HLS-P02",
    "every option is one of its directive, and of its interface mode, and the required ones are there",
    do="correct or add the option",
    source=_TABLE,
)
def unknown_option(program: Program) -> Iterator[Found]:
    """Options that are in no table, modes too."""
    for directive in _known(program):
        allowed = allowed_options(directive)
        name = directive.name.upper()
        for key, _ in directive.options:
            if key not in allowed:
                yield _found(directive, f"the option '{key}' of {name}")
        for key in table()["directives"][directive.name].get("required", ()):
            if directive.option(key) is None:
                yield _found(directive, f"{name} without '{key}='")
        if directive.name == "interface" and mode_of(directive) not in table()["modes"]:
            yield _found(directive, f"INTERFACE of mode '{mode_of(directive) or ''}'")


@rule(
    "HLS-P03",
    "every option has a value of its kind: a word of its list, a number, a name; a flag has none",
    do="correct the value",
    source=_TABLE,
)
def option_values(program: Program) -> Iterator[Found]:
    """Values that cannot be."""
    for directive in _known(program):
        allowed = allowed_options(directive)
        for key, value in directive.options:
            kind = allowed.get(key)
            wrong = (
                (kind == "flag" and (value or "true").lower() not in {"true", "false", "1", "0"})
                or (kind != "flag" and kind is not None and not value)
                or (isinstance(kind, list) and (value or "").lower() not in kind)
                or (kind == "integer" and not re.fullmatch(r"[-\w\s+*/%()<>:?.=&|^~!,']+", value or ""))
            )
            if wrong:
                shown = key if value is None else f"{key}={value}"
                yield _found(directive, f"'{shown}' of {directive.name.upper()}")


@rule(
    "HLS-P04",
    "every directive stands in the block that it is for, first in the body of a loop that it is about",
    do="move it into the braces of its loop or function",
    source=_TABLE,
)
def wrong_place(program: Program) -> Iterator[Found]:
    """Directives outside functions, loop directives outside loops, and before the loop that they mean."""
    for directive in _known(program):
        places = table()["directives"][directive.name]["places"]
        name = directive.name.upper()
        if directive.place not in places and not (directive.has("region") and directive.place != "outside"):
            here = _PLACES.get(directive.place, "no function")
            yield _found(directive, f"{name} in {here}; it belongs in {' or '.join(_PLACES[p] for p in places)}")
        elif directive.before_loop and places == ["loop"]:
            yield _found(directive, f"{name} before a loop, where it applies to the block around")


@rule(
    "HLS-P05",
    "what a directive names is in the function around it",
    do="correct the name of the variable or port",
    source="AMD UG1399, 'HLS Pragmas': variable= and port= are checked against the scope of the pragma",
)
def unknown_variable(program: Program) -> Iterator[Found]:
    """Variables and ports that do not exist."""
    for directive in _known(program):
        allowed = allowed_options(directive)
        for key, value in directive.options:
            if allowed.get(key) != "variable" or not value or directive.place == "outside":
                continue
            for name in re.split(r"[,\s]+", value):
                # A member may be one of a base class, a qualified name one of a configuration.
                if name.startswith("this->") or "::" in name:
                    continue
                first = re.split(r"[.\[-]", name.lstrip("*&"))[0]
                if first and first != "return" and first not in directive.names:
                    yield _found(directive, f"'{key}={name}' of {directive.name.upper()}")


@rule(
    "HLS-P06",
    "every UNROLL states its factor",
    do="add factor=, the trips of the loop for a complete one",
    source="this project: no default is relied on, and an open HLS compiler needs it",
    scope=Scope.HOUSE,
)
def unroll_factor(program: Program) -> Iterator[Found]:
    """UNROLL without factor."""
    for directive in program.directives:
        if directive.name == "unroll" and directive.option("factor") is None:
            yield _found(directive, "UNROLL without a factor")


@rule(
    "HLS-P07",
    "every PIPELINE stands in the body of the loop that it is about, with its interval and style",
    do="move it to the beginning of the loop's body; add II= and style=",
    source="this project: overlay/isa/loops.json has a row for each pipelined loop",
    scope=Scope.HOUSE,
)
def pipelined_loops(program: Program) -> Iterator[Found]:
    """PIPELINE of functions and blocks, and without its options."""
    for directive in program.directives:
        if directive.name == "pipeline" and directive.place != "loop":
            yield _found(directive, f"PIPELINE in {_PLACES.get(directive.place, 'no function')}")
        elif directive.name == "pipeline" and (directive.option("ii") is None or directive.option("style") is None):
            yield _found(directive, "PIPELINE without 'II=' or 'style='")


RULES = (
    unknown_directive,
    unknown_option,
    option_values,
    wrong_place,
    unknown_variable,
    unroll_factor,
    pipelined_loops,
)
