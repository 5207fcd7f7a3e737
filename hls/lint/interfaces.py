# SPDX-License-Identifier: Apache-2.0
"""Rules about the arguments of top functions: no default of the tool is relied on, as defaults moved."""

from collections.abc import Iterator

from hetfab.hls.lint.directives import Directive
from hetfab.hls.lint.findings import Found, Scope, rule
from hetfab.hls.lint.pragmas import mode_of
from hetfab.hls.lint.program import Function, Program

_MOVED = "this project: defaults differ between Vitis HLS 2020.2 and 2025.2 (docs/synthesis.md)"
#: Options that each mode must state; those of s_axilite but for the return value.
_STATED = {
    "m_axi": (
        "bundle",
        "offset",
        "depth",
        "latency",
        "num_read_outstanding",
        "max_read_burst_length",
        "num_write_outstanding",
        "max_write_burst_length",
        "max_widen_bitwidth",
    ),
    "s_axilite": ("bundle", "offset"),
    "ap_memory": ("storage_type", "latency"),
}


def _interfaces(program: Program, top: Function) -> dict[str, Directive]:
    found: dict[str, Directive] = {}
    for directive in program.directives_of(top):
        if directive.name == "interface":
            found |= dict.fromkeys((directive.option("port") or "").split(","), directive)
    return found


@rule(
    "HLS-I01",
    "every argument of a top function and its return value have an INTERFACE directive",
    do="add #pragma HLS INTERFACE mode= port= for it",
    source=_MOVED,
    scope=Scope.HOUSE,
)
def missing_interfaces(program: Program) -> Iterator[Found]:
    """Ports that are left to the tool."""
    for top in program.tops:
        interfaces = _interfaces(program, top)
        for name in ["return", *(parameter.name for parameter in top.parameters)]:
            if name not in interfaces:
                yield Found(top.file, top.node.line, f"'{name}' of '{top.name}' without an INTERFACE directive")


@rule(
    "HLS-I02",
    "every INTERFACE directive has the form mode=, and states all options that its mode has here",
    do="add the option",
    source=_MOVED,
    scope=Scope.HOUSE,
)
def unstated_options(program: Program) -> Iterator[Found]:
    """Options that are left to the tool."""
    for top in program.tops:
        for name, directive in _interfaces(program, top).items():
            if directive.option("mode") is None:
                yield Found(directive.file, directive.line, f"the INTERFACE of '{name}' without 'mode='")
            for option in _STATED.get(mode_of(directive) or "", ()):
                if not directive.has(option) and not (name == "return" and option == "offset"):
                    yield Found(directive.file, directive.line, f"the INTERFACE of '{name}' without '{option}='")


@rule(
    "HLS-I03",
    "every RAM port is an array of constant size with storage_type=ram_1p",
    do="write the size into the argument and state the type: with two ports none is left for the other engine",
    source="AMD UG1399, 'Memory Property on Interface'",
    scope=Scope.HOUSE,
)
def ram_ports(program: Program) -> Iterator[Found]:
    """RAM ports of no size, or of both ports."""
    for top in program.tops:
        arrays = {p.name for p in top.parameters if p.type.kind.name == "CONSTANTARRAY"}
        for name, directive in _interfaces(program, top).items():
            if mode_of(directive) not in {"ap_memory", "bram"}:
                continue
            if name not in arrays:
                yield Found(directive.file, directive.line, f"the RAM port '{name}' that is no array of constant size")
            if directive.option("storage_type") not in {None, "ram_1p"}:
                kind = directive.option("storage_type")
                yield Found(directive.file, directive.line, f"the RAM port '{name}' of storage_type '{kind}'")


RULES = (missing_interfaces, unstated_options, ram_ports)
