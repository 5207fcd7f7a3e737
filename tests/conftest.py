# SPDX-License-Identifier: Apache-2.0
"""Fixtures that several tests share: the built overlays of the suite.

The suite compiles two designs, nine times in all: the default one with native integers and host bodies, with native
integers and plain bodies, with native integers that check their range, with ap_int, and with two careless families; a
small one with native integers and either bodies, and with checked ones whose declared sets can be shortened.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import pytest
from hypothesis import settings

from hetfab.hls.build.emulator import Arithmetic, Bodies, Emulator, build_emulator
from hetfab.overlay.design import Geometry, default_design
from tests.demo_files import DemoFiles, make_demo_files

# Examples have no deadline: what a machine does beside the tests is no failure.
settings.register_profile("hetfab", settings(), deadline=None)
settings.load_profile("hetfab")

# Constants that a user has measured would change modelled times.
os.environ["HETFAB_CONSTANTS"] = os.devnull

#: All engines, small arrays with short queues and memories that hold little more than one tile of 64 channels.
SMALL_GEOMETRY = replace(
    default_design().geometry,
    engines=(*default_design().geometry.engines, "sgb", "dw", "rst"),
    gemm_d_rows=4,
    gemm_d_cols=16,
    gemm_l_rows=3,
    gemm_l_cols=8,
    act_d_words=128,
    act_l_words=128,
    wgt_d_words=256,
    wgt_l_words=256,
    par_words=16,
    res_words=192,
    gather_beats=8,
    fun_words=512,
    norm_words=40,
    acc_d_words=64,
    acc_l_words=128,
    sum_words=64,
    out_words=256,
    exp_words=256,
    dwp_words=128,
    mid_words=256,
    agg_contexts=2,
    agg_groups=8,
    feature_words=128,
    agg_word_beats=4,
    agg_weights=1,
    agg_heads=8,
    sgb_columns=16384,
    sgb_ids=64,
    rst_vertices=256,
    rows_fifo_words=16,
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


@dataclass(frozen=True)
class Build:
    """How an execution is built."""

    arithmetic: Arithmetic = Arithmetic.NATIVE
    bodies: Bodies = Bodies.PLAIN
    debug: bool = False
    defines: tuple[str, ...] = ()


#: The executions of the kernels by name: native integers with the kernels' own bodies and with the host's.
NATIVE = {"native": Build(), "host": Build(bodies=Bodies.HOST)}
#: Integers that are checked. C simulation has GEMM-L's mapped elements, with the C++ models of their black boxes.
CHECKED = {
    "native-debug": Build(debug=True),
    "ap_int": Build(Arithmetic.AP_INT, defines=("HETFAB_PLANE_BOXES",)),
}


@contextmanager
def opened(geometry: Geometry, executions: dict[str, Build]) -> Iterator[dict[str, Emulator]]:
    """Emulators of one geometry by name."""
    emulators: dict[str, Emulator] = {}
    try:
        for name, build in executions.items():
            library = build_emulator(
                geometry, build.arithmetic, debug=build.debug, bodies=build.bodies, defines=build.defines
            )
            emulators[name] = Emulator(library, geometry)
        yield emulators
    finally:
        for emulator in emulators.values():
            emulator.close()


@pytest.fixture(scope="session")
def default_emulators(default_geometry: Geometry) -> Iterator[dict[str, Emulator]]:
    """The default design with native integers, plain and host bodies, checked native integers and ap_int."""
    with opened(default_geometry, NATIVE | CHECKED) as emulators:
        yield emulators


@pytest.fixture(scope="session")
def small_emulators(small_geometry: Geometry) -> Iterator[dict[str, Emulator]]:
    """The small design with native integers, plain and host bodies."""
    with opened(small_geometry, NATIVE) as emulators:
        yield emulators


@pytest.fixture(scope="session")
def small_checked_emulators(small_geometry: Geometry) -> Iterator[dict[str, Emulator]]:
    """The small design in all executions, for operations that the default design lacks."""
    with opened(small_geometry, NATIVE | CHECKED) as emulators:
        yield emulators


@pytest.fixture(scope="session")
def demo_files(tmp_path_factory: pytest.TempPathFactory) -> DemoFiles:
    """The demo's graph, quantized model and program."""
    return make_demo_files(tmp_path_factory.mktemp("demo"))
