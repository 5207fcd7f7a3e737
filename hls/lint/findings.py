# SPDX-License-Identifier: Apache-2.0
"""What a rule is, and what it finds."""

import enum
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, NamedTuple

from hetfab.overlay.errors import RulesBrokenError, counted

if TYPE_CHECKING:
    from hetfab.hls.lint.program import Program


class Scope(enum.Enum):
    """Which sources a rule holds for."""

    ANY = "any HLS code"
    HOUSE = "hetfab's kernels"


class Found(NamedTuple):
    """What a rule has found, and where."""

    file: str
    line: int
    text: str


@dataclass(frozen=True)
class Rule:
    """One check.

    Attributes:
        id: Its name, as in ``HLS-L04``.
        expected: One sentence: what the sources must be.
        do: What repairs a finding.
        source: Where the rule comes from.
        scope: The sources that it holds for.
        check: Yields what breaks it.
    """

    id: str
    expected: str
    do: str
    source: str
    scope: Scope
    check: "Callable[[Program], Iterator[Found]]"


@dataclass(frozen=True)
class Finding:
    """A place that breaks a rule."""

    file: str
    line: int
    rule: str
    found: str
    expected: str
    do: str


@dataclass(frozen=True)
class Report:
    """What a lint run has seen.

    Attributes:
        sources: Number of files, headers included.
        functions: Number of functions, each instance of a template one.
        rules: Number of rules that were applied.
        findings: By file and line.
    """

    sources: int
    functions: int
    rules: int
    findings: tuple[Finding, ...]

    def check(self) -> None:
        """Refuses sources with findings.

        Raises:
            RulesBrokenError: There are findings; it holds them.
        """
        if self.findings:
            raise RulesBrokenError(
                f"{counted(len(self.findings), 'place')} where HLS sources break a rule:",
                f"sources that keep the {counted(self.rules, 'rule')} of docs/lint.md",
                "repair each place as it says",
                [asdict(finding) for finding in self.findings],
            )


def rule(
    identity: str, expected: str, *, do: str, source: str, scope: Scope = Scope.ANY
) -> "Callable[[Callable[[Program], Iterator[Found]]], Rule]":
    """Makes a rule of the function that checks it."""

    def make(check: "Callable[[Program], Iterator[Found]]") -> Rule:
        return Rule(identity, expected, do, source, scope, check)

    return make
