# SPDX-License-Identifier: Apache-2.0
"""Sums of aggregations, which the overlay keeps in Q.8 until they are complete, and uses of layers that it refuses."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from hetfab.overlay.model.layers import (
    Add,
    Aggregation,
    Bias,
    Dense,
    EdgeAttention,
    Fusion,
    HostOperator,
    JoinParts,
    Layer,
    LayerGraph,
    LayerNorm,
    Relu,
    RowNorm,
    RowSlice,
    Stack,
    Unary,
)


@dataclass(frozen=True, eq=False)
class SumGroup:
    """A sum of aggregations, dense terms and constants.

    Attributes:
        root: The tensor that holds the complete sum.
        aggregations: The aggregated terms, at least one.
        dense: The dense terms.
        biases: Layers that add a constant row; only where there is no dense term.
        product: The tensor that holds the sum of the dense terms alone, empty without any.
    """

    root: str
    aggregations: tuple[Aggregation, ...]
    dense: tuple[Dense, ...]
    biases: tuple[Bias, ...] = ()
    product: str = ""


@dataclass(frozen=True)
class Gaps:
    """Tensors that operators without a layer write, and those that they read other than to add them."""

    written: frozenset[str] = frozenset()
    read: frozenset[str] = frozenset()


_NO_GAPS = Gaps()
#: Layers whose results are integers of one scale already.
_Rounded = Relu | Unary | LayerNorm | HostOperator | Stack | JoinParts


def find_sums(graph: LayerGraph) -> list[SumGroup]:
    """The sums of a model that ``refused_uses`` accepts, whose dense terms are added to each other first.

    Learned tables and other stored tensors are dense terms. Sums of dense terms alone are not among them.
    """
    producers = _producers(graph)
    groups = []
    for root in sum_roots(graph):
        layers = [producers[term] for term in terms_of(root, producers)]
        aggregations = tuple(layer for layer in layers if isinstance(layer, Aggregation))
        dense = tuple(layer for layer in layers if isinstance(layer, Dense))
        if aggregations:
            product = _product_of(root, producers) if dense else ""
            groups.append(SumGroup(root, aggregations, dense, tuple(biases_of(root, producers)), product))
    return groups


def joint_products(graph: LayerGraph) -> list[frozenset[str]]:
    """Dense layers whose products are added as integers, so that they have one scale: sets of at least two."""
    producers = _producers(graph)
    joined: list[frozenset[str]] = []
    for root in sum_roots(graph):
        members = frozenset(term for term in terms_of(root, producers) if isinstance(producers[term], Dense))
        if len(members) > 1:
            touching = [other for other in joined if other & members]
            joined = [other for other in joined if not other & members]
            joined.append(members.union(*touching))
    return joined


def is_product(tensor: str, producers: Mapping[str, Layer]) -> bool:
    """Whether a tensor is a dense layer's result or a sum of such."""
    return all(isinstance(producers.get(term), Dense) for term in terms_of(tensor, producers))


def _product_of(tensor: str, producers: Mapping[str, Layer]) -> str:
    """The tensor within a sum that holds its dense terms, empty where there is none."""
    layer = producers[tensor]
    if is_product(tensor, producers):
        return tensor
    if isinstance(layer, Add):
        return _product_of(layer.left, producers) or _product_of(layer.right, producers)
    return _product_of(layer.input, producers) if isinstance(layer, Bias) else ""


def refused_uses(graph: LayerGraph, gaps: Gaps = _NO_GAPS) -> Iterator[str]:
    """Yields a line for each combination of layers that the overlay does not execute.

    Args:
        graph: The layers; a learned table in a sum counts as its dense term.
        gaps: Where operators had to be left out. What they hide is not refused.
    """
    producers = _producers(graph)
    for layer in graph.layers:
        yield from refused_layer(layer, graph, producers, gaps)
    for root in sum_roots(graph, gaps):
        yield from _refused_sum(root, graph, producers, gaps)
    if graph.output not in producers and graph.output not in gaps.written:
        yield f"output '{graph.output}': no layer computes it; end the model with a dense layer or a sum"


def refused_layer(
    layer: Layer, graph: LayerGraph, producers: Mapping[str, Layer], gaps: Gaps = _NO_GAPS
) -> Iterator[str]:
    """The lines of ``refused_uses`` for one layer."""
    if isinstance(layer, Relu):
        yield from _refused_relu(layer, graph, producers, gaps)
    elif isinstance(layer, Unary | LayerNorm | RowNorm):
        yield from _refused_function(layer, graph, producers, gaps)
    elif isinstance(layer, EdgeAttention | Fusion):
        yield from _refused_scores(layer, graph, producers, gaps)
    elif isinstance(layer, RowSlice) and isinstance(producers.get(layer.input), _Rounded):
        yield f"Slice '{layer.output}': it follows a function or joined tensors; end the model with a dense layer"
    elif isinstance(layer, RowSlice) and not _ends(layer, graph):
        yield f"Slice '{layer.output}': only the model's output is sliced; slice after the last layer"


def _ends(layer: RowSlice, graph: LayerGraph) -> bool:
    """Whether a slice is the output, or nothing but the norm of its rows is between them."""
    readers = graph.consumers(layer.output)
    return layer.output == graph.output or all(
        isinstance(reader, RowNorm) and reader.output == graph.output for reader in readers
    )


