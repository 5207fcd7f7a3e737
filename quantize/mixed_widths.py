# SPDX-License-Identifier: Apache-2.0
"""Two widths for the channels of a layer, one for each core: wide ones for GEMM-D, narrow ones for GEMM-L.

GEMM-D takes the same time for weights of 8 bits as for narrower ones beside activations of 8 bits, so the channels that
it serves may as well be wide. The compiler sorts channels to the cores. Wide are those that lose most when they are
narrow, as N3H-Core (FPGA 2022) orders channels by what rounding does to each.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hetfab.overlay.isa.spec import isa
from hetfab.quantize.assignment import WeightChoice

#: Wide channels are whole beats of results.
_BEAT = isa().size("beat_bytes")


@dataclass(frozen=True)
class Mix:
    """Two widths, and the share of channels that are wide, rounded down to whole beats.

    Attributes:
        narrow: Bits of most channels.
        wide: Bits of the others.
        share: Of wide channels.
    """

    narrow: int
    wide: int
    share: float

    def wide_channels(self, channels: int) -> int:
        """How many of a layer's output channels are wide; 0 where a beat is more than the share."""
        return int(self.share * channels) // _BEAT * _BEAT

    def choice(self, losses: Sequence[float] | npt.NDArray[np.float64], method: str) -> WeightChoice | None:
        """The widths of a layer, the channels of largest loss wide; None where no channel is.

        Args:
            losses: Of each output channel at the narrow width.
            method: A name of ``WEIGHT_METHODS``.
        """
        count = self.wide_channels(len(losses))
        if not count:
            return None
        bits = np.full(len(losses), self.narrow)
        bits[np.argsort(-np.asarray(losses), kind="stable")[:count]] = self.wide
        return WeightChoice(tuple(bits.tolist()), method)


#: What pays on a board's default design: with a quarter wide, RGCN on ACM takes 1 % longer than with 2 bits alone.
MIXES = (Mix(2, 8, 0.25),)
