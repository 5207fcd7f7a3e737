// SPDX-License-Identifier: Apache-2.0
// Decoupling and recoupling: a matching's cover divides the edges into three subgraphs, and a walk through
// the graph orders what is inside each. docs/restructuring.md says why every edge is in exactly one.
#pragma once

#include <algorithm>

#include "matching.hpp"
#include "replacement.hpp"
#include "walk.hpp"

namespace hetfab::orders {

// The vertices that cover all edges.
struct Cover {
    std::vector<std::uint8_t> sources;
    std::vector<std::uint8_t> destinations;
};

// Matches from the side with fewer active vertices; its cover needs no search of its own.
inline Cover least_cover(const Sides& sides) {
    const bool from_sources = active_rows(sides.by_source) <= active_rows(sides.by_destination);
    const Csr& rows = from_sources ? sides.by_source : sides.by_destination;
    const Matching matching = match(rows);
    std::vector<std::uint8_t> of_rows(rows.rows);
    for (Id row = 0; row < rows.rows; row++) {
        const Id column = matching.column_of_row[row];
        of_rows[row] = column != none && !matching.dead[column];
    }
    return from_sources ? Cover{of_rows, matching.dead} : Cover{matching.dead, of_rows};
}

namespace {

// Rows in their order, the columns of each by place; `add` gets row and column.
template <class Add>
void each_edge(const Csr& rows, const std::vector<Id>& order, const std::vector<Id>& places, const Add& add) {
    std::vector<Id> columns;
    for (const Id row : order) {
        columns.assign(rows.begin(row), rows.end(row));
        std::sort(columns.begin(), columns.end(), [&](Id a, Id b) { return places[a] < places[b]; });
        for (const Id column : columns) add(row, column);
    }
}

}  // namespace

// The three subgraphs one behind the other: covered sources alone, both ends covered, covered destinations
// alone. The first two go by source, or by destination; the third always goes by destination.
inline EdgeOrder three_subgraphs(const Sides& sides, const Cover& cover, const Community& community,
                                 bool by_source) {
    const std::vector<Id> source_places = places(community.sources, sides.sources());
    const std::vector<Id> destination_places = places(community.destinations, sides.destinations());
    EdgeOrder order;
    for (const bool both : {false, true}) {
        const auto add = [&](Id source, Id destination) {
            if (cover.sources[source] && (cover.destinations[destination] != 0) == both) {
                order.add(source, destination);
            }
        };
        const auto turned = [&](Id destination, Id source) { add(source, destination); };
        if (by_source) {
            each_edge(sides.by_source, community.sources, destination_places, add);
        } else {
            each_edge(sides.by_destination, community.destinations, source_places, turned);
        }
    }
    each_edge(sides.by_destination, community.destinations, source_places, [&](Id destination, Id source) {
        if (!cover.sources[source]) order.add(source, destination);
    });
    return order;
}

// Destinations in an order, the sources of each as they are listed.
inline EdgeOrder by_destination(const Sides& sides, const std::vector<Id>& destinations) {
    EdgeOrder order;
    order.sources.reserve(sides.edges());
    order.destinations.reserve(sides.edges());
    for (const Id row : destinations) {
        for (const Id* source = sides.by_destination.begin(row); source != sides.by_destination.end(row);
             source++) {
            order.add(*source, row);
        }
    }
    return order;
}

}  // namespace hetfab::orders
