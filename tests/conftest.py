# SPDX-License-Identifier: Apache-2.0
"""Fixtures that several tests share: the built overlays of the suite.

The suite compiles two designs, seven times in all: the default one with native integers, with native integers that
check their range, with ap_int, and with two careless families; a small one with native integers, and with checked ones
whose declared sets can be shortened.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest

from hetfab.hls.build.emulator import Arithmetic, Emulator, build_emulator
from hetfab.overlay.design import Geometry, default_design
from tests.demo_files import DemoFiles, make_demo_files

#: Small arrays with short queues and memories that hold little more than one tile of 64 channels.
SMALL_GEOMETRY = replace(
    default_design().geometry,
    gemm_d_rows=4,
    gemm_d_cols=16,
    gemm_l_rows=3,
    gemm_l_cols=8,
    act_d_words=128,
    act_l_words=128,
    wgt_d_words=256,
    wgt_l_words=256,
    par_words=16,
    acc_d_words=64,
    acc_l_words=128,
    sum_words=64,
    out_words=256,
    agg_contexts=2,
    agg_groups=8,
    queue_depth=4,
    engine_fifo_depth=2,
)


@pytest.fixture(scope="session")
def default_geometry() -> Geometry:
    """Geometry of the default design."""
    return default_design().geometry


@pytest.fixture(scope="session")
def small_geometry() -> Geometry:
    """Geometry of the small design."""
    return SMALL_GEOMETRY


@pytest.fixture
def small_emulator(small_geometry: Geometry) -> Iterator[Emulator]:
    """A fresh emulated overlay of the small design."""
    with Emulator(build_emulator(small_geometry), small_geometry) as emulator:
        yield emulator


@contextmanager
def opened(geometry: Geometry, executions: dict[str, tuple[Arithmetic, bool]]) -> Iterator[dict[str, Emulator]]:
    """Emulators of one geometry by name; each execution is (arithmetic, debug)."""
    emulators: dict[str, Emulator] = {}
    try:
        for name, (arithmetic, debug) in executions.items():
            emulators[name] = Emulator(build_emulator(geometry, arithmetic, debug=debug), geometry)
        yield emulators
    finally:
        for emulator in emulators.values():
            emulator.close()


@pytest.fixture(scope="session")
def default_emulators(default_geometry: Geometry) -> Iterator[dict[str, Emulator]]:
    """The default design with native integers, checked native integers and ap_int."""
    executions = {
        "native": (Arithmetic.NATIVE, False),
        "native-debug": (Arithmetic.NATIVE, True),
        "ap_int": (Arithmetic.AP_INT, False),
    }
    with opened(default_geometry, executions) as emulators:
        yield emulators


@pytest.fixture(scope="session")
def small_emulators(small_geometry: Geometry) -> Iterator[dict[str, Emulator]]:
    """The small design with native integers."""
    with opened(small_geometry, {"native": (Arithmetic.NATIVE, False)}) as emulators:
        yield emulators


@pytest.fixture(scope="session")
def demo_files(tmp_path_factory: pytest.TempPathFactory) -> DemoFiles:
    """The demo's graph, quantized model and program."""
    return make_demo_files(tmp_path_factory.mktemp("demo"))
