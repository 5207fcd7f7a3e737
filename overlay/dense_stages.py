# SPDX-License-Identifier: Apache-2.0
"""Dense stages with fixed weights: what an accelerator of the dataflow flow has in place of loaded weights.

They are part of its design, so that a program, a package and an emulated board know them. Only numpy is needed.
"""

import base64
import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

#: Longest row of inputs, in bytes: it enters as one word of a stream, which tools take up to 4,096 bits.
LONGEST_ROW = 512
#: Depth of ``wgt_d_ram`` in a design whose products all have fixed weights: the smallest of a block RAM.
NO_WEIGHTS = 2
#: Rows that a stage multiplies at once: a chain of DSPs serves two.
ROW_PAIR = 2
#: Input channels of a step on DSPs and on LUTs, and of their bits, those that a step on LUTs takes.
DSP_CHANNELS, LUT_CHANNELS, SLICE_BITS = 4, 32, 4
_WEIGHT_BITS = range(1, 9)
_INPUT_BITS = range(2, 9)


@dataclass(frozen=True)
class Stage:
    """Products with fixed weights: int32 sums over the input channels, of the first outputs on DSPs, the rest on LUTs.

    Attributes:
        name: Of the layer that it computes, or a part of.
        inputs: Input channels.
        weight_bits: Width of each output channel's weights, 1 to 8; those of 1 bit are -1 and 1.
        input_bits: 2 to 8.
        signed: Whether inputs are signed.
        on_dsps: Output channels on DSPs.
        dsp_columns: Of them, those that are summed at once.
        lut_columns: Of the others, those that are summed at once.
        weights: int8 [inputs, outputs], row by row.
    """

    name: str
    inputs: int
    weight_bits: tuple[int, ...]
    input_bits: int
    signed: bool
    on_dsps: int
    dsp_columns: int
    lut_columns: int
    weights: bytes

    @property
    def outputs(self) -> int:
        """Output channels."""
        return len(self.weight_bits)

    @property
    def weight(self) -> npt.NDArray[np.int8]:
        """The weights, [inputs, outputs]."""
        return np.frombuffer(self.weights, np.int8).reshape(self.inputs, self.outputs)

    @property
    def weight_bytes(self) -> int:
        """Bytes of its weights at their widths."""
        return -(-self.inputs * sum(self.weight_bits) // 8)

    @property
    def packed(self) -> bool:
        """Whether DSPs take nibbles, twice as many channels a step."""
        return self.input_bits <= SLICE_BITS and max(self.weight_bits[: self.on_dsps], default=8) <= SLICE_BITS

    @property
    def multiply_cycles(self) -> int:
        """Cycles that it multiplies two rows in: the slower of both kinds of sums, by the steps of the cores."""
        return max(self.dsp_cycles, self.lut_cycles)

    @property
    def dsp_cycles(self) -> int:
        """A step sums 4 input channels, or 8 packed ones, of ``dsp_columns`` outputs."""
        channels = DSP_CHANNELS * (1 + self.packed)
        return -(-self.on_dsps // self.dsp_columns) * -(-self.inputs // channels)

    @property
    def lut_cycles(self) -> int:
        """A step sums 32 input channels, a slice of 4 bits of each, times a bit plane of ``lut_columns`` outputs."""
        on_luts = self.weight_bits[self.on_dsps :]
        steps = -(-self.inputs // LUT_CHANNELS) * -(-self.input_bits // SLICE_BITS) * max(on_luts, default=0)
        return -(-len(on_luts) // self.lut_columns) * steps

    def as_dict(self) -> dict[str, Any]:
        """As a design file has it; the weights are compressed, in base64."""
        return {
            "name": self.name,
            "inputs": self.inputs,
            "weight_bits": list(self.weight_bits),
            "input_bits": self.input_bits,
            "signed": self.signed,
            "on_dsps": self.on_dsps,
            "dsp_columns": self.dsp_columns,
            "lut_columns": self.lut_columns,
            "weights": base64.b64encode(zlib.compress(self.weights, 9)).decode(),
        }


def stage_from_dict(table: Any) -> Stage:
    """Reads a stage as a design file has it.

    Raises:
        ValueError: What is wrong with it.
    """
    try:
        stage = Stage(
            **{
                **table,
                "weight_bits": tuple(table["weight_bits"]),
                "weights": zlib.decompress(base64.b64decode(table["weights"], validate=True)),
            }
        )
        numbers = (stage.inputs, stage.input_bits, stage.on_dsps, stage.dsp_columns, stage.lut_columns)
        if not all(type(number) is int for number in (*numbers, *stage.weight_bits)):
            raise ValueError("a number of it is none")
    except (TypeError, KeyError, AttributeError, zlib.error) as error:
        raise ValueError(f"a member is missing, unknown or damaged: {error}") from error
    _check(stage)
    return stage


def _check(stage: Stage) -> None:
    # Its name stands in generated sources.
    if not isinstance(stage.name, str) or not stage.name.isprintable() or type(stage.signed) is not bool:
        raise ValueError("its name is no text of one line, or signed is neither true nor false")
    if not 1 <= stage.inputs <= LONGEST_ROW or not stage.weight_bits:
        raise ValueError(f"it has {stage.inputs} inputs and {stage.outputs} outputs")
    if len(stage.weights) != stage.inputs * stage.outputs:
        raise ValueError(f"{len(stage.weights)} weights for {stage.inputs} inputs and {stage.outputs} outputs")
    if stage.input_bits not in _INPUT_BITS or any(bits not in _WEIGHT_BITS for bits in stage.weight_bits):
        raise ValueError("a width is not 2 to 8 bits for inputs, 1 to 8 for weights")
    if not 0 <= stage.on_dsps <= stage.outputs:
        raise ValueError(f"{stage.on_dsps} of {stage.outputs} outputs on DSPs")
    if stage.dsp_columns < ROW_PAIR or stage.dsp_columns % ROW_PAIR or stage.lut_columns < 1:
        raise ValueError(f"{stage.dsp_columns} columns on DSPs, {stage.lut_columns} on LUTs")
    weight = stage.weight.astype(np.int64)
    for column, bits in zip(weight.T, stage.weight_bits, strict=True):
        half = 1 << bits - 1
        # Narrow from 3 bits on.
        in_range = (column >= -half + (bits > 2)) & (column < half)
        if not np.all(np.isin(column, (-1, 1)) if bits == 1 else in_range):
            raise ValueError(f"a weight does not fit {bits} bits")
