# SPDX-License-Identifier: Apache-2.0
"""What the page of a run shows, made of nothing but what ``--json`` prints: facts, tables, and what is missing."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

Found: TypeAlias = Mapping[str, Any]

STAGES = {
    "SGB": "semantic graph building",
    "RST": "restructuring",
    "FP": "feature projection",
    "NA": "neighbour aggregation",
    "SF": "semantic fusion",
}
_OF = {
    "graph": "all nodes of a graph",
    "nodes": "some nodes of a graph",
    "parts": "a graph in parts",
    "samples": "one sample",
}
#: In a cell that has nothing to say.
_NONE = "-"
_LARGEST_STEPS = 10
_LARGEST_SHOWN_NODES = 20


@dataclass(frozen=True)
class Cell:
    """A cell of a table.

    Attributes:
        text: What it says.
        number: Whether it stands to the right.
        share: Length of a bar behind it, 0 to 1; None for none.
        key: Number of the layer whose colour stands before it, 0 for none.
    """

    text: str
    number: bool = True
    share: float | None = None
    key: int = 0


@dataclass(frozen=True)
class Table:
    """A table: its id on the page, headings, rows."""

    name: str
    headings: Sequence[str]
    rows: Sequence[Sequence[Cell]]

    @property
    def columns(self) -> list[tuple[str, bool]]:
        """Headings, and whether their column stands to the right."""
        numbers = [all(row[i].number for row in self.rows) for i in range(len(self.headings))]
        return list(zip(self.headings, numbers, strict=True))


def words(text: object) -> Cell:
    """Words."""
    return Cell(str(text), number=False)


def whole(value: float | None) -> Cell:
    """A whole number, of cycles, bytes and counts."""
    return Cell(_NONE if value is None else f"{value:,.0f}")


def percent(value: float | None) -> Cell:
    """A share, with a bar as long as it is."""
    return Cell(_NONE) if value is None else Cell(f"{100 * value:.1f} %", share=value)


def score(value: float | None) -> Cell:
    """A share to four digits."""
    return Cell(_NONE if value is None else f"{value:.4f}")


def title(found: Found) -> str:
    """What ran."""
    return f"{found['program']['model']} on {found['program']['design']}"


def subtitle(found: Found) -> str:
    """On what, and how."""
    program = found["program"]
    flow = "the accelerator of this model" if program["flow"] == "dataflow" else "the overlay"
    return f"{_OF[program['of']]}, on {flow} for the board {program['board']}, emulated"


def facts(found: Found) -> Iterator[tuple[str, str]]:
    """What stands at the top."""
    timeline = found["timeline"]
    yield "modelled time", f"{timeline['board']['milliseconds']:,.3f} ms"
    yield "modelled cycles", f"{timeline['board']['cycles']:,.0f}"
    yield "clock", f"{timeline['clock_mhz']:g} MHz"
    yield "DRAM bytes", f"{sum(each['bytes'] for each in timeline['engines'].values()):,}"
    yield "instructions", f"{sum(each['instructions'] for each in timeline['engines'].values()):,}"
    yield "runs of the overlay", f"{timeline['runs']:,}"
    if "parts" in found:
        yield "largest part", f"{found['largest_part_bytes']:,} bytes"
    if "samples" in found:
        yield "samples", f"{found['samples']:,}"


def lacks(found: Found) -> Iterator[str]:
    """What this run does not have, and how it could be had."""
    of, built = found["program"]["of"], found["semantic_graphs"]
    engines = found["timeline"]["engines"]
    if of == "samples":
        yield "A network on samples reads no graph: there is no SGB, RST, NA or SF, and no rows are gathered."
    else:
        if built["built_by"] is None:
            yield "SGB: the model reads no metapaths, so no semantic graphs are built."
        elif built["built_by"] == "host":
            yield "SGB: the host built the semantic graphs; their time is not in any figure of this page."
        yield "RST: no engine reorders this run's edges; a schedule, where a program has one, is the host's."
        if not (found["timeline"]["stages"]["SF"]["instructions"]):
            yield "SF: nothing is fused by instructions of its own; sums over relations grow in AGG's accumulators."
        if "agg" not in engines:
            yield "AGG: the design lacks it, and the program needs none."
    if of == "nodes":
        yield "Accuracy: only some nodes were predicted; a run on the whole graph has scores."
    elif not _accuracy_rows(found):
        yield "Accuracy: there are no labels to compare with."
    if of != "nodes":
        if "agreement" not in found:
            yield "The quantized model in onnxruntime: give it with --reference."
        if not {"float_micro_f1", "float_accuracy"} & set(found):
            yield "The float model's accuracy: give the model with --float."
    if found.get("host"):
        yield "The time of operators on the host: it is measured, and is in no modelled figure."
    if found["timeline"]["runs"] > 1:
        yield "The host's work between the runs of the overlay: times and pictures leave it out."
    yield "Measurements on a board: every time and rate here is modelled. Energy is never modelled, so there is none."


def _accuracy_rows(found: Found) -> list[list[Cell]]:
    """The executions that were scored: name, where, and their scores."""
    executions = (
        ("float model", "onnxruntime", "float_"),
        ("quantized model", "onnxruntime", "reference_"),
        ("program", "emulated overlay", ""),
    )
    if found["program"]["of"] == "samples":
        return [
            [words(name), words(where), score(found[f"{prefix}accuracy"])]
            for name, where, prefix in executions
            if found.get(f"{prefix}accuracy") is not None
        ]
    return [
        [words(name), words(where), score(found[f"{prefix}micro_f1"]), score(found[f"{prefix}macro_f1"])]
        for name, where, prefix in executions
        if found.get(f"{prefix}micro_f1") is not None
    ]


def accuracy(found: Found) -> Table | None:
    """Scores, None without any."""
    rows = _accuracy_rows(found)
    if not rows:
        return None
    part = found.get("f1_part")
    scores = ["right of the samples"] if found["program"]["of"] == "samples" else [f"{part} micro F1", "macro F1"]
    return Table("accuracy", ["model", "runs in", *scores], rows)


def agreement(found: Found) -> str:
    """The overlay against onnxruntime on the quantized model, empty without a reference."""
    if "agreement" not in found:
        return ""
    return (
        f"The overlay against onnxruntime on the quantized model: {found['agreement']:.2%} of the predictions agree, "
        f"largest difference {found['max_logit_lsb']:g} LSB."
    )


def predicted(found: Found) -> Table | None:
    """The first of the nodes that were asked for, None where a whole graph was."""
    if "nodes" not in found:
        return None
    pairs = zip(found["nodes"], found["predictions"], strict=True)
    rows = [[whole(node), words(each)] for node, each in list(pairs)[:_LARGEST_SHOWN_NODES]]
    return Table("nodes", ["node", "prediction"], rows)


def stages(found: Found) -> Table:
    """Where cycles and bytes go, stage by stage. SGB works before the program runs, so its path is a run of its own."""
    timeline = found["timeline"]
    works = {**timeline["stages"], "SGB": _sum(timeline["stages"]["SGB"], found["semantic_graphs"]["work"])}
    cycles = sum(work["path_cycles"] for work in works.values())
    moved = sum(work["bytes"] for work in works.values())
    rows = [
        [
            *(words(name), words(STAGES[name]), whole(work["path_cycles"]), _share(work["path_cycles"], cycles)),
            *(whole(work[key]) for key in ("busy_cycles", "dram_cycles", "bytes")),
            *(_share(work["bytes"], moved), *(whole(work[key]) for key in ("macs", "edges"))),
        ]
        for name, work in works.items()
    ]
    headings = ["stage", "", "cycles of the run", "share", "engines busy", "engines wait for DRAM"]
    return Table("stages", [*headings, "DRAM bytes", "share", "MACs", "edges"], rows)


def _sum(one: Found, other: Found) -> dict[str, float]:
    return {key: one[key] + other[key] for key in one}


def _share(part: float, of: float) -> Cell:
    return percent(part / of if of else None)


def engines(found: Found) -> Table:
    """Where each engine's time goes."""
    timeline = found["timeline"]
    total = timeline["board"]["cycles"]
    rows = [
        [
            *(words(name), whole(each["instructions"]), whole(each["busy_cycles"])),
            *(_share(cycles, total) for cycles in (each["busy_cycles"], each["dram_cycles"])),
            *(_share(sum(each["idle_cycles"].values()), total), words(each["main_reason"].replace("_", " "))),
            whole(each["bytes"]),
        ]
        for name, each in timeline["engines"].items()
    ]
    headings = ["engine", "instructions", "busy cycles", "busy", "waits for DRAM", "idle", "stands still most for"]
    return Table("engines", [*headings, "DRAM bytes"], rows)


