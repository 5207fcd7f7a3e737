# SPDX-License-Identifier: Apache-2.0
"""``HeteroDense`` in a project of hls4ml, without the rest of hetfab: a matrix of nodes through two layers.

    python dense_project.py FOLDER

The first layer has weights of 4 bits with a scale for each output, most outputs on DSPs; the second one has weights of
one bit, all on LUTs. The project in FOLDER is compiled and compared with numpy.
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from hls4ml.model import ModelGraph
from hls4ml.utils.config import create_config

from hetfab.hls.hls4ml_extension import Split, dense_layer, register

NODES, FEATURES, HIDDEN, CLASSES = 10, 48, 24, 6

_random = np.random.default_rng(0)
WEIGHT = _random.integers(-7, 8, (FEATURES, HIDDEN))
MULTIPLIER = _random.integers(40, 256, HIDDEN)
BIAS = _random.integers(-200, 200, HIDDEN)
SIGNS = _random.choice([-1, 1], (HIDDEN, CLASSES))


def project(folder: Path) -> Any:
    """hls4ml's model; types are hls4ml's own, and say which bits an integer holds."""
    register()
    layers = [
        {"class_name": "InputLayer", "name": "features", "input_shape": [NODES, FEATURES]},
        # A weight's value is WEIGHT * MULTIPLIER / 2^14; rounding and ReLU are part of the layer.
        dense_layer(
            "hidden",
            "features",
            WEIGHT,
            bias=BIAS,
            multiplier=MULTIPLIER,
            exponent=14,
            split=Split(16, dsp_parallel=4, lut_parallel=2),
            relu=True,
        ),
        dense_layer("logits", "hidden", SIGNS, split=Split(0, lut_parallel=3)),
    ]
    config = create_config(
        output_dir=str(folder), project_name="dense", backend="Vitis", part="xc7z020clg400-1", io_type="io_stream"
    )
    types = {"features": "fixed<8,4>", "hidden": "ufixed<8,4,RND_CONV,SAT>", "logits": "auto"}
    config["HLSConfig"] = {
        "Model": {"Precision": {"default": "fixed<16,6>"}, "ReuseFactor": 1},
        "LayerName": {name: {"Precision": {"result": kind}} for name, kind in types.items()},
    }
    return ModelGraph.from_layer_list(config, layers, ["features"], ["logits"])


def expected(features: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """The same in numpy: values of the types, half to even, limited."""
    hidden = (features * 16 @ WEIGHT + BIAS) * MULTIPLIER / 2**14
    return np.asarray(np.clip(np.rint(hidden), 0, 255) / 16 @ SIGNS)


def main() -> None:
    """Writes the project, compiles it and compares."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="where the project is written")
    model = project(parser.parse_args().folder)
    model.compile()
    features = np.random.default_rng(1).integers(-128, 128, (100, NODES, FEATURES)) / 16
    found = model.predict(np.ascontiguousarray(features)).reshape(100, NODES, CLASSES)
    print("equal" if np.array_equal(found, expected(features)) else "different")


if __name__ == "__main__":
    main()
