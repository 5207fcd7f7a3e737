# SPDX-License-Identifier: Apache-2.0
"""Building a bitstream with modelled tools: steps, what is kept, interruptions, hosts, and each failure's words."""

import fcntl
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections import namedtuple
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest

from hetfab.driver.package import find_package
from hetfab.hls.build.bitstream import pipeline, steps
from hetfab.hls.build.bitstream.configuration import BuildConfiguration
from hetfab.hls.build.bitstream.pipeline import Progress, State, build
from hetfab.hls.build.bitstream.steps import step_names
from hetfab.overlay import package
from hetfab.overlay.bit_file import BitFile, emulated_bit_file
from hetfab.overlay.design import Design, default_design
from hetfab.overlay.errors import (
    BuildBusyError,
    DesignTooLargeError,
    DiskFullError,
    HetfabError,
    HostUnreachableError,
    OverlayPackageError,
    TimingFailedError,
    ToolFailedError,
    ToolLicenceError,
    ToolMissingError,
    ToolVersionError,
)
from hetfab.overlay.package import Kind
from tests.vendor_tools.workshop import Workshop, open_workshop

WHOLE = default_design("pynq-z2")
#: Two engines: enough steps to be interrupted between. The Tcl model is asked in the tests with all engines alone.
DESIGN = replace(WHOLE, geometry=replace(WHOLE.geometry, engines=("load", "store")))
ENGINES = ("dispatch", *DESIGN.geometry.engines)
SYNTHESES = [f"synthesis:{engine}" for engine in ENGINES]
STEPS = ["sources", *SYNTHESES, "ip", "resources", "block-design", "bitstream", "timing", "package"]
TOOL_STEPS = [*SYNTHESES, "block-design", "bitstream"]


@pytest.fixture
def workshop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workshop:
    workshop = open_workshop(tmp_path, monkeypatch, "2024.1")
    workshop.want(check=False)
    return workshop


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The files of a package that nothing interrupted."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        workshop = open_workshop(tmp_path_factory.mktemp("whole"), monkeypatch, "2024.1")
        workshop.want(check=False)
        build(configured(workshop))
        return package_files(workshop)


def configured(workshop: Workshop, design: Design = DESIGN, **changes: object) -> BuildConfiguration:
    return replace(BuildConfiguration(design, workshop.root / "build"), **changes)  # type: ignore[arg-type]


def package_files(workshop: Workshop) -> dict[str, bytes]:
    folder = workshop.root / "build" / "overlays" / DESIGN.name
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def states(news: list[Progress]) -> dict[str, State]:
    return {each.step: each.state for each in news}


def command(workshop: Workshop, *options: str) -> list[str]:
    """The command line that builds in the workshop, as a process of its own."""
    design = workshop.root / "design.json"
    design.write_text(json.dumps(DESIGN.as_dict()), encoding="utf-8")
    folder = str(workshop.root / "build")
    return [sys.executable, "-m", "hetfab.cli.main", "build", "--design", str(design), "-o", folder, *options]


def test_a_build_goes_through_all_steps_and_leaves_a_package(workshop: Workshop) -> None:
    news: list[Progress] = []
    ended = build(configured(workshop), watch=news.append)
    assert [each.step for each in ended] == STEPS
    assert set(states(ended).values()) == {State.DONE}
    assert [each.step for each in news if each.state is State.STARTED] == STEPS
    assert workshop.seen == TOOL_STEPS
    found = find_package(workshop.root / "build" / "overlays" / "pynq-z2")
    assert (found.kind, found.design) == (Kind.HARDWARE, DESIGN)
    assert (workshop.root / "build" / "logs" / "synthesis-load.log").read_text(encoding="utf-8").startswith("INFO")


def test_what_is_done_is_kept(workshop: Workshop) -> None:
    build(configured(workshop))
    first = package_files(workshop)
    workshop.forget()
    assert set(states(build(configured(workshop))).values()) == {State.KEPT}
    assert workshop.seen == [] and package_files(workshop) == first


@pytest.mark.parametrize("family", step_names())
def test_from_a_step_on_all_is_done_again(workshop: Workshop, uninterrupted: dict[str, bytes], family: str) -> None:
    build(configured(workshop))
    workshop.forget()
    ended = states(build(configured(workshop), first=family))
    start = next(number for number, name in enumerate(STEPS) if name.startswith(family))
    # A project can be implemented once, so a new bitstream begins with a new project.
    again = [*(["block-design"] if family == "bitstream" else []), *STEPS[start:]]
    assert {name for name, state in ended.items() if state is State.DONE} == set(again)
    assert workshop.seen == [name for name in again if name in TOOL_STEPS]
    assert package_files(workshop) == uninterrupted


