# SPDX-License-Identifier: Apache-2.0
"""The steps of a build, from C++ sources to the package: what each needs, does and leaves (docs/build.md)."""

import dataclasses
import functools
import hashlib
import json
import shutil
import xml.etree.ElementTree as ET
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from hetfab.hls.build.bitstream.configuration import BuildConfiguration
from hetfab.hls.build.bitstream.differences import (
    loop_differences,
    placed_differences,
    resource_differences,
)
from hetfab.hls.build.bitstream.machine import Machine
from hetfab.hls.build.bitstream.reports import read_synthesis, read_timing, read_utilization
from hetfab.hls.build.bitstream.scripts import (
    CSYNTH_REPORT,
    STAGES_FOLDER,
    bitstream_script,
    block_design_script,
    engine_script,
)
from hetfab.hls.build.bitstream.tools import failure, run_command, title
from hetfab.hls.build.design_header import design_header
from hetfab.hls.tcl_check.problem import Tool
from hetfab.overlay.bit_file import decode_bit_file
from hetfab.overlay.blockdesign.build import hls_vlnv
from hetfab.overlay.blockdesign.platform import fabric_clock_mhz
from hetfab.overlay.board import read_board
from hetfab.overlay.costs.cycles import loops_of
from hetfab.overlay.design import Design
from hetfab.overlay.errors import TimingFailedError, ToolFailedError
from hetfab.overlay.files import make_folder, write_atomic
from hetfab.overlay.package import Kind, write_package

_HLS = Path(__file__).resolve().parents[2]
#: Folders of the sources that Vitis HLS reads, with the kinds of files.
_SOURCES = {"include": ("*.hpp",), "kernels": ("*.hpp", "*.cpp"), "verilog": ("*.v", "*.json", "*.cpp")}
#: Free space that a step asks for before it starts. Assumed: no build has been run here.
_SYNTHESIS_BYTES, _BLOCK_DESIGN_BYTES, _BITSTREAM_BYTES = 1 << 30, 2 << 30, 6 << 30
SYNTHESIS = "synthesis"


@dataclass(frozen=True)
class Bench:
    """What a step works with.

    Attributes:
        configuration: Of the build.
        version: Release of the tools.
        machine: Where they run.
    """

    configuration: BuildConfiguration
    version: str
    machine: Machine

    @property
    def root(self) -> Path:
        """The build's folder."""
        return self.configuration.folder


@dataclass(frozen=True)
class Step:
    """A step.

    Attributes:
        name: Unique; an engine stands behind a colon.
        after: Steps whose products it reads.
        recipe: Texts that decide what it does, beside those products.
        outputs: Files and folders that it leaves, from the build's folder.
        work: Does it.
        scratch: What else it writes; removed before it starts, as the outputs are.
        script: A script for a tool: tool, path, text.
        spends: A step whose product it changes, so that it can start once on each.
        disk_bytes: Free space that it asks for.
    """

    name: str
    after: tuple[str, ...]
    recipe: tuple[str, ...]
    outputs: tuple[Path, ...]
    work: Callable[[Bench], None]
    scratch: tuple[Path, ...] = ()
    script: tuple[Tool, Path, str] | None = None
    spends: str | None = None
    disk_bytes: int = 0

    @property
    def family(self) -> str:
        """Its name without the engine: what ``--from`` and ``--to`` name."""
        return self.name.partition(":")[0]


def build_steps(configuration: BuildConfiguration, version: str) -> list[Step]:
    """All steps of a build in their order.

    Args:
        configuration: Of the build.
        version: Release of the tools that the scripts are for.
    """
    return [
        _sources(configuration),
        *(_synthesis(configuration, engine, version) for engine in configuration.engines),
        _ip(configuration),
        _resources(configuration),
        _block_design(configuration, version),
        _bitstream(configuration, version),
        _timing(configuration),
        _package(configuration),
    ]


def step_names() -> list[str]:
    """What ``--from`` and ``--to`` may name, in order."""
    return ["sources", SYNTHESIS, "ip", "resources", "block-design", "bitstream", "timing", "package"]


