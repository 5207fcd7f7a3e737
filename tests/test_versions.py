# SPDX-License-Identifier: Apache-2.0
"""Files of older and newer versions: converted or refused with a command, and no format changes without its number.

``tests/data/old`` holds files as older sources of this project wrote them; the number in a name is the version.
"""

import dataclasses
import enum
import hashlib
import json
import re
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args, get_type_hints

import numpy as np
import pytest

from hetfab.cli.main import main
from hetfab.driver.graph import profile
from hetfab.driver.graph.facts import read_workload
from hetfab.driver.graph.npz import read_graph, write_graph
from hetfab.driver.package import find_package, write_emulated_package
from hetfab.overlay.design import default_design, design_from_dict, read_design
from hetfab.overlay.errors import DesignInvalidError, FormatVersionError, WorkloadUnreadableError
from hetfab.overlay.isa.spec import isa
from hetfab.overlay.package import read_emulated_bit
from hetfab.overlay.program import PATCH_DTYPE, Program, read_program, write_program
from hetfab.overlay.versions import DESIGN, FORMATS, GRAPH, PACKAGE, PROGRAM, WORKLOAD, hetfab_version
from tests.conftest import SMALL_GEOMETRY
from tests.programs import compiled, quantized
from tests.random_models import random_case
from tests.test_workload_facts import layers_of, papers_and_authors

ROOT = Path(__file__).parents[1]
OLD = Path(__file__).parent / "data" / "old"
UPDATE = "update the hetfab that reads it: pip install --upgrade hetfab"
#: What files of each version hold, in short. A new version gets a line; a line never changes.
SHAPES = {
    "hetfab program 4": "3864527d449c9be2",
    "hetfab design 3": "173b967d450a496e",
    "hetfab overlay 2": "b09787164f517248",
    "hg-npz/1": "0dd6d19216cec82c",
    "hetfab-workload/2": "b1e5995021391360",
    "instruction set 1.1": "3c1da736fa3bed07",
}


def refused(read: Callable[[], object]) -> tuple[str, str, str]:
    """What is found, expected and to be done."""
    with pytest.raises(FormatVersionError) as caught:
        read()
    return caught.value.found, caught.value.expected, caught.value.do


def expected_of(version: int) -> str:
    return f"version {version}, which this hetfab, {hetfab_version()}, reads"


@pytest.mark.parametrize(("name", "version"), [("program-1", 1), ("program-2", 2), ("program-1-late", 1)])
def test_an_old_program_names_the_command_that_compiles_it(name: str, version: int) -> None:
    path = OLD / f"{name}.hfp"
    found = f"the program '{path}' has version {version} of its format 'hetfab program'"
    do = f"make it anew: hetfab compile model -o {path}"
    assert refused(lambda: read_program(path)) == (found, expected_of(4), do)


def test_a_newer_program_asks_for_a_newer_hetfab(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "m.hfp", "w") as archive:
        archive.writestr("program.json", json.dumps({"format": "hetfab program 5", "parts": "unknown here"}))
    found = f"the program '{tmp_path / 'm.hfp'}' has version 5 of its format 'hetfab program'"
    assert refused(lambda: read_program(tmp_path / "m.hfp")) == (found, expected_of(4), UPDATE)


def test_the_command_line_says_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", str(OLD / "program-2.hfp"), "--graph", str(OLD / "graph-1.npz"), "--json"]) == 1
    error = json.loads(capsys.readouterr().out)["error"]
    assert (error["code"], error["expected"]) == ("format-version", expected_of(4))


@pytest.mark.parametrize("name", ["x'; rm -r y", "\x1b[2J", "", 7, "n" * 400])
def test_a_name_in_a_program_is_quoted_or_left_out(tmp_path: Path, name: Any) -> None:
    with zipfile.ZipFile(tmp_path / "m.hfp", "w") as archive:
        archive.writestr("program.json", json.dumps({"format": "hetfab program 1", "model_name": name}))
    quoted = "'x'\"'\"'; rm -r y'" if name == "x'; rm -r y" else "MODEL.q.onnx"
    assert f"hetfab compile {quoted} -o " in refused(lambda: read_program(tmp_path / "m.hfp"))[2]


def test_a_design_with_one_core_is_refused() -> None:
    path = OLD / "design-1.json"
    found = f"the design '{path}' has version 1 of its format 'hetfab design'"
    do = (
        "make it anew: hetfab search MODEL --workload WORKLOAD --board pynq-z2 -o DESIGN.json, "
        "or leave out --design for the board's own"
    )
    assert refused(lambda: read_design(path)) == (found, expected_of(3), do)


def test_a_design_without_later_parts_is_converted_to_one_that_lacks_them() -> None:
    old, design = json.loads((OLD / "design-2.json").read_text("utf-8")), read_design(OLD / "design-2.json")
    new = json.loads(json.dumps(design.as_dict()))
    assert new["format"] == "hetfab design 3"
    assert {name: new[name] for name in old if name != "geometry"} == {n: v for n, v in old.items() if n != "geometry"}
    assert old["geometry"].items() <= new["geometry"].items()
    lacking = set(new["geometry"]) - set(old["geometry"])
    assert {"feature_words", "agg_heads", "fun_words", "exp_words"} <= lacking
    assert not {
        name for name in lacking if name.startswith(("fun", "norm", "exp", "feature")) and new["geometry"][name]
    }


