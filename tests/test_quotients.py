# SPDX-License-Identifier: Apache-2.0
"""The division that ends an attend equals that of Python's integers, in every integer family and as Verilog."""

import ctypes
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from hetfab.hls.build import emulator
from hetfab.hls.build.compiler import find_compiler
from hetfab.overlay.isa.attention import attention_q8
from tests.verilated import HLS, simulate

Array = npt.NDArray[np.int64]
Divide = Callable[[Array, Array, bool], npt.NDArray[np.int32]]
FLAGS = ["-std=c++17", "-shared", "-fPIC", "-Wall", "-Wextra", "-Wno-unknown-pragmas", "-Wno-unused-label"]
FAMILIES = {
    "native-debug": ["-O1", "-DHETFAB_DEBUG", "-Wconversion", "-Werror"],
    "ap_int": ["-O1", "-DHETFAB_AP_INT"],
}
EDGES, WEIGHT = 65_535, 4_095
DENOMINATORS = [1, 2, 3, 7, 511, 512, 513, WEIGHT, WEIGHT + 1, 3 * WEIGHT, 65_537, 2**20 - 1, 2**27, 2**27 + 1]
DENOMINATORS += [EDGES * WEIGHT - 1, EDGES * WEIGHT]


@pytest.fixture(scope="module", params=FAMILIES)
def divide(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Divide:
    library = tmp_path_factory.mktemp(request.param) / "quotients.so"
    includes = [f"-I{HLS / 'include'}", "-isystem", str(emulator.ap_types_folder())]
    source = HLS / "testbench" / "quotients.cpp"
    find_compiler().run([*FLAGS, *FAMILIES[request.param], *includes, "-o", str(library), str(source)])
    function = ctypes.CDLL(str(library)).quotients

    def run(numerators: Array, denominators: Array, is_unsigned: bool) -> npt.NDArray[np.int32]:
        results = np.empty(len(numerators), np.int32)
        addresses = [ctypes.c_void_p(each.ctypes.data) for each in (numerators, denominators, results)]
        function(*addresses[:2], ctypes.c_long(len(results)), ctypes.c_int(is_unsigned), addresses[2])
        return results

    return run


def hard_numerators(denominator: int, is_unsigned: bool, quotients: Array) -> Array:
    """Those at which each of the quotients begins, the ones beside them, and the extremes."""
    lowest, highest = (0, 255) if is_unsigned else (-128, 127)
    begins = -((1 - 2 * quotients) * denominator // 512)
    beside = begins[:, None] + np.arange(-1, 2)
    ends = np.array([lowest, highest]) * denominator
    extremes = np.array([*ends, ends[0] + 1, ends[1] - 1, -1, 0, 1])
    numerators = np.unique(np.concatenate([beside.ravel(), extremes]))
    return np.asarray(numerators[(numerators >= ends[0]) & (numerators <= ends[1])])


@pytest.mark.parametrize("is_unsigned", [False, True])
def test_around_every_quotient(divide: Divide, is_unsigned: bool) -> None:
    """Remainders of 0, 1 and one less than the divisor, both signs, largest numerators."""
    for denominator in DENOMINATORS:
        first = 0 if is_unsigned else -128 * 256
        quotients = np.arange(first, first + 255 * 256 + 1, 1 if denominator == WEIGHT else 97)
        numerators = hard_numerators(denominator, is_unsigned, quotients)
        found = divide(numerators, np.full_like(numerators, denominator), is_unsigned)
        expected = [(512 * each + denominator) // (2 * denominator) for each in numerators.tolist()]
        assert found.tolist() == expected
        assert attention_q8(numerators, np.full_like(numerators, denominator)).tolist() == expected
        if denominator == WEIGHT:
            assert np.array_equal(np.unique(found), quotients)


def test_every_sum_of_few_small_weights(divide: Divide) -> None:
    for is_unsigned, extremes in ((False, (-128, 127)), (True, (0, 255))):
        pairs = [
            (numerator, denominator)
            for denominator in range(1, 9)
            for numerator in range(extremes[0] * denominator, extremes[1] * denominator + 1)
        ]
        numerators, denominators = np.array(pairs).T.copy()
        expected = [(512 * one + other) // (2 * other) for one, other in pairs]
        assert divide(numerators, denominators, is_unsigned).tolist() == expected


def test_without_edges_it_is_zero(divide: Divide) -> None:
    zeros = np.zeros(1, np.int64)
    for is_unsigned in (False, True):
        assert divide(zeros, zeros, is_unsigned).tolist() == [0]


def test_random_sums(divide: Divide) -> None:
    rng = np.random.default_rng(3)
    denominators = np.exp(rng.uniform(0, np.log(EDGES * WEIGHT), 20_000)).astype(np.int64)
    for is_unsigned, (lowest, highest) in zip((False, True), ((-128, 127), (0, 255)), strict=True):
        numerators = rng.integers(lowest * denominators, highest * denominators, endpoint=True)
        expected = [(512 * n + d) // (2 * d) for n, d in zip(numerators.tolist(), denominators.tolist(), strict=True)]
        assert divide(numerators, denominators, is_unsigned).tolist() == expected


def test_verilog(tmp_path: Path) -> None:
    """As it is counted: 20,000 numerators around the places where quotients begin."""
    assert simulate("attend_quotients", "attend_quotients_verilog.cpp", tmp_path, {"LANES": 1}) == "20000\n"
