# SPDX-License-Identifier: Apache-2.0
"""One row of ``benchmarks.frontend``: what a model on a graph takes in each way, as one JSON object.

Inferences are timed by the timeline from the run log that the cost functions give for the bound program, which equals
the emulator's. All times are modelled but that of making a schedule, which is the processor time of one thread here
times the board's ``cpu_ratio``.
"""

import argparse
import json
from collections.abc import Collection, Iterable, Iterator
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from benchmarks.frontend_builds import builds
from benchmarks.restructure import lower_bound
from hetfab.driver.graph.arrays import graph_arrays
from hetfab.driver.graph.facts import graph_facts
from hetfab.driver.graph.feeds import SemanticGraphs
from hetfab.driver.graph.heterograph import HeteroGraph
from hetfab.driver.graph.model_inputs import model_bindings, open_model
from hetfab.driver.graph.npz import read_graph
from hetfab.driver.graph.row_choice import row_choices
from hetfab.driver.semantic_graphs import bound_metapaths, build_semantic_graphs
from hetfab.hls.build.restructure import Restructurer
from hetfab.overlay.bind import BoundProgram, GraphArrays, bind
from hetfab.overlay.board import read_board
from hetfab.overlay.compiler.compile import compile_model
from hetfab.overlay.compiler.first_projection import FirstProjection
from hetfab.overlay.compiler.lowering import lower
from hetfab.overlay.compiler.model_plan import plan_model
from hetfab.overlay.costs.cycles import WORDS_PER_TAG
from hetfab.overlay.costs.gathers import FewestReads, Tags
from hetfab.overlay.costs.program_cost import expected_log
from hetfab.overlay.design import Design, Geometry, default_design
from hetfab.overlay.isa.codec import ReduceSource
from hetfab.overlay.isa.spec import isa
from hetfab.overlay.model.bound_model import BoundModel
from hetfab.overlay.model.reader import read_model
from hetfab.overlay.program import Program
from hetfab.overlay.restructure.choose import Price
from hetfab.overlay.restructure.schedule import Sides, Widths, both_sides, replay
from hetfab.overlay.semantic.adjacency import adjacency
from hetfab.overlay.timeline.machine import Machine, machine
from hetfab.overlay.timeline.simulate import simulate
from hetfab.quantize.post_training import quantize

SLOTS = (128, 512, 2048, 8192)
#: Vectors of the traffic columns: 64 channels of int8, and sums of int32.
_WIDTHS = Widths(64, 256, 64)
_PASSES = 100


def board_design() -> Design:
    """PYNQ-Z2's design for graphs, whose scratchpad has long words."""
    return default_design("pynq-z2-graphs")


def published_designs(design: Design) -> list[Design]:
    """What the published way runs on, whichever is faster: the design, and as it was before its scratchpad grew.

    It works most on the cores, and may have the memories of theirs that the design gave to AGG since, as many rows.
    """
    cores = replace(design.geometry, gemm_d_rows=6, gemm_d_cols=8, gemm_l_rows=4, gemm_l_cols=8)
    large = replace(cores, act_d_words=1024, wgt_d_words=3072, wgt_l_words=1024, feature_words=4096)
    return list(dict.fromkeys([design, replace(design, geometry=large)]))


def sgb_geometry(design: Design) -> Geometry:
    """The engine SGB alone, with the design's parameters."""
    return replace(design.geometry, engines=("sgb",))


def figures(model: onnx.ModelProto, graph: HeteroGraph, design: Design) -> dict[str, Any]:
    """What a row is made of.

    Args:
        model: A quantized model.
        graph: Its graph.
        design: What it runs on.

    Returns:
        Milliseconds of ``building`` and of an inference in each way, and bytes of feature vectors by slots.
    """
    given, timed = BoundModel(model, model_bindings(model, graph)), machine(design)
    paths = bound_metapaths(given.bindings)
    semantic = build_semantic_graphs(graph, paths).graphs if paths else {}

    def compiled(on: Design, asked: FirstProjection, source: ReduceSource, in_parts: Collection[str] = ()) -> Program:
        layers = lower(given.model, given.bindings)
        facts = graph_facts(graph, layers)
        planned = plan_model(layers, on, facts, asked, row_source=source).lowered
        return compile_model(given, on, lowered=planned, row_source=source, in_parts=in_parts)

    def arrays(program: Program) -> GraphArrays:
        return graph_arrays(program, graph, semantic)

    def dense_on(on: Design) -> BoundProgram:
        program = compiled(on, FirstProjection.DENSE, ReduceSource.TAGS)
        return bind(program, arrays(program), side_by_side=True)

    published = [dense_on(each) for each in published_designs(design)]
    dense = published[0]
    rows = list(row_choices(partial(compiled, design, FirstProjection.AUTO), arrays))
    tags = rows[0].bound
    logs = [(each, expected_log(each, tags=FewestReads)) for each in (dense, *(each.bound for each in rows))]
    # Short rows take two trips with tags, and one from DRAM: layer by layer the better of all.
    for _, log in logs:
        for _, other in logs:
            if len(log) == len(other) and np.array_equal(log["opcode"], other["opcode"]):
                log["cycles"] = np.minimum(log["cycles"], other["cycles"])
    return {
        "building": asdict(builds(graph, paths, sgb_geometry(design), timed)),
        "published": min(milliseconds(each, timed) for each in published),
        "tags": rows[0].milliseconds,
        "rows": {each.name: {"milliseconds": each.milliseconds, "making": each.making} for each in rows},
        "engine_bound": min(engine_bound(log, timed) for _, log in logs),
        "bound": min(frontend_bound(each, log, timed) for each, log in logs),
        "feature_bytes": feature_bytes(edge_sets(tags, graph, semantic), design),
    }


