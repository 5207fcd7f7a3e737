# SPDX-License-Identifier: Apache-2.0
"""The meaning of each input of a model: features, ends of a relation or metapath, edge types, counts, means.

A model carries it as JSON in its metadata; without it the naming rule of ``docs/binding.md`` applies. The
rule gives bindings by name only (``NamedEnd``, ``NamedMean``, a stack without types); ``resolve`` completes
them with the structure of a graph.
"""

import dataclasses
import enum
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hetfab.overlay.errors import BindingInvalidError, InputsUnboundError, RelationMissingError, why_unreadable
from hetfab.overlay.model.schema import GraphSchema, Relation, chains

METADATA_KEY = "hetfab.inputs"


class End(enum.Enum):
    """An end of an edge. On a metapath the destination is its first type, the source its last."""

    SOURCE = "source"
    DESTINATION = "destination"


@dataclass(frozen=True)
class Features:
    """Features of a node type, float32 [N, D]."""

    type: str


@dataclass(frozen=True)
class Samples:
    """Dense samples of one fixed shape, float32 [batch, *shape]: images as channels, rows, columns, or rows.

    They belong to no graph.
    """

    shape: tuple[int, ...]


@dataclass(frozen=True)
class NodeCount:
    """Number of nodes of a type, int64 []."""

    type: str


@dataclass(frozen=True)
class NamedEnd:
    """Node ids, int64 [E], of one end of a relation or metapath that is known by name only."""

    name: str
    end: End


@dataclass(frozen=True)
class RelationEnd:
    """Node ids, int64 [E], of one end of a relation's edges, in the graph's order."""

    relation: Relation
    end: End


@dataclass(frozen=True)
class LoopedEnd:
    """Node ids, int64 [E], of one end of a relation between nodes of one type, with an edge from each node to itself.

    The relation's edges between different nodes come first, in the graph's order, then each node's edge to itself.
    """

    relation: Relation
    end: End


@dataclass(frozen=True)
class MetapathEnd:
    """Node ids, int64 [E], of one end of a semantic graph: an edge wherever a path exists, no duplicates.

    Edges are sorted by destination, then by source.
    """

    name: str
    relations: tuple[Relation, ...]
    end: End


@dataclass(frozen=True)
class StackedEnd:
    """Node ids, int64 [E], of one end of all relations' edges, with the node types stacked in order.

    Without types and relations it stands for all of the graph's, in its order.
    """

    types: tuple[str, ...]
    relations: tuple[Relation, ...]
    self_loops: bool
    end: End


@dataclass(frozen=True)
class JoinedEnd:
    """Node ids, int64 [E], of one end of several relations' edges into a type, one relation after the other.

    Sources are rows of a table that has the nodes of each relation's source type, relation after relation, so each
    relation may have rows of its own; a type that several relations lead from occurs as often. Without relations it
    stands for all of the graph's into the type, in its order.
    """

    type: str
    relations: tuple[Relation, ...]
    end: End


@dataclass(frozen=True)
class EdgeTypes:
    """Edge types, int64 [E], of the stacked edges: the relation's index.

    Self loops come last, with the next index.
    """

    types: tuple[str, ...]
    relations: tuple[Relation, ...]
    self_loops: bool


@dataclass(frozen=True)
class NamedWeights:
    """Weights of a relation's edges that are known by its name only."""

    name: str


@dataclass(frozen=True)
class EdgeWeights:
    """Weights of a relation's edges, float32 [E], in the graph's order: 1 / sqrt(edges out of u * edges into d).

    The normalization of GCN (Kipf and Welling, 2017, eq. 2). Self loops count where the relation has them.
    """

    relation: Relation


@dataclass(frozen=True)
class InDegreeWeights:
    """Weights of a relation's edges, float32 [E]: 1 / sqrt(edges into u * edges into d), 0 where there are none.

    As PyTorch Geometric normalizes GCN. With ``self_loops`` the edges are those of ``LoopedEnd``.
    """

    relation: Relation
    self_loops: bool


