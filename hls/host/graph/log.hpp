// SPDX-License-Identifier: Apache-2.0
// What a schedule does: its edges in order, and which vertex enters or leaves the buffer before which edge.
#pragma once

#include "sides.hpp"

namespace hetfab::orders {

struct Log {
    std::vector<Id> sources;
    std::vector<Id> destinations;
    // Of each event: edges done before it, the vertex, and whether it leaves.
    std::vector<Id> at;
    std::vector<Id> vertices;
    std::vector<std::uint8_t> leaves;

    explicit Log(Id edges) {
        sources.reserve(edges);
        destinations.reserve(edges);
    }
    void edge(Id source, Id destination) {
        sources.push_back(source);
        destinations.push_back(destination);
    }
    void load(Id vertex) { event(vertex, 0); }
    void leave(Id vertex) { event(vertex, 1); }

  private:
    void event(Id vertex, std::uint8_t leaving) {
        at.push_back(static_cast<Id>(sources.size()));
        vertices.push_back(vertex);
        leaves.push_back(leaving);
    }
};

}  // namespace hetfab::orders
