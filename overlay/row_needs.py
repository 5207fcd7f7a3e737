# SPDX-License-Identifier: Apache-2.0
"""Which rows each layer of a program has to compute for some rows of its output. Only numpy.

From the last layer back: a row needs the rows beside it, and at the other ends of the edges into it those of the
tensors that these edges carry. Each set is exact: what nobody needs is not computed.
"""

from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from hetfab.overlay.bind import IncomingEdges
from hetfab.overlay.errors import NodesDependentError
from hetfab.overlay.program import EdgePattern, Edges, Program
from hetfab.overlay.stages import Role, Stage

Ids: TypeAlias = npt.NDArray[np.int64]
#: Gives the edges of a set into some destinations.
EdgeRows: TypeAlias = Callable[[Edges, Ids], IncomingEdges]


@dataclass(frozen=True)
class Place:
    """Where the rows of a tensor are: in a tensor of its own, or in a stack from a row on."""

    tensor: str
    start: int


def place_of(program: Program, name: str, counts: Mapping[str, int]) -> Place:
    """The place of a tensor that a layer writes or reads."""
    tensor = program.tensor(name)
    if not tensor.whole:
        return Place(name, 0)
    whole = program.tensor(tensor.whole)
    return Place(tensor.whole, program.stack(whole.node_type).starts(counts)[tensor.part])


def is_computed(program: Program, name: str) -> bool:
    """Whether layers write a tensor."""
    return program.tensor(name).segment in ("activations", "output")


def fusion_weights(program: Program, stages: Sequence[Stage]) -> list[str]:
    """Tensors without a row for each vertex that layers compute from all vertices, and layers with vertices read."""
    found = [read.tensor for stage in stages for read in stage.read_as(Role.ALL) if is_computed(program, read.tensor)]
    return list(dict.fromkeys(found))


def rows_of_layers(
    program: Program,
    stages: Sequence[Stage],
    counts: Mapping[str, int],
    wanted: Ids,
    edges_into: EdgeRows,
    given: Collection[str],
) -> list[Ids]:
    """The rows that each layer has to compute.

    Args:
        program: The program.
        stages: Its layers.
        counts: Vertices of each node type, the program's stacks among them.
        wanted: Rows of the output, int64 [n].
        edges_into: Gives the edges of a set into some destinations.
        given: Tensors that are there already.

    Returns:
        Of each layer, int64 in rising order without duplicates; none where it has nothing to do.

    Raises:
        NodesDependentError: A mean over all vertices is needed, and is not given.
    """
    needed: dict[str, list[Ids]] = defaultdict(list)
    needed[place_of(program, program.output.tensor, counts).tensor].append(np.unique(wanted))
    found: list[Ids] = [np.zeros(0, np.int64)] * len(stages)
    for stage in reversed(stages):
        place = place_of(program, stage.output.name, counts)
        needed[place.tensor] = [_union(needed[place.tensor])]
        rows = needed[place.tensor][0] - place.start
        rows = rows[(rows >= 0) & (rows < counts[stage.output.node_type])]
        if stage.output.name in given or not len(rows):
            continue
        found[stage.layer] = rows
        sources = {each.name: _sources(each, rows, edges_into) for each in stage.edges if not each.features}
        for read in stage.reads:
            if read.tensor in given or not is_computed(program, read.tensor):
                continue
            match read.role:
                case Role.ROWS:
                    ids = rows
                case Role.SOURCES:
                    ids = _union([sources[name] for name in read.edges])
                case Role.ALL:
                    ids = np.arange(counts[read.node_type])
            source = place_of(program, read.tensor, counts)
            needed[source.tensor].append(ids + source.start)
    return found


def _sources(edges: Edges, rows: Ids, edges_into: EdgeRows) -> Ids:
    if edges.pattern is EdgePattern.WITHIN:
        raise NodesDependentError(
            f"the model takes a mean over all nodes ('{edges.name}'), so that each prediction depends on all of them",
            "the weights that one run over the whole graph gives",
            "save them with `hetfab run --save-fusion FILE`, and give them with --fusion FILE",
        )
    return np.unique(edges_into(edges, rows).sources).astype(np.int64)


def _union(ids: Sequence[Ids]) -> Ids:
    return ids[0] if len(ids) == 1 else np.unique(np.concatenate([np.zeros(0, np.int64), *ids]))
