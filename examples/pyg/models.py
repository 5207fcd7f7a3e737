# SPDX-License-Identifier: Apache-2.0
"""Models of PyTorch Geometric in many forms: layers, norms, residuals, heads, jumping knowledge, what is refused.

``python -m examples.pyg.export_zoo`` exports them; the tests lift them and run them on the emulated overlay.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import nn
from torch_geometric.nn import (
    BatchNorm,
    GATConv,
    GATv2Conv,
    GCNConv,
    GINConv,
    GraphConv,
    HANConv,
    HeteroConv,
    HGTConv,
    JumpingKnowledge,
    LayerNorm,
    RGATConv,
    RGCNConv,
    SAGEConv,
    to_hetero,
)
from torch_geometric.nn.conv import MessagePassing

FEATURES = {"paper": 12, "author": 8}
CLASSES = 4
HIDDEN = 16
CITES, WRITES, BY = ("paper", "cites", "paper"), ("author", "writes", "paper"), ("paper", "by", "author")
EDGE_TYPES = (CITES, WRITES, BY)
METADATA = (list(FEATURES), list(EDGE_TYPES))
KINDS = 3

Rows: TypeAlias = dict[str, torch.Tensor]
Ends: TypeAlias = dict[tuple[str, str, str], torch.Tensor]
Function: TypeAlias = Callable[[torch.Tensor], torch.Tensor]


class Hetero(nn.Module):
    """Layers over papers and authors; takes features and edges one by one, as ``torch.onnx.export`` names them."""

    names = ("x_paper", "x_author", "edge_index_cites", "edge_index_writes", "edge_index_by")

    def __init__(self, layers: list[nn.Module], width: int = HIDDEN, act: Function = torch.relu):
        super().__init__()
        self.layers = nn.ModuleList(layers)
        self.head = nn.Linear(width, CLASSES)
        self.act = act

    def forward(
        self, x_paper: torch.Tensor, x_author: torch.Tensor, cites: torch.Tensor, writes: torch.Tensor, by: torch.Tensor
    ) -> torch.Tensor:
        """Logits of papers."""
        rows = {"paper": x_paper, "author": x_author}
        edges = dict(zip(EDGE_TYPES, (cites, writes, by), strict=True))
        found: torch.Tensor = self.head(self.hidden(rows, edges)["paper"])
        return found

    def hidden(self, rows: Rows, edges: Ends) -> Rows:
        """Rows behind all layers."""
        for layer in self.layers:
            rows = {name: self.act(value) for name, value in layer(rows, edges).items() if value is not None}
        return rows


class Residual(Hetero):
    """A projection, then layers with a norm, a function and the rows that they read added."""

    def __init__(self, layers: list[nn.Module], norm: Callable[[], nn.Module]):
        super().__init__(layers)
        self.project = nn.ModuleDict({name: nn.Linear(width, HIDDEN) for name, width in FEATURES.items()})
        self.norms = nn.ModuleList(nn.ModuleDict({name: norm() for name in FEATURES}) for _ in layers)

    def hidden(self, rows: Rows, edges: Ends) -> Rows:
        """Rows behind all layers."""
        rows = {name: self.project[name](value) for name, value in rows.items()}
        for layer, norms in zip(self.layers, self.norms, strict=True):
            found = layer(rows, edges)
            rows = {name: rows[name] + torch.relu(norms[name](found[name])) for name in rows}
        return rows


class Jumping(Hetero):
    """Jumping knowledge (Xu et al., 2018): the head reads the papers' rows of all layers."""

    def __init__(self, layers: list[nn.Module], mode: str):
        super().__init__(layers, HIDDEN * (len(layers) if mode == "cat" else 1))
        self.jump = JumpingKnowledge(mode)

    def hidden(self, rows: Rows, edges: Ends) -> Rows:
        """The papers' rows of all layers."""
        found = []
        for layer in self.layers:
            rows = {name: torch.relu(value) for name, value in layer(rows, edges).items()}
            found.append(rows["paper"])
        return {"paper": self.jump(found)}


class Hgts(Hetero):
    """HGT behind a projection of each type's features."""

    def __init__(self) -> None:
        super().__init__([HGTConv(HIDDEN, HIDDEN, METADATA, heads=2) for _ in range(2)])
        self.project = nn.ModuleDict({name: nn.Linear(width, HIDDEN) for name, width in FEATURES.items()})

    def hidden(self, rows: Rows, edges: Ends) -> Rows:
        """Rows behind both layers."""
        rows = {name: torch.relu(self.project[name](value)) for name, value in rows.items()}
        for layer in self.layers:
            rows = layer(rows, edges)
        return rows