def test_the_last_designs_without_a_version_are_read_as_they_are() -> None:
    old = json.loads((OLD / "design-2-late.json").read_text("utf-8"))
    assert json.loads(json.dumps(read_design(OLD / "design-2-late.json").as_dict())) == {"format": DESIGN.mark, **old}


def test_conversion_believes_nothing_else() -> None:
    """A parameter that was always there is still asked for, and one that never was is still refused."""
    old = json.loads((OLD / "design-2.json").read_text("utf-8"))
    for change, problem in (
        ({k: v for k, v in old["geometry"].items() if k != "act_d_words"}, "missing: act_d_words"),
        (old["geometry"] | {"new": 1}, "unknown: new"),
    ):
        with pytest.raises(DesignInvalidError, match=problem):
            design_from_dict(old | {"geometry": change}, "d.json")


@pytest.mark.parametrize(
    "mark", ["hetfab program 4", "hetfab design 3 ", "hetfab design", None, 3, ["hetfab design 3"]]
)
def test_another_mark_of_a_design_is_damage(mark: Any) -> None:
    with pytest.raises(DesignInvalidError, match="'hetfab design 3'"):
        design_from_dict(default_design().as_dict() | {"format": mark}, "d.json")


def test_a_newer_design_asks_for_a_newer_hetfab() -> None:
    table = default_design().as_dict() | {"format": "hetfab design 4"}
    found = "the design 'd.json' has version 4 of its format 'hetfab design'"
    assert refused(lambda: design_from_dict(table, "d.json")) == (found, expected_of(3), UPDATE)


