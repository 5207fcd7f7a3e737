# SPDX-License-Identifier: Apache-2.0
"""Lifts models that spell edges out, as PyTorch Geometric exports them, to the operators of the domain ``hgnn``.

A model is interpreted once, tensor by tensor, on a small probe graph: shapes and index arithmetic are numbers there,
and what is computed from features and edges is carried as a value of ``values``. Names of nodes play no part.
"""