class ToHetero(Hetero):
    """A model of one node type, as ``to_hetero`` makes it one of several."""

    def __init__(self) -> None:
        super().__init__([])
        self.whole = to_hetero(_TwoSages(), METADATA)

    def hidden(self, rows: Rows, edges: Ends) -> Rows:
        """Rows behind both layers."""
        found: Rows = self.whole(rows, edges)
        return found


class _TwoSages(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = SAGEConv((-1, -1), HIDDEN)
        self.second = SAGEConv((-1, -1), HIDDEN)

    def forward(self, x: torch.Tensor, edge_index: torch.Tensor) -> torch.Tensor:
        x = self.first(x, edge_index).relu()
        found: torch.Tensor = self.second(x, edge_index).relu()
        return found


class Papers(nn.Module):
    """Layers over papers and who cites whom."""

    names: tuple[str, ...] = ("x_paper", "edge_index_cites")

    def __init__(self, layers: list[nn.Module], head: nn.Module | None = None):
        super().__init__()
        self.layers = nn.ModuleList(layers)
        self.head = head

    def forward(self, x_paper: torch.Tensor, cites: torch.Tensor) -> torch.Tensor:
        """Logits of papers."""
        rows = x_paper
        for number, layer in enumerate(self.layers):
            rows = layer(rows, cites)
            rows = rows if self.head is None and number == len(self.layers) - 1 else torch.relu(rows)
        found: torch.Tensor = rows if self.head is None else self.head(rows)
        return found


class Written(nn.Module):
    """One layer from authors to papers."""

    names = ("x_paper", "x_author", "edge_index_writes")

    def __init__(self, layer: MessagePassing):
        super().__init__()
        self.layer = layer

    def forward(self, x_paper: torch.Tensor, x_author: torch.Tensor, writes: torch.Tensor) -> torch.Tensor:
        """Logits of papers."""
        found: torch.Tensor = self.layer((x_author, x_paper), writes)
        return found


class Typed(nn.Module):
    """Layers over papers and links of several types, which an input tells apart."""

    names = ("x_paper", "edge_index_links", "edge_type_links")

    def __init__(self, layers: list[nn.Module]):
        super().__init__()
        self.layers = nn.ModuleList(layers)

    def forward(self, x_paper: torch.Tensor, links: torch.Tensor, kinds: torch.Tensor) -> torch.Tensor:
        """Logits of papers."""
        rows = x_paper
        for number, layer in enumerate(self.layers):
            rows = layer(rows if number == 0 else torch.relu(rows), links, kinds)
        return rows


class OneKind(RGATConv):
    """RGAT over the edges of one relation, whose ends may be nodes of two types."""

    def forward(self, x: torch.Tensor | tuple[torch.Tensor, torch.Tensor], edge_index: torch.Tensor) -> torch.Tensor:
        """Rows of the destinations."""
        found: torch.Tensor = super().forward(x, edge_index, torch.zeros_like(edge_index[0]))
        return found


def per_relation(make: Callable[[tuple[str, str, str]], MessagePassing], aggr: str = "sum") -> nn.Module:
    """One layer of its own for each relation."""
    return HeteroConv({relation: make(relation) for relation in EDGE_TYPES}, aggr=aggr)


def sages(count: int, width: int = HIDDEN, **options: Any) -> list[nn.Module]:
    """GraphSAGE for each relation."""
    return [per_relation(lambda _: SAGEConv((-1, -1), width, **options)) for _ in range(count)]


def _projecting(relation: tuple[str, str, str]) -> MessagePassing:
    return SAGEConv((FEATURES[relation[0]], FEATURES[relation[2]]), HIDDEN, project=True)


def gats(count: int, heads: int, **options: Any) -> list[nn.Module]:
    """GAT for each relation."""
    return [
        per_relation(lambda _: GATConv((-1, -1), 8, heads=heads, add_self_loops=False, **options)) for _ in range(count)
    ]


def rgats(count: int) -> list[nn.Module]:
    """RGAT for each relation, behind projections of all types to one width."""
    return [per_relation(lambda _: OneKind(HIDDEN, 8, 1, heads=2)) for _ in range(count)]


def rgcn(count: int) -> list[nn.Module]:
    """Means for each relation, each with a projection of its own, and one of the node's own row."""
    return [per_relation(lambda _: GraphConv((-1, -1), HIDDEN, aggr="mean")) for _ in range(count)]


def gin() -> list[nn.Module]:
    """GIN with networks of two layers."""

    def network(width: int) -> nn.Module:
        return nn.Sequential(nn.Linear(width, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, HIDDEN))

    return [GINConv(network(FEATURES["paper"]), eps=0.25), GINConv(network(HIDDEN), train_eps=True)]


def hans() -> nn.Module:
    """HAN over two relations into papers."""
    return HANConv(FEATURES, HIDDEN, METADATA, heads=2)


@dataclass(frozen=True)
class Entry:
    """A model, whether the newer exporter (``dynamo=True``) takes it, and the opset that it is exported with."""

    make: Callable[[], nn.Module]
    dynamo: bool
    opset: int


ZOO = {
    "sage": Entry(lambda: Hetero(sages(2)), True, 20),
    "sage_to_hetero": Entry(lambda: ToHetero(), True, 18),
    "sage_normalized": Entry(
        lambda: Papers([SAGEConv(12, HIDDEN), SAGEConv(HIDDEN, CLASSES, normalize=True)]), True, 21
    ),
    "sage_residual": Entry(lambda: Residual(sages(3), lambda: LayerNorm(HIDDEN, mode="node")), True, 20),
    "sage_jumping": Entry(lambda: Jumping(sages(3), "cat"), False, 17),
    "sage_project": Entry(lambda: Hetero([per_relation(_projecting)]), False, 18),
    "rgcn_deep": Entry(lambda: Hetero(rgcn(4)), False, 17),
    "rgcn_batch_norm": Entry(lambda: Residual(rgcn(2), lambda: BatchNorm(HIDDEN)), True, 20),
    "rgcn_typed": Entry(lambda: Typed([RGCNConv(12, HIDDEN, KINDS), RGCNConv(HIDDEN, CLASSES, KINDS)]), False, 17),
    "rgcn_bases": Entry(
        lambda: Typed([RGCNConv(12, HIDDEN, KINDS, num_bases=2), RGCNConv(HIDDEN, CLASSES, KINDS, num_blocks=2)]),
        False,
        20,
    ),
    "gat": Entry(lambda: Hetero(gats(2, heads=2), act=nn.functional.elu), True, 20),
    "gat_heads": Entry(lambda: Hetero(gats(1, heads=4) + gats(1, heads=3, concat=False), width=8), False, 17),
    "gat_residual": Entry(lambda: Residual(gats(2, heads=2), lambda: nn.LayerNorm(HIDDEN)), True, 20),
    "gat_self_loops": Entry(
        lambda: Papers([GATConv(12, 8, heads=2), GATConv(HIDDEN, 8, heads=2)], nn.Linear(HIDDEN, CLASSES)), False, 18
    ),
    "gcn": Entry(lambda: Papers([GCNConv(12, HIDDEN), GCNConv(HIDDEN, CLASSES)]), True, 20),
    "gcn_deep": Entry(
        lambda: Papers([GCNConv(12, HIDDEN), *(GCNConv(HIDDEN, HIDDEN) for _ in range(3))], nn.Linear(HIDDEN, CLASSES)),
        False,
        17,
    ),
    "gcn_no_loops": Entry(
        lambda: Papers([GCNConv(12, HIDDEN, add_self_loops=False)], nn.Linear(HIDDEN, CLASSES)), True, 20
    ),
    "gin": Entry(lambda: Papers(gin(), nn.Linear(HIDDEN, CLASSES)), True, 20),
    "han": Entry(lambda: Hetero([hans()]), True, 20),
    "han_traced": Entry(lambda: Hetero([hans()]), False, 17),
    "hgt": Entry(Hgts, False, 18),
    "rgat_typed": Entry(
        lambda: Typed(
            [
                RGATConv(12, 8, KINDS, heads=2, attention_mechanism="within-relation"),
                RGATConv(HIDDEN, CLASSES, KINDS, attention_mechanism="within-relation"),
            ]
        ),
        False,
        17,
    ),
    "rgat_relations": Entry(lambda: Residual(rgats(2), lambda: BatchNorm(HIDDEN)), False, 18),
    "rgat": Entry(lambda: Typed([RGATConv(12, 8, KINDS, heads=2)]), True, 20),
    "sage_max": Entry(lambda: Hetero(sages(2, aggr="max")), True, 20),
    "jumping_max": Entry(lambda: Jumping(sages(2), "max"), True, 20),
    "graph_norm": Entry(lambda: Residual(sages(2), lambda: LayerNorm(HIDDEN)), True, 20),
    "gat_v2": Entry(
        lambda: Hetero([per_relation(lambda _: GATv2Conv((-1, -1), 8, heads=2, add_self_loops=False))]), True, 20
    ),
    "gat_bipartite_loops": Entry(lambda: Written(GATConv((-1, -1), CLASSES)), False, 18),
}
