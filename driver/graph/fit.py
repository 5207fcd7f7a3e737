# SPDX-License-Identifier: Apache-2.0
"""What a model finds in a graph, input by input; nothing that is missing stops the search for the rest."""

from collections.abc import Mapping
from dataclasses import dataclass

import onnx

from hetfab.driver.graph.heterograph import HeteroGraph
from hetfab.overlay.errors import BindingInvalidError, RelationMissingError, counted
from hetfab.overlay.model.binding import (
    METADATA_KEY,
    Binding,
    Features,
    MetapathMean,
    RelationEnd,
    by_name,
    from_json,
    parse,
    resolve,
)
from hetfab.overlay.model.inspection import learned_tables
from hetfab.overlay.model.meaning import meaning
from hetfab.overlay.model.reader import graph_inputs, input_widths, metadata, wrong_form
from hetfab.overlay.model.schema import GraphSchema


@dataclass(frozen=True)
class InputFinding:
    """An input or learned table of a model, its meaning, and what is amiss; ``problem`` is None where nothing is."""

    input: str
    meaning: str
    problem: str | None


def find_inputs(
    model: onnx.ModelProto, graph: HeteroGraph, overrides: Mapping[str, Binding] | None = None
) -> list[InputFinding]:
    """What each input of a model finds in a graph, in the model's order, and then its learned tables.

    Args:
        model: As ``read_model`` returns it.
        graph: The graph.
        overrides: Bindings that the user gave.

    Raises:
        BindingInvalidError: The binding is malformed or names an input that the model does not have.
    """
    text = metadata(model)
    given = {**(from_json(text, f"the model's metadata '{METADATA_KEY}'") if text else {}), **(overrides or {})}
    names = [value.name for value in graph_inputs(model)]
    bindings = parse([name for name in names if name in given or by_name(name)], text, overrides)
    widths = input_widths(model)
    findings = []
    for value in graph_inputs(model):
        dims = value.type.tensor_type.shape.dim
        rows = dims[0].dim_value if dims else 0
        binding = bindings.get(value.name)
        form = wrong_form(value, binding) if binding is not None else None
        if binding is not None and form is not None:
            findings.append(InputFinding(value.name, meaning(binding), form))
        else:
            findings.append(_finding(value.name, binding, graph, rows, widths.get(value.name, 0)))
    for name, rows in learned_tables(model).items():
        problem = None if rows in graph.counts.values() else f"no node type has {counted(rows, 'node')}"
        findings.append(InputFinding(name, f"learned table with a row for each of {counted(rows, 'node')}", problem))
    return findings


def _finding(name: str, binding: Binding | None, graph: HeteroGraph, rows: int, width: int) -> InputFinding:
    if binding is None:
        return InputFinding(name, "unknown", "nothing says what it means; say it in a file and give it with --bind")
    schema = graph.schema()
    try:
        complete = resolve({name: binding}, schema)[name]
    except (RelationMissingError, BindingInvalidError) as error:
        lead = f"the graph lacks what the model reads: input '{name}' needs "
        found = error.found
        return InputFinding(
            name, meaning(binding), f"the graph lacks {found.removeprefix(lead)}" if found.startswith(lead) else found
        )
    return InputFinding(name, meaning(complete), _mismatch(complete, graph, schema, rows, width))


def _mismatch(binding: Binding, graph: HeteroGraph, schema: GraphSchema, rows: int, width: int) -> str | None:
    """Where the graph's array is missing or has another shape than the model fixes; 0 stands for a free one."""
    problems = []
    match binding:
        case Features(node_type) if node_type not in schema.feature_widths:
            return f"nodes of type '{node_type}' have no features"
        case Features(node_type):
            there, columns, what = schema.counts[node_type], schema.feature_widths[node_type], "nodes"
        case MetapathMean(relations, node_type):
            first = relations[0].source if relations else node_type
            columns = schema.feature_widths.get(node_type, schema.counts[node_type])
            there, what = schema.counts[first], "nodes"
        case RelationEnd(relation, _):
            there, columns, what = len(graph.relations[relation].source), 0, "edges"
        case _:
            return None
    if rows and rows != there:
        problems.append(f"the graph has {there:,} {what}, the model is fixed to {rows:,}")
    if width and width != columns:
        problems.append(f"the features have {counted(columns, 'column')}, the model reads {width:,}")
    return "; ".join(problems) or None
