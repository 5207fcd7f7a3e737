# SPDX-License-Identifier: Apache-2.0
"""Measures how many multiply-accumulates a second the emulated overlay does on this machine, one thread."""

import time

import numpy as np

from hetfab.hls.build.emulator import Emulator, Progress, build_emulator
from hetfab.overlay.design import default_design
from hetfab.overlay.isa.codec import RegisterOffset, Segment
from hetfab.overlay.isa.spec import isa

INSTRUCTIONS = 200
ADDRESS = 0x1000_0000


def main() -> None:
    """Runs one full tile many times and prints the rate."""
    geometry = default_design().geometry
    k_words = geometry.wgt_words // geometry.gemm_rows
    rows = min(64, geometry.act_words // k_words, geometry.acc_words)
    operation = isa().operation("matmul")
    values = {"rows": rows, "k_words": k_words, "col_groups": 1}
    word = operation.opcode << 4 | isa().engine("gemm_d").id
    for field in operation.fields:
        word |= values.get(field.name, 0) << field.lsb
    program = np.frombuffer(word.to_bytes(16, "little") * INSTRUCTIONS, np.uint8).copy()
    macs = INSTRUCTIONS * rows * k_words * geometry.gemm_rows * geometry.gemm_cols
    with Emulator(build_emulator(geometry), geometry) as emulator:
        emulator.map_memory(ADDRESS, program)
        emulator.write_register(RegisterOffset.PROGRAM_LENGTH, INSTRUCTIONS)
        name = Segment.PROGRAM.name
        emulator.write_register(RegisterOffset[f"SEGMENT_BASE_{name}_LOW"], ADDRESS)
        emulator.write_register(RegisterOffset[f"SEGMENT_SIZE_{name}_LOW"], len(program))
        emulator.write_register(RegisterOffset.CONTROL, 1)
        begin = time.perf_counter()
        progress = emulator.advance(100 * INSTRUCTIONS)
        seconds = time.perf_counter() - begin
        if progress is not Progress.DONE:
            raise SystemExit(emulator.message())
        counted = int(emulator.run_log()["macs"].sum())
    print(f"{counted:,} MACs ({macs:,} expected) in {seconds:.3f} s: {counted / seconds / 1e9:.2f} GMAC/s")


if __name__ == "__main__":
    main()
