# SPDX-License-Identifier: Apache-2.0
"""Lowers operators that onnxruntime runs on the host: each with the rounding behind it, between stored tensors."""

import numpy as np
import onnx

from hetfab.overlay.compiler.lowered import HostStep, Stored
from hetfab.overlay.compiler.lowering_draft import (
    Draft,
    FloatConstant,
    Integers,
    OnHost,
    RefusedError,
    constant_of,
    exponent_of,
    rows_of,
)
from hetfab.overlay.isa.arithmetic import ACTIVATION_BITS, TERM_BITS
from hetfab.overlay.model.host_operators import host_model, host_operator
from hetfab.overlay.model.layers import attributes, describe
from hetfab.overlay.model.scales import exact_scales

_LOGIT_BITS = 32


def on_host(draft: Draft, node: onnx.NodeProto, opset: int) -> OnHost | None:
    """An operator as one of the host, None where the host must not run it: its rows are those of stored tensors."""
    reads: dict[str, Stored] = {}
    constants = {}
    for name in node.input:
        match draft.values.get(name):
            case FloatConstant(array):
                constants[name] = array
            case Stored() | Integers():
                try:
                    reads[name] = rows_of(draft, name, node)
                except RefusedError:
                    return None
            case _ if name:
                return None
    found = host_operator(node, {name: tensor.channels for name, tensor in reads.items()}, constants, opset)
    return None if found is None else OnHost(node, reads, *found)


def rounded_on_host(draft: Draft, value: OnHost, quant: onnx.NodeProto, *, logits: bool) -> Stored:
    """The tensor that an operator of the host and the rounding behind it write."""
    name, flags = quant.output[0], attributes(quant)
    bits, signed = int(constant_of(draft, quant.input[3])), bool(flags.get("signed", 1))
    exponent = exponent_of(exact_scales(constant_of(draft, quant.input[1]), quant), quant)
    allowed = (TERM_BITS,) if logits else ACTIVATION_BITS
    if bits not in allowed or flags.get("narrow", 0) or (logits and not signed):
        raise RefusedError(
            f"what the host computes is rounded to {allowed[0]}"
            + (f" to {allowed[-1]}" if len(allowed) > 1 else "")
            + " bits, not narrow"
        )
    stored_bits, origin = (_LOGIT_BITS, "output") if logits else (bits, "host")
    output = draft.store(Stored(name, value.channels, stored_bits, signed, exponent, origin))
    constants = dict(value.operator.constants) | {each: constant_of(draft, each) for each in quant.input[1:]}
    rows = {each: tensor.channels for each, tensor in value.inputs.items()}
    model = host_model(
        [value.node, quant], rows, {k: np.asarray(v) for k, v in constants.items()}, value.operator.opset
    )
    inputs = tuple(tensor.name for tensor in value.inputs.values())
    draft.host.append(HostStep(describe(value.node), inputs, name, model.SerializeToString(deterministic=True)))
    return output
