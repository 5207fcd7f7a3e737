# SPDX-License-Identifier: Apache-2.0
"""Runs the rules over sources."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from hetfab.hls.build.dataflow.sources import stages_header
from hetfab.hls.build.design_header import design_header
from hetfab.hls.lint.findings import Finding, Report, Scope
from hetfab.hls.lint.program import Program, read_program
from hetfab.hls.lint.rules import RULES
from hetfab.overlay.dense_stages import Stage
from hetfab.overlay.design import Geometry, identity_of
from hetfab.overlay.errors import SourceUnreadableError

_HLS = Path(__file__).parents[1]
_SUFFIXES = {".c", ".cc", ".cpp", ".h", ".hh", ".hpp"}


def lint(
    paths: Sequence[Path], *, house: bool = False, include: Sequence[Path] = (), defines: Sequence[str] = ()
) -> Report:
    """Checks sources, which must compile together as one unit.

    Args:
        paths: Files, or folders whose C++ files are all read.
        house: Whether the rules of this project's kernels hold too.
        include: Folders that the sources include from.
        defines: Macros, as ``NAME`` or ``NAME=VALUE``.

    Raises:
        SourceUnreadableError: A path cannot be read.
        PackageMissingError: A package of the extra ``lint`` is missing.
    """
    return _check(read_program(list(_files(paths)), include, defines), house)


def lint_kernels(geometry: Geometry, stages: Sequence[Stage] = ()) -> Report:
    """Checks this project's kernels, for the constants and the fixed weights of a design."""
    return _check(read_kernels(geometry, stages), house=True)


def read_kernels(geometry: Geometry, stages: Sequence[Stage] = ()) -> Program:
    """This project's kernels as one unit, as they are synthesised for a design."""
    folder = _HLS / "kernels"
    generated = {str(folder / "design.hpp"): design_header(geometry, identity_of(geometry, stages))}
    if stages:
        generated[str(folder / "stages.hpp")] = stages_header(stages)
    return read_program(
        sorted(folder.glob("*.cpp")),
        include=[_HLS / "include", folder, _HLS],
        defines=["HETFAB_AP_INT", *(["HETFAB_STAGES"] if stages else [])],
        generated=generated,
    )


def _files(paths: Sequence[Path]) -> Iterator[Path]:
    for path in paths:
        if path.is_dir():
            found = sorted(p for p in path.rglob("*") if p.suffix in _SUFFIXES)
            if not found:
                raise SourceUnreadableError(
                    f"no C++ source in '{path}'",
                    f"a file that ends in {', '.join(sorted(_SUFFIXES))}",
                    "correct the path",
                )
            yield from found
        else:
            yield path


def _check(program: Program, house: bool) -> Report:
    rules = [rule for rule in RULES if house or rule.scope is Scope.ANY]
    found: dict[tuple[str, int, str], Finding] = {}
    for rule in rules:
        for file, line, text in rule.check(program):
            # Each instance of a template breaks a rule at the same place: one finding.
            found.setdefault((file, line, rule.id), Finding(file, line, rule.id, text, rule.expected, rule.do))
    for file, line, text in program.problems:
        found[file, line, "HLS-S01"] = Finding(
            file,
            line,
            "HLS-S01",
            f"the parser stops: {text}",
            "sources that compile together, as C++17, with the headers of AMD's types",
            "add the folders of missing headers with --include, or check the files one by one",
        )
    findings = tuple(found[key] for key in sorted(found))
    return Report(len(program.sources), len(program.functions), len(rules), findings)
