# SPDX-License-Identifier: Apache-2.0
"""The how-tos: each page's changes are made in a copy of the tree, where its commands print what it says."""

from pathlib import Path

import pytest

from tests.page_steps import ROOT, Step, TreeCopy, steps_of

PAGES = sorted((ROOT / "docs" / "how-to").glob("*.md"))


def test_there_is_a_page_for_each_kind_of_extension() -> None:
    kinds = ("a-board", "a-command", "a-method", "an-engine", "an-operator")
    assert [page.stem for page in PAGES] == [f"add-{kind}" for kind in kinds]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_does_what_it_says(page: Path, tmp_path: Path) -> None:
    steps = list(steps_of(page.read_text(encoding="utf-8")))
    assert {"sh", "console"} & {step.language for step in steps if not step.place}
    assert any(step.place for step in steps)
    copy = TreeCopy(tmp_path)
    for step in steps:
        copy.follow(step)


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> TreeCopy:
    return TreeCopy(tmp_path_factory.mktemp("tree"))


def test_the_copy_is_what_runs(tree: TreeCopy) -> None:
    printed = tree.run("python -c 'import hetfab.overlay.errors as module; print(module.__file__)'")
    assert Path(printed.strip()).resolve() == tree.folder / "overlay" / "errors.py"


@pytest.mark.parametrize(
    ("step", "message"),
    [
        (Step("In `cli/main.py`, below `no such line`", "python", "x\n"), "0 lines of cli/main.py hold 'no such line'"),
        (Step("In `cli/main.py`, below `import`", "python", "x\n"), "lines of cli/main.py hold 'import'"),
        (Step("Create `cli/main.py`", "python", "x\n"), "cli/main.py is there already"),
        (Step("In `cli/main.py`, near `import click`", "python", "x\n"), "is not a step"),
        (Step("", "sh", "false\n"), "false"),
        (Step("", "console", "$ echo one\ntwo\n"), "what 'echo one' prints"),
    ],
)
def test_a_page_that_is_wrong_fails(tree: TreeCopy, step: Step, message: str) -> None:
    with pytest.raises(AssertionError, match=message):
        tree.follow(step)


def test_lines_go_where_a_step_says(tree: TreeCopy) -> None:
    (tree.folder / "lines.txt").write_text("one\ntwo\n", encoding="utf-8")
    for where, body in (("above", "half\n"), ("below", "between\n"), ("instead of", "1\n")):
        tree.follow(Step(f"In `lines.txt`, {where} `one`", "text", body))
    assert (tree.folder / "lines.txt").read_text(encoding="utf-8") == "half\n1\nbetween\ntwo\n"
