# SPDX-License-Identifier: Apache-2.0
"""Plans a model before it is compiled: the form of first projections, the order of edge sets (docs/planning.md)."""

from dataclasses import asdict, dataclass, replace
from typing import Any

from hetfab.overlay.compiler.compile import check_engines
from hetfab.overlay.compiler.first_projection import FirstProjection, Projection, choose_projections
from hetfab.overlay.compiler.graph_facts import GraphFacts
from hetfab.overlay.compiler.lowered import LoweredModel
from hetfab.overlay.compiler.relation_order import RelationOrder, order_relations
from hetfab.overlay.compiler.scratchpad import DEFAULT_ROW_SOURCE
from hetfab.overlay.design import Design
from hetfab.overlay.isa.codec import ReduceSource

_PROJECTION_HEADINGS = [
    "first projection", "reads", "form", "why", "MACs dense", "adds sparse", "bytes dense", "bytes sparse", "ms dense",
    "ms sparse", "ms joined",
]  # fmt: skip
_ORDER_HEADINGS = ["sum over edge sets", "order", "bytes of vectors", "loaded as given", "loaded as ordered"]


@dataclass(frozen=True, eq=False)
class ModelPlan:
    """Layers as they will be compiled, and what was chosen.

    Attributes:
        lowered: The layers.
        projections: Of the dense layers that read features.
        orders: Of the layers with several edge sets.
    """

    lowered: LoweredModel
    projections: tuple[Projection, ...]
    orders: tuple[RelationOrder, ...]

    def tables(self) -> list[tuple[list[str], list[list[object]]]]:
        """Headings and rows of what people read, empty where there was nothing to choose."""
        tables = []
        if self.projections:
            tables.append((_PROJECTION_HEADINGS, [_projection_row(each) for each in self.projections]))
        if self.orders:
            tables.append((_ORDER_HEADINGS, [_order_row(each) for each in self.orders]))
        return tables

    def as_dict(self) -> dict[str, Any]:
        """The choices as plain values, for ``--json``; times are modelled."""
        return {
            "first_projections": [asdict(each) for each in self.projections],
            "relation_orders": [asdict(each) for each in self.orders],
        }


def plan_model(
    lowered: LoweredModel,
    design: Design,
    facts: GraphFacts | None = None,
    first_projection: FirstProjection = FirstProjection.AUTO,
    share_on_d: float | None = None,
    row_source: ReduceSource = DEFAULT_ROW_SOURCE,
    *,
    may_lead: bool = True,
) -> ModelPlan:
    """Plans a model.

    Args:
        lowered: Its layers, as ``lower`` makes them.
        design: The design to compile for.
        facts: What is known of the graph.
        first_projection: What is asked for.
        share_on_d: As for ``compile_lowered``.
        row_source: As for ``compile_lowered``; of its uses of the scratchpad, tags keep vectors between edge sets.
        may_lead: Whether columns of features may lead: the overlay takes that, stages of a model's own weights do not.

    Raises:
        InputError: As ``choose_projections``.
        DesignInvalidError: The design lacks an engine that the layers need.
    """
    plan = plan_projections(lowered, design, facts, first_projection, share_on_d, may_lead=may_lead)
    return with_orders(plan, design, facts, row_source)


def plan_projections(
    lowered: LoweredModel,
    design: Design,
    facts: GraphFacts | None,
    first_projection: FirstProjection,
    share_on_d: float | None,
    *,
    may_lead: bool = True,
) -> ModelPlan:
    """The part of ``plan_model`` that is the same for every source of rows; edge sets keep the model's order."""
    check_engines(lowered, design)
    chosen, projections = choose_projections(lowered, design, facts, first_projection, share_on_d, may_lead=may_lead)
    return ModelPlan(chosen, projections, ())


def with_orders(plan: ModelPlan, design: Design, facts: GraphFacts | None, row_source: ReduceSource) -> ModelPlan:
    """A plan of ``plan_projections`` with the edge sets in the best order for a source of rows."""
    kept = design.geometry.feature_words * design.geometry.lanes if row_source is ReduceSource.TAGS else 0
    ordered, orders = order_relations(plan.lowered, facts, kept)
    return replace(plan, lowered=ordered, orders=orders)


def _projection_row(found: Projection) -> list[object]:
    dense, sparse = found.dense, found.by_nonzeros
    return [
        *(found.layer, found.features, _form(found), found.reason),
        *("-" if dense is None else dense.macs, "-" if sparse is None else sparse.additions),
        *("-" if work is None else work.bytes for work in (dense, sparse)),
        *("-" if work is None else work.milliseconds for work in (dense, sparse, found.joined)),
    ]


def _form(found: Projection) -> str:
    if not found.parts:
        return "dense"
    parts = ", weighted" if found.weighted else f", {found.parts} parts" if found.parts > 1 else ""
    return f"{found.leading:,} columns dense, others sparse{parts}" if found.leading else f"sparse{parts}"


def _order_row(found: RelationOrder) -> list[object]:
    return [found.layer, ", ".join(found.edges), found.loaded_bytes, found.given_bytes, found.bytes]
