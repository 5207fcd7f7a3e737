// SPDX-License-Identifier: Apache-2.0
// RST: what matches, walks, recouples and tiles a graph in DRAM, as docs/restructuring.md defines it. Starts
// and numbers of vertices are on chip, ids stay in DRAM and are read row by row.
#pragma once

#include "rst_match.hpp"
#include "rst_recouple.hpp"
#include "rst_tiles.hpp"
#include "rst_walk.hpp"

namespace hetfab {

template <class D, class Z, class MemG, class MemO, class Events>
Outcome restructure(const Word<Z, isa::instruction_bits>& instruction, const RestructureTile& tile,
                    MemG graph_port, MemO out, Events& events) {
#pragma HLS INLINE
    RestructureMemories<D> memories;
    const int opcode = static_cast<int>(number<Z, isa::Header::Opcode>(instruction));
    const auto address = static_cast<std::uint64_t>(get<Z, isa::Address::Physical>(instruction));
    if (opcode == isa::Match::opcode) {
        const unsigned columns = number<Z, isa::Match::Columns>(instruction);
        return match<D, Z>(tile, address, columns, memories, graph_port, out, events);
    }
    if (opcode == isa::Walk::opcode) return walk<D, Z>(tile, address, memories, graph_port, out, events);
    if (opcode == isa::Recouple::opcode) {
        const bool by_column = flag<Z, isa::Recouple::ByColumn>(instruction);
        return recouple<D, Z>(tile, address, by_column, memories, graph_port, out, events);
    }
    const TileRule rule = {
        flag<Z, isa::GrowTiles::Grown>(instruction), flag<Z, isa::GrowTiles::MostEdgesFirst>(instruction),
        number<Z, isa::GrowTiles::Stride>(instruction), number<Z, isa::GrowTiles::TileRows>(instruction)};
    return grow_tiles<D, Z>(tile, address, rule, memories, graph_port, out, events);
}

template <class D, class Z, class MemG, class MemO, class ContextRam, class Events>
Outcome rst_execute(const Word<Z, isa::instruction_bits>& instruction, MemG graph_port, MemO out,
                    ContextRam rst_context, Events& events) {
// A function of its own: its return waits for the write responses, so the token cannot pass them.
#pragma HLS INLINE off
    const int opcode = static_cast<int>(number<Z, isa::Header::Opcode>(instruction));
    if (opcode >= isa::ConfigureGraph::opcode && opcode <= isa::ConfigureWalk::opcode) {
        rst_context[static_cast<unsigned>(opcode - isa::ConfigureGraph::opcode)] = instruction;
        return {true, 1};
    }
    if (opcode < isa::Match::opcode || opcode > isa::GrowTiles::opcode) {
        return {opcode == isa::Sync::opcode, 0};
    }
    const RestructureTile tile = restructure_tile<Z>(rst_context, events);
    const Outcome outcome = restructure<D, Z>(instruction, tile, graph_port, out, events);
    events.edges(outcome.count0);
    return outcome;
}

// The engine: one instruction, from its stream to its token.
template <class D, class Z, class MemG, class MemO, class ContextRam, class Events>
void rst_step(hls::stream<Word<Z, isa::instruction_bits>>& instructions,
              hls::stream<Word<Z, isa::token_bits>>& tokens, MemG graph_port, MemO out,
              ContextRam rst_context, Events& events) {
#pragma HLS INLINE
    const Word<Z, isa::instruction_bits> instruction = instructions.read();
    events.loop(isa::loops::instruction, 1);
    const Outcome outcome = rst_execute<D, Z>(instruction, graph_port, out, rst_context, events);
    // The write responses were awaited inside rst_execute; the port is named so that no access to it moves
    // behind the token either.
    HETFAB_FENCE(out, rst_context, tokens);
    tokens.write(make_token<D, Z>(instruction, outcome));
}

}  // namespace hetfab
