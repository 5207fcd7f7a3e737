// SPDX-License-Identifier: Apache-2.0
// Graphs in DRAM in the layout 'adjacency', as instructions name them.
#pragma once

#include "isa.hpp"
#include "types.hpp"

namespace hetfab {

// A graph. Its last start is the number of its edges, `edges` the most there may
// be.
struct GraphArrays {
    std::uint64_t starts;
    std::uint64_t ids;
    unsigned rows;
    unsigned edges;
};

// Where a row's ids are in the array of ids.
struct RowPlace {
    unsigned first;
    unsigned count;
};

template <class Z, class Op>
GraphArrays graph_arrays(const Word<Z, isa::instruction_bits>& word) {
#pragma HLS INLINE
    const auto address = static_cast<std::uint64_t>(get<Z, typename Op::Address>(word));
    const unsigned rows = number<Z, typename Op::Rows>(word);
    constexpr unsigned starts_per_block = isa::block_bytes / 4;
    const unsigned blocks = (rows + starts_per_block) / starts_per_block;
    return {address, address + std::uint64_t{isa::block_bytes} * blocks, rows,
            number<Z, typename Op::Edges>(word)};
}

}  // namespace hetfab
