# SPDX-License-Identifier: Apache-2.0
"""Finds the folder of public graphs and float reference models, which is no part of the repository.

It is ``$HETFAB_DATA``, else ``shared/data`` beside the repository.
"""

import os
from pathlib import Path

MODELS = tuple(
    f"{data}_{model}" for data in ("acm", "dblp", "imdb") for model in ("rgcn", "rgat", "han", "simplehgn", "sehgnn")
)


def find_data() -> Path | None:
    """The folder with ``<graph>/graph.npz`` and ``models/``, None when there is none."""
    default = Path(__file__).parents[2] / "shared" / "data"
    folder = Path(os.environ.get("HETFAB_DATA", default))
    return folder if (folder / "models").is_dir() else None


def require_data() -> Path:
    """The folder; skips the calling test when there is none."""
    import pytest

    folder = find_data()
    if folder is None:
        pytest.skip("data: public graphs and reference models (set HETFAB_DATA)")
    return folder
