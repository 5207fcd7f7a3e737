# SPDX-License-Identifier: Apache-2.0
"""The table of a tool's commands: options, their kinds of values, numbers of arguments."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from hetfab.hls.tcl_check.problem import Tool
from hetfab.hls.tcl_check.values import described, is_of_kind

_FOLDER = Path(__file__).parent / "tables"
_FLAG = "flag"


@dataclass(frozen=True)
class Command:
    """A command.

    Attributes:
        name: Its name.
        least: Fewest positional arguments.
        most: Most positional arguments.
        kind: Of the positional arguments.
        options: For each option, the kind of its value, or ``flag``.
        needs: Options that every call has.
    """

    name: str
    least: int
    most: int
    kind: str
    options: dict[str, str]
    needs: tuple[str, ...]


@dataclass(frozen=True)
class Call:
    """A call of a command, its words sorted.

    Attributes:
        command: What is called.
        positional: Arguments without an option.
        options: Values of the options that are there; a flag's is the empty text.
    """

    command: str
    positional: tuple[str, ...]
    options: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Complaint:
    """What is wrong with a call: name of the check, text, fix."""

    check: str
    text: str
    fix: str


@cache
def commands_of(tool: Tool) -> dict[str, Command]:
    """The commands of a tool, by name."""
    table: dict[str, Any] = json.loads((_FOLDER / f"{tool.value}.json").read_text(encoding="utf-8"))
    shared: dict[str, dict[str, str]] = table["shared_options"]
    commands = {}
    for name, entry in table["commands"].items():
        least, most, kind = entry.get("arguments", [0, 0, "text"])
        options = dict(entry.get("options", {}))
        for group in entry.get("shared", ()):
            options |= shared[group]
        commands[name] = Command(name, least, most, kind, options, tuple(entry.get("needs", ())))
    return commands


def sort_words(command: Command, words: Sequence[str]) -> tuple[Call, list[Complaint]]:
    """Sorts the words of a call into options and arguments, and says what is wrong with them."""
    complaints: list[Complaint] = []
    positional: list[str] = []
    options: dict[str, str] = {}
    left = list(words)
    while left:
        word = left.pop(0)
        if not _is_option(word):
            positional.append(word)
            continue
        name, equals, value = word.partition("=")
        kind = command.options.get(name)
        if kind is None:
            known = ", ".join(sorted(command.options)) or "none"
            complaints.append(Complaint("unknown-option", f"{command.name} has no option {name}", f"known are {known}"))
            continue
        if kind == _FLAG and equals:
            kind = "true|false|1|0"
        elif kind != _FLAG and not equals:
            if not left:
                complaints.append(Complaint("missing-value", f"{command.name} {name} has no value", "give one"))
                break
            value = left.pop(0)
        if kind != _FLAG and not is_of_kind(value, kind):
            complaints.append(
                Complaint("wrong-value", f"{command.name} {name} is '{value}'", f"it takes {described(kind)}")
            )
        options[name] = value
    complaints += _counts(command, positional, options)
    return Call(command.name, tuple(positional), options), complaints


def _is_option(word: str) -> bool:
    return len(word) > 1 and word[0] == "-" and word[1].isalpha()


def _counts(command: Command, positional: Sequence[str], options: dict[str, str]) -> list[Complaint]:
    found = []
    if not command.least <= len(positional) <= command.most:
        limits = f"{command.least}" if command.least == command.most else f"{command.least} to {command.most}"
        found.append(
            Complaint(
                "wrong-arguments",
                f"{command.name} has {len(positional)} arguments: {' '.join(positional)[:120]}",
                f"it takes {limits}",
            )
        )
    for word in positional:
        if not is_of_kind(word, command.kind):
            found.append(
                Complaint("wrong-value", f"{command.name} gets '{word[:120]}'", f"it takes {described(command.kind)}")
            )
    if command.name.startswith("config_") and not options:
        found.append(Complaint("missing-option", f"{command.name} configures nothing", "give an option"))
    for name in command.needs:
        if name not in options:
            found.append(Complaint("missing-option", f"{command.name} lacks {name}", "give it"))
    return found
