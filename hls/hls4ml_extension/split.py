# SPDX-License-Identifier: Apache-2.0
"""How the output channels of a layer are shared between the two kinds of engine."""

from dataclasses import dataclass

from hetfab.overlay.errors import SplitInvalidError


@dataclass(frozen=True)
class Split:
    """The first outputs are summed on DSPs, the rest on LUTs, both at the same time.

    Attributes:
        dsp_channels: Outputs on DSPs.
        dsp_parallel: Outputs that the DSPs sum at once; even, since a DSP multiplies two columns.
        lut_parallel: Outputs that the LUTs sum at once.

    Raises:
        SplitInvalidError: A number is negative, or the DSPs' parallelism is odd.
    """

    dsp_channels: int
    dsp_parallel: int = 2
    lut_parallel: int = 2

    def __post_init__(self) -> None:
        if self.dsp_channels < 0 or self.dsp_parallel < 2 or self.dsp_parallel % 2 or self.lut_parallel < 1:
            raise SplitInvalidError(
                f"{self}",
                "no negative number of channels, an even dsp_parallel of at least 2, a lut_parallel of at least 1",
                "correct the numbers",
            )


def balanced(
    inputs: int, outputs: int, *, steps_per_word: int, planes: int, slices: int, dsp_parallel: int, lut_parallel: int
) -> Split:
    """The split with which the later engine ends first, in modelled steps.

    Args:
        inputs: Input channels.
        outputs: Output channels.
        steps_per_word: Steps on DSPs for 32 channels: 8, or 4 packed ones.
        planes: Bit planes of the weights on LUTs.
        slices: Slices of 4 bits of an activation.
        dsp_parallel: Outputs that the DSPs sum at once.
        lut_parallel: Outputs that the LUTs sum at once.
    """
    words = -(-inputs // 32)

    def steps(dsp_channels: int) -> int:
        on_dsp = -(-dsp_channels // dsp_parallel) * words * steps_per_word
        on_lut = -(-(outputs - dsp_channels) // lut_parallel) * words * planes * slices
        return max(on_dsp, on_lut)

    return Split(min(range(outputs + 1), key=steps), dsp_parallel, lut_parallel)
