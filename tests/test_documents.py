# SPDX-License-Identifier: Apache-2.0
"""The pages for people: links lead somewhere, commands exist as written, examples give what they show."""

import ast
import doctest
import importlib
import re
import shlex
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import click
import pytest

from hetfab.cli.main import COMMANDS
from hetfab.driver.graph.npz import read_graph
from hetfab.overlay.isa.words import decode, field_slot
from hetfab.overlay.program import Symbol, SymbolKind, read_program
from tests.demo_files import DemoFiles

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
NAMES = [str(page.relative_to(ROOT)) for page in PAGES]
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
CODE = re.compile(r"^```.*?^```$|`[^`\n]*`", re.MULTILINE | re.DOTALL)


def text_of(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def anchors(text: str) -> set[str]:
    """Anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", FENCE.sub("", text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def broken_links(page: str) -> Iterator[str]:
    for target in LINK.findall(CODE.sub("", text_of(page))):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        file = (ROOT / page).parent / path if path else ROOT / page
        if not file.exists():
            yield f"{target}: no such file"
        elif anchor and anchor not in anchors(file.read_text(encoding="utf-8")):
            yield f"{target}: no such heading"


@pytest.mark.parametrize("page", NAMES)
def test_links_lead_somewhere(page: str) -> None:
    assert not list(broken_links(page))


def test_every_page_is_reached_from_the_index() -> None:
    linked = {(ROOT / "docs" / target).resolve() for target in LINK.findall(text_of("docs/index.md"))}
    assert not [str(page) for page in (ROOT / "docs").rglob("*.md") if page.resolve() not in linked | {index_page()}]


def index_page() -> Path:
    return (ROOT / "docs" / "index.md").resolve()


def test_decision_records_have_numbers_of_their_own() -> None:
    numbers = [page.name[:4] for page in sorted((ROOT / "docs" / "decisions").glob("*.md"))]
    assert numbers == [f"{number:04}" for number in range(1, len(numbers) + 1)]


def shell_lines(page: str) -> list[str]:
    """Lines of a page that call hetfab: indented ones, and those in fences."""
    lines = re.findall(r"^(?: +|\$ +| +\$ +)((?:\.venv/bin/)?hetfab [a-z].*)$", text_of(page), re.MULTILINE)
    return [line.split(" | ")[0] for line in lines]


def command_of(name: str) -> click.Command:
    found: click.Command = importlib.import_module(COMMANDS[name].module).command
    return found


def problems(line: str) -> Iterator[str]:
    """What the command line would refuse in a call as a page shows it."""
    _, name, *arguments = shlex.split(line)
    if name not in COMMANDS:
        yield f"{line}: no command '{name}'"
        return
    try:
        command_of(name).make_context(f"hetfab {name}", arguments)
    except click.ClickException as error:
        yield f"{line}: {error.format_message()}"


@pytest.mark.parametrize("page", ["README.md", "docs/cli.md", "docs/quantization.md"])
def test_calls_of_hetfab_are_accepted_as_written(page: str) -> None:
    lines = shell_lines(page)
    assert len(lines) >= 4
    assert not [problem for line in lines for problem in problems(line)]


def test_wrong_calls_are_recognised() -> None:
    calls = ("hetfab fly m.onnx", "hetfab run p.hfp --graph g.npz --speed 3", "hetfab quantize m.onnx --graph g.npz")
    assert all(list(problems(call)) for call in calls)


def option_rows(section: str) -> set[str]:
    first_cells = re.findall(r"^\| ([^|]+) \|", section, re.MULTILINE)
    return {option for cell in first_cells for option in re.findall(r"`(--?[A-Za-z][A-Za-z-]*)`", cell)}


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_is_described(name: str) -> None:
    common, *sections = re.split(r"^## hetfab ", text_of("docs/cli.md"), flags=re.MULTILINE)
    section = next(section for section in sections if section.startswith(f"{name}\n"))
    options = {
        option
        for parameter in command_of(name).params
        if isinstance(parameter, click.Option)
        for option in parameter.opts
    }
    shared = {"--json", "--debug"}
    assert shared <= option_rows(common)
    assert option_rows(section) == options - shared


def test_make_targets_of_the_pages_exist() -> None:
    targets = set(re.findall(r"^(\w+):", text_of("Makefile"), re.MULTILINE))
    named = {target for page in NAMES for target in re.findall(r"(?:`|^ {4})make (\w+)", text_of(page), re.MULTILINE)}
    assert {"demo", "test"} <= named
    assert named <= targets


#: Pages that a test follows from top to bottom, in a copy of the tree: test_how_tos.py.
HOW_TOS = [name for name in NAMES if name.startswith("docs/how-to/")]


#: The blocks of the quickstart build on each other; test_python_api.py runs them.
@pytest.mark.parametrize("page", [name for name in NAMES if name not in ("docs/quickstart.md", *HOW_TOS)])
def test_python_examples_run(page: str) -> None:
    """Examples with prompts give what they show; other Python in a fence, or in a shell's here-document, parses."""
    failed, _ = doctest.testfile(str(ROOT / page), module_relative=False)
    assert failed == 0
    for language, body in FENCE.findall(text_of(page)):
        if language == "python" and ">>>" not in body:
            exec(compile(body, page, "exec"), {"__name__": "example"})
        for script in re.findall(r"<<'END'\n(.*?)^END$", body, re.MULTILINE | re.DOTALL):
            imports_resolve(ast.parse(script))


def imports_resolve(tree: ast.Module) -> None:
    """Names that a script imports exist; its files come from earlier commands, so it does not run here."""
    for node in tree.body:
        if isinstance(node, ast.ImportFrom):
            module = importlib.import_module(node.module or "")
            assert not [alias.name for alias in node.names if not hasattr(module, alias.name)]


SUFFIXES = "py|json|hpp|cpp|md|onnx|ipynb|html|npz|hfp|csv|txt|toml"
ROOTS = "overlay|quantize|hls|driver|cli|tests|benchmarks|docs|examples|.ci"
#: A reader's script in a page that shows how to start it, how decision records are named, a file of another project.
NOT_HERE = {"notebook.py", "docs/decisions/NNNN-title.md", "src/finn/transformation/fpgadataflow/templates.py"}


def named_files(page: str) -> set[str]:
    """Python files that a page names, and other files by their place in the tree."""
    text = text_of(page)
    scripts = set(re.findall(r"(?<![\w./-])([\w./-]+\.py)\b", text))
    created = re.findall(r"(?:^Create `| > )([^`\s]+)(?:`:)?$", text, re.MULTILINE) if page in HOW_TOS else []
    named = scripts | set(re.findall(rf"(?<![\w./-])((?:{ROOTS})/[\w./-]+\.(?:{SUFFIXES}))\b", text))
    return named - NOT_HERE - set(created)


@pytest.mark.parametrize("page", NAMES)
def test_files_that_are_named_exist(page: str) -> None:
    """A Python file may be named by the end of its path where the text says the folder."""
    tracked = [f"/{path.relative_to(ROOT)}" for root in ROOTS.split("|") for path in (ROOT / root).rglob("*.*")]
    missing = {name for name in named_files(page) if not any(path.endswith(f"/{name}") for path in tracked)}
    assert missing == set()


@pytest.mark.parametrize("page", [name for name in NAMES if name not in HOW_TOS])
def test_modules_that_are_named_exist(page: str) -> None:
    """In calls (``-m``), and in imports of scripts that a page shows and no test runs."""
    text = text_of(page)
    imports = re.findall(r"^ *from ([\w.]+) import ([\w, ]+)$", text, re.MULTILINE)
    own = [name for name, _ in imports if re.match(r"(hetfab|benchmarks|examples|tests)\b", name)]
    for name in [*own, *re.findall(r"-m ((?:hetfab|benchmarks)\.[\w.]+\w)", text)]:
        path = ROOT.joinpath(*name.removeprefix("hetfab.").split("."))
        assert path.with_suffix(".py").is_file() or path.is_dir(), name
    for module, names in imports:
        if module.startswith("hetfab."):
            found = importlib.import_module(module)
            assert not [name for name in names.split(", ") if not hasattr(found, name)]


@pytest.fixture(scope="module")
def demo_folder(demo_files: DemoFiles, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the demo's files where `make demo` puts them."""
    folder = tmp_path_factory.mktemp("pages")
    (folder / "build" / "demo").mkdir(parents=True)
    for path in (demo_files.graph, demo_files.quantized, demo_files.program):
        shutil.copy(path, folder / "build" / "demo")
    return folder


def test_the_decoded_block_is_the_one_of_the_demo(demo_folder: Path) -> None:
    (shown,) = [body for language, body in FENCE.findall(text_of("docs/program.md")) if language == "console"]
    script, output = shown.removeprefix("$ .venv/bin/python - <<'END'\n").split("\nEND\n")
    run = subprocess.run([sys.executable, "-c", script], cwd=demo_folder, capture_output=True, text=True, check=True)
    assert run.stdout == output


def test_the_patches_of_the_decoded_block_are_those_of_the_demo(demo_folder: Path) -> None:
    page = text_of("docs/program.md")
    program = read_program(demo_folder / "build/demo/rgcn.hfp")
    block = program.blocks[1]
    operations = [decode(low | high << 64).operation for low, high in block.words.tolist()]
    rows = re.findall(r"^\| (\d) `(\w+)` \| `(\w+)` \| (.*?) \|", page, re.MULTILINE)
    assert len(rows) == 3
    for index, name, field, patch in rows:
        assert operations[int(index)].name == name
        half, shift, _ = field_slot(name, field)
        place = (block.patches["instruction"] == int(index)) & (block.patches["word"] == half)
        (found,) = block.patches[place & (block.patches["shift"] == shift)]
        if symbol := re.fullmatch(r"symbol (\d+) \((\w+) `(\w+)`\), `per_iteration` (\d+)", patch):
            number, kind, tensor, step = symbol.groups()
            assert (found["symbol"], found["per_iteration"]) == (int(number), int(step))
            assert program.symbols[int(number)] == Symbol(SymbolKind(kind), tensor)
        else:
            ((number, memory, position),) = re.findall(r"^ring (\d+) \(`(\w+)`\), position (-?\d+)$", patch)
            assert (found["ring"], found["position"]) == (int(number), int(position))
            assert program.rings[int(number)].memory == memory
    papers = read_graph(demo_folder / "build/demo/academic.npz").counts["paper"]
    full, left = divmod(papers, block.tile_rows)
    assert f"Three of the block's {len(block.patches)} patches" in page
    assert (
        f"The graph has {papers:,} papers: the block runs {full} times, then the tail's block once with {left} rows"
        in page
    )


def test_the_size_of_the_demos_header_is_right(demo_folder: Path) -> None:
    with zipfile.ZipFile(demo_folder / "build/demo/rgcn.hfp") as archive:
        entry = archive.getinfo("program.json")
    text = " ".join(text_of("docs/decisions/0004-program-file-is-a-zip.md").split())
    assert (
        f"the demo's header is {entry.file_size / 1000:.0f} kB, and {entry.compress_size / 1000:.1f} kB in the file"
        in text
    )


def test_the_picture_is_well_formed_and_has_a_text() -> None:
    picture = ElementTree.parse(ROOT / "docs" / "flow.svg").getroot()
    space = "{http://www.w3.org/2000/svg}"
    sizes = [float(node.get("font-size", 17)) for node in picture.iter() if node.tag in (f"{space}g", f"{space}text")]
    assert min(sizes) >= 14
    assert picture.find(f"{space}desc") is not None