@dataclass(frozen=True)
class NamedMean:
    """A mean along relations that are known by their names only, joined by underscores; ``self`` for none."""

    path: str


@dataclass(frozen=True)
class MetapathMean:
    """Features of the last type, averaged relation by relation along a path.

    float32 [N of the first type, D]. Each step is the mean over distinct neighbours; without relations it is
    the type's own features. A type without features counts as one-hot: D is its number of nodes.
    """

    relations: tuple[Relation, ...]
    type: str


Binding = (
    Features
    | Samples
    | NodeCount
    | NamedEnd
    | RelationEnd
    | LoopedEnd
    | MetapathEnd
    | StackedEnd
    | JoinedEnd
    | EdgeTypes
    | NamedWeights
    | EdgeWeights
    | InDegreeWeights
    | NamedMean
    | MetapathMean
)

#: The name of each kind in JSON.
_KINDS: dict[str, type[Binding]] = {
    "features": Features,
    "samples": Samples,
    "node_count": NodeCount,
    "named_end": NamedEnd,
    "relation_end": RelationEnd,
    "looped_end": LoopedEnd,
    "metapath_end": MetapathEnd,
    "stacked_end": StackedEnd,
    "joined_end": JoinedEnd,
    "edge_types": EdgeTypes,
    "named_weights": NamedWeights,
    "edge_weights": EdgeWeights,
    "in_degree_weights": InDegreeWeights,
    "named_mean": NamedMean,
    "metapath_mean": MetapathMean,
}
_KIND_OF = {kind: name for name, kind in _KINDS.items()}

#: Of the names of edges of all relations into a type.
_INTO = "into_"
_RULE = (
    "x_<type>, n_<type>, src_<relation or metapath>, dst_<relation or metapath>, src_into_<type>, dst_into_<type>,"
    " w_<relation>,"
    " M_<relation>_<relation>, M_self, or src, dst and etype"
)


def parse(
    inputs: Sequence[str],
    metadata: str | None = None,
    overrides: Mapping[str, Binding] | None = None,
    by_form: Mapping[str, Binding] | None = None,
) -> dict[str, Binding]:
    """Finds the meaning of each input: from the overrides, the metadata, its form, or the naming rule.

    Args:
        inputs: Names of the model's inputs.
        metadata: The model's ``metadata_props["hetfab.inputs"]``, None when it has none.
        overrides: Bindings that the user gave, as ``read_bindings`` returns them.
        by_form: Bindings that follow from dtype and dimensions.

    Returns:
        A binding for each input, in the order of ``inputs``.

    Raises:
        InputsUnboundError: Nothing covers some inputs; all are named.
        BindingInvalidError: The metadata is malformed, or a binding names an input that the model does not
            have.
    """
    given = dict(by_form or {})
    given |= from_json(metadata, f"the model's metadata '{METADATA_KEY}'") if metadata is not None else {}
    given |= overrides or {}
    unknown = [name for name in given if name not in inputs]
    if unknown:
        raise BindingInvalidError(
            f"the binding names inputs that the model does not have: {', '.join(unknown)}",
            f"inputs of the model: {', '.join(inputs)}",
            "correct the names in the binding",
        )
    bindings = {name: given.get(name) or by_name(name) for name in inputs}
    unbound = [name for name, binding in bindings.items() if binding is None]
    if unbound:
        raise InputsUnboundError(
            f"the meaning of these inputs is unknown: {', '.join(unbound)}",
            f"metadata '{METADATA_KEY}' in the model, or names such as {_RULE}",
            "say what they mean in a file and give it with --bind FILE; docs/binding.md describes the file",
        )
    return {name: binding for name, binding in bindings.items() if binding is not None}


