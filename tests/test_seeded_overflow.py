# SPDX-License-Identifier: Apache-2.0
"""A careless integer family, whose saturation does nothing, makes native integers and ap_int differ.

So the comparison of the two in ``test_instructions`` would find a kernel that narrows by accident.
"""

import numpy as np
import numpy.typing as npt
import pytest

from hetfab.hls.build.emulator import Arithmetic, Emulator, Progress, build_emulator
from hetfab.overlay.design import Geometry
from hetfab.overlay.isa import codec
from hetfab.overlay.isa.codec import RegisterOffset

BASE = 0x1000_0000
CARELESS_FILE = 'HETFAB_FAMILY_HEADER="testbench/careless.hpp"'
FAMILIES = {Arithmetic.NATIVE: "hetfab::Native", Arithmetic.AP_INT: "hetfab::Ap"}


def export(geometry: Geometry, arithmetic: Arithmetic, defines: list[str], accumulator: int) -> list[int]:
    """``export_sums`` of one row of equal accumulators; returns its int32 values."""
    with Emulator(build_emulator(geometry, arithmetic, defines=defines), geometry) as emulator:
        emulator.write_ram("acc_d_ram", 0, words(np.full(geometry.gemm_d_cols, accumulator, "<i4")))
        parameters = np.zeros(geometry.lanes, np.dtype([("bias", "<i4"), ("multiplier", "<u4")]))
        parameters["multiplier"] = 1
        emulator.write_ram("par_ram", 0, words(parameters))
        fields = {"core": 0, "out": 0, "par": 0, "rows": 1, "groups": 1, "row_blocks": 1, "row_words": 4}
        word = codec.export_sums(acc=0, sum=0, sum_groups=0, with_acc=1, shift=0, **fields)
        emulator.map_memory(BASE, np.frombuffer(word.to_bytes(16, "little"), np.uint8).copy())
        emulator.write_register(RegisterOffset.PROGRAM_LENGTH, 1)
        emulator.write_register(RegisterOffset.SEGMENT_BASE_PROGRAM_LOW, BASE)
        emulator.write_register(RegisterOffset.SEGMENT_SIZE_PROGRAM_LOW, 16)
        emulator.write_register(RegisterOffset.CONTROL, 1)
        assert emulator.advance(1000) is Progress.DONE, emulator.message()
        return [int(value) for value in emulator.read_ram("out_ram", 0, 4).view("<i4").reshape(-1)]


def words(values: npt.NDArray[np.generic]) -> npt.NDArray[np.uint8]:
    return np.frombuffer(values.tobytes(), np.uint8).reshape(1, -1)


@pytest.mark.parametrize("accumulator", [1 << 23, (1 << 24) - 5, -(1 << 23) - 1])
def test_careless_narrowing_is_seen(default_geometry: Geometry, accumulator: int) -> None:
    careless = {
        arithmetic: export(
            default_geometry,
            arithmetic,
            [CARELESS_FILE, f"HETFAB_FAMILY=hetfab::Careless<{family}>"],
            accumulator,
        )
        for arithmetic, family in FAMILIES.items()
    }
    limits = (-(1 << 23), (1 << 23) - 1)
    right = [min(max(accumulator, limits[0]), limits[1])] * default_geometry.lanes
    assert careless[Arithmetic.NATIVE] != careless[Arithmetic.AP_INT]
    assert all(export(default_geometry, arithmetic, [], accumulator) == right for arithmetic in FAMILIES)


@pytest.mark.parametrize(("accumulator", "limited"), [(-(1 << 23), -(1 << 23)), ((1 << 24) + 5, (1 << 23) - 1)])
def test_where_nothing_is_narrowed_careless_narrowing_is_right(
    default_geometry: Geometry, accumulator: int, limited: int
) -> None:
    """Without overflow, and for what has bits beyond those that are rounded: its limit is chosen, not narrowed to."""
    expected = [limited] * default_geometry.lanes
    for arithmetic, family in FAMILIES.items():
        defines = [CARELESS_FILE, f"HETFAB_FAMILY=hetfab::Careless<{family}>"]
        assert export(default_geometry, arithmetic, defines, accumulator) == expected
        assert export(default_geometry, arithmetic, [], accumulator) == expected
