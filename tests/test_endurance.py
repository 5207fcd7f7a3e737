# SPDX-License-Identifier: Apache-2.0
"""Inferences and loadings again and again: nothing grows."""

import threading
from pathlib import Path
from typing import Any

from hetfab.driver.emulated import EmulatedTransport
from hetfab.driver.overlay import HetfabOverlay
from hetfab.driver.package import write_emulated_package
from tests.conftest import SMALL_GEOMETRY
from tests.outside import module
from tests.programs import compiled, quantized
from tests.pynq_support import small_design_of
from tests.random_models import academic_case

ENDURANCE: Any = module("benchmarks.endurance")


def test_descriptors_and_threads_do_not_grow(tmp_path: Path) -> None:
    case = academic_case()
    program = compiled(quantized(case).model, case.graph, SMALL_GEOMETRY)
    package = write_emulated_package(tmp_path, small_design_of("pynq-z2"))
    transport = EmulatedTransport(package.design)
    with HetfabOverlay(package, program, transport=transport) as overlay:
        overlay.predict(case.graph)
        used = transport.memory.used

        def reload() -> None:
            overlay.recover()
            overlay.predict(case.graph)

        for one in (overlay.predict, reload):
            found = ENDURANCE.growth(30, one)
            assert found["rounds"] == 30 and found["growth_descriptors"] <= 0 and found["growth_threads"] <= 0
            assert transport.memory.used == used


def test_growth_is_seen(tmp_path: Path) -> None:
    held: list[Any] = []
    end = threading.Event()

    def one() -> None:
        held.append((tmp_path / str(len(held))).open("w"))
        held.append(threading.Thread(target=end.wait))
        held[-1].start()
        held.append(b"x" * (8 << 20))

    try:
        found = ENDURANCE.growth(20, one)
    finally:
        end.set()
        for each in held[::3]:
            each.close()
    assert found["growth_descriptors"] == found["growth_threads"] == 16
    assert found["growth_kib"] > ENDURANCE.GROWTH_LIMIT_KIB