@pytest.mark.parametrize("family", ["sources", "synthesis", "bitstream", "timing"])
def test_to_a_step_nothing_behind_it_is_done(workshop: Workshop, family: str) -> None:
    ended = [each.step for each in build(configured(workshop), last=family)]
    end = max(number for number, name in enumerate(STEPS) if name.startswith(family))
    assert ended == STEPS[: end + 1]
    assert not (workshop.root / "build" / "overlays").exists()


@pytest.mark.parametrize(
    "other",
    # A script of Vitis HLS holds the clock, but the sources alone hold a memory's depth.
    [replace(DESIGN, clock_mhz=125), replace(DESIGN, geometry=replace(DESIGN.geometry, act_d_words=256))],
    ids=["clock", "memory"],
)
def test_another_design_in_the_same_folder_is_built_anew(workshop: Workshop, other: Design) -> None:
    build(configured(workshop))
    ended = states(build(configured(workshop, other)))
    assert ended.pop("sources") is State.DONE
    assert {ended[name] for name in SYNTHESES} == {ended["block-design"], ended["package"]} == {State.DONE}
    assert find_package(workshop.root / "build" / "overlays" / "pynq-z2").design == other


@pytest.mark.parametrize(
    ("damaged", "redone"),
    [
        ("sources/include/hetfab/load.hpp", {"sources"}),
        ("ip/load.zip", {"synthesis:load"}),
        ("ip/store/component.xml", {"ip"}),
        ("reports/resources.json", {"resources"}),
        ("handoff/pynq-z2.hwh", {"block-design"}),
        ("handoff/pynq-z2.bit", {"block-design", "bitstream"}),
        ("overlays/pynq-z2/pynq-z2.json", {"package"}),
    ],
)
def test_an_output_that_changed_is_made_again(
    workshop: Workshop, uninterrupted: dict[str, bytes], damaged: str, redone: set[str]
) -> None:
    build(configured(workshop))
    path = workshop.root / "build" / damaged
    path.write_bytes(b"other")
    workshop.forget()
    ended = build(configured(workshop))
    assert {each.step for each in ended if each.state is State.DONE} == redone
    assert set(workshop.seen) == redone & set(TOOL_STEPS)
    assert package_files(workshop) == uninterrupted


def test_an_output_that_is_gone_is_made_again(workshop: Workshop, uninterrupted: dict[str, bytes]) -> None:
    build(configured(workshop))
    (workshop.root / "build" / "ip" / "load" / "component.xml").unlink()
    (workshop.root / "build" / "handoff" / "pynq-z2.bit").unlink()
    ended = build(configured(workshop))
    assert {each.step for each in ended if each.state is State.DONE} == {"ip", "block-design", "bitstream"}
    assert package_files(workshop) == uninterrupted


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
@pytest.mark.parametrize("step", ["synthesis:dispatch", "synthesis:store", "block-design", "bitstream"])
def test_interrupted_inside_a_tool_and_run_again_gives_the_same_package(
    workshop: Workshop, uninterrupted: dict[str, bytes], step: str, number: signal.Signals
) -> None:
    workshop.want(pause=step)
    process = subprocess.Popen(command(workshop), env=workshop.environment(), stderr=subprocess.PIPE, text=True)
    wait_for(workshop, process)
    process.send_signal(number)
    _, words = process.communicate(timeout=600)
    tool = workshop.processes()[-1]
    if number == signal.SIGINT:
        assert process.returncode == 130 and "error: interrupted" in words
        assert not alive(tool)
    else:
        # Nobody ended the tool: the folder stays locked until it is gone.
        with pytest.raises(BuildBusyError, match=r"another build uses .* or a tool that it started still runs"):
            build(configured(workshop))
        os.kill(tool, signal.SIGKILL)
        with (workshop.root / "build" / ".lock").open("w", encoding="utf-8") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
    workshop.want(pause=None)
    workshop.forget()
    ended = states(build(configured(workshop)))
    start = STEPS.index(step)
    assert all(ended[name] is State.KEPT for name in STEPS[:start] if name != "block-design")
    assert all(ended[name] is State.DONE for name in STEPS[start:])
    assert package_files(workshop) == uninterrupted


