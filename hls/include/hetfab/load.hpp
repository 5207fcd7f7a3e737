// SPDX-License-Identifier: Apache-2.0
// LOAD: strided copies from DRAM to act_ram, wgt_ram and par_ram.
#pragma once

#include <type_traits>

#include "bursts.hpp"
#include "events.hpp"
#include "shim.hpp"
#include "types.hpp"

namespace hetfab {

// Copies rows of blocks to consecutive words of `Bits` bits. It counts the beats read.
template <class Z, int Bits, class Mem, class Ram, class Events>
Outcome load_rows(const Word<Z, isa::instruction_bits>& instruction, Mem mem, Ram ram, Events& events) {
#pragma HLS INLINE
    using Op = isa::LoadActivations;
    constexpr unsigned beats_per_word = Bits / 64;
    const unsigned rows = number<Z, Op::Rows>(instruction);
    const unsigned row_beats = number<Z, Op::RowBlocks>(instruction) * beats_per_block;
    const unsigned stride_beats = number<Z, Op::StrideBlocks>(instruction) * beats_per_block;
    const unsigned first = number<Z, Op::Ram>(instruction);
    const auto address = static_cast<std::uint64_t>(get<Z, Op::Address>(instruction));
    BurstReader reader(BurstCursor(address, rows, row_beats, stride_beats));
    reader.start(mem, events);
    Word<Z, Bits> word = zero<Z, Bits>();
    unsigned position = 0;
    unsigned words = 0;
    const unsigned beats = rows * row_beats;
load_beats:
    for (unsigned beat = 0; beat < beats; beat++) {
#pragma HLS LOOP_TRIPCOUNT min=8 max=32768
#pragma HLS PIPELINE II=1 style=stp
        events.trip(isa::loops::load_beats);
        Z::set_beat(word, position, reader.read(mem));
        if (position == beats_per_word - 1) {
            ram[first + words] = word;
            words++;
            position = 0;
        } else {
            position++;
        }
    }
    events.loop(isa::loops::load_beats, beats);
    return {true, words, reader.beats_read()};
}

// One call per destination: a store to "one of three RAMs" is merged by compilers into a store through a
// selected pointer, which no RAM port can serve.
template <class D, class Z, class Mem, class ActRam, class WgtRam, class ParRam, class Events>
Outcome load_execute(const Word<Z, isa::instruction_bits>& instruction, Mem mem, ActRam act_ram,
                     WgtRam wgt_ram, ParRam par_ram, Events& events) {
#pragma HLS INLINE off
    static_assert(std::is_same_v<isa::LoadActivations::Address, isa::LoadWeights::Address> &&
                      std::is_same_v<isa::LoadActivations::Ram, isa::LoadParameters::Ram>,
                  "the three copies share their fields");
    const int opcode = static_cast<int>(number<Z, isa::Header::Opcode>(instruction));
    if (opcode == isa::LoadActivations::opcode) {
        return load_rows<Z, 8 * D::gemm_rows>(instruction, mem, act_ram, events);
    }
    if (opcode == isa::LoadWeights::opcode) {
        return load_rows<Z, 8 * D::gemm_cols>(instruction, mem, wgt_ram, events);
    }
    if (opcode == isa::LoadParameters::opcode) {
        return load_rows<Z, 64 * D::lanes>(instruction, mem, par_ram, events);
    }
    return {opcode == isa::Sync::opcode, 0};
}

// The engine: one instruction, from its stream to its token.
template <class D, class Z, class Mem, class ActRam, class WgtRam, class ParRam, class Events>
void load_step(hls::stream<Word<Z, isa::instruction_bits>>& instructions,
               hls::stream<Word<Z, isa::token_bits>>& tokens, Mem mem, ActRam act_ram, WgtRam wgt_ram,
               ParRam par_ram, Events& events) {
#pragma HLS INLINE
    const Word<Z, isa::instruction_bits> instruction = instructions.read();
    events.loop(isa::loops::instruction, 1);
    const Outcome outcome = load_execute<D, Z>(instruction, mem, act_ram, wgt_ram, par_ram, events);
    HETFAB_FENCE(act_ram, wgt_ram, par_ram, tokens);
    tokens.write(make_token<D, Z>(instruction, outcome));
}

}  // namespace hetfab
