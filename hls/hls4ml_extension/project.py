# SPDX-License-Identifier: Apache-2.0
"""A QONNX model as a project of hls4ml whose products are ``HeteroDense``."""

import copy
from pathlib import Path
from typing import Any

import onnx

from hetfab.hls.hls4ml_extension.check import check_model
from hetfab.hls.hls4ml_extension.registration import register
from hetfab.overlay.errors import Hls4mlRefusedError

#: Of a model's inputs, which its first quantizers round: wide enough that they are rounded once.
INPUT_TYPE = "fixed<40,16>"


def convert_qonnx(
    model: onnx.ModelProto,
    folder: Path,
    *,
    part: str,
    backend: str = "Vitis",
    io_type: str = "io_stream",
    project: str = "model",
    namespace: str | None = None,
    settings: dict[str, dict[str, Any]] | None = None,
) -> Any:
    """Converts a model of dense layers.

    Args:
        model: With ``Quant`` nodes before products and behind sums; batch of 1.
        folder: Where the project is written.
        part: Of the FPGA, as vendors name it.
        backend: ``Vitis`` or ``Vivado``.
        io_type: ``io_stream`` or ``io_parallel``.
        project: Name of the project and of its top function.
        namespace: Of the project's code, where several are linked together.
        settings: For names of nodes, more entries of hls4ml's configuration: ``DspChannels``, ``DspParallel``,
            ``LutParallel``, ``Precision``.

    Returns:
        hls4ml's ``ModelGraph``; ``write()``, ``compile()`` and ``predict()`` are its own.

    Raises:
        Hls4mlRefusedError: hls4ml would compute the model wrongly.
        PackageMissingError: hls4ml is not installed.
    """
    register()
    from hls4ml.converters import convert_from_onnx_model
    from hls4ml.utils import config_from_onnx_model
    from qonnx.core.modelwrapper import ModelWrapper
    from qonnx.transformation.gemm_to_matmul import GemmToMatMul
    from qonnx.util.cleanup import cleanup_model

    clean = cleanup_model(ModelWrapper(copy.deepcopy(model)).transform(GemmToMatMul()))
    products = [node.name for node in clean.graph.node if node.op_type == "MatMul"]
    config = config_from_onnx_model(clean, granularity="name", backend=backend, default_precision="fixed<16,6>")
    for name in (info.name for info in clean.graph.input):
        config["LayerName"][name]["Precision"]["result"] = INPUT_TYPE
    for name in products:
        config["LayerName"][name]["Strategy"] = "Hetero"
    for name, entries in (settings or {}).items():
        if name not in config["LayerName"]:
            layers = ", ".join(config["LayerName"])
            raise Hls4mlRefusedError(f"settings for '{name}'", f"layers of the model: {layers}", "correct the name")
        config["LayerName"][name].update(entries)
    hetero = [name for name in products if config["LayerName"][name]["Strategy"].lower() == "hetero"]
    check_model(clean.model, hetero, config)
    return convert_from_onnx_model(
        clean,
        output_dir=str(folder),
        project_name=project,
        namespace=namespace,
        backend=backend,
        io_type=io_type,
        part=part,
        hls_config=config,
    )
