# SPDX-License-Identifier: Apache-2.0
"""Public HLS code has no findings: hls4ml's templates; hlslib and AMD's examples where a checkout is given."""

import importlib.util
import os
from pathlib import Path

import pytest

from hetfab.hls.lint import pragmas
from hetfab.hls.lint.directives import read_directives
from hetfab.hls.lint.findings import Scope
from hetfab.hls.lint.program import Program
from hetfab.hls.lint.run import lint

#: A checkout of github.com/definelicht/hlslib.
HLSLIB = "HETFAB_HLSLIB"
#: A checkout of github.com/Xilinx/Vitis-HLS-Introductory-Examples.
EXAMPLES = "HETFAB_HLS_EXAMPLES"
#: Headers of hlslib for hosts.
HOST = {"OpenCL.h", "SDAccel.h", "Simulation.h"}


def test_the_templates_of_hls4ml_have_no_findings() -> None:
    spec = importlib.util.find_spec("hls4ml")
    assert spec is not None and spec.origin is not None
    report = lint([Path(spec.origin).parent / "templates" / "vivado" / "nnet_utils"])
    assert report.findings == ()
    assert report.sources > 50 and report.functions > 200


def test_the_headers_of_hlslib_have_no_findings() -> None:
    folder = os.environ.get(HLSLIB)
    if not folder:
        pytest.skip(f"data: {HLSLIB} names no checkout of hlslib")
    headers = [path for path in sorted(Path(folder, "include/hlslib/xilinx").glob("*.h")) if path.name not in HOST]
    report = lint(headers, include=[Path(folder, "include")], defines=["HLSLIB_SYNTHESIS"])
    assert report.findings == ()
    assert report.sources >= 10 and report.functions > 50


def test_the_directives_of_public_examples_have_no_findings() -> None:
    folder = os.environ.get(EXAMPLES)
    if not folder:
        pytest.skip(f"data: {EXAMPLES} names no checkout of Vitis-HLS-Introductory-Examples")
    files = [path for path in sorted(Path(folder).rglob("*")) if path.suffix in {".c", ".cpp", ".h", ".hpp"}]
    directives = [d for path in files for d in read_directives(str(path), path.read_bytes())]
    program = Program({}, [], directives, [], [])
    assert len(directives) > 300
    rules = [rule for rule in pragmas.RULES if rule.scope is Scope.ANY]
    assert [(rule.id, *place) for rule in rules for place in rule.check(program)] == []
