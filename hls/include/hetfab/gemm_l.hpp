// SPDX-License-Identifier: Apache-2.0
// GEMM-L: an output-stationary array of gemm_l_rows x gemm_l_cols sums built from LUTs. A step multiplies a
// slice of 4 bits of 32 channels by one bit of their weights; planes, words and slices follow each other
// without a pause.
#pragma once

#include "drain.hpp"
#include "events.hpp"
#include "plane_dot.hpp"
#ifdef HETFAB_PLANE_BOXES
#include "plane_boxes.hpp"
#endif
#include "shim.hpp"
#include "types.hpp"

namespace hetfab {

// Channels and activation bits of a step.
constexpr int plane_lanes = 32;
constexpr int slice_bits = 4;

// A step of one element: mapped by hand where the build has the black boxes, else plain.
template <class D, class Z>
void plane_element(PlaneState<Z, D::gemm_l_acc_bits>& state, const Word<Z, plane_lanes * slice_bits>& slices,
                   const U<Z, plane_lanes>& plane, const PlaneControl& control) {
#pragma HLS INLINE
#ifdef HETFAB_PLANE_BOXES
    mapped_plane_dot_step(state, slices, plane, control);
#else
    plane_dot_step<Z, plane_lanes, slice_bits, D::gemm_l_acc_bits>(state, slices, plane, control);
#endif
}

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

// Where a block is: slice by slice, word by word, plane by plane.
struct PlanePlace {
    unsigned slice = 0;
    unsigned word = 0;
    unsigned plane = 0;
    // Word of the column group's weights, which all slices take.
    unsigned weight = 0;

    void next(const PlanesTile& tile) {
#pragma HLS INLINE
        weight++;
        plane++;
        if (plane != tile.planes) return;
        plane = 0;
        word++;
        if (word != tile.row_words()) return;
        word = 0;
        weight = 0;
        slice++;
        if (slice == tile.slices) slice = 0;
    }

    PlaneControl control(const PlanesTile& tile) const {
#pragma HLS INLINE
        PlaneControl control = {};
        control.bipolar = tile.bipolar;
        control.negative = plane == 0 && !tile.bipolar;
        control.last = plane + 1 == tile.planes;
        control.clear = slice == 0 && word == 0;
        control.next_slice = slice != 0 && word == 0;
        return control;
    }
};

// A word of slices as the array takes it: signed values enter with their top bit flipped.
template <class Z>
Word<Z, 128> offset_slices(const Word<Z, 128>& slices, bool flip) {
#pragma HLS INLINE
    Word<Z, 128> word = slices;
offset_lanes:
    for (unsigned lane = 0; lane < 4; lane++) {
#pragma HLS UNROLL factor=4
        const U<Z, 32> inverted = flip ? U<Z, 32>(0x88888888U) : U<Z, 32>(0);
        set_lane<Z, 32>(word, lane, U<Z, 32>(lane_u<Z, 32>(slices, lane) ^ inverted));
    }
    return word;
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
            const PlaneControl control = place.control(tile);
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
            const Word<Z, 32 * cols> weights = wgt_ram[wgt + place.weight];
        dot_rows:
            for (unsigned row = 0; row < rows; row++) {
#pragma HLS UNROLL factor=rows
            dot_cols:
                for (unsigned col = 0; col < cols; col++) {
#pragma HLS UNROLL factor=cols
                    plane_element<D, Z>(dot[row][col], slice[row], lane_u<Z, 32>(weights, col), control);
                }
            }
            place.next(tile);
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
