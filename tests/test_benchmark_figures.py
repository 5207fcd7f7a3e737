# SPDX-License-Identifier: Apache-2.0
"""The table of the last runs: every benchmark is in it, and every figure stands in the section that it names."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "benchmarks.md").read_text(encoding="utf-8")
NUMBER = re.compile(r"(?<![\w.,])-?\d+(?:,\d{3})*(?:\.\d+)?(?!\d)")


def section(heading: str, text: str = PAGE) -> str:
    """What stands between a heading and the next one that is no deeper; all of a page where there is no heading."""
    if not heading:
        return text
    lines = text.splitlines()
    titles = [re.match(r"(#+) (.*)", line) for line in lines]
    slugs = [re.sub(r"[^\w\- ]", "", title[2].lower()).replace(" ", "-") if title else "" for title in titles]
    first = slugs.index(heading)
    opening = titles[first]
    assert opening is not None
    deeper = (place for place in range(first + 1, len(lines)) if (title := titles[place]) and title[1] <= opening[1])
    return "\n".join(lines[first : next(deeper, len(lines))])


FIGURES = section("figures-of-the-last-runs")
#: benchmark, figure, last run, verified, page and heading.
ROWS = re.findall(
    r"^\| `(\w+)` \| (.+?) \| (.+?) \| ([\w, ]+) \| \[[^\]]+\]\(([^)#]*)#?([^)]*)\) \|$", FIGURES, re.MULTILINE
)


def test_every_benchmark_has_a_figure() -> None:
    commands = set(re.findall(r"^\| `\.venv/bin/python -m benchmarks\.(\w+)`", PAGE, re.MULTILINE))
    with_entry = {path.stem for path in (ROOT / "benchmarks").glob("*.py") if '"__main__"' in path.read_text("utf-8")}
    assert {row[0] for row in ROWS} == commands
    assert commands <= with_entry and len(commands) >= 20
    assert len(ROWS) == len(re.findall(r"^\| `\w+` \|", FIGURES, re.MULTILINE))


def test_each_figure_says_how_far_it_was_verified() -> None:
    kinds = set(re.findall(r"^\| (\w+) \| ", FIGURES.partition("| benchmark |")[0], re.MULTILINE)) - {"verified"}
    assert {kind for row in ROWS for kind in row[3].split(", ")} == kinds
    assert "board" not in kinds


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row[0]}-{row[2]}")
def test_a_figure_stands_where_the_table_says(row: tuple[str, ...]) -> None:
    _, _, value, _, page, heading = row
    text = (ROOT / "docs" / page).read_text(encoding="utf-8") if page else PAGE.replace(FIGURES, "")
    there = NUMBER.findall(section(heading, text))
    numbers = NUMBER.findall(value)
    assert numbers and not [number for number in numbers if number not in there]


def test_a_figure_that_is_elsewhere_is_found_out() -> None:
    assert NUMBER.findall("0.71, 1,000 of -0.04 %") == ["0.71", "1,000", "-0.04"]
    assert "17.8" not in NUMBER.findall(section("the-emulator"))
