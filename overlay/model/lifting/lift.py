# SPDX-License-Identifier: Apache-2.0
"""Turns a model that spells edges out into one of the domain ``hgnn``, and checks that both compute the same."""

from collections.abc import Mapping
from dataclasses import dataclass

import onnx
import onnx.helper
import onnx.inliner

from hetfab.overlay.errors import BindingInvalidError, ModelStructureError, OperatorsUnsupportedError, counted
from hetfab.overlay.model.binding import (
    METADATA_KEY,
    Binding,
    End,
    Features,
    InDegreeWeights,
    NodeCount,
    to_json,
)
from hetfab.overlay.model.lifting.check import Pair, check_lifted
from hetfab.overlay.model.lifting.context import Context
from hetfab.overlay.model.lifting.edge_names import EdgeNames
from hetfab.overlay.model.lifting.emitter import Emitter, model_of
from hetfab.overlay.model.lifting.interpreter import interpret
from hetfab.overlay.model.lifting.linear import Atom, Linear, Space
from hetfab.overlay.model.lifting.probe import all_tensors, free_sizes, probe_feed, without_branches
from hetfab.overlay.model.lifting.raw_inputs import RawEdges, RawFeatures, RawInputs, RawKinds
from hetfab.overlay.model.lifting.values import (
    Array,
    Block,
    Blocks,
    EdgeIndex,
    EdgeInput,
    EdgeKinds,
    Known,
    Loops,
    Rows,
    Stored,
    Value,
)
from hetfab.overlay.model.reader import check_model, check_one_output, graph_inputs, opset

SMALLEST_OPSET = 20
_VIEWS = ("Reshape", "Cast", "Identity", "Squeeze", "Unsqueeze")


@dataclass(frozen=True, eq=False)
class LiftedModel:
    """A lifted model.

    Attributes:
        model: In the domain ``hgnn``, with its input binding in the metadata.
        bindings: The meaning of its inputs.
        nodes_before: Operators of the exported model.
        largest_difference: Between the outputs of both models on random graphs, relative to the largest output.
        graphs: How many random graphs both ran on.
    """

    model: onnx.ModelProto
    bindings: Mapping[str, Binding]
    nodes_before: int
    largest_difference: float
    graphs: int


def lift(model: onnx.ModelProto, raw: RawInputs) -> LiftedModel:
    """Lifts a model.

    Args:
        model: The exported model, of opset 17 to 21.
        raw: What its inputs are, as ``raw_inputs`` finds it.

    Raises:
        OperatorsUnsupportedError: Operators are not recognised; all are named.
        ModelStructureError: The model does not run on small graphs, or the lifted one computes something else.
    """
    check_one_output(model)
    plain = onnx.inliner.inline_local_functions(model) if model.functions else model
    raw = _with_kinds(plain, raw)
    flat, sizes, probe = _probed(plain, raw)
    context, edges = _context(flat, raw, sizes, probe)
    refused = interpret(context, flat.graph.node)
    output = model.graph.output[0].name
    found = context.values[output]
    if not refused and not (isinstance(found, Rows) and len(found.shape) == 1):
        refused = [f"output '{output}': it is not one row [classes] for each node"]
    if refused:
        raise OperatorsUnsupportedError(
            f"{counted(len(refused), 'operator')} not lifted to the domain hgnn:",
            "what PyTorch Geometric exports of SAGEConv, GCNConv, GATConv, RGCNConv, RGATConv and HANConv, and of "
            "dense layers",
            "change the model as each line says; docs/pyg.md has a table of what is lifted",
            refused,
        )
    assert isinstance(found, Rows)
    edge_names = EdgeNames(raw)
    lifted, bindings, blocks = _emit(found.linear, model, raw, edge_names)
    difference, graphs = check_lifted(Pair(plain, lifted, raw, {edge_names[found]: found for found in blocks}), edges)
    return LiftedModel(lifted, bindings, len(model.graph.node), difference, graphs)


