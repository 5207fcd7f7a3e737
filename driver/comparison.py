# SPDX-License-Identifier: Apache-2.0
"""Compares every stored tensor: of the float model, of the quantized model in onnxruntime, and of the overlay's memory.

The quantized file defines what the overlay computes, integer by integer, so the first tensor that differs names the
layer that went wrong. Noise between float and quantized says which layer loses accuracy.
"""

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from hetfab.driver.session import DEADLINE_SECONDS, Session
from hetfab.driver.stored_tensors import Integers, names_in_order, stored_tensors
from hetfab.overlay.bind import BoundProgram
from hetfab.overlay.errors import ReferenceMismatchError
from hetfab.overlay.program import LayerInfo, Program

if TYPE_CHECKING:
    import onnx

    from hetfab.overlay.model.runtime import Feed  # A board has no onnx.

#: What a stored tensor's name has beyond that of the float tensor.
_WIDTH = re.compile(r"\.int\d+$")


@dataclass(frozen=True)
class Difference:
    """One integer: where in the model's tensor, what the overlay has, and what the quantized model says."""

    place: tuple[int, ...]
    found: int
    expected: int


@dataclass(frozen=True)
class TensorComparison:
    """A stored tensor in its three forms.

    Attributes:
        name: In the program.
        layer: What writes it, None for features.
        values: How many integers it has.
        quantized_snr_db: Of the quantized model against the float model; infinite where they are equal, None where the
            float model has no such tensor, or only zeros.
        overlay_snr_db: Of the overlay against the quantized model, likewise.
        differing: Integers of the overlay that are not those of the quantized model.
        largest_steps: The largest difference among them.
        first: The first of them, None where there is none.
    """

    name: str
    layer: LayerInfo | None
    values: int
    quantized_snr_db: float | None
    overlay_snr_db: float | None
    differing: int
    largest_steps: int
    first: Difference | None


@dataclass(frozen=True, eq=False)
class Reference:
    """The two models and what they run on.

    Attributes:
        float_model: Its tensors have names and layouts of the quantized model's (``quantize.post_training.rewritten``).
        float_feed: Its inputs.
        quantized: The model that the program was compiled from.
        quantized_feed: Its inputs.
    """

    float_model: "onnx.ModelProto"
    float_feed: "Feed"
    quantized: "onnx.ModelProto"
    quantized_feed: "Feed"


def compare_tensors(
    session: Session, bound: BoundProgram, reference: Reference, *, deadline_seconds: float = DEADLINE_SECONDS
) -> list[TensorComparison]:
    """Compares what a program stores, in the order in which its layers write it.

    Args:
        session: The overlay.
        bound: The program on a graph, or on one sample.
        reference: The models on the same graph or sample.
        deadline_seconds: How long to wait for each run.

    Raises:
        ReferenceMismatchError: The float model does not compute the quantized model's logits.
        HetfabError: As ``stored_tensors`` and ``run_inner``.
    """
    from hetfab.overlay.model.runtime import run_inner

    _check_output(reference)
    program = bound.program
    sources = [source for name in names_in_order(bound) if (source := _source(name, bound, reference.quantized))]
    in_file = [source.in_file for source in sources]
    quantized = run_inner(reference.quantized, reference.quantized_feed, in_file)
    in_float = run_inner(reference.float_model, reference.float_feed, [_WIDTH.sub("", name) for name in in_file])
    layers = {layer.name: layer for layer in program.layers}
    found = stored_tensors(session, bound, deadline_seconds=deadline_seconds)
    return [
        _compared(
            source.name,
            layers.get(source.name),
            _model_order(program, found[source.name]),
            scale_of(program, source.name),
            source.of(quantized[source.in_file]),
            _float_values(source, in_float, quantized[source.in_file]),
            source.columns,
        )
        for source in sources
    ]


def scale_of(program: Program, name: str) -> float:
    """Value of one step of a stored tensor."""
    if name == program.output.tensor:
        return program.output.scale
    return program.image(name).scale if program.images else program.tensor(name).scale


def first_differing(tensors: list[TensorComparison]) -> TensorComparison | None:
    """The first tensor in which the overlay is not the quantized model."""
    return next((tensor for tensor in tensors if tensor.differing), None)


def comparison_report(tensors: list[TensorComparison]) -> dict[str, Any]:
    """What ``hetfab compare --json`` prints: see docs/cli.md."""
    first = first_differing(tensors)
    return {
        "exact": first is None,
        "first_differing": None if first is None else first.name,
        "tensors": [_as_dict(tensor) for tensor in tensors],
    }


def comparison_rows(tensors: list[TensorComparison]) -> list[list[object]]:
    """Table of the tensors: name, kind of layer, integers, both ratios, integers that differ, and by how much."""
    return [
        [
            tensor.name,
            "-" if tensor.layer is None else tensor.layer.kind,
            tensor.values,
            _shown(tensor.quantized_snr_db),
            _shown(tensor.overlay_snr_db),
            tensor.differing,
            tensor.largest_steps,
        ]
        for tensor in tensors
    ]


def verdict(tensors: list[TensorComparison]) -> str:
    """Whether the overlay is exact, else the tensor and the layer where it ceases to be."""
    first = first_differing(tensors)
    if first is None or first.first is None:
        return f"all {len(tensors)} tensors are those of the quantized model, integer by integer"
    layer, one = first.layer, first.first
    source = "features" if layer is None else f"the layer '{layer.name}' ({layer.kind} on {' '.join(layer.engines)})"
    return (
        f"the first tensor that differs is '{first.name}', from {source}: {first.differing:,} of {first.values:,} "
        f"integers, by at most {first.largest_steps:,}; at {list(one.place)} {one.found} in place of {one.expected}"
    )


