# SPDX-License-Identifier: Apache-2.0
"""The site of the pages: its navigation has every page once, in sections that begin where a newcomer does."""

import importlib.util
from collections import Counter
from pathlib import Path
from types import ModuleType

import pytest

from tests.page_steps import Place, steps_of

DOCS = Path(__file__).parents[1] / "docs"


@pytest.fixture(scope="module")
def settings() -> ModuleType:
    found = importlib.util.spec_from_file_location("site_settings", DOCS / "conf.py")
    assert found is not None and found.loader is not None
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


def test_the_navigation_has_every_page_once(settings: ModuleType) -> None:
    sections = dict(settings.navigation((DOCS / "index.md").read_text(encoding="utf-8")))
    entries = Counter(page for pages in sections.values() for page in pages)
    pages = {str(path.relative_to(DOCS).with_suffix("")) for path in DOCS.rglob("*.md")} - {"index"}
    assert set(entries) == pages
    assert max(entries.values()) == 1
    assert next(iter(sections)) == "Start" and sections["Start"][:2] == ["quickstart", "tutorial"]
    assert list(sections)[-1] == "Decisions" and all(sections.values())


def test_a_section_is_its_rows(settings: ModuleType) -> None:
    text = "# T\n\nSee [b](b.md).\n\n## One\n\n| [a](a.md) | see [c](c.md) |\n\n## Two\n\n| [d](x/d.md) | |\n"
    assert list(settings.navigation(text)) == [("One", ["a"]), ("Two", ["x/d"])]


def test_the_tutorial_prints_what_it_says(tmp_path: Path) -> None:
    (tmp_path / "driver").symlink_to(DOCS.parent / "driver")
    place, page = Place(tmp_path), (DOCS / "tutorial.md").read_text(encoding="utf-8")
    steps = list(steps_of(page))
    assert len(steps) >= 10
    for step in steps:
        place.follow(step)
