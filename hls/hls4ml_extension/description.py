# SPDX-License-Identifier: Apache-2.0
"""Describes a ``HeteroDense`` for ``ModelGraph.from_layer_list``; needs numpy alone."""

from typing import Any

import numpy as np
import numpy.typing as npt

from hetfab.hls.hls4ml_extension.split import Split
from hetfab.overlay.errors import FieldRangeError, SplitInvalidError

#: Of a channel's multiplier, an unsigned number of 16 bits.
LARGEST_MULTIPLIER = (1 << 16) - 1


def dense_layer(
    name: str,
    source: str,
    weight: npt.ArrayLike,
    *,
    bias: npt.ArrayLike = 0,
    multiplier: npt.ArrayLike = 1,
    exponent: int = 0,
    split: Split | None = None,
    relu: bool = False,
    limits: tuple[int, int] | None = None,
) -> dict[str, Any]:
    """A layer for the list that ``ModelGraph.from_layer_list`` takes.

    With the integers ``x`` that hls4ml's input type holds, the layer computes ``(x @ weight + bias) * multiplier *
    2**-shift``, rounded half to even and limited. ``shift`` is ``exponent`` plus the fraction bits of the input type
    minus those of the result type. So a weight has the value ``weight * multiplier * 2**-exponent``.

    Args:
        name: Of the layer, and of its output.
        source: The layer that it reads.
        weight: Integers of 8 bits, [inputs, outputs]; on DSPs -127..127, on LUTs down to -128.
        bias: Integers of 32 bits at the scale of the sums, [outputs] or one for all.
        multiplier: 1..65535, [outputs] or one for all.
        exponent: Of the weights' scale.
        split: Which outputs are on which engine, and their parallelism; without one as :func:`balanced` says.
        relu: Whether results below 0 become 0.
        limits: Lowest and highest integer of a result; without them those of the result type.

    Raises:
        FieldRangeError: A number does not fit its field.
        SplitInvalidError: More outputs on DSPs than there are.
    """
    integers = _integers("weight", weight, -128, 127)
    if integers.ndim != 2 or 0 in integers.shape:
        raise FieldRangeError(
            f"layer '{name}' has weights of shape {integers.shape}",
            "a matrix with a row for each input and a column for each output",
            "pass weights as [inputs, outputs]",
        )
    inputs, outputs = integers.shape
    if split is not None and split.dsp_channels > outputs:
        raise SplitInvalidError(
            f"layer '{name}' has {outputs} outputs, of which {split.dsp_channels} are to be on DSPs",
            "at most all of them",
            "correct dsp_channels",
        )
    return {
        "class_name": "HeteroDense",
        "name": name,
        "inputs": [source],
        "outputs": [name],
        "n_in": inputs,
        "n_out": outputs,
        "integers": integers,
        "sum_bias": np.broadcast_to(_integers("bias", bias, -(2**31), 2**31 - 1), outputs).copy(),
        "multipliers": np.broadcast_to(_integers("multiplier", multiplier, 1, LARGEST_MULTIPLIER), outputs).copy(),
        "exponent": exponent,
        "split": split,
        "relu": relu,
        "limits": limits,
    }


def _integers(what: str, values: npt.ArrayLike, lowest: int, highest: int) -> npt.NDArray[np.int64]:
    array = np.asarray(values)
    whole = array.astype(np.int64)
    wrong = (array != whole) | (whole < lowest) | (whole > highest)
    if np.any(wrong):
        raise FieldRangeError(
            f"{what} {array[wrong].flat[0]}", f"integers {lowest}..{highest}", f"quantize {what} before it gets here"
        )
    return whole
