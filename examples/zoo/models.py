# SPDX-License-Identifier: Apache-2.0
"""The models: each a function of a recorder, which computes and writes its layers."""

from collections.abc import Callable
from dataclasses import dataclass

from examples.zoo.graphs import (
    CITES,
    LINKS,
    WRITES,
    WRITTEN_BY,
    academic_graph,
    other_words_graph,
    papers_graph,
    words_graph,
)
from examples.zoo.recorder import Recorder, Value
from hetfab.driver.graph.generate import CLASSES
from hetfab.driver.graph.heterograph import HeteroGraph

HIDDEN = 32
HEADS = 4
LAYERS = 2


def gcn(recorder: Recorder) -> Value:
    """GCN (Kipf and Welling, 2017); the last layer has no bias."""
    rows = recorder.dense(recorder.features("paper"), HIDDEN, bias=False)
    hidden = recorder.relu(recorder.biased(recorder.weighted_sum(rows, LINKS)))
    return recorder.weighted_sum(recorder.dense(hidden, CLASSES, bias=False), LINKS)


def gat(recorder: Recorder) -> Value:
    """GAT (Velickovic et al., 2018) with a dense classifier."""
    rows = recorder.dense(recorder.features("paper"), HIDDEN, bias=False)
    hidden = recorder.elu(recorder.biased(recorder.attention(rows, rows, LINKS, HEADS)))
    return recorder.dense(hidden, CLASSES)


def sage_mean(recorder: Recorder) -> Value:
    """GraphSAGE (Hamilton et al., 2017) with means."""
    rows = recorder.features("paper")
    for width in (HIDDEN, CLASSES):
        terms = [recorder.mean(recorder.dense(rows, width, bias=False), LINKS), recorder.dense(rows, width)]
        rows = recorder.relu(recorder.total(terms)) if width == HIDDEN else recorder.total(terms)
    return rows


def sage_sum(recorder: Recorder) -> Value:
    """GraphSAGE with sums."""
    rows = recorder.features("paper")
    for width in (HIDDEN, CLASSES):
        terms = [recorder.sum(recorder.dense(rows, width, bias=False), LINKS), recorder.dense(rows, width)]
        rows = recorder.relu(recorder.total(terms)) if width == HIDDEN else recorder.total(terms)
    return rows


def gin(recorder: Recorder) -> Value:
    """GIN (Xu et al., 2019), eps = 0.25, behind a projection of the words."""
    rows = recorder.dense(recorder.features("paper"), HIDDEN)
    mixed = recorder.total([recorder.scaled(rows, 1.25), recorder.sum(rows, LINKS)])
    hidden = recorder.relu(recorder.dense(recorder.relu(mixed), HIDDEN))
    return recorder.dense(hidden, CLASSES)


def hgt(recorder: Recorder) -> Value:
    """HGT (Hu et al., 2020): one softmax over the edges of all relations into a type, and a gated residual.

    The key of a type, the matrix and the weight of a relation are one matrix (equation 3), and so are the value of a
    type and the message of a relation (equation 4). A type that no edges lead to keeps its rows.
    """
    graph = recorder.graph
    featured = graph.schema().feature_widths
    hidden = {name: recorder.tanh(recorder.dense(recorder.features(name), HIDDEN)) for name in featured}
    hidden |= {name: recorder.tanh(recorder.table(name, HIDDEN)) for name in graph.counts if name not in featured}
    for layer in range(LAYERS):
        types = ("paper",) if layer == LAYERS - 1 else tuple(graph.counts)
        hidden |= {name: _hgt_layer(recorder, layer, name, hidden) for name in types}
    return recorder.dense(hidden["paper"], CLASSES)


def _hgt_layer(recorder: Recorder, layer: int, node_type: str, hidden: dict[str, Value]) -> Value:
    """The rows of a type behind one layer of HGT."""
    into = tuple(relation for relation in recorder.graph.relations if relation.destination == node_type)
    if not into:
        return hidden[node_type]
    queries = recorder.dense(hidden[node_type], HIDDEN)
    keys, messages = (
        [
            recorder.by_relation(
                hidden[relation.source],
                f"{what}{layer}.{relation.source}",
                f"{what}{layer}.{relation.name}",
                HEADS,
                weigh=what == "key",
            )
            for relation in into
        ]
        for what in ("key", "value")
    )
    mixed = recorder.gelu(recorder.dot_attention(queries, keys, messages, into, HEADS))
    return recorder.gated(mixed, hidden[node_type])


def nars(recorder: Recorder) -> Value:
    """NARS (Yu et al., 2020): means over subsets of relations, weighted sums of subsets, then a network of the hops.

    A subset's weights and the layer that reads its projected mean are one matrix, beside those of the other subsets.
    """
    relations = {relation.name: relation for relation in recorder.graph.relations}
    subsets = [("cites", "cites"), ("written_by", "writes"), ("has_term", "term_of")]
    hops = [recorder.relu(recorder.dense(recorder.metapath_mean((), "paper"), HIDDEN))]
    for length in (1, 2):
        paths = [tuple(relations[name] for name in subset[:length]) for subset in subsets]
        means = [recorder.metapath_mean(path, path[-1].destination) for path in paths]
        projected = recorder.joined([recorder.dense(mean, HIDDEN) for mean in means])
        hops.append(recorder.relu(recorder.dense(projected, HIDDEN)))
    hidden = recorder.relu(recorder.dense(recorder.joined(hops), HIDDEN))
    return recorder.dense(hidden, CLASSES)


def inductive(recorder: Recorder) -> Value:
    """An RGCN without learned rows: authors are the mean of their papers."""
    rows = recorder.features("paper")
    authors = recorder.relu(recorder.mean(recorder.dense(rows, HIDDEN), WRITTEN_BY))
    cited = recorder.mean(recorder.dense(rows, HIDDEN, bias=False), CITES)
    written = recorder.mean(recorder.dense(authors, HIDDEN, bias=False), WRITES)
    papers = recorder.relu(recorder.total([recorder.dense(rows, HIDDEN), cited, written]))
    last = recorder.mean(recorder.dense(papers, CLASSES, bias=False), CITES)
    return recorder.total([recorder.dense(papers, CLASSES), last])


@dataclass(frozen=True)
class Entry:
    """A model with the graphs that it is trained and tested on."""

    layers: Callable[[Recorder], Value]
    training: Callable[[], HeteroGraph]
    testing: Callable[[], HeteroGraph]


ZOO = {
    "gcn": Entry(gcn, papers_graph, papers_graph),
    "gat": Entry(gat, papers_graph, papers_graph),
    "sage_mean": Entry(sage_mean, papers_graph, papers_graph),
    "sage_sum": Entry(sage_sum, papers_graph, papers_graph),
    "gin": Entry(gin, papers_graph, papers_graph),
    "hgt": Entry(hgt, academic_graph, academic_graph),
    "nars": Entry(nars, academic_graph, academic_graph),
    "inductive": Entry(inductive, words_graph, other_words_graph),
}
