# SPDX-License-Identifier: Apache-2.0
"""Runs a program of a network on samples, one sample after another, and says how many it has right."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
import numpy.typing as npt

from hetfab.driver.samples import SampleSet
from hetfab.driver.session import DEADLINE_SECONDS, RunResult, Session
from hetfab.overlay.bind import BoundProgram
from hetfab.overlay.bind_samples import bind_sample, sample_bytes
from hetfab.overlay.files import write_atomic
from hetfab.overlay.program import Program

if TYPE_CHECKING:
    import onnx  # A board has none.


@dataclass(frozen=True, eq=False)
class SampleRuns:
    """What the runs gave.

    Attributes:
        logits: int32 [N, *shape of the output].
        bound: The program, bound to the first sample.
        last: The last run.
    """

    logits: npt.NDArray[np.int32]
    bound: BoundProgram
    last: RunResult

    @property
    def classes(self) -> npt.NDArray[np.int64]:
        """The class with the largest logit of each sample, [N]."""
        return np.asarray(self.logits.reshape(len(self.logits), -1).argmax(axis=1), np.int64)

    @property
    def values(self) -> npt.NDArray[np.float64]:
        """The logits as numbers of the float model, in its order of axes."""
        values = self.logits.astype(np.float64) * self.last.scale
        return values.transpose(0, 3, 1, 2) if values.ndim == 4 else values


def run_samples(
    session: Session,
    program: Program,
    samples: SampleSet,
    *,
    deadline_seconds: float = DEADLINE_SECONDS,
    progress: Callable[[int], None] = lambda samples: None,
) -> SampleRuns:
    """Runs all samples with the program resident.

    Args:
        session: The overlay.
        program: Of a network on samples.
        samples: At least one.
        deadline_seconds: How long to wait for each.
        progress: Called with 1 after each sample.

    Raises:
        SamplesInvalidError: The program reads a graph, or samples have another shape.
        HetfabError: As ``Session.load`` and ``Resident.run``.
    """
    bound = bind_sample(program, samples.samples[0])
    found = []
    with session.load(bound) as resident:
        for sample in samples.samples:
            resident.replace_features(sample_bytes(program, sample))
            result = resident.run(deadline_seconds=deadline_seconds)
            found.append(result.logits)
            progress(1)
    return SampleRuns(np.concatenate(found), bound, result)


def sample_report(
    runs: SampleRuns,
    samples: SampleSet,
    reference: "onnx.ModelProto | None" = None,
    of_float: "onnx.ModelProto | None" = None,
) -> dict[str, Any]:
    """Scores of runs.

    Args:
        runs: The runs.
        samples: Their samples.
        reference: The quantized model, to run in onnxruntime and compare with.
        of_float: The float model, to run in onnxruntime.

    Returns:
        ``samples``; ``accuracy`` (None without labels); with a float model ``float_accuracy``; with a reference
        ``reference_accuracy``, ``agreement`` of the classes and ``max_logit_lsb`` (in steps of the last stored
        tensor); ``instructions`` and ``stream_hash`` of a run, ``counters`` of the last one.
    """
    found: dict[str, Any] = {"samples": len(samples.samples), "accuracy": _share(runs.classes, samples)}
    if of_float is not None:
        logits = _in_runtime(of_float, samples)
        found["float_accuracy"] = _share(logits.reshape(len(logits), -1).argmax(axis=1), samples)
    if reference is not None:
        expected = _in_runtime(reference, samples)
        classes = expected.reshape(len(expected), -1).argmax(axis=1)
        ours = runs.values.reshape(len(expected), -1)
        found |= {
            "reference_accuracy": _share(classes, samples),
            "agreement": float(np.mean(classes == ours.argmax(axis=1))),
            "max_logit_lsb": float(
                np.abs(ours - expected.reshape(ours.shape)).max(initial=0.0) / runs.bound.program.output.lsb
            ),
        }
    found |= {"instructions": runs.last.instructions, "stream_hash": runs.last.stream_hash}
    return found | {"counters": asdict(runs.last.counters)}


def accuracy_rows(found: dict[str, Any]) -> list[list[object]]:
    """Table of a report's accuracies, in the order of the work; empty without labels."""
    names = (("float model", "float_accuracy"), ("reference", "reference_accuracy"), ("program", "accuracy"))
    return [[name, found[key]] for name, key in names if found.get(key) is not None]


def save_classes(path: Path, runs: SampleRuns) -> None:
    """Writes ``logits`` (int32), ``scale`` and ``predictions`` to an .npz file.

    Raises:
        OutputUnwritableError: The path cannot be written.
    """

    def write(file: BinaryIO) -> None:
        np.savez_compressed(file, logits=runs.logits, scale=np.float64(runs.last.scale), predictions=runs.classes)

    write_atomic(path, write)


def _share(classes: npt.NDArray[np.int64], samples: SampleSet) -> float | None:
    return None if samples.labels is None else float(np.mean(classes == samples.labels))


def _in_runtime(model: "onnx.ModelProto", samples: SampleSet) -> npt.NDArray[np.float32]:
    from hetfab.overlay.model.runtime import run_model

    fixed = model.graph.input[0].type.tensor_type.shape.dim[0].dim_value
    name, output = model.graph.input[0].name, model.graph.output[0].name
    return np.concatenate([run_model(model, {name: batch}, [output])[0] for batch in samples.batches(fixed or None)])
