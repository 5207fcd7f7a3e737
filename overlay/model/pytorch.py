# SPDX-License-Identifier: Apache-2.0
"""Exports models of PyTorch Geometric (PyG) as hetfab reads them: graph operators, and the meaning of every input.

Needs torch and torch_geometric, which hetfab does not install.
"""

import contextlib
import io
import types
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
import onnx

from hetfab.overlay.errors import ModelStructureError, PackageMissingError, RelationMissingError, counted
from hetfab.overlay.files import write_atomic
from hetfab.overlay.model.lifting.check import LARGEST_DIFFERENCE
from hetfab.overlay.model.lifting.lift import LiftedModel, lift
from hetfab.overlay.model.lifting.raw_inputs import RawEdges, RawFeatures, RawInput, RawKinds
from hetfab.overlay.model.reader import check_model
from hetfab.overlay.model.runtime import run_model
from hetfab.overlay.model.schema import Relation

_OPSET = 18


def export(
    model: Any, data: Any, path: Path | str, *, target: str | None = None, homogeneous: bool = False
) -> LiftedModel:
    """Writes a trained PyG model as ONNX in the domain ``hgnn``, with its input binding.

    What PyTorch exports is compared with the model on the data, and with the written file on random graphs.
    ``HGTConv``, which PyTorch's exporters do not take, is computed relation by relation while it is exported.

    Args:
        model: A ``torch.nn.Module``. It is called with ``x_dict`` (of the types that have ``x``) and
            ``edge_index_dict``, or, if ``homogeneous``, with ``x``, ``edge_index`` and, where there are several edge
            types, ``edge_type``. Its result is the logits, or logits by node type.
        data: A ``torch_geometric.data.HeteroData``; with ``homogeneous`` it has one node type, and the edges of all
            edge types follow each other in their order, which is also their number.
        path: The file.
        target: Type whose logits are the output, where the model has those of several.
        homogeneous: How the model is called.

    Returns:
        The written model and the meaning of its inputs; relations have the names that ``from_hetero_data`` gives them.

    Raises:
        PackageMissingError: torch or torch_geometric is not installed.
        RelationMissingError: The target is missing, or the data has several node types although ``homogeneous``.
        OperatorsUnsupportedError: The model has operators that are not lifted; all are named.
        ModelStructureError: The exported file computes something else than the model.
    """
    torch = _torch()
    inputs = _inputs(data, homogeneous)
    flat = _flattened(torch, model, inputs, target, homogeneous)
    arguments = tuple(inputs.tensors.values())
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad():
            expected = flat(*arguments).detach().cpu().numpy()
            with exportable(model):
                exported = _exported(torch, flat, inputs, arguments)
    finally:
        model.train(was_training)
    # Relations that the output does not depend on are no inputs of the exported model.
    read = {value.name for value in exported.graph.input}
    if "edge_index" in read and "edge_type" in inputs.raw and "edge_type" not in read:
        raise RelationMissingError(
            "the model does not read edge_type, so that edges of all types are one relation to it",
            "a model that tells the types of edges apart, or data with one edge type",
            "join the edges into one edge type in the data, or give each type its weights",
        )
    found = lift(exported, {name: raw for name, raw in inputs.raw.items() if name in read})
    feed = {name: tensor.detach().cpu().numpy() for name, tensor in inputs.tensors.items()}
    _check(exported, feed, expected)

    def write(file: BinaryIO) -> None:
        file.write(found.model.SerializeToString(deterministic=True))

    write_atomic(Path(path), write)
    return found


def _torch() -> Any:
    try:
        import torch
        import torch_geometric  # noqa: F401 - models and data are its own
    except ImportError as error:
        raise PackageMissingError(
            f"the Python package '{error.name}' is not installed",
            "torch and torch_geometric, which made the model",
            "install them: pip install torch torch_geometric onnx onnxscript",
        ) from error
    return torch


