# SPDX-License-Identifier: Apache-2.0
"""What the lint needs beside the core packages: the extra ``lint``."""

import importlib.util

from hetfab.overlay.errors import PackageMissingError

_NEEDED = {"clang": "libclang", "tree_sitter": "tree-sitter", "tree_sitter_cpp": "tree-sitter-cpp", "hls4ml": "hls4ml"}


def check_packages() -> None:
    """Refuses to begin without them.

    Raises:
        PackageMissingError: Any of them is missing; all are named.
    """
    missing = [package for module, package in _NEEDED.items() if importlib.util.find_spec(module) is None]
    if missing:
        raise PackageMissingError(
            f"missing Python packages: {', '.join(missing)}",
            "the packages that read C++ for the lint, and the headers of AMD's types",
            "pip install 'hetfab[lint]'",
        )
