# SPDX-License-Identifier: Apache-2.0
"""Public HLS libraries pass the rules for any HLS code: hls4ml's templates, and hlslib where a checkout is given."""

import importlib.util
import os
from pathlib import Path

import pytest

from hetfab.hls.lint.run import lint

#: A checkout of github.com/definelicht/hlslib.
HLSLIB = "HETFAB_HLSLIB"
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