class _Inputs:
    """A model's inputs in order: tensors, and what they are."""

    def __init__(self) -> None:
        self.tensors: dict[str, Any] = {}
        self.raw: dict[str, RawInput] = {}
        self.features: dict[str, str] = {}
        self.edges: dict[tuple[str, str, str], str] = {}


def _inputs(data: Any, homogeneous: bool) -> _Inputs:
    found = _Inputs()
    for name in data.node_types:
        rows = getattr(data[name], "x", None)
        if rows is not None:
            found.features[name] = f"x_{name}"
            found.tensors[f"x_{name}"] = rows.float()
            found.raw[f"x_{name}"] = RawFeatures(name, rows.shape[1])
    relations = _relations(data.edge_types)
    if homogeneous:
        _stack_edges(found, data, relations)
        return found
    for edge_type, relation in relations.items():
        name = f"edge_index_{relation.name}"
        found.edges[edge_type] = name
        found.tensors[name] = data[edge_type].edge_index
        found.raw[name] = RawEdges(relation.name, relation)
    return found


def _relations(edge_types: Sequence[tuple[str, str, str]]) -> dict[tuple[str, str, str], Relation]:
    """As ``from_hetero_data`` names them."""
    shared = Counter(name for _, name, _ in edge_types)
    return {
        (source, name, destination): Relation(
            source, name if shared[name] == 1 else f"{source}_{name}_{destination}", destination
        )
        for source, name, destination in edge_types
    }


def _stack_edges(found: _Inputs, data: Any, relations: Mapping[tuple[str, str, str], Relation]) -> None:
    """The edges of all types behind each other, with their types where there are several."""
    import torch

    if len(data.node_types) != 1 or not relations:
        raise RelationMissingError(
            f"the data has {counted(len(data.node_types), 'node type')} and {counted(len(relations), 'edge type')}",
            "one node type and at least one edge type, for a model that is called with x and edge_index",
            "leave out homogeneous=True and call the model with x_dict and edge_index_dict",
        )
    pairs = [data[edge_type].edge_index for edge_type in relations]
    found.tensors["edge_index"] = torch.cat(pairs, dim=1)
    only = next(iter(relations.values()))
    found.raw["edge_index"] = RawEdges(only.name, only)
    if len(relations) > 1:
        kinds = [torch.full((pair.shape[1],), number) for number, pair in enumerate(pairs)]
        found.tensors["edge_type"] = torch.cat(kinds)
        found.raw["edge_type"] = RawKinds("edge_index", len(relations), tuple(relations.values()))


def _flattened(torch: Any, model: Any, inputs: _Inputs, target: str | None, homogeneous: bool) -> Any:
    """The model as a module that takes its inputs one by one and returns one tensor."""

    class Flat(torch.nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, *arguments: Any) -> Any:
            given = dict(zip(inputs.tensors, arguments, strict=True))
            if homogeneous:
                return _logits(self.model(*arguments), target)
            rows = {node_type: given[name] for node_type, name in inputs.features.items()}
            edges = {edge_type: given[name] for edge_type, name in inputs.edges.items()}
            return _logits(self.model(rows, edges), target)

    return Flat()


def _logits(found: Any, target: str | None) -> Any:
    """The output of the model, or that of one type."""
    if not isinstance(found, Mapping):
        return found
    if target is None and len(found) == 1:
        [target] = found
    if target not in found:
        raise RelationMissingError(
            f"the model returns {', '.join(map(str, found))}, the target is {target!r}",
            "logits of one node type",
            "name one of these types with target=",
        )
    return found[target]


def _exported(torch: Any, flat: Any, inputs: _Inputs, arguments: tuple[Any, ...]) -> onnx.ModelProto:
    """What PyTorch's exporter by tracing writes; it takes layers whose shapes depend on edges too."""
    free = {name: {int(isinstance(raw, RawEdges)): f"size_{name}"} for name, raw in inputs.raw.items()}
    file = io.BytesIO()
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        torch.onnx.export(
            flat,
            arguments,
            file,
            dynamo=False,
            input_names=list(inputs.tensors),
            output_names=["logits"],
            dynamic_axes=free,
            opset_version=_OPSET,
        )
    return check_model(onnx.load_from_string(file.getvalue()), "what torch.onnx.export wrote")


