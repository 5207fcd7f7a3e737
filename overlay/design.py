# SPDX-License-Identifier: Apache-2.0
"""A design: every hardware parameter of an overlay; its geometry: those that programs depend on.

A design file is JSON. It has two hashes: of the geometry, which a program and an overlay must share, and of
the whole. ``designs/<board>.json`` are the defaults.
"""

import dataclasses
import functools
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hetfab.overlay.archives import LARGEST_JSON_BYTES, read_limited
from hetfab.overlay.dense_stages import Stage, stage_from_dict
from hetfab.overlay.errors import DesignInvalidError, why_unreadable
from hetfab.overlay.isa.spec import evaluate, isa
from hetfab.overlay.versions import DESIGN, design_version

#: Names of default designs: for models on graphs, and for networks on samples.
DEFAULT_DESIGN, IMAGE_DESIGN, ATTENTION_DESIGN = "pynq-z2", "pynq-z2-images", "pynq-z2-attention"
#: Highest clock of a design.
MOST_MHZ = 1000
_DEFAULTS = Path(__file__).parent / "designs"
#: Smallest and largest value, and what it must be a multiple of: a chain of DSPs serves two rows, a word of
#: accumulators is whole groups of the vector engines' lanes, a word of SGB's bitmap has 64 columns.
_ARRAYS = {
    "gemm_d_rows": (2, 32, 2),
    "gemm_d_cols": (8, 64, 8),
    "gemm_l_rows": (1, 32, 1),
    "gemm_l_cols": (8, 64, 8),
    "gemm_l_acc_bits": (24, 32, 1),
    "feature_words": (0, 1 << 15, 8),
    "agg_word_beats": (1, 8, 1),
    "agg_weights": (0, 1, 1),
    "agg_heads": (0, 8, 4),
    "sgb_columns": (64, 1 << 20, 64),
    "sgb_ids": (64, 1 << 20, 64),
    "rst_vertices": (64, (1 << 16) - 64, 64),
    "rows_fifo_words": (16, 1 << 15, 1),
    "gather_beats": (0, 128, 2),
    "fun_words": (0, 16 * isa().size("fun_unit"), isa().size("fun_unit")),
}
#: Parameters that may be 0: the design lacks the memory, and the operations that need it.
_OPTIONAL = (
    *("res_words", "exp_words", "dwp_words", "mid_words", "gather_beats"),
    *("feature_words", "agg_weights", "agg_heads", "fun_words", "norm_words"),
)
#: Memories of the engine dw.
_OF_DW = ("exp_words", "dwp_words", "mid_words")
_LONGEST_SHOWN = 80
#: Groups of AGG with words of so many beats: static_assert of ``reduce.hpp``.
MOST_GROUPS = {4: 32, 8: 8}
#: Forms of the processing elements: LUTs chosen by hand, or what a tool makes of plain code.
ELEMENT_FORMS = ("mapped", "plain")


