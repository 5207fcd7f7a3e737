# SPDX-License-Identifier: Apache-2.0
"""Registers ``HeteroDense`` with hls4ml. hls4ml is imported here and by nothing before."""

import importlib.metadata
import importlib.util

from hetfab.overlay.errors import PackageMissingError

_VERSION = "1.3"


def register() -> None:
    """Makes ``HeteroDense`` known to hls4ml, once in a process, before or after hls4ml is imported.

    Projects without such a layer are written as before, byte for byte.

    Raises:
        PackageMissingError: hls4ml is not installed, or not in the version whose passes the layer joins.
    """
    if importlib.util.find_spec("hls4ml") is None:
        raise PackageMissingError(
            "the Python package hls4ml is not installed", f"hls4ml {_VERSION}", "pip install 'hetfab[hls]'"
        )
    version = importlib.metadata.version("hls4ml")
    if not version.startswith(f"{_VERSION}."):
        raise PackageMissingError(f"hls4ml {version} is installed", f"hls4ml {_VERSION}", "pip install 'hetfab[hls]'")
    from hls4ml.model.layers import layer_map

    # hls4ml's registries are of the process, and refuse a second entry.
    if "HeteroDense" not in layer_map:
        from hetfab.hls.hls4ml_extension.passes import register_all

        register_all()