@pytest.mark.parametrize("step", STEPS)
def test_interrupted_between_steps_and_run_again_gives_the_same_package(
    workshop: Workshop, uninterrupted: dict[str, bytes], step: str
) -> None:
    def interrupt(news: Progress) -> None:
        if (news.step, news.state) == (step, State.STARTED):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build(configured(workshop), watch=interrupt)
    build(configured(workshop))
    assert package_files(workshop) == uninterrupted
    assert sorted(workshop.seen) == sorted(TOOL_STEPS)


@pytest.mark.parametrize("call", ["write_text", "content_hash"])
@pytest.mark.parametrize("count", [1, 6, 11])
def test_interrupted_while_a_stamp_is_written_gives_the_same_package(
    workshop: Workshop, uninterrupted: dict[str, bytes], monkeypatch: pytest.MonkeyPatch, call: str, count: int
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(pipeline, call, interrupted_at(count, getattr(pipeline, call)))
        try:
            build(configured(workshop))
        except KeyboardInterrupt:
            assert not (workshop.root / "build" / "stamps" / "package.json").exists()
    build(configured(workshop))
    assert package_files(workshop) == uninterrupted


@pytest.mark.parametrize(
    ("module", "call", "count"),
    [(steps, "write_atomic", 5), (steps, "_unpack_ip", 2), (package, "write_atomic", 1), (package, "write_atomic", 3)],
)
def test_interrupted_inside_a_step_of_hetfab_gives_the_same_package(
    workshop: Workshop,
    uninterrupted: dict[str, bytes],
    monkeypatch: pytest.MonkeyPatch,
    module: ModuleType,
    call: str,
    count: int,
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(module, call, interrupted_at(count, getattr(module, call)))
        with pytest.raises(KeyboardInterrupt):
            build(configured(workshop))
    with pytest.raises(OverlayPackageError):
        find_package(workshop.root / "build" / "overlays" / "pynq-z2")
    build(configured(workshop))
    assert package_files(workshop) == uninterrupted


def test_several_engines_at_a_time_give_the_same_package(workshop: Workshop, uninterrupted: dict[str, bytes]) -> None:
    build(configured(workshop, jobs=4))
    assert sorted(workshop.seen) == sorted(TOOL_STEPS)
    assert package_files(workshop) == uninterrupted


def test_a_failure_among_several_engines_ends_the_others(workshop: Workshop) -> None:
    workshop.want(faults={"synthesis:store": "ERROR: [HLS 200-70] no"}, pause="synthesis:load")
    with pytest.raises(ToolFailedError, match=r"synthesis:store.*HLS 200-70"):
        build(configured(workshop, jobs=3))
    assert not any(alive(number) for number in workshop.processes())


def test_from_2024_2_on_vitis_run_is_called(workshop: Workshop) -> None:
    workshop.install(workshop.bin, "2024.2")
    workshop.want(version="2024.2")
    assert len(build(configured(workshop))) == len(STEPS)


def test_another_host_gives_the_same_package(workshop: Workshop, uninterrupted: dict[str, bytes]) -> None:
    workshop.connect("maker@builder", "2024.1")
    build(configured(workshop, host="maker@builder"))
    assert package_files(workshop) == uninterrupted
    assert workshop.seen == TOOL_STEPS
    # What Vivado makes there stays there.
    assert not (workshop.root / "build" / "vivado" / f"{DESIGN.name}.xpr").exists()
    assert list((workshop.root / "home" / "hetfab-builds").iterdir())


def test_a_host_that_is_not_there_is_named(workshop: Workshop) -> None:
    workshop.connect("maker@builder", "2024.1")
    with pytest.raises(HetfabError) as caught:
        build(configured(workshop, host="maker@elsewhere"))
    assert isinstance(caught.value, HostUnreachableError)
    assert caught.value.found.startswith("cannot run a command on 'maker@elsewhere': ssh: Could not resolve hostname")
    assert caught.value.do == "try 'ssh maker@elsewhere true', then run the same command again"


def test_a_host_without_the_tools_is_named(workshop: Workshop) -> None:
    workshop.connect("maker@builder", "2024.1")
    (workshop.root / "host-bin" / "vivado").unlink()
    with pytest.raises(ToolMissingError, match="Vivado is not on 'maker@builder': there is no command 'vivado'"):
        build(configured(workshop, host="maker@builder"))


def test_without_tools_nothing_is_written_and_the_way_out_is_named(workshop: Workshop) -> None:
    shutil.rmtree(workshop.bin)
    with pytest.raises(ToolMissingError) as caught:
        build(configured(workshop))
    assert caught.value.found == "Vivado is not on this machine: there is no command 'vivado' on the path"
    assert caught.value.expected == "Vivado and Vitis HLS of one release, 2023.2 to 2025.2"
    assert caught.value.do.endswith("or use --dry-run")
    assert not (workshop.root / "build" / "sources").exists()


@pytest.mark.parametrize(
    ("wishes", "asked", "found", "expected"),
    [
        ({"version": "2022.1"}, None, "Vivado on this machine is version 2022.1", "one of 2023.2, 2024.1"),
        ({"version": "2024.1"}, "2023.2", "Vivado on this machine is version 2024.1", "version 2023.2, that --tool-"),
        ({"hls_version": "2023.2"}, None, "Vitis HLS on this machine is version 2023.2", "version 2024.1, that Vivado"),
    ],
)
def test_a_wrong_version_is_found_before_any_step(
    workshop: Workshop, wishes: dict[str, str], asked: str | None, found: str, expected: str
) -> None:
    workshop.want(**wishes)
    with pytest.raises(ToolVersionError) as caught:
        build(configured(workshop, version=asked))
    assert caught.value.found == found
    assert caught.value.expected.startswith(expected)
    assert workshop.seen == []


def test_a_design_over_the_board_is_refused_before_anything(workshop: Workshop) -> None:
    geometry = replace(WHOLE.geometry, gemm_l_rows=32, gemm_l_cols=64)
    with pytest.raises(DesignTooLargeError, match=r"does not fit the board 'pynq-z2': lut: needs [\d,]+ \(modelled\)"):
        build(configured(workshop, replace(WHOLE, geometry=geometry)))
    assert not (workshop.root / "build").exists()


def test_the_tools_own_first_error_is_shown_with_its_code_and_the_log(workshop: Workshop) -> None:
    workshop.want(
        faults={
            "synthesis:load": "INFO: [HLS 200-10] x\nERROR: [HLS 207-3777] use of undeclared identifier 'x'\n"
            "ERROR: [HLS 200-1715] Encountered problem during source synthesis"
        }
    )
    with pytest.raises(ToolFailedError) as caught:
        build(configured(workshop))
    log = workshop.root / "build" / "logs" / "synthesis-load.log"
    assert caught.value.found == (
        "step 'synthesis:load': Vitis HLS ended with status 1: ERROR: [HLS 207-3777] use of undeclared identifier 'x'"
    )
    assert caught.value.expected == "the step to end without an error (HLS 207-3777)"
    assert caught.value.do == f"read the log: {log}" and log.exists()
    workshop.want(faults=None)
    workshop.forget()
    build(configured(workshop))
    assert workshop.seen == TOOL_STEPS[TOOL_STEPS.index("synthesis:load") :]


def test_a_missing_licence_has_its_own_message(workshop: Workshop) -> None:
    line = "ERROR: [Common 17-345] A valid license was not found for feature 'Synthesis' and/or device 'xc7z045'."
    workshop.want(faults={"bitstream": line})
    with pytest.raises(ToolLicenceError) as caught:
        build(configured(workshop))
    assert caught.value.found.endswith(line)
    assert caught.value.expected == "a licence for the tool and the board's part"
    assert caught.value.do.startswith("check XILINXD_LICENSE_FILE")


def test_a_disk_that_fills_up_in_a_tool_has_its_own_message(workshop: Workshop) -> None:
    workshop.want(faults={"synthesis:store": "ERROR: [Common 17-180] Spawn failed: No space left on device"})
    with pytest.raises(DiskFullError) as caught:
        build(configured(workshop))
    assert "synthesis:store" in caught.value.found and "No space left on device" in caught.value.found
    assert caught.value.do.startswith("make room, then run the same command again; log: ")


def test_too_little_room_is_found_before_a_step(workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(1 << 40, 0, 3 << 30))
    with pytest.raises(DiskFullError) as caught:
        build(configured(workshop))
    assert caught.value.found.startswith("step 'bitstream': 3.0 GiB are free in ")
    assert caught.value.expected == "6.0 GiB"
    assert workshop.seen == TOOL_STEPS[:-1]


def test_a_disk_that_hetfab_itself_finds_full_has_its_own_message(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(DiskFullError, match=r"the disk of '.*build' is full"):
        build(configured(workshop))


def test_missed_timing_ends_without_a_package_and_names_the_clock_that_would_do(workshop: Workshop) -> None:
    workshop.want(slack_ns=-1.118)
    with pytest.raises(TimingFailedError) as caught:
        build(configured(workshop))
    assert caught.value.found == (
        "the design 'pynq-z2' misses its clock of 100 MHz by 1.118 ns (57 end points; WNS -1.118 ns)"
    )
    assert "set 'clock_mhz' to at most 89 in the design file" in caught.value.do
    assert not (workshop.root / "build" / "overlays").exists()


@pytest.mark.parametrize(
    ("header", "part"),
    [
        ("7z020clg400", "xc7z020clg400-1"),
        ("xczu7ev-ffvc1156-2-e", "xczu7ev-ffvc1156-2-e"),
        ("xck26-sfvc784-2LV-c", "xck26-sfvc784-2LV-c"),
    ],
)
def test_the_bitstreams_part_is_the_boards(header: str, part: str) -> None:
    steps.check_bitstream(BitFile("x", header, "2026/01/02", "03:04:05", b"\xff" * 8).encode(), part)


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (BitFile("x", "7z045ffg900", "", "", b"").encode(), "it is for '7z045ffg900'"),
        (BitFile("x", "7z020clg40", "", "", b"").encode(), "it is for '7z020clg40'"),
        (BitFile("x", "", "", "", b"").encode(), "it is for ''"),
        (emulated_bit_file("x", "xc7z020clg400-1", {}).encode(), "it is of an emulated overlay"),
        (b"bit", "it ends"),
    ],
)
def test_another_bitstream_is_not_packed(raw: bytes, reason: str) -> None:
    with pytest.raises(ToolFailedError) as caught:
        steps.check_bitstream(raw, "xc7z020clg400-1")
    assert caught.value.found.startswith(
        f"step 'package': the .bit file is no bitstream for 'xc7z020clg400-1': {reason}"
    )


def test_a_tool_that_writes_nothing_and_says_nothing_is_not_believed(workshop: Workshop) -> None:
    (workshop.bin / "vitis_hls").write_text(
        '#!/bin/sh\n[ "$1" = -version ] && echo "Vitis HLS v2024.1"\nexit 0\n', encoding="utf-8"
    )
    with pytest.raises(ToolFailedError, match=r"ended without an error, but did not write ip/dispatch\.zip"):
        build(configured(workshop))


def test_two_builds_in_one_folder_are_refused(workshop: Workshop) -> None:
    workshop.want(pause="synthesis:load")
    process = subprocess.Popen(command(workshop), env=workshop.environment(), stderr=subprocess.PIPE)
    wait_for(workshop, process)
    with pytest.raises(BuildBusyError):
        build(configured(workshop))
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=600)