def _probed(model: onnx.ModelProto, raw: RawInputs) -> tuple[onnx.ModelProto, dict[str, int], dict[str, Array]]:
    """The model without branches, the probe graph's sizes, and all tensors on it.

    An export may hold which of two types had more nodes when it was traced, so that other graphs break it. Then types
    get their sizes in the other order.

    Raises:
        ModelStructureError: The model runs on neither graph.
    """
    for turned in (False, True):
        sizes = _probe_sizes(model, raw, turned=turned)
        feed = probe_feed(model, raw, sizes)
        try:
            flat = without_branches(model, feed)
            return flat, sizes, all_tensors(flat, feed)
        except ModelStructureError as error:
            reason = error.found.rpartition("Status Message: ")[2]
    raise ModelStructureError(
        f"the exported model does not run on small graphs whose types have different numbers of nodes: {reason}",
        "a model that takes any numbers of nodes and edges",
        "export it with free sizes (dynamic_axes or dynamic_shapes); say what the inputs mean with --bind FILE if "
        "their names do not (docs/pyg.md)",
    )


def _with_kinds(model: onnx.ModelProto, raw: RawInputs) -> dict[str, RawFeatures | RawEdges | RawKinds]:
    """Fills in how many types edges have, from what is compared with them or chosen by them."""
    constants = _constants(model)
    found: dict[str, RawFeatures | RawEdges | RawKinds] = dict(raw)
    for name, meaning in raw.items():
        if not isinstance(meaning, RawKinds):
            continue
        kinds, views = [0], {name}
        for node in model.graph.node:
            if node.op_type in _VIEWS and node.input[0] in views:
                views.add(node.output[0])
            others = [constants[other] for other in node.input if other in constants]
            if views & set(node.input) and node.op_type == "Equal" and others:
                kinds.append(int(others[0].max()) + 1)
            elif node.op_type == "Gather" and node.input[1] in views and others:
                kinds.append(len(others[0]))
        if meaning.relations and len(meaning.relations) < max(kinds):
            raise BindingInvalidError(
                f"'{name}' names {counted(len(meaning.relations), 'relation')}, and the model tells "
                f"{counted(max(kinds), 'type')} of edges apart",
                "a relation for each type of edges, in their order",
                "correct it as docs/pyg.md describes",
            )
        found[name] = RawKinds(meaning.of, max(*kinds, len(meaning.relations)), meaning.relations)
    return found


def _constants(model: onnx.ModelProto) -> dict[str, Array]:
    arrays = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "Constant" and node.attribute[0].name == "value":
            arrays[node.output[0]] = onnx.numpy_helper.to_array(node.attribute[0].t)
    return arrays


def _probe_sizes(model: onnx.ModelProto, raw: RawInputs, *, turned: bool = False) -> dict[str, int]:
    """Nodes or edges of each input on the probe graph: what the model fixes, else a size that nothing else has.

    ``turned`` gives later inputs the smaller sizes.
    """
    free = free_sizes(model)
    sizes: dict[str, int] = {}
    of_types: dict[str, int] = {}
    inputs = graph_inputs(model)
    for value in reversed(inputs) if turned else inputs:
        dims, meaning = value.type.tensor_type.shape.dim, raw[value.name]
        axis = 1 if isinstance(meaning, RawEdges) else 0
        size = dims[axis].dim_value or next(free)
        # Several tables of one type have a row for each of the same nodes.
        sizes[value.name] = of_types.setdefault(meaning.type, size) if isinstance(meaning, RawFeatures) else size
    for name, meaning in raw.items():
        if isinstance(meaning, RawKinds):
            sizes[name] = sizes[meaning.of]
    _check_sizes_differ(model, raw)
    return sizes


