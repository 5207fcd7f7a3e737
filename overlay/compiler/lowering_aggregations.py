# SPDX-License-Identifier: Apache-2.0
"""Lowers graph operators: means, sums and attention over edges that a graph gives or that follow from counts."""

from collections.abc import Callable
from dataclasses import replace

import onnx

from hetfab.overlay.compiler.layer_ends import Sum
from hetfab.overlay.compiler.lowered import SCORE_BITS, Additive, Aggregation, Product, Stored
from hetfab.overlay.compiler.lowering_draft import Draft, RefusedError, Value, constant_of, exponent_of, rows_of
from hetfab.overlay.compiler.row_types import stack_of
from hetfab.overlay.isa.attention import SLOPE_BITS, quantized_slope
from hetfab.overlay.isa.spec import isa
from hetfab.overlay.model import hgnn
from hetfab.overlay.model.binding import InDegreeWeights
from hetfab.overlay.model.edges import EdgeSet, JoinedEdges, check_weights, edge_set
from hetfab.overlay.model.layers import attributes
from hetfab.overlay.model.scales import exact_scales
from hetfab.overlay.program import EdgePattern, Edges

_SCORE_EXPONENT = -8
#: Channels that one weight of a head applies to.
_GROUP = isa().size("beat_bytes")


def _edges(draft: Draft, source: str, destination: str, *, typed: bool = False) -> Edges:
    found = edge_set(draft.bindings, source, destination)
    if isinstance(found, EdgeSet):
        ends = found.source_type, found.destination_type
        return Edges(found.name, found.relations, found.metapath, *ends, self_loops=found.self_loops)
    stack = stack_of(found.sources)
    draft.stacks[stack.name] = stack
    if isinstance(found, JoinedEdges):
        name = f"{found.name}: " + ", ".join(str(relation) for relation in found.relations)
        return Edges(name, found.relations, False, stack.name, found.destination_type, joined=True)
    name = f"{found.name} of {stack.name}"
    return Edges(
        *(name, found.relations, False, stack.name, stack.name),
        stacked=True,
        self_loops=found.self_loops,
        typed=typed,
    )


def _pattern(pattern: EdgePattern, *, typed: bool = False) -> Edges:
    """Edges whose types follow when the rows' types are known."""
    return Edges("", (), False, "", "", pattern=pattern, typed=typed)


def _sum(draft: Draft, node: onnx.NodeProto, aggregation: Aggregation) -> Value:
    scale = node.input[-1]
    exponent = exponent_of(exact_scales(constant_of(draft, scale), node), node)
    if exponent != aggregation.input.exponent:
        raise RefusedError("its scale is not that of its input")
    return Sum(exponent, None, (aggregation,))


def _attended(draft: Draft, node: onnx.NodeProto, rows: str, edges: Edges, attention: Additive | Product) -> Value:
    """A sum weighted by attention, whose heads take whole groups of channels."""
    found = Aggregation(rows_of(draft, rows, node), edges, attention)
    compared = (attention.keys,) if isinstance(attention, Product) else ()
    for tensor in (found.input, *compared):
        width = tensor.channels // attention.heads
        if attention.heads > 1 and width % _GROUP:
            raise RefusedError(f"'{tensor.name}' has heads of {width} channels; they take a multiple of {_GROUP}")
    return _sum(draft, node, found)


def _scores(draft: Draft, name: str, node: onnx.NodeProto) -> Stored:
    scores = rows_of(draft, name, node, widths=(SCORE_BITS,))
    if scores.exponent != _SCORE_EXPONENT:
        raise RefusedError(f"the scale of the scores '{name}' is not 2^{_SCORE_EXPONENT}")
    return scores


def _slope(node: onnx.NodeProto) -> int:
    slope = attributes(node)["slope"]
    assert isinstance(slope, float)
    return quantized_slope(slope)


def _mean(draft: Draft, node: onnx.NodeProto) -> Value:
    rows, source, destination, *_ = node.input
    return _sum(draft, node, Aggregation(rows_of(draft, rows, node), _edges(draft, source, destination)))


