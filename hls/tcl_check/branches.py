# SPDX-License-Identifier: Apache-2.0
"""Checks the words of all commands in a script, those of branches included that a run in the model does not reach."""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from hetfab.hls.tcl_check.commands import Command, sort_words
from hetfab.hls.tcl_check.problem import Problem
from hetfab.hls.tcl_check.values import UNKNOWN

#: Commands of Tcl itself, and what tools add to it without options that are worth a table.
_TCL = frozenset(json.loads((Path(__file__).parent / "tables" / "tcl.json").read_text(encoding="utf-8")))
#: Which words of a command are scripts of their own.
_BODIES = {"proc": (3,), "foreach": (-1,), "while": (2,), "for": (1, 3, 4), "catch": (1,), "namespace": (-1,)}
_WORD_END = " \t\n;"


@dataclass(frozen=True)
class _Statement:
    """A command: its line, and its words as they are written."""

    line: int
    words: tuple[str, ...]


class _UnbalancedError(Exception):
    """A brace, bracket or quote that is not closed."""


def branch_problems(text: str, commands: Mapping[str, Command]) -> Iterator[Problem]:
    """Unknown commands and wrong options anywhere in a script."""
    try:
        statements = list(_statements(text, 1))
    except _UnbalancedError as error:
        yield Problem("tcl-syntax", 0, str(error), "balance braces, brackets and quotes")
        return
    known = _TCL | {statement.words[1].rpartition("::")[2] for statement in statements if statement.words[0] == "proc"}
    variables = _variables(statements)
    for statement in statements:
        name = statement.words[0].removeprefix("::")
        if name in commands:
            _, complaints = sort_words(commands[name], [_value(word) for word in statement.words[1:]])
            for each in complaints:
                yield Problem(each.check, statement.line, each.text.replace(UNKNOWN, "..."), each.fix)
        elif name.rpartition("::")[2] not in known and not re.search(r"[$\[]", name):
            yield Problem("unknown-command", statement.line, f"there is no command '{name[:80]}'", "correct the name")
        elif name.startswith("$"):
            text = f"the value of {name} is run as a command"
            yield Problem("unknown-command", statement.line, text, "name the command")
        elif name == "error" and len(statement.words) < 2:
            yield Problem("wrong-arguments", statement.line, "error has no message", "give one")
        if variables is not None:
            yield from _unset(statement, variables)


def _variables(statements: list[_Statement]) -> frozenset[str] | None:
    """Names that the script sets; None where some may come from elsewhere."""
    names = {"argv", "argc", "env"}
    for statement in statements:
        if statement.words[0] in (
            "source",
            "proc",
            "namespace",
            "upvar",
            "array",
            "lassign",
            "regexp",
            "dict",
            "catch",
        ):
            return None
        if statement.words[0] in ("set", "lappend", "append", "incr") and len(statement.words) > 1:
            names.add(statement.words[1])
        if statement.words[0] in ("foreach", "lmap") and len(statement.words) > 1:
            names |= set(statement.words[1].strip("{}").split())
    return frozenset(names)


def _unset(statement: _Statement, variables: frozenset[str]) -> Iterator[Problem]:
    for name in re.findall(r"\$(?:::)?(\w+)", " ".join(statement.words)):
        if name not in variables:
            yield Problem("unknown-variable", statement.line, f"nothing sets ${name}", "correct the name")


def _value(word: str) -> str:
    """A word's value, where it has no substitution."""
    if word.startswith("{") and word.endswith("}"):
        return word[1:-1]
    bare = word[1:-1] if len(word) > 1 and word[0] == word[-1] == '"' else word
    return UNKNOWN if re.search(r"[$\[\\]", bare) else bare


def _statements(text: str, line: int) -> Iterator[_Statement]:
    """Every command of a script, those inside brackets and bodies too."""
    at = 0
    words: list[str] = []
    start = line
    while at < len(text):
        letter = text[at]
        if letter in "\n;":
            yield from _complete(words, start)
            words = []
            at += 1
        elif letter in " \t\r":
            at += 1
        elif text.startswith("\\\n", at):
            at += 2
        elif letter == "#" and not words:
            at = _line_end(text, at)
        else:
            if not words:
                start = line + text.count("\n", 0, at)
            end = _word_end(text, at)
            words.append(text[at:end])
            at = end
    yield from _complete(words, start)


def _line_end(text: str, at: int) -> int:
    while at < len(text) and text[at] != "\n":
        at += 2 if text[at] == "\\" else 1
    return at


def _word_end(text: str, at: int) -> int:
    if text[at] == "{":
        return _closing(text, at, "{", "}")
    quoted = text[at] == '"'
    at += quoted
    while at < len(text):
        if text[at] == "\\":
            at += 2
        elif text[at] == "[":
            at = _closing(text, at, "[", "]")
        elif quoted and text[at] == '"':
            return at + 1
        elif not quoted and text[at] in _WORD_END:
            return at
        else:
            at += 1
    if quoted:
        raise _UnbalancedError('missing "')
    return at


def _closing(text: str, start: int, opening: str, closing: str) -> int:
    depth, at = 0, start
    while at < len(text):
        if text[at] == "\\":
            at += 1
        elif text[at] == opening:
            depth += 1
        elif text[at] == closing:
            depth -= 1
            if depth == 0:
                return at + 1
        at += 1
    raise _UnbalancedError(f"missing close-{'brace' if opening == '{' else 'bracket'}")


def _complete(words: list[str], line: int) -> Iterator[_Statement]:
    if not words:
        return
    yield _Statement(line, tuple(words))
    for word in words:
        if not word.startswith("{"):
            yield from _bracketed(word, line)
    for body in _bodies(words):
        if body.startswith("{") and body.endswith("}"):
            yield from _statements(body[1:-1], line)


def _bracketed(word: str, line: int) -> Iterator[_Statement]:
    at = 0
    while at < len(word):
        if word[at] == "[":
            end = _closing(word, at, "[", "]")
            yield from _statements(word[at + 1 : end - 1], line)
            at = end
        else:
            at += 2 if word[at] == "\\" else 1


def _bodies(words: list[str]) -> list[str]:
    if words[0] == "if":
        # Conditions are expressions; all other braces of an `if` are bodies.
        tests = {1} | {number + 1 for number, word in enumerate(words) if word == "elseif"}
        return [word for number, word in enumerate(words) if number not in tests and number > 0]
    numbers = _BODIES.get(words[0], ())
    return [words[number] for number in numbers if -len(words) <= number < len(words)]
