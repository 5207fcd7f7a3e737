# SPDX-License-Identifier: Apache-2.0
"""Runs a network again from where its numbers changed: widths are measured one layer after the other."""

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import onnx
import onnx.helper

from hetfab.overlay.model.runtime import Feed, Runner

#: Operators before which a run may begin; what lies between them takes next to no time.
_MULTIPLY = ("Conv", "MatMul")
#: Places where a run may begin, which are tensors that are kept, and bytes of samples with which they are.
_STARTS, _BYTES = 8, 1 << 25


class _Start(NamedTuple):
    """A node where a run may begin, and the one tensor that it and all that follow read of what is before."""

    node: int
    tensor: str


class ChangedRuns:
    """A network on samples, whose tensors are kept from one run to the next.

    Args:
        model: It reads the samples and numbers, has one output and no constants.
        samples: What it runs on.
    """

    def __init__(self, model: onnx.ModelProto, samples: Sequence[Feed]) -> None:
        self._model, self._samples = model, samples
        starts = _starts(model.graph, next(iter(samples[0])))
        held = sum(array.nbytes for sample in samples for array in sample.values()) <= _BYTES
        self._starts = starts[:: -(-len(starts) // _STARTS)] if held else starts[:1]
        self._readers = {
            name: place for place in reversed(range(len(model.graph.node))) for name in model.graph.node[place].input
        }
        self._runners: dict[int, Runner] = {}
        self._given: Mapping[str, npt.NDArray[Any]] = {}
        self._kept: list[dict[str, npt.NDArray[Any]]] = [dict(sample) for sample in samples]

    def __call__(self, given: Mapping[str, npt.NDArray[Any]]) -> list[npt.NDArray[Any]]:
        """The output for each sample.

        Args:
            given: The numbers by input name, the same names each time.
        """
        known, self._given = self._given, {}
        changed = [name for name, now in given.items() if name not in known or not np.array_equal(known[name], now)]
        first = min((self._readers[name] for name in changed), default=len(self._model.graph.node))
        place = bisect_right([start.node for start in self._starts], first) - 1
        tensors = [start.tensor for start in self._starts[place + 1 :]] + [self._model.graph.output[0].name]
        if place not in self._runners:
            self._runners[place] = Runner(_part(self._model, self._starts[place], tensors))
        for kept in self._kept:
            kept.update(zip(tensors, self._runners[place]({**given, **kept}, tensors), strict=True))
        self._given = given
        return [kept[tensors[-1]] for kept in self._kept]


def _starts(graph: onnx.GraphProto, given: str) -> list[_Start]:
    """Where a run may begin; the first is the first node."""
    made = {given: -1} | {name: place for place, node in enumerate(graph.node) for name in node.output}
    used = {name: place for place, node in enumerate(graph.node) for name in node.input if name in made}
    found = [_Start(0, given)]
    for place, node in enumerate(graph.node):
        needed = [name for name, last in used.items() if made[name] < place <= last]
        if place and len(needed) == 1 and node.op_type in _MULTIPLY:
            found.append(_Start(place, needed[0]))
    return found


def _part(model: onnx.ModelProto, start: _Start, outputs: Sequence[str]) -> onnx.ModelProto:
    """A model from a node on."""
    nodes = model.graph.node[start.node :]
    read = {name for node in nodes for name in node.input}
    part = onnx.ModelProto()
    part.CopyFrom(model)
    part.graph.CopyFrom(
        onnx.helper.make_graph(
            nodes,
            model.graph.name,
            [value for value in model.graph.input if value.name in read and value.name != start.tensor],
            [onnx.ValueInfoProto(name=name) for name in outputs],
        )
    )
    part.graph.input.append(onnx.helper.make_tensor_value_info(start.tensor, onnx.TensorProto.FLOAT, None))
    return part