@pytest.mark.parametrize("name", ["package-1", "package-1-late"])
def test_an_old_package_names_the_command_that_builds_it(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "pynq-z2"
    folder.mkdir()
    for suffix in ("json", "bit"):
        shutil.copy(OLD / f"{name}.{suffix}", folder / f"pynq-z2.{suffix}")
    found = f"the overlay package '{folder / 'pynq-z2.json'}' has version 1 of its format 'hetfab overlay'"
    do = "make it anew: hetfab build --board pynq-z2 --emulated"
    assert refused(lambda: find_package(folder)) == (found, expected_of(2), do)


def test_an_old_package_of_a_bitstream_is_built_with_tools(tmp_path: Path) -> None:
    table = json.loads((OLD / "package-1-late.json").read_text("utf-8"))
    (tmp_path / "p.json").write_text(json.dumps(table | {"kind": "hardware"}), "utf-8")
    assert refused(lambda: find_package(tmp_path / "p.json"))[2] == "make it anew: hetfab build --board pynq-z2"


def test_the_bit_file_of_an_old_emulated_overlay_is_refused_alone() -> None:
    path = OLD / "package-1-late.bit"
    found, expected, do = refused(lambda: read_emulated_bit(path))
    assert found == f"the overlay package '{path}' has version 1 of its format 'hetfab overlay'"
    assert (expected, do) == (expected_of(2), "make it anew: hetfab build --board pynq-z2 --emulated")


def test_newer_packages_ask_for_a_newer_hetfab(tmp_path: Path) -> None:
    (tmp_path / "p.json").write_text('{"format": "hetfab overlay 3"}', "utf-8")
    assert refused(lambda: find_package(tmp_path / "p.json"))[1:] == (expected_of(2), UPDATE)


def test_old_graphs_are_read_and_newer_ones_refused(tmp_path: Path) -> None:
    graph = read_graph(OLD / "graph-1.npz")
    assert (graph.counts, graph.metapaths) == ({"paper": 3, "author": 2}, {"PAP": ("pa", "ap")})
    np.savez(tmp_path / "g.npz", meta=np.array('{"format": "hg-npz/2"}'))
    found = f"the graph '{tmp_path / 'g.npz'}' has version 2 of its format 'hg-npz'"
    assert refused(lambda: read_graph(tmp_path / "g.npz")) == (found, expected_of(1), UPDATE)


def test_late_workloads_of_version_1_hold_all_that_version_2_does(tmp_path: Path) -> None:
    layers = layers_of(papers_and_authors())
    late = json.loads((OLD / "workload-1-late.json").read_text("utf-8"))
    facts = read_workload(OLD / "workload-1-late.json", layers)
    (tmp_path / "w.json").write_text(json.dumps(late | {"format": "hetfab-workload/2"}), "utf-8")
    again = read_workload(tmp_path / "w.json", layers)
    assert (facts.name, facts.counts, facts.features) == (again.name, again.counts, again.features)
    assert [ends.count for ends in facts.sources.values()] == [ends.count for ends in again.sources.values()]
    path = OLD / "workload-1.json"
    found = f"the workload '{path}' has version 1 of its format 'hetfab-workload'"
    do = f"make it anew: hetfab graph GRAPH --workload {path}"
    assert refused(lambda: read_workload(path, layers)) == (found, expected_of(2), do)
    del late["relations"]
    (tmp_path / "w.json").write_text(json.dumps(late | {"format": "hetfab-workload/2"}), "utf-8")
    with pytest.raises(WorkloadUnreadableError):
        read_workload(tmp_path / "w.json", layers)
    (tmp_path / "w.json").write_text(json.dumps({"format": "hetfab-workload/3"}), "utf-8")
    assert refused(lambda: read_workload(tmp_path / "w.json", layers))[1:] == (expected_of(2), UPDATE)


@pytest.mark.parametrize(
    "mark", ["hetfab program 4x", "hetfab program -1", "hetfab program 1234567", "hetfab program ٣"]
)
def test_a_mark_is_a_name_and_a_number(mark: str) -> None:
    assert PROGRAM.stated(mark) is None


def fields_of(kind: Any, seen: set[Any]) -> dict[str, Any]:
    """Fields of a dataclass and of those that it holds; members of enumerations."""
    found: dict[str, Any] = {}
    for part in get_args(kind):
        found |= fields_of(part, seen)
    if kind in seen or not isinstance(kind, type):
        return found
    seen.add(kind)
    if issubclass(kind, enum.Enum):
        return {kind.__name__: [str(member.value) for member in kind]}
    if dataclasses.is_dataclass(kind):
        hints = get_type_hints(kind)
        found[kind.__name__] = [field.name for field in dataclasses.fields(kind)]
        for field in dataclasses.fields(kind):
            found |= fields_of(hints[field.name], seen)
    return found


def keys_of(value: Any) -> Any:
    """The keys of JSON, without its values."""
    if isinstance(value, dict):
        return {key: keys_of(inner) for key, inner in value.items()}
    return [keys_of(value[0])] if isinstance(value, list) and value else type(value).__name__


def encoding() -> Any:
    """What the instruction set's version stands for: all numbers and names, no prose, no declared sets."""

    def bare(value: Any) -> Any:
        if isinstance(value, dict):
            return {k: bare(v) for k, v in value.items() if k not in ("meaning", "reads", "writes", "version")}
        return [bare(inner) for inner in value] if isinstance(value, list | tuple) else value

    return bare({f.name: dataclasses.asdict(isa())[f.name] for f in dataclasses.fields(isa())})


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """By mark, what a file of it holds."""
    folder, design = tmp_path_factory.mktemp("shapes"), default_design()
    program_types = {k: v for k, v in fields_of(Program, set()).items() if k not in ("Design", "Geometry", "Stage")}
    case = random_case(3)
    write_program(folder / "m.hfp", compiled(quantized(case).model, case.graph, SMALL_GEOMETRY))
    with zipfile.ZipFile(folder / "m.hfp") as archive:
        header = json.loads(archive.read("program.json"))
        members = sorted(archive.namelist())
    assert header["format"] == PROGRAM.mark
    package = write_emulated_package(folder, design)
    description = json.loads(package.bit.with_suffix(".json").read_text("utf-8"))
    write_graph(folder / "g.npz", read_graph(OLD / "graph-1.npz"))
    with np.load(folder / "g.npz") as arrays:
        graph = [sorted(arrays.files), keys_of(json.loads(str(arrays["meta"])))]
    major, minor = isa().version
    return {
        header["format"]: [members, sorted(header), program_types, PATCH_DTYPE.descr],
        design.as_dict()["format"]: keys_of(json.loads(json.dumps(design.as_dict()))),
        description["format"]: keys_of({**description, "design": None}),
        GRAPH.mark: graph,
        WORKLOAD.mark: fields_of(profile.GraphProfile, set()),
        f"instruction set {major}.{minor}": encoding(),
    }


@pytest.mark.parametrize("mark", SHAPES)
def test_what_files_hold_changes_with_the_version_alone(mark: str, shapes: dict[str, Any]) -> None:
    assert mark in shapes, f"{mark} is no version of today; give today's a line of its own"
    text = json.dumps(shapes[mark], sort_keys=True, default=str)
    found = hashlib.sha256(text.encode()).hexdigest()[:16]
    assert SHAPES[mark] == found, (
        f"{mark} holds other things than before: raise its version, in versions.py or isa.json"
    )


def test_every_format_has_a_shape_and_a_row_of_the_page() -> None:
    marks = {form.mark for form in FORMATS}
    assert marks == {mark for mark in SHAPES if not mark.startswith("instruction set")}
    page = (ROOT / "docs/versions.md").read_text("utf-8")
    assert set(re.findall(r"^\| `([^`]+)` \|", page, re.MULTILINE)) == marks
    assert PACKAGE in FORMATS


def test_the_version_stands_in_pyproject_alone() -> None:
    stated = re.search(r'^version = "([^"]+)"', (ROOT / "pyproject.toml").read_text("utf-8"), re.MULTILINE)
    assert stated and hetfab_version() == stated[1]
    assert all(form.version > max(form.conversions, default=0) for form in FORMATS)