def _check_sizes_differ(model: onnx.ModelProto, raw: RawInputs) -> None:
    """Refuses node types that cannot be told apart, because the model fixes one number of nodes for them."""
    fixed: dict[int, set[str]] = {}
    for value in graph_inputs(model):
        meaning, size = raw[value.name], value.type.tensor_type.shape.dim[0].dim_value
        if isinstance(meaning, RawFeatures) and size:
            fixed.setdefault(size, set()).add(meaning.type)
    for size, types in fixed.items():
        if len(types) > 1:
            raise ModelStructureError(
                f"the node types {', '.join(sorted(types))} have {size} nodes each, fixed in the model",
                "free numbers of nodes",
                "export with dynamic_axes or dynamic_shapes (docs/pyg.md)",
            )


def _context(
    model: onnx.ModelProto,
    raw: RawInputs,
    sizes: Mapping[str, int],
    probe: Mapping[str, Array],
) -> tuple[Context, dict[str, EdgeInput]]:
    spaces: dict[str, Space] = {}
    values: dict[str, Value] = {}
    by_size: dict[int, Space] = {}
    kinds = {meaning.of: (name, meaning.kinds) for name, meaning in raw.items() if isinstance(meaning, RawKinds)}
    edges: dict[str, EdgeInput] = {}
    for value in graph_inputs(model):
        name, meaning = value.name, raw[value.name]
        match meaning:
            case RawFeatures(node_type, width):
                space = spaces.setdefault(node_type, Space(node_type))
                by_size[sizes[name]] = space
                values[name] = Rows(Linear.of(Atom(Stored(name), width, space), name), (width,))
            case RawEdges(_, relation):
                ends = [Space(), Space()]
                for position, node_type in ((0, relation.source), (1, relation.destination)) if relation else ():
                    ends[position] = spaces.setdefault(node_type, Space(node_type))
                edges[name] = EdgeInput(name, ends[0], ends[1], kinds.get(name))
                found = edges[name]
                blocks = (
                    (Block(found),) if found.kinds is None else tuple(Block(found, k) for k in range(found.kinds[1]))
                )
                values[name] = EdgeIndex(blocks)
    for name, meaning in raw.items():
        if isinstance(meaning, RawKinds):
            values[name] = EdgeKinds(edges[meaning.of])
    values |= {tensor.name: Known(probe[tensor.name]) for tensor in model.graph.initializer}
    return Context(probe, by_size, values), edges


def _emit(
    linear: Linear, model: onnx.ModelProto, raw: RawInputs, names: EdgeNames
) -> tuple[onnx.ModelProto, dict[str, Binding], list[Blocks]]:
    emitter = Emitter(names, {value.name for value in graph_inputs(model)} | {model.graph.output[0].name})
    emitter.finish(linear, model.graph.output[0].name)
    read = {name for node in emitter.writer.nodes for name in node.input}
    inputs: list[onnx.ValueInfoProto] = []
    bindings: dict[str, Binding] = {}
    for name, meaning in raw.items():
        if isinstance(meaning, RawFeatures) and name in read:
            bindings[name] = Features(meaning.type)
            shape: list[str | int] = [f"N_{meaning.type}", meaning.width]
            inputs.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape))
    for block in emitter.used:
        for end, prefix in ((End.SOURCE, "src"), (End.DESTINATION, "dst")):
            name = f"{prefix}_{names[block]}"
            bindings[name] = names.binding(block, end)
            inputs.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.INT64, [f"E_{names[block]}"]))
        if emitter.used[block]:
            name = f"w_{names[block]}"
            bindings[name] = InDegreeWeights(names.relation(block[0]), block[0].loops is Loops.REPLACED)
            inputs.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [f"E_{names[block]}"]))
    for node_type, name in emitter.counts.items():
        bindings[name] = NodeCount(node_type)
        inputs.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.INT64, []))
    lifted = model_of(emitter, inputs, (model.graph.output[0].name, linear.channels), max(opset(model), SMALLEST_OPSET))
    onnx.helper.set_model_props(lifted, {METADATA_KEY: to_json(bindings)})
    return check_model(lifted, "the lifted model"), bindings, list(emitter.used)
