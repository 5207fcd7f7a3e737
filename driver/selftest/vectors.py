# SPDX-License-Identifier: Apache-2.0
"""All vectors of the self-test for a design.

For each instruction there is one in its plainest mode, and for every value of its fields of one bit and of named values
one that has it, if the design allows that.
"""

import dataclasses
from collections.abc import Callable, Iterator, Mapping

from hetfab.driver.selftest import dense, graphs, neighbours, results
from hetfab.driver.selftest.draft import Data, Draft, Vector, modes_of
from hetfab.driver.selftest.order import sync, sync_modes
from hetfab.overlay.design import Geometry
from hetfab.overlay.isa.codec import ReduceSource
from hetfab.overlay.isa.spec import Operation, isa

Maker = Callable[[Draft], None]


def _compose(draft: Draft) -> None:
    maker = neighbours.reduce_fifo if draft.flag("to_fifo") else graphs.compose_graphs
    maker(draft)


#: What writes the vectors of each instruction.
MAKERS: dict[str, Maker] = {
    **{maker.__name__: maker for maker in (*dense.MAKERS, *results.MAKERS, *neighbours.MAKERS)},
    "sync": sync,
    "configure_left": graphs.compose_graphs,
    "configure_right": graphs.compose_graphs,
    "configure_bitmap": graphs.compose_graphs,
    "compose": _compose,
    "transpose": graphs.transpose_graph,
    "widen": graphs.compose_graphs,
    **dict.fromkeys(
        ("configure_graph", "configure_turned", "configure_matching", "configure_walk", "match", "walk", "recouple",
         "grow_tiles"), graphs.restructured,
    ),
}  # fmt: skip

#: Further modes, that no field of one bit tells apart.
FURTHER: dict[str, tuple[Mapping[str, int], ...]] = {
    "matmul": ({"packed": 1, "unsigned": 1}, {"packed": 1, "accumulate": 1}),
    "matmul_lines": ({"packed": 1, "unsigned": 1},),
    "matmul_planes": (*({"planes": planes} for planes in (1, 2, 4, 5, 6, 7, 8)), {"slices": 1},
                      {"slices": 1, "unsigned": 1}, {"slices": 1, "bipolar": 1}),
    "matmul_planes_lines": ({"slices": 1}, {"planes": 8}),
    "requantize": ({"signed": 1, "packed": 1},),
    "requantize_joined": ({"signed": 1, "packed": 1, "core": 1},),
    "combine": ({"signed": 1, "packed": 1},),
    "depthwise": ({"stride": 1}, {"packed": 1, "out_packed": 1}),
    "reduce": ({"wide_ids": 1}, {"merge": 1, "spill": 1}, {"source": 1, "mode": 1}, {"mode": 1, "accumulate": 1}),
    "attend": ({"kind": 1, "unsigned": 1}, {"merge": 1, "maxima": 0}),
    "configure_pixels": ({"packed": 1, "signed": 1},),
}  # fmt: skip
#: Instructions that are also tried on flat data, and on data with ties.
FLAT: dict[str, tuple[Mapping[str, int], ...]] = {
    "matmul": ({}, {"unsigned": 1}, {"packed": 1}),
    "matmul_lines": ({}, {"unsigned": 1}),
    "matmul_planes": ({}, {"unsigned": 1}, {"bipolar": 1}, {"slices": 1}),
    "matmul_planes_lines": ({}, {"unsigned": 1}),
    "requantize": ({"signed": 1},),
}
TIES: dict[str, tuple[Mapping[str, int], ...]] = {
    "requantize": ({"signed": 1}, {"packed": 1}, {"core": 1, "signed": 1}),
    "combine": ({"signed": 1},),
    "requantize_joined": ({"signed": 1, "core": 1},),
    "export_sums": ({},),
    "requantize_function": ({"signed": 1},),
}

