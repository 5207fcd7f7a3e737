# SPDX-License-Identifier: Apache-2.0
"""Parsers of the attention operators of the domain ``hgnn``; heads of nodes are an axis of their own in the file."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import onnx

from hetfab.overlay.model import hgnn
from hetfab.overlay.model.draft import UNKNOWN, Draft, GapError, RefusedError
from hetfab.overlay.model.layers import EdgeAttention, EdgeDot, Fusion, JoinParts, PartMean, TokenAttention, attributes


@dataclass(frozen=True)
class Heads:
    """A tensor [N, heads * width] with its heads as an axis: [N, heads, width]."""

    tensor: str
    heads: int
    width: int


def _heads(draft: Draft, name: str) -> Heads:
    if name in draft.written_by_gaps:
        raise GapError
    view, constant = draft.views.get(name), draft.constants.get(name)
    if constant is not None and constant.ndim == 3:
        rows, heads, width = constant.shape
        draft.tables[name] = constant.astype(np.float32).reshape(rows, heads * width)
        draft.channels[name] = heads * width
        view = Heads(name, heads, width)
    if not isinstance(view, Heads):
        raise RefusedError(
            f"'{name}' is not a matrix whose columns a Reshape divides into heads",
            "write it as Reshape of [N, heads * width] to [N, heads, width]",
        )
    return view


def _scores(draft: Draft, name: str, heads: int) -> str:
    if draft.activation(name) not in (UNKNOWN, heads):
        raise RefusedError(
            f"the scores '{name}' are not one number for each of {heads} heads", "export the model again"
        )
    return name


def _slope(node: onnx.NodeProto) -> float:
    slope = attributes(node).get("slope", 0.2)
    assert isinstance(slope, float)
    if not 0.0 <= slope <= 1.0:
        raise RefusedError(f"its slope is {slope}", "use a slope from 0 to 1")
    return slope


def _parse_edge_attention(draft: Draft, node: onnx.NodeProto) -> None:
    rows, of_source, of_destination, source, destination, *typed, count = node.input
    view = _heads(draft, rows)
    types, bias = typed if typed else (None, None)
    table = None if bias is None else draft.constants.get(bias)
    if bias is not None and (table is None or table.ndim != 2 or table.shape[1] != view.heads):
        raise RefusedError(f"'{bias}' is not a constant with a row for each edge type", "export trained weights")
    layer = EdgeAttention(
        node.output[0],
        view.tensor,
        _scores(draft, of_source, view.heads),
        _scores(draft, of_destination, view.heads),
        source,
        destination,
        count,
        _slope(node),
        types,
        None if table is None else table.astype(np.float32),
    )
    draft.add(layer, view.heads * view.width)


def _parse_edge_dot(draft: Draft, node: onnx.NodeProto) -> None:
    queries, keys, rows, source, destination, count = node.input
    asked, held, view = _heads(draft, queries), _heads(draft, keys), _heads(draft, rows)
    if (asked.heads, asked.width) != (held.heads, held.width) or asked.heads != view.heads:
        raise RefusedError("queries, keys and values have different heads", "export the model again")
    layer = EdgeDot(node.output[0], view.tensor, asked.tensor, held.tensor, source, destination, count, view.heads)
    draft.add(layer, view.heads * view.width)


def _parts(node: onnx.NodeProto) -> int:
    parts = attributes(node).get("parts", 0)
    if not isinstance(parts, int) or parts < 1:
        raise RefusedError(f"its attribute 'parts' is {parts}", "say of how many parts the stack is")
    return parts


def _parse_part_mean(draft: Draft, node: onnx.NodeProto) -> None:
    draft.add(PartMean(node.output[0], node.input[0], _parts(node)), draft.rows(node.input[0]))


def _parse_fuse(draft: Draft, node: onnx.NodeProto) -> None:
    rows, weights = node.input
    draft.add(Fusion(node.output[0], rows, _scores(draft, weights, 1), _parts(node)), draft.rows(rows))


def _parse_token_attention(draft: Draft, node: onnx.NodeProto) -> None:
    queries, keys, rows = node.input
    if draft.rows(queries) != draft.rows(keys):
        raise RefusedError("queries and keys have different widths", "export the model again")
    draft.add(TokenAttention(node.output[0], rows, queries, keys, _parts(node)), draft.rows(rows))


def _parse_join(draft: Draft, node: onnx.NodeProto) -> None:
    parts = _parts(node)
    draft.add(JoinParts(node.output[0], node.input[0], parts), parts * draft.rows(node.input[0]))


#: (domain, operator) -> parser.
ATTENTION_PARSERS: dict[tuple[str, str], Callable[[Draft, onnx.NodeProto], None]] = {
    (hgnn.DOMAIN, "EdgeAtt"): _parse_edge_attention,
    (hgnn.DOMAIN, "EdgeAttTyped"): _parse_edge_attention,
    (hgnn.DOMAIN, "EdgeDot"): _parse_edge_dot,
    (hgnn.DOMAIN, "PartMean"): _parse_part_mean,
    (hgnn.DOMAIN, "Fuse"): _parse_fuse,
    (hgnn.DOMAIN, "TokenAtt"): _parse_token_attention,
    (hgnn.DOMAIN, "JoinParts"): _parse_join,
}
