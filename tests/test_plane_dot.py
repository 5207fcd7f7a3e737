# SPDX-License-Identifier: Apache-2.0
"""GEMM-L's processing element gives sum(w * a) for every width, in every integer family and with black boxes."""

import ctypes
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hetfab.hls.build import emulator
from hetfab.hls.build.compiler import find_compiler
from tests.plane_steps import Steps, steps_of

HLS = Path(emulator.__file__).parents[1]
FLAGS = ["-std=c++17", "-shared", "-fPIC", "-Wall", "-Wextra", "-Wno-unknown-pragmas", "-Wno-unused-label"]
FAMILIES = {
    "native": ["-O2", "-Wconversion", "-Werror"],
    "native-debug": ["-O1", "-DHETFAB_DEBUG", "-Wconversion", "-Werror"],
    "ap_int": ["-O2", "-DHETFAB_AP_INT"],
    "boxes": ["-O2", "-DHETFAB_AP_INT", "-DHETFAB_PLANE_BOXES", str(HLS / "verilog" / "plane_boxes.cpp")],
}
#: Widths of weights, of activations, and whether those are signed.
WIDTHS = [(w, a, signed) for w in range(1, 9) for a in range(2, 9) for signed in (False, True)]
Element = Callable[[Steps, int], npt.NDArray[np.int32]]


@pytest.fixture(scope="module")
def elements(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Element]:
    return {name: element(tmp_path_factory.mktemp(name), flags) for name, flags in FAMILIES.items()}


def element(folder: Path, flags: list[str]) -> Element:
    library = folder / "plane_dots.so"
    includes = [f"-I{HLS / 'include'}", "-isystem", str(emulator.ap_types_folder())]
    source = HLS / "testbench" / "plane_dots.cpp"
    find_compiler().run([*FLAGS, *flags, *includes, "-o", str(library), str(source)])
    functions = ctypes.CDLL(str(library))

    def run(steps: Steps, acc_bits: int) -> npt.NDArray[np.int32]:
        outer = np.empty(len(steps.planes), np.int32)
        addresses = [steps.slices.ctypes.data, steps.planes.ctypes.data, steps.controls.ctypes.data]
        pointers = [ctypes.c_void_p(address) for address in addresses]
        function = functions[f"plane_dots_{acc_bits}"]
        function(*pointers, ctypes.c_long(len(outer)), ctypes.c_void_p(outer.ctypes.data))
        return outer

    return run


def weight_values(bits: int) -> npt.NDArray[np.int64]:
    return np.array([-1, 1]) if bits == 1 else np.arange(-(1 << (bits - 1)), 1 << (bits - 1))


def activation_values(bits: int, signed: bool) -> npt.NDArray[np.int64]:
    values = np.arange(1 << bits)
    return values - (1 << (bits - 1)) if signed else values


def check(element: Element, weights: npt.NDArray[np.int64], acts: npt.NDArray[np.int64], *widths: int) -> None:
    w, a, signed = widths
    steps = steps_of(weights, acts, w, a, bool(signed))
    expected = (weights * acts).sum(axis=1)
    for acc_bits in (24, 32):
        result = element(steps, acc_bits)[steps.ends] + steps.corrections
        np.testing.assert_array_equal(result, expected)


@pytest.mark.parametrize(("w", "a", "signed"), WIDTHS)
def test_every_weight_with_every_activation(elements: dict[str, Element], w: int, a: int, signed: bool) -> None:
    """One channel counts, the others have an activation of 0; the channel moves from pair to pair."""
    pairs = np.stack(np.meshgrid(weight_values(w), activation_values(a, signed)), axis=-1).reshape(-1, 2)
    place = np.arange(len(pairs)) % 32
    weights = np.where(np.arange(32) == place[:, None], pairs[:, :1], weight_values(w)[0])
    acts = np.where(np.arange(32) == place[:, None], pairs[:, 1:], 0)
    check(elements["native"], weights, acts, w, a, signed)
    if len(pairs) <= 64:
        check(elements["native-debug"], weights, acts, w, a, signed)
        check(elements["ap_int"], weights, acts, w, a, signed)
        check(elements["boxes"], weights, acts, w, a, signed)


@pytest.mark.parametrize("family", FAMILIES)
@settings(max_examples=40, deadline=None)
@given(st.sampled_from(WIDTHS), st.integers(1, 100), st.integers(1, 5), st.integers(0, 2**32 - 1), st.booleans())
def test_dot_products_of_any_length(
    elements: dict[str, Element],
    family: str,
    widths: tuple[int, int, bool],
    channels: int,
    dots: int,
    seed: int,
    extreme: bool,
) -> None:
    w, a, signed = widths
    rng = np.random.default_rng(seed)
    weights, acts = weight_values(w), activation_values(a, signed)
    if extreme:
        weights, acts = weights[[0, -1]], acts[[0, -1]]
    shape = (dots, channels)
    check(elements[family], rng.choice(weights, shape), rng.choice(acts, shape), w, a, signed)


@pytest.mark.parametrize(("w", "a", "signed"), WIDTHS)
@pytest.mark.parametrize("end", [0, -1])
def test_words_of_one_extreme_fit(elements: dict[str, Element], w: int, a: int, signed: bool, end: int) -> None:
    """Checked integers stop at whatever does not fit, so that 17 bits are enough is part of this."""
    for act_end in (0, -1):
        weights = np.full((1, 96), weight_values(w)[end])
        acts = np.full((1, 96), activation_values(a, signed)[act_end])
        check(elements["native-debug"], weights, acts, w, a, signed)