def _refused_relu(layer: Relu, graph: LayerGraph, producers: Mapping[str, Layer], gaps: Gaps) -> Iterator[str]:
    if layer.input not in producers and layer.input not in graph.tables and layer.input not in gaps.written:
        yield f"Relu '{layer.output}': it reads the input '{layer.input}'; apply it to the features beforehand"
    if layer.output == graph.output:
        yield f"Relu '{layer.output}': it is the model's output; leave it out, predictions stay the same"
    before = producers.get(layer.input)
    if isinstance(before, Relu):
        yield f"Relu '{layer.output}': it follows another Relu; leave it out"
    elif isinstance(before, _Rounded):
        yield f"Relu '{layer.output}': it follows {_kind(before)}; put it, or a dense layer, before that"


def _refused_function(
    layer: Unary | LayerNorm | RowNorm, graph: LayerGraph, producers: Mapping[str, Layer], gaps: Gaps
) -> Iterator[str]:
    """Functions round what they read themselves, so it is the result of a layer that has not been rounded yet."""
    name = f"{_operator(layer)} '{layer.output}'"
    if layer.output == graph.output and not isinstance(layer, RowNorm):
        yield f"{name}: it is the model's output; leave it out, or end the model with a dense layer"
    if isinstance(layer, RowNorm) and layer.output != graph.output:
        yield f"{name}: only the model's output is normalised; leave it out elsewhere"
    if isinstance(layer, Unary) and layer.input in graph.tables:
        return
    before = producers.get(layer.input)
    stacked = isinstance(layer, LayerNorm) and isinstance(before, Stack)
    for member in (
        [producers.get(part) for part in before.inputs] if isinstance(before, Stack) and stacked else [before]
    ):
        if isinstance(member, _Rounded):
            yield f"{name}: it follows {_kind(member)}; put a dense layer or a sum between them"
            return
    if before is None and layer.input not in gaps.written:
        yield f"{name}: it reads the input '{layer.input}'; apply it to the features beforehand"


def _kind(layer: "Relu | Unary | LayerNorm | HostOperator | Stack | JoinParts") -> str:
    match layer:
        case Unary():
            return f"the function {layer.function.value}"
        case LayerNorm():
            return "a LayerNormalization"
        case Stack() | JoinParts():
            return "joined tensors"
        case HostOperator():
            return "an operator of the host"
    return "a Relu"


def _refused_scores(
    layer: EdgeAttention | Fusion, graph: LayerGraph, producers: Mapping[str, Layer], gaps: Gaps
) -> Iterator[str]:
    scores = (layer.weights,) if isinstance(layer, Fusion) else (layer.source_scores, layer.destination_scores)
    for tensor in scores:
        known = tensor in gaps.written or tensor in graph.tables
        if not known and not isinstance(producers.get(tensor), Dense | Aggregation | Add | Bias):
            yield f"'{layer.output}': its scores '{tensor}' are not the result of a dense layer or a sum"


def _operator(layer: Unary | LayerNorm | RowNorm) -> str:
    match layer:
        case Unary():
            return layer.function.value
        case LayerNorm():
            return "LayerNormalization"
    return "Div"


def _refused_sum(root: str, graph: LayerGraph, producers: Mapping[str, Layer], gaps: Gaps) -> Iterator[str]:
    terms = list(terms_of(root, producers))
    sums = [term for term in terms if isinstance(producers.get(term), Aggregation)]
    dense = [term for term in terms if isinstance(producers.get(term), Dense) or term in graph.tables]
    hidden = [term for term in terms if term not in producers and term in gaps.written]
    stored = [term for term in terms if _is_stored(term, graph, producers) and term not in hidden]
    if len(dense) + len(stored) + len(sums) + len(hidden) < len(terms):
        yield f"Add '{root}': a sum has aggregations, dense layers, stored tensors and constants; add nothing else"


def _is_stored(term: str, graph: LayerGraph, producers: Mapping[str, Layer]) -> bool:
    """Whether a sum's term is the result of a function or an input, which the identity makes a dense term."""
    return term not in graph.tables and isinstance(producers.get(term), Relu | Unary | LayerNorm | HostOperator | None)


def _producers(graph: LayerGraph) -> dict[str, Layer]:
    return {layer.output: layer for layer in graph.layers}


def sum_roots(graph: LayerGraph, gaps: Gaps = _NO_GAPS) -> Iterator[str]:
    """Complete sums: results of Add, Bias or an aggregation that something other than an Add or Bias reads.

    Args:
        graph: The layers.
        gaps: Where operators had to be left out.
    """
    for layer in graph.layers:
        if not isinstance(layer, Add | Bias | Aggregation):
            continue
        readers = graph.consumers(layer.output)
        read = any(not isinstance(reader, Add | Bias) for reader in readers) or layer.output in gaps.read
        if read or layer.output == graph.output:
            yield layer.output


def terms_of(tensor: str, producers: Mapping[str, Layer]) -> Iterator[str]:
    """The terms of a sum, or the tensor itself; constants that are added are none.

    Args:
        tensor: The complete sum.
        producers: Layers by the tensor that they write.
    """
    layer = producers.get(tensor)
    match layer:
        case Add():
            yield from terms_of(layer.left, producers)
            yield from terms_of(layer.right, producers)
        case Bias():
            yield from terms_of(layer.input, producers)
        case _:
            yield tensor


def biases_of(tensor: str, producers: Mapping[str, Layer]) -> Iterator[Bias]:
    """The constants that are added within a sum."""
    layer = producers.get(tensor)
    match layer:
        case Add():
            yield from biases_of(layer.left, producers)
            yield from biases_of(layer.right, producers)
        case Bias():
            yield layer
            yield from biases_of(layer.input, producers)
