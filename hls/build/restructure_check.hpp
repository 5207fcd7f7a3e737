// SPDX-License-Identifier: Apache-2.0
// What RST does not check itself: that its memories hold a graph's vertices, and that graphs, matchings and
// walks are such. Hardware would wrap around its addresses; here it would leave its arrays.
#pragma once

#include <algorithm>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <vector>

#include "graph_check.hpp"
#include "hetfab/rst.hpp"

namespace hetfab {

namespace {

// The edges of a graph as row and column, or turned, sorted.
inline std::vector<std::uint64_t> sorted_edges(const Dram& dram, const GraphArrays& graph, bool turn) {
    const std::uint32_t* starts = numbers_at(dram, graph.starts, std::uint64_t{graph.rows} + 1);
    const std::uint32_t* ids = numbers_at(dram, graph.ids, starts[graph.rows]);
    std::vector<std::uint64_t> edges;
    edges.reserve(starts[graph.rows]);
    for (std::uint64_t row = 0; row < graph.rows; row++) {
        for (std::uint32_t edge = starts[row]; edge < starts[row + 1]; edge++) {
            const std::uint64_t column = ids[edge];
            edges.push_back(turn ? column << 32 | row : row << 32 | column);
        }
    }
    std::sort(edges.begin(), edges.end());
    return edges;
}

inline void check_no_edge_twice(const char* name, const std::vector<std::uint64_t>& edges) {
    const auto twice = std::adjacent_find(edges.begin(), edges.end());
    if (twice == edges.end()) return;
    throw std::out_of_range(std::string("the ") + name + " has the edge from " +
                            std::to_string(*twice >> 32) + " to " + std::to_string(*twice & 0xFFFFFFFF) +
                            " twice");
}

inline void check_turned(const Dram& dram, const RestructureTile& tile) {
    check_graph("turned", dram, tile.turned, tile.graph.rows);
    const std::vector<std::uint64_t> edges = sorted_edges(dram, tile.graph, false);
    check_no_edge_twice("graph", edges);
    if (edges != sorted_edges(dram, tile.turned, true)) {
        throw std::out_of_range("the turned graph has other edges than the graph");
    }
}

// Pairs name columns, marks are 0 or 1, and what they make cover meets every edge.
inline void check_matching(const Dram& dram, const RestructureTile& tile) {
    const unsigned rows = tile.matching_of_turned ? tile.turned.rows : tile.graph.rows;
    const unsigned columns = tile.matching_of_turned ? tile.graph.rows : tile.turned.rows;
    const std::uint32_t* pairs = numbers_at(dram, tile.matching, std::uint64_t{rows} + columns);
    for (unsigned row = 0; row < rows; row++) {
        if (pairs[row] < columns || pairs[row] == ~0U) continue;
        throw std::out_of_range("the matching has the column " + std::to_string(pairs[row]) +
                                ", not one below " + std::to_string(columns));
    }
    for (unsigned column = 0; column < columns; column++) {
        if (pairs[rows + column] <= 1) continue;
        throw std::out_of_range("the matching marks a column with " + std::to_string(pairs[rows + column]) +
                                ", not 0 or 1");
    }
    const GraphArrays& matched = tile.matching_of_turned ? tile.turned : tile.graph;
    for (const std::uint64_t edge : sorted_edges(dram, matched, false)) {
        const std::uint32_t pair = pairs[edge >> 32];
        if (pairs[rows + (edge & 0xFFFFFFFF)] == 1 || (pair != ~0U && pairs[rows + pair] == 0)) continue;
        throw std::out_of_range("the matching leaves the edge from " + std::to_string(edge >> 32) + " to " +
                                std::to_string(edge & 0xFFFFFFFF) + " without a cover");
    }
}

// Vertices of an order are below a limit, and none is there twice.
inline void check_order(const Dram& dram, std::uint64_t address, unsigned vertices) {
    const std::uint32_t* order = numbers_at(dram, address, std::uint64_t{vertices} + 1);
    std::vector<bool> met(vertices);
    for (std::uint32_t place = 1; place <= std::min(order[0], vertices); place++) {
        if (order[place] < vertices && !met[order[place]]) {
            met[order[place]] = true;
            continue;
        }
        throw std::out_of_range("the walk has the vertex " + std::to_string(order[place]) +
                                ", not one below " + std::to_string(vertices) + " that it has once");
    }
    check_at_most("vertices of the walk", order[0], vertices, "vertices of the graph");
}

template <class D, class Z>
void check_restructure(const Dram& dram, const Word<Z, isa::instruction_bits>& instruction,
                       const RestructureTile& tile) {
    const auto opcode = static_cast<int>(number<Z, isa::Header::Opcode>(instruction));
    check_at_most("rows", tile.graph.rows, D::rst_vertices, "design's rst_vertices");
    if (opcode == isa::Match::opcode) {
        const unsigned columns = number<Z, isa::Match::Columns>(instruction);
        check_at_most("columns", columns, D::rst_vertices, "design's rst_vertices");
        check_graph("matched", dram, tile.graph, columns);
        check_no_edge_twice("matched graph", sorted_edges(dram, tile.graph, false));
        return;
    }
    check_at_most("columns", tile.turned.rows, D::rst_vertices, "design's rst_vertices");
    check_graph("restructured", dram, tile.graph, tile.turned.rows);
    check_turned(dram, tile);
    if (opcode == isa::Recouple::opcode) {
        check_matching(dram, tile);
        check_order(dram, tile.walk, tile.graph.rows);
        check_order(dram, column_order(tile.walk, tile.graph.rows), tile.turned.rows);
    }
    if (opcode == isa::GrowTiles::opcode && (number<Z, isa::GrowTiles::Stride>(instruction) == 0 ||
                                             number<Z, isa::GrowTiles::TileRows>(instruction) == 0)) {
        throw std::out_of_range("tiles of 0 rows or every 0th column, not at least 1");
    }
}

}  // namespace

}  // namespace hetfab
