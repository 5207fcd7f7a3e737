# SPDX-License-Identifier: Apache-2.0
"""What a compiler may know of the graph that a program is meant for. It sets choices, never what is computed."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from hetfab.overlay.features import Features
from hetfab.overlay.program import Edges, Tensor

if TYPE_CHECKING:
    from hetfab.overlay.compiler.projection_work import Work
    from hetfab.overlay.design import Design


@dataclass(frozen=True)
class FeatureCounts:
    """Features of which only numbers are known.

    Attributes:
        width: Columns.
        nonzeros: Entries that are not zero.
        total: Sum of their magnitudes.
        uniform: Whether all of them have one magnitude.
    """

    width: int
    nonzeros: int
    total: float
    uniform: bool


@dataclass(frozen=True, eq=False)
class Sources:
    """Vertices of a type that edges lead from.

    Attributes:
        count: How many.
        ids: Which, ascending; None where only their number is known.
    """

    count: int
    ids: npt.NDArray[np.int64] | None = None

    def in_common(self, other: "Sources", vertices: int) -> int:
        """Vertices that edges of both sets lead from.

        Args:
            other: Of the same type.
            vertices: Of that type; where ids are not known, each set is taken to be drawn at random.
        """
        if self.ids is not None and other.ids is not None:
            return len(np.intersect1d(self.ids, other.ids, assume_unique=True))
        return round(self.count * other.count / max(vertices, 1))


@dataclass(frozen=True, eq=False)
class GraphFacts:
    """A graph as far as it is known.

    Attributes:
        name: For reports.
        counts: Vertices of each node type.
        features: Of each node type that has some.
        sources: Of edge sets that are relations or semantic graphs.
        splits: Into how many parts features are split, and whether they are edges with weights, by features, groups of
            a result and whether there are weights; noted once found, since many designs may be asked for.
        works: What first projections take, likewise, by what they are.
    """

    name: str
    counts: Mapping[str, int]
    features: Mapping[str, Features | FeatureCounts]
    sources: Mapping[Edges, Sources]
    splits: dict[tuple[Tensor, int, bool], tuple[int, bool]] = field(default_factory=dict)
    works: "dict[tuple[bytes, Design, float | None], Work]" = field(default_factory=dict)
