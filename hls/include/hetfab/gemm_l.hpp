// SPDX-License-Identifier: Apache-2.0
// GEMM-L: an output-stationary array of gemm_l_rows x gemm_l_cols sums built from LUTs. A step multiplies a
// slice of 4 bits of 32 channels by one bit of their weights; planes, words and slices follow each other
// without a pause.
#pragma once

#include "drain.hpp"
#include "events.hpp"
#include "mac_arrays.hpp"
#include "shim.hpp"
#include "types.hpp"

namespace hetfab {

// What a matmul_planes or a matmul_planes_lines says.
struct PlanesTile {
    StripShape strip;
    RowBlocks blocks;
    unsigned wgt;
    unsigned acc;
    unsigned slices;
    unsigned planes;
    unsigned col_groups;
    bool accumulate;
    bool is_unsigned;
    bool bipolar;

    // Words of 32 channels in a row of the tile.
    unsigned row_words() const { return strip.lines * strip.run; }
    PlaneShape shape() const { return {slices, row_words(), planes, bipolar}; }
    unsigned rows() const {
        return blocks.count == 0 ? 0 : (blocks.count - 1) * blocks.block_rows + blocks.last_rows;
    }
};

template <class D, class Z>
PlanesTile planes_tile(const Word<Z, isa::instruction_bits>& instruction) {
#pragma HLS INLINE
    using Op = isa::MatmulPlanes;
    const unsigned words = number<Z, Op::RowWords>(instruction);
    const unsigned slices = number<Z, Op::Slices>(instruction);
    return {{number<Z, Op::Act>(instruction), 1, words, 0, slices * words},
            blocks_of_rows<D::gemm_l_rows>(number<Z, Op::Rows>(instruction)),
            number<Z, Op::Wgt>(instruction),
            number<Z, Op::Acc>(instruction),
            slices,
            number<Z, Op::Planes>(instruction),
            number<Z, Op::ColGroups>(instruction),
            flag<Z, Op::Accumulate>(instruction),
            flag<Z, Op::Unsigned>(instruction),
            flag<Z, Op::Bipolar>(instruction)};
}

template <class Z>
PlanesTile planes_strips(const Word<Z, isa::instruction_bits>& instruction) {
#pragma HLS INLINE
    using Op = isa::MatmulPlanesLines;
    const unsigned banks = number<Z, Op::Banks>(instruction);
    return {
        {number<Z, Op::Act>(instruction), number<Z, Op::Lines>(instruction), number<Z, Op::Run>(instruction),
         number<Z, Op::LineWords>(instruction), number<Z, Op::StepWords>(instruction)},
        {number<Z, Op::Columns>(instruction) + 1, banks, banks},
        number<Z, Op::Wgt>(instruction),
        number<Z, Op::Acc>(instruction),
        number<Z, Op::Slices>(instruction),
        number<Z, Op::Planes>(instruction),
        number<Z, Op::ColGroups>(instruction),
        flag<Z, Op::Accumulate>(instruction),
        flag<Z, Op::Unsigned>(instruction),
        flag<Z, Op::Bipolar>(instruction)};
}

// All blocks of a tile, one after the other without a pause.
template <class D, class Z, class ActRam, class WgtRam, class AccRam, class Events>
Outcome gemm_l_blocks(const PlanesTile& tile, ActRam act_ram, WgtRam wgt_ram, AccRam acc_ram,
                      Events& events) {
#pragma HLS INLINE
    constexpr unsigned rows = D::gemm_l_rows;
    constexpr unsigned cols = D::gemm_l_cols;
    PlaneState<Z, D::gemm_l_acc_bits> dot[rows][cols];
#pragma HLS ARRAY_PARTITION variable=dot type=complete dim=0
    Word<Z, 128> slice[rows];
#pragma HLS ARRAY_PARTITION variable=slice type=complete dim=0
    Drain<Z, rows, cols> drain(tile.acc, tile.col_groups, tile.accumulate);
    const PlaneShape shape = tile.shape();
    const unsigned words = tile.slices * tile.row_words();
    BlockWalk walk(tile.blocks, tile.col_groups, words * tile.planes, tile.accumulate);
    StripWalk strip(tile.strip, tile.slices);
    PlanePlace place;
    unsigned wgt = tile.wgt;
    unsigned row_words = 0;
gemm_l_steps:
    for (unsigned trip = 0; trip < walk.trips(); trip++) {
#pragma HLS LOOP_TRIPCOUNT min=32 max=65536
#pragma HLS PIPELINE II=1 style=stp
        events.trip(isa::loops::gemm_l_steps);
        drain.step(acc_ram);
        if (walk.summing()) {
            const PlaneControl control = place.control(shape);
            if (place.plane == 0) {
            slice_rows:
                for (unsigned row = 0; row < rows; row++) {
#pragma HLS UNROLL factor=rows
                    slice[row] =
                        offset_slices<Z>(act_ram[row][strip.word()], !tile.is_unsigned && place.slice == 0);
                }
                strip.next();
                if (place.slice == 0) row_words += walk.valid_rows();
            }
            U<Z, 32> weights[cols];
#pragma HLS ARRAY_PARTITION variable=weights type=complete dim=0
            lanes_of<Z, cols>(wgt_ram[wgt + place.weight], weights);
            plane_array_step<Z, D::gemm_l_acc_bits>(dot, slice, weights, control);
            place.next(shape);
        }
        if (walk.ends_block()) {
            S<Z, 32> sums[rows][cols];
#pragma HLS ARRAY_PARTITION variable=sums type=complete dim=0
        sum_rows:
            for (unsigned row = 0; row < rows; row++) {
#pragma HLS UNROLL factor=rows
            sum_cols:
                for (unsigned col = 0; col < cols; col++) {
#pragma HLS UNROLL factor=cols
                    sums[row][col] = dot[row][col].outer;
                }
            }
            drain.begin(sums, walk);
        }
        if (walk.next()) {
            strip.next_pixel(walk.first_block());
            if (walk.first_block()) wgt += tile.row_words() * tile.planes;
        }
    }
    events.loop(isa::loops::gemm_l_steps, walk.trips());
    events.macs(std::uint64_t{plane_lanes} * tile.row_words() * tile.rows() * tile.col_groups * cols);
    return {true, drain.written(), row_words};
}

template <class D, class Z, class ActRam, class WgtRam, class AccRam, class Events>
Outcome gemm_l_execute(const Word<Z, isa::instruction_bits>& instruction, ActRam act_ram, WgtRam wgt_ram,
                       AccRam acc_ram, Events& events) {
#pragma HLS INLINE off
    const int opcode = static_cast<int>(number<Z, isa::Header::Opcode>(instruction));
    if (opcode != isa::MatmulPlanes::opcode && opcode != isa::MatmulPlanesLines::opcode) {
        return {opcode == isa::Sync::opcode, 0};
    }
    // One call for both, so that there is one array.
    const PlanesTile tile =
        opcode == isa::MatmulPlanes::opcode ? planes_tile<D, Z>(instruction) : planes_strips<Z>(instruction);
    return gemm_l_blocks<D, Z>(tile, act_ram, wgt_ram, acc_ram, events);
}

// The engine: one instruction, from its stream to its token.
template <class D, class Z, class ActRam, class WgtRam, class AccRam, class Events>
void gemm_l_step(hls::stream<Word<Z, isa::instruction_bits>>& instructions,
                 hls::stream<Word<Z, isa::token_bits>>& tokens, ActRam act_ram, WgtRam wgt_ram,
                 AccRam acc_ram, Events& events) {
#pragma HLS INLINE
    const Word<Z, isa::instruction_bits> instruction = instructions.read();
    events.loop(isa::loops::instruction, 1);
    const Outcome outcome = gemm_l_execute<D, Z>(instruction, act_ram, wgt_ram, acc_ram, events);
    HETFAB_FENCE(act_ram, wgt_ram, acc_ram, tokens);
    tokens.write(make_token<D, Z>(instruction, outcome));
}

}  // namespace hetfab
