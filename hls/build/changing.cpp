// SPDX-License-Identifier: Apache-2.0
// The C interface of semantic graphs that follow changes of edges, which changing.py calls.
#include "host/changing.hpp"

#include <exception>

namespace {

using hetfab::ChangingGraph;
using hetfab::Flip;

// About how many edges a graph will have, and the largest count of one.
struct Graph {
    std::uint32_t rows;
    std::uint32_t columns;
    std::uint64_t edges;
    std::uint64_t most;
    std::uint32_t is_left;
    std::uint32_t unused;
};

// Indices of graphs; `out` is the product of the others.
struct Step {
    std::uint32_t left;
    std::uint32_t right;
    std::uint32_t out;
};

struct Graphs {
    std::vector<ChangingGraph> graphs;
    std::vector<Step> steps;
};

}  // namespace

extern "C" {

// Graphs without edges, relations first; null where memory does not suffice.
Graphs* hetfab_changing_create(const Graph* graphs, std::uint64_t count, const Step* steps,
                               std::uint64_t step_count) {
    try {
        auto made = std::make_unique<Graphs>();
        for (const Graph* graph = graphs; graph != graphs + count; graph++) {
            made->graphs.emplace_back(graph->rows, graph->columns, graph->edges, graph->most,
                                      graph->is_left != 0);
        }
        made->steps.assign(steps, steps + step_count);
        return made.release();
    } catch (const std::exception&) {
        return nullptr;
    }
}

void hetfab_changing_free(Graphs* graphs) { delete graphs; }

// Changes relations: the edges of relation r from starts[r] to starts[r + 1]. 0, or 1 where memory does not
// suffice.
int hetfab_changing_update(Graphs* graphs, std::uint64_t relations, const std::uint64_t* starts,
                           const std::int64_t* rows, const std::int64_t* columns, const std::int8_t* signs) {
    try {
        std::vector<Flip> changes;
        for (std::uint64_t relation = 0; relation < relations; relation++) {
            changes.clear();
            for (std::uint64_t at = starts[relation]; at < starts[relation + 1]; at++) {
                changes.push_back({static_cast<std::uint32_t>(rows[at]),
                                   static_cast<std::uint32_t>(columns[at]), signs[at]});
            }
            graphs->graphs[relation].change(changes);
        }
        for (const Step& step : graphs->steps) {
            graphs->graphs[step.out].follow(graphs->graphs[step.left], graphs->graphs[step.right]);
        }
        for (ChangingGraph& graph : graphs->graphs) graph.settle();
        return 0;
    } catch (const std::exception&) {
        return 1;
    }
}

// Marks the rows of a graph that the last update changed.
void hetfab_changing_mark(const Graphs* graphs, std::uint32_t graph, std::uint8_t* marks) {
    for (const Flip& flip : graphs->graphs[graph].flips()) marks[flip.row] = 1;
}

// Edges of some rows of a graph.
void hetfab_changing_degrees(const Graphs* graphs, std::uint32_t graph, const std::int64_t* rows,
                             std::uint64_t count, std::int64_t* degrees) {
    for (std::uint64_t at = 0; at < count; at++) {
        degrees[at] = static_cast<std::int64_t>(
            graphs->graphs[graph].counts().degree(static_cast<std::uint32_t>(rows[at])));
    }
}

// Columns of some rows of a graph, in rising order.
void hetfab_changing_columns(const Graphs* graphs, std::uint32_t graph, const std::int64_t* rows,
                             std::uint64_t count, std::int32_t* columns) {
    for (std::uint64_t at = 0; at < count; at++) {
        columns = graphs->graphs[graph].counts().write(static_cast<std::uint32_t>(rows[at]), columns);
    }
}
}
