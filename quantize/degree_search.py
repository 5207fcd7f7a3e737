# SPDX-License-Identifier: Apache-2.0
"""Chooses exponents of what aggregations read by the error of their sums: a vertex counts as often as edges read it.

Sums of many neighbours are where rounding hurts (Tailor et al., Degree-Quant, ICLR 2021, section 3): a criterion that
looks at each vertex once fits the many of few edges. If errors of vertices are independent, a mean over ``d_v`` edges
has the error ``sum_u e_u^2 / d_v^2``, so that ``e_u^2`` counts ``sum_v 1 / d_v^2`` over the edges from u to v.
"""

import numpy as np

from hetfab.overlay.model.layers import EdgeAggregation, SegSum
from hetfab.quantize.assignment import Assignment
from hetfab.quantize.emulation import Emulation
from hetfab.quantize.ranges import FloatArray
from hetfab.quantize.study import Study
from hetfab.quantize.weighted_ranges import weighted_ranges


def degree_ranges(study: Study, assignment: Assignment) -> Assignment:
    """The assignment with exponents for the groups that aggregations read; others keep theirs.

    Args:
        study: The model.
        assignment: Widths, and methods of other groups.
    """
    weights = [reads_of(emulation) for emulation in study.emulations]
    found = weighted_ranges(study, assignment, weights)
    read = {name for each in weights for name in each}
    for group, members in study.groups.items():
        if not read & set(members):
            found = found.with_activations(group, assignment.activations[group])
    return found


def reads_of(emulation: Emulation) -> dict[str, FloatArray]:
    """What the square error of each row of tensors counts in the sums that read them, [rows, 1].

    Attention counts as a mean: its shares are not known before scales are.
    """
    found: dict[str, FloatArray] = {}
    for layer in emulation.graph.layers:
        if not isinstance(layer, EdgeAggregation):
            continue
        edges = emulation.edges(layer)
        match layer:
            case SegSum():
                shares = np.square(emulation.edge_weights(layer), dtype=np.float64)
            case _:
                shares = np.repeat(1.0 / np.square(np.maximum(edges.degrees, 1), dtype=np.float64), edges.degrees)
        rows = len(emulation.values(layer.input))
        counted = np.bincount(edges.sources, shares, rows)[:, None].astype(np.float32)
        found[layer.input] = found[layer.input] + counted if layer.input in found else counted
    return found
