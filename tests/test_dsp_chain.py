# SPDX-License-Identifier: Apache-2.0
"""GEMM-D's chain of 8 DSP slices: packed products with cut ports, plain products and the definition agree."""

import itertools
import subprocess
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hetfab.hls.build import emulator
from hetfab.hls.build.compiler import find_compiler
from hetfab.overlay.isa.dsp_packing import dsp_slices, packings

Integers = npt.NDArray[np.int64]
HLS = Path(emulator.__file__).parents[1]
SLICES = ("dsp48e1", "dsp48e2")


@dataclass(frozen=True, eq=False)
class Steps:
    """Operands of ``n`` steps.

    Attributes:
        act: [n, 2, channels], the activations of both rows.
        wgt: [n, 2, channels], the weights of both columns.
        bits: 8 or 4; there are 32 / bits channels.
        unsigned: Whether activations are unsigned.
    """

    act: Integers
    wgt: Integers
    bits: int
    unsigned: bool

    def records(self) -> bytes:
        """What the test bench reads."""
        modes = np.tile(np.array([self.bits == 4, self.unsigned], np.uint32), (len(self.act), 1))
        return np.hstack([self._words(self.act), self._words(self.wgt), modes]).tobytes()

    def sums(self) -> Integers:
        """[n, 2, 2], by definition: unsigned activations enter 2^(bits - 1) lower."""
        act = self.act - (1 << (self.bits - 1)) * self.unsigned
        sums: Integers = (act[:, :, None] * self.wgt[:, None]).sum(axis=3)
        return sums

    def _words(self, operands: Integers) -> npt.NDArray[np.uint32]:
        fields = (operands & ((1 << self.bits) - 1)) << (self.bits * np.arange(32 // self.bits))
        words: npt.NDArray[np.uint32] = fields.sum(axis=2).astype(np.uint32)
        return words


def build(folder: Path, *flags: str) -> Path:
    program = folder / "dsp_chain"
    types = ["-isystem", str(emulator.ap_types_folder())]
    common = ["-std=c++17", "-O2", "-DHETFAB_AP_INT", f"-I{HLS / 'include'}", *types]
    find_compiler().run([*common, *flags, "-o", str(program), str(HLS / "testbench" / "dsp_chain.cpp")])
    return program


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("chain"))


@pytest.fixture(scope="module")
def checked_program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("checked_chain"), "-DHETFAB_DEBUG")


def run(program: Path, arithmetic: str, dsp: str, steps: Steps) -> Integers:
    """The sums [n, 2, 2] that the program writes."""
    done = subprocess.run([program, arithmetic, dsp], input=steps.records(), stdout=subprocess.PIPE, check=True)
    return np.frombuffer(done.stdout, np.int32).reshape(-1, 2, 2).astype(np.int64)


def assert_all_agree(program: Path, steps: Steps) -> None:
    for arithmetic, dsp in itertools.product(("native", "packed"), SLICES):
        np.testing.assert_array_equal(run(program, arithmetic, dsp, steps), steps.sums(), f"{arithmetic} {dsp}")


def limits(bits: int, unsigned: bool) -> tuple[int, int]:
    """Least and greatest activation."""
    half = 1 << (bits - 1)
    return (0, 2 * half - 1) if unsigned else (-half, half - 1)


@pytest.mark.parametrize("unsigned", [False, True], ids=["signed", "unsigned"])
@pytest.mark.parametrize("bits", [8, 4])
def test_extremes(program: Path, bits: int, unsigned: bool) -> None:
    """Every combination of extremes that the two rows and the two columns may hold in all channels."""
    largest = (1 << (bits - 1)) - 1
    low, high = limits(bits, unsigned)
    acts = (low, high, (low + high + 1) // 2)
    chosen = np.array(list(itertools.product(acts, acts, (-largest, 0, largest), (-largest, 0, largest))), np.int64)
    same = np.repeat(chosen[:, :, None], 32 // bits, axis=2)
    # Also extremes in one channel and zero weights in the others: an operand in the wrong place shows.
    alone = np.concatenate([same * (np.arange(32 // bits) == channel) for channel in range(32 // bits)])
    operands = np.concatenate([same, alone])
    assert_all_agree(program, Steps(operands[:, :2], operands[:, 2:], bits, unsigned))


@st.composite
def any_steps(draw: st.DrawFn) -> Steps:
    """Up to 40 steps; operands from a seed, many of them extreme."""
    bits, unsigned = draw(st.sampled_from([8, 4])), draw(st.booleans())
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    shape = (draw(st.integers(1, 40)), 2, 32 // bits)
    extreme = draw(st.floats(0, 1))
    largest = (1 << (bits - 1)) - 1
    act, wgt = (
        np.where(
            random.random(shape) < extreme, random.choice([low, high], shape), random.integers(low, high + 1, shape)
        )
        for low, high in (limits(bits, unsigned), (-largest, largest))
    )
    return Steps(act, wgt, bits, unsigned)


@given(any_steps())
def test_any_operands(program: Path, steps: Steps) -> None:
    assert_all_agree(program, steps)


def test_a_checked_build_accepts_narrow_weights_and_names_others(checked_program: Path) -> None:
    narrow = Steps(np.full((1, 2, 4), -128), np.full((1, 2, 4), -127), 8, False)
    np.testing.assert_array_equal(run(checked_program, "native", "dsp48e1", narrow), np.full((1, 2, 2), 4 * 128 * 127))
    for bits, text in ((8, "128 does not fit 8 signed bits\n"), (4, "8 does not fit 4 signed bits\n")):
        wgt = np.zeros((1, 2, 32 // bits), np.int64)
        wgt[0, 1, -1] = -(1 << (bits - 1))
        full = Steps(np.zeros_like(wgt), wgt, bits, False)
        done = subprocess.run(
            [checked_program, "native", "dsp48e1"], input=full.records(), capture_output=True, check=False
        )
        assert (done.returncode, done.stdout, done.stderr.decode()) == (1, b"", text)


def test_weights_that_are_not_narrow_come_out_wrong(program: Path) -> None:
    """The reason for narrow weights: on DSP48E1 the high operand of a pair leaves its port."""
    wgt = np.zeros((1, 2, 4), np.int64)
    wgt[0, 0, 0], wgt[0, 1, 0] = -128, -128
    steps = Steps(np.ones((1, 2, 4), np.int64), wgt, 8, False)
    np.testing.assert_array_equal(run(program, "native", "dsp48e1", steps), steps.sums())
    assert np.any(run(program, "packed", "dsp48e1", steps) != steps.sums())


def test_the_header_states_the_rows_of_the_table(program: Path) -> None:
    printed = subprocess.run([program, "constants"], capture_output=True, text=True, check=True).stdout.splitlines()
    expected = []
    for dsp in dsp_slices():
        expected.append(f"{dsp.name} {dsp.weight_port} {dsp.activation_port} {dsp.sum_port}")
        for bits in (8, 4):
            (row,) = (
                row
                for row in packings()
                if (row.dsp, row.bits, row.narrow, row.unsigned) == (dsp.name, bits, True, False)
            )
            expected.append(f"{bits} {row.spacing} {row.accumulations}")
    assert printed == expected
