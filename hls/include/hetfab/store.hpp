// SPDX-License-Identifier: Apache-2.0
// STORE: strided copies from out_ram or mid_ram to DRAM, done after the last write response.
#pragma once

#include "bursts.hpp"
#include "events.hpp"
#include "shim.hpp"
#include "types.hpp"

namespace hetfab {

// The fields of a store_rows or a store_middle, whose rows follow each other.
struct RowsCopy {
    std::uint64_t address;
    unsigned rows;
    unsigned row_beats;
    unsigned stride_beats;
    unsigned ram;
    unsigned ram_row_words;
};

// Words from a row of out_ram to the next: rows begin with a block.
inline unsigned out_row_words(unsigned row_beats) {
#pragma HLS INLINE
    return (row_beats + beats_per_block - 1) / beats_per_block * beats_per_block;
}

template <class Z>
RowsCopy rows_copy(const Word<Z, isa::instruction_bits>& instruction, bool from_middle) {
#pragma HLS INLINE
    using Op = isa::StoreRows;
    static_assert(std::is_same_v<isa::StoreMiddle::Ram, Op::Ram> &&
                      std::is_same_v<isa::StoreMiddle::Rows, Op::Rows> &&
                      std::is_same_v<isa::StoreMiddle::RowBeats, Op::RowBeats> &&
                      std::is_same_v<isa::StoreMiddle::StrideBlocks, Op::StrideBlocks>,
                  "the copies of rows share their fields");
    const unsigned row_beats = number<Z, Op::RowBeats>(instruction);
    return {static_cast<std::uint64_t>(get<Z, Op::Address>(instruction)),
            number<Z, Op::Rows>(instruction),
            row_beats,
            number<Z, Op::StrideBlocks>(instruction) * beats_per_block,
            number<Z, Op::Ram>(instruction),
            from_middle ? row_beats : out_row_words(row_beats)};
}

// Copies rows; it counts the responses and the beats written.
template <class D, class Z, class Mem, class OutRam, class Events>
Outcome store_copy(const RowsCopy& copy, Mem mem, OutRam out_ram, Events& events) {
#pragma HLS INLINE
    BurstCursor cursor(copy.address, copy.rows, copy.row_beats, copy.stride_beats);
    unsigned left = 0;
    unsigned responses_due = 0;
    unsigned beats_written = 0;
    unsigned row = copy.ram;
    unsigned position = 0;
    const unsigned beats = copy.rows * copy.row_beats;
store_beats:
    for (unsigned beat = 0; beat < beats; beat++) {
#pragma HLS LOOP_TRIPCOUNT min=8 max=16384
#pragma HLS PIPELINE II=1 style=stp
        events.trip(isa::loops::store_beats);
        if (left == 0) {
            left = cursor.length();
            mem.write_request(cursor.beat(), left);
            cursor.advance();
        }
        Word<Z, 64> word = zero<Z, 64>();
        const Word<Z, 32> low = out_ram[0][row + position];
        const Word<Z, 32> high = out_ram[1][row + position];
        set_lane<Z, 32>(word, 0, lane_u<Z, 32>(low, 0));
        set_lane<Z, 32>(word, 1, lane_u<Z, 32>(high, 0));
        mem.write(word);
        beats_written++;
        position++;
        if (position == copy.row_beats) {
            position = 0;
            row += copy.ram_row_words;
        }
        left--;
        if (left == 0) {
            if (responses_due == bursts_ahead) {
                mem.write_response();
            } else {
                responses_due++;
            }
        }
    }
    events.loop(isa::loops::store_beats, beats);
    unsigned responses = 0;
store_responses:
    while (responses < responses_due) {
#pragma HLS LOOP_TRIPCOUNT min=1 max=8
#pragma HLS PIPELINE II=1 style=stp
        events.trip(isa::loops::store_responses);
        mem.write_response();
        responses++;
    }
    events.loop(isa::loops::store_responses, responses);
    return {true, responses, beats_written};
}

template <class D, class Z, class Mem, class OutRam, class MidRam, class Events>
Outcome store_execute(const Word<Z, isa::instruction_bits>& instruction, Mem mem, OutRam out_ram,
                      MidRam mid_ram, Events& events) {
// A function of its own: its return waits for the write responses, so the token cannot pass them.
#pragma HLS INLINE off
    const int opcode = static_cast<int>(number<Z, isa::Header::Opcode>(instruction));
    if (opcode == isa::StoreRows::opcode) {
        return store_copy<D, Z>(rows_copy<Z>(instruction, false), mem, out_ram, events);
    }
    if constexpr (D::mid_words != 0) {
        if (opcode == isa::StoreMiddle::opcode) {
            return store_copy<D, Z>(rows_copy<Z>(instruction, true), mem, mid_ram, events);
        }
    }
    return {opcode == isa::Sync::opcode, 0};
}

// The engine: one instruction, from its stream to its token.
template <class D, class Z, class Mem, class OutRam, class MidRam, class Events>
void store_step(hls::stream<Word<Z, isa::instruction_bits>>& instructions,
                hls::stream<Word<Z, isa::token_bits>>& tokens, Mem mem, OutRam out_ram, MidRam mid_ram,
                Events& events) {
#pragma HLS INLINE
    const Word<Z, isa::instruction_bits> instruction = instructions.read();
    events.loop(isa::loops::instruction, 1);
    const Outcome outcome = store_execute<D, Z>(instruction, mem, out_ram, mid_ram, events);
    // The write responses were awaited inside store_execute; the memory port is named so that no access to it
    // moves behind the token either.
    HETFAB_FENCE(mem, out_ram, mid_ram, tokens);
    tokens.write(make_token<D, Z>(instruction, outcome));
}

}  // namespace hetfab
