# SPDX-License-Identifier: Apache-2.0
"""How many one-token changes of the generated Tcl scripts the model of the tools refuses.

    python -m tests.tcl_mutations [--changes 200] [--seed 1] [--json FILE]

A change misspells a token, drops it, swaps it with the next, or puts a token of another kind in its place. Engines'
scripts, block design and bitstream get a third each. Every accepted change counts as missed, harmless ones too.
"""

import argparse
import json
import random
import re
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from hetfab.hls.build.bitstream.scripts import (
    bitstream_script,
    block_design_script,
    engine_script,
    engines_of,
    expected_component,
)
from hetfab.hls.build.design_header import design_header
from hetfab.hls.tcl_check.check import check_script
from hetfab.hls.tcl_check.problem import Problem, Tool
from hetfab.overlay.design import Design, default_design

_HLS = Path(__file__).parents[1] / "hls"
_TOKEN = re.compile(r'[\[\]{}"]|[^\s\[\]{}"]+')
KINDS = ("misspell", "drop", "swap", "replace")
_VERSION = "2024.2"


@dataclass(frozen=True)
class Subject:
    """A script that is changed.

    Attributes:
        name: What it is for.
        text: Its content.
        tool: Who runs it.
        folder: Its working folder.
        given: Files that an earlier script has made.
    """

    name: str
    text: str
    tool: Tool
    folder: Path
    given: tuple[str, ...] = ()


@dataclass(frozen=True)
class Change:
    """A change and its fate.

    Attributes:
        script: Which script.
        kind: One of ``KINDS``.
        line: Where, counted from 1.
        before: The line as it was.
        after: The line as it is.
        checks: Names of the checks that refuse it; none where it is accepted.
    """

    script: str
    kind: str
    line: int
    before: str
    after: str
    checks: tuple[str, ...]


def build_folder(root: Path, design: Design, version: str = _VERSION) -> list[Subject]:
    """Lays out a build as its scripts expect it, and returns the scripts: engines, block design, bitstream."""
    sources = root / "sources"
    for name in ("include", "kernels", "verilog"):
        shutil.copytree(_HLS / name, sources / name)
    (sources / "design.hpp").write_text(design_header(design.geometry), encoding="utf-8")
    subjects = []
    for engine in engines_of(design):
        folder, ip = root / "hls" / engine, root / "ip" / engine
        folder.mkdir(parents=True)
        ip.mkdir(parents=True)
        (ip / "component.xml").write_text(expected_component(design, engine), encoding="utf-8")
        text = engine_script(design, engine, version, Path("../../sources"))
        subjects.append(Subject(engine, text, Tool.VITIS_HLS, folder))
    vivado = root / "vivado"
    vivado.mkdir()
    subjects.append(Subject("block design", block_design_script(design, version), Tool.VIVADO, vivado))
    given = (f"{design.name}.xpr",)
    return [*subjects, Subject("bitstream", bitstream_script(design, version), Tool.VIVADO, vivado, given)]


def check_text(subject: Subject, text: str, version: str = _VERSION) -> list[Problem]:
    """What the model says of a text in a script's place."""
    with tempfile.NamedTemporaryFile("w", suffix=".tcl", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        return check_script(Path(file.name), subject.tool, version, None, subject.folder, given=subject.given)


def token_kind(token: str) -> str:
    """What a token is: bracket, option, number, setting, path or word."""
    if len(token) == 1 and token in '[]{}"':
        return "bracket"
    if token.startswith("-"):
        return "option"
    if re.fullmatch(r"[\d.]+(ns|%)?|0x[0-9a-fA-F]+", token):
        return "number"
    if token.startswith("CONFIG."):
        return "setting"
    return "path" if "/" in token or ":" in token else "word"


def _misspelt(token: str, random_source: random.Random) -> str:
    at = random_source.randrange(len(token))
    letter = random_source.choice("abcdefghijklmnopqrstuvwxyz0123456789_")
    forms = [token[:at] + token[at + 1 :], token[:at] + letter + token[at + 1 :], token[:at] + letter + token[at:]]
    if at + 1 < len(token):
        forms.append(token[:at] + token[at + 1] + token[at] + token[at + 2 :])
    return random_source.choice(forms)


def changed(text: str, kind: str, random_source: random.Random) -> tuple[str, int]:
    """A text with one token changed, and where; the text always differs."""
    tokens = list(_TOKEN.finditer(text))
    while True:
        number = random_source.randrange(len(tokens) - 1)
        token, following = tokens[number], tokens[number + 1]
        start, end = token.span()
        if kind == "misspell":
            result = text[:start] + _misspelt(token[0], random_source) + text[end:]
        elif kind == "drop":
            result = text[:start] + text[end:]
        elif kind == "swap":
            between = text[end : following.start()]
            result = text[:start] + following[0] + between + token[0] + text[following.end() :]
        else:
            others = [other[0] for other in tokens if token_kind(other[0]) != token_kind(token[0])]
            result = text[:start] + random_source.choice(others) + text[end:]
        if result != text:
            return result, start


def changes(subjects: list[Subject], count: int, seed: int) -> Iterator[Change]:
    """Changes scripts one at a time and has each checked."""
    random_source = random.Random(seed)
    groups = [[s for s in subjects if s.tool is Tool.VITIS_HLS], *([s] for s in subjects if s.tool is Tool.VIVADO)]
    for number in range(count):
        subject = random_source.choice(groups[number % len(groups)])
        kind = random_source.choice(KINDS)
        text, at = changed(subject.text, kind, random_source)
        line = subject.text.count("\n", 0, at)
        checks = tuple(dict.fromkeys(problem.check for problem in check_text(subject, text)))
        before, after = subject.text.splitlines()[line], text.splitlines()[min(line, text.count("\n") - 1)]
        yield Change(subject.name, kind, line + 1, before, after, checks)


def measure(board: str, count: int, seed: int) -> list[Change]:
    """Changes the scripts of a board's default design."""
    with tempfile.TemporaryDirectory() as name:
        subjects = build_folder(Path(name), default_design(board))
        return list(changes(subjects, count, seed))


def main() -> None:
    """Prints the share that is refused, and what is not."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--board", default="pynq-z2")
    parser.add_argument("--changes", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=Path, help="file for all changes")
    asked = parser.parse_args()
    found = measure(asked.board, asked.changes, asked.seed)
    refused = [change for change in found if change.checks]
    print(f"{len(refused)} of {len(found)} changes refused: {len(refused) / len(found):.1%}")
    for name, count in Counter(change.checks[0] for change in refused).most_common():
        print(f"  {count:4} {name}")
    for change in found:
        if not change.checks:
            print(f"accepted: {change.kind} in {change.script}, line {change.line}\n  {change.after[:160]}")
    if asked.json is not None:
        asked.json.write_text(json.dumps([asdict(change) for change in found], indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
