# SPDX-License-Identifier: Apache-2.0
"""What hls4ml runs for ``HeteroDense``, and where in its flows. Imports hls4ml.

A pass touches models alone that hold such a layer, or a product that asks for one.
"""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hls4ml.backends import get_backend
from hls4ml.model.flow import get_flow, update_flow
from hls4ml.model.layers import Activation, register_layer
from hls4ml.model.optimizer import ModelOptimizerPass, OptimizerPass, register_pass
from hls4ml.model.types import UnspecifiedPrecisionType

from hetfab.hls.hls4ml_extension.layer import BACKENDS, HEADER_FOLDER, HeteroDense, HeteroDenseCall, HeteroDenseConfig
from hetfab.hls.hls4ml_extension.products import HeteroFromMatMul
from hetfab.hls.hls4ml_extension.types import rounds_as_the_layer

_HERE = Path(__file__).resolve().parent
_CORES = _HERE.parent / "include" / "hetfab"
#: The layer's own header, and all that it includes of the cores'.
_LAYER = "hetero_dense.hpp"
CORE_HEADERS = (
    "mac_arrays.hpp",
    "dsp_chain.hpp",
    "dsp_packing.hpp",
    "plane_dot.hpp",
    "rounding.hpp",
    "ints.hpp",
)


def register_all() -> None:
    """Registers layer, templates and passes; hls4ml raises where it is called twice."""
    register_layer("HeteroDense", HeteroDense)
    backend = get_backend("Vivado")
    # Projects for Vitis run Vivado's templates and passes after their own.
    backend.register_template(HeteroDenseConfig)
    backend.register_template(HeteroDenseCall)
    for name, made in (
        ("hetero_from_mat_mul", HeteroFromMatMul),
        ("hetero_fuse", HeteroFuse),
        ("hetero_precision", HeteroPrecision),
        ("hetero_freeze", HeteroFreeze),
        ("hetero_headers", HeteroHeaders),
    ):
        register_pass(name, made)
    _insert("parse_qonnx", "fuse_quant_with_constant", ["hetero_from_mat_mul"])
    _insert("convert", "infer_precision_types", ["hetero_fuse", "hetero_precision"])
    update_flow("vivado:optimize", add_optimizers=["hetero_freeze"])
    for name in (backend.lower() for backend in BACKENDS):
        for flow in ("write", "fifo_depth_optimization"):
            _insert(f"{name}:{flow}", f"{name}:write_hls", ["hetero_headers"])


def _insert(flow: str, before: str, passes: Sequence[str]) -> None:
    """Puts passes before another one: hls4ml itself only removes and appends."""
    order = list(get_flow(flow).optimizers)
    tail = order[order.index(before) :]
    update_flow(flow, remove_optimizers=tail)
    update_flow(flow, add_optimizers=[*passes, *tail])


def _is_unknown(variable: Any) -> bool:
    return isinstance(variable.type.precision, UnspecifiedPrecisionType)


def _precision_behind(activation: Any) -> Any:
    quantizer = activation.get_attr("quantizer")
    return activation.get_output_variable().type.precision if quantizer is None else quantizer.hls_type


class HeteroFuse(OptimizerPass):  # type: ignore[misc]
    """A ReLU or a quantizer behind a ``HeteroDense`` becomes the end of the layer."""

    def match(self, node: Any) -> bool:
        """Whether nothing else reads the layer, and the activation is one that it can end with."""
        if not isinstance(node, Activation) or str(node.get_attr("activation")).lower() not in ("linear", "relu"):
            return False
        dense = node.get_input_node()
        return (
            isinstance(dense, HeteroDense)
            and _is_unknown(dense.get_output_variable())
            and len(dense.get_output_nodes()) == 1
            and not set(dense.outputs) & set(node.model.outputs)
            and (_is_unknown(node.get_output_variable()) or rounds_as_the_layer(_precision_behind(node)))
        )

    def transform(self, model: Any, node: Any) -> bool:
        """Moves the activation into the layer."""
        dense = node.get_input_node()
        if str(node.get_attr("activation")).lower() == "relu":
            dense.set_attr("relu", True)
        dense.get_output_variable().type.precision = _precision_behind(node)
        model.remove_node(node)
        return True


class HeteroPrecision(OptimizerPass):  # type: ignore[misc]
    """Exact types for results whose type is 'auto': hls4ml's own pass would take the model's default."""

    def match(self, node: Any) -> bool:
        """Whether the layer's input has a type and its output none."""
        return (
            isinstance(node, HeteroDense)
            and _is_unknown(node.get_output_variable())
            and not _is_unknown(node.get_input_variable())
        )

    def transform(self, model: Any, node: Any) -> bool:
        """Sets the type."""
        node.take_exact_precision()
        return True


class HeteroFreeze(OptimizerPass):  # type: ignore[misc]
    """Packs the weights once all types are final."""

    def match(self, node: Any) -> bool:
        """Whether a layer is not packed yet."""
        return isinstance(node, HeteroDense) and node.get_attr("packing") is None

    def transform(self, model: Any, node: Any) -> bool:
        """Packs the layer."""
        node.freeze()
        # A pipelined top function would unroll the layer's loops.
        model.config.pipeline_style = "dataflow"
        return False


class HeteroHeaders(ModelOptimizerPass):  # type: ignore[misc]
    """Copies the cores' headers into projects that call them, before hls4ml writes and packs the folder."""

    def __init__(self) -> None:
        self.name = "hetero_headers"

    def transform(self, model: Any) -> bool:
        """Copies the headers."""
        if any(isinstance(node, HeteroDense) for node in model.get_layers()):
            folder = Path(model.config.get_output_dir()) / "firmware" / HEADER_FOLDER
            folder.mkdir(parents=True, exist_ok=True)
            for path in (_HERE / _LAYER, *(_CORES / name for name in CORE_HEADERS)):
                shutil.copyfile(path, folder / path.name)
        return False