def milliseconds(bound: BoundProgram, on: Machine) -> float:
    """Modelled time of one inference."""
    return simulate(bound.words, expected_log(bound), on).milliseconds


def frontend_bound(bound: BoundProgram, log: npt.NDArray[Any], on: Machine) -> float:
    """Modelled time that no choice of rows on chip can beat with this program, its order of edges and these engines.

    An instruction reads each of its rows once, but those that the scratchpad may hold from before. And AGG waits for
    nothing that it reads: rows, scores, ids or records.

    Args:
        bound: The program.
        log: Its run log with such a scratchpad.
        on: What it is timed on.
    """
    log = log.copy()
    for name in ("read_bytes", "read_bursts", "misses"):
        log[name][log["engine"] == isa().engine("agg").id] = 0
    return simulate(bound.words, log, on).milliseconds


def engine_bound(log: npt.NDArray[Any], on: Machine) -> float:
    """Modelled time that no order of instructions can beat either: the busiest engine's loops, or DRAM without AGG."""
    busy = max(float(log["cycles"][log["engine"] == engine.id].sum()) for engine in isa().engines)
    gathered = log["read_bytes"][log["engine"] == isa().engine("agg").id].sum()
    moved = float(log["read_bytes"].sum() + log["write_bytes"].sum() - gathered)
    return max(busy, moved / on.dram_rate) / (1e3 * on.clock_mhz)


def edge_sets(bound: BoundProgram, graph: HeteroGraph, semantic: SemanticGraphs) -> Iterator[Sides]:
    """The graphs that AGG sums over, each once, those without edges left out."""
    program = bound.program
    arrays = graph_arrays(program, graph, semantic)
    for edges in program.edges:
        if edges.of_graph and len(arrays.edges[edges.name].sources):
            found = arrays.edges[edges.name]
            rows = np.repeat(np.arange(len(found.indptr) - 1), np.diff(found.indptr))
            sources = bound.counts[edges.source_type]
            yield both_sides(adjacency(np.asarray(found.sources), rows, sources, len(found.indptr) - 1))


def feature_bytes(graphs: Iterable[Sides], design: Design) -> dict[str, dict[str, float]]:
    """Bytes of vectors that a pass over all edge sets moves, by slots of the buffer, in each way.

    *tags*: destinations by id and a direct-mapped buffer of features, results written once. *ordered*: the replay of
    the order that the chooser takes for 100 passes, or tags where these move less. *bound*: of any order.
    """
    board = read_board(design.board)
    found = {str(slots): {"tags": 0.0, "ordered": 0.0, "bound": 0.0} for slots in SLOTS}
    for sides in graphs:
        restructurer = Restructurer(sides)
        results = sides.active_destinations * _WIDTHS.result
        for slots in SLOTS:
            tags = direct_mapped_misses(sides.by_destination.ids, slots, design.geometry) * _WIDTHS.feature + results
            price = Price(slots, _WIDTHS, _PASSES, board.dram_bytes_per_second, board.cpu_ratio)
            schedule = restructurer.make(restructurer.choose(price).candidate)
            moved = found[str(slots)]
            moved["tags"] += tags
            moved["ordered"] += min(tags, replay(schedule, sides).bytes(_WIDTHS))
            moved["bound"] += lower_bound(sides, slots) * _WIDTHS.feature
    return found


def direct_mapped_misses(ids: npt.NDArray[np.integer[Any]], slots: int, geometry: Geometry) -> int:
    """Rows that a direct-mapped buffer of so many slots, a power of two, reads for these edges, as AGG's tags do."""
    tags = Tags(replace(geometry, feature_words=WORDS_PER_TAG * slots))
    return int(np.count_nonzero(tags.misses(ids, 0, slots.bit_length() - 1)))


def quantized_model(name: str, folder: Path, graph: HeteroGraph, data: Path) -> onnx.ModelProto:
    """The model at W8A8, made anew unless the folder has it."""
    kept = folder / f"{name}.q.onnx"
    if not kept.exists():
        onnx.save(quantize(open_model(data / "models" / f"{name}.onnx", graph)).model, kept)
    return read_model(kept)


def main() -> None:
    """Prints the figures of a row."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name")
    parser.add_argument("folder", type=Path)
    parser.add_argument("data", type=Path)
    given = parser.parse_args()
    graph = read_graph(given.data / given.name.partition("_")[0] / "graph.npz")
    model = quantized_model(given.name, given.folder, graph, given.data)
    print(json.dumps(figures(model, graph, board_design())))


if __name__ == "__main__":
    main()
