// SPDX-License-Identifier: Apache-2.0
// Orders of both sides in which neighbours are near.
#pragma once

#include "sides.hpp"

namespace hetfab::orders {

// Vertices with edges, in order.
struct Community {
    std::vector<Id> destinations;
    std::vector<Id> sources;
};

// Breadth first from destination to destination by their sources, from the lowest id that is left.
inline Community walk(const Sides& sides) {
    Community community;
    std::vector<std::uint8_t> met_sources(sides.sources());
    std::vector<std::uint8_t> met(sides.destinations());
    std::vector<Id>& queue = community.destinations;
    const auto meet = [&](Id destination) {
        if (met[destination]) return;
        met[destination] = 1;
        queue.push_back(destination);
    };
    for (Id root = 0; root < sides.destinations(); root++) {
        if (met[root] || sides.by_destination.degree(root) == 0) continue;
        std::size_t head = queue.size();
        for (meet(root); head < queue.size(); head++) {
            const Csr& rows = sides.by_destination;
            const Id row = queue[head];
            for (const Id* source = rows.begin(row); source != rows.end(row); source++) {
                if (met_sources[*source]) continue;
                met_sources[*source] = 1;
                community.sources.push_back(*source);
                const Csr& columns = sides.by_source;
                for (const Id* next = columns.begin(*source); next != columns.end(*source); next++)
                    meet(*next);
            }
        }
    }
    return community;
}

// Of each vertex its place in an order; `none` where it has none.
inline std::vector<Id> places(const std::vector<Id>& order, Id vertices) {
    std::vector<Id> found(vertices, none);
    for (Id place = 0; place < order.size(); place++) found[order[place]] = place;
    return found;
}

}  // namespace hetfab::orders
