// SPDX-License-Identifier: Apache-2.0
// Decoupling and recoupling: a matching's cover divides the edges into three subgraphs, and a walk through
// the graph orders what is inside each. docs/restructuring.md says why every edge is in exactly one.
#pragma once

#include <algorithm>

#include "matching.hpp"
#include "replacement.hpp"

namespace hetfab::orders {

// The vertices that cover all edges.
struct Cover {
    std::vector<std::uint8_t> sources;
    std::vector<std::uint8_t> destinations;
    Id matched;
    std::uint64_t edge_visits;
};

// Matches from the side with fewer active vertices; its cover needs no search of its own.
inline Cover least_cover(const Sides& sides) {
    const bool from_sources = active_rows(sides.by_source) <= active_rows(sides.by_destination);
    const Csr& rows = from_sources ? sides.by_source : sides.by_destination;
    Matching matching = match(rows);
    std::vector<std::uint8_t> of_rows(rows.rows);
    for (Id row = 0; row < rows.rows; row++) {
        const Id column = matching.column_of_row[row];
        of_rows[row] = column != none && !matching.dead[column];
    }
    Cover cover{{}, {}, matching.size, matching.edge_visits};
    cover.sources = from_sources ? of_rows : matching.dead;
    cover.destinations = from_sources ? matching.dead : of_rows;
    return cover;
}

// Orders of both sides in which neighbours are near: breadth first from the destinations in order of id.
struct Community {
    std::vector<Id> destinations;
    // Place of each source in its order.
    std::vector<Id> source_places;
};

inline Community walk(const Sides& sides) {
    Community community{{}, std::vector<Id>(sides.sources(), none)};
    std::vector<std::uint8_t> seen(sides.destinations());
    Id places = 0;
    std::vector<Id>& queue = community.destinations;
    for (Id root = 0; root < sides.destinations(); root++) {
        if (seen[root] || sides.by_destination.degree(root) == 0) continue;
        seen[root] = 1;
        queue.push_back(root);
        for (std::size_t head = queue.size() - 1; head < queue.size(); head++) {
            const Id row = queue[head];
            for (const Id* source = sides.by_destination.begin(row); source != sides.by_destination.end(row);
                 source++) {
                if (community.source_places[*source] != none) continue;
                community.source_places[*source] = places++;
                for (const Id* next = sides.by_source.begin(*source); next != sides.by_source.end(*source);
                     next++) {
                    if (seen[*next]) continue;
                    seen[*next] = 1;
                    queue.push_back(*next);
                }
            }
        }
    }
    return community;
}

namespace {

inline std::vector<Id> inverse(const std::vector<Id>& places, Id count) {
    std::vector<Id> order(count);
    for (Id vertex = 0; vertex < places.size(); vertex++) {
        if (places[vertex] != none) order[places[vertex]] = vertex;
    }
    return order;
}

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
    std::vector<Id> places(sides.destinations(), none);
    for (Id place = 0; place < community.destinations.size(); place++) {
        places[community.destinations[place]] = place;
    }
    const std::vector<Id> sources = inverse(community.source_places, active_rows(sides.by_source));
    EdgeOrder order;
    for (const bool both : {false, true}) {
        const auto add = [&](Id source, Id destination) {
            if (cover.sources[source] && (cover.destinations[destination] != 0) == both) {
                order.add(source, destination);
            }
        };
        const auto turned = [&](Id destination, Id source) { add(source, destination); };
        if (by_source) {
            each_edge(sides.by_source, sources, places, add);
        } else {
            each_edge(sides.by_destination, community.destinations, community.source_places, turned);
        }
    }
    each_edge(sides.by_destination, community.destinations, community.source_places,
              [&](Id destination, Id source) {
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
