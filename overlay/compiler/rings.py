# SPDX-License-Identifier: Apache-2.0
"""On-chip buffers as rings: equal slots, so that a buffer's writer fills one while its reader empties the other."""

from hetfab.overlay.design import Geometry, largest_value

#: Every buffer has two slots.
SLOTS = 2
#: The rings, by the memory. Weights and parameters need no FULL: LOAD, which is in order, brings them before the
#: activations without which no reader starts. A pass without activations has ``PARAMETERS_LOADED``.
RING_MEMORIES = (
    "act_d_ram",
    "act_l_ram",
    "wgt_d_ram",
    "wgt_l_ram",
    "par_ram",
    "acc_d_ram",
    "acc_l_ram",
    "sum_ram",
    "out_ram",
)


def slot_words(geometry: Geometry, memory: str) -> int:
    """Words of a slot, of as much of the buffer as instructions can name."""
    return min(geometry.depth(memory), largest_value(memory.replace("_ram", "_words"))) // SLOTS
