# SPDX-License-Identifier: Apache-2.0
"""Reads ONNX files: checks them, brings the ``hgnn`` domain to its version, replaces function bodies by hetfab's."""

import hashlib
from collections.abc import Mapping
from pathlib import Path

import onnx
import onnx.checker
import onnx.external_data_helper
import onnx.helper
import onnx.numpy_helper
import onnx.shape_inference
from google.protobuf.message import DecodeError

from hetfab.overlay.errors import (
    BindingInvalidError,
    InputsUnboundError,
    ModelStructureError,
    ModelUnreadableError,
    ModelVersionError,
    counted,
)
from hetfab.overlay.model import hgnn
from hetfab.overlay.model.binding import (
    METADATA_KEY,
    Binding,
    EdgeWeights,
    Features,
    InDegreeWeights,
    MetapathMean,
    NamedMean,
    NamedWeights,
    NodeCount,
    Samples,
    by_name,
    parse,
)
from hetfab.overlay.model.layers import type_name
from hetfab.overlay.model.meaning import meaning

OPSETS = range(17, 22)
LARGEST_IR_VERSION = 10


def read_model(path: Path) -> onnx.ModelProto:
    """Reads and checks a model.

    The returned model is in the current version of the domain ``hgnn``: where a file of version 1 has the node
    count as an attribute, it has an initializer. Every function body that hetfab knows is hetfab's own.

    Raises:
        ModelUnreadableError: The file is missing, is not ONNX or fails the ONNX checker.
        ModelVersionError: Its opset or IR version is not read.
        ModelStructureError: Inputs or initializers are of types that hetfab does not read, or graph operators have too
            many or too few inputs; all are named.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise _unreadable(path, error.strerror or str(error)) from error
    model = onnx.ModelProto()
    try:
        model.ParseFromString(data)
    except DecodeError as error:
        raise _unreadable(path, "it is not ONNX, or it is truncated") from error
    if not model.HasField("graph") or not model.graph.node:
        raise _unreadable(path, "it holds no graph")
    _check_names(model.graph, path)
    _load_external_data(model, path)
    _check_version(model, path)
    _check_types(model)
    checked = check_model(normalise(model), str(path))
    _check_operands(checked)
    _check_tensors(checked, path)
    return checked


def check_model(model: onnx.ModelProto, source: str) -> onnx.ModelProto:
    """Runs the ONNX checker with shape inference.

    Raises:
        ModelUnreadableError: The checker refuses the model.
    """
    try:
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError, ValueError, RuntimeError) as error:
        reason = next(iter(str(error).strip().splitlines()), "no reason")
        raise ModelUnreadableError(
            f"cannot read the model '{source}': the ONNX checker says: {reason}",
            "a model that `onnx.checker.check_model(model, full_check=True)` accepts",
            "correct the export, or check that the file was copied whole",
        ) from error
    return model


def check_one_output(model: onnx.ModelProto) -> None:
    """Refuses a model without outputs, or with several.

    Raises:
        ModelStructureError: There is not exactly one output.
    """
    if len(model.graph.output) != 1:
        names = ", ".join(output.name for output in model.graph.output)
        raise ModelStructureError(
            f"the model has {len(model.graph.output)} outputs: {names}",
            "one output",
            "export the model with the logits as its only output",
        )


def opset(model: onnx.ModelProto) -> int:
    """Version of the standard operators that a model uses."""
    return next((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), 0)


def is_quantized(model: onnx.ModelProto) -> bool:
    """Whether a model has ``Quant`` operators."""
    return any(node.op_type == "Quant" for node in model.graph.node)


def metadata(model: onnx.ModelProto) -> str | None:
    """The input binding that the file carries, None when it has none."""
    return next((entry.value for entry in model.metadata_props if entry.key == METADATA_KEY), None)


def bindings_of(model: onnx.ModelProto, overrides: Mapping[str, Binding] | None = None) -> dict[str, Binding]:
    """The meaning of a model's inputs, from the overrides, else the file, else the inputs' names.

    Raises:
        InputsUnboundError: The meaning of inputs is unknown.
        BindingInvalidError: The binding is malformed, or contradicts the inputs' types and dimensions.
        ModelStructureError: An image has free sizes.
    """
    names = [value.name for value in graph_inputs(model)]
    try:
        bindings = parse(names, metadata(model), overrides, _samples_by_form(model))
    except InputsUnboundError as error:
        if not any(node.op_type.startswith("Scatter") for node in model.graph.node):
            raise
        advice = "the model gathers and scatters rows itself, as PyTorch Geometric exports it: use `hetfab lift` first"
        raise InputsUnboundError(error.found, error.expected, advice) from error
    wrong = [text for value in graph_inputs(model) if (text := wrong_form(value, bindings[value.name]))]
    if wrong:
        raise BindingInvalidError(
            "inputs of the model have another form than what they mean: " + "; ".join(wrong),
            "float32 with two dimensions for features and means and with one for weights of edges, "
            "int64 with one for ids and edge types, "
            "an int64 scalar for counts, float32 with the batch and the sizes of a sample for samples",
            "correct the input binding (`--bind FILE`), the inputs' names, or the export",
        )
    return bindings


def _samples_by_form(model: onnx.ModelProto) -> dict[str, Binding]:
    """Samples, as which a model's only input is read: images, and rows whose name no rule covers.

    Raises:
        ModelStructureError: An image has free sizes.
    """
    inputs = graph_inputs(model)
    dims = [list(value.type.tensor_type.shape.dim) for value in inputs]
    if len(inputs) != 1 or inputs[0].type.tensor_type.elem_type != onnx.TensorProto.FLOAT:
        return {}
    name, sizes = inputs[0].name, dims[0][1:]
    if len(sizes) != 3 and not (len(sizes) == 1 and by_name(name) is None):
        return {}
    if any(not size.dim_value for size in sizes):
        shape = " x ".join(str(size.dim_value or size.dim_param or "?") for size in sizes)
        raise ModelStructureError(
            f"the input '{name}' has samples of {shape}, with free sizes",
            "fixed sizes: windows, buffers and constants are laid out for one size",
            "export the model for one size; only the batch, the first dimension, may be free",
        )
    return {name: Samples(tuple(size.dim_value for size in sizes))}


def wrong_form(value: onnx.ValueInfoProto, binding: Binding) -> str | None:
    """Says where an input's type and number of dimensions contradict its meaning; None where they do not."""
    kinds = onnx.TensorProto
    sizes = tuple(dim.dim_value for dim in value.type.tensor_type.shape.dim)[1:]
    match binding:
        case Samples(shape):
            form = kinds.FLOAT, 1 + len(shape)
        case Features() | NamedMean() | MetapathMean():
            form = kinds.FLOAT, 2
        case NodeCount():
            form = kinds.INT64, 0
        case EdgeWeights() | InDegreeWeights() | NamedWeights():
            form = kinds.FLOAT, 1
        case _:
            form = kinds.INT64, 1
    found = value.type.tensor_type.elem_type, len(value.type.tensor_type.shape.dim)
    if found == form and isinstance(binding, Samples) and binding.shape != sizes:
        return f"'{value.name}' has samples of {' x '.join(map(str, sizes))}, but means {meaning(binding)}"
    if found == form:
        return None
    (kind, rank), name = found, value.name
    dimensions = f"{counted(rank, 'dimension')}" if rank else "no dimension"
    return f"'{name}' is {type_name(kind)} with {dimensions}, but means {meaning(binding)}"


