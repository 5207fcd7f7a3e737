# SPDX-License-Identifier: Apache-2.0
"""The run log: one record per retired instruction, in bound-program order.

It holds no wall time and nothing that depends on the order in which engines were stepped.
"""

import numpy as np

#: ``index`` in the bound stream; ``layer`` indexes the program's layer table; two read ports: 0 data, 1 AGG's
#: graph port. Bytes and bursts are counted at the AXI ports, cycles by the loops' trips (modelled, not
#: measured).
RUN_LOG_DTYPE = np.dtype(
    [
        ("index", np.uint32),
        ("engine", np.uint8),
        ("opcode", np.uint8),
        ("layer", np.uint16),
        ("cycles", np.uint64),
        ("read_bytes", np.uint64, (2,)),
        ("read_bursts", np.uint64, (2,)),
        ("write_bytes", np.uint64),
        ("write_bursts", np.uint64),
        ("macs", np.uint64),
        ("edges", np.uint64),
        ("misses", np.uint64),
    ]
)
