# SPDX-License-Identifier: Apache-2.0
"""The published N3H-Core equations: the figures that they give, their defects, and that nothing of hetfab uses them."""

import ast
import json
import re
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from hetfab.overlay.costs.n3h_published import (
    DspCore,
    GemmLayer,
    LutCore,
    Widths,
    dsp_core_cycles,
    lut_core_cycles,
    milliseconds,
    scan_split,
    split_at,
    split_channels,
)
from hetfab.overlay.errors import DesignTooSmallError

ROOT = Path(__file__).parents[1]

#: The 85 % of 512 channels that the LUT core has of ResNet-18's layer 16.
LATE_LAYER = GemmLayer(rows=49, depth=4608, channels=435)
NARROW_POPCOUNT = LutCore(depth=64)


@cache
def benchmark() -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.n3h", "--json"]
    found: dict[str, Any] = json.loads(subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, check=True).stdout)
    return found


def test_resnet18_takes_what_the_published_software_gave() -> None:
    """All cases that the equations alone decide; the others need strategies that are not in the repository."""
    found = benchmark()
    expected = {
        "split_w2a2": 26.18,
        "split_w3a3": 36.57,
        "split_w4a4": 41.75,
        "split_w8a4": 54.98,
        "dsp_only": 100.23,
        "lut_only_w2a2": 58.26,
        "lut_only_w4a4": 86.39,
        "bound_w2a2": 6.98,
        "bound_w3a3": 11.25,
        "bound_w4a4": 16.33,
    }
    assert {name: round(found[f"{name}_modelled_milliseconds"], 2) for name in expected} == expected
    assert (found["reproduced"], found["not_reproduced"]) == (7, 4)


def test_the_page_shows_the_figures() -> None:
    page = (ROOT / "docs" / "n3h.md").read_text(encoding="utf-8")
    shown = dict(re.findall(r"^\| `(\w+)` \|.*\| ([\d.]+) \|$", page, re.MULTILINE))
    suffix = "_modelled_milliseconds"
    found = {name.removesuffix(suffix): f"{value:.2f}" for name, value in benchmark().items() if name.endswith(suffix)}
    assert shown == found


def late_layer_ms(weight_bits: int, activation_bits: int) -> float:
    return round(milliseconds(lut_core_cycles(LATE_LAYER, Widths(weight_bits, activation_bits), NARROW_POPCOUNT)), 3)


def test_defect_times_are_negative() -> None:
    assert split_channels(512, 0.85)[0] == LATE_LAYER.channels
    assert late_layer_ms(4, 8) == -0.257
    assert late_layer_ms(8, 8) == -0.968


def test_defect_more_bits_take_less_time() -> None:
    assert [late_layer_ms(4, bits) for bits in (2, 3, 4, 5, 8)] == [1.389, 3.285, 4.089, 3.699, -0.257]


def test_defect_a_full_buffer_costs_no_execution() -> None:
    """28 rows of tiles fill the buffer, and the remainder of the division is 0: the stalls vanish."""
    widths, core = Widths(4, 4), LutCore()
    cycles = [lut_core_cycles(GemmLayer(8 * tiles, 1152, 256), widths, core) for tiles in (26, 27, 28)]
    assert cycles[0] < cycles[1]
    assert cycles[2] < 0.7 * cycles[1]


def test_defect_channels_are_lost() -> None:
    assert split_channels(5, 0.5) == (2, 2)
    assert split_channels(64, 0.25) == (16, 48)


def test_defect_no_array_is_too_large() -> None:
    """Time falls with the popcount's width, and nothing says that a board has no room for it."""
    layer, widths = GemmLayer(784, 1152, 128), Widths(4, 4)
    assert lut_core_cycles(layer, widths, LutCore(rows=41, depth=192, columns=40)) < 0.5 * lut_core_cycles(
        layer, widths, LutCore()
    )


def test_a_core_without_channels_takes_no_time() -> None:
    empty = GemmLayer(49, 4608, 0)
    assert lut_core_cycles(empty, Widths(4, 4), LutCore()) == 0
    assert dsp_core_cycles(empty, Widths(4, 4), DspCore()) == 0


@pytest.mark.parametrize("layer", [GemmLayer(784, 1152, 128), GemmLayer(3136, 576, 64), GemmLayer(12544, 147, 64)])
def test_the_scan_stops_at_the_crossing(layer: GemmLayer) -> None:
    widths, lut, dsp = Widths(4, 4), LutCore(), DspCore()
    chosen = scan_split(layer, widths, lut, dsp)
    step = round(100 * chosen.ratio)
    neighbours = [split_at(layer, widths, percent / 100, lut, dsp) for percent in range(step - 1, step + 2)]
    assert chosen == neighbours[1]
    assert chosen.cycles <= min(split.cycles for split in neighbours)
    assert neighbours[2].lut_cycles > neighbours[2].dsp_cycles or chosen.lut_cycles > chosen.dsp_cycles


def test_defect_a_layer_is_free() -> None:
    """More channels take the LUT core less time, and the scan finds that all of them take none."""
    chosen = scan_split(GemmLayer(49, 4608, 512), Widths(4, 8), NARROW_POPCOUNT, DspCore())
    assert (chosen.ratio, chosen.lut_cycles, chosen.cycles) == (1, -39200, 0)


def test_a_buffer_without_room_for_a_row_is_refused() -> None:
    with pytest.raises(DesignTooSmallError) as caught:
        lut_core_cycles(GemmLayer(49, 4608, 512), Widths(8, 8), LutCore(depth=64, activation_words=512))
    assert str(caught.value) == (
        "the LUT core's activation buffer has 512 words, a row of tiles takes 576\n"
        "  expected: a buffer for at least one row of tiles\n"
        "  do: give the core a deeper buffer or a wider popcount, or the layer fewer activation bits"
    )


def test_nothing_of_hetfab_uses_the_baseline() -> None:
    users = [
        str(path.relative_to(ROOT))
        for package in ("overlay", "quantize", "hls", "driver", "cli", "benchmarks")
        for path in sorted((ROOT / package).rglob("*.py"))
        if any("n3h_published" in name for name in imported(path))
    ]
    assert users == ["benchmarks/n3h.py"]


def imported(path: Path) -> list[str]:
    """Modules and names that a file imports."""
    names = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names += [f"{node.module}.{alias.name}" for alias in node.names]
    return names
