# SPDX-License-Identifier: Apache-2.0
"""What an input means, in the words of tables and messages."""

from hetfab.overlay.model.binding import (
    Binding,
    EdgeTypes,
    EdgeWeights,
    End,
    Features,
    InDegreeWeights,
    JoinedEnd,
    LoopedEnd,
    MetapathEnd,
    MetapathMean,
    NamedEnd,
    NamedMean,
    NamedWeights,
    NodeCount,
    RelationEnd,
    Samples,
    StackedEnd,
)


def meaning(binding: Binding) -> str:
    """What an input means, in words."""
    match binding:
        case Features(node_type):
            return f"features of {node_type}"
        case Samples(shape):
            return f"samples of {' x '.join(map(str, shape))}"
        case NodeCount(node_type):
            return f"number of {node_type} nodes"
        case NamedEnd(name, end):
            return f"{end.value} ids of {name}"
        case RelationEnd(relation, end):
            return f"{end.value} ids of {relation}"
        case LoopedEnd(relation, end):
            return f"{end.value} ids of {relation}, with self loops"
        case MetapathEnd(name, relations, end):
            return f"{end.value} ids of the metapath {name}: " + ", ".join(map(str, relations))
        case StackedEnd(types, _, self_loops, end):
            return f"{end.value} ids of all relations, {_stack(types, self_loops)}"
        case JoinedEnd(node_type, relations, end):
            which = ", ".join(map(str, relations)) or "all relations"
            what = "source ids, source rows stacked by relation," if end is End.SOURCE else "destination ids"
            return f"{what} of the edges into {node_type}: {which}"
        case EdgeTypes(types, _, self_loops):
            return f"edge types of all relations, {_stack(types, self_loops)}"
        case NamedWeights(name):
            return f"weights of the edges of {name}"
        case EdgeWeights(relation):
            return f"weights of the edges of {relation}, by their ends' degrees"
        case InDegreeWeights(relation, self_loops):
            loops = ", with self loops" if self_loops else ""
            return f"weights of the edges of {relation}{loops}, by the edges into both ends"
        case NamedMean(path):
            return f"mean of features along {path}"
        case MetapathMean((), node_type):
            return f"features of {node_type}"
        case MetapathMean(relations, node_type):
            return f"mean of {node_type} features along " + ", ".join(map(str, relations))


def _stack(types: tuple[str, ...], self_loops: bool) -> str:
    stacked = "types stacked" if not types else "stacked: " + ", ".join(types)
    return stacked + (", with self loops" if self_loops else "")
