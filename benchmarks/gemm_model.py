# SPDX-License-Identifier: Apache-2.0
"""ResNet-18 and MobileNetV2 on the xc7z020: modelled times of compiled programs, beside N3H-Core and MSD.

Batch 1, 100 MHz, 8 DRAM bytes a cycle for everything together, 4-bit weights and activations, first and last layers of
8 bits. Of each kind of design, with GEMM-D alone, with GEMM-L alone and with both, some sizes are compiled and timed by
the timeline simulator; the fastest that keeps the limits counts. Weights are seeded: they do not change times.
"""

import contextlib
import functools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from benchmarks.image_shapes import mobilenet_v2, resnet18
from benchmarks.report import Report, argument_parser, publish
from hetfab.overlay.bind import BoundProgram
from hetfab.overlay.bind_samples import bind_sample, sample_shape
from hetfab.overlay.board import read_board
from hetfab.overlay.compiler.cnn.network import compile_cnn
from hetfab.overlay.costs.elements import Form
from hetfab.overlay.costs.program_cost import expected_log
from hetfab.overlay.costs.resources import CROWDED_SHARE, design_resources, resource_rows, total
from hetfab.overlay.design import IMAGE_DESIGN, Design, Geometry, default_design
from hetfab.overlay.errors import DesignTooSmallError, OverflowPossibleError
from hetfab.overlay.model.cnn.integer import IntegerCnn
from hetfab.overlay.timeline.machine import COMPARISON_RATE, machine
from hetfab.overlay.timeline.simulate import simulate

BOARD = "pynq-z2"
_LARGEST_BRAM = 126
_EFFICIENCY = 0.8
_MORE_LUTS = 1.2
#: Of the designs of a kind that keep the limits, as many of the largest are timed.
_TIMED = 2
#: Milliseconds that others state or that follow from what they state.
_BASELINES = {
    "N3H-Core W4A4, by its equations": 41.75,
    "N3H-Core mixed widths, as stated": 36.90,
    "MSD, as reported": 26.31,
}


@dataclass(frozen=True)
class Timed:
    """A design and what it does to a network."""

    design: Design
    milliseconds: float
    dram_bytes: int


def main() -> None:
    """Prints the table and the JSON line."""
    arguments = argument_parser(__doc__).parse_args()
    network = resnet18()
    best = {kind: fastest(network, designs) for kind, designs in kinds().items()}
    both = best["both"]
    values: dict[str, Any] = {"resnet18_w4a4_ms": both.milliseconds}
    values["resnet18_eff80_ms"] = timed(network, both.design, _EFFICIENCY).milliseconds
    values["resnet18_lut20_ms"] = fastest(network, kinds()["both"], _MORE_LUTS).milliseconds
    needs = {name: need for name, need, _ in resource_rows(both.design, read_board(BOARD))}
    values |= {"lut_used": needs["lut"], "dsp_used": needs["dsp"], "bram_used": needs["bram36"]}
    values["dram_mb"] = both.dram_bytes / 1e6
    values["resnet18_over_dsp_only"] = best["GEMM-D"].milliseconds / both.milliseconds
    alone = min(best["GEMM-D"].milliseconds, best["GEMM-L"].milliseconds)
    values["resnet18_over_best_single"] = alone / both.milliseconds
    mobile = timed(mobilenet_v2(), for_depthwise())
    values["mobilenetv2_w4a4_ms"] = mobile.milliseconds
    values["baselines_ms"] = _BASELINES
    rows = [[f"ResNet-18, {kind}", *_sizes(found)] for kind, found in best.items()]
    rows.append(["MobileNetV2, both and DW", *_sizes(mobile)])
    rows += [[f"ResNet-18, {name}", "", "", "", f"{ms:.2f}", "", "", "", ""] for name, ms in _BASELINES.items()]
    headings = ["network, cores", "GEMM-D", "GEMM-L", "words of weights", "ms", "DRAM MB", "LUT", "DSP", "BRAM36"]
    title = f"batch 1 on {BOARD}, {COMPARISON_RATE:g} DRAM bytes a cycle, W4A4 with 8-bit ends: modelled"
    publish(Report(title, headings, rows, values), arguments.as_json)


def kinds() -> dict[str, Sequence[Geometry]]:
    """Designs by the cores that they have."""
    return {
        "both": tuple(_both()),
        "GEMM-D": tuple(_one("gemm_d", [(12, 8), (6, 16)])),
        "GEMM-L": tuple(_one("gemm_l", [(19, 8), (21, 8), (10, 16)])),
    }


