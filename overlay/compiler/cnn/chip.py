# SPDX-License-Identifier: Apache-2.0
"""What the code of all layers shares: the stream, the places in on-chip memories, the constants, finished lines."""

import functools

from hetfab.overlay.compiler.cnn.buffers import Buffer
from hetfab.overlay.compiler.cnn.cores import Core
from hetfab.overlay.compiler.cnn.feature_maps import FeatureMap
from hetfab.overlay.compiler.cnn.stream import Stream
from hetfab.overlay.compiler.constants import Constants
from hetfab.overlay.design import Geometry, largest_value

_MEMORIES = (
    "act_d_ram",
    "act_l_ram",
    "wgt_d_ram",
    "wgt_l_ram",
    "par_ram",
    "acc_d_ram",
    "acc_l_ram",
    "res_ram",
    "out_ram",
    "exp_ram",
    "dwp_ram",
    "mid_ram",
)


class Chip:
    """State of one compilation.

    Args:
        geometry: The design's geometry.
    """

    def __init__(self, geometry: Geometry) -> None:
        self.geometry = geometry
        self.stream = Stream(geometry)
        self.constants = Constants()
        self.buffers = {name: Buffer(name, depth(geometry, name)) for name in _MEMORIES}
        #: Operation and fields that filled each context last: VEC's by operation, LOAD's by number.
        self._configured: dict[str | int, tuple[str, dict[str, int]]] = {}

    def buffer(self, kind: str, core: Core) -> Buffer:
        """A memory that each core has."""
        return self.buffers[f"{kind}_{core.letter}_ram"]

    def emit(self, layer: int, operation: str, **fields: int) -> None:
        """Appends an instruction."""
        self.stream.emit(layer, operation, fields)

    def configure_pixels(self, layer: int, **fields: int) -> None:
        """Tells VEC where pixels lie, unless it knows."""
        self._configure(layer, "configure_pixels", "configure_pixels", fields)

    def configure_pool(self, layer: int, **fields: int) -> None:
        """Tells VEC which windows it pools, unless it knows."""
        self._configure(layer, "configure_pool", "configure_pool", fields)

    def configure_load(self, layer: int, operation: str, slot: int, **fields: int) -> None:
        """Fills a context of LOAD, unless it holds this."""
        self._configure(layer, slot, operation, {"slot": slot, **fields})

    def _configure(self, layer: int, context: str | int, operation: str, fields: dict[str, int]) -> None:
        if self._configured.get(context) != (operation, fields):
            self._configured[context] = operation, fields
            self.emit(layer, operation, **fields)

    def store(
        self,
        layer: int,
        target: FeatureMap,
        *,
        ram: int,
        ram_banks: int,
        lines: int,
        columns: int,
        beats: int,
        place: tuple[int, int, int],
    ) -> None:
        """Stores pixels of some lines.

        Args:
            layer: The layer.
            target: What they are pixels of.
            ram: First word in out_ram.
            ram_banks: Pixels from one of a line to the next one there.
            lines: Lines.
            columns: Pixels of a line.
            beats: Beats of a pixel that are stored.
            place: First line, pixel and beat.
        """
        row, column, beat = place
        joined = beats == target.pixel_beats
        self.emit(
            layer,
            "store_runs",
            ram=ram,
            banks=lines,
            columns=columns - 1,
            ram_banks=ram_banks,
            row_beats=beats,
            stride_blocks=target.row_blocks,
            joined=int(joined),
            # One pixel has no next one: those of many logits are longer than the field counts.
            pixel_stride=columns * beats if joined else target.pixel_beats * (columns > 1),
            address=target.address(row, column, beat),
        )


@functools.cache
def depth(geometry: Geometry, memory: str) -> int:
    """Words of a memory, of as many as instructions can name."""
    return min(geometry.depth(memory), largest_value(memory.replace("_ram", "_words")))