def _sources(configuration: BuildConfiguration) -> Step:
    target = configuration.places.sources
    design = json.dumps(configuration.design.as_dict(), indent=1, sort_keys=True) + "\n"
    texts = {f"{folder}/{path.relative_to(_HLS / folder)}": path.read_bytes()
             for folder, patterns in _SOURCES.items()
             for pattern in patterns for path in sorted((_HLS / folder).rglob(pattern))}  # fmt: skip
    header = design_header(configuration.design.geometry, configuration.design.identity)
    texts |= {"design.hpp": header.encode(), "design.json": design.encode()}

    def work(bench: Bench) -> None:
        for name, raw in texts.items():
            path = bench.root / target / name
            make_folder(path.parent)
            _write(path, raw)
        if configuration.design.stages:
            _write_stages(bench.root / target / STAGES_FOLDER, configuration.design)

    content = "\n".join(f"{hashlib.sha256(raw).hexdigest()} {name}" for name, raw in texts.items())
    return Step("sources", (), (content,), (target,), work)


def _write_stages(folder: Path, design: Design) -> None:
    """Writes the stages of fixed weights, anew: hls4ml writes into folders."""
    from hetfab.hls.build.dataflow.sources import write_project_stages

    remove(folder)
    make_folder(folder)
    write_project_stages(folder, design.stages, read_board(design.board).part)


def _synthesis(configuration: BuildConfiguration, engine: str, version: str) -> Step:
    places = configuration.places
    folder, script = places.engine(engine), places.engine_script(engine)
    sources = Path("..") / ".." / places.sources
    text = engine_script(configuration.design, engine, version, sources)
    outputs = (places.engine_zip(engine), places.engine_reports(engine))

    def work(bench: Bench) -> None:
        command = run_command(Tool.VITIS_HLS, version, script.name)
        made = (places.engine_zip(engine), folder / Path(CSYNTH_REPORT).parent)
        make_folder(bench.root / places.ip)
        step = f"{SYNTHESIS}:{engine}"
        _run(bench, Tool.VITIS_HLS, step, command, folder, (places.sources, script), made, (folder / "project",))
        _copy_reports(bench.root / made[1], bench.root / places.engine_reports(engine))

    return Step(
        name=f"{SYNTHESIS}:{engine}",
        after=("sources",),
        recipe=(version, text),
        outputs=outputs,
        work=work,
        scratch=(folder / "project",),
        script=(Tool.VITIS_HLS, script, text),
        disk_bytes=_SYNTHESIS_BYTES,
    )


def _copy_reports(found: Path, target: Path) -> None:
    make_folder(target)
    for path in sorted(found.glob("*_csynth.xml")):
        _write(target / path.name, path.read_bytes())


def _ip(configuration: BuildConfiguration) -> Step:
    places = configuration.places
    folders = tuple(places.ip / engine for engine in configuration.engines)

    def work(bench: Bench) -> None:
        for engine in configuration.engines:
            _unpack_ip(bench.root / places.engine_zip(engine), bench.root / places.ip / engine, engine)

    after = tuple(f"{SYNTHESIS}:{engine}" for engine in configuration.engines)
    return Step("ip", after, (), folders, work)


def _unpack_ip(archive: Path, folder: Path, engine: str) -> None:
    """Unpacks an exported IP and checks that it is the one that the block design asks for."""
    try:
        with zipfile.ZipFile(archive) as opened:
            opened.extractall(folder)
        root = ET.parse(folder / "component.xml").getroot()
    except (OSError, zipfile.BadZipFile, ET.ParseError) as error:
        raise ToolFailedError(
            f"step 'ip': '{archive}' is not an exported IP: {error}",
            "a zip file with a component.xml",
            f"hetfab build --from {SYNTHESIS}",
        ) from error
    # IP-XACT names have the namespace of its release in front.
    texts = {child.tag.rpartition("}")[2]: child.text for child in root}
    found = ":".join(str(texts.get(key)) for key in ("vendor", "library", "name", "version"))
    if found != hls_vlnv(engine):
        raise ToolFailedError(
            f"step 'ip': '{archive}' holds the IP {found}", hls_vlnv(engine), f"hetfab build --from {SYNTHESIS}"
        )


