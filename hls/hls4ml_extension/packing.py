# SPDX-License-Identifier: Apache-2.0
"""Turns a layer's integers into what its engines take: words of weights, offsets of the bias, widths of the sums.

docs/gemm.md has the table of the offsets; hetero_dense.hpp reads the words.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hetfab.hls.hls4ml_extension.split import Split, balanced
from hetfab.overlay.errors import FieldRangeError, OverflowPossibleError, SplitInvalidError

Integers = npt.NDArray[np.int64]

#: Channels of a word on both engines, and of a step on DSPs.
WORD_CHANNELS = 32
#: Largest widths of activations: in a slice, and in all.
SLICE_BITS = 4
ACTIVATION_BITS = 8
#: A sum on LUTs has at least the width of a word of weights.
_LEAST_LUT_BITS = 17
_SUM_BITS = 32


@dataclass(frozen=True)
class Activations:
    """The integers that a layer reads.

    Attributes:
        bits: 1 to 8.
        signed: Whether they have a sign.
    """

    bits: int
    signed: bool

    @property
    def lowest(self) -> int:
        """The smallest one."""
        return -(1 << (self.bits - 1)) if self.signed else 0

    @property
    def highest(self) -> int:
        """The largest one."""
        return (1 << (self.bits - self.signed)) - 1

    @property
    def slices(self) -> int:
        """Slices of 4 bits."""
        return 1 if self.bits <= SLICE_BITS else 2


@dataclass(frozen=True, eq=False)
class PackedDense:
    """A layer as its engines take it.

    Attributes:
        split: Which outputs are where.
        packed: Whether the DSPs take nibbles, 8 channels a step.
        planes: Bit planes of the weights on LUTs.
        bipolar: Whether those weights are -1 and +1, of one bit.
        dsp_bits: Of a sum on DSPs.
        lut_bits: Of a sum on LUTs.
        result_bits: Of an exact result, signed: every product of a biased sum fits.
        dsp_words: Unsigned words of 32 bits, group by group, step by step, column by column.
        lut_words: The same, group by group, word by word, plane by plane, column by column.
        bias: Of each output, with the offsets of its engine.
    """

    split: Split
    packed: bool
    planes: int
    bipolar: bool
    dsp_bits: int
    lut_bits: int
    result_bits: int
    dsp_words: Integers
    lut_words: Integers
    bias: Integers


def pack(
    name: str,
    weight: Integers,
    bias: Integers,
    multiplier: Integers,
    activations: Activations,
    split: Split | None,
) -> PackedDense:
    """Packs a layer.

    Args:
        name: Of the layer, for errors.
        weight: [inputs, outputs].
        bias: [outputs], at the scale of the sums.
        multiplier: [outputs].
        activations: What the layer reads.
        split: Which outputs are where; None chooses.

    Raises:
        FieldRangeError: A weight on DSPs is -128.
        OverflowPossibleError: A biased sum could leave 32 bits.
        SplitInvalidError: More outputs on DSPs than there are.
    """
    split = split or _chosen_split(weight, activations)
    if split.dsp_channels > weight.shape[1]:
        raise SplitInvalidError(
            f"layer '{name}' has {weight.shape[1]} outputs, of which {split.dsp_channels} are to be on DSPs",
            "at most all of them",
            "correct dsp_channels",
        )
    on_dsp, on_lut = weight[:, : split.dsp_channels], weight[:, split.dsp_channels :]
    _check_narrow(name, on_dsp)
    least, most = _range_of_sums(weight, bias, activations)
    _check_sums(name, least, most)
    packed = _fits_nibbles(on_dsp, activations)
    planes, bipolar = _planes(on_lut)
    offsets_d, dsp_bits = _dsp_offsets(on_dsp, activations, packed)
    offsets_l, lut_bits = _lut_offsets(on_lut, activations, bipolar)
    ends = np.concatenate([least * multiplier, most * multiplier])
    return PackedDense(
        split=split,
        packed=packed,
        planes=planes,
        bipolar=bipolar,
        dsp_bits=dsp_bits,
        lut_bits=lut_bits,
        result_bits=_signed_bits(int(ends.min()), int(ends.max())),
        dsp_words=_chain_words(on_dsp, packed, split.dsp_parallel),
        lut_words=_plane_words(on_lut, planes, bipolar, split.lut_parallel),
        bias=bias + np.concatenate([offsets_d, offsets_l]),
    )


def _chosen_split(weight: Integers, activations: Activations) -> Split:
    planes, _ = _planes(weight)
    steps = 4 if _fits_nibbles(weight, activations) else 8
    split = balanced(
        *weight.shape,
        steps_per_word=steps,
        planes=planes,
        slices=activations.slices,
        dsp_parallel=2,
        lut_parallel=2,
    )
    # DSPs take narrow weights alone.
    wide = np.flatnonzero(np.any(weight < -127, axis=0))
    first_wide = int(wide[0]) if wide.size else weight.shape[1]
    return Split(min(split.dsp_channels, first_wide), split.dsp_parallel, split.lut_parallel)


def _check_narrow(name: str, on_dsp: Integers) -> None:
    if np.any(on_dsp < -127):
        channel = int(np.flatnonzero(np.any(on_dsp < -127, axis=0))[0])
        raise FieldRangeError(
            f"output {channel} of layer '{name}' is on DSPs and has a weight of -128",
            "weights -127..127 on DSPs, since two share a multiplier",
            "quantize the weights narrow, or put the output on LUTs",
        )


def _range_of_sums(weight: Integers, bias: Integers, activations: Activations) -> tuple[Integers, Integers]:
    """The least and the largest biased sum of each output."""
    positive = np.maximum(weight, 0).sum(axis=0)
    negative = np.minimum(weight, 0).sum(axis=0)
    least = activations.lowest * positive + activations.highest * negative + bias
    most = activations.highest * positive + activations.lowest * negative + bias
    return least, most


def _check_sums(name: str, least: Integers, most: Integers) -> None:
    bits = _signed_bits(int(least.min()), int(most.max()))
    if bits > _SUM_BITS:
        raise OverflowPossibleError(
            f"a sum of layer '{name}' with its bias takes {bits} bits",
            f"{_SUM_BITS} bits",
            "use fewer inputs, narrower weights or a smaller bias",
        )


def _fits_nibbles(on_dsp: Integers, activations: Activations) -> bool:
    return activations.bits <= SLICE_BITS and on_dsp.size > 0 and int(np.abs(on_dsp).max()) <= 7


def _planes(on_lut: Integers) -> tuple[int, bool]:
    """Bit planes, and whether the weights are bipolar."""
    if on_lut.size == 0:
        return 1, False
    if np.all(np.abs(on_lut) == 1):
        return 1, True
    return _signed_bits(int(on_lut.min()), int(on_lut.max())), False


def _signed_bits(least: int, most: int) -> int:
    return 1 + max((-least - 1 if least < 0 else 0).bit_length(), max(most, 0).bit_length())


def _dsp_offsets(on_dsp: Integers, activations: Activations, packed: bool) -> tuple[Integers, int]:
    field = SLICE_BITS if packed else ACTIVATION_BITS
    offset = 1 << (field - 1) if not activations.signed and activations.bits == field else 0
    entering = Activations(field, True) if offset else activations
    none = np.zeros(on_dsp.shape[1], np.int64)
    least, most = _range_of_sums(on_dsp, none, entering)
    bits = _signed_bits(int(least.min(initial=0)), int(most.max(initial=0)))
    return offset * on_dsp.sum(axis=0), bits


def _lut_offsets(on_lut: Integers, activations: Activations, bipolar: bool) -> tuple[Integers, int]:
    inputs, outputs = on_lut.shape
    field = SLICE_BITS * activations.slices
    offset = 1 << (field - 1) if activations.signed else 0
    total = on_lut.sum(axis=0)
    negative = np.zeros(outputs, np.int64)
    if bipolar:
        # Channels of padding count: their weights are +1.
        total = total + (-inputs % WORD_CHANNELS)
        negative = (on_lut < 0).sum(axis=0)
    removed = -offset * total - ((1 << field) - 1) * negative
    entering = Activations(field, False)
    if bipolar:
        padded = inputs + -inputs % WORD_CHANNELS
        return removed, max(_LEAST_LUT_BITS, _signed_bits(0, padded * entering.highest))
    least, most = _range_of_sums(on_lut, np.zeros(outputs, np.int64), entering)
    bits = _signed_bits(int(least.min(initial=0)), int(most.max(initial=0)))
    return removed, max(_LEAST_LUT_BITS, bits)


def _padded(matrix: Integers, row_multiple: int, column_multiple: int, fill: int = 0) -> Integers:
    rows, columns = (
        -size % multiple for size, multiple in zip(matrix.shape, (row_multiple, column_multiple), strict=False)
    )
    return np.pad(matrix, ((0, rows), (0, columns)), constant_values=fill)


def _chain_words(on_dsp: Integers, packed: bool, columns: int) -> Integers:
    if on_dsp.shape[1] == 0:
        return np.zeros(1, np.int64)
    channels = 8 if packed else 4
    bits = 32 // channels
    padded = _padded(on_dsp, channels, columns)
    fields = (padded & ((1 << bits) - 1)).reshape(-1, channels, padded.shape[1] // columns, columns)
    words = (fields << (bits * np.arange(channels))[:, None, None]).sum(axis=1)
    return np.ascontiguousarray(words.transpose(1, 0, 2)).reshape(-1)


def _plane_words(on_lut: Integers, planes: int, bipolar: bool, columns: int) -> Integers:
    if on_lut.shape[1] == 0:
        return np.zeros(1, np.int64)
    padded = _padded(on_lut, WORD_CHANNELS, columns, fill=1 if bipolar else 0)
    values = (padded > 0).astype(np.int64) if bipolar else padded & ((1 << planes) - 1)
    grouped = values.reshape(-1, WORD_CHANNELS, values.shape[1] // columns, columns)
    lanes = np.arange(WORD_CHANNELS)[:, None, None]
    # The most significant plane first.
    words = [((grouped >> plane & 1) << lanes).sum(axis=1) for plane in reversed(range(planes))]
    return np.ascontiguousarray(np.stack(words).transpose(2, 1, 0, 3)).reshape(-1)
