// SPDX-License-Identifier: Apache-2.0
// LOAD: copies from DRAM to the cores' activation tiles, to their weights, to par_ram and to res_ram.
#pragma once

#include <type_traits>

#include "bank_writer.hpp"
#include "bursts.hpp"
#include "events.hpp"
#include "lines.hpp"
#include "shim.hpp"
#include "types.hpp"

namespace hetfab {

// A copy to one or both activation RAMs: rows of a tile, lines of an image, or windows of samples.
struct TileCopy {
    std::uint64_t address;
    unsigned stride_beats;
    LineShape lines;
    WindowShape windows;
    BankShape banks;
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
    const unsigned rows = number<Z, Op::Rows>(instruction);
    const unsigned beats = number<Z, Op::RowBlocks>(instruction) * beats_per_block;
    return {static_cast<std::uint64_t>(get<Z, Op::Address>(instruction)),
            number<Z, Op::StrideBlocks>(instruction) * beats_per_block,
            {rows, beats, 0, rows, 0, beats},
            {},
            {true, 0, 0, 0, 0},
            number<Z, Op::RamD>(instruction),
            number<Z, Op::RamL>(instruction),
            flag<Z, Op::ToD>(instruction),
            flag<Z, Op::ToL>(instruction),
            flag<Z, Op::Packed>(instruction)};
}

// Lines from the first one of the first bank to the last one of the last.
inline unsigned lines_of(const BankShape& banks) {
#pragma HLS INLINE
    return (banks.banks - 1) * banks.line_stride + banks.kernel_lines;
}

template <class Z>
TileCopy lines_copy(const Word<Z, isa::instruction_bits>& instruction, const Word<Z, 64>& context) {
#pragma HLS INLINE
    using Op = isa::LoadLines;
    using Context = isa::ConfigureLines;
    const BankShape banks = {false, number<Z, Op::FirstBank>(instruction), number<Z, Op::Banks>(instruction),
                             number<Z, Context::LineStride>(context),
                             number<Z, Context::KernelLines>(context)};
    const unsigned ram = number<Z, Op::Ram>(instruction);
    const bool to_l = flag<Z, Context::Core>(context);
    return {static_cast<std::uint64_t>(get<Z, Op::Address>(instruction)),
            number<Z, Context::StrideBlocks>(context) * beats_per_block,
            {lines_of(banks), number<Z, Context::LineBeats>(context), number<Z, Op::Top>(instruction),
             number<Z, Op::Lines>(instruction), number<Z, Op::Left>(instruction),
             number<Z, Op::Beats>(instruction)},
            {},
            banks,
            ram,
            ram,
            !to_l,
            to_l,
            flag<Z, Context::Packed>(context)};
}

template <class Z>
TileCopy windows_copy(const Word<Z, isa::instruction_bits>& instruction, const Word<Z, 64>& context) {
#pragma HLS INLINE
    using Op = isa::LoadWindows;
    using Context = isa::ConfigureWindows;
    const BankShape banks = {false, number<Z, Op::FirstBank>(instruction), number<Z, Op::Banks>(instruction),
                             number<Z, Context::LineStride>(context),
                             number<Z, Context::KernelLines>(context)};
    const WindowShape windows = {number<Z, Op::Columns>(instruction) + 1,
                                 number<Z, Context::RunBeats>(context),
                                 number<Z, Context::StepBytes>(context), number<Z, Op::Offset>(instruction)};
    const unsigned lines = number<Z, Op::Lines>(instruction);
    const unsigned ram = number<Z, Op::Ram>(instruction);
    const bool to_l = flag<Z, Context::Core>(context);
    return {static_cast<std::uint64_t>(get<Z, Op::Address>(instruction)),
            number<Z, Context::StrideBlocks>(context) * beats_per_block,
            {lines, windows.columns * windows.run_beats, 0, lines, 0, number<Z, Op::Beats>(instruction)},
            windows,
            banks,
            ram,
            ram,
            !to_l,
            to_l,
            false};
}

// Broadcasts beats to the cores' activation RAMs; it counts the beats read.
template <class D, class Z, class Mem, class ActDRam, class ActLRam, class Events>
Outcome load_tile(const TileCopy& tile, Mem mem, ActDRam act_d_ram, ActLRam act_l_ram, Events& events) {
#pragma HLS INLINE
    BurstReader reader(
        BurstCursor(tile.address, tile.lines.read_lines, tile.lines.read_beats, tile.stride_beats));
    reader.start(mem, events);
    BankWindow<D::gemm_d_rows> window_d(tile.banks);
    BankWindow<D::gemm_l_rows> window_l(tile.banks);
    BankWriter<Z, D::gemm_d_rows, 64> beats_d(tile.ram_d);
    SliceWriter<Z, D::gemm_l_rows> slices_l(tile.ram_l, tile.packed);
    TileSource<Z, D::gather_beats> source(tile.lines, tile.windows);
    const unsigned trips = source.trips();
load_tile_beats:
    for (unsigned trip = 0; trip < trips; trip++) {
#pragma HLS LOOP_TRIPCOUNT min=8 max=32768
#pragma HLS PIPELINE II=1 style=stp
        events.trip(isa::loops::load_tile_beats);
        Word<Z, 64> read = zero<Z, 64>();
        if (source.reads()) read = reader.read(mem);
        const LineBeat<Z> beat = source.next(read);
        if (beat.valid && tile.to_d) beats_d.write(beat.value, window_d.range(), act_d_ram);
        if (beat.valid && tile.to_l) slices_l.write(beat.value, window_l.range(), act_l_ram);
        if (beat.ends_line) {
            window_d.next_line();
            window_l.next_line();
        }
    }
    events.loop(isa::loops::load_tile_beats, trips);
    slices_l.flush(act_l_ram);
    return {true, trips, reader.beats_read()};
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

// Writes a word of a RAM, or of each of some equal banks.
template <unsigned Banks, class Ram, class Value>
void put_word(Ram ram, unsigned place, const Value& word) {
#pragma HLS INLINE
    if constexpr (Banks == 1) {
        ram[place] = word;
    } else {
    equal_banks:
        for (unsigned bank = 0; bank < Banks; bank++) {
#pragma HLS UNROLL factor=Banks
            ram[bank][place] = word;
        }
    }
}

// Copies the beats of a cursor to consecutive words of `Bits` bits; it counts the beats read.
template <class Z, int Bits, unsigned Banks = 1, class Mem, class Ram, class Events>
Outcome fill_words(const BurstCursor& cursor, unsigned beats, unsigned first, Mem mem, Ram ram,
                   Events& events) {
#pragma HLS INLINE
    constexpr unsigned beats_per_word = Bits / 64;
    BurstReader reader(cursor);
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
            put_word<Banks>(ram, first + written, word);
            written++;
            position = 0;
        } else {
            position++;
        }
    }
    events.loop(isa::loops::load_beats, beats);
    return {true, written, reader.beats_read()};
}