def snr_db(signal: npt.NDArray[Any], found: npt.NDArray[Any]) -> float | None:
    """Signal-to-noise ratio in dB: infinite where both are equal, None where the signal is zero and the noise is not.

    Args:
        signal: What should be there.
        found: What is there, of the same shape.
    """
    exact = np.asarray(signal, np.float64)
    power, noise = float(np.sum(exact**2)), float(np.sum((exact - found) ** 2))
    if noise == 0.0:
        return math.inf
    return 10.0 * math.log10(power / noise) if power > 0.0 else None


def _check_output(reference: Reference) -> None:
    expected = reference.quantized.graph.output[0].name
    found = [value.name for value in reference.float_model.graph.output]
    if expected not in found:
        raise ReferenceMismatchError(
            f"the float model computes {', '.join(found)}",
            f"'{expected}', which the quantized model computes",
            "give the float model that was quantized",
        )


@dataclass(frozen=True)
class _Source:
    """Where the quantized model has a stored tensor: the file's name, its rows and columns of that, None for all."""

    name: str
    in_file: str
    rows: slice | None = None
    columns: list[int] | None = None

    def of(self, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Its rows and columns of the file's tensor."""
        if self.columns is not None:
            return values[:, self.columns]
        return values if self.rows is None else values[self.rows]


def _source(name: str, bound: BoundProgram, model: "onnx.ModelProto") -> _Source | None:
    """None where the file has no such tensor, and of stacks and parts that no layer writes: their others are compared.

    A program's features have the name of the model's input; in the file, they are what its Quant makes of it.
    """
    program = bound.program
    inputs = {value.name for value in model.graph.input}
    if name in inputs:
        rounded = [node.output[0] for node in model.graph.node if node.op_type == "Quant" and node.input[0] == name]
        return _Source(name, rounded[0] if rounded else name, columns=_held_columns(program, name))
    if name not in {layer.name for layer in program.layers}:
        return None
    computed = {output for node in model.graph.node for output in node.output}
    if name in computed:
        return _Source(name, name)
    part = next((tensor for tensor in program.tensors if tensor.name == name and tensor.whole in computed), None)
    if part is None:
        return None
    starts = program.stack(program.tensor(part.whole).node_type).starts(bound.counts)
    return _Source(name, part.whole, slice(starts[part.part], starts[part.part + 1]))


def _held_columns(program: Program, features: str) -> list[int] | None:
    """Columns of features that rows in memory hold, ascending; None for all."""
    tensor = None if program.images else program.tensor(features)
    if tensor is None or not tensor.leading:
        return None
    return sorted(tensor.channel_order[: tensor.leading] or range(tensor.leading))


def _float_values(
    source: _Source, in_float: Mapping[str, npt.NDArray[Any]], expected: npt.NDArray[Any]
) -> npt.NDArray[Any] | None:
    """The float tensor in the shape of the quantized one; None where the float model has none of its size."""
    values = in_float.get(_WIDTH.sub("", source.in_file))
    if values is None or values.size != expected.size:
        return None
    return source.of(values.reshape(expected.shape))


def _model_order(program: Program, values: Integers) -> Integers:
    """An image with its channels first, as models have it."""
    return values.transpose(2, 0, 1) if program.images and values.ndim == 3 else values


def _compared(
    name: str,
    layer: LayerInfo | None,
    found: Integers,
    scale: float,
    expected: npt.NDArray[Any],
    in_float: npt.NDArray[Any] | None,
    columns: list[int] | None,
) -> TensorComparison:
    wanted = np.rint(expected.astype(np.float64) / scale).astype(np.int64).reshape(found.shape)
    apart = np.abs(found - wanted)
    first = next(_differences(found, wanted, columns), None)
    quantized = None
    if in_float is not None:
        quantized = snr_db(in_float, expected)
    return TensorComparison(
        name,
        layer,
        found.size,
        quantized,
        snr_db(wanted, found),
        int(np.count_nonzero(apart)),
        int(apart.max(initial=0)),
        first,
    )


def _differences(found: Integers, wanted: Integers, columns: list[int] | None) -> Iterator[Difference]:
    """The integers that differ, at their places in the model's tensor, of which these columns are held."""
    for place in np.argwhere(found != wanted):
        index = tuple(int(number) for number in place)
        in_model = index if columns is None else (index[0], columns[index[1]])
        yield Difference(in_model, int(found[index]), int(wanted[index]))


def _as_dict(tensor: TensorComparison) -> Mapping[str, Any]:
    """JSON knows no infinity: a ratio of equal tensors is null, an unknown one is left out."""
    ratios = {"quantized_snr_db": tensor.quantized_snr_db, "overlay_snr_db": tensor.overlay_snr_db}
    return {
        "name": tensor.name,
        "layer": None if tensor.layer is None else tensor.layer.name,
        "values": tensor.values,
        **{key: None if math.isinf(ratio) else ratio for key, ratio in ratios.items() if ratio is not None},
        "differing": tensor.differing,
        "largest_steps": tensor.largest_steps,
    }


def _shown(ratio: float | None) -> object:
    if ratio is None:
        return "-"
    return "equal" if math.isinf(ratio) else round(ratio, 1)
