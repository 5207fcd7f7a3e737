# SPDX-License-Identifier: Apache-2.0
"""A dry run: writes the sources and all scripts of a build, checks the scripts' commands, and runs no tool."""

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from hetfab.hls.build.bitstream.configuration import BuildConfiguration
from hetfab.hls.build.bitstream.machine import ThisMachine
from hetfab.hls.build.bitstream.scripts import VERSIONS, expected_component
from hetfab.hls.build.bitstream.steps import Bench, Step, build_steps, remove, write_script, write_text
from hetfab.hls.tcl_check.check import check_script
from hetfab.hls.tcl_check.problem import Problem
from hetfab.overlay.board import read_board
from hetfab.overlay.costs.resources import check_fits
from hetfab.overlay.errors import ScriptRefusedError, ToolVersionError
from hetfab.overlay.files import make_folder

_NO_LOCK = -1


@dataclass(frozen=True)
class DryRun:
    """What a dry run did.

    Attributes:
        version: Release of the tools that the scripts are for.
        steps: Names of the steps that a build would take.
        scripts: The scripts that were written and passed, from the build's folder.
    """

    version: str
    steps: tuple[str, ...]
    scripts: tuple[Path, ...]


def dry_run(configuration: BuildConfiguration) -> DryRun:
    """Writes and checks all that a build hands to the tools.

    Args:
        configuration: Of the build; without a version the newest one is taken, as no tool is asked.

    Raises:
        DesignTooLargeError: The board cannot hold the design, by the modelled resources; before anything is written.
        ToolVersionError: hetfab writes no scripts for the version.
        ScriptRefusedError: A script does not pass; each problem is named.
    """
    check_fits(configuration.design)
    version = configuration.version or VERSIONS[-1]
    if version not in VERSIONS:
        raise ToolVersionError(
            f"--tool-version is {version}", f"one of {', '.join(VERSIONS)}", "give one of these, or leave it out"
        )
    make_folder(configuration.folder)
    steps = build_steps(configuration, version)
    bench = Bench(configuration, version, ThisMachine(configuration.folder, _NO_LOCK))
    steps[0].work(bench)
    scripts = [write_script(configuration, step) for step in steps if step.script is not None]
    with _expected_products(configuration):
        _check(configuration, version, steps)
    return DryRun(version, tuple(step.name for step in steps), tuple(scripts))


@contextlib.contextmanager
def _expected_products(configuration: BuildConfiguration) -> Iterator[None]:
    """Puts what scripts expect of the steps before them where it is not there yet, as long as they are checked."""
    places = configuration.places
    texts = {
        places.ip / engine / "component.xml": expected_component(configuration.design, engine)
        for engine in configuration.engines
    }
    texts[places.vivado / f"{places.name}.xpr"] = ""
    with contextlib.ExitStack() as after:
        for folder in (places.hwh.parent, places.reports):
            after.callback(_remove_empty_folders, configuration.folder / folder, configuration.folder)
            make_folder(configuration.folder / folder)
        for path, text in texts.items():
            missing = configuration.folder / path
            if not missing.exists():
                after.callback(_remove_with_empty_folders, missing, configuration.folder)
                make_folder(missing.parent)
                write_text(missing, text)
        yield


def _remove_with_empty_folders(path: Path, root: Path) -> None:
    remove(path)
    _remove_empty_folders(path.parent, root)


def _remove_empty_folders(folder: Path, root: Path) -> None:
    while folder != root and not any(folder.iterdir()):
        folder.rmdir()
        folder = folder.parent


def _check(configuration: BuildConfiguration, version: str, steps: Sequence[Step]) -> None:
    parts = [read_board(configuration.design.board).part]
    problems: list[tuple[Path, Problem]] = []
    for step in steps:
        if step.script is not None:
            tool, path, _ = step.script
            script = configuration.folder / path
            problems += [(path, each) for each in check_script(script, tool, version, parts, script.parent)]
    if problems:
        raise ScriptRefusedError(
            f"the scripts for {version} do not pass the check of their commands:\n"
            + "\n".join(f"  {path}: {problem}" for path, problem in problems),
            "scripts whose commands, options, parts, files and connections the tools know",
            "report this with the design file",
        )