def _check(exported: onnx.ModelProto, feed: Mapping[str, npt.NDArray[Any]], expected: npt.NDArray[Any]) -> None:
    """Compares what PyTorch exported with the model, on the data."""
    found = run_model(exported, feed, ["logits"])[0]
    difference = float(np.abs(found - expected).max(initial=0)) / max(float(np.abs(expected).max(initial=0)), 1e-6)
    if not difference <= LARGEST_DIFFERENCE:
        raise ModelStructureError(
            f"what torch.onnx.export wrote differs from the model by {difference:.1e} of the largest logit on the data",
            f"at most {LARGEST_DIFFERENCE:.0e}",
            "look for layers that are random in eval mode, or that the exporter warns of",
        )


@contextlib.contextmanager
def exportable(model: Any) -> Iterator[None]:
    """While it is entered, each ``HGTConv`` of a model computes the same in a form that PyTorch's exporters take.

    Args:
        model: A ``torch.nn.Module``.
    """
    from torch_geometric.nn import HGTConv

    replaced = [module for module in model.modules() if isinstance(module, HGTConv)]
    for module in replaced:
        module.forward = types.MethodType(_hgt_forward, module)
    try:
        yield
    finally:
        for module in replaced:
            del module.forward


def _hgt_forward(layer: Any, x_dict: Mapping[str, Any], edge_index_dict: Mapping[tuple[str, str, str], Any]) -> Any:
    """HGT (Hu et al., 2020), as ``HGTConv`` computes it, relation by relation."""
    import torch

    projected = layer.kqv_lin(x_dict)
    mixed = {}
    for node_type in x_dict:
        if node_type in layer.dst_node_types:
            into = {relation: ends for relation, ends in edge_index_dict.items() if relation[2] == node_type}
            mixed[node_type] = _hgt_attention(layer, projected, node_type, into)
    found = layer.out_lin({name: torch.nn.functional.gelu(rows) for name, rows in mixed.items()})
    for name, rows in found.items():
        if rows.size(-1) == x_dict[name].size(-1):
            gate = layer.skip[name].sigmoid()
            found[name] = gate * rows + (1 - gate) * x_dict[name]
    return found


def _hgt_attention(layer: Any, projected: Mapping[str, Any], node_type: str, into: Mapping[Any, Any]) -> Any:
    """One softmax over the edges of all relations into a type."""
    import torch
    from torch_geometric.utils import scatter, softmax

    heads, channels = layer.heads, layer.out_channels
    width = channels // heads

    def third(name: str, number: int) -> Any:
        return projected[name][:, number * channels : (number + 1) * channels].view(-1, heads, width)

    queries = third(node_type, 1)
    if not into:
        return queries.new_zeros(queries.size(0), channels)
    logits, messages, destinations = [], [], []
    for relation, ends in into.items():
        number = layer.edge_types_map[relation]
        keys, values = (
            torch.einsum("nhd,hde->nhe", third(relation[0], place), weights.weight[number :: len(layer.edge_types)])
            for place, weights in ((0, layer.k_rel), (2, layer.v_rel))
        )
        prior = layer.p_rel["__".join(relation)]
        logits.append((queries[ends[1]] * keys[ends[0]]).sum(-1) * prior / width**0.5)
        messages.append(values[ends[0]])
        destinations.append(ends[1])
    joined = torch.cat(destinations)
    shares = softmax(torch.cat(logits), joined, num_nodes=queries.size(0))
    found = scatter(torch.cat(messages) * shares.unsqueeze(-1), joined, dim=0, dim_size=queries.size(0), reduce="sum")
    return found.view(-1, channels)
