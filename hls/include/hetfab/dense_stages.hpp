// SPDX-License-Identifier: Apache-2.0
// GEMM-D of an accelerator with fixed weights: a matmul whose weights lie behind wgt_d_ram is one of its
// dense stages, which have weights of their own; any other one is the array's (docs/dataflow.md).
#pragma once

#include <tuple>

#include "gemm_d.hpp"

namespace hetfab {

// Channels of a beat of activations.
constexpr unsigned beat_channels = 8;

// Depth of wgt_d_ram in a design whose products all have fixed weights: it has no array.
constexpr unsigned no_weights = 2;
// Rows that a stage multiplies at once: a chain of DSPs serves two.
constexpr unsigned stage_row_pair = 2;

// Two rows of inputs as integers: bytes, signed or not. They lie in neighbouring banks; behind an odd last
// row the second one is whatever the bank holds, and its sums are left out.
template <class D, class Z, unsigned Inputs, class ActRam>
void stage_inputs(const MatmulTile& tile, unsigned row, ActRam act_ram,
                  S<Z, 9> (&inputs)[stage_row_pair][Inputs]) {
#pragma HLS INLINE off
    const unsigned first = tile.strip.act + row / D::gemm_d_rows * tile.row_beats();
input_beats:
    for (unsigned beat = 0; beat < tile.row_beats(); beat++) {
#pragma HLS LOOP_TRIPCOUNT min=8 max=64
#pragma HLS PIPELINE II=1 style=stp
    input_rows:
        for (unsigned second = 0; second < stage_row_pair; second++) {
#pragma HLS UNROLL factor=stage_row_pair
            const Word<Z, 64> word = act_ram[row % D::gemm_d_rows + second][first + beat];
        input_lanes:
            for (unsigned lane = 0; lane < beat_channels; lane++) {
#pragma HLS UNROLL factor=beat_channels
                const unsigned channel = beat * beat_channels + lane;
                const S<Z, 9> value =
                    tile.is_unsigned ? S<Z, 9>(lane_u<Z, 8>(word, lane)) : S<Z, 9>(lane_s<Z, 8>(word, lane));
                if (channel < Inputs) inputs[second][channel] = value;
            }
        }
    }
}

// Writes sums as the array does: gemm_d_cols channels a word, in two trips where they are added to what is
// there, as a word has one port.
template <class D, class Z, unsigned Outputs, class AccRam>
void stage_sums(const MatmulTile& tile, unsigned row, const S<Z, 32> (&sums)[stage_row_pair][Outputs],
                AccRam acc_ram) {
#pragma HLS INLINE off
    const unsigned rows = tile.rows() - row < stage_row_pair ? tile.rows() - row : stage_row_pair;
    const unsigned parts = tile.accumulate ? 2 : 1;
    const unsigned words = rows * tile.col_groups;
    Word<Z, 32 * D::gemm_d_cols> before = zero<Z, 32 * D::gemm_d_cols>();
    unsigned group = 0;
    unsigned second = 0;
sum_words:
    for (unsigned trip = 0; trip < words * parts; trip++) {
#pragma HLS LOOP_TRIPCOUNT min=1 max=256
#pragma HLS PIPELINE II=1 style=stp
        const unsigned place = tile.acc + (row + second) * tile.col_groups + group;
        if (tile.accumulate && trip % 2 == 0) {
            before = acc_ram[place];
        } else {
            Word<Z, 32 * D::gemm_d_cols> word = zero<Z, 32 * D::gemm_d_cols>();
        sum_lanes_of_word:
            for (unsigned lane = 0; lane < D::gemm_d_cols; lane++) {
#pragma HLS UNROLL factor=D::gemm_d_cols
                const unsigned channel = group * D::gemm_d_cols + lane;
                const S<Z, 32> own = channel < Outputs ? sums[second][channel] : S<Z, 32>(0);
                set_lane<Z, 32>(word, lane, wrap<Z, 32>(sum<Z, 33>(lane_s<Z, 32>(before, lane), own)));
            }
            acc_ram[place] = word;
            group++;
            if (group == tile.col_groups) {
                group = 0;
                second++;
            }
        }
    }
}

// Cycles between two pairs of rows of a stage, which reads, multiplies and writes at the same time.
inline unsigned stage_interval(unsigned multiply_cycles, const MatmulTile& tile) {
#pragma HLS INLINE
    const unsigned written = stage_row_pair * tile.col_groups * (tile.accumulate ? 2 : 1);
    const unsigned moved = tile.row_beats() < written ? written : tile.row_beats();
    return moved < multiply_cycles ? multiply_cycles : moved;
}

// The rows of a tile through one stage: a type with `inputs`, `outputs`, the cycles that it multiplies two
// rows in, and `multiply`, which sums their products.
template <class D, class Z, class Stage, class ActRam, class AccRam, class Events>
Outcome stage_rows(const MatmulTile& tile, ActRam act_ram, AccRam acc_ram, Events& events) {
#pragma HLS INLINE off
    static_assert(D::gemm_d_rows % stage_row_pair == 0, "a pair of rows lies in two banks");
    const unsigned rows = tile.rows();
    const unsigned pairs = (rows + stage_row_pair - 1) / stage_row_pair;
rows_of_stage:
    for (unsigned pair = 0; pair < pairs; pair++) {
#pragma HLS LOOP_TRIPCOUNT min=1 max=16
#pragma HLS DATAFLOW
        S<Z, 9> inputs[stage_row_pair][Stage::inputs];
#pragma HLS ARRAY_PARTITION variable=inputs type=complete dim=0
        S<Z, 32> sums[stage_row_pair][Stage::outputs];
#pragma HLS ARRAY_PARTITION variable=sums type=complete dim=0
        stage_inputs<D, Z>(tile, pair * stage_row_pair, act_ram, inputs);
        Stage::multiply(inputs, sums);
        stage_sums<D, Z>(tile, pair * stage_row_pair, sums, acc_ram);
    }
    // A pair is on its way through three steps.
    const unsigned trips = (pairs + 2) * stage_interval(Stage::multiply_cycles, tile);
    events.loop(isa::loops::stage_rows, pairs == 0 ? 0 : trips);
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

// The stage of a number: one of a list of types, looked for from `Number` on.
template <class D, class Z, class Stages, unsigned Number, class ActRam, class AccRam, class Events>
Outcome run_stage(unsigned stage, const MatmulTile& tile, ActRam act_ram, AccRam acc_ram, Events& events) {
#pragma HLS INLINE
    if constexpr (Number < std::tuple_size_v<Stages>) {
        if (stage == Number) {
            return stage_rows<D, Z, std::tuple_element_t<Number, Stages>>(tile, act_ram, acc_ram, events);
        }
        return run_stage<D, Z, Stages, Number + 1>(stage, tile, act_ram, acc_ram, events);
    }
    return {false, 0};
}

// The engine: one instruction, from its stream to its token.
template <class D, class Z, class Stages, class ActRam, class WgtRam, class AccRam, class Events>
void dense_step(hls::stream<Word<Z, isa::instruction_bits>>& instructions,
                hls::stream<Word<Z, isa::token_bits>>& tokens, ActRam act_ram, WgtRam wgt_ram, AccRam acc_ram,
                Events& events) {
#pragma HLS INLINE
    const Word<Z, isa::instruction_bits> instruction = instructions.read();
    events.loop(isa::loops::instruction, 1);
    Outcome outcome = {number<Z, isa::Header::Opcode>(instruction) == isa::Sync::opcode, 0};
    if (is_stage<D, Z>(instruction)) {
        const unsigned stage = number<Z, isa::Matmul::Wgt>(instruction) - D::wgt_d_words;
        outcome = run_stage<D, Z, Stages, 0>(stage, matmul_tile<D, Z>(instruction), act_ram, acc_ram, events);
    } else if constexpr (D::wgt_d_words > no_weights) {
        outcome = gemm_d_execute<D, Z>(instruction, act_ram, wgt_ram, acc_ram, events);
    }
    HETFAB_FENCE(act_ram, wgt_ram, acc_ram, tokens);
    tokens.write(make_token<D, Z>(instruction, outcome));
}

}  // namespace hetfab
