# SPDX-License-Identifier: Apache-2.0
"""What the inputs of an exported model are: features, edges as ``edge_index``, types of edges.

By name as ``docs/pyg.md`` says, or by a file of the same form as an input binding.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import onnx

from hetfab.overlay.errors import BindingInvalidError, InputsUnboundError, why_unreadable
from hetfab.overlay.model.reader import graph_inputs
from hetfab.overlay.model.schema import Relation


@dataclass(frozen=True)
class RawFeatures:
    """Features of a node type, float32 [N, width]."""

    type: str
    width: int


@dataclass(frozen=True)
class RawEdges:
    """Both ends of edges, int64 [2, E]: sources, then destinations.

    ``relation`` is None where only the name is known. ``name`` is that of the relation or metapath.
    """

    name: str
    relation: Relation | None = None


@dataclass(frozen=True)
class RawKinds:
    """The types of the edges of another input, int64 [E]; ``relations`` names them, empty for the default names."""

    of: str
    kinds: int = 0
    relations: tuple[Relation, ...] = ()


RawInput: TypeAlias = RawFeatures | RawEdges | RawKinds
RawInputs: TypeAlias = Mapping[str, RawInput]

_EDGES = "the name of one input that means edges"
_RULE = "x or x_<type> for features, edge_index or edge_index_<relation> for edges, edge_type for types of edges"


def raw_inputs(model: onnx.ModelProto, given: Mapping[str, Mapping[str, Any]] | None = None) -> dict[str, RawInput]:
    """The meaning of each input.

    Args:
        model: The exported model.
        given: By input what a file says of it, as ``read_raw_inputs`` returns it.

    Raises:
        InputsUnboundError: The meaning of inputs is unknown; all are named.
        BindingInvalidError: The file says what an input cannot be.
    """
    given = given or {}
    names = [value.name for value in graph_inputs(model)]
    unknown = [name for name in given if name not in names]
    if unknown:
        raise BindingInvalidError(
            f"the binding names inputs that the model does not have: {', '.join(unknown)}",
            f"inputs of the model: {', '.join(names)}",
            "correct the names in the binding",
        )
    found = {value.name: _given(value, given) or _by_name(value, names) for value in graph_inputs(model)}
    unbound = [f"'{value.name}' ({_form(value)})" for value in graph_inputs(model) if found[value.name] is None]
    if unbound:
        raise InputsUnboundError(
            f"the meaning of these inputs is unknown: {', '.join(unbound)}",
            f"float32 [N, D] and int64 [2, E] with names such as {_RULE}",
            "name them so in torch.onnx.export (input_names), or give a file with --bind FILE (docs/pyg.md)",
        )
    meanings = {name: meaning for name, meaning in found.items() if meaning is not None}
    _check_features(meanings)
    _check_edges(meanings)
    return meanings


def _check_features(meanings: RawInputs) -> None:
    """A graph has one table of features for a type."""
    widths: dict[str, tuple[str, int]] = {}
    for name, meaning in meanings.items():
        if isinstance(meaning, RawFeatures):
            other, width = widths.setdefault(meaning.type, (name, meaning.width))
            if width != meaning.width:
                raise _invalid(
                    f"'{other}' and '{name}' are both features of the type '{meaning.type}', with {width} and "
                    f"{meaning.width} columns",
                    "one table of features for each type",
                )


def _check_edges(meanings: RawInputs) -> None:
    """Types of edges are those of edges, once."""
    kinds: dict[str, str] = {}
    for name, meaning in meanings.items():
        if isinstance(meaning, RawKinds):
            if not isinstance(meanings.get(meaning.of), RawEdges):
                raise _invalid(f"'{name}' has types of the edges '{meaning.of}', which no input is", _EDGES)
            if kinds.setdefault(meaning.of, name) != name:
                raise _invalid(f"'{kinds[meaning.of]}' and '{name}' are both types of '{meaning.of}'", _EDGES)


def read_raw_inputs(path: Path) -> dict[str, Mapping[str, Any]]:
    """Reads a file with the meaning of inputs.

    Raises:
        BindingInvalidError: The file is unreadable or malformed.
    """
    try:
        table = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise _invalid(f"cannot read the binding '{path}': {why_unreadable(error)}", "a JSON file") from error
    if not isinstance(table, dict) or not all(isinstance(entry, dict) for entry in table.values()):
        raise _invalid(f"the binding '{path}' is no object of objects", "an object from input name to its meaning")
    return table


def _given(value: onnx.ValueInfoProto, given: Mapping[str, Mapping[str, Any]]) -> RawInput | None:
    entry = given.get(value.name)
    if entry is None:
        return None
    try:
        match entry:
            case {"kind": "features", "type": str(node_type)} if node_type and _is_features(value):
                return RawFeatures(node_type, _width(value))
            case {"kind": "edges", "relation": relation} if _is_edges(value):
                found = _relation(relation)
                return RawEdges(found.name, found)
            case {"kind": "edges", "name": str(name)} if name and _is_edges(value):
                return RawEdges(name)
            case {"kind": "edge_kinds", "edges": str(of), "relations": [*relations]} if relations and _is_kinds(value):
                return RawKinds(of, 0, tuple(_relation(relation) for relation in relations))
    except ValueError as error:
        raise _invalid(f"the binding says '{entry}' of the input '{value.name}': {error}", "a relation") from error
    raise _invalid(
        f"the binding says '{dict(entry)}' of the input '{value.name}', which is {_form(value)}",
        'kind "features" with a type, "edges" with a relation or a name, or "edge_kinds" with edges and relations',
    )


def _relation(value: Any) -> Relation:
    if not (isinstance(value, list) and len(value) == 3 and all(isinstance(part, str) and part for part in value)):
        raise ValueError(f"{value!r} is not [source type, name, destination type]")
    return Relation(*value)


def _by_name(value: onnx.ValueInfoProto, names: list[str]) -> RawInput | None:
    name = value.name
    if _is_features(value) and (name == "x" or name.startswith("x_")):
        return RawFeatures(name[2:] or "node", _width(value))
    if _is_edges(value) and (name == "edge_index" or name.startswith("edge_index_")):
        return _named_edges(name.removeprefix("edge_index").removeprefix("_") or "edges")
    of = name.replace("edge_type", "edge_index")
    if _is_kinds(value) and name.startswith("edge_type"):
        edges = [other for other in names if other.startswith("edge_index")]
        return RawKinds(of if of in names or len(edges) != 1 else edges[0])
    return None


def _named_edges(name: str) -> RawEdges:
    """An edge type joined as PyTorch Geometric joins it, ``author__writes__paper``, or a relation's name."""
    parts = name.split("__")
    if len(parts) == 3 and all(parts):
        return RawEdges(parts[1], Relation(*parts))
    return RawEdges(name)


