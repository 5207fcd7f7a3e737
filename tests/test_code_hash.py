# SPDX-License-Identifier: Apache-2.0
"""The hash of code that results of long benchmarks are kept by."""

from pathlib import Path

import pytest

from tests.outside import module

CODE = module("benchmarks.code_hash")


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A package of four modules and a table."""
    (tmp_path / "inner").mkdir()
    for name, text in {
        "__init__.py": "",
        "first.py": "from ours import (\n    second,\n)\nimport json\n",
        "second.py": "def f():\n    from ours.inner.third import value\n",
        "other.py": "",
        "inner/__init__.py": "",
        "inner/third.py": "value = 1\n",
        "inner/table.json": "{}",
    }.items():
        (tmp_path / name).write_text(text)
    return tmp_path


@pytest.mark.parametrize(
    "changed, matters",
    [("first.py", 1), ("second.py", 1), ("inner/third.py", 1), ("inner/table.json", 1), ("other.py", 0)],
)
def test_it_is_of_what_a_module_imports(package: Path, changed: str, matters: bool) -> None:
    before = CODE.code_hash("ours.first", {"ours": package})
    assert CODE.code_hash("ours.first", {"ours": package}) == before
    (package / changed).write_text("[1]")
    assert (CODE.code_hash("ours.first", {"ours": package}) != before) is bool(matters)


def test_the_comparison_of_searches_depends_on_rounding_the_timeline_and_the_instruction_set() -> None:
    names = {"/".join(path.parts[-3:]) for path in CODE.files_of("benchmarks.search")}
    assert {"quantize/methods/descent.py", "overlay/timeline/simulate.py", "overlay/isa/isa.json"} <= names
    assert not any(name.endswith("cli/lint.py") for name in names)