def _total(draft: Draft, node: onnx.NodeProto) -> Value:
    rows, source, destination, *_ = node.input
    edges = _edges(draft, source, destination)
    edges = replace(edges, name=f"sum over {edges.name}", total=True)
    return _sum(draft, node, Aggregation(rows_of(draft, rows, node), edges))


def _weighted(draft: Draft, node: onnx.NodeProto) -> Value:
    rows, source, destination, weights, *_ = node.input
    check_weights(draft.bindings, weights, edge_set(draft.bindings, source, destination))
    edges = _edges(draft, source, destination)
    by_destination = isinstance(draft.bindings[weights], InDegreeWeights)
    edges = replace(edges, name=f"weighted sum over {edges.name}", weighted=True, by_destination=by_destination)
    return _sum(draft, node, Aggregation(rows_of(draft, rows, node), edges))


def _additive(draft: Draft, node: onnx.NodeProto) -> Value:
    rows, source_scores, destination_scores, source, destination, *_ = node.input
    scores = [_scores(draft, name, node) for name in (source_scores, destination_scores)]
    attention = Additive(scores[0], scores[1], None, _slope(node))
    return _attended(draft, node, rows, _edges(draft, source, destination), attention)


def _typed(draft: Draft, node: onnx.NodeProto) -> Value:
    rows, source_scores, destination_scores, source, destination, _, biases, *_ = node.input
    scores = [_scores(draft, name, node) for name in (source_scores, destination_scores, biases)]
    attention = Additive(scores[0], scores[1], scores[2], _slope(node))
    return _attended(draft, node, rows, _edges(draft, source, destination, typed=True), attention)


def _product(draft: Draft, node: onnx.NodeProto) -> Value:
    queries, keys, rows, source, destination, *_ = node.input
    heads = attributes(node)["heads"]
    assert isinstance(heads, int)
    attention = _products(draft, node, queries, keys, heads)
    return _attended(draft, node, rows, _edges(draft, source, destination), attention)


def _products(draft: Draft, node: onnx.NodeProto, queries: str, keys: str, heads: int) -> Product:
    left, right = rows_of(draft, queries, node), rows_of(draft, keys, node)
    if left.channels != right.channels:
        raise RefusedError(f"it has queries of {left.channels} channels and keys of {right.channels}")
    return Product(left, right, heads, left.exponent + right.exponent)


def _tokens(draft: Draft, node: onnx.NodeProto) -> Value:
    queries, keys, rows, *_ = node.input
    attention = _products(draft, node, queries, keys, 1)
    return _sum(draft, node, Aggregation(rows_of(draft, rows, node), _pattern(EdgePattern.AMONG), attention))


def _fusion(draft: Draft, node: onnx.NodeProto) -> Value:
    rows, weights, _ = node.input
    attention = Additive(None, None, _scores(draft, weights, node), 1 << SLOPE_BITS)
    edges = _pattern(EdgePattern.ACROSS, typed=True)
    return _sum(draft, node, Aggregation(rows_of(draft, rows, node), edges, attention))


def _part_mean(draft: Draft, node: onnx.NodeProto) -> Value:
    return _sum(draft, node, Aggregation(rows_of(draft, node.input[0], node), _pattern(EdgePattern.WITHIN)))


#: (domain, operator) -> rule.
AGGREGATIONS: dict[tuple[str, str], Callable[[Draft, onnx.NodeProto], Value]] = {
    (hgnn.DOMAIN, "QSegMean"): _mean,
    (hgnn.DOMAIN, "QSegSum"): _total,
    (hgnn.DOMAIN, "QSegSumWeighted"): _weighted,
    (hgnn.DOMAIN, "QEdgeAtt"): _additive,
    (hgnn.DOMAIN, "QEdgeAttTyped"): _typed,
    (hgnn.DOMAIN, "QEdgeDot"): _product,
    (hgnn.DOMAIN, "QTokenAtt"): _tokens,
    (hgnn.DOMAIN, "QFuse"): _fusion,
    (hgnn.DOMAIN, "QPartMean"): _part_mean,
}
