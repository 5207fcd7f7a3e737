// SPDX-License-Identifier: Apache-2.0
// What SGB does not check itself: that its memories hold a graph's columns, and that starts and ids are
// those of a graph. Hardware would wrap around its addresses; here it would leave its arrays.
#pragma once

#include <algorithm>
#include <cstdint>
#include <stdexcept>
#include <string>

#include "hetfab/sgb.hpp"
#include "memories.hpp"

namespace hetfab {

namespace {

inline void check_at_most(const char* what, std::uint64_t found, std::uint64_t most, const char* limit) {
    if (found <= most) return;
    throw std::out_of_range(std::string(what) + " " + std::to_string(found) + ", not at most " +
                            std::to_string(most) + ", the " + limit);
}

// Numbers of 32 bits in DRAM, null for none.
inline const std::uint32_t* numbers_at(const Dram& dram, std::uint64_t address, std::uint64_t count) {
    const MappedBytes mapped = dram.mapped(address);
    if (count != 0 && mapped.size / sizeof(std::uint32_t) < count) {
        throw std::out_of_range("a graph of " + std::to_string(count) + " numbers at " +
                                hexadecimal(address) + ", which is not mapped memory");
    }
    return reinterpret_cast<const std::uint32_t*>(mapped.bytes);
}

inline void check_graph(const char* name, const Dram& dram, const GraphArrays& graph, unsigned columns) {
    const std::uint32_t* starts = numbers_at(dram, graph.starts, std::uint64_t{graph.rows} + 1);
    const std::uint32_t edges = starts[graph.rows];
    if (!std::is_sorted(starts, starts + graph.rows + 1) || starts[0] != 0 || edges > graph.edges) {
        throw std::out_of_range(std::string("the ") + name +
                                " graph's starts do not ascend from 0 to at most " +
                                std::to_string(graph.edges));
    }
    const std::uint32_t* ids = numbers_at(dram, graph.ids, edges);
    std::uint32_t largest = 0;
    for (std::uint32_t edge = 0; edge < edges; edge++) largest = std::max(largest, ids[edge]);
    if (edges != 0 && largest >= columns) {
        throw std::out_of_range(std::string("the ") + name + " graph has the id " + std::to_string(largest) +
                                ", not one below " + std::to_string(columns));
    }
}

// Bitmaps of dense rows: each has the row's ids and no others.
inline void check_bitmaps(const Dram& dram, const GraphTile& tile) {
    const std::uint32_t* starts = numbers_at(dram, tile.right.starts, std::uint64_t{tile.right.rows} + 1);
    const std::uint32_t edges = starts[tile.right.rows];
    const std::uint32_t* ids = numbers_at(dram, tile.right.ids, edges);
    const std::uint32_t* bitmaps = numbers_at(dram, tile.bitmaps, edges);
    const unsigned words = words_of(tile.columns);
    for (unsigned row = 0; row < tile.right.rows; row++) {
        const std::uint32_t count = starts[row + 1] - starts[row];
        if (!is_dense(count, words)) continue;
        const std::uint32_t* bits = bitmaps + (starts[row] + numbers_per_beat - 1) / numbers_per_beat * 2;
        std::uint32_t set = 0;
        std::uint32_t found = 0;
        for (unsigned word = 0; word < numbers_per_beat * words; word++) {
            set += static_cast<std::uint32_t>(__builtin_popcount(bits[word]));
        }
        for (std::uint32_t edge = starts[row]; edge < starts[row + 1]; edge++) {
            found += bits[ids[edge] / 32] >> ids[edge] % 32 & 1;
        }
        if (set != count || found != count)
            throw std::out_of_range("the bitmap of row " + std::to_string(row) +
                                    " of the right graph is not its ids");
    }
}

template <class D>
void check_graphs(const Dram& dram, const GraphTile& tile, unsigned opcode) {
    if (opcode == isa::Transpose::opcode) {
        check_at_most("rows of a transpose", tile.out.rows, D::sgb_columns, "design's sgb_columns");
        check_graph("left", dram, tile.left, tile.out.rows);
        return;
    }
    check_at_most("columns", tile.columns, D::sgb_columns, "design's sgb_columns");
    check_graph("right", dram, tile.right, tile.columns);
    if (opcode == isa::Widen::opcode) return;
    check_at_most("threshold", tile.threshold, D::sgb_ids, "design's sgb_ids");
    if (tile.out.rows != tile.left.rows) {
        throw std::out_of_range("compose of " + std::to_string(tile.out.rows) + " rows, the left graph has " +
                                std::to_string(tile.left.rows));
    }
    check_graph("left", dram, tile.left, tile.right.rows);
    if (tile.wide) check_bitmaps(dram, tile);
}

}  // namespace

}  // namespace hetfab
