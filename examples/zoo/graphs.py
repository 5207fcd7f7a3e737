# SPDX-License-Identifier: Apache-2.0
"""The graphs that the models of this folder are trained and tested on, made of the generated academic graph."""

from dataclasses import replace

import numpy as np

from hetfab.driver.graph.generate import academic
from hetfab.driver.graph.heterograph import Edges, HeteroGraph
from hetfab.overlay.model.schema import Relation

#: Of the graph that models are trained on, and of the graph that the inductive model meets later.
TRAINING_SEED, OTHER_SEED = 7, 11
OTHER_PAPERS = 700
CITES = Relation("paper", "cites", "paper")
LINKS = Relation("paper", "links", "paper")
WRITTEN_BY = Relation("paper", "written_by", "author")
WRITES = Relation("author", "writes", "paper")


def academic_graph() -> HeteroGraph:
    """Papers, authors, venues and terms."""
    return academic(TRAINING_SEED)


def papers_graph() -> HeteroGraph:
    """Papers alone: who cites whom in both directions, and each paper linked to itself, each edge once."""
    graph = academic_graph()
    cites, count = graph.relations[CITES], graph.counts["paper"]
    own = np.arange(count, dtype=np.int32)
    source = np.concatenate([cites.source, cites.destination, own])
    destination = np.concatenate([cites.destination, cites.source, own])
    edges = np.unique(np.stack([source, destination], axis=1), axis=0)
    links = Edges(edges[:, 0].copy(), edges[:, 1].copy())
    return replace(
        graph,
        name="papers",
        counts={"paper": count},
        relations={LINKS: links},
        features={"paper": graph.features["paper"]},
        metapaths={},
    )


def words_graph(seed: int = TRAINING_SEED, papers: int = 1000) -> HeteroGraph:
    """Papers with their words and authors without features: what graphs of any seed have in common."""
    graph = academic(seed, papers)
    kept = (CITES, WRITTEN_BY, WRITES)
    return replace(
        graph,
        name="words",
        counts={name: graph.counts[name] for name in ("paper", "author")},
        relations={relation: graph.relations[relation] for relation in kept},
        features={"paper": graph.features["paper"]},
        metapaths={},
    )


def other_words_graph() -> HeteroGraph:
    """A graph that no model was trained on, of another size."""
    return words_graph(OTHER_SEED, OTHER_PAPERS)
