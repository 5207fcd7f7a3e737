# SPDX-License-Identifier: Apache-2.0
"""Runs ONNX models in onnxruntime, as calibration and as the reference of a run."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeAlias

import numpy.typing as npt
import onnx

from hetfab.overlay.errors import ModelStructureError

Feed: TypeAlias = Mapping[str, npt.NDArray[Any]]


def run_model(model: onnx.ModelProto, feed: Feed, outputs: list[str]) -> list[npt.NDArray[Any]]:
    """Runs a model in onnxruntime on one thread, so that results repeat.

    Args:
        model: Any model.
        feed: Arrays by input name; names that the model does not have are left out.
        outputs: Names of the tensors to return.

    Raises:
        ModelStructureError: onnxruntime refuses the model, or its arrays contradict each other.
    """
    return Runner(model)(feed, outputs)


class Runner:
    """A model that onnxruntime runs on one thread, again and again.

    Args:
        model: Any model.

    Raises:
        ModelStructureError: onnxruntime refuses the model.
    """

    def __init__(self, model: onnx.ModelProto) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = 4
        with _named_errors():
            self._session = onnxruntime.InferenceSession(
                model.SerializeToString(), options, providers=["CPUExecutionProvider"]
            )

    def __call__(self, feed: Feed, outputs: list[str]) -> list[npt.NDArray[Any]]:
        """Arguments and errors as ``run_model``."""
        with _named_errors():
            names = {value.name for value in self._session.get_inputs()}
            result: list[npt.NDArray[Any]] = self._session.run(
                outputs, {key: feed[key] for key in feed if key in names}
            )
        return result


@contextmanager
def _named_errors() -> Iterator[None]:
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    try:
        yield
    except (state.Fail, state.InvalidArgument, state.InvalidGraph, state.RuntimeException) as error:
        raise ModelStructureError(
            f"onnxruntime cannot run the model on these inputs: {error}",
            "a model and a graph with equal numbers of nodes",
            "use the graph that the model was made for",
        ) from error


def run_inner(model: onnx.ModelProto, feed: Feed, names: list[str]) -> dict[str, npt.NDArray[Any]]:
    """Tensors inside a model, inputs among them, by name; names that the model does not have are left out.

    Raises:
        ModelStructureError: As ``run_model``.
    """
    outputs = {value.name for value in model.graph.output}
    computed = {name for node in model.graph.node for name in node.output}
    asked = [name for name in names if name in computed]
    exposed = onnx.ModelProto()
    exposed.CopyFrom(model)
    exposed.graph.output.extend(onnx.ValueInfoProto(name=name) for name in asked if name not in outputs)
    given = {value.name for value in model.graph.input}
    found = {name: feed[name] for name in names if name in given}
    return found | dict(zip(asked, run_model(exposed, feed, asked), strict=True))
