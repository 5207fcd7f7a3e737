# SPDX-License-Identifier: Apache-2.0
"""The golden model shares no code with what it is compared with: no packers, no codec, no emitter, no kernels."""

import ast
import importlib
import inspect

from hetfab.overlay.isa import golden
from hetfab.overlay.model.cnn import golden as cnn_golden
from tests.test_import_order import imported

#: What the golden model reads: the tables of the instruction set, its arithmetic, the definitions of boolean products
#: and of orders, and data without behaviour.
ALLOWED = {
    "hetfab.overlay.design.Geometry",
    "hetfab.overlay.errors.StreamInvalidError",
    "hetfab.overlay.isa.arithmetic",
    "hetfab.overlay.isa.attention",
    "hetfab.overlay.isa.normalization",
    "hetfab.overlay.isa.spec",
    "hetfab.overlay.restructure.matching",
    "hetfab.overlay.restructure.schedule",
    "hetfab.overlay.restructure.subgraphs",
    "hetfab.overlay.restructure.tiles",
    "hetfab.overlay.semantic.adjacency",
}
LIBRARIES = {"collections", "dataclasses", "numpy", "typing"}


def foreign(module: str, source: str, allowed: set[str]) -> list[str]:
    """Imports of a module's source beyond the allowed ones and the libraries."""
    names = [name for _, name in imported(ast.parse(source), module)]
    return [
        name
        for name in names
        if name.partition(".")[0] not in LIBRARIES and name not in allowed and name.rpartition(".")[0] not in allowed
    ]


def source_of(name: str) -> str:
    return inspect.getsource(importlib.import_module(name))


def test_the_golden_model_imports_only_the_specification() -> None:
    assert foreign(golden.__name__, source_of(golden.__name__), ALLOWED) == []


def test_the_boolean_products_import_nothing_of_hetfab() -> None:
    assert foreign("hetfab.overlay.semantic.adjacency", source_of("hetfab.overlay.semantic.adjacency"), set()) == []


def test_the_arithmetic_imports_nothing_of_hetfab() -> None:
    assert foreign("hetfab.overlay.isa.arithmetic", source_of("hetfab.overlay.isa.arithmetic"), set()) == []


def test_the_arithmetic_of_attention_imports_that_of_the_engines_only() -> None:
    name = "hetfab.overlay.isa.attention"
    assert foreign(name, source_of(name), {"functools", "hetfab.overlay.isa.arithmetic"}) == []


def test_the_arithmetic_of_normalization_imports_that_of_the_engines_only() -> None:
    name = "hetfab.overlay.isa.normalization"
    assert foreign(name, source_of(name), {"functools", "hetfab.overlay.isa.arithmetic"}) == []


def test_the_golden_functions_of_images_import_arithmetic_and_windows_only() -> None:
    allowed = {"hetfab.overlay.isa.arithmetic", "hetfab.overlay.model.cnn.window"}
    assert foreign(cnn_golden.__name__, source_of(cnn_golden.__name__), allowed) == []
    window = "hetfab.overlay.model.cnn.window"
    assert not [name for name in foreign(window, source_of(window), set()) if name.startswith("hetfab")]


def test_the_tables_come_from_json_alone() -> None:
    """``spec`` and the table of counters that it reads import no generated module."""
    for name in ("spec", "counter_table"):
        module = f"hetfab.overlay.isa.{name}"
        found = foreign(module, source_of(module), {"hetfab.overlay.isa.counter_table", "hetfab.overlay.errors"})
        assert not [name for name in found if name.startswith("hetfab")]


def test_a_shortcut_is_found() -> None:
    for line in (
        "from hetfab.overlay.isa.codec import Opcode",
        "from .words import program_address",
        "import hetfab.hls.build.emulator",
        "from hetfab.overlay.design import default_design",
        "def f():\n    import importlib\n    return importlib.import_module('hetfab.overlay.bind')",
    ):
        assert [name for name in foreign(golden.__name__, line, ALLOWED) if name.startswith("hetfab")], line
