# SPDX-License-Identifier: Apache-2.0
"""Rewrites of the float model that move or add a rounding; they are visible in the quantized file."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from hetfab.overlay.model.layers import (
    Add,
    Bias,
    Dense,
    EdgeAttention,
    FloatArray,
    Function,
    HostOperator,
    Layer,
    LayerGraph,
    LayerNorm,
    PartMean,
    Relu,
    RowNorm,
    Stack,
    Unary,
    inputs_of,
)
from hetfab.overlay.model.sums import biases_of, sum_roots, terms_of
from hetfab.quantize.channel_factors import factors_in_products
from hetfab.quantize.head_padding import padded_heads


def rewrite(graph: LayerGraph) -> LayerGraph:
    """All rewrites, in order."""
    for step in REWRITES:
        graph = step(graph)
    return graph


def without_last_norm(graph: LayerGraph) -> LayerGraph:
    """Leaves out a last division of rows by their length, which changes neither the largest logit nor a sign."""
    last = next((layer for layer in graph.layers if layer.output == graph.output), None)
    if not isinstance(last, RowNorm):
        return graph
    layers = tuple(layer for layer in graph.layers if layer is not last)
    return replace(graph, layers=layers, output=last.input)


def functions_of_tables(graph: LayerGraph) -> LayerGraph:
    """Applies functions to learned tables once and for all."""
    tables, layers = dict(graph.tables), []
    for layer in graph.layers:
        if isinstance(layer, Unary) and layer.input in tables:
            tables[layer.output] = values_of(layer, tables[layer.input].astype(np.float64)).astype(np.float32)
        else:
            layers.append(layer)
    read = {name for layer in layers for name in inputs_of(layer)}
    return replace(graph, layers=tuple(layers), tables={name: table for name, table in tables.items() if name in read})


def values_of(layer: Unary, x: FloatArray) -> FloatArray:
    """A function's values, in the precision of ``x``."""
    from scipy.special import erf, expit

    match layer.function:
        case Function.ELU:
            found = np.where(x > 0, x, layer.alpha * np.expm1(np.minimum(x, 0)))
        case Function.LEAKY_RELU:
            found = np.where(x > 0, x, layer.alpha * x)
        case Function.GELU:
            found = x * (1 + erf(x / np.sqrt(2))) / 2
        case Function.SIGMOID:
            found = expit(x)
        case Function.TANH:
            found = np.tanh(x)
    return np.asarray(found, dtype=x.dtype)


def means_before_products(graph: LayerGraph) -> LayerGraph:
    """Takes the mean of all rows before a dense layer instead of behind it: one row is multiplied, not all."""
    layers, channels = list(graph.layers), dict(graph.channels)
    for layer in graph.layers:
        if not isinstance(layer, PartMean):
            continue
        dense = _only_producer(graph, layer.input)
        if dense is not None:
            mean = f"{layer.output}.rows"
            channels[mean] = channels[dense.input]
            layers[layers.index(dense)] = PartMean(mean, dense.input, layer.parts)
            layers[layers.index(layer)] = replace(dense, output=layer.output, input=mean)
    return replace(graph, layers=tuple(layers), channels=channels)


def scores_of_inputs(graph: LayerGraph) -> LayerGraph:
    """Computes attention scores from what the projection before them reads: ``h (W k)`` in place of ``(h W) k``.

    A projection of features is left as it is: they are wide, its result is not.
    """
    scores = {
        name
        for layer in graph.layers
        if isinstance(layer, EdgeAttention)
        for name in (layer.source_scores, layer.destination_scores)
    }
    producers = {layer.output: layer for layer in graph.layers}
    computed = set(producers) | set(graph.tables)
    layers: list[Layer] = []
    for layer in graph.layers:
        inner = producers.get(layer.input) if isinstance(layer, Dense) and layer.output in scores else None
        if isinstance(layer, Dense) and isinstance(inner, Dense) and inner.input in computed:
            layer = replace(
                layer, input=inner.input, weight=inner.weight @ layer.weight, bias=_product_bias(inner, layer)
            )
        layers.append(layer)
    return replace(graph, layers=tuple(layers))


def _product_bias(inner: Dense, outer: Dense) -> FloatArray | None:
    if inner.bias is None:
        return outer.bias
    product = inner.bias @ outer.weight
    return product if outer.bias is None else product + outer.bias


def _only_producer(graph: LayerGraph, tensor: str) -> Dense | None:
    """The dense layer that computes a tensor, if nothing else reads that."""
    dense = next((layer for layer in graph.layers if layer.output == tensor and isinstance(layer, Dense)), None)
    return dense if dense is not None and len(graph.consumers(tensor)) == 1 else None


