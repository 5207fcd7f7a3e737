// SPDX-License-Identifier: Apache-2.0
// A semantic graph by source and by destination, for orders of its edges (docs/restructuring.md).
#pragma once

#include <cstdint>
#include <vector>

namespace hetfab::orders {

using Id = std::uint32_t;

constexpr Id none = ~Id{0};

// Rows of ids below `columns`; those of row r from starts[r] to starts[r + 1].
struct Csr {
    Id rows;
    Id columns;
    const Id* starts;
    const Id* ids;

    Id edges() const { return starts[rows]; }
    Id degree(Id row) const { return starts[row + 1] - starts[row]; }
    const Id* begin(Id row) const { return ids + starts[row]; }
    const Id* end(Id row) const { return ids + starts[row + 1]; }
};

// The same edges from both sides.
struct Sides {
    Csr by_source;
    Csr by_destination;

    Id sources() const { return by_source.rows; }
    Id destinations() const { return by_destination.rows; }
    Id vertices() const { return sources() + destinations(); }
    Id edges() const { return by_source.edges(); }
    // Destinations follow the sources where both are numbered as vertices.
    Id vertex_of_destination(Id destination) const { return sources() + destination; }
    bool is_destination(Id vertex) const { return vertex >= sources(); }
    Id degree(Id vertex) const {
        return vertex < sources() ? by_source.degree(vertex) : by_destination.degree(vertex - sources());
    }
};

inline Id active_rows(const Csr& graph) {
    Id count = 0;
    for (Id row = 0; row < graph.rows; row++) count += graph.degree(row) != 0;
    return count;
}

// Rows with edges, fewest edges first or most edges first, equals by id.
inline std::vector<Id> rows_by_degree(const Csr& graph, bool most_first) {
    Id largest = 0;
    for (Id row = 0; row < graph.rows; row++) {
        if (graph.degree(row) > largest) largest = graph.degree(row);
    }
    std::vector<Id> place(largest + 2);
    const auto key = [&](Id row) { return most_first ? largest - graph.degree(row) : graph.degree(row); };
    Id active = 0;
    for (Id row = 0; row < graph.rows; row++) {
        if (graph.degree(row) == 0) continue;
        place[key(row) + 1]++;
        active++;
    }
    for (Id degree = 0; degree <= largest; degree++) place[degree + 1] += place[degree];
    std::vector<Id> rows(active);
    for (Id row = 0; row < graph.rows; row++) {
        if (graph.degree(row) != 0) rows[place[key(row)]++] = row;
    }
    return rows;
}

}  // namespace hetfab::orders