def model_hash(model: onnx.ModelProto) -> str:
    """SHA-256 of a model in hexadecimal, by which a program names the model that it was compiled from.

    Args:
        model: As ``read_model`` returns it.
    """
    return hashlib.sha256(model.SerializeToString(deterministic=True)).hexdigest()


def input_widths(model: onnx.ModelProto) -> dict[str, int]:
    """Number of columns of each matrix input whose second dimension is fixed."""
    widths = {}
    for value in graph_inputs(model):
        dims = value.type.tensor_type.shape.dim
        if len(dims) == 2 and dims[1].HasField("dim_value"):
            widths[value.name] = dims[1].dim_value
    return widths


def graph_inputs(model: onnx.ModelProto) -> list[onnx.ValueInfoProto]:
    """Inputs of the model that are not initializers."""
    constants = {tensor.name for tensor in model.graph.initializer}
    return [value for value in model.graph.input if value.name not in constants]


def normalise(model: onnx.ModelProto) -> onnx.ModelProto:
    """Returns a copy in the current version of the domain ``hgnn``, with hetfab's function bodies."""
    model = _copy(model)
    version = next((entry.version for entry in model.opset_import if entry.domain == hgnn.DOMAIN), 0)
    if version == 1:
        _counts_to_inputs(model)
    for entry in model.opset_import:
        if entry.domain == hgnn.DOMAIN:
            entry.version = hgnn.DOMAIN_VERSION
    _replace_bodies(model)
    return model


