# SPDX-License-Identifier: Apache-2.0
"""GEMM-D's two products in one DSP are exact, tried exhaustively with the widths of the hardware."""

import subprocess
from pathlib import Path

from hetfab.hls.build import emulator
from hetfab.hls.build.compiler import find_compiler

HLS = Path(emulator.__file__).parents[1]


def test_every_pair_of_weights_with_every_activation(tmp_path: Path) -> None:
    program, source = tmp_path / "product_pairs", HLS / "testbench" / "product_pairs.cpp"
    headers = ["-isystem", str(emulator.ap_types_folder())]
    flags = ["-std=c++17", "-O2", "-DHETFAB_AP_INT", f"-I{HLS / 'include'}", *headers]
    find_compiler().run([*flags, "-o", str(program), str(source)])
    result = subprocess.run([program], capture_output=True, text=True, check=False)
    assert (result.returncode, result.stdout) == (0, f"{(128 + 256) * 256 * 256}\n")