def _resources(configuration: BuildConfiguration) -> Step:
    places, design = configuration.places, configuration.design

    def work(bench: Bench) -> None:
        reports = {
            engine: read_synthesis(bench.root / places.engine_reports(engine), f"{engine}_top")
            for engine in configuration.engines
        }
        expected = loops_of(design.geometry)
        loops = [each for engine, report in reports.items() for each in loop_differences(engine, report, expected)]
        table = {
            "loops": [dataclasses.asdict(each) for each in loops],
            "resources": [dataclasses.asdict(each) for each in resource_differences(design, reports)],
            "clocks": [
                {"engine": engine, "asked_ns": report.clock_ns, "estimated_ns": report.estimated_ns}
                for engine, report in reports.items()
            ],
        }
        _write_json(bench.root / places.resources, table)

    after = tuple(f"{SYNTHESIS}:{engine}" for engine in configuration.engines)
    return Step("resources", after, (), (places.resources,), work)


def _block_design(configuration: BuildConfiguration, version: str) -> Step:
    places = configuration.places
    script = places.vivado_script("block_design")
    text = block_design_script(configuration.design, version)

    def work(bench: Bench) -> None:
        command = run_command(Tool.VIVADO, version, script.name)
        sends = (script, *(places.ip / engine for engine in configuration.engines))
        make_folder(bench.root / places.hwh.parent)
        _run(bench, Tool.VIVADO, "block-design", command, places.vivado, sends, (places.hwh,), (places.vivado,))

    return Step(
        name="block-design",
        after=("ip",),
        # The project stays on the machine where it was made.
        recipe=(version, text, configuration.host or ""),
        outputs=(places.hwh,),
        work=work,
        scratch=(places.vivado,),
        script=(Tool.VIVADO, script, text),
        disk_bytes=_BLOCK_DESIGN_BYTES,
    )


def _bitstream(configuration: BuildConfiguration, version: str) -> Step:
    places = configuration.places
    script = places.vivado_script("bitstream")
    text = bitstream_script(configuration.design, version, configuration.jobs)
    outputs = (places.bit, places.utilization, places.timing)

    def work(bench: Bench) -> None:
        command = run_command(Tool.VIVADO, version, script.name)
        make_folder(bench.root / places.reports)
        _run(bench, Tool.VIVADO, "bitstream", command, places.vivado, (script,), outputs)

    return Step(
        name="bitstream",
        after=("block-design",),
        # How many processes Vivado has does not change what it makes.
        recipe=(version, bitstream_script(configuration.design, version)),
        outputs=outputs,
        work=work,
        script=(Tool.VIVADO, script, text),
        spends="block-design",
        disk_bytes=_BITSTREAM_BYTES,
    )


def _timing(configuration: BuildConfiguration) -> Step:
    places, design = configuration.places, configuration.design

    def work(bench: Bench) -> None:
        timing = read_timing(bench.root / places.timing)
        placed = placed_differences(design, read_utilization(bench.root / places.utilization))
        clock = fabric_clock_mhz(design, read_board(design.board))
        table = {
            "clock_mhz": clock,
            "timing": dataclasses.asdict(timing),
            "resources": [dataclasses.asdict(each) for each in placed],
        }
        if timing.setup_slack_ns < 0:
            _refuse_setup(design.name, timing.setup_slack_ns, timing.failing, clock, bench.root / places.timing)
        if timing.hold_slack_ns < 0:
            raise TimingFailedError(
                f"the design '{design.name}' misses hold by {-timing.hold_slack_ns:.3f} ns",
                "no negative hold slack, at any clock",
                f"build again from 'block-design'; if it stays, report it with '{bench.root / places.timing}'",
            )
        _write_json(bench.root / places.closure, table)

    return Step("timing", ("bitstream",), (), (places.closure,), work)