def by_name(name: str) -> Binding | None:
    """Applies the naming rule to one input; None when it does not cover the name."""
    whole: dict[str, Binding] = {
        "src": StackedEnd((), (), True, End.SOURCE),
        "dst": StackedEnd((), (), True, End.DESTINATION),
        "etype": EdgeTypes((), (), True),
    }
    prefixes: dict[str, Callable[[str], Binding]] = {
        "x": Features,
        "n": NodeCount,
        "src": lambda rest: NamedEnd(rest, End.SOURCE),
        "dst": lambda rest: NamedEnd(rest, End.DESTINATION),
        "w": NamedWeights,
        "M": NamedMean,
    }
    if name in whole:
        return whole[name]
    prefix, _, rest = name.partition("_")
    return prefixes[prefix](rest) if rest and prefix in prefixes else None


def read_bindings(path: Path) -> dict[str, Binding]:
    """Reads a file of bindings, as ``--bind`` takes it.

    Raises:
        BindingInvalidError: The file is unreadable or malformed.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BindingInvalidError(
            f"cannot read the binding '{path}': {why_unreadable(error)}",
            "a JSON file as docs/binding.md describes it",
            "check the path",
        ) from error
    return from_json(text, f"the binding '{path}'")


def to_json(bindings: Mapping[str, Binding]) -> str:
    """Writes bindings as the JSON of ``docs/binding.md``, in their order."""

    def plain(binding: Binding) -> dict[str, Any]:
        fields = {field.name: getattr(binding, field.name) for field in dataclasses.fields(binding)}
        end = {"end": fields["end"].value} if "end" in fields else {}
        return {"kind": _KIND_OF[type(binding)]} | fields | end

    return json.dumps({name: plain(binding) for name, binding in bindings.items()})


def from_json(text: str, source: str) -> dict[str, Binding]:
    """Reads the JSON of ``docs/binding.md``.

    Args:
        text: A JSON object from input name to binding.
        source: Named in errors.

    Raises:
        BindingInvalidError: It is not JSON, or a binding lacks a member, has one too many, or one of another
            form.
    """
    try:
        table = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _malformed(source, why_unreadable(error), "JSON") from error
    if not isinstance(table, dict):
        raise _malformed(source, f"it is a {type(table).__name__}", "an object from input name to binding")
    return {name: _binding(entry, f"{source}, input '{name}'") for name, entry in table.items()}


def _binding(entry: Any, source: str) -> Binding:
    kind = entry.get("kind") if isinstance(entry, dict) else None
    if not isinstance(kind, str) or kind not in _KINDS:
        raise _malformed(source, f"the kind is {kind!r}", f"an object whose kind is one of {', '.join(_KINDS)}")
    names = [field.name for field in dataclasses.fields(_KINDS[kind])]
    if set(entry) != {"kind", *names}:
        raise _malformed(source, f"the members are {', '.join(entry)}", f"kind, {', '.join(names)}")
    values = {name: _MEMBERS[name](entry[name], f"{source}, member '{name}'") for name in names}
    binding = _KINDS[kind](**values)
    _check(binding, source)
    return binding


def _check(binding: Binding, source: str) -> None:
    """Refuses bindings whose members contradict each other."""
    match binding:
        case MetapathEnd(_, (), _):
            raise _malformed(source, "the metapath has no relations", "at least one relation")
        case MetapathEnd(_, relations, _) | MetapathMean(relations, _) if not chains(relations):
            raise _malformed(source, "the relations do not chain", "relations that start where the one before ends")
        case MetapathMean((*_, last), node_type) if last.destination != node_type:
            raise _malformed(source, f"the type is '{node_type}'", f"'{last.destination}', where the relations end")
        case LoopedEnd(relation, _) | InDegreeWeights(relation, _) if relation.source != relation.destination:
            raise _malformed(source, f"the relation is {relation}", "a relation between nodes of one type")
        case JoinedEnd(node_type, relations, _):
            astray = [str(relation) for relation in relations if relation.destination != node_type]
            if astray:
                raise _malformed(source, f"{', '.join(astray)} lead elsewhere", f"relations into '{node_type}'")
        case StackedEnd(types, relations, _, _) | EdgeTypes(types, relations, _):
            for relation in relations:
                if not {relation.source, relation.destination} <= set(types):
                    raise _malformed(
                        source, f"the types lack an end of the relation {relation}", "the types of all ends"
                    )


def _text(value: Any, source: str) -> str:
    if not isinstance(value, str) or not value:
        raise _malformed(source, f"it is {value!r}", "a name")
    return value


def _truth(value: Any, source: str) -> bool:
    if not isinstance(value, bool):
        raise _malformed(source, f"it is {value!r}", "true or false")
    return value


def _end(value: Any, source: str) -> End:
    if value not in [end.value for end in End]:
        raise _malformed(source, f"it is {value!r}", "source or destination")
    return End(value)


def _shape(value: Any, source: str) -> tuple[int, ...]:
    sizes = _list(value, source)
    if not sizes or any(isinstance(size, bool) or not isinstance(size, int) or size < 1 for size in sizes):
        raise _malformed(source, f"it is {value!r}", "a list of sizes, without the batch")
    return tuple(sizes)


def _list(value: Any, source: str) -> list[Any]:
    if not isinstance(value, list):
        raise _malformed(source, f"it is {value!r}", "a list")
    return value


def _relation(value: Any, source: str) -> Relation:
    parts = _list(value, source)
    if len(parts) != 3:
        raise _malformed(source, f"it is {value!r}", "[source type, name, destination type]")
    return Relation(*(_text(part, source) for part in parts))


#: How each member of a binding is read.
_MEMBERS: dict[str, Callable[[Any, str], Any]] = {
    "type": _text,
    "name": _text,
    "path": _text,
    "shape": _shape,
    "end": _end,
    "self_loops": _truth,
    "relation": _relation,
    "types": lambda value, source: tuple(_text(part, source) for part in _list(value, source)),
    "relations": lambda value, source: tuple(_relation(part, source) for part in _list(value, source)),
}


def _malformed(source: str, found: str, expected: str) -> BindingInvalidError:
    return BindingInvalidError(
        f"{source}: {found}",
        expected,
        "correct it as docs/binding.md describes, or give another with --bind FILE",
    )


def resolve(bindings: Mapping[str, Binding], schema: GraphSchema) -> dict[str, Binding]:
    """Completes bindings with the structure of a graph and checks that it has all they name.

    Args:
        bindings: By input, complete or by name only.
        schema: The graph's structure.

    Returns:
        Bindings without ``NamedEnd``, ``NamedWeights``, ``NamedMean`` and empty stacks.

    Raises:
        RelationMissingError: The graph lacks node types, relations or metapaths; all are named.
        BindingInvalidError: A path of relations is ambiguous, ``M_self`` meets a graph without target, or an input
            takes samples, which no graph has.
    """
    for name, binding in bindings.items():
        if isinstance(binding, Samples):
            raise BindingInvalidError(
                f"the input '{name}' takes samples of {' x '.join(map(str, binding.shape))}, which belong to no graph",
                "a model that reads a graph",
                "give the samples in place of the graph (`--samples FILE`), or correct the binding (`--bind FILE`)",
            )
    missing: dict[str, str] = {}
    resolved: dict[str, Binding] = {}
    for name, binding in bindings.items():
        complete = _complete(binding, schema)
        lacks = _lacking(complete, schema)
        if lacks:
            missing[name] = lacks
        resolved[name] = complete
    if missing:
        raise RelationMissingError(
            "the graph lacks what the model reads: "
            + "; ".join(f"input '{name}' needs {lacks}" for name, lacks in missing.items()),
            f"a graph with them; this one has the node types {_listed(schema.types)}, the relations"
            f" {_listed(schema.relations)} and the metapaths {_listed(schema.metapaths)}",
            "use the graph that the model was made for, or say what the inputs mean with --bind FILE",
        )
    return resolved


def _complete(binding: Binding, schema: GraphSchema) -> Binding:
    """Completes a binding as far as the graph has what it names."""
    match binding:
        case NamedEnd(name, end):
            relation = schema.find_relation(name)
            if relation is not None:
                return RelationEnd(relation, end)
            path = _named_relations(schema.metapaths.get(name, ()), schema)
            if not path and name.startswith(_INTO):
                return _complete(JoinedEnd(name.removeprefix(_INTO), (), end), schema)
            return MetapathEnd(name, path, end) if path else binding
        case JoinedEnd(node_type, (), end):
            into = tuple(relation for relation in schema.relations if relation.destination == node_type)
            return JoinedEnd(node_type, into, end)
        case NamedWeights(name):
            relation = schema.find_relation(name)
            return binding if relation is None else EdgeWeights(relation)
        case NamedMean(path=path_name):
            return _complete_mean(path_name, schema) or binding
        case StackedEnd((), (), self_loops, end):
            return StackedEnd(schema.types, schema.relations, self_loops, end)
        case EdgeTypes((), (), self_loops):
            return EdgeTypes(schema.types, schema.relations, self_loops)
    return binding


def _complete_mean(path_name: str, schema: GraphSchema) -> MetapathMean | None:
    """Splits joined relation names; names may hold underscores themselves, so all splits that chain count."""
    if path_name == "self":
        if schema.target is None:
            raise BindingInvalidError(
                "the input 'M_self' means the target's own features, but the graph names no target",
                "a graph with a target, or a binding that names the type",
                "say what the input means with --bind FILE",
            )
        return MetapathMean((), schema.target)
    paths = [path for path in _splits(path_name, schema) if chains(path)]
    if len(paths) > 1:
        readings = "; ".join(_listed(path) for path in paths)
        raise BindingInvalidError(
            f"the input 'M_{path_name}' has more than one reading: {readings}",
            "one way to read it as names of relations",
            "say what the input means with --bind FILE",
        )
    return MetapathMean(paths[0], paths[0][-1].destination) if paths else None


def _splits(path_name: str, schema: GraphSchema) -> list[tuple[Relation, ...]]:
    found: list[tuple[Relation, ...]] = []
    for relation in schema.relations:
        if path_name == relation.name:
            found.append((relation,))
        elif path_name.startswith(f"{relation.name}_"):
            rest = _splits(path_name[len(relation.name) + 1 :], schema)
            found += [(relation, *path) for path in rest]
    return found


def _named_relations(names: tuple[str, ...], schema: GraphSchema) -> tuple[Relation, ...]:
    return tuple(relation for name in names if (relation := schema.find_relation(name)) is not None)


def _lacking(binding: Binding, schema: GraphSchema) -> str:
    """What the graph lacks of a binding, in words; empty when it has everything."""
    types: tuple[str, ...] = ()
    relations: tuple[Relation, ...] = ()
    match binding:
        case NamedEnd(name, _):
            return f"a relation or metapath '{name}'"
        case NamedWeights(name):
            return f"a relation '{name}'"
        case NamedMean(path):
            return f"relations '{path}', joined by underscores, that chain"
        case Features(node_type) | NodeCount(node_type):
            types = (node_type,)
        case RelationEnd(relation, _) | LoopedEnd(relation, _) | EdgeWeights(relation) | InDegreeWeights(relation, _):
            relations = (relation,)
        case MetapathEnd(_, path, _):
            relations = path
        case JoinedEnd(node_type, (), _):
            return f"relations into a node type '{node_type}'"
        case JoinedEnd(node_type, relations, _):
            types = (node_type,)
        case StackedEnd(types, relations, _, _) | EdgeTypes(types, relations, _):
            pass
        case MetapathMean(relations, node_type):
            types = (node_type,)
    lacks = [f"node type '{node_type}'" for node_type in types if node_type not in schema.types]
    lacks += [f"relation {relation}" for relation in relations if relation not in schema.relations]
    return ", ".join(lacks)


def _listed(names: Any) -> str:
    return ", ".join(map(str, names)) or "none"
