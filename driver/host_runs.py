# SPDX-License-Identifier: Apache-2.0
"""Runs a program's operators of the host in onnxruntime, on rows as they lie in DRAM (docs/fallback.md)."""

import contextlib
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from hetfab.driver.stored_tensors import tensor_values
from hetfab.overlay.errors import HostFallbackError, PackageMissingError, ProgramUnreadableError
from hetfab.overlay.features import feature_rows
from hetfab.overlay.host_nodes import ROW_UNIT, Fallback, HostNode, HostUse, refuse_host, whole_units
from hetfab.overlay.program import Program, Tensor

Bytes: TypeAlias = npt.NDArray[np.uint8]
#: Rows that onnxruntime gets at once, so that a large graph's floats do not fill the memory.
_ROWS_AT_ONCE = 1024 * ROW_UNIT
_LOGIT_BITS = 32


class HostRuns:
    """The operators of a program's host, ready to run.

    Args:
        program: The program.
    """

    def __init__(self, program: Program) -> None:
        self._program = program
        self._sessions: dict[str, Any] = {}

    def rows(self, node: HostNode, contents: Sequence[Bytes]) -> tuple[Bytes, HostUse]:
        """An operator's result for some rows.

        Args:
            node: One of the program's.
            contents: Of each input the rows, uint8 [n, bytes of a row].

        Returns:
            Rows of the output, uint8 [n, bytes of a row], and what they took.

        Raises:
            PackageMissingError: onnxruntime is not installed.
            HostFallbackError: A result is no number.
            ProgramUnreadableError: onnxruntime refuses the operator's model.
        """
        session = self._session(node)
        begin = time.perf_counter()
        count = len(contents[0])
        read = [self._program.tensor(name) for name in node.inputs]
        written = self._program.tensor(node.output)
        found = np.zeros((count, written.row_bytes), np.uint8)
        calls = 0
        for first in range(0, count, _ROWS_AT_ONCE):
            part = slice(first, min(first + _ROWS_AT_ONCE, count))
            feed = {
                f"rows_{number}": whole_units(floats(tensor, content[part]))
                for number, (tensor, content) in enumerate(zip(read, contents, strict=True))
            }
            with _named(node):
                values = session.run(None, feed)[0][: part.stop - first]
            _check_numbers(node, values, first)
            found[part] = stored_rows_of(written, values)
            calls += 1
        moved = found.size + sum(content.size for content in contents)
        return found, HostUse(calls, count, 1000 * (time.perf_counter() - begin), moved)

    def _session(self, node: HostNode) -> Any:
        if node.output not in self._sessions:
            try:
                import onnxruntime
            except ImportError as error:
                raise PackageMissingError(
                    f"{node.operator} runs on the host, and onnxruntime is not installed",
                    "onnxruntime beside the driver",
                    "install it (`pip install onnxruntime`), or use a program without operators of the host",
                ) from error
            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads = 1  # So that results repeat.
            options.log_severity_level = 4
            with _named(node):
                self._sessions[node.output] = onnxruntime.InferenceSession(
                    node.model_bytes, options, providers=["CPUExecutionProvider"]
                )
        return self._sessions[node.output]


@contextlib.contextmanager
def _named(node: HostNode) -> Iterator[None]:
    """What onnxruntime refuses is a program's fault: its models are written by the compiler."""
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    try:
        yield
    except (
        state.Fail,
        state.InvalidArgument,
        state.InvalidGraph,
        state.InvalidProtobuf,
        state.NotImplemented,
        state.RuntimeException,
        ValueError,
    ) as error:
        raise ProgramUnreadableError(
            f"onnxruntime refuses the model of {node.operator}, which computes '{node.output}' on the host: {error}",
            "a model of one operator as `hetfab compile` writes it",
            "compile the model again",
        ) from error


def check_fallback(program: Program, fallback: Fallback) -> None:
    """Refuses a program that leaves operators to the host where the host may not run them.

    Raises:
        HostFallbackError: All operators are named.
    """
    if fallback is Fallback.NONE:
        refuse_host(
            program.host_nodes,
            "that is off",
            "allow it with `hetfab run --fallback host`, in Python with `fallback=Fallback.HOST`",
        )


def floats(tensor: Tensor, content: Bytes) -> npt.NDArray[np.float32]:
    """Rows of a stored tensor as numbers of the model, float32 [n, channels]."""
    integers = tensor_values(tensor, len(content), content.reshape(-1))
    return np.asarray(integers.astype(np.float32) * np.float32(tensor.scale), np.float32)


def stored_rows_of(tensor: Tensor, values: npt.NDArray[np.float32]) -> Bytes:
    """Whole multiples of a tensor's scale as its rows lie in DRAM, uint8 [n, bytes of a row]."""
    if tensor.bits < _LOGIT_BITS:
        content = feature_rows(tensor, values, len(values))
        return np.asarray(content[: len(values) * tensor.row_bytes].reshape(len(values), tensor.row_bytes))
    integers = np.zeros((len(values), tensor.row_bytes // 4), "<i4")
    integers[:, : tensor.channels] = np.rint(values / np.float32(tensor.scale))
    return integers.view(np.uint8)


def added(uses: Sequence[Mapping[str, HostUse]]) -> dict[str, HostUse]:
    """Uses of several runs together, by operator."""
    found: dict[str, HostUse] = {}
    for each in uses:
        for name, use in each.items():
            found[name] = found[name] + use if name in found else use
    return found


def _check_numbers(node: HostNode, values: npt.NDArray[np.float32], first: int) -> None:
    wrong = np.flatnonzero(~np.isfinite(values).all(axis=1))
    if wrong.size:
        raise HostFallbackError(
            f"{node.operator} gives no number for row {first + wrong[0]} of those that are computed",
            "results that are numbers on the graph that is predicted",
            "keep its inputs where it is defined, for instance by a Relu and a constant before a Log",
        )