def _layer(name: str, numbers: Mapping[str, int]) -> tuple[Cell, Cell]:
    """A layer's number in its colour, and its name."""
    return Cell(str(numbers[name]), key=numbers[name]), words(name)


def layer_costs(found: Found, numbers: Mapping[str, int]) -> Table:
    """What each layer costs."""
    total = found["timeline"]["board"]["cycles"]
    rows = [
        [
            *_layer(each["name"], numbers),
            *(whole(each["path_cycles"]), _share(each["path_cycles"], total)),
            *(whole(each[key]) for key in ("begin_cycle", "end_cycle", "bytes", "instructions", "macs", "edges")),
        ]
        for each in found["timeline"]["layers"]
    ]
    headings = ["#", "layer", "cycles of the run", "share", "first start", "last end", "DRAM bytes", "instructions"]
    return Table("layer-costs", [*headings, "MACs", "edges"], rows)


def placed(found: Found, numbers: Mapping[str, int]) -> Table:
    """The model as placed."""
    rows = [
        [
            *_layer(each["name"], numbers),
            *(words(each["node_type"]), whole(each["inputs"] or None), whole(each["channels"])),
            *(whole(each[key] if each["inputs"] else None) for key in ("channels_on_d", "channels_on_l")),
            *(words(", ".join(each["aggregations"])), words(" ".join(each["engines"])), whole(each["tile_rows"])),
        ]
        for each in found["layers"]
    ]
    headings = [
        "#",
        "layer",
        "rows of",
        "in",
        "out",
        "on GEMM-D",
        "on GEMM-L",
        "sums over",
        "engines",
        "rows of a tile",
    ]
    return Table("placed", headings, rows)


