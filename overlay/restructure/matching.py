# SPDX-License-Identifier: Apache-2.0
"""Maximum matching of a bipartite graph."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hetfab.overlay.semantic.adjacency import Ids


@dataclass(frozen=True, eq=False)
class Matching:
    """Pairs of rows and columns that are joined by edges, no vertex in two of them.

    Attributes:
        columns: int64 [rows], the column of each row, -1 where it has none.
        dead: bool [columns], columns that searches without success have met.
        edge_visits: Edges that were looked at.
    """

    columns: Ids
    dead: npt.NDArray[np.bool_]
    edge_visits: int

    @property
    def size(self) -> int:
        """Pairs."""
        return int(np.count_nonzero(self.columns >= 0))