def tables_to_dense_terms(graph: LayerGraph) -> LayerGraph:
    """Makes a stored tensor that is added to a sum a dense layer with the identity as weights.

    Only a GEMM core writes the accumulators that a sum starts from. Such tensors are inputs, results of functions and
    of the host, and learned tables, which exporters leave behind where they fold a dense layer of a constant.
    """
    summed = {layer.output for layer in graph.layers if not isinstance(layer, Relu | Unary | LayerNorm | HostOperator)}
    layers: list[Layer] = []
    channels = dict(graph.channels)
    terms: dict[str, str] = {}
    for layer in graph.layers:
        if isinstance(layer, Add):
            for tensor in (layer.left, layer.right):
                if tensor not in summed and tensor not in terms:
                    terms[tensor] = f"{tensor}.term"
                    channels[terms[tensor]] = channels[tensor]
                    identity = np.eye(channels[tensor], dtype=np.float32)
                    layers.append(Dense(terms[tensor], tensor, identity, None))
            layer = replace(layer, left=terms.get(layer.left, layer.left), right=terms.get(layer.right, layer.right))
        layers.append(layer)
    return replace(graph, layers=tuple(layers), channels=channels)


def norms_beside_signed_parts(graph: LayerGraph) -> LayerGraph:
    """Puts a dense layer with the identity between a LayerNorm with ReLU and a stack that has negative parts.

    The parts of a stack share one sign, and the norm takes its ReLU from writing unsigned integers.
    """
    producers = {layer.output: layer for layer in graph.layers}
    positive = {name for name, layer in producers.items() if _never_negative(layer)}
    copies: dict[str, str] = {}
    channels, layers = dict(graph.channels), list[Layer]()
    for layer in graph.layers:
        if isinstance(layer, Stack) and not positive.issuperset(layer.inputs):
            for part in layer.inputs:
                if isinstance(producers.get(part), LayerNorm) and part in positive and part not in copies:
                    copies[part], channels[f"{part}.part"] = f"{part}.part", channels[part]
                    layers.append(Dense(copies[part], part, np.eye(channels[part], dtype=np.float32), None))
            layer = replace(layer, inputs=tuple(copies.get(part, part) for part in layer.inputs))
        layers.append(layer)
    return replace(graph, layers=tuple(layers), channels=channels)


def _never_negative(layer: Layer) -> bool:
    return isinstance(layer, Relu) or (isinstance(layer, LayerNorm) and layer.relu)


def dense_terms_together(graph: LayerGraph) -> LayerGraph:
    """Adds the dense terms of a sum to each other first, as one product; constants join one of them, or come last."""
    producers = {layer.output: layer for layer in graph.layers}
    roots = set(sum_roots(graph))
    layers: list[Layer] = []
    channels = dict(graph.channels)
    for layer in graph.layers:
        made = _regrouped(layer.output, producers) if layer.output in roots else []
        channels |= {each.output: channels[layer.output] for each in made}
        layers += made or [layer]
    return _without_unread(replace(graph, layers=tuple(layers), channels=channels))


def _regrouped(root: str, producers: dict[str, Layer]) -> list[Layer]:
    """The layers in place of the last addition of a sum, none where it can stay as it is."""
    terms = list(terms_of(root, producers))
    dense = [layer for term in terms if isinstance(layer := producers[term], Dense)]
    others = [term for term in terms if not isinstance(producers[term], Dense)]
    constants = [each.values for each in biases_of(root, producers)]
    if not dense:
        # A constant within a sum would be added before the sum is complete.
        last = len(constants) == 1 and isinstance(producers[root], Bias)
        return _with_constant_last(root, others, constants) if constants and not last else []
    if not constants and not (len(dense) > 1 and others):
        return []
    made: list[Layer] = []
    if constants:
        constants += [] if dense[0].bias is None else [dense[0].bias]
        dense[0] = replace(dense[0], output=f"{root}.biased", bias=_total(constants))
        made.append(dense[0])
    names = [*(layer.output for layer in dense), *others]
    return [*made, *_additions(root, names)] if len(names) > 1 else [replace(dense[0], output=root)]


def _with_constant_last(root: str, terms: list[str], constants: list[FloatArray]) -> list[Layer]:
    """A sum of aggregations, and then of its constants."""
    additions = _additions(f"{root}.unbiased", terms)
    total = additions[-1].output if additions else terms[0]
    return [*additions, Bias(root, total, _total(constants))]


def _total(rows: list[FloatArray]) -> FloatArray:
    return np.asarray(np.sum(rows, axis=0), np.float32)


def _additions(root: str, terms: list[str]) -> list[Layer]:
    """Sums of the first two terms, the first three and so on; the last is the root."""
    totals = [*(f"{root}.sum{number}" for number in range(2, len(terms))), root]
    lefts = [terms[0], *totals]
    return [Add(total, left, right) for total, left, right in zip(totals, lefts, terms[1:], strict=False)]


def _without_unread(graph: LayerGraph) -> LayerGraph:
    """Leaves out additions and products that nothing reads."""
    layers = list(graph.layers)
    while True:
        read = {name for layer in layers for name in inputs_of(layer)} | {graph.output}
        kept = [layer for layer in layers if layer.output in read or not isinstance(layer, Add | Bias | Dense)]
        if len(kept) == len(layers):
            return replace(graph, layers=tuple(layers))
        layers = kept


#: Each takes and gives a graph whose logits predict the same.
REWRITES: tuple[Callable[[LayerGraph], LayerGraph], ...] = (
    factors_in_products,
    without_last_norm,
    functions_of_tables,
    means_before_products,
    scores_of_inputs,
    norms_beside_signed_parts,
    tables_to_dense_terms,
    dense_terms_together,
    padded_heads,
)
