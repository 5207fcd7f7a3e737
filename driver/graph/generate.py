# SPDX-License-Identifier: Apache-2.0
"""Generates a small academic graph with planted classes of papers, for demonstrations and tests.

A paper's words show its class only in part; citations, authors, venues and terms show the rest, so a model
that uses the graph is better than one that reads words alone.
"""

import functools
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import numpy as np
import numpy.typing as npt

from hetfab.driver.graph.heterograph import CsrFeatures, Edges, HeteroGraph
from hetfab.driver.graph.npz import write_graph
from hetfab.overlay.errors import HetfabError, counted
from hetfab.overlay.model.schema import Relation

CLASSES = 4
WORDS = 300
VENUES = 20
_AUTHOR_WIDTH = 48
_TERM_WIDTH = 32
_WORDS_A_PAPER = 14
#: Share of a paper's words, and of its edges of each relation, that are drawn from its own class.
_WORD_LOYALTY = 0.2
_EDGE_LOYALTY = {"cites": 0.6, "written_by": 0.65, "published_in": 0.5, "has_term": 0.4}
#: The power of an even draw that says which place is drawn.
_SKEW = 2.0
#: Relations from papers with their reverses, other ends and largest number of edges a paper.
_RELATIONS = (
    ("cites", "cited_by", "paper", 6),
    ("written_by", "writes", "author", 4),
    ("published_in", "publishes", "venue", 1),
    ("has_term", "term_of", "term", 8),
)

Ids = npt.NDArray[np.int64]


def academic(
    seed: int = 7, papers: int = 1000, authors: int = 620, terms: int = 360, skew: float = _SKEW
) -> HeteroGraph:
    """Generates an academic graph; equal arguments give equal graphs.

    Args:
        seed: Of all random numbers.
        papers: Number of papers, the target; at least 10.
        authors: Number of authors.
        terms: Number of terms.
        skew: How much more often some nodes are drawn as ends of edges: 1 draws evenly.

    Returns:
        Papers with sparse bags of words, authors and terms with dense features, 20 venues without features;
        eight relations, each second the reverse of the one before; labels of papers and a split of 24, 6 and
        70 %.
    """
    rng = np.random.default_rng(seed)
    counts = {"paper": papers, "author": authors, "venue": VENUES, "term": terms}
    classes = {node_type: rng.integers(0, CLASSES, count) for node_type, count in counts.items()}
    relations: dict[Relation, Edges] = {}
    for name, reverse, other, largest in _RELATIONS:
        draw = functools.partial(_draw, rng, loyalty=_EDGE_LOYALTY[name], skew=skew)
        edges = _edges(rng, classes["paper"], classes[other], largest, draw, other == "paper")
        relations[Relation("paper", name, other)] = edges
        relations[Relation(other, reverse, "paper")] = Edges(edges.destination, edges.source)
    return HeteroGraph(
        name="academic",
        target="paper",
        counts=counts,
        relations=relations,
        features={
            "paper": _bags_of_words(rng, classes["paper"]),
            "author": _noisy_classes(rng, classes["author"], _AUTHOR_WIDTH),
            "term": _noisy_classes(rng, classes["term"], _TERM_WIDTH),
        },
        labels={"paper": classes["paper"].astype(np.int32)},
        splits={"paper": _split(rng, papers)},
        metapaths={
            "PAP": ("written_by", "writes"),
            "PVP": ("published_in", "publishes"),
            "PTP": ("has_term", "term_of"),
        },
    )


def _draw(rng: np.random.Generator, wanted: Ids, classes: Ids, loyalty: float, skew: float = _SKEW) -> Ids:
    """Draws a node for each wanted class: of that class with the probability ``loyalty``, else of any.

    Low positions are drawn more often, so that degrees differ as in real graphs.
    """
    by_class = np.argsort(classes, kind="stable")
    sizes = np.bincount(classes, minlength=CLASSES)
    starts = np.cumsum(sizes) - sizes
    loyal = (rng.random(len(wanted)) < loyalty) & (sizes[wanted] > 0)
    share = rng.random(len(wanted)) ** skew
    start = np.where(loyal, starts[wanted], 0)
    size = np.where(loyal, sizes[wanted], len(classes))
    anyone = rng.permutation(len(classes))
    position = start + (share * size).astype(np.int64)
    drawn: Ids = np.where(loyal, by_class[position], anyone[position])
    return drawn


def _edges(
    rng: np.random.Generator, papers: Ids, others: Ids, largest: int, draw: Callable[[Ids, Ids], Ids], same_type: bool
) -> Edges:
    """Edges from papers, without duplicates and self loops, sorted by source, then destination."""
    degrees = rng.integers(0 if same_type else 1, largest + 1, len(papers))
    source = np.repeat(np.arange(len(papers)), degrees)
    destination = draw(papers[source], others)
    keys = np.unique(source * len(others) + destination)
    source, destination = keys // len(others), keys % len(others)
    keep = source != destination if same_type else np.ones(len(keys), dtype=np.bool_)
    return Edges(source[keep].astype(np.int32), destination[keep].astype(np.int32))


def _bags_of_words(rng: np.random.Generator, classes: Ids) -> CsrFeatures:
    """Word counts of each paper; word w leans to the class w modulo CLASSES."""
    topics = np.arange(WORDS) % CLASSES
    row = np.repeat(np.arange(len(classes)), _WORDS_A_PAPER)
    word = _draw(rng, classes[row], topics, _WORD_LOYALTY)
    keys, occurrences = np.unique(row * WORDS + word, return_counts=True)
    indptr = np.searchsorted(keys, np.arange(len(classes) + 1) * WORDS)
    return CsrFeatures(
        indptr=indptr.astype(np.int32),
        indices=(keys % WORDS).astype(np.int32),
        data=occurrences.astype(np.float32),
        width=WORDS,
    )


def _noisy_classes(rng: np.random.Generator, classes: Ids, width: int) -> npt.NDArray[np.float32]:
    """A point for each class under noise that hides it in single nodes, float32 [N, width]."""
    centres = rng.random((CLASSES, width)) - 0.5
    noise = 4 * (rng.random((len(classes), width)) - 0.5)
    return (centres[classes] + noise).astype(np.float32)


def _split(rng: np.random.Generator, count: int) -> dict[str, npt.NDArray[Any]]:
    order = rng.permutation(count).astype(np.int32)
    train, val = round(0.24 * count), round(0.30 * count)
    parts = {"train": order[:train], "val": order[train:val], "test": order[val:]}
    return {name: np.sort(ids) for name, ids in parts.items()}


@click.command()
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="The graph file to write.")
@click.option("--seed", default=7, show_default=True, help="Seed of all random numbers.")
@click.option("--papers", default=1000, show_default=True, type=click.IntRange(10), help="Number of papers.")
def main(output: Path, seed: int, papers: int) -> None:
    """Generates a small academic graph for demonstrations and tests."""
    graph = academic(seed, papers)
    try:
        write_graph(output, graph)
    except HetfabError as error:
        click.echo(str(error), err=True)
        sys.exit(error.exit_code)
    edges = sum(len(relation.source) for relation in graph.relations.values())
    sizes = f"{counted(sum(graph.counts.values()), 'node')}, {counted(edges, 'edge')}"
    click.echo(f"{output}: {sizes}, {CLASSES} classes of papers")


if __name__ == "__main__":
    main()
