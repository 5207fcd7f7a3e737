# SPDX-License-Identifier: Apache-2.0
"""The C++ formatter: it formats code and keeps ``#pragma HLS`` lines as they are written."""

import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]

WRITTEN = """void f(int* a) {
#pragma HLS INTERFACE mode=m_axi port=a offset=direct bundle=data depth=4096 max_read_burst_length=16
  for (int i=0; i<4; i++) {
#pragma HLS PIPELINE II=1
    a[i]+=1;
  }
}
"""
FORMATTED = """void f(int* a) {
#pragma HLS INTERFACE mode=m_axi port=a offset=direct bundle=data depth=4096 max_read_burst_length=16
    for (int i = 0; i < 4; i++) {
#pragma HLS PIPELINE II=1
        a[i] += 1;
    }
}
"""


def run(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    shutil.copy(ROOT / ".clang-format", folder)
    program = Path(sys.executable).with_name("clang-format")
    return subprocess.run(
        [sys.executable, ROOT / ".ci/format_cpp.py", "--clang-format", program, *options, folder],
        capture_output=True,
        text=True,
        check=False,
    )


def test_pragmas_stay_as_written(tmp_path: Path) -> None:
    file = tmp_path / "kernel.cpp"
    file.write_text(WRITTEN, encoding="utf-8")
    assert run(tmp_path).returncode == 0
    assert file.read_text(encoding="utf-8") == FORMATTED


def test_check_changes_nothing_and_fails_on_a_difference(tmp_path: Path) -> None:
    file = tmp_path / "kernel.hpp"
    file.write_text(WRITTEN, encoding="utf-8")
    process = run(tmp_path, "--check")
    assert process.returncode == 1
    assert "+        a[i] += 1;" in process.stdout and "#pragma mark" not in process.stdout
    assert file.read_text(encoding="utf-8") == WRITTEN
    file.write_text(FORMATTED, encoding="utf-8")
    assert run(tmp_path, "--check").returncode == 0
