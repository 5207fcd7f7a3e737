# SPDX-License-Identifier: Apache-2.0
"""Rewrites of the float model that move or add a rounding; they are visible in the quantized file."""

from dataclasses import replace

import numpy as np

from hetfab.overlay.model.layers import Add, Dense, Layer, LayerGraph


def tables_to_dense_terms(graph: LayerGraph) -> LayerGraph:
    """Makes a learned table that is added to a sum a dense layer with the identity as weights.

    Only a GEMM core writes the accumulators that a sum starts from. Exporters leave such tables behind where they
    fold a dense layer of a constant.
    """
    layers: list[Layer] = []
    channels = dict(graph.channels)
    terms: dict[str, str] = {}
    for layer in graph.layers:
        if isinstance(layer, Add):
            for table in (layer.left, layer.right):
                if table in graph.tables and table not in terms:
                    terms[table] = f"{table}.term"
                    channels[terms[table]] = channels[table]
                    identity = np.eye(channels[table], dtype=np.float32)
                    layers.append(Dense(terms[table], table, identity, None))
            layer = replace(layer, left=terms.get(layer.left, layer.left), right=terms.get(layer.right, layer.right))
        layers.append(layer)
    return replace(graph, layers=tuple(layers), channels=channels)
