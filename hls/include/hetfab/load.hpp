// SPDX-License-Identifier: Apache-2.0
// LOAD: copies from DRAM to the cores' activation tiles, to their weights, and to par_ram.
#pragma once

#include <type_traits>

#include "bursts.hpp"
#include "events.hpp"
#include "shim.hpp"
#include "types.hpp"

namespace hetfab {

// The nibbles of a beat of bytes: all high halves, or all low halves, as 32 bits.
template <class Z>
U<Z, 32> nibbles_of(const Word<Z, 64>& beat, bool high) {
#pragma HLS INLINE
    U<Z, 32> nibbles = 0;
nibble_bytes:
    for (unsigned channel = 0; channel < 8; channel++) {
#pragma HLS UNROLL factor=8
        const auto byte = static_cast<std::uint32_t>(lane_u<Z, 8>(beat, channel));
        nibbles =
            U<Z, 32>(static_cast<std::uint32_t>(nibbles) | ((high ? byte >> 4 : byte & 15) << (4 * channel)));
    }
    return nibbles;
}

// GEMM-L's copy of a tile, beat by beat. A word holds 32 channels of a row: two beats of a packed row as they
// are, or the high halves of four beats of bytes, whose low halves are written a trip later, since a bank has
// one port.
template <class D, class Z>
class SliceWriter {
  public:
    SliceWriter(unsigned first, unsigned row_words, bool packed)
        : first_(first), row_words_(row_words), packed_(packed) {}

    // Writes at most one word, in one place of the code, so that a tool sees one access to the bank's port:
    // the low halves wait for the next trip, which completes no word.
    template <class ActRam>
    void write(const Word<Z, 64>& beat, ActRam act_ram) {
#pragma HLS INLINE
        const bool waiting = pending_;
        const unsigned bank = waiting ? pending_bank_ : bank_;
        const unsigned word = waiting ? pending_word_ : first_ + word_;
        const Word<Z, 128> low = low_;
        pending_ = false;
        const bool complete = take(beat);
        if (waiting || complete) act_ram[bank][word] = waiting ? low : high_;
        if (complete) next_word();
    }

    // Writes the low halves that wait for the port.
    template <class ActRam>
    void flush(ActRam act_ram) {
#pragma HLS INLINE
        if (pending_) act_ram[pending_bank_][pending_word_] = low_;
        pending_ = false;
    }

  private:
    // True with the last beat of a word.
    bool take(const Word<Z, 64>& beat) {
#pragma HLS INLINE
        if (packed_) {
            Z::set_beat(high_, beat_, beat);
            beat_ = 1 - beat_;
            return beat_ == 0;
        }
        set_lane<Z, 32>(high_, beat_, nibbles_of<Z>(beat, true));
        set_lane<Z, 32>(low_, beat_, nibbles_of<Z>(beat, false));
        beat_ = (beat_ + 1) % 4;
        if (beat_ != 0) return false;
        pending_ = true;
        pending_bank_ = bank_;
        pending_word_ = first_ + row_words_ + word_;
        return true;
    }

    void next_word() {
#pragma HLS INLINE
        word_++;
        if (word_ != row_words_) return;
        word_ = 0;
        bank_++;
        if (bank_ != D::gemm_l_rows) return;
        bank_ = 0;
        first_ += packed_ ? row_words_ : 2 * row_words_;
    }