@dataclass(frozen=True)
class Geometry:
    """The parameters that programs depend on.

    Attributes:
        engines: Names of the engines present.
        bus_bits: Width of an AXI port and of a word of ``out_ram``.
        gemm_d_rows: Rows of GEMM-D's array, the banks of ``act_d_ram``; even.
        gemm_d_cols: Columns of GEMM-D's array.
        gemm_l_rows: Rows of GEMM-L's array, the banks of ``act_l_ram``.
        gemm_l_cols: Columns of GEMM-L's array.
        gemm_l_acc_bits: Width of GEMM-L's sums.
        act_d_words: Depth of ``act_d_ram``; the other ``*_words`` likewise.
        act_l_words: Depth of ``act_l_ram``.
        wgt_d_words: Depth of ``wgt_d_ram``.
        wgt_l_words: Depth of ``wgt_l_ram``.
        par_words: Depth of ``par_ram``.
        res_words: Depth of ``res_ram``; 0 where VEC neither joins nor pools.
        gather_beats: Beats of a line of samples that LOAD cuts into windows at once; 0 when it cannot.
        fun_words: Depth of ``fun_ram``; 0 where VEC has neither tables of functions nor results of 16 bits.
        norm_words: Words of ``lanes`` channels of 16 bits that VEC normalizes at once; 0 where it does not.
        acc_d_words: Depth of ``acc_d_ram``.
        acc_l_words: Depth of ``acc_l_ram``.
        sum_words: Depth of ``sum_ram``.
        out_words: Depth of ``out_ram``.
        exp_words: Depth of ``exp_ram``; this and the next two are 0 without the engine ``dw``.
        dwp_words: Depth of ``dwp_ram``.
        mid_words: Depth of ``mid_ram``.
        agg_contexts: Contexts that AGG keeps.
        agg_groups: Groups of ``lanes`` channels that AGG accumulates at once.
        feature_words: Beats that ``feature_ram``, AGG's scratchpad, holds in all its banks; 0 for none.
        agg_word_beats: Groups of a row that AGG takes from its scratchpad in a cycle: 1, 2, 4 or 8.
        agg_weights: Whether AGG multiplies features by weights of edges, 0 or 1.
        agg_heads: Heads of attention that AGG serves at once; 0 for no attention.
        sgb_columns: Columns of the largest graph that SGB makes, the bits of its bitmap.
        sgb_ids: Ids that SGB keeps on chip: of a row in the order seen, and of a window of a transpose.
        rst_vertices: Rows and columns of the largest graph that RST takes.
        rows_fifo_words: Depth of the FIFO from SGB to AGG.
        queue_depth: Instructions that DISPATCH queues per engine.
        engine_fifo_depth: Instructions issued to an engine and not yet done.
    """

    engines: tuple[str, ...]
    bus_bits: int
    gemm_d_rows: int
    gemm_d_cols: int
    gemm_l_rows: int
    gemm_l_cols: int
    gemm_l_acc_bits: int
    act_d_words: int
    act_l_words: int
    wgt_d_words: int
    wgt_l_words: int
    par_words: int
    res_words: int
    gather_beats: int
    fun_words: int
    norm_words: int
    acc_d_words: int
    acc_l_words: int
    sum_words: int
    out_words: int
    exp_words: int
    dwp_words: int
    mid_words: int
    agg_contexts: int
    agg_groups: int
    feature_words: int
    agg_word_beats: int
    agg_weights: int
    agg_heads: int
    sgb_columns: int
    sgb_ids: int
    rst_vertices: int
    rows_fifo_words: int
    queue_depth: int
    engine_fifo_depth: int

    @property
    def lanes(self) -> int:
        """Channels in a word of the vector engines."""
        return self.bus_bits // 8

    def constants(self) -> dict[str, int]:
        """The names that the instruction set's expressions may use."""
        return dict(self._constants)

    @functools.cached_property
    def _constants(self) -> dict[str, int]:
        """Kept: a plan asks for the same words thousands of times."""
        numbers = {
            field.name: getattr(self, field.name) for field in dataclasses.fields(self) if field.name != "engines"
        }
        numbers["lanes"] = self.lanes
        for memory in isa().memories:
            if memory.word_bits:
                words = 8 * isa().block_bytes // evaluate(memory.word_bits, numbers)
                numbers[memory.name.replace("_ram", "_words_per_block")] = words
        return numbers

    def word_bytes(self, memory: str) -> int:
        """Bytes in a word of an on-chip memory."""
        return evaluate(isa().memory(memory).word_bits, self._constants) // 8

    def banks(self, memory: str) -> int:
        """RAMs that hold a word of an on-chip memory, each an equal part."""
        return evaluate(isa().memory(memory).banks or "1", self._constants)

    def depth(self, memory: str) -> int:
        """Words of an on-chip memory."""
        return evaluate(isa().memory(memory).depth, self._constants)

    def hash(self) -> str:
        """SHA-256 of the canonical JSON, in hexadecimal."""
        return _hash(dataclasses.asdict(self))


@dataclass(frozen=True)
class Design:
    """A geometry, its board and its clock.

    Attributes:
        name: Name of the overlay.
        board: Name of the board file.
        clock_mhz: Clock of all engines.
        origin: How it was chosen.
        elements: Form of the processing elements: ``mapped`` by hand or ``plain`` (docs/area.md).
        geometry: What programs depend on.
        stages: Dense stages with fixed weights, of an accelerator for one model; empty for an overlay.
    """

    name: str
    board: str
    clock_mhz: float
    origin: str
    elements: str
    geometry: Geometry
    stages: tuple[Stage, ...] = ()

    def hash(self) -> str:
        """SHA-256 of the canonical JSON, in hexadecimal."""
        return _hash(self.as_dict())

    def as_dict(self) -> dict[str, Any]:
        """The content of a design file."""
        table = {"format": DESIGN.mark, **dataclasses.asdict(self)}
        del table["stages"]
        return table | {"stages": [stage.as_dict() for stage in self.stages]} if self.stages else table

    @property
    def identity(self) -> str:
        """What an overlay of the design shows in its registers."""
        return identity_of(self.geometry, self.stages)