template <class Z, int Bits, class Mem, class Ram, class Events>
Outcome load_words(const WordsCopy& copy, Mem mem, Ram ram, Events& events) {
#pragma HLS INLINE
    const unsigned beats = copy.words * (Bits / 64);
    return fill_words<Z, Bits>(BurstCursor(copy.address, 1, beats, 0), beats, copy.ram, mem, ram, events);
}

template <class Z, class Mem, class FunRam, class Events>
Outcome load_tables(const WordsCopy& copy, Mem mem, FunRam fun_ram, Events& events) {
#pragma HLS INLINE
    return fill_words<Z, 64, fun_banks>(BurstCursor(copy.address, 1, copy.words, 0), copy.words, copy.ram,
                                        mem, fun_ram, events);
}

// The fields of a load_residual.
struct RunsCopy {
    std::uint64_t address;
    unsigned ram;
    RunShape shape;
};

template <class Z>
RunsCopy runs_copy(const Word<Z, isa::instruction_bits>& instruction) {
#pragma HLS INLINE
    using Op = isa::LoadResidual;
    return {static_cast<std::uint64_t>(get<Z, Op::Address>(instruction)),
            number<Z, Op::Ram>(instruction),
            {number<Z, Op::Rows>(instruction), number<Z, Op::StrideBlocks>(instruction) * beats_per_block,
             number<Z, Op::Columns>(instruction) + 1, number<Z, Op::RunStride>(instruction),
             number<Z, Op::RunBeats>(instruction)}};
}

template <class Z, class Mem, class Ram, class Events>
Outcome load_runs(const RunsCopy& copy, Mem mem, Ram ram, Events& events) {
#pragma HLS INLINE
    const unsigned beats = copy.shape.rows * copy.shape.runs * copy.shape.run_beats;
    return fill_words<Z, 64>(BurstCursor(copy.address, copy.shape), beats, copy.ram, mem, ram, events);
}

// What configure instructions leave for others.
template <class Z, class LoadContext>
Outcome keep_context(const Word<Z, isa::instruction_bits>& instruction, LoadContext load_context) {
#pragma HLS INLINE
    load_context[number<Z, isa::ConfigureLines::Slot>(instruction)] = Z::beat(instruction, 0);
    return {true, 1};
}

