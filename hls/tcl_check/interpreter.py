# SPDX-License-Identifier: Apache-2.0
"""Runs a Tcl script whose commands are answered by Python, in ``tclsh`` or in Python's own Tcl."""

import importlib.util
import io
import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hetfab.overlay.errors import PackageMissingError

_FOLDER = Path(__file__).parent
_HOST = _FOLDER / "host.tcl"
_PIPE = _FOLDER / "pipe.tcl"
#: A script that runs longer is stopped: it loops.
_SECONDS = 60

#: Answers a command of the script: its words, first the name, then the line, then the arguments.
Answer = Callable[[Sequence[str]], str]


class ScriptError(Exception):
    """Raised by an answer: the command fails in the script, which may catch it."""


class ScriptEndedError(Exception):
    """Raised by an answer: the script ends."""


@dataclass(frozen=True)
class Ending:
    """How a script ended.

    Attributes:
        failed: Whether by an error that it did not catch, or by ``exit``.
        line: Of the error, 0 where it is not known.
        code: Tcl's error code.
        message: Of the error.
    """

    failed: bool
    line: int
    code: str
    message: str


@dataclass(frozen=True)
class Script:
    """What runs, and what it finds.

    Attributes:
        path: The Tcl file.
        commands: Names of the commands that ``answer`` serves.
        variables: The environment that it sees.
        arguments: ``argv``.
    """

    path: Path
    commands: Sequence[str]
    variables: Mapping[str, str]
    arguments: Sequence[str]


def tcl_is_installed() -> bool:
    """Whether a script can run."""
    return shutil.which("tclsh") is not None or _has_tkinter()


def run_script(script: Script, answer: Answer) -> Ending:
    """Runs a script to its end.

    Raises:
        PackageMissingError: There is no Tcl.
    """
    tclsh = shutil.which("tclsh")
    if tclsh is not None:
        return _run_in_tclsh(tclsh, script, answer)
    if _has_tkinter():
        return _run_in_python(script, answer)
    raise PackageMissingError(
        "there is no Tcl: neither tclsh on the path nor Python's module tkinter",
        "Tcl 8.6, which runs the scripts against the model of the tools",
        "apt-get install tcl",
    )


def _has_tkinter() -> bool:
    return importlib.util.find_spec("_tkinter") is not None


def _reply(words: Sequence[str], answer: Answer) -> tuple[str, str]:
    try:
        return "ok", answer(words)
    except ScriptEndedError as ending:
        return "exit", str(ending)
    except ScriptError as error:
        return "error", str(error)


def _start(script: Script, pairs: list[str]) -> list[Any]:
    return [str(script.path.resolve()), list(script.commands), pairs, list(script.arguments), str(_SECONDS)]


def _pairs(script: Script) -> list[str]:
    return [text for pair in script.variables.items() for text in pair]


def _ending(words: Sequence[str]) -> Ending:
    how, line, code, message = words
    return Ending(how == "failed", int(line), code, message)


def _run_in_tclsh(tclsh: str, script: Script, answer: Answer) -> Ending:
    command = [tclsh, str(_PIPE), str(_HOST)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        if process.stdin is None or process.stdout is None:
            raise PackageMissingError("tclsh has no pipes", "a tclsh that runs", "apt-get install tcl")
        output = io.TextIOWrapper(process.stdin, encoding="utf-8", newline="\n")
        source = io.TextIOWrapper(process.stdout, encoding="utf-8", newline="\n")
        _send(output, [word if isinstance(word, str) else tcl_list(word) for word in _start(script, _pairs(script))])
        while True:
            words = _receive(source)
            if words[0] == "":
                return _ending(words[1:])
            _send(output, _reply(words, answer))


def _send(output: io.TextIOWrapper, words: Sequence[str]) -> None:
    output.write(f"{len(words)}\n" + "".join(f"{len(word)}\n{word}" for word in words))
    output.flush()


def _receive(source: io.TextIOWrapper) -> list[str]:
    count = int(source.readline())
    return [source.read(int(source.readline())) for _ in range(count)]


def _run_in_python(script: Script, answer: Answer) -> Ending:
    import tkinter

    tcl = tkinter.Tcl()

    def ask(items: Any) -> tuple[str, str]:
        return _reply([str(word) for word in tcl.splitlist(items)], answer)

    tcl.createcommand("ask", ask)
    tcl.evalfile(str(_HOST))
    ended = tcl.call("run", *_start(script, _pairs(script)))
    return _ending([str(word) for word in tcl.splitlist(ended)])


def tcl_list(words: Sequence[str]) -> str:
    """Words as a Tcl list."""
    return " ".join(_quoted(word) for word in words)


def _quoted(word: str) -> str:
    special = set(' \t\n\r;"$[]{}\\')
    if word and not special & set(word) and not word.startswith("#"):
        return word
    return "{}" if not word else "".join("\\" + c if c in special or c == "#" else c for c in word).replace("\n", "n")


def split_list(text: str) -> list[str]:
    """The items of a Tcl list.

    Raises:
        ScriptError: The text is no list.
    """
    items: list[str] = []
    at = 0
    while (at := _skip_blanks(text, at)) < len(text):
        item, at = _next_item(text, at)
        if at < len(text) and not text[at].isspace():
            raise ScriptError(f"list element followed by '{text[at]}' instead of space")
        items.append(item)
    return items


def _skip_blanks(text: str, at: int) -> int:
    while at < len(text) and text[at].isspace():
        at += 1
    return at


def _next_item(text: str, at: int) -> tuple[str, int]:
    if text[at] == "{":
        return _braced(text, at)
    closing = '"' if text[at] == '"' else ""
    at += len(closing)
    item = ""
    while at < len(text):
        if text[at] == "\\" and at + 1 < len(text):
            item += text[at + 1]
            at += 2
            continue
        if (closing and text[at] == closing) or (not closing and text[at].isspace()):
            return item, at + len(closing)
        item += text[at]
        at += 1
    if closing:
        raise ScriptError("unmatched open quote in list")
    return item, at


def _braced(text: str, start: int) -> tuple[str, int]:
    depth, at = 0, start
    while at < len(text):
        if text[at] == "\\":
            at += 1
        elif text[at] == "{":
            depth += 1
        elif text[at] == "}":
            depth -= 1
            if depth == 0:
                return text[start + 1 : at], at + 1
        at += 1
    raise ScriptError("unmatched open brace in list")
