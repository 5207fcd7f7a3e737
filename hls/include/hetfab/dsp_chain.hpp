// SPDX-License-Identifier: Apache-2.0
// GEMM-D's chain: 8 DSP slices along the input channels, for 2 rows and 2 columns. A step takes 32 bits of
// each row and column: 4 channels of int8, or 8 of int4 ("nibbles"), the lowest bits first.
#pragma once

#include "dsp_packing.hpp"
#include "ints.hpp"

namespace hetfab {

// 4 * 128 * 127, the largest sum of a step, and its sign.
constexpr int chain_sum_bits = 17;
constexpr int chain_length = 8;
constexpr int half_chain = chain_length / 2;

// Channel `position` of a row or column.
template <class Z, int Bits>
S<Z, Bits> chain_operand(const U<Z, 32>& operands, int position) {
#pragma HLS INLINE
    return wrap<Z, Bits>(operands >> (position * Bits));
}

template <class Multiplier, class Dsp>
struct ChainSums;

#if __cplusplus >= 201703L
// On a host a product is cheaper than its packing.
template <class Dsp>
struct ChainSums<Native, Dsp> {
    using Sums = S<Native, chain_sum_bits>[2][2];

    static void add(const U<Native, 32> (&act)[2], const U<Native, 32> (&wgt)[2], bool nibbles, Sums& sums) {
        if (nibbles) {
            add_channels<4>(act, wgt, sums);
        } else {
            add_channels<8>(act, wgt, sums);
        }
    }

  private:
    template <int Bits>
    static void add_channels(const U<Native, 32> (&act)[2], const U<Native, 32> (&wgt)[2], Sums& sums) {
        for (int row = 0; row < 2; row++) {
            for (int col = 0; col < 2; col++) {
                S<Native, chain_sum_bits> total = 0;
                for (int channel = 0; channel < 32 / Bits; channel++) {
                    const auto a = chain_operand<Native, Bits>(act[row], channel);
                    const auto w = chain_operand<Native, Bits>(wgt[col], channel);
                    // Checked builds stop here at a weight that is not narrow: its negative has no room.
                    static_cast<void>(product<Native, Bits>(w, -1));
                    total = sum<Native, chain_sum_bits>(total, product<Native, 2 * Bits>(a, w));
                }
                sums[row][col] = total;
            }
        }
    }
};

#endif

#ifdef HETFAB_AP_INT
// The slices, every port cut to its width.
template <class Dsp>
struct ChainSums<Ap, Dsp> {
    static_assert(Dsp::int8.accumulations >= half_chain,
                  "a half-chain adds 4 products before its fields are read");
    static_assert(Dsp::int4.accumulations >= chain_length,
                  "a chain adds 8 products before its fields are read");

    using Sums = ap_int<chain_sum_bits>[2][2];
    using Accumulator = ap_int<Dsp::sum_port>;

    static void add(const ap_uint<32> (&act)[2], const ap_uint<32> (&wgt)[2], bool nibbles, Sums& sums) {
#pragma HLS INLINE
        const Accumulator start = nibbles ? int4_start() : int8_start();
        Accumulator half = 0;
        Accumulator total = start;
    chain_slices:
        for (int slice = 0; slice < chain_length; slice++) {
#pragma HLS UNROLL factor=chain_length
            if (slice == half_chain) {
                half = total;
                // In int8 mode the second half begins anew, for row 1; by this choice its first slice takes
                // the sum from the fabric, the others from their neighbour.
                if (!nibbles) total = start;
            }
            total = multiply_add(activation_operand(act, slice, nibbles), low_weight(wgt[0], slice, nibbles),
                                 high_weight(wgt[1], slice, nibbles), total);
        }
    chain_cols:
        for (int col = 0; col < 2; col++) {
#pragma HLS UNROLL factor=2
        chain_rows:
            for (int row = 0; row < 2; row++) {
#pragma HLS UNROLL factor=2
                const Accumulator int8_sums = row == 0 ? half : total;
                sums[row][col] = nibbles ? int4_field(total, row + 2 * col) : int8_field(int8_sums, col);
            }
        }
    }

  private:
    // Half a field's range in every field but the top one: no sum below borrows from the field above it.
    static Accumulator int8_start() {
#pragma HLS INLINE
        return Accumulator(1) << (Dsp::int8.spacing - 1);
    }
    static Accumulator int4_start() {
#pragma HLS INLINE
        const Accumulator half = Accumulator(1) << (Dsp::int4.spacing - 1);
        return Accumulator(half + (half << Dsp::int4.spacing) + (half << 2 * Dsp::int4.spacing));
    }