// Lines or windows, by their context.
template <class Z, class LoadContext>
TileCopy context_copy(const Word<Z, isa::instruction_bits>& instruction, bool windows,
                      LoadContext load_context) {
#pragma HLS INLINE
    static_assert(std::is_same_v<isa::LoadLines::Slot, isa::LoadWindows::Slot> &&
                      std::is_same_v<isa::ConfigureLines::Slot, isa::ConfigureWindows::Slot>,
                  "a context has one place in all instructions");
    const Word<Z, 64> context = load_context[number<Z, isa::LoadLines::Slot>(instruction)];
    return windows ? windows_copy<Z>(instruction, context) : lines_copy<Z>(instruction, context);
}

// One call per destination: a store to "one of three RAMs" is merged by compilers into a store through a
// selected pointer, which no RAM port can serve.
template <class D, class Z, class Mem, class ActDRam, class ActLRam, class WgtDRam, class WgtLRam,
          class ParRam, class FunRam, class ResRam, class DwpRam, class LoadContext, class Events>
Outcome load_execute(const Word<Z, isa::instruction_bits>& instruction, Mem mem, ActDRam act_d_ram,
                     ActLRam act_l_ram, WgtDRam wgt_d_ram, WgtLRam wgt_l_ram, ParRam par_ram, FunRam fun_ram,
                     ResRam res_ram, DwpRam dwp_ram, LoadContext load_context, Events& events) {
#pragma HLS INLINE off
    static_assert(std::is_same_v<isa::LoadWeights::Words, isa::LoadPlanes::Words> &&
                      std::is_same_v<isa::LoadWeights::Ram, isa::LoadParameters::Ram>,
                  "the copies of words share their fields");
    const int opcode = static_cast<int>(number<Z, isa::Header::Opcode>(instruction));
    const bool windows = D::gather_beats != 0 && opcode == isa::LoadWindows::opcode;
    if (windows || opcode == isa::LoadActivations::opcode || opcode == isa::LoadLines::opcode) {
        // One call for all, so that each bank's port has one writer.
        const TileCopy tile = opcode == isa::LoadActivations::opcode
                                  ? tile_copy<Z>(instruction)
                                  : context_copy<Z>(instruction, windows, load_context);
        return load_tile<D, Z>(tile, mem, act_d_ram, act_l_ram, events);
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
    if (opcode == isa::ConfigureLines::opcode || opcode == isa::ConfigureWindows::opcode) {
        return keep_context<Z>(instruction, load_context);
    }
    if constexpr (D::res_words != 0) {
        if (opcode == isa::LoadResidual::opcode) {
            return load_runs<Z>(runs_copy<Z>(instruction), mem, res_ram, events);
        }
    }
    if constexpr (D::fun_words != 0) {
        if (opcode == isa::LoadFunction::opcode) {
            return load_tables<Z>(words_copy<Z>(instruction), mem, fun_ram, events);
        }
    }
    if constexpr (D::dwp_words != 0) {
        if (opcode == isa::LoadDepthwise::opcode) {
            return load_words<Z, 64>(words_copy<Z>(instruction), mem, dwp_ram, events);
        }
    }
    return {opcode == isa::Sync::opcode, 0};
}

// The engine: one instruction, from its stream to its token.
template <class D, class Z, class Mem, class ActDRam, class ActLRam, class WgtDRam, class WgtLRam,
          class ParRam, class FunRam, class ResRam, class DwpRam, class LoadContext, class Events>
void load_step(hls::stream<Word<Z, isa::instruction_bits>>& instructions,
               hls::stream<Word<Z, isa::token_bits>>& tokens, Mem mem, ActDRam act_d_ram, ActLRam act_l_ram,
               WgtDRam wgt_d_ram, WgtLRam wgt_l_ram, ParRam par_ram, FunRam fun_ram, ResRam res_ram,
               DwpRam dwp_ram, LoadContext load_context, Events& events) {
#pragma HLS INLINE
    const Word<Z, isa::instruction_bits> instruction = instructions.read();
    events.loop(isa::loops::instruction, 1);
    const Outcome outcome = load_execute<D, Z>(instruction, mem, act_d_ram, act_l_ram, wgt_d_ram, wgt_l_ram,
                                               par_ram, fun_ram, res_ram, dwp_ram, load_context, events);
    HETFAB_FENCE(act_d_ram, act_l_ram, wgt_d_ram, wgt_l_ram, par_ram, fun_ram, res_ram, dwp_ram, load_context,
                 tokens);
    tokens.write(make_token<D, Z>(instruction, outcome));
}

}  // namespace hetfab
