# SPDX-License-Identifier: Apache-2.0
"""Samples of a network that reads no graph: an ``.npz`` file with images or rows and, where there are any, labels."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from hetfab.overlay.archives import DAMAGE, ArrayArchive
from hetfab.overlay.errors import SamplesInvalidError, why_unreadable

if TYPE_CHECKING:
    from hetfab.overlay.model.binding import Binding
    from hetfab.overlay.model.bound_model import FedModel  # A board has no onnx.

#: Numbers in the samples that run at once, and the most samples; what a network keeps of them takes far more memory.
_BATCH_NUMBERS = 1 << 22
_LARGEST_BATCH = 256
_MEMBERS = ("samples", "labels")


@dataclass(frozen=True, eq=False)
class SampleSet:
    """Samples and their classes.

    Attributes:
        samples: float32 [N, *shape], as the model takes them.
        labels: int64 [N], None where the file has none.
    """

    samples: npt.NDArray[np.float32]
    labels: npt.NDArray[np.int64] | None

    def batches(self, size: int | None = None) -> Iterator[npt.NDArray[np.float32]]:
        """The samples in order, ``size`` at a time, else as many as memory easily holds; the last are fewer."""
        numbers = max(int(np.prod(self.samples.shape[1:])), 1)
        size = size or max(1, min(_LARGEST_BATCH, _BATCH_NUMBERS // numbers))
        for start in range(0, len(self.samples), size):
            yield self.samples[start : start + size]


def read_samples(path: Path, shape: tuple[int, ...]) -> SampleSet:
    """Reads samples of one shape.

    Args:
        path: An ``.npz`` file with ``samples`` and, if there are any, ``labels``.
        shape: Of one sample.

    Raises:
        SamplesInvalidError: The file cannot be read, or does not hold finite samples of that shape, with a label each.
    """
    try:
        with ArrayArchive(path) as file:
            arrays = {name: file[name] for name in file.names()}
    except DAMAGE as error:
        raise _invalid(f"cannot read the samples '{path}': {why_unreadable(error)}") from error
    if "samples" not in arrays or set(arrays) - set(_MEMBERS):
        raise _invalid(f"'{path}' holds the arrays {', '.join(sorted(arrays)) or 'none'}")
    samples, labels = arrays["samples"], arrays.get("labels")
    if samples.dtype.kind not in "fiu" or samples.shape[1:] != shape or not len(samples):
        raise _invalid(
            f"'{path}' holds samples of {samples.dtype} {list(samples.shape)}, but the model takes {list(shape)} each"
        )
    if not np.isfinite(samples).all():
        raise _invalid(f"samples of '{path}' are NaN or infinite")
    if labels is not None and (labels.dtype.kind not in "iu" or labels.shape != samples.shape[:1]):
        raise _invalid(f"'{path}' holds labels of {labels.dtype} {list(labels.shape)} for {len(samples)} samples")
    return SampleSet(samples.astype(np.float32), None if labels is None else labels.astype(np.int64))


def one_sample(samples: SampleSet, number: int) -> npt.NDArray[np.float32]:
    """One of the samples, as a batch: float32 [1, *shape].

    Raises:
        SamplesInvalidError: There is no such sample.
    """
    if not 0 <= number < len(samples.samples):
        raise SamplesInvalidError(
            f"sample {number} was asked for",
            f"a number from 0 to {len(samples.samples) - 1}, the last of the file",
            "give another number, or a file with more samples",
        )
    return samples.samples[number : number + 1]


def _invalid(found: str) -> SamplesInvalidError:
    return SamplesInvalidError(
        found,
        "an .npz file with 'samples', finite numbers [N, ...] of the model's shape, and at most 'labels', "
        "one whole number for each sample",
        "write it with numpy.savez(FILE, samples=..., labels=...)",
    )


def open_with_samples(
    path: Path, samples: Path, overrides: "Mapping[str, Binding] | None" = None
) -> "tuple[FedModel, SampleSet]":
    """Reads a model and samples to calibrate it with.

    Args:
        path: ONNX file.
        samples: As ``read_samples`` takes it.
        overrides: Meaning of inputs, where neither the file nor their form says it.

    Raises:
        InputError: The model cannot be read, reads a graph, or does not fit the samples.
    """
    from hetfab.overlay.errors import BindingInvalidError
    from hetfab.overlay.model.binding import Samples
    from hetfab.overlay.model.bound_model import FedModel
    from hetfab.overlay.model.reader import bindings_of, read_model

    model = read_model(path)
    bindings = bindings_of(model, overrides)
    shapes = {name: binding.shape for name, binding in bindings.items() if isinstance(binding, Samples)}
    if len(shapes) != 1 or len(bindings) != 1:
        raise BindingInvalidError(
            f"the model '{path}' has the inputs {', '.join(bindings)}, of which {len(shapes)} take samples",
            "one input, which takes samples",
            "give the graph in place of samples (`--graph GRAPH`), or correct the binding (`--bind FILE`)",
        )
    ((name, shape),) = shapes.items()
    read = read_samples(samples, shape)
    return FedModel(model, bindings, [{name: batch} for batch in read.batches()]), read


def accuracy(model: Any, samples: SampleSet) -> float | None:
    """Share of samples whose largest logit in onnxruntime is that of their label; None without labels.

    Args:
        model: An ``onnx.ModelProto`` whose one input takes samples; its batch may be fixed.
        samples: The samples; those that do not fill a fixed batch are left out.
    """
    from hetfab.overlay.model.runtime import run_model

    if samples.labels is None:
        return None
    fixed = model.graph.input[0].type.tensor_type.shape.dim[0].dim_value
    name, output = model.graph.input[0].name, model.graph.output[0].name
    found = [
        run_model(model, {name: batch}, [output])[0].reshape(len(batch), -1).argmax(axis=1)
        for batch in samples.batches(fixed)
        if not fixed or len(batch) == fixed
    ]
    predicted = np.concatenate(found) if found else np.zeros(0, np.int64)
    return float(np.mean(predicted == samples.labels[: len(predicted)])) if len(predicted) else None