#: Parameters of the geometry that an instruction cannot do without, beside its engine.
_PARAMETERS: dict[str, tuple[str, ...]] = {
    "load_windows": ("gather_beats",),
    "configure_windows": ("gather_beats",),
    **dict.fromkeys(("load_residual", "configure_pixels", "configure_pool", "join", "pool_max", "pool_average"),
                    ("res_words",)),
    **dict.fromkeys(("load_depthwise", "store_middle", "depthwise"), ("exp_words", "res_words")),
    **dict.fromkeys(("load_function", "requantize_function", "combine_function", "requantize_joined_function"),
                    ("fun_words",)),
    "normalize": ("norm_words",),
    **dict.fromkeys(("attend", "configure_sources", "configure_targets", "configure_types"), ("agg_heads",)),
}  # fmt: skip
#: Engines that the vectors of an instruction need beside those that all but graphs need.
_ENGINES: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("load_weights", "matmul", "matmul_lines"), ("gemm_d",)),
    **dict.fromkeys(("load_planes", "matmul_planes", "matmul_planes_lines"), ("gemm_l",)),
    **dict.fromkeys(("load_depthwise", "store_middle", "depthwise"), ("dw",)),
    **dict.fromkeys(
        ("combine", "export_sums", "combine_function", "requantize_joined", "requantize_joined_function"), ("agg",)
    ),
}


def vectors(geometry: Geometry) -> list[Vector]:
    """The vectors of a design, in the order of the instruction set.

    Args:
        geometry: The overlay's.
    """
    found = []
    for number, (operation, mode, data) in enumerate(_wanted(geometry)):
        found += _made(geometry, operation, mode, data, seed=1000 + number)
    return found


def _made(geometry: Geometry, operation: Operation, mode: Mapping[str, int], data: Data, seed: int) -> list[Vector]:
    """A vector, and after the plainest one of an instruction those of the values that it lacks."""
    first = _vector(geometry, operation, mode, data, seed)
    if mode or data is not Data.ANY:
        return [first]
    has = modes_of(first.words)
    others = [
        {field: value}
        for field, value in values_of(operation)
        if (operation.name, field, value) not in has and not lacks(geometry, operation.name, field, value)
    ]
    return [first, *(_vector(geometry, operation, other, data, seed + place) for place, other in enumerate(others, 1))]


def _vector(geometry: Geometry, operation: Operation, mode: Mapping[str, int], data: Data, seed: int) -> Vector:
    draft = Draft(geometry, operation.name, mode, data, seed)
    MAKERS[operation.name](draft)
    return draft.finished()


def _wanted(geometry: Geometry) -> Iterator[tuple[Operation, Mapping[str, int], Data]]:
    for operation in isa().operations:
        if operation.name == "sync":
            yield from ((operation, mode, Data.ANY) for mode in sync_modes(geometry.engines))
            continue
        if not exists(geometry, operation):
            continue
        yield operation, {}, Data.ANY
        tried = ((FURTHER, Data.ANY), (FLAT, Data.FLAT), (TIES, Data.TIES))
        for table, data in tried:
            for mode in table.get(operation.name, ()):
                if not any(lacks(geometry, operation.name, field, value) for field, value in mode.items()):
                    yield operation, mode, data


def values_of(operation: Operation) -> list[tuple[str, int]]:
    """All values of the fields of an instruction that are of one bit, or named."""
    return [
        (field.name, value)
        for field in operation.fields
        if field.bits == 1 or field.values
        for value in range(len(field.values) or 2)
    ]


def exists(geometry: Geometry, operation: Operation) -> bool:
    """Whether a design has an instruction, and what brings its results to DRAM."""
    if operation.engine in ("sgb", "rst"):
        return operation.engine in geometry.engines
    sources = {"gemm_d", "gemm_l"} & set(geometry.engines)
    engines = {"load", "store", "vec", operation.engine, *_ENGINES.get(operation.name, ())}
    parameters = dataclasses.asdict(geometry)
    has_parameters = all(parameters[name] for name in _PARAMETERS.get(operation.name, ()))
    return bool(sources or operation.engine == "agg") and engines <= set(geometry.engines) and has_parameters


def lacks(geometry: Geometry, operation: str, field: str, value: int) -> bool:
    """Whether a design cannot execute an instruction with a value of a field."""
    engines = geometry.engines
    match operation, field, value:
        case _, "core" | "to_l", 1:
            return "gemm_l" not in engines
        case _, "core", 0:
            return "gemm_d" not in engines
        case _, "from_sum", 1:
            return "agg" not in engines
        case _, "to_exp", 1:
            return "dw" not in engines or not geometry.res_words
        case "compose", "to_fifo", 1:
            return "agg" not in engines or "vec" not in engines
        case "reduce", "from_fifo", 1:
            return "sgb" not in engines
        case "reduce", "weighted", 1:
            return not geometry.agg_weights
        case "reduce" | "attend", "source", ReduceSource.TAGS | ReduceSource.SCHEDULE:
            return not geometry.feature_words
    return False