def _check_names(graph: onnx.GraphProto, path: Path) -> None:
    """Refuses names that are no text, which protobuf gives as bytes."""
    names: list[object] = [graph.name]
    for node in graph.node:
        names += [node.name, node.op_type, node.domain, *node.input, *node.output]
        names += [attribute.name for attribute in node.attribute]
    names += [entry.name for entries in (graph.initializer, graph.input, graph.output) for entry in entries]
    if not all(isinstance(name, str) for name in names):
        raise _unreadable(path, "a name in it is not UTF-8")


def _load_external_data(model: onnx.ModelProto, path: Path) -> None:
    """Brings weights that an exporter put into files beside the model into it."""
    try:
        onnx.external_data_helper.load_external_data_for_model(model, str(path.parent))
    except (OSError, ValueError, RuntimeError, TypeError, onnx.checker.ValidationError) as error:
        is_text = not isinstance(error, TypeError)
        reason = str(error).strip().splitlines()[0] if is_text else "a name is not UTF-8"
        raise ModelUnreadableError(
            f"cannot read weights of the model '{path}' that are in another file: {reason}",
            "the files that the exporter wrote, beside the model",
            "copy them too, or export the model with its weights in one file",
        ) from error


def _check_version(model: onnx.ModelProto, path: Path) -> None:
    version = opset(model)
    if version not in OPSETS or model.ir_version > LARGEST_IR_VERSION:
        raise ModelVersionError(
            f"'{path}' has opset {version} and IR version {model.ir_version}",
            f"opset {OPSETS[0]} to {OPSETS[-1]} and an IR version of at most {LARGEST_IR_VERSION}",
            "export the model again with such an opset, or convert it with onnx.version_converter",
        )
    domains = {entry.domain: entry.version for entry in model.opset_import}
    found = domains.get(hgnn.DOMAIN, hgnn.DOMAIN_VERSION)
    if found not in (1, hgnn.DOMAIN_VERSION):
        raise ModelVersionError(
            f"'{path}' uses version {found} of the operators '{hgnn.DOMAIN}'",
            f"version 1 or {hgnn.DOMAIN_VERSION}",
            "update hetfab, or export the model with its current operators",
        )


def _check_types(model: onnx.ModelProto) -> None:
    """Names inputs and weights of other types, whose consequences the ONNX checker would tell instead."""
    kinds = onnx.TensorProto
    types = [("input", value.name, value.type.tensor_type.elem_type) for value in graph_inputs(model)]
    wrong = [entry for entry in types if entry[2] not in (kinds.FLOAT, kinds.INT64)]
    other_floats = (kinds.FLOAT16, kinds.BFLOAT16, kinds.DOUBLE)
    types = [("initializer", tensor.name, tensor.data_type) for tensor in model.graph.initializer]
    wrong += [entry for entry in types if entry[2] in other_floats]
    if wrong:
        names = [f"{what} '{name}' is {type_name(kind)}" for what, name, kind in wrong]
        raise ModelStructureError(
            "the model has types that hetfab does not read: " + ", ".join(names),
            "float32 for features, means and weights; int64 for ids, edge types and counts",
            "export the model with these types, in PyTorch after `model.float()`",
        )


