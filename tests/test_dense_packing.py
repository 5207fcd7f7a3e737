# SPDX-License-Identifier: Apache-2.0
"""The words, offsets and widths that a ``HeteroDense`` gets: any layer, read back as docs/gemm.md says."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from qonnx.custom_op.general.quant import quant as qonnx_quant

from hetfab.hls.hls4ml_extension.packing import Activations, PackedDense, pack
from hetfab.hls.hls4ml_extension.quantized import common_exponent, quantized_integers
from hetfab.hls.hls4ml_extension.split import Split, balanced
from hetfab.overlay.errors import Hls4mlRefusedError

Integers = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Layer:
    """A drawn layer."""

    weight: Integers
    bias: Integers
    multiplier: Integers
    activations: Activations
    split: Split
    rows: Integers


@st.composite
def layers(draw: st.DrawFn) -> Layer:
    bits = draw(st.integers(1, 8))
    inputs, outputs = draw(st.integers(1, 70)), draw(st.integers(1, 6))
    random = np.random.default_rng(draw(st.integers(0, 999)))
    limit = (1 << (bits - 1)) - 1
    weight = random.integers(-limit, limit + 1, (inputs, outputs))
    if bits == 1:
        weight = random.choice([-1, 1], (inputs, outputs))
    activations = Activations(draw(st.integers(1, 8)), draw(st.booleans()))
    split = Split(draw(st.integers(0, outputs)), 2 * draw(st.integers(1, 2)), draw(st.integers(1, 3)))
    rows = random.integers(activations.lowest, activations.highest + 1, (4, inputs))
    rows[:2] = [[activations.lowest], [activations.highest]]
    bias, multiplier = random.integers(-1000, 1000, outputs), random.integers(1, 65536, outputs)
    return Layer(weight, bias, multiplier, activations, split, rows)


def on_dsps(packed: PackedDense, layer: Layer) -> Integers:
    """The sums of the chains, from the words alone."""
    field = 4 if packed.packed else 8
    channels = 32 // field
    columns = packed.split.dsp_parallel
    words = packed.dsp_words.reshape(-1, -(-layer.weight.shape[0] // channels), columns)
    fields = words[..., None] >> (field * np.arange(channels)) & ((1 << field) - 1)
    signed = np.where(fields >> (field - 1), fields - (1 << field), fields)
    weight = signed.transpose(0, 2, 1, 3).reshape(len(words) * columns, -1)[:, : layer.weight.shape[0]]
    flipped = not layer.activations.signed and layer.activations.bits == field
    return (layer.rows - (1 << (field - 1)) * flipped) @ weight.T


def on_luts(packed: PackedDense, layer: Layer) -> Integers:
    """The sums of the planes, from the words alone; padding counts."""
    inputs, columns = layer.weight.shape[0], packed.split.lut_parallel
    words = packed.lut_words.reshape(-1, -(-inputs // 32), packed.planes, columns)
    bits = (words[..., None] >> np.arange(32) & 1).transpose(0, 3, 2, 1, 4)
    planes = bits.reshape(len(words) * columns, packed.planes, -1)
    width = 4 * layer.activations.slices
    rows = np.pad(layer.rows, ((0, 0), (0, -inputs % 32))) + (1 << (width - 1)) * layer.activations.signed
    if packed.bipolar:
        return rows @ planes[:, 0].T + ((1 << width) - 1 - rows) @ (1 - planes[:, 0]).T
    powers = 1 << np.arange(packed.planes)[::-1]
    powers[0] *= -1
    return rows @ np.tensordot(planes, powers, (1, 0)).T


@given(layers())
def test_words_offsets_and_bias_give_the_sums(layer: Layer) -> None:
    packed = pack("layer", layer.weight, layer.bias, layer.multiplier, layer.activations, layer.split)
    first = layer.split.dsp_channels
    parts = []
    if first:
        sums = on_dsps(packed, layer)
        assert np.array_equal(sums >> (packed.dsp_bits - 1), sums >> 63)
        parts.append(sums[:, :first])
    if first < layer.weight.shape[1]:
        sums = on_luts(packed, layer)
        assert np.array_equal(sums >> (packed.lut_bits - 1), sums >> 63)
        parts.append(sums[:, : layer.weight.shape[1] - first])
    found = np.concatenate(parts, axis=1) + packed.bias
    assert np.array_equal(found, layer.rows @ layer.weight + layer.bias)
    exact = found * layer.multiplier
    assert np.all(np.abs(exact + (exact < 0)) < 1 << (packed.result_bits - 1))


@pytest.mark.parametrize(("weight", "lut_bits", "dsp_bits"), [(1, 19, 18), (-2, 20, 19), (3, 21, 20)])
def test_long_rows_get_the_bits_that_they_need(weight: int, lut_bits: int, dsp_bits: int) -> None:
    """1,000 inputs of up to 255 on LUTs; those of one bit with 24 channels of padding. On DSPs they are -128..127."""
    zero, column = np.zeros(1, np.int64), np.full((1000, 1), weight)
    on_luts, on_dsps = (pack("layer", column, zero, zero + 1, Activations(8, False), Split(n)) for n in (0, 1))
    assert (on_luts.lut_bits, on_dsps.dsp_bits) == (lut_bits, dsp_bits)


@given(st.integers(1, 300), st.integers(1, 64), st.integers(1, 8), st.integers(1, 2))
def test_the_chosen_split_ends_first(inputs: int, outputs: int, planes: int, slices: int) -> None:
    def steps(on_dsp: int) -> int:
        words = -(-inputs // 32)
        return max(-(-on_dsp // 2) * words * 8, -(-(outputs - on_dsp) // 2) * words * planes * slices)

    split = balanced(inputs, outputs, steps_per_word=8, planes=planes, slices=slices, dsp_parallel=2, lut_parallel=2)
    assert steps(split.dsp_channels) == min(map(steps, range(outputs + 1)))


@given(st.lists(st.integers(1, 65535), min_size=1, max_size=5), st.integers(-20, 20))
def test_scales_of_16_bits_are_held_exactly(mantissas: list[int], power: int) -> None:
    scales = np.array(mantissas) * 2.0**power
    multipliers, exponent = common_exponent("layer", scales)
    assert np.array_equal(multipliers * 2.0**-exponent, scales)
    assert multipliers.max() <= 65535


@pytest.mark.parametrize("scales", [[65537.0], [1.0, 2.0**16], [0.1], [-1.0], [0.0]])
def test_other_scales_are_refused(scales: list[float]) -> None:
    with pytest.raises(Hls4mlRefusedError, match="'layer' have scales that no 16-bit multipliers hold exactly"):
        common_exponent("layer", np.array(scales))


@pytest.mark.parametrize("rounding", ["ROUND", "CEIL", "FLOOR", "UP", "DOWN", "HALF_UP", "HALF_DOWN"])
@pytest.mark.parametrize(
    ("bits", "signed", "narrow"), [(1, True, False), (2, True, False), (4, True, True), (3, False, True)]
)
def test_integers_are_those_of_qonnx(rounding: str, bits: int, signed: bool, narrow: bool) -> None:
    values = np.linspace(-3, 3, 97)
    scale = np.array(0.25)
    found = quantized_integers(values, scale, bits=bits, signed=signed, narrow=narrow, rounding=rounding)
    expected = qonnx_quant(
        np.float32(values), np.float32(scale), np.float32(0), np.float32(bits), signed, narrow, rounding
    )
    assert np.array_equal(found * 0.25, expected)


def test_a_rounding_that_qonnx_does_not_have_is_refused() -> None:
    with pytest.raises(Hls4mlRefusedError, match="a Quant rounds by SOMEHOW"):
        quantized_integers(np.ones(1), np.ones(1), bits=2, signed=True, narrow=True, rounding="SOMEHOW")
