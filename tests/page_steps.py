# SPDX-License-Identifier: Apache-2.0
"""The steps of a page that changes the tree: files to create, lines to insert, commands.

A step is a line of the page and the fence behind it:

- ``Create `path`:`` makes the fence a file;
- ``In `path`, below `text`:`` inserts the fence behind the one line that holds the text; ``above`` before it, ``instead
  of`` in its place;
- a fence ``sh`` is commands that must succeed; a fence ``console`` has commands behind ``$``, and exactly what they
  print.
"""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
_PACKAGES = ("overlay", "quantize", "hls", "driver", "cli")
_COPIED = (*_PACKAGES, "tests", "docs", "pyproject.toml", "README.md", "CHANGELOG.md", "CONTRIBUTING.md", "Makefile")
#: Public models of other makers, and quantized ones: half of the folder, and no page needs them.
_LEFT_OUT = shutil.ignore_patterns("__pycache__", "data")
_FENCE = re.compile(
    r"(?:^(?P<place>(?:Create|In) `[^\n]+):\n\n)?^```(?P<language>\w+)\n(?P<body>.*?)^```$", re.M | re.S
)
_PLACE = re.compile(
    r"(?:Create `(?P<created>[^`]+)`|In `(?P<path>[^`]+)`, (?P<where>below|above|instead of) `(?P<text>.+)`)"
)


@dataclass(frozen=True)
class Step:
    """A fence of a page and the line that says what it is for, empty for commands."""

    place: str
    language: str
    body: str


def steps_of(page: str) -> Iterator[Step]:
    """Yields the steps of a page's text; fences that are neither changes nor commands are left out."""
    for found in _FENCE.finditer(page):
        step = Step(found["place"] or "", found["language"], found["body"])
        if step.place or step.language in ("sh", "console"):
            yield step


class Place:
    """A folder in which a page is followed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        binaries = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        self.environment = {**os.environ, "PATH": binaries, "COLUMNS": "200"}

    def follow(self, step: Step) -> None:
        """Runs the commands of a step, and compares what they print."""
        if step.language == "console":
            for command, printed in re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", step.body, re.MULTILINE):
                found = self.run(command)
                assert found == printed, f"what '{command}' prints:\n{found}"
        else:
            for command in step.body.splitlines():
                self.run(command)

    def run(self, command: str) -> str:
        """What a command of a shell prints, stopping with it if it fails."""
        found = subprocess.run(
            ["bash", "-c", command], cwd=self.folder, env=self.environment, capture_output=True, text=True, check=False
        )
        assert found.returncode == 0, f"{command}\n{found.stdout[-3000:]}{found.stderr[-3000:]}"
        return found.stdout


class TreeCopy(Place):
    """A copy of the tree whose packages are imported in place of the installed ones."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder / "hetfab")
        self.folder.mkdir()
        for name in _COPIED:
            source, target = ROOT / name, self.folder / name
            if source.is_dir():
                shutil.copytree(source, target, ignore=_LEFT_OUT)
            else:
                shutil.copy(source, target)
        # The copy is a folder 'hetfab' with the packages in it, found before the installed ones.
        self.environment["PYTHONPATH"] = str(folder)

    def follow(self, step: Step) -> None:
        """Makes the change, or runs the commands."""
        if step.place:
            self._change(step)
        else:
            super().follow(step)

    def _change(self, step: Step) -> None:
        place = _PLACE.fullmatch(step.place)
        assert place is not None, f"'{step.place}:' is not a step"
        if place["created"]:
            path = self.folder / place["created"]
            assert not path.exists(), f"{place['created']} is there already"
            path.write_text(step.body, encoding="utf-8")
            return
        path = self.folder / place["path"]
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
        held = [number for number, line in enumerate(lines) if place["text"] in line]
        assert len(held) == 1, f"{len(held)} lines of {place['path']} hold '{place['text']}'"
        first, end = {"below": (1, 1), "above": (0, 0), "instead of": (0, 1)}[place["where"]]
        lines[held[0] + first : held[0] + end] = [step.body]
        path.write_text("".join(lines), encoding="utf-8")
