# SPDX-License-Identifier: Apache-2.0
"""A model together with what its inputs mean, and, to calibrate it, with their arrays on a graph."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import onnx

from hetfab.overlay.model.binding import Binding
from hetfab.overlay.model.runtime import Feed, run_model


@dataclass(frozen=True, eq=False)
class BoundModel:
    """A model and the meaning of its inputs.

    Attributes:
        model: As ``read_model`` returns it.
        bindings: Meaning of each input; in full, with all relations, where the model is quantized or compiled.
    """

    model: onnx.ModelProto
    bindings: Mapping[str, Binding]


class CalibrationReader(Protocol):
    """onnxruntime's ``CalibrationDataReader``: the next feed, None at the end."""

    def get_next(self) -> Feed | None:
        """Returns the next feed."""


@dataclass(frozen=True)
class Evaluation:
    """Which logits models are compared on.

    Attributes:
        rows: Indices of the target nodes, None for all.
        multilabel: Whether each class is a decision of its own.
    """

    rows: npt.NDArray[np.integer[Any]] | None = None
    multilabel: bool = False


@dataclass(frozen=True, eq=False)
class FedModel(BoundModel):
    """A model with its inputs on a graph.

    Attributes:
        feeds: Inputs to run it with, by name: an iterable, or onnxruntime's ``CalibrationDataReader``.
        evaluation: What quantized candidates are compared with it on.
    """

    feeds: Iterable[Feed] | CalibrationReader
    evaluation: Evaluation = field(default_factory=Evaluation)

    def samples(self) -> Iterator[Feed]:
        """The feeds, in whichever form they are."""
        feeds = self.feeds
        if isinstance(feeds, Iterable):
            yield from feeds
            return
        while (feed := feeds.get_next()) is not None:
            yield feed

    def logits(self) -> npt.NDArray[Any]:
        """The model's logits in onnxruntime, [rows, classes], on the first feed.

        Raises:
            ModelStructureError: onnxruntime refuses the model, or its arrays contradict each other.
        """
        return run_model(self.model, next(self.samples()), [self.model.graph.output[0].name])[0]