def _refuse_setup(name: str, slack_ns: float, failing: int, clock_mhz: float, report: Path) -> None:
    reached = 1000 / (1000 / clock_mhz - slack_ns)
    raise TimingFailedError(
        f"the design '{name}' misses its clock of {clock_mhz:g} MHz by {-slack_ns:.3f} ns "
        f"({failing:,} end points; WNS {slack_ns:.3f} ns)",
        "no negative slack: a slower path gives wrong results on a board",
        f"set 'clock_mhz' to at most {int(reached)} in the design file and build again, or make the arrays smaller; "
        f"the paths are in '{report}'",
    )


def _package(configuration: BuildConfiguration) -> Step:
    places, design = configuration.places, configuration.design

    def work(bench: Bench) -> None:
        bit = (bench.root / places.bit).read_bytes()
        check_bitstream(bit, read_board(design.board).part)
        hwh = (bench.root / places.hwh).read_bytes()
        write_package(bench.root / places.overlays, design, Kind.HARDWARE, bit, hwh)

    description = json.dumps(design.as_dict(), sort_keys=True)
    return Step("package", ("block-design", "timing", "bitstream"), (description,), (places.package,), work)


def check_bitstream(bit: bytes, part: str) -> None:
    """Refuses a .bit file that is not a bitstream for a part.

    Raises:
        ToolFailedError: It is damaged, of an emulated overlay, or for another part.
    """
    try:
        decoded = decode_bit_file(bit)
        # A 7-series header leaves out the leading xc and the grades of speed and temperature.
        found, wanted = (name.lower().removeprefix("xc") for name in (decoded.part, part))
        if decoded.emulated() is not None:
            raise ValueError("it is of an emulated overlay")
        if not found or not f"{wanted}-".startswith(f"{found}-"):
            raise ValueError(f"it is for '{decoded.part}'")
    except ValueError as error:
        raise ToolFailedError(
            f"step 'package': the .bit file is no bitstream for '{part}': {error}",
            "the .bit file that Vivado wrote for this board",
            "hetfab build --from bitstream",
        ) from error


def _run(
    bench: Bench,
    tool: Tool,
    step: str,
    command: Sequence[str],
    folder: Path,
    sends: Sequence[Path],
    outputs: Sequence[Path],
    scratch: Sequence[Path] = (),
) -> None:
    """Runs a tool and brings back what it wrote.

    Raises:
        BuildError: It failed, or did not write what it should have.
    """
    log = bench.root / bench.configuration.places.log(step)
    make_folder(log.parent)
    status = bench.machine.run(command, folder, log, sends, (*outputs, *scratch))
    if status != 0:
        raise failure(tool, step, status, log)
    bench.machine.fetch(outputs)
    missing = [str(path) for path in outputs if not (bench.root / path).exists()]
    if missing:
        if "ERROR" in log.read_text(encoding="utf-8", errors="replace"):
            raise failure(tool, step, status, log)
        raise ToolFailedError(
            f"step '{step}': {title(tool)} ended without an error, but did not write {', '.join(missing)}",
            "the files of the step",
            f"read the log: {log}",
        )


def remove(path: Path) -> None:
    """Removes a file or a folder, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def write_script(configuration: BuildConfiguration, step: Step) -> Path:
    """Writes the script of a step that has one and returns its path, from the build's folder."""
    if step.script is None:
        raise ValueError(f"'{step.name}' has no script")
    _, path, text = step.script
    make_folder((configuration.folder / path).parent)
    write_text(configuration.folder / path, text)
    return path


def write_text(path: Path, text: str) -> None:
    """Writes a text whole or not at all."""
    _write(path, text.encode())


def _write_json(path: Path, table: object) -> None:
    make_folder(path.parent)
    write_text(path, json.dumps(table, indent=1, sort_keys=True) + "\n")


def _write(path: Path, raw: bytes) -> None:
    write_atomic(path, functools.partial(_put, raw))


def _put(raw: bytes, file: BinaryIO) -> None:
    file.write(raw)