    // The modes meet before the ports, so that one multiplier serves both; int8 channels repeat in each half.
    static ap_int<Dsp::activation_port> activation_operand(const ap_uint<32> (&act)[2], int slice,
                                                           bool nibbles) {
#pragma HLS INLINE
        const ap_int<Dsp::activation_port> upper = chain_operand<Ap, 4>(act[1], slice);
        const auto both =
            ap_int<Dsp::activation_port>((upper << Dsp::int4.spacing) + chain_operand<Ap, 4>(act[0], slice));
        const ap_int<Dsp::activation_port> one =
            chain_operand<Ap, 8>(act[slice / half_chain], slice % half_chain);
        return nibbles ? both : one;
    }
    static ap_int<8> low_weight(const ap_uint<32>& wgt, int slice, bool nibbles) {
#pragma HLS INLINE
        const ap_int<8> nibble = chain_operand<Ap, 4>(wgt, slice);
        const ap_int<8> byte = chain_operand<Ap, 8>(wgt, slice % half_chain);
        return nibbles ? nibble : byte;
    }
    static ap_int<Dsp::weight_port> high_weight(const ap_uint<32>& wgt, int slice, bool nibbles) {
#pragma HLS INLINE
        const ap_int<Dsp::weight_port> nibble = chain_operand<Ap, 4>(wgt, slice);
        const ap_int<Dsp::weight_port> byte = chain_operand<Ap, 8>(wgt, slice % half_chain);
        const ap_int<Dsp::weight_port> high_nibble = nibble << 2 * Dsp::int4.spacing;
        const ap_int<Dsp::weight_port> high_byte = byte << Dsp::int8.spacing;
        return nibbles ? high_nibble : high_byte;
    }

    // One slice: pre-adder, multiplier, adder of the cascade.
    static Accumulator multiply_add(const ap_int<Dsp::activation_port>& act, const ap_int<8>& low,
                                    const ap_int<Dsp::weight_port>& high, const Accumulator& previous) {
#pragma HLS INLINE
        const auto pair = ap_int<Dsp::weight_port>(high + low);
        const ap_int<Dsp::weight_port + Dsp::activation_port> packed = pair * act;
// Left alone, the tool may build products of this width from LUTs.
#pragma HLS BIND_OP variable=packed op=mul impl=dsp
        return Accumulator(packed + previous);
    }

    // A field is a plain slice minus its start. The top one has no start, and reaches the accumulator's end.
    static ap_int<chain_sum_bits> int8_field(const Accumulator& total, int col) {
#pragma HLS INLINE
        if (col == 1) return ap_int<chain_sum_bits>(total >> Dsp::int8.spacing);
        return field<Dsp::int8.spacing>(total, 0);
    }
    static ap_int<chain_sum_bits> int4_field(const Accumulator& total, int position) {
#pragma HLS INLINE
        if (position == 3) return ap_int<chain_sum_bits>(total >> 3 * Dsp::int4.spacing);
        return field<Dsp::int4.spacing>(total, position);
    }
    template <int Spacing>
    static ap_int<chain_sum_bits> field(const Accumulator& total, int position) {
#pragma HLS INLINE
        const auto bits = ap_uint<Spacing>(total >> (position * Spacing));
        return ap_int<chain_sum_bits>(bits - (ap_int<Spacing + 1>(1) << (Spacing - 1)));
    }
};
#endif

// The 2 x 2 sums of a step. Weights are narrow. `flip` takes unsigned activations: their top bit is inverted,
// which subtracts 2^(bits - 1); whoever made the bias has added 2^(bits - 1) times the sum of the weights.
template <class Z, class Dsp>
void chain_step(const U<Z, 32> (&act)[2], const U<Z, 32> (&wgt)[2], bool nibbles, bool flip,
                S<Z, chain_sum_bits> (&sums)[2][2]) {
#pragma HLS INLINE
    const U<Z, 32> top_bits = nibbles ? U<Z, 32>(0x88888888u) : U<Z, 32>(0x80808080u);
    const U<Z, 32> inverted = flip ? top_bits : U<Z, 32>(0);
    const U<Z, 32> is_signed[2] = {U<Z, 32>(act[0] ^ inverted), U<Z, 32>(act[1] ^ inverted)};
    ChainSums<typename Z::Multiplier, Dsp>::add(is_signed, wgt, nibbles, sums);
}

}  // namespace hetfab
