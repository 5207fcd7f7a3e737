// SPDX-License-Identifier: Apache-2.0
// GEMM-D: an output-stationary array of gemm_rows x gemm_cols int8 multiply-accumulators, two in each DSP.
#pragma once

#include "events.hpp"
#include "shim.hpp"
#include "types.hpp"

namespace hetfab {

// The fields of a matmul.
struct MatmulTile {
    unsigned act;
    unsigned wgt;
    unsigned acc;
    unsigned rows;
    unsigned k_words;
    unsigned col_groups;
    bool accumulate;
    bool is_unsigned;
};

template <class Z>
MatmulTile matmul_tile(const Word<Z, isa::instruction_bits>& instruction) {
#pragma HLS INLINE
    using Op = isa::Matmul;
    return {number<Z, Op::Act>(instruction),      number<Z, Op::Wgt>(instruction),
            number<Z, Op::Acc>(instruction),      number<Z, Op::Rows>(instruction),
            number<Z, Op::KWords>(instruction),   number<Z, Op::ColGroups>(instruction),
            flag<Z, Op::Accumulate>(instruction), flag<Z, Op::Unsigned>(instruction)};
}

// One step of the array: a channel of gemm_rows rows times a weight word.
template <class D, class Z>
void gemm_step(S<Z, 32> (&acc)[D::gemm_rows][D::gemm_cols],
               const Word<Z, 8 * D::gemm_rows> (&act)[D::gemm_rows], unsigned channel,
               const Word<Z, 8 * D::gemm_cols>& wgt, bool is_unsigned) {
#pragma HLS INLINE
    // Two columns share a DSP; one from each half, so that a host compiler sees consecutive lanes.
    constexpr unsigned pairs = D::gemm_cols / 2;
step_rows:
    for (unsigned row = 0; row < D::gemm_rows; row++) {
#pragma HLS UNROLL
        const S<Z, 9> a =
            is_unsigned ? S<Z, 9>(lane_u<Z, 8>(act[row], channel)) : S<Z, 9>(lane_s<Z, 8>(act[row], channel));
    step_col_pairs:
        for (unsigned col = 0; col < pairs; col++) {
#pragma HLS UNROLL
            S<Z, 17> low = 0;
            S<Z, 17> high = 0;
            product_pair<Z>(a, lane_s<Z, 8>(wgt, col), lane_s<Z, 8>(wgt, col + pairs), low, high);
            acc[row][col] = wrap<Z, 32>(sum<Z, 33>(acc[row][col], low));
            acc[row][col + pairs] = wrap<Z, 32>(sum<Z, 33>(acc[row][col + pairs], high));
        }
    }
}

// One block of gemm_rows x gemm_cols outputs; rows at or beyond `valid` read as zero and are not written.
// It counts the valid rows of each step, each of which is gemm_cols multiply-accumulates.
template <class D, class Z, class ActRam, class WgtRam, class AccRam, class Events>
Outcome gemm_block(const MatmulTile& tile, unsigned first_row, unsigned valid, unsigned col_group,
                   ActRam act_ram, WgtRam wgt_ram, AccRam acc_ram, Events& events) {
#pragma HLS INLINE
    using ActWord = Word<Z, 8 * D::gemm_rows>;
    S<Z, 32> acc[D::gemm_rows][D::gemm_cols];
#pragma HLS ARRAY_PARTITION variable=acc type=complete dim=0
    ActWord now[D::gemm_rows];
#pragma HLS ARRAY_PARTITION variable=now type=complete dim=0
    ActWord next[D::gemm_rows];
#pragma HLS ARRAY_PARTITION variable=next type=complete dim=0
fill_rows:
    for (unsigned row = 0; row < D::gemm_rows; row++) {
#pragma HLS PIPELINE II=1 style=stp
        events.trip(isa::loops::gemm_fill);
        const bool inside = row < valid;
        now[row] = inside && tile.k_words != 0 ? act_ram[tile.act + (first_row + row) * tile.k_words]
                                               : zero<Z, 8 * D::gemm_rows>();
        const Word<Z, 32 * D::gemm_cols> start =
            inside && tile.accumulate ? acc_ram[tile.acc + (first_row + row) * tile.col_groups + col_group]
                                      : zero<Z, 32 * D::gemm_cols>();
    fill_cols:
        for (unsigned col = 0; col < D::gemm_cols; col++) {
#pragma HLS UNROLL
            acc[row][col] = lane_s<Z, 32>(start, col);
        }
    }
    events.loop(isa::loops::gemm_fill, D::gemm_rows);

    const unsigned depth = tile.k_words * D::gemm_rows;
    const unsigned wgt = tile.wgt + col_group * depth;
    unsigned channel = 0;
    unsigned k_word = 0;
    unsigned row_steps = 0;
depth_steps:
    for (unsigned k = 0; k < depth; k++) {
#pragma HLS LOOP_TRIPCOUNT min=16 max=1024
#pragma HLS PIPELINE II=1 style=stp
        events.trip(isa::loops::gemm_steps);
        row_steps += valid;
        // While a block of channels is used, the next one is fetched: one row's word per step.
        const bool fetch = channel < valid && k_word + 1 < tile.k_words;
        next[channel] = fetch ? act_ram[tile.act + (first_row + channel) * tile.k_words + k_word + 1]
                              : zero<Z, 8 * D::gemm_rows>();
        gemm_step<D, Z>(acc, now, channel, wgt_ram[wgt + k], tile.is_unsigned);
        channel++;
        if (channel == D::gemm_rows) {
            channel = 0;
            k_word++;
        swap_rows:
            for (unsigned row = 0; row < D::gemm_rows; row++) {
#pragma HLS UNROLL
                now[row] = next[row];
            }
        }
    }
    events.loop(isa::loops::gemm_steps, depth);
    events.macs(std::uint64_t{valid} * depth * D::gemm_cols);

    unsigned written = 0;
drain_rows:
    for (unsigned row = 0; row < valid; row++) {
#pragma HLS LOOP_TRIPCOUNT min=1 max=16
#pragma HLS PIPELINE II=1 style=stp
        events.trip(isa::loops::gemm_drain);
        Word<Z, 32 * D::gemm_cols> word = zero<Z, 32 * D::gemm_cols>();
    drain_cols:
        for (unsigned col = 0; col < D::gemm_cols; col++) {
#pragma HLS UNROLL
            set_lane<Z, 32>(word, col, acc[row][col]);
        }
        acc_ram[tile.acc + (first_row + row) * tile.col_groups + col_group] = word;
        written++;
    }
    events.loop(isa::loops::gemm_drain, valid);
    return {true, written, row_steps};
}

template <class D, class Z, class ActRam, class WgtRam, class AccRam, class Events>
Outcome gemm_d_execute(const Word<Z, isa::instruction_bits>& instruction, ActRam act_ram, WgtRam wgt_ram,
                       AccRam acc_ram, Events& events) {
#pragma HLS INLINE off
    const int opcode = static_cast<int>(number<Z, isa::Header::Opcode>(instruction));
    if (opcode != isa::Matmul::opcode) return {opcode == isa::Sync::opcode, 0};
    const MatmulTile tile = matmul_tile<Z>(instruction);
    Outcome outcome = {true, 0};
col_groups:
    for (unsigned col_group = 0; col_group < tile.col_groups; col_group++) {
#pragma HLS LOOP_TRIPCOUNT min=1 max=4
    row_blocks:
        for (unsigned row = 0; row < tile.rows; row += D::gemm_rows) {
#pragma HLS LOOP_TRIPCOUNT min=1 max=4
            const unsigned left = tile.rows - row;
            const unsigned valid = left < D::gemm_rows ? left : D::gemm_rows;
            const Outcome block =
                gemm_block<D, Z>(tile, row, valid, col_group, act_ram, wgt_ram, acc_ram, events);
            outcome.work += block.work;
            outcome.count0 += block.count0;
        }
    }
    return outcome;
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