def _check_operands(model: onnx.ModelProto) -> None:
    """Names operators of hetfab with more or fewer inputs than they take, which the ONNX checker lets pass."""
    taken = {(body.domain, body.name): len(body.input) for body in model.functions if body.name in hgnn.OPERATORS}
    wrong = [
        f"'{node.name or ''.join(node.output[:1])}' ({node.op_type}) has {len(node.input)} instead of {count}"
        for node in model.graph.node
        if (count := taken.get((node.domain, node.op_type), len(node.input))) != len(node.input)
    ]
    if wrong:
        raise ModelStructureError(
            "operators have other numbers of inputs than they take: " + ", ".join(wrong),
            f"what version {hgnn.DOMAIN_VERSION} of '{hgnn.DOMAIN}' says; in version 1 the count is no input",
            "export the model again",
        )


def _check_tensors(model: onnx.ModelProto, path: Path) -> None:
    """Refuses constants whose bytes are not what their shape and type take, which the ONNX checker lets pass.

    So it does with attributes that take a function's value outside of any function.
    """
    attributes = [attribute for node in model.graph.node for attribute in node.attribute]
    for attribute in attributes:
        if attribute.ref_attr_name:
            raise _unreadable(path, f"the attribute '{attribute.name}' is that of a function, and there is none")
    tensors = [attribute.t for attribute in attributes if attribute.type == onnx.AttributeProto.TENSOR]
    for tensor in [*model.graph.initializer, *tensors]:
        try:
            onnx.numpy_helper.to_array(tensor)
        except (ValueError, TypeError, KeyError, OverflowError) as error:
            raise _unreadable(path, f"its constant '{tensor.name}' is damaged: {error}") from error


def _counts_to_inputs(model: onnx.ModelProto) -> None:
    """Version 1 has the node count as attribute ``n``, version 2 as the last input."""
    constants: dict[int, str] = {}
    taken = {tensor.name for tensor in model.graph.initializer}
    for node in model.graph.node:
        if node.domain != hgnn.DOMAIN or node.op_type not in hgnn.OPERATORS:
            continue
        attribute = next((a for a in node.attribute if a.name == "n"), None)
        if attribute is None:
            raise ModelStructureError(
                f"operator '{node.name or node.output[0]}' ({node.op_type}) has no attribute 'n'",
                "the number of destination nodes, which version 1 of the domain has as an attribute",
                "export the model again",
            )
        count = attribute.i
        if count not in constants:
            name = f"n_{count}"
            while name in taken:
                name = f"{name}_"
            constants[count] = name
            taken.add(name)
            model.graph.initializer.append(onnx.helper.make_tensor(name, onnx.TensorProto.INT64, [], [count]))
        node.attribute.remove(attribute)
        node.input.append(constants[count])


def _replace_bodies(model: onnx.ModelProto) -> None:
    """Puts hetfab's bodies in place of those in the file, which may be missing or do something else."""
    used = {(node.domain, node.op_type) for node in model.graph.node}
    known = {(domain, name) for name, (domain, _) in hgnn.OPERATORS.items()}
    others = [f for f in model.functions if (f.domain, f.name) not in known]
    bodies = [hgnn.function(name, opset(model)) for domain, name in sorted(known & used)]
    del model.functions[:]
    model.functions.extend([*others, *bodies])


def _copy(model: onnx.ModelProto) -> onnx.ModelProto:
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    return copy


def _unreadable(path: Path, reason: str) -> ModelUnreadableError:
    return ModelUnreadableError(
        f"cannot read the model '{path}': {reason}",
        f"an ONNX file of opset {OPSETS[0]} to {OPSETS[-1]}",
        "check the path and that the file was copied whole",
    )