@pytest.mark.parametrize("version", ["2024.1", "2024.2"])
def test_resources_and_loops_are_compared_with_the_tables(workshop: Workshop, version: str) -> None:
    workshop.install(workshop.bin, version)
    workshop.want(version=version, check=True)
    build(configured(workshop, WHOLE))
    reports = workshop.root / "build" / "reports"
    found = json.loads((reports / "resources.json").read_text(encoding="utf-8"))
    assert [(each["engine"], each["loop"], each["what"]) for each in found["loops"]] == [
        ("store", "store_beats", "depth 6 instead of 4"),
        ("agg", "agg_gather", "interval 2 instead of 1"),
    ]
    lut = {each["part"]: each["reported"] for each in found["resources"] if each["resource"] == "lut"}
    assert lut == dict.fromkeys(("dispatch", *WHOLE.geometry.engines), 2890)
    closure = json.loads((reports / "closure.json").read_text(encoding="utf-8"))
    assert closure["timing"]["setup_slack_ns"] == 0.221
    placed = {each["resource"]: each["reported"] for each in closure["resources"]}
    assert placed == {"lut": 41234, "ff": 50321, "dsp": 96, "bram36": 118.5, "uram": 0}


def interrupted_at(count: int, original: Callable[..., object]) -> Callable[..., object]:
    """A function whose call of that number is interrupted."""
    calls = itertools.count(1)

    def interrupted(*arguments: object) -> object:
        if next(calls) == count:
            raise KeyboardInterrupt
        return original(*arguments)

    return interrupted


def wait_for(workshop: Workshop, process: "subprocess.Popen[str] | subprocess.Popen[bytes]") -> None:
    """Waits until a tool has stopped half-way."""
    ended = threading.Event()
    while not (workshop.root / "paused").exists():
        assert process.poll() is None, process.communicate()
        ended.wait(0.02)


def alive(number: int) -> bool:
    """Whether a process is there and not a zombie."""
    try:
        return "\nState:\tZ" not in Path(f"/proc/{number}/status").read_text(encoding="utf-8")
    except OSError:
        return False
