# SPDX-License-Identifier: Apache-2.0
"""Which order of edges pays for a graph's relations and metapaths, on a design's board and scratchpad.

Traffic is that of the buffer of ``docs/restructuring.md``, replayed; what finding an order costs is predicted.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from hetfab.driver.graph.heterograph import HeteroGraph
from hetfab.driver.graph.semantic import adjacencies, plan_metapaths
from hetfab.hls.build.restructure import Restructurer
from hetfab.hls.build.semantic import SemanticGraphBuilder
from hetfab.overlay.board import read_board
from hetfab.overlay.design import Design
from hetfab.overlay.errors import DesignInvalidError
from hetfab.overlay.restructure.candidates import Candidate, Method
from hetfab.overlay.restructure.choose import Price
from hetfab.overlay.restructure.schedule import Sides, Widths, both_sides, list_bytes, replay
from hetfab.overlay.semantic.adjacency import Adjacency
from hetfab.overlay.semantic.plan import DEFAULT_LIMIT_BYTES

#: An int32 sum for each int8 channel.
_SUM_BYTES = 4
_LEAST_SLOTS = 3


@dataclass(frozen=True)
class GraphOrder:
    """What the chooser takes for one semantic graph.

    Attributes:
        graph: Name of the relation or of the metapath.
        edges: Its edges.
        order: The order, as ``docs/restructuring.md`` names it.
        as_is_bytes: Traffic of a pass over the graph as it is, lists included.
        pass_bytes: The same with the order.
        found_by: ``processor``, or ``rst`` where the design has that engine and it is cheaper.
        cost_ms: Finding the order (modelled).
        share: Bytes of all passes and of what DRAM could move meanwhile, over those of the graph as it is.
    """

    graph: str
    edges: int
    order: str
    as_is_bytes: int
    pass_bytes: int
    found_by: str
    cost_ms: float
    share: float


def choose_orders(
    graph: HeteroGraph, design: Design, vector_bytes: int, passes: int, limit_bytes: int = DEFAULT_LIMIT_BYTES
) -> list[GraphOrder]:
    """Chooses an order for each relation and each metapath.

    Args:
        graph: The graph.
        design: Its scratchpad is the buffer, its board has the processor and the DRAM.
        vector_bytes: Of a feature vector, int8.
        passes: Layers, heads and inferences on the same graph.
        limit_bytes: Memory that semantic graphs may take at once.

    Raises:
        DesignInvalidError: The scratchpad holds fewer than three vectors.
        LimitExceededError: The estimate of the semantic graphs is above the limit.
        CompilerMissingError: No C++ compiler.
    """
    board = read_board(design.board)
    geometry = design.geometry
    slots = geometry.feature_words * geometry.lanes // vector_bytes
    if slots < _LEAST_SLOTS:
        raise DesignInvalidError(
            f"the scratchpad of the design '{design.name}' holds {slots} vectors of {vector_bytes} bytes",
            f"at least {_LEAST_SLOTS}",
            "take a design with more feature_words, or shorter vectors",
        )
    widths = Widths(vector_bytes, _SUM_BYTES * vector_bytes, vector_bytes)
    engine_hz = 1e6 * design.clock_mhz if "rst" in geometry.engines else 0.0
    price = Price(
        *(slots, widths, passes, board.dram_bytes_per_second, board.cpu_ratio),
        engine_hz,
        geometry.rst_vertices,
    )
    return [_order(name, both_sides(found), price) for name, found in _semantic_graphs(graph, limit_bytes)]


def _semantic_graphs(graph: HeteroGraph, limit_bytes: int) -> Iterator[tuple[str, Adjacency]]:
    relations = adjacencies(graph)
    by_name = {relation.name: found for relation, found in relations.items()}
    yield from by_name.items()
    if graph.metapaths:
        builder = SemanticGraphBuilder(plan_metapaths(graph, relations, limit_bytes), by_name)
        builder.build()
        yield from builder.outputs().items()


def _order(name: str, graph: Sides, price: Price) -> GraphOrder:
    restructurer = Restructurer(graph)

    def pass_bytes(candidate: Candidate) -> int:
        made = restructurer.make(candidate)
        return replay(made, graph).bytes(price.widths) + list_bytes(made, graph, candidate.listed_slots)

    as_is, offer = Candidate(Method.AS_IS, price.slots), restructurer.choose(price)
    before = pass_bytes(as_is)
    after = before if offer.candidate == as_is else pass_bytes(offer.candidate)
    spent = 0.0 if offer.candidate == as_is else offer.order_bytes
    share = (price.passes * after + spent) / (price.passes * before) if before else 1.0
    cost_ms = 1e3 * spent / price.bytes_per_second
    found_by = "rst" if offer.by_engine else "processor"
    return GraphOrder(name, graph.edges, str(offer.candidate), before, after, found_by, cost_ms, share)
