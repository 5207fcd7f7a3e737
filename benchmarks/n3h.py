# SPDX-License-Identifier: Apache-2.0
"""N3H-Core's published latency equations on ResNet-18, beside what the published search software gave.

Nothing here is hetfab's own cost, and nothing was measured on a board: see docs/n3h.md.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from benchmarks.report import Report, argument_parser, publish
from hetfab.overlay.costs.n3h_published import (
    DspCore,
    GemmLayer,
    LutCore,
    Widths,
    dsp_core_cycles,
    lut_core_cycles,
    milliseconds,
    scan_split,
)

_LUT, _DSP = LutCore(), DspCore()
#: Multiply-accumulates per cycle of the DSP core, 8-bit and 4-bit.
_DSP_MACS = {True: 128, False: 256}
#: Cases that need the widths and ratios of each layer, which stand in files without a licence, and the constants by
#: which the software scales rewards: no setting that was tried gives them.
_NOT_REPRODUCED = {
    "the README's strategy of mixed widths, stated target 35": 36.90,
    "the W4A4 strategy with given ratios": 42.45,
    "largest cost constant": 198.99,
    "smallest cost constant": 22.06,
}


def resnet18() -> tuple[GemmLayer, ...]:
    """ResNet-18 on 224 x 224 pixels: 20 convolutions as matrix products, and the last layer."""
    layers = [GemmLayer(112 * 112, 147, 64), *[GemmLayer(56 * 56, 9 * 64, 64)] * 4]
    for side, channels in ((28, 128), (14, 256), (7, 512)):
        depths = (9 * channels // 2, 9 * channels, channels // 2, 9 * channels, 9 * channels)
        layers += [GemmLayer(side * side, depth, channels) for depth in depths]
    return (*layers, GemmLayer(1, 512, 1000))


@dataclass(frozen=True)
class Case:
    """A row of the table.

    Attributes:
        name: Key of the JSON object.
        widths: Of all layers but the first and the last, which have 8 bits.
        cycles: Cycles of a layer.
        software: Milliseconds that the published software gave; None for bounds, which it does not compute.
    """

    name: str
    widths: Widths
    cycles: Callable[[GemmLayer, Widths], float]
    software: float | None

    def milliseconds(self) -> float:
        """By the equations; layers do not overlap."""
        first, *middle, last = resnet18()
        ends = Widths(8, 8, int8_on_dsp=True)
        cycles = sum(self.cycles(layer, ends) for layer in (first, last))
        return milliseconds(cycles + sum(self.cycles(layer, self.widths) for layer in middle))


def cases() -> Iterator[Case]:
    """Every case whose figure follows from the equations alone."""
    for bits, software in (((2, 2), 26.18), ((3, 3), 36.57), ((4, 4), 41.75), ((8, 4), 54.98)):
        yield Case(f"split_w{bits[0]}a{bits[1]}", Widths(*bits), _split, software)
    yield Case("dsp_only", Widths(4, 4), lambda layer, widths: dsp_core_cycles(layer, widths, _DSP), 100.23)
    for both, software in ((2, 58.26), (4, 86.39)):
        yield Case(f"lut_only_w{both}a{both}", Widths(both, both), _on_lut, software)
    for both in (2, 3, 4):
        yield Case(f"bound_w{both}a{both}", Widths(both, both), _bound, None)


def main() -> None:
    """Prints the table and the JSON line."""
    arguments = argument_parser(__doc__).parse_args()
    giga_operations = 2 * sum(layer.macs for layer in resnet18()) / 1e9
    rows: list[list[object]] = []
    values: dict[str, float | int] = {"reproduced": 0, "not_reproduced": len(_NOT_REPRODUCED)}
    for case in cases():
        found = case.milliseconds()
        values[f"{case.name}_modelled_milliseconds"] = found
        rows.append([case.name, "", f"{found:.2f}", f"{1000 * giga_operations / found:.0f}", ""])
        if case.software is not None:
            same = round(found, 2) == case.software
            values["reproduced" if same else "not_reproduced"] += 1
            rows[-1][1::3] = [f"{case.software:.2f}", "yes" if same else "no"]
    rows += [[name, f"{software:.2f}", "", "", "no"] for name, software in _NOT_REPRODUCED.items()]
    headings = ["case", "software ms", "equations ms", "GOPS", "reproduced"]
    publish(Report("everything here is modelled, at 100 MHz", headings, rows, values), arguments.as_json)


def _split(layer: GemmLayer, widths: Widths) -> float:
    return scan_split(layer, widths, _LUT, _DSP).cycles


def _on_lut(layer: GemmLayer, widths: Widths) -> float:
    return lut_core_cycles(layer, widths, _LUT)


def _bound(layer: GemmLayer, widths: Widths) -> float:
    """Both cores always busy, nothing else costs."""
    bit_products = _LUT.rows * _LUT.depth * _LUT.columns
    on_lut = bit_products / (widths.weight_bits * widths.activation_bits)
    return layer.macs / (on_lut + _DSP_MACS[widths.int8_on_dsp])


if __name__ == "__main__":
    main()
