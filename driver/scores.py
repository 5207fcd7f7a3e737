# SPDX-License-Identifier: Apache-2.0
"""Scores of predictions: F1 against labels, agreement and distance against a reference."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt

from hetfab.driver.graph.heterograph import HeteroGraph

if TYPE_CHECKING:
    from hetfab.overlay.model.bound_model import BoundModel, Evaluation  # A board has no onnx.

Logits: TypeAlias = npt.NDArray[np.floating[Any]]


@dataclass(frozen=True)
class F1:
    """F1 scores as fractions, and the part of the nodes that they are of ("test" or "labelled")."""

    micro: float
    macro: float
    part: str


def predictions(logits: Logits, *, multilabel: bool) -> npt.NDArray[Any]:
    """Predicted class, int64 [N], or bool [N, C] where each class is a decision of its own."""
    return logits > 0 if multilabel else logits.argmax(axis=1)


def f1_scores(graph: HeteroGraph, node_type: str, logits: Logits) -> F1 | None:
    """Micro and macro F1 on the test split, else on all labelled nodes; None without labels.

    Also None where the output is no logits of the labels' classes: a row for each node and a column for each class.

    Args:
        graph: Holds labels and splits.
        node_type: Whose rows the logits are.
        logits: [N, C].
    """
    labels = graph.labels.get(node_type)
    if labels is None:
        return None
    multilabel = labels.ndim == 2
    classes = labels.shape[1] if multilabel else int(labels.max(initial=-1)) + 1
    if logits.shape != (len(labels), classes):
        return None
    rows = graph.splits.get(node_type, {}).get("test")
    part = "labelled" if rows is None else "test"
    if rows is None:
        rows = np.arange(len(labels)) if multilabel else np.flatnonzero(labels >= 0)
    if not len(rows):
        return None
    truth, found = _one_hot(labels[rows], logits.shape[1]), predictions(logits[rows], multilabel=multilabel)
    return F1(*_f1(truth, _one_hot(found, logits.shape[1])), part)


def model_scores(given: "BoundModel", graph: HeteroGraph) -> F1 | None:
    """F1 scores of a model in onnxruntime on the graph's target type; None without labels of it.

    Raises:
        InputError: The model does not fit the graph.
    """
    from hetfab.driver.graph.model_inputs import model_feeds
    from hetfab.overlay.model.runtime import run_model

    feed = model_feeds(given.model, given.bindings, graph)
    logits = run_model(given.model, feed, [given.model.graph.output[0].name])[0]
    return f1_scores(graph, graph.target or "", logits)


def agreement(first: Logits, second: Logits, *, multilabel: bool) -> float:
    """Share of nodes with equal predictions; where multilabel, all labels of a node must be equal."""
    equal = predictions(first, multilabel=multilabel) == predictions(second, multilabel=multilabel)
    return float(np.mean(equal.all(axis=1) if multilabel else equal)) if len(equal) else 1.0


@dataclass(frozen=True)
class Loss:
    """How accuracy is counted: against labels where nodes have them, else against the float model's predictions.

    Attributes:
        reference: Logits of the float model, [N, C].
        labels: Of the same nodes, int64 [N] or bool [N, C]; None without.
        multilabel: Whether each class is a decision of its own.
        part: What is labelled, in words.
    """

    reference: Logits
    labels: npt.NDArray[Any] | None
    multilabel: bool
    part: str = "validation nodes"

    @classmethod
    def on_validation(cls, graph: HeteroGraph, reference: Logits, given: "Evaluation") -> "Loss":
        """On the validation nodes; labels count only where there are such nodes, so that none of others is read."""
        labels = graph.labels.get(graph.target or "")
        if given.rows is None:
            return cls(reference, None, given.multilabel)
        classes = 0 if labels is None else labels.shape[1] if labels.ndim == 2 else int(labels.max(initial=-1)) + 1
        fits = labels is not None and reference.shape == (len(labels), classes)
        rows = labels[given.rows] if labels is not None and fits else None
        if rows is not None and rows.ndim == 1 and (rows < 0).any():
            rows = None
        return cls(reference[given.rows], rows, given.multilabel)

    @property
    def of(self) -> str:
        """What it counts, in words."""
        return "predictions that change" if self.labels is None else f"micro F1 on {self.part}"

    def points(self, found: Logits) -> float:
        """Points that other logits of the same nodes lose: of micro F1, or of equal predictions."""
        if self.labels is None:
            return 100.0 * (1.0 - agreement(self.reference, found, multilabel=self.multilabel))
        truth = _one_hot(self.labels, found.shape[1])
        scores = [
            _f1(truth, _one_hot(predictions(each, multilabel=self.multilabel), found.shape[1]))[0]
            for each in (self.reference, found)
        ]
        return 100.0 * (scores[0] - scores[1])


def _one_hot(labels: npt.NDArray[Any], classes: int) -> npt.NDArray[np.bool_]:
    if labels.ndim == 2:
        return labels.astype(bool)
    return np.asarray(labels[:, None] == np.arange(classes))


def _f1(truth: npt.NDArray[np.bool_], found: npt.NDArray[np.bool_]) -> tuple[float, float]:
    hits = (truth & found).sum(axis=0)
    total = truth.sum(axis=0) + found.sum(axis=0)
    micro = 2.0 * hits.sum() / max(int(total.sum()), 1)
    macro = np.mean(2.0 * hits / np.maximum(total, 1))
    return float(micro), float(macro)
