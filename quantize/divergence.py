# SPDX-License-Identifier: Apache-2.0
"""How far the logits of two models are apart: Kullback-Leibler divergences."""

from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from hetfab.overlay.model.bound_model import Evaluation

FloatArray: TypeAlias = npt.NDArray[np.float32]


def divergence(reference: FloatArray, found: FloatArray, evaluation: Evaluation) -> float:
    """Mean divergence over the nodes that models are compared on, in nats; of classes, or of each label.

    Args:
        reference: Logits of the float model, [N, C].
        found: Those of another, [N, C].
        evaluation: The nodes, and whether they have several labels.
    """
    rows = slice(None) if evaluation.rows is None else evaluation.rows
    measure = divergence_of_labels if evaluation.multilabel else divergence_of_classes
    return measure(reference[rows], found[rows])


def divergence_of_classes(reference: FloatArray, found: FloatArray) -> float:
    """Mean KL(softmax(reference) || softmax(found)) over the rows of two logit matrices, in nats."""
    first, second = (_log_softmax(logits.astype(np.float64)) for logits in (reference, found))
    return float(np.mean(np.sum(np.exp(first) * (first - second), axis=1)))


def divergence_of_labels(reference: FloatArray, found: FloatArray) -> float:
    """Mean KL between Bernoulli variables with the sigmoid of the logits, over rows and classes, in nats."""
    first, second = reference.astype(np.float64), found.astype(np.float64)
    share = np.exp(-np.logaddexp(0, -first))
    log_ratio_of_ones = np.logaddexp(0, -second) - np.logaddexp(0, -first)
    log_ratio_of_zeros = np.logaddexp(0, second) - np.logaddexp(0, first)
    return float(np.mean(share * log_ratio_of_ones + (1.0 - share) * log_ratio_of_zeros))


def _log_softmax(logits: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    shifted = logits - logits.max(axis=1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True)))