def _base() -> Geometry:
    return default_design(IMAGE_DESIGN).geometry


def _both() -> Iterator[Geometry]:
    for rows in (12, 13, 14, 15, 16):
        yield replace(_base(), gemm_l_rows=rows)


def for_depthwise() -> Design:
    """A design with DW, whose products take the place of some of the cores'."""
    geometry = replace(
        _base(),
        engines=(*_base().engines, "dw"),
        gemm_d_rows=10,
        gemm_l_rows=10,
        act_d_words=512,
        wgt_d_words=1024,
        res_words=4096,
        exp_words=4096,
        dwp_words=1024,
        par_words=512,
        mid_words=2048,
    )
    return replace(default_design(IMAGE_DESIGN), geometry=geometry)


def _one(core: str, arrays: Sequence[tuple[int, int]]) -> Iterator[Geometry]:
    """Designs with one core, whose other memories are as small as can be."""
    letter, other = core[-1], "l" if core == "gemm_d" else "d"
    engines = tuple(name for name in _base().engines if name != f"gemm_{other}")
    small = {f"{kind}_{other}_words": 16 for kind in ("act", "wgt", "acc")}
    for rows, columns in arrays:
        sizes = {f"{core}_rows": rows, f"{core}_cols": columns, f"wgt_{letter}_words": 3072}
        yield replace(_base(), engines=engines, **small, **sizes)


def fastest(network: IntegerCnn, geometries: Sequence[Geometry], lut_factor: float = 1.0) -> Timed:
    """The fastest of the designs that keep the limits.

    Args:
        network: What runs.
        geometries: The designs.
        lut_factor: LUTs of the processing elements times this.
    """
    designs = [replace(default_design(IMAGE_DESIGN), geometry=geometry) for geometry in geometries]
    found = []
    for design in [design for design in designs if holds(design, lut_factor)][-_TIMED:]:
        with contextlib.suppress(DesignTooSmallError, OverflowPossibleError):
            found.append(timed(network, design))
    return min(found, key=lambda one: one.milliseconds)


def holds(design: Design, lut_factor: float = 1.0) -> bool:
    """Whether a design keeps the limits: 85 % of the LUTs, all DSPs, the stated block RAMs."""
    board, parts = read_board(BOARD), design_resources(design.geometry, Form(design.elements))
    need = total(parts)
    elements = sum(part.lut for name, part in parts.items() if name in ("gemm_d", "gemm_l"))
    lut = math.ceil(need.lut + (lut_factor - 1) * elements)
    limits = CROWDED_SHARE * board.resources["lut"], board.resources["dsp"], _LARGEST_BRAM
    return lut <= limits[0] and need.dsp <= limits[1] and math.ceil(need.bram36) <= limits[2]


@functools.cache
def _bound(network: IntegerCnn, design: Design) -> BoundProgram:
    program = compile_cnn(network, design)
    return bind_sample(program, np.zeros(sample_shape(program), np.float32))


def timed(network: IntegerCnn, design: Design, efficiency: float = 1.0) -> Timed:
    """A network on a design in the timeline simulator, with a share of the DRAM's rate."""
    bound = _bound(network, design)
    found = simulate(bound.words, expected_log(bound), replace(machine(design), dram_rate=COMPARISON_RATE * efficiency))
    return Timed(design, found.milliseconds, int(found.bytes.sum()))


def _sizes(found: Timed) -> list[object]:
    geometry, engines = found.design.geometry, found.design.geometry.engines
    arrays = [
        f"{rows} x {columns}" if core in engines else "-"
        for core, rows, columns in (
            ("gemm_d", geometry.gemm_d_rows, geometry.gemm_d_cols),
            ("gemm_l", geometry.gemm_l_rows, geometry.gemm_l_cols),
        )
    ]
    words = max(geometry.wgt_d_words, geometry.wgt_l_words)
    needs = {name: need for name, need, _ in resource_rows(found.design, read_board(BOARD))}
    return [
        *arrays,
        words,
        f"{found.milliseconds:.2f}",
        f"{found.dram_bytes / 1e6:.1f}",
        *(needs[name] for name in ("lut", "dsp", "bram36")),
    ]


if __name__ == "__main__":
    main()
