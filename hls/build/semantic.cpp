// SPDX-License-Identifier: Apache-2.0
// The C interface of the host's semantic graph builder, which semantic.py calls.
#include "host/semantic.hpp"

#include <cstdio>

namespace {

using hetfab::GraphSpace;
using hetfab::GraphView;

// A graph in DRAM: byte offsets of its arrays, and the room for its ids.
struct Graph {
    std::uint32_t rows;
    std::uint32_t columns;
    std::uint64_t starts;
    std::uint64_t ids;
    std::uint64_t capacity;
};

// Indices of graphs; `kind` 0 composes, 1 transposes `left`, 2 drops `left`.
struct Step {
    std::uint32_t kind;
    std::uint32_t left;
    std::uint32_t right;
    std::uint32_t out;
    std::uint32_t threshold;
};

struct Totals {
    std::uint64_t expansions;
    // Largest memory of graphs that the steps made, and scratch, at once.
    std::uint64_t peak_bytes;
};

class Builder {
  public:
    Builder(unsigned char* dram, const Graph* graphs) : dram_(dram), graphs_(graphs) {}

    void run(const Step& step) {
        if (step.kind == 0) {
            const hetfab::Composed made =
                hetfab::compose_graph(view(step.left), view(step.right), step.threshold, space(step.out));
            totals_.expansions += made.expansions;
            grow(bytes(step.out), made.scratch_bytes);
        } else if (step.kind == 1) {
            const std::uint64_t scratch = hetfab::transpose_graph(view(step.left), space(step.out));
            grow(bytes(step.out), scratch);
        } else {
            live_ -= bytes(step.left);
        }
    }

    const Totals& totals() const { return totals_; }

  private:
    GraphView view(std::uint32_t graph) const {
        const GraphSpace there = space(graph);
        return {graphs_[graph].rows, graphs_[graph].columns, there.starts, there.ids};
    }
    GraphSpace space(std::uint32_t graph) const {
        const Graph& found = graphs_[graph];
        return {reinterpret_cast<std::uint32_t*>(dram_ + found.starts),
                reinterpret_cast<std::uint32_t*>(dram_ + found.ids), found.capacity};
    }
    std::uint64_t bytes(std::uint32_t graph) const {
        const GraphView found = view(graph);
        return sizeof(std::uint32_t) * (std::uint64_t{found.edges()} + found.rows + 1);
    }
    void grow(std::uint64_t made, std::uint64_t scratch) {
        live_ += made;
        totals_.peak_bytes = std::max(totals_.peak_bytes, live_ + scratch);
    }

    unsigned char* dram_;
    const Graph* graphs_;
    std::uint64_t live_ = 0;
    Totals totals_ = {};
};

}  // namespace

extern "C" {

// Carries out steps; 0, or 1 with a message where a graph does not fit its space.
int hetfab_semantic_build(unsigned char* dram, const Graph* graphs, const Step* steps, std::uint64_t count,
                          Totals* totals, char* message, std::uint64_t message_bytes) {
    try {
        Builder builder(dram, graphs);
        for (std::uint64_t step = 0; step < count; step++) builder.run(steps[step]);
        *totals = builder.totals();
        return 0;
    } catch (const std::exception& error) {
        std::snprintf(message, message_bytes, "%s", error.what());
        return 1;
    }
}
}
