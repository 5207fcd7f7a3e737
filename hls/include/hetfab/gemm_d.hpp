// SPDX-License-Identifier: Apache-2.0
// GEMM-D: an output-stationary array of gemm_d_rows x gemm_d_cols sums, fed by chains of 8 DSPs along the
// input channels: 4 channels a step with int8 weights, 8 with int4. docs/gemm.md draws it.
#pragma once

#include "drain.hpp"
#include "events.hpp"
#include "mac_arrays.hpp"
#include "shim.hpp"
#include "types.hpp"

namespace hetfab {

// A beat of a row serves two steps.
constexpr unsigned steps_per_beat = 2;

// What a matmul or a matmul_lines says.
struct MatmulTile {
    StripShape strip;
    RowBlocks blocks;
    unsigned wgt;
    unsigned acc;
    unsigned col_groups;
    bool accumulate;
    bool is_unsigned;
    bool packed;

    // Beats of a row of the tile.
    unsigned row_beats() const { return strip.lines * strip.run; }
    unsigned rows() const {
        return blocks.count == 0 ? 0 : (blocks.count - 1) * blocks.block_rows + blocks.last_rows;
    }
};

template <class D, class Z>
MatmulTile matmul_tile(const Word<Z, isa::instruction_bits>& instruction) {
#pragma HLS INLINE
    using Op = isa::Matmul;
    const unsigned beats = number<Z, Op::RowBeats>(instruction);
    return {{number<Z, Op::Act>(instruction), 1, beats, 0, beats},
            blocks_of_rows<D::gemm_d_rows>(number<Z, Op::Rows>(instruction)),
            number<Z, Op::Wgt>(instruction),
            number<Z, Op::Acc>(instruction),
            number<Z, Op::ColGroups>(instruction),
            flag<Z, Op::Accumulate>(instruction),
            flag<Z, Op::Unsigned>(instruction),
            flag<Z, Op::Packed>(instruction)};
}

template <class Z>
MatmulTile matmul_strips(const Word<Z, isa::instruction_bits>& instruction) {
#pragma HLS INLINE
    using Op = isa::MatmulLines;
    const unsigned banks = number<Z, Op::Banks>(instruction);
    return {
        {number<Z, Op::Act>(instruction), number<Z, Op::Lines>(instruction), number<Z, Op::Run>(instruction),
         number<Z, Op::LineWords>(instruction), number<Z, Op::StepWords>(instruction)},
        {number<Z, Op::Columns>(instruction) + 1, banks, banks},
        number<Z, Op::Wgt>(instruction),
        number<Z, Op::Acc>(instruction),
        number<Z, Op::ColGroups>(instruction),
        flag<Z, Op::Accumulate>(instruction),
        flag<Z, Op::Unsigned>(instruction),
        flag<Z, Op::Packed>(instruction)};
}

// One step of the whole array: 32 bits of each row times a weight word.
template <class D, class Z>
void gemm_d_step_sums(S<Z, 32> (&acc)[D::gemm_d_rows][D::gemm_d_cols],
                      const Word<Z, 64> (&beat)[D::gemm_d_rows], unsigned half,
                      const Word<Z, 32 * D::gemm_d_cols>& wgt, const MatmulTile& tile, bool first) {
#pragma HLS INLINE
    U<Z, 32> act[D::gemm_d_rows];
#pragma HLS ARRAY_PARTITION variable=act type=complete dim=0
    U<Z, 32> weight[D::gemm_d_cols];
#pragma HLS ARRAY_PARTITION variable=weight type=complete dim=0
act_rows:
    for (unsigned row = 0; row < D::gemm_d_rows; row++) {
#pragma HLS UNROLL factor=D::gemm_d_rows
        act[row] = lane_u<Z, 32>(beat[row], half);
    }
    lanes_of<Z, D::gemm_d_cols>(wgt, weight);
    // DSP48E1's packing: it fits the wider ports of DSP48E2 as well.
    chain_array_step<Z, Dsp48e1, 32>(acc, act, weight, tile.packed, tile.is_unsigned, first);
}

// All blocks of a tile, one after the other without a pause: while a block is summed, the one before it
// drains.
template <class D, class Z, class ActRam, class WgtRam, class AccRam, class Events>
Outcome gemm_d_blocks(const MatmulTile& tile, ActRam act_ram, WgtRam wgt_ram, AccRam acc_ram,
                      Events& events) {
#pragma HLS INLINE
    constexpr unsigned rows = D::gemm_d_rows;
    S<Z, 32> acc[rows][D::gemm_d_cols];
#pragma HLS ARRAY_PARTITION variable=acc type=complete dim=0
    Word<Z, 64> beat[rows];
#pragma HLS ARRAY_PARTITION variable=beat type=complete dim=0
    Drain<Z, rows, D::gemm_d_cols> drain(tile.acc, tile.col_groups, tile.accumulate);
    BlockWalk walk(tile.blocks, tile.col_groups, steps_per_beat * tile.row_beats(), tile.accumulate);
    StripWalk strip(tile.strip, 1);
    unsigned wgt = tile.wgt;
    unsigned row_steps = 0;
gemm_d_steps:
    for (unsigned trip = 0; trip < walk.trips(); trip++) {
#pragma HLS LOOP_TRIPCOUNT min=32 max=65536
#pragma HLS PIPELINE II=1 style=stp
        events.trip(isa::loops::gemm_d_steps);
        drain.step(acc_ram);
        if (walk.summing()) {
            const unsigned half = walk.step() % steps_per_beat;
            if (half == 0) {
            beat_rows:
                for (unsigned row = 0; row < rows; row++) {
#pragma HLS UNROLL factor=rows
                    beat[row] = act_ram[row][strip.word()];
                }
                strip.next();
            }
            gemm_d_step_sums<D, Z>(acc, beat, half, wgt_ram[wgt + walk.step()], tile, walk.step() == 0);
            row_steps += tile.packed ? 2 * walk.valid_rows() : walk.valid_rows();
        }
        if (walk.ends_block()) drain.begin(acc, walk);
        if (walk.next()) {
            strip.next_pixel(walk.first_block());
            if (walk.first_block()) wgt += steps_per_beat * tile.row_beats();
        }
    }
    events.loop(isa::loops::gemm_d_steps, walk.trips());
    constexpr std::uint64_t channels_per_beat = 8;
    events.macs(channels_per_beat * (tile.packed ? 2 : 1) * tile.row_beats() * tile.rows() * tile.col_groups *
                D::gemm_d_cols);
    return {true, drain.written(), row_steps};
}

template <class D, class Z, class ActRam, class WgtRam, class AccRam, class Events>
Outcome gemm_d_execute(const Word<Z, isa::instruction_bits>& instruction, ActRam act_ram, WgtRam wgt_ram,
                       AccRam acc_ram, Events& events) {
#pragma HLS INLINE off
    const int opcode = static_cast<int>(number<Z, isa::Header::Opcode>(instruction));
    if (opcode != isa::Matmul::opcode && opcode != isa::MatmulLines::opcode) {
        return {opcode == isa::Sync::opcode, 0};
    }
    // One call for both, so that there is one array.
    const MatmulTile tile =
        opcode == isa::Matmul::opcode ? matmul_tile<D, Z>(instruction) : matmul_strips<Z>(instruction);
    return gemm_d_blocks<D, Z>(tile, act_ram, wgt_ram, acc_ram, events);
}

// The engine: one instruction, from its stream to its token.
template <class D, class Z, class ActRam, class WgtRam, class AccRam, class Events>
void gemm_d_step(hls::stream<Word<Z, isa::instruction_bits>>& instructions,
                 hls::stream<Word<Z, isa::token_bits>>& tokens, ActRam act_ram, WgtRam wgt_ram,
                 AccRam acc_ram, Events& events) {
#pragma HLS INLINE
    const Word<Z, isa::instruction_bits> instruction = instructions.read();
    events.loop(isa::loops::instruction, 1);
    const Outcome outcome = gemm_d_execute<D, Z>(instruction, act_ram, wgt_ram, acc_ram, events);
    HETFAB_FENCE(act_ram, wgt_ram, acc_ram, tokens);
    tokens.write(make_token<D, Z>(instruction, outcome));
}

}  // namespace hetfab
