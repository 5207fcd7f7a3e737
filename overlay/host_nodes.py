# SPDX-License-Identifier: Apache-2.0
"""Operators of a program that onnxruntime runs on the host, between the overlay's layers (docs/fallback.md).

Only numpy is needed, so that a board can read a program with them.
"""

import base64
import enum
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hetfab.overlay.errors import HostFallbackError, counted

#: In the table of layers, the kind and the only engine of what runs on the host.
ON_HOST = "host"
#: What an operator on the host is asked to run at once is a multiple of so many rows: then a vector unit computes all
#: of them in the same way, and a row's result does not depend on how many others there are.
ROW_UNIT = 64


#: What a refusal adds where the host could run some of the operators.
FALLBACK_OFFER = ", or let the host run the operators on rows (`--fallback host`)"


class Fallback(enum.Enum):
    """What becomes of an operator on rows that the overlay does not execute: it is refused, or the host runs it."""

    NONE = "none"
    HOST = "host"


@dataclass(frozen=True)
class HostNode:
    """An operator of the quantized model with the rounding behind it.

    Attributes:
        operator: The operator and its name, as messages name it.
        inputs: Tensors of the program whose rows it reads, in the order of the model's inputs.
        output: The tensor that it writes.
        model: An ONNX model in base64: inputs ``rows_0``, ``rows_1``, ... float32 [N, channels], output ``values``,
            whole multiples of the output's scale.
    """

    operator: str
    inputs: tuple[str, ...]
    output: str
    model: str

    @property
    def model_bytes(self) -> bytes:
        """The ONNX model."""
        return base64.b64decode(self.model, validate=True)


@dataclass(frozen=True)
class HostUse:
    """What an operator on the host took in a run.

    Attributes:
        times: Calls of onnxruntime.
        rows: Rows that it computed.
        milliseconds: Of onnxruntime and of the conversions around it.
        bytes: Rows that it read and wrote, as they lie in DRAM.
    """

    times: int
    rows: int
    milliseconds: float
    bytes: int

    def __add__(self, other: "HostUse") -> "HostUse":
        """Both uses together."""
        return HostUse(
            self.times + other.times,
            self.rows + other.rows,
            self.milliseconds + other.milliseconds,
            self.bytes + other.bytes,
        )


def whole_units(rows: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Rows with copies of the last one behind them, up to a multiple of ``ROW_UNIT``; of none, none."""
    missing = -len(rows) % ROW_UNIT
    return np.concatenate([rows, np.repeat(rows[-1:], missing, axis=0)]) if missing else rows


def refuse_host(nodes: tuple[HostNode, ...], why: str, do: str) -> None:
    """Refuses operators on the host where there are any.

    Args:
        nodes: Those of a program.
        why: What cannot be done with them.
        do: What to do.

    Raises:
        HostFallbackError: There are some; all are named.
    """
    if nodes:
        names = ", ".join(node.operator for node in nodes)
        raise HostFallbackError(
            f"the program has {counted(len(nodes), 'operator')} that only the host can run ({names}); {why}",
            "a program that the overlay runs alone",
            do,
        )
