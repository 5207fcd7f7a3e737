# SPDX-License-Identifier: Apache-2.0
"""Maps the processing elements with Yosys over a range of sizes and compares their cost functions with the result.

The constants are fitted on some of the sizes, the error is that on the others.
``--write`` puts the fitted constants into ``overlay/costs/area.json``; docs/costs.md lists them and has to follow.
"""

import json
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np
from scipy.optimize import nnls

from benchmarks.report import Report, argument_parser, publish
from hetfab.hls.build.verilog_elements import chain_module, plane_dot_module
from hetfab.hls.build.yosys import Mapped, Module, map_modules, module
from hetfab.overlay.costs.area import AREA_FILE
from hetfab.overlay.costs.elements import Form, chain_dsps, chain_terms, plane_dot_terms
from hetfab.overlay.costs.resources import block_rams
from hetfab.overlay.files import write_atomic

_ORIGIN = "measured: fitted to what Yosys maps for 7-series (benchmarks.area)"
#: Lanes, bits of a slice, bits of the outer accumulator.
_PLANE_FIT = ((8, 4, 24), (16, 2, 28), (16, 4, 32), (24, 3, 24), (32, 4, 24), (32, 2, 32), (48, 3, 28), (64, 4, 24))
_PLANE_HELD = ((16, 3, 24), (24, 4, 28), (32, 3, 28), (32, 4, 28), (40, 4, 24), (48, 4, 32), (64, 2, 28), (64, 3, 24))
#: Rows, columns, bits of an accumulator.
_CHAIN_FIT = ((2, 2, 24), (2, 2, 32), (2, 4, 24), (4, 2, 28))
_CHAIN_HELD = ((4, 4, 32), (2, 6, 28))
#: Depth and width of memories.
_BANKS = ((512, 64), (1024, 128), (2048, 64), (1024, 256))
#: Multiply-accumulates a cycle of an element with 4-bit weights and activations, per lane.
_W4A4_PER_LANE = {"plane_dot": 1 / 4, "popcount_dot": 1 / 16}
_POPCOUNT_LANES = 128


@dataclass(frozen=True)
class Sample:
    """An element of a size, and how often it has each constant."""

    what: str
    module: Module
    terms: dict[str, float]
    fitted: bool


def samples() -> list[Sample]:
    """Every size of every element in both forms."""
    return [
        *_samples("plane dot", plane_dot_module, plane_dot_terms, _PLANE_FIT, _PLANE_HELD),
        *_samples("chains", chain_module, chain_terms, _CHAIN_FIT, _CHAIN_HELD),
    ]


def _samples(
    what: str,
    build: Callable[[int, int, int, Form], Module],
    terms: Callable[[int, int, int, Form], dict[str, float]],
    fit: Sequence[tuple[int, int, int]],
    held: Sequence[tuple[int, int, int]],
) -> list[Sample]:
    return [
        Sample(f"{what} {'x'.join(map(str, size))} {form.value}", build(*size, form), terms(*size, form), size in fit)
        for form in Form
        for size in (*fit, *held)
    ]


def fit(taken: Sequence[Sample], luts: Sequence[int]) -> dict[str, float]:
    """Constants of the least relative error on the fitted sizes; none is negative, so that cost functions grow."""
    names = sorted({name for sample in taken for name in sample.terms})
    rows = [
        ([sample.terms.get(name, 0) / lut for name in names])
        for sample, lut in zip(taken, luts, strict=True)
        if sample.fitted
    ]
    solution, _ = nnls(np.array(rows), np.ones(len(rows)))
    return {name: round(float(value), 3) for name, value in zip(names, solution, strict=True)}


def modelled(sample: Sample, constants: dict[str, float]) -> float:
    """LUTs of a sample by the cost function."""
    return sum(times * constants[name] for name, times in sample.terms.items())


def write_constants(constants: dict[str, float]) -> None:
    """Replaces the fitted entries of ``area.json``."""
    entries = [entry for entry in json.loads(AREA_FILE.read_text(encoding="utf-8")) if entry["name"] not in constants]
    entries += [
        {"name": name, "value": value, "unit": "LUT", "origin": _ORIGIN} for name, value in sorted(constants.items())
    ]
    lines = ",\n".join("  " + json.dumps(entry) for entry in entries)

    def write(file: BinaryIO) -> None:
        file.write(f"[\n{lines}\n]\n".encode())

    write_atomic(AREA_FILE, write)


def measure() -> tuple[Report, dict[str, float]]:
    """The report and the fitted constants."""
    taken = samples()
    banks = [module("ram_bank", DEPTH=depth, WIDTH=width, ADDRESS=(depth - 1).bit_length()) for depth, width in _BANKS]
    popcount = module("popcount_dot", LANES=_POPCOUNT_LANES, SUM=_POPCOUNT_LANES.bit_length())
    mapped = map_modules([*(sample.module for sample in taken), *banks, popcount])
    elements, memories, popcount_luts = mapped[: len(taken)], mapped[len(taken) : -1], mapped[-1].lut
    constants = fit(taken, [each.lut for each in elements])
    rows, errors = [], []
    for sample, found in zip(taken, elements, strict=True):
        expected = modelled(sample, constants)
        error = abs(expected - found.lut) / found.lut
        if not sample.fitted:
            errors.append(error)
        use = "fitted" if sample.fitted else "held out"
        rows.append([sample.what, found.lut, round(expected), f"{error:.1%}", use, found.ff, found.dsp])
    values: dict[str, Any] = {
        "lut_median_error": round(statistics.median(errors), 4),
        "lut_max_error": round(max(errors), 4),
        "held_out_sizes": len(errors),
        "dsp_exact": _dsp_exact(taken, elements),
        "bram_exact": all(
            found.bram36 == block_rams(depth, width, true_dual=False)
            for (depth, width), found in zip(_BANKS, memories, strict=True)
        ),
        "lut_per_w4a4_mac": {
            **_lut_per_mac(taken, elements),
            "popcount 128": popcount_luts / (_POPCOUNT_LANES * _W4A4_PER_LANE["popcount_dot"]),
        },
        "constants": constants,
    }
    title = "Processing elements: LUTs measured by mapping with Yosys, and modelled by the fitted cost functions"
    headings = ["element", "LUT", "modelled", "error", "size is", "FF", "DSP"]
    return Report(title, headings, rows, values), constants


def _dsp_exact(taken: Sequence[Sample], elements: Sequence[Mapped]) -> bool:
    """Whether the DSPs are those of the cost function."""
    sizes = [dict(sample.module.parameters) for sample in taken]
    expected = [chain_dsps(size["ROWS"], size["COLS"]) if "ROWS" in size else 0 for size in sizes]
    return [found.dsp for found in elements] == expected


def _lut_per_mac(taken: Sequence[Sample], elements: Sequence[Mapped]) -> dict[str, float]:
    """LUTs per multiply-accumulate a cycle with 4-bit operands, of slices of 4 bits."""
    return {
        sample.what: round(found.lut / (parameters["LANES"] * _W4A4_PER_LANE["plane_dot"]), 2)
        for sample, found in zip(taken, elements, strict=True)
        for parameters in [dict(sample.module.parameters)]
        if parameters.get("SLICE") == 4
    }


def main() -> None:
    """Runs the benchmark."""
    parser = argument_parser(__doc__)
    parser.add_argument("--write", action="store_true", help="put the constants into overlay/costs/area.json")
    arguments = parser.parse_args()
    report, constants = measure()
    if arguments.write:
        write_constants(constants)
    publish(report, arguments.as_json)


if __name__ == "__main__":
    main()
