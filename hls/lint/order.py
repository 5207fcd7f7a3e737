# SPDX-License-Identifier: Apache-2.0
"""Rules about the order of an engine's work: its token says that all accesses are over."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from hetfab.hls.lint.findings import Found, Scope, rule
from hetfab.hls.lint.ports import (
    ESCAPE,
    Access,
    Branch,
    Call,
    Fence,
    Loop,
    Port,
    Return,
    Step,
    accesses,
    ports_of,
    steps_of,
)
from hetfab.hls.lint.program import Program
from hetfab.hls.lint.syntax import Node
from hetfab.overlay.isa.spec import isa

_MEMORIES = {"ram", "burst", "bus"}

_DATA_STREAMS = {stream.name for stream in isa().streams}


@dataclass(frozen=True)
class _State:
    """What is known at a point: the ports of the last fence with no access since, and unanswered writes."""

    fenced: frozenset[Port] | None = None
    unanswered: frozenset[Port] = frozenset()

    def join(self, other: "_State") -> "_State":
        both = None if self.fenced is None or other.fenced is None else self.fenced & other.fenced
        return _State(both, self.unanswered | other.unanswered)

    def after(self, access: Access) -> "_State":
        if access.port.kind not in _MEMORIES:
            return self
        unanswered = self.unanswered
        if access.kind in {"write", "write_request"} and access.port.kind != "ram":
            unanswered |= {access.port}
        elif access.kind == "write_response":
            unanswered -= {access.port}
        return _State(None, unanswered)


class _Run:
    """Follows all paths of a top function; a loop counts as one that runs at least once."""

    def __init__(self, steps: tuple[Step, ...]) -> None:
        #: Each write of a token with what is known before it.
        self.tokens: list[tuple[Access, _State]] = []
        #: What is known at the end.
        self.end, _ = self._sequence(steps, _State())

    def _sequence(self, steps: tuple[Step, ...], state: _State) -> tuple[_State | None, list[_State]]:
        """The state behind a sequence, None if every path returns, and the states of its returns."""
        current: _State | None = state
        returned: list[_State] = []
        for step in steps:
            if current is None:
                break
            current, more = self._step(step, current)
            returned += more
        return current, returned

    def _step(self, step: Step, state: _State) -> tuple[_State | None, list[_State]]:
        match step:
            case Access(port, kind):
                # Words of a data stream are the data: nothing has to be done before them.
                if port.kind == "stream" and kind == "write" and port.name not in _DATA_STREAMS:
                    self.tokens.append((step, state))
                return state.after(step), []
            case Fence(ports):
                return replace(state, fenced=ports), []
            case Branch(choices):
                results = [self._sequence(choice, state) for choice in choices]
                return _join([end for end, _ in results]), [s for _, returned in results for s in returned]
            case Loop(body):
                return self._sequence(body, state)
            case Call(body):
                end, returned = self._sequence(body, state)
                return _join([end, *returned]), []
            case Return():
                return None, [state]


def _join(states: list[_State | None]) -> _State | None:
    joined: _State | None = None
    for state in states:
        if state is not None:
            joined = state if joined is None else joined.join(state)
    return joined


def _names(ports: Iterator[Port]) -> str:
    return ", ".join(f"'{name}'" for name in sorted(port.name for port in ports))


@rule(
    "HLS-O01",
    "a fence stands right before each write of a token; it names the token, every RAM port, and every bus port that "
    "is written",
    do="write HETFAB_FENCE(ports, tokens) before it: the tool may move accesses that are not related",
    source="Xilinx/Vitis-HLS-Introductory-Examples aa5c160, Interface/Memory/aliasing_axi_master_ports/test.cpp:30",
    scope=Scope.HOUSE,
)
def fences(program: Program) -> Iterator[Found]:
    """Tokens without a fence, or with one that leaves a port out."""
    for top in program.tops:
        steps = steps_of(program, top)
        written = {
            a.port for a in accesses(steps) if a.kind.startswith(("write", ESCAPE)) and a.port.kind in {"burst", "bus"}
        }
        needed = {port for port in ports_of(program, top).values() if port.kind == "ram"} | written
        if not needed:
            continue
        for access, state in _Run(steps).tokens:
            missing = (needed | {access.port}) - (state.fenced or frozenset())
            if missing:
                yield _at(access.node, f"a write of '{access.port.name}' without a fence for {_names(iter(missing))}")


@rule(
    "HLS-O02",
    "on every path a bus write is answered by write_response() before the token is written",
    do="call write_response() for each request before the fence: the next engine may read the same bytes",
    source="Xilinx/Vitis-HLS-Introductory-Examples aa5c160, "
    "Interface/Memory/manual_burst/manual_burst_with_conditionals/example.cpp:83",
    scope=Scope.HOUSE,
)
def responses(program: Program) -> Iterator[Found]:
    """Tokens that pass a write; tops that end with one."""
    for top in program.tops:
        run = _Run(steps_of(program, top))
        for access, state in run.tokens:
            if state.unanswered:
                waiting = _names(iter(state.unanswered))
                yield _at(access.node, f"a write of '{access.port.name}' before the write response of {waiting}")
        if run.end is not None and run.end.unanswered and not any(state.unanswered for _, state in run.tokens):
            yield Found(
                top.file,
                top.node.line,
                f"'{top.name}' ends before the write response of {_names(iter(run.end.unanswered))}",
            )


@rule(
    "HLS-O03",
    "no stream is written without waiting, or asked whether it is full",
    do="keep count of the room, as DISPATCH's credits do",
    source="AMD UG1399, 'Non-Blocking API': axis ports have non-blocking reads only",
    scope=Scope.HOUSE,
)
def blocking_writes(program: Program) -> Iterator[Found]:
    """write_nb and full."""
    for function in program.functions.values():
        for node in function.own_nodes:
            if node.kind == "CALL_EXPR" and node.name in {"write_nb", "full"} and _of_stream(node):
                yield _at(node, f"a call of '{node.name}'")


def _of_stream(call: Node) -> bool:
    method = call.children[0] if call.children else None
    if method is None or not method.children:
        return False
    return "hls::stream<" in method.children[0].type.spelling


def _at(node: Node, text: str) -> Found:
    return Found(node.file, node.line, text)


RULES = (fences, responses, blocking_writes)
