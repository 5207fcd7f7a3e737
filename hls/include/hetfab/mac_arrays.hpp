// SPDX-License-Identifier: Apache-2.0
// One step of an array of sums, on chains of DSPs or on LUTs. GEMM-D and GEMM-L of an overlay and the dense
// layers of hls4ml's projects multiply with these functions and no others.
#pragma once

#include "dsp_chain.hpp"
#include "ints.hpp"
#include "plane_dot.hpp"
#ifdef HETFAB_PLANE_BOXES
#include "plane_boxes.hpp"
#endif

namespace hetfab {

// A step on DSPs: 32 bits of each row times 32 bits of each column, 4 channels or 8 packed ones. `first`
// begins the sums anew.
template <class Z, class Dsp, int AccBits, unsigned Rows, unsigned Cols>
void chain_array_step(S<Z, AccBits> (&acc)[Rows][Cols], const U<Z, 32> (&act)[Rows],
                      const U<Z, 32> (&wgt)[Cols], bool packed, bool is_unsigned, bool first) {
#pragma HLS INLINE
    static_assert(Rows % 2 == 0 && Cols % 2 == 0, "a chain serves two rows and two columns");
chain_rows:
    for (unsigned row = 0; row < Rows; row += 2) {
#pragma HLS UNROLL factor=Rows/2
    chain_cols:
        for (unsigned col = 0; col < Cols; col += 2) {
#pragma HLS UNROLL factor=Cols/2
            const U<Z, 32> pair[2] = {act[row], act[row + 1]};
            const U<Z, 32> weight[2] = {wgt[col], wgt[col + 1]};
            S<Z, chain_sum_bits> sums[2][2];
            chain_step<Z, Dsp>(pair, weight, packed, is_unsigned, sums);
        sum_rows:
            for (unsigned r = 0; r < 2; r++) {
#pragma HLS UNROLL factor=2
            sum_cols:
                for (unsigned c = 0; c < 2; c++) {
#pragma HLS UNROLL factor=2
                    const S<Z, AccBits> before = first ? S<Z, AccBits>(0) : acc[row + r][col + c];
                    acc[row + r][col + c] = wrap<Z, AccBits>(sum<Z, AccBits + 1>(before, sums[r][c]));
                }
            }
        }
    }
}

// Channels and activation bits of a step on LUTs.
constexpr int plane_lanes = 32;
constexpr int slice_bits = 4;

// A step of one element: mapped by hand where the build has the black boxes, else plain.
template <class Z, int AccBits>
void plane_element(PlaneState<Z, AccBits>& state, const Word<Z, plane_lanes * slice_bits>& slices,
                   const U<Z, plane_lanes>& plane, const PlaneControl& control) {
#pragma HLS INLINE
#ifdef HETFAB_PLANE_BOXES
    mapped_plane_dot_step(state, slices, plane, control);
#else
    plane_dot_step<Z, plane_lanes, slice_bits, AccBits>(state, slices, plane, control);
#endif
}

// A step on LUTs: a slice of 32 channels of each row times one bit plane of each column.
template <class Z, int AccBits, unsigned Rows, unsigned Cols>
void plane_array_step(PlaneState<Z, AccBits> (&dot)[Rows][Cols], const Word<Z, 128> (&slice)[Rows],
                      const U<Z, 32> (&wgt)[Cols], const PlaneControl& control) {
#pragma HLS INLINE
dot_rows:
    for (unsigned row = 0; row < Rows; row++) {
#pragma HLS UNROLL factor=Rows
    dot_cols:
        for (unsigned col = 0; col < Cols; col++) {
#pragma HLS UNROLL factor=Cols
            plane_element<Z, AccBits>(dot[row][col], slice[row], wgt[col], control);
        }
    }
}

// How a sum on LUTs is cut into steps.
struct PlaneShape {
    unsigned slices;
    // Words of 32 channels.
    unsigned words;
    unsigned planes;
    bool bipolar;
};

// Where a sum is: slice by slice, word by word, plane by plane.
struct PlanePlace {
    unsigned slice = 0;
    unsigned word = 0;
    unsigned plane = 0;
    // Word of the column group's weights, which all slices take.
    unsigned weight = 0;

    void next(const PlaneShape& shape) {
#pragma HLS INLINE
        weight++;
        plane++;
        if (plane != shape.planes) return;
        plane = 0;
        word++;
        if (word != shape.words) return;
        word = 0;
        weight = 0;
        slice++;
        if (slice == shape.slices) slice = 0;
    }

    PlaneControl control(const PlaneShape& shape) const {
#pragma HLS INLINE
        PlaneControl control = {};
        control.bipolar = shape.bipolar;
        control.negative = plane == 0 && !shape.bipolar;
        control.last = plane + 1 == shape.planes;
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

// The 32-bit lanes of a word.
template <class Z, unsigned Lanes>
void lanes_of(const Word<Z, 32 * Lanes>& word, U<Z, 32> (&lane)[Lanes]) {
#pragma HLS INLINE
word_lanes:
    for (unsigned i = 0; i < Lanes; i++) {
#pragma HLS UNROLL factor=Lanes
        lane[i] = lane_u<Z, 32>(word, i);
    }
}

}  // namespace hetfab
