// SPDX-License-Identifier: Apache-2.0
// GEMM-D of an accelerator with fixed weights: a matmul whose weights lie behind wgt_d_ram is one of its dense
// stages, which have weights of their own; any other one is the array's (docs/dataflow.md).
#pragma once

#include "gemm_d.hpp"

namespace hetfab {

// Channels of a beat of activations.
constexpr unsigned beat_channels = 8;

// A row of inputs as integers: bytes, signed or not.
template <class D, class Z, unsigned Inputs, class ActRam>
void stage_row(const MatmulTile& tile, unsigned row, ActRam act_ram, S<Z, 9> (&inputs)[Inputs]) {
#pragma HLS INLINE off
    const unsigned first = tile.strip.act + row / D::gemm_d_rows * tile.row_beats();
stage_beats:
    for (unsigned beat = 0; beat < tile.row_beats(); beat++) {
#pragma HLS LOOP_TRIPCOUNT min=8 max=64
#pragma HLS PIPELINE II=1 style=stp
        const Word<Z, 64> word = act_ram[row % D::gemm_d_rows][first + beat];
    beat_lanes:
        for (unsigned lane = 0; lane < beat_channels; lane++) {
#pragma HLS UNROLL factor=beat_channels
            const unsigned channel = beat * beat_channels + lane;
            if (channel < Inputs) {
                inputs[channel] =
                    tile.is_unsigned ? S<Z, 9>(lane_u<Z, 8>(word, lane)) : S<Z, 9>(lane_s<Z, 8>(word, lane));
            }
        }
    }
}

// Writes a row of sums as the array does: gemm_d_cols channels a word, added to what is there or not.
template <class D, class Z, unsigned Outputs, class AccRam>
void stage_sums(const MatmulTile& tile, unsigned row, const S<Z, 32> (&sums)[Outputs], AccRam acc_ram) {
#pragma HLS INLINE off
stage_groups:
    for (unsigned group = 0; group < tile.col_groups; group++) {
#pragma HLS LOOP_TRIPCOUNT min=1 max=64
// The word is read and written by one port.
#pragma HLS PIPELINE II=2 style=stp
        const unsigned place = tile.acc + row * tile.col_groups + group;
        Word<Z, 32 * D::gemm_d_cols> word = zero<Z, 32 * D::gemm_d_cols>();
        if (tile.accumulate) word = acc_ram[place];
    group_lanes:
        for (unsigned lane = 0; lane < D::gemm_d_cols; lane++) {
#pragma HLS UNROLL factor=D::gemm_d_cols
            const unsigned channel = group * D::gemm_d_cols + lane;
            const S<Z, 32> own = channel < Outputs ? sums[channel] : S<Z, 32>(0);
            set_lane<Z, 32>(word, lane, wrap<Z, 32>(sum<Z, 33>(lane_s<Z, 32>(word, lane), own)));
        }
        acc_ram[place] = word;
    }
}

// Cycles between two rows of a stage, which reads, multiplies and writes rows at the same time.
constexpr unsigned stage_interval(unsigned multiply_cycles, unsigned row_beats, unsigned col_groups) {
    const unsigned moved = row_beats < 2 * col_groups ? 2 * col_groups : row_beats;
    return moved < multiply_cycles ? multiply_cycles : moved;
}

// The rows of a tile through one stage: a type with `inputs`, `outputs`, the cycles that it multiplies a row
// in, and `multiply`, which sums a row's products.
template <class D, class Z, class Stage, class ActRam, class AccRam, class Events>
Outcome stage_rows(const MatmulTile& tile, ActRam act_ram, AccRam acc_ram, Events& events) {
#pragma HLS INLINE off
    const unsigned rows = tile.rows();
rows_of_stage:
    for (unsigned row = 0; row < rows; row++) {
#pragma HLS LOOP_TRIPCOUNT min=1 max=32
#pragma HLS DATAFLOW
        S<Z, 9> inputs[Stage::inputs];
#pragma HLS ARRAY_PARTITION variable=inputs type=complete dim=0
        S<Z, 32> sums[Stage::outputs];
#pragma HLS ARRAY_PARTITION variable=sums type=complete dim=0
        stage_row<D, Z>(tile, row, act_ram, inputs);
        Stage::multiply(inputs, sums);
        stage_sums<D, Z>(tile, row, sums, acc_ram);
    }
    // A row is on its way through three steps.
    const unsigned interval = stage_interval(Stage::multiply_cycles, tile.row_beats(), tile.col_groups);
    events.loop(isa::loops::stage_rows, rows == 0 ? 0 : (rows + 2) * interval);
    const unsigned steps = steps_per_beat * tile.row_beats() * tile.col_groups * rows;
    events.macs(std::uint64_t{4} * steps * D::gemm_d_cols);
    return {true, rows * tile.col_groups, steps};
}

// Whether an instruction is a matmul of a stage.
template <class D, class Z>
bool is_stage(const Word<Z, isa::instruction_bits>& instruction) {
#pragma HLS INLINE
    return number<Z, isa::Header::Opcode>(instruction) == isa::Matmul::opcode &&
           number<Z, isa::Matmul::Wgt>(instruction) >= D::wgt_d_words;
}

template <class D, class Z, class Stages, class ActRam, class AccRam, class Events>
Outcome stage_execute(const Word<Z, isa::instruction_bits>& instruction, ActRam act_ram, AccRam acc_ram,
                      Events& events) {
#pragma HLS INLINE
    const unsigned stage = number<Z, isa::Matmul::Wgt>(instruction) - D::wgt_d_words;
    return Stages::template execute<D, Z>(stage, matmul_tile<D, Z>(instruction), act_ram, acc_ram, events);
}

// The engine: one instruction, from its stream to its token.
template <class D, class Z, class Stages, class ActRam, class WgtRam, class AccRam, class Events>
void dense_step(hls::stream<Word<Z, isa::instruction_bits>>& instructions,
                hls::stream<Word<Z, isa::token_bits>>& tokens, ActRam act_ram, WgtRam wgt_ram, AccRam acc_ram,
                Events& events) {
#pragma HLS INLINE
    const Word<Z, isa::instruction_bits> instruction = instructions.read();
    events.loop(isa::loops::instruction, 1);
    const Outcome outcome = is_stage<D, Z>(instruction)
                                ? stage_execute<D, Z, Stages>(instruction, act_ram, acc_ram, events)
                                : gemm_d_execute<D, Z>(instruction, act_ram, wgt_ram, acc_ram, events);
    HETFAB_FENCE(act_ram, wgt_ram, acc_ram, tokens);
    tokens.write(make_token<D, Z>(instruction, outcome));
}

}  // namespace hetfab
