// SPDX-License-Identifier: Apache-2.0
// GEMM-L's processing element: a dot product of `Lanes` channels a step, weight-serial and
// activation-parallel. A step takes one slice (`SliceBits` bits) of every activation and one bit plane of the
// weights, most significant first. hls/verilog/plane_dot.v is the same element mapped by hand; docs/area.md
// says what either costs.
#pragma once

#include "ints.hpp"

namespace hetfab {

// Bits that hold 0..largest.
constexpr int bits_for(int largest) { return largest == 0 ? 0 : 1 + bits_for(largest / 2); }

// A word of weights has at most 8 planes: 32 * 15 * -128 and 32 * 15 * 127 fit 17 bits.
constexpr int plane_word_bits = 17;

// What a step's plane is.
struct PlaneControl {
    // One-bit weights +1 and -1: a lane counts u where its bit is set and 2^SliceBits - 1 - u where it is
    // not.
    bool bipolar;
    // The sign plane of two's complement weights, the first of its word.
    bool negative;
    // The last plane of a word of weights.
    bool last;
    // With `last`: the word is the first of its output.
    bool clear;
    // With `last`: the word is the first of the next, less significant slice.
    bool next_slice;
};

// `inner` is the word so far, most significant planes first; `outer` the words so far.
template <class Z, int AccBits>
struct PlaneState {
    S<Z, plane_word_bits> inner = 0;
    S<Z, AccBits> outer = 0;
};

// The sum over a step's lanes, 0..Lanes * (2^SliceBits - 1). An integer family may have its own.
template <class Z, int Lanes, int SliceBits>
struct PlaneSum {
    static S<Z, plane_word_bits> of(const Word<Z, Lanes * SliceBits>& slices, const U<Z, Lanes>& plane,
                                    bool bipolar) {
#pragma HLS INLINE
        constexpr int largest = (1 << SliceBits) - 1;
        constexpr int sum_bits = bits_for(Lanes * largest) + 1;
        static_assert(sum_bits <= plane_word_bits, "the sum of a plane fits a word of weights");
        S<Z, sum_bits> total = 0;
    sum_lanes:
        for (unsigned lane = 0; lane < Lanes; lane++) {
#pragma HLS UNROLL factor=Lanes
            const S<Z, SliceBits + 2> activation = S<Z, SliceBits + 2>(slice_of<Z, SliceBits>(slices, lane));
            const S<Z, SliceBits + 2> otherwise =
                bipolar ? sum<Z, SliceBits + 2>(largest, sum<Z, SliceBits + 2>(0, -activation))
                        : S<Z, SliceBits + 2>(0);
            total = sum<Z, sum_bits>(total, bit_of<Z>(plane, lane) ? activation : otherwise);
        }
        return total;
    }
};

// `outer` with one more word.
template <class Z, int SliceBits, int AccBits>
S<Z, AccBits> fold_word(const S<Z, AccBits>& outer, const S<Z, plane_word_bits>& word,
                        const PlaneControl& control) {
#pragma HLS INLINE
    static_assert(AccBits >= plane_word_bits && AccBits <= 32,
                  "an accumulator holds a word and fits 32 bits");
    constexpr int wide = AccBits + SliceBits + 1;
    const S<Z, wide> before = control.clear        ? S<Z, wide>(0)
                              : control.next_slice ? product<Z, wide>(outer, 1 << SliceBits)
                                                   : S<Z, wide>(outer);
    // Modulo 2^AccBits: a result that fits is right even where a sum on the way to it did not.
    return wrap<Z, AccBits>(sum<Z, wide + 1>(before, word));
}

// One step. `outer` changes with the last plane of a word, whose word starts anew with the next step.
template <class Z, int Lanes, int SliceBits, int AccBits>
void plane_dot_step(PlaneState<Z, AccBits>& state, const Word<Z, Lanes * SliceBits>& slices,
                    const U<Z, Lanes>& plane, const PlaneControl& control) {
#pragma HLS INLINE
    const S<Z, plane_word_bits> added = PlaneSum<Z, Lanes, SliceBits>::of(slices, plane, control.bipolar);
    const S<Z, plane_word_bits> signed_sum = control.negative ? S<Z, plane_word_bits>(-added) : added;
    const S<Z, plane_word_bits> word =
        sum<Z, plane_word_bits>(product<Z, plane_word_bits + 1>(state.inner, 2), signed_sum);
    state.inner = control.last ? S<Z, plane_word_bits>(0) : word;
    if (control.last) state.outer = fold_word<Z, SliceBits, AccBits>(state.outer, word, control);
}

}  // namespace hetfab