    Word<Z, 128> high_ = zero<Z, 128>();
    Word<Z, 128> low_ = zero<Z, 128>();
    unsigned first_;
    unsigned row_words_;
    bool packed_;
    unsigned bank_ = 0;
    unsigned word_ = 0;
    unsigned beat_ = 0;
    bool pending_ = false;
    unsigned pending_bank_ = 0;
    unsigned pending_word_ = 0;
};

// The fields of a load_activations.
struct TileCopy {
    std::uint64_t address;
    unsigned rows;
    unsigned row_beats;
    unsigned stride_beats;
    unsigned ram_d;
    unsigned ram_l;
    bool to_d;
    bool to_l;
    bool packed;
};

template <class Z>
TileCopy tile_copy(const Word<Z, isa::instruction_bits>& instruction) {
#pragma HLS INLINE
    using Op = isa::LoadActivations;
    return {static_cast<std::uint64_t>(get<Z, Op::Address>(instruction)),
            number<Z, Op::Rows>(instruction),
            number<Z, Op::RowBlocks>(instruction) * beats_per_block,
            number<Z, Op::StrideBlocks>(instruction) * beats_per_block,
            number<Z, Op::RamD>(instruction),
            number<Z, Op::RamL>(instruction),
            flag<Z, Op::ToD>(instruction),
            flag<Z, Op::ToL>(instruction),
            flag<Z, Op::Packed>(instruction)};
}

// Copies rows of blocks to the cores' copies of the tile; it counts the beats read.
template <class D, class Z, class Mem, class ActDRam, class ActLRam, class Events>
Outcome load_tile(const TileCopy& tile, Mem mem, ActDRam act_d_ram, ActLRam act_l_ram, Events& events) {
#pragma HLS INLINE
    BurstReader reader(BurstCursor(tile.address, tile.rows, tile.row_beats, tile.stride_beats));
    reader.start(mem, events);
    SliceWriter<D, Z> slices(tile.ram_l, tile.packed ? tile.row_beats / 2 : tile.row_beats / 4, tile.packed);
    unsigned bank = 0;
    unsigned position = 0;
    unsigned first = tile.ram_d;
    const unsigned beats = tile.rows * tile.row_beats;
load_tile_beats:
    for (unsigned beat = 0; beat < beats; beat++) {
#pragma HLS LOOP_TRIPCOUNT min=8 max=32768
#pragma HLS PIPELINE II=1 style=stp
        events.trip(isa::loops::load_tile_beats);
        const Word<Z, 64> value = reader.read(mem);
        if (tile.to_d) act_d_ram[bank][first + position] = value;
        if (tile.to_l) slices.write(value, act_l_ram);
        position++;
        if (position == tile.row_beats) {
            position = 0;
            bank++;
            if (bank == D::gemm_d_rows) {
                bank = 0;
                first += tile.row_beats;
            }
        }
    }
    events.loop(isa::loops::load_tile_beats, beats);
    slices.flush(act_l_ram);
    return {true, beats, reader.beats_read()};
}

// The fields that copies of words share.
struct WordsCopy {
    std::uint64_t address;
    unsigned ram;
    unsigned words;
};

template <class Z>
WordsCopy words_copy(const Word<Z, isa::instruction_bits>& instruction) {
#pragma HLS INLINE
    using Op = isa::LoadWeights;
    return {static_cast<std::uint64_t>(get<Z, Op::Address>(instruction)), number<Z, Op::Ram>(instruction),
            number<Z, Op::Words>(instruction)};
}

// Copies consecutive words of `Bits` bits; it counts the beats read.
template <class Z, int Bits, class Mem, class Ram, class Events>
Outcome load_words(const WordsCopy& copy, Mem mem, Ram ram, Events& events) {
#pragma HLS INLINE
    constexpr unsigned beats_per_word = Bits / 64;
    const unsigned beats = copy.words * beats_per_word;
    BurstReader reader(BurstCursor(copy.address, 1, beats, 0));
    reader.start(mem, events);
    Word<Z, Bits> word = zero<Z, Bits>();
    unsigned position = 0;
    unsigned written = 0;
load_beats:
    for (unsigned beat = 0; beat < beats; beat++) {
#pragma HLS LOOP_TRIPCOUNT min=8 max=32768
#pragma HLS PIPELINE II=1 style=stp
        events.trip(isa::loops::load_beats);
        Z::set_beat(word, position, reader.read(mem));
        if (position == beats_per_word - 1) {
            ram[copy.ram + written] = word;
            written++;
            position = 0;
        } else {
            position++;
        }
    }
    events.loop(isa::loops::load_beats, beats);
    return {true, written, reader.beats_read()};
}

// One call per destination: a store to "one of three RAMs" is merged by compilers into a store through a
// selected pointer, which no RAM port can serve.
template <class D, class Z, class Mem, class ActDRam, class ActLRam, class WgtDRam, class WgtLRam,
          class ParRam, class Events>
Outcome load_execute(const Word<Z, isa::instruction_bits>& instruction, Mem mem, ActDRam act_d_ram,
                     ActLRam act_l_ram, WgtDRam wgt_d_ram, WgtLRam wgt_l_ram, ParRam par_ram,
                     Events& events) {
#pragma HLS INLINE off
    static_assert(std::is_same_v<isa::LoadWeights::Words, isa::LoadPlanes::Words> &&
                      std::is_same_v<isa::LoadWeights::Ram, isa::LoadParameters::Ram>,
                  "the copies of words share their fields");
    const int opcode = static_cast<int>(number<Z, isa::Header::Opcode>(instruction));
    if (opcode == isa::LoadActivations::opcode) {
        return load_tile<D, Z>(tile_copy<Z>(instruction), mem, act_d_ram, act_l_ram, events);
    }
    if (opcode == isa::LoadWeights::opcode) {
        return load_words<Z, 32 * D::gemm_d_cols>(words_copy<Z>(instruction), mem, wgt_d_ram, events);
    }
    if (opcode == isa::LoadPlanes::opcode) {
        return load_words<Z, 32 * D::gemm_l_cols>(words_copy<Z>(instruction), mem, wgt_l_ram, events);
    }
    if (opcode == isa::LoadParameters::opcode) {
        return load_words<Z, 64 * D::lanes>(words_copy<Z>(instruction), mem, par_ram, events);
    }
    return {opcode == isa::Sync::opcode, 0};
}

// The engine: one instruction, from its stream to its token.
template <class D, class Z, class Mem, class ActDRam, class ActLRam, class WgtDRam, class WgtLRam,
          class ParRam, class Events>
void load_step(hls::stream<Word<Z, isa::instruction_bits>>& instructions,
               hls::stream<Word<Z, isa::token_bits>>& tokens, Mem mem, ActDRam act_d_ram, ActLRam act_l_ram,
               WgtDRam wgt_d_ram, WgtLRam wgt_l_ram, ParRam par_ram, Events& events) {
#pragma HLS INLINE
    const Word<Z, isa::instruction_bits> instruction = instructions.read();
    events.loop(isa::loops::instruction, 1);
    const Outcome outcome =
        load_execute<D, Z>(instruction, mem, act_d_ram, act_l_ram, wgt_d_ram, wgt_l_ram, par_ram, events);
    HETFAB_FENCE(act_d_ram, act_l_ram, wgt_d_ram, wgt_l_ram, par_ram, tokens);
    tokens.write(make_token<D, Z>(instruction, outcome));
}

}  // namespace hetfab
