# SPDX-License-Identifier: Apache-2.0
"""Generated files are those of the tables, and a changed table or file is noticed by name."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from hetfab.overlay import errors
from hetfab.overlay.isa import generate
from hetfab.overlay.isa.spec import Isa, isa, parse

TABLE = Path(generate.__file__).parent / "isa.json"
FROM_TABLES = ["overlay/isa/codec.py", "docs/isa.md"]


def edited(old: str, new: str) -> Isa:
    """The tables with one text of ``isa.json`` replaced everywhere."""
    text = TABLE.read_text(encoding="utf-8")
    assert old in text
    return parse(json.loads(text.replace(old, new)))


@pytest.fixture
def tree(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    """A folder with freshly generated files and nothing else."""
    assert generate.main([], tmp_path) == 0
    written = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()}
    assert capsys.readouterr().out.splitlines() == [f"wrote {name}" for name in generate.generated_files(isa())]
    assert written == set(generate.generated_files(isa()))
    return tmp_path


def test_the_committed_files_are_current() -> None:
    command = [sys.executable, "-m", "hetfab.overlay.isa.generate", "--check"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (result.returncode, result.stderr) == (0, "")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"name": "row_beats", "lsb": 84, "bits": 13', '"name": "row_beats", "lsb": 84, "bits": 12'),
        ('"name": "reduce",\n      "opcode": 4', '"name": "reduce",\n      "opcode": 5'),
        ('"first_memory_offset": 256', '"first_memory_offset": 512'),
        ('"name": "segment", "code": 3', '"name": "segment", "code": 7'),
    ],
    ids=["field", "opcode", "register", "fault"],
)
def test_an_edited_table_makes_files_stale(tree: Path, old: str, new: str) -> None:
    assert generate.stale_files(isa(), tree) == []
    assert generate.stale_files(edited(old, new), tree) == FROM_TABLES


def test_a_new_error_makes_its_page_stale(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(errors.DeadlockError, "code", "stuck")
    assert generate.stale_files(isa(), tree) == ["docs/errors.md"]


def test_check_names_missing_and_altered_files_and_the_command(tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert generate.main(["--check"], tree) == 0
    (tree / "overlay/isa/codec.py").unlink()
    page = tree / "docs/isa.md"
    page.write_text(page.read_text(encoding="utf-8") + "more\n", encoding="utf-8")
    assert generate.main(["--check"], tree) == 1
    assert capsys.readouterr().err.splitlines() == [
        "overlay/isa/codec.py is stale; run: python -m hetfab.overlay.isa.generate",
        "docs/isa.md is stale; run: python -m hetfab.overlay.isa.generate",
    ]
    assert page.read_text(encoding="utf-8").endswith("more\n")


def test_every_error_code_is_on_its_page_once() -> None:
    page = (generate.ROOT / "docs/errors.md").read_text(encoding="utf-8")
    classes = [
        value
        for value in vars(errors).values()
        if isinstance(value, type) and issubclass(value, errors.HetfabError) and value is not errors.HetfabError
    ]
    assert len(classes) > 30
    for error in classes:
        assert page.count(f"| `{error.code}` | {error.exit_code} |") == 1


def test_the_codec_is_formatted() -> None:
    codec = str(generate.ROOT / "overlay/isa/codec.py")
    for arguments in (["format", "--check", codec], ["check", codec]):
        result = subprocess.run([sys.executable, "-m", "ruff", *arguments], capture_output=True, check=False)
        assert result.returncode == 0, result.stdout.decode()