def identity_of(geometry: Geometry, stages: Sequence[Stage] = ()) -> str:
    """The first 64 bits of a geometry's hash, or where there are fixed weights of theirs too, in hexadecimal."""
    if not stages:
        return geometry.hash()[:16]
    return _hash({"geometry": geometry.hash(), "stages": [stage.as_dict() for stage in stages]})[:16]


def default_design(name: str = DEFAULT_DESIGN) -> Design:
    """A default design: that of a board, ``IMAGE_DESIGN`` or ``ATTENTION_DESIGN``."""
    return read_design(_DEFAULTS / f"{name}.json")


def read_design(path: Path) -> Design:
    """Reads a design file.

    Raises:
        DesignInvalidError: The file is unreadable, a parameter is missing, unknown or not allowed.
    """
    try:
        table = json.loads(read_limited(path, LARGEST_JSON_BYTES).decode("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise DesignInvalidError(
            f"cannot read the design '{path}': {why_unreadable(error)}",
            "a JSON file as `hetfab` ships in its folder overlay/designs",
            "check the path, or leave the option out to use the default design",
        ) from error
    return design_from_dict(table, str(path))


def design_from_dict(table: Any, source: str) -> Design:
    """Builds and checks a design; one of an older version is converted where that is exact.

    Args:
        table: Content of a design file.
        source: Named in errors.

    Raises:
        DesignInvalidError: As ``read_design``.
        FormatVersionError: It is of a newer version, or of an older one without a conversion.
    """
    design_names = {"format", *(field.name for field in dataclasses.fields(Design))}
    geometry_names = {field.name for field in dataclasses.fields(Geometry)}
    geometry = table.get("geometry") if isinstance(table, dict) else None
    if not isinstance(table, dict) or not isinstance(geometry, dict):
        keys = "a JSON object with the keys " + _names(design_names)
        raise _invalid(source, "it has no object 'geometry'", keys)
    table = _of_this_version(table, source)
    geometry = table["geometry"]
    for found, expected in ((set(table) | {"stages"}, design_names), (set(geometry), geometry_names)):
        if found != expected:
            parts = [f"missing: {_names(expected - found)}"] if expected - found else []
            parts += [f"unknown: {_names(found - expected)}"] if found - expected else []
            raise _invalid(source, "; ".join(parts), "exactly the keys " + _names(expected))
    _check_values(geometry, source)
    for name in ("name", "board", "origin"):
        _check_text(name, table[name], source)
    if "/" in table["name"] or table["name"].startswith("."):
        raise _invalid(source, f"name is {_shown(table['name'])}", "a text that can name files")
    clock = table["clock_mhz"]
    if not _is_number(clock) or not 0 < clock <= MOST_MHZ:
        raise _invalid(source, f"clock_mhz is {_shown(clock)}", f"a clock above 0 and up to {MOST_MHZ:,} MHz")
    if table["elements"] not in ELEMENT_FORMS:
        raise _invalid(source, f"elements is {_shown(table['elements'])}", "one of " + ", ".join(ELEMENT_FORMS))
    return Design(
        name=table["name"],
        board=table["board"],
        clock_mhz=clock,
        origin=table["origin"],
        elements=table["elements"],
        geometry=Geometry(**{**geometry, "engines": tuple(geometry["engines"])}),
        stages=_stages(table.get("stages", []), source),
    )


def _of_this_version(table: dict[str, Any], source: str) -> dict[str, Any]:
    version = design_version(table)
    if version is None:
        raise _invalid(source, f"format is {_shown(table['format'])}", f"'{DESIGN.mark}'")
    board = table.get("board")
    named = board if isinstance(board, str) and board.replace("-", "").isalnum() else "BOARD"
    remake = f"hetfab search MODEL --workload WORKLOAD --board {named} -o DESIGN.json, "
    remake += "or leave out --design for the board's own"
    return DESIGN.current(table, version, source, remake)


def _stages(entries: Any, source: str) -> tuple[Stage, ...]:
    try:
        return tuple(stage_from_dict(entry) for entry in entries)
    except (TypeError, ValueError) as error:
        raise _invalid(source, f"a stage is damaged: {error}", "stages as `hetfab build` writes them") from error


def _check_text(name: str, value: Any, source: str) -> None:
    # What cannot be printed could not be named in a message either.
    if not isinstance(value, str) or not value or not value.isprintable():
        raise _invalid(source, f"{name} is {_shown(value)}", "a text of one line")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _check_engines(engines: Any, source: str) -> None:
    known = [engine.name for engine in isa().engines]
    expected = "a list of different names out of " + ", ".join(known)
    if not isinstance(engines, list | tuple) or any(engine not in known for engine in engines):
        raise _invalid(source, f"engines is {_shown(engines)}", expected)
    repeated = {engine for engine in engines if engines.count(engine) > 1}
    if repeated:
        raise _invalid(source, f"engines names more than once: {_names(repeated)}", expected)


def _check_values(geometry: dict[str, Any], source: str) -> None:
    _check_engines(geometry["engines"], source)
    for name, value in geometry.items():
        if name == "engines":
            continue
        smallest = 0 if name in _OPTIONAL else 1
        if not isinstance(value, int) or isinstance(value, bool) or value < smallest:
            raise _invalid(source, f"{name} is {_shown(value)}", f"a whole number of at least {smallest}")
        largest = largest_value(name)
        if value > largest:
            expected = f"at most {largest}, what the instruction fields can name"
            raise _invalid(source, f"{name} is {_shown(value)}", expected)
    for name, (smallest, largest, unit) in _ARRAYS.items():
        if not smallest <= geometry[name] <= largest or geometry[name] % unit:
            expected = f"{smallest} to {largest}" + (f", a multiple of {unit}" if unit > 1 else "")
            raise _invalid(source, f"{name} is {geometry[name]}", expected)
    for name in _OF_DW:
        if (geometry[name] > 0) != ("dw" in geometry["engines"]):
            raise _invalid(
                source,
                f"{name} is {geometry[name]}, {'with' if 'dw' in geometry['engines'] else 'without'} the engine dw",
                "a depth where the engine is, and 0 where it is not",
            )
    _check_word_beats(geometry, source)
    if geometry["bus_bits"] != 64:
        raise _invalid(source, f"bus_bits is {geometry['bus_bits']}", "64, the width of the boards' ports")


def _check_word_beats(geometry: dict[str, Any], source: str) -> None:
    beats, groups = geometry["agg_word_beats"], geometry["agg_groups"]
    if beats & (beats - 1):
        raise _invalid(source, f"agg_word_beats is {beats}", "1, 2, 4 or 8")
    if beats > 1 and not geometry["feature_words"]:
        raise _invalid(source, f"agg_word_beats is {beats} without a scratchpad", "1 where feature_words is 0")
    most = MOST_GROUPS.get(beats, groups)
    if groups > most:
        expected = f"at most {most} groups: rows must be requested earlier than AGG's pipeline is long"
        raise _invalid(source, f"agg_word_beats is {beats} and agg_groups {groups}", expected)


def enough(parameter: str, need: int) -> int:
    """The least value of a parameter that is at least so much, as a multiple of what it must be one of."""
    _, _, step = _ARRAYS.get(parameter, (0, 0, 1))
    return -(-need // step) * step


def largest_value(parameter: str) -> int:
    """Largest value of a parameter that the instruction set's fields can address."""
    fields = {
        "act_d_words": ("matmul", "act"),
        "act_l_words": ("matmul_planes", "act"),
        "wgt_d_words": ("matmul", "wgt"),
        "wgt_l_words": ("matmul_planes", "wgt"),
        "acc_d_words": ("matmul", "acc"),
        "acc_l_words": ("matmul_planes", "acc"),
        "par_words": ("requantize", "par"),
        "res_words": ("join", "res"),
        "sum_words": ("combine", "sum"),
        "out_words": ("combine", "out"),
        "exp_words": ("depthwise", "exp"),
        "dwp_words": ("depthwise", "par"),
        "mid_words": ("depthwise", "mid"),
        "agg_contexts": ("reduce", "slot"),
        "agg_groups": ("reduce", "groups"),
        "sgb_columns": ("configure_bitmap", "columns"),
        "sgb_ids": ("configure_bitmap", "threshold"),
    }
    if parameter in ("rows_fifo_words", "feature_words", "fun_words", "rst_vertices"):
        return _ARRAYS[parameter][1]
    if parameter not in fields:
        return 4096
    operation, name = fields[parameter]
    field = isa().operation(operation).field(name)
    return field.largest if parameter == "agg_groups" else field.largest + 1


def _invalid(source: str, found: str, expected: str) -> DesignInvalidError:
    return DesignInvalidError(
        f"the design '{source}' cannot be used: {found}",
        expected,
        "correct the file, or start from a default design",
    )


def _names(names: set[Any]) -> str:
    return ", ".join(sorted(map(str, names)))


def _shown(value: Any) -> str:
    """A value as a message shows it: printable and short."""
    text = ascii(value)
    return text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}..."


def _hash(table: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(table, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