def _is_features(value: onnx.ValueInfoProto) -> bool:
    kind = value.type.tensor_type
    return kind.elem_type == onnx.TensorProto.FLOAT and len(kind.shape.dim) == 2 and kind.shape.dim[1].dim_value > 0


def _is_edges(value: onnx.ValueInfoProto) -> bool:
    kind = value.type.tensor_type
    return kind.elem_type == onnx.TensorProto.INT64 and len(kind.shape.dim) == 2 and kind.shape.dim[0].dim_value == 2


def _is_kinds(value: onnx.ValueInfoProto) -> bool:
    kind = value.type.tensor_type
    return kind.elem_type == onnx.TensorProto.INT64 and len(kind.shape.dim) == 1


def _width(value: onnx.ValueInfoProto) -> int:
    return int(value.type.tensor_type.shape.dim[1].dim_value)


def _form(value: onnx.ValueInfoProto) -> str:
    kind = value.type.tensor_type
    names: dict[int, str] = {onnx.TensorProto.FLOAT: "float32", onnx.TensorProto.INT64: "int64"}
    name = names.get(kind.elem_type, "another type")
    return f"{name} [{', '.join(str(dim.dim_value or dim.dim_param or '?') for dim in kind.shape.dim)}]"


def _invalid(found: str, expected: str) -> BindingInvalidError:
    return BindingInvalidError(found, expected, "correct it as docs/pyg.md describes")
