// SPDX-License-Identifier: Apache-2.0
// STORE: strided copies from out_ram or mid_ram to DRAM, done after the last write response.
#pragma once

#include "bursts.hpp"
#include "events.hpp"
#include "shim.hpp"
#include "types.hpp"

namespace hetfab {

// A copy to DRAM: where its runs are there, and in which order it takes rows of `row_beats` words of out_ram:
// `columns` of them `column_words` apart for each of `banks` banks, which are `bank_words` apart. Rows of
// mid_ram follow each other.
struct RowsCopy {
    std::uint64_t address;
    RunShape runs;
    unsigned ram;
    unsigned row_beats;
    unsigned banks;
    unsigned bank_words;
    unsigned columns;
    unsigned column_words;
    bool from_middle;

    unsigned beats() const { return banks * columns * row_beats; }
};

// Words from a row of out_ram to the next: rows begin with a block.
inline unsigned out_row_words(unsigned row_beats) {
#pragma HLS INLINE
    return (row_beats + beats_per_block - 1) / beats_per_block * beats_per_block;
}

template <class Z>
RowsCopy rows_copy(const Word<Z, isa::instruction_bits>& instruction) {
#pragma HLS INLINE
    using Op = isa::StoreRows;
    const unsigned rows = number<Z, Op::Rows>(instruction);
    const unsigned beats = number<Z, Op::RowBeats>(instruction);
    return {static_cast<std::uint64_t>(get<Z, Op::Address>(instruction)),
            {rows, number<Z, Op::StrideBlocks>(instruction) * beats_per_block, 1, 0, beats},
            number<Z, Op::Ram>(instruction),
            beats,
            rows,
            out_row_words(beats),
            1,
            0,
            false};
}

// Pixels of strips in out_ram, or of lines in mid_ram.
template <class Z>
RowsCopy pixels_copy(const Word<Z, isa::instruction_bits>& instruction, bool from_middle) {
#pragma HLS INLINE
    using Op = isa::StoreRuns;
    using Middle = isa::StoreMiddle;
    static_assert(std::is_same_v<Middle::Ram, Op::Ram> && std::is_same_v<Middle::Lines, Op::Banks> &&
                      std::is_same_v<Middle::Columns, Op::Columns> &&
                      std::is_same_v<Middle::RowBeats, Op::RowBeats> &&
                      std::is_same_v<Middle::StrideBlocks, Op::StrideBlocks> &&
                      std::is_same_v<Middle::Joined, Op::Joined> &&
                      std::is_same_v<Middle::PixelStride, Op::PixelStride>,
                  "the copies of pixels share their fields");
    const unsigned banks = number<Z, Op::Banks>(instruction);
    const unsigned columns = number<Z, Op::Columns>(instruction) + 1;
    const unsigned beats = number<Z, Op::RowBeats>(instruction);
    const unsigned distance = number<Z, Op::PixelStride>(instruction);
    const bool joined = flag<Z, Op::Joined>(instruction);
    return {static_cast<std::uint64_t>(get<Z, Op::Address>(instruction)),
            {banks, number<Z, Op::StrideBlocks>(instruction) * beats_per_block, joined ? 1 : columns,
             joined ? 0 : distance, joined ? distance : beats},
            number<Z, Op::Ram>(instruction),
            beats,
            banks,
            beats,
            columns,
            from_middle ? beats : number<Z, Op::RamBanks>(instruction) * beats,
            from_middle};
}

// A word of either RAM, from its two banks.
template <class D, class Z, class OutRam, class MidRam>
Word<Z, 64> stored_word(bool from_middle, unsigned place, OutRam out_ram, MidRam mid_ram) {
#pragma HLS INLINE
    Word<Z, 32> low = zero<Z, 32>();
    Word<Z, 32> high = zero<Z, 32>();
    if constexpr (D::mid_words != 0) {
        if (from_middle) {
            low = mid_ram[0][place];
            high = mid_ram[1][place];
        }
    }
    if (!from_middle) {
        low = out_ram[0][place];
        high = out_ram[1][place];
    }
    Word<Z, 64> word = zero<Z, 64>();
    set_lane<Z, 32>(word, 0, lane_u<Z, 32>(low, 0));
    set_lane<Z, 32>(word, 1, lane_u<Z, 32>(high, 0));
    return word;
}

// Copies rows; it counts the responses and the beats written.
template <class D, class Z, class Mem, class OutRam, class MidRam, class Events>
Outcome store_copy(const RowsCopy& copy, Mem mem, OutRam out_ram, MidRam mid_ram, Events& events) {
#pragma HLS INLINE
    BurstCursor cursor(copy.address, copy.runs);
    unsigned left = 0;
    unsigned responses_due = 0;
    unsigned beats_written = 0;
    unsigned bank = copy.ram;
    unsigned row = copy.ram;
    unsigned position = 0;
    unsigned column = 0;
    const unsigned beats = copy.beats();
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
        mem.write(stored_word<D, Z>(copy.from_middle, row + position, out_ram, mid_ram));
        beats_written++;
        position++;
        if (position == copy.row_beats) {
            position = 0;
            row += copy.column_words;
            column++;
        }
        if (column == copy.columns) {
            column = 0;
            bank += copy.bank_words;
            // The next line of mid_ram is behind this one.
            if (!copy.from_middle) row = bank;
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
    const bool from_middle = D::mid_words != 0 && opcode == isa::StoreMiddle::opcode;
    if (!from_middle && opcode != isa::StoreRows::opcode && opcode != isa::StoreRuns::opcode) {
        return {opcode == isa::Sync::opcode, 0};
    }
    // One call for all, so that the port to DRAM has one writer.
    const RowsCopy copy = opcode == isa::StoreRows::opcode ? rows_copy<Z>(instruction)
                                                           : pixels_copy<Z>(instruction, from_middle);
    return store_copy<D, Z>(copy, mem, out_ram, mid_ram, events);
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
