# SPDX-License-Identifier: Apache-2.0
"""Operators that hetfab adds to ONNX, each a function body of standard operators in a text file beside this one.

The bodies make a model run in any ONNX runtime; hetfab matches the node by name and never reads the body. Bodies of
quantized operators (``QSegMean``, QONNX's ``Quant``) take the integer steps of the hardware, integers carried in
floating point wide enough to be exact.
"""

import functools
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx

DOMAIN = "hgnn"
DOMAIN_VERSION = 2
QUANT_DOMAIN = "qonnx.custom_op.general"
QUANT_DOMAIN_VERSION = 1

#: Operator name -> (domain, index of the input that is the node count, -1 for none).
OPERATORS = {
    "SegMean": (DOMAIN, 3),
    "SegSum": (DOMAIN, 3),
    "SegSumWeighted": (DOMAIN, 4),
    "EdgeAtt": (DOMAIN, 5),
    "EdgeAttTyped": (DOMAIN, 7),
    "EdgeDot": (DOMAIN, 5),
    "QSegMean": (DOMAIN, 3),
    "QSegSum": (DOMAIN, 3),
    "QSegSumWeighted": (DOMAIN, 4),
    "QEdgeAtt": (DOMAIN, 5),
    "QEdgeAttTyped": (DOMAIN, 7),
    "QEdgeDot": (DOMAIN, 5),
    "QPartMean": (DOMAIN, -1),
    "QTokenAtt": (DOMAIN, -1),
    "QFuse": (DOMAIN, -1),
    "QTable": (DOMAIN, -1),
    "QLayerNorm": (DOMAIN, -1),
    "JoinParts": (DOMAIN, -1),
    "PartMean": (DOMAIN, -1),
    "TokenAtt": (DOMAIN, -1),
    "Fuse": (DOMAIN, -1),
    "QAveragePool": (DOMAIN, -1),
    "Quant": (QUANT_DOMAIN, -1),
    "BipolarQuant": (QUANT_DOMAIN, -1),
}


@functools.cache
def _text(name: str) -> str:
    return (Path(__file__).parent / f"{name}.txt").read_text(encoding="utf-8")


def function(name: str, opset: int = 20) -> "onnx.FunctionProto":
    """The body of an operator.

    Args:
        name: A key of ``OPERATORS``.
        opset: Version of the standard operators; it must be the model's own.
    """
    import onnx.parser

    return onnx.parser.parse_function(_text(name).replace("OPSET", str(opset)))