def bits(found: Found, numbers: Mapping[str, int]) -> Table:
    """Bits of weights on each core and of what a layer writes; bars are parts of 8 bits."""
    rows = [
        [
            *_layer(each["name"], numbers),
            *(_widths(each[key]) for key in ("weight_bits_on_d", "weight_bits_on_l")),
            _widths([each["output_bits"]] if each["output_bits"] else []),
        ]
        for each in found["layers"]
    ]
    return Table("bits", ["#", "layer", "weights on GEMM-D", "weights on GEMM-L", "result"], rows)


def _widths(found: Sequence[int]) -> Cell:
    if not found:
        return Cell(_NONE)
    return Cell(" + ".join(map(str, found)), share=min(max(found) / 8, 1.0))


def buffers(found: Found, numbers: Mapping[str, int]) -> Table | None:
    """How often AGG's scratchpad held the row that an edge asked for, None where nothing was gathered."""
    rows = [
        [
            *_layer(each["name"], numbers),
            *(whole(each["gathered"]), whole(each["misses"]), percent(each["hit_rate"])),
        ]
        for each in found["timeline"]["layers"]
        if each["gathered"]
    ]
    return Table("buffers", ["#", "layer", "rows asked for", "read from DRAM", "held"], rows) if rows else None


def on_host(found: Found) -> Table | None:
    """What operators on the host took, measured there; None where there are none."""
    rows = [
        [
            *(words(each["operator"]), whole(each["times"]), whole(each["rows"])),
            *(Cell(f"{each['milliseconds']:.3f}"), whole(each["bytes"])),
        ]
        for each in found.get("host", ())
    ]
    return Table("host", ["operator", "times", "rows", "ms", "bytes moved"], rows) if rows else None


def path(found: Found) -> Table:
    """The largest steps of the critical path."""
    total = found["timeline"]["board"]["cycles"]
    rows = [
        [
            words(each["engine"]),
            words(each["layer"]),
            words(each["spent"]),
            whole(each["cycles"]),
            _share(each["cycles"], total),
        ]
        for each in found["timeline"]["critical_path"][:_LARGEST_STEPS]
    ]
    return Table("path", ["engine", "layer", "spent on", "cycles", "share"], rows)


def counters(found: Found) -> Table:
    """The event counters that are not zero."""
    rows = [[words(name.replace("_", " ")), whole(value)] for name, value in found["counters"].items() if value]
    return Table("counters", ["counter", "value"], rows)
