// SPDX-License-Identifier: Apache-2.0
// A dense layer with fixed weights for projects of hls4ml: its first outputs are summed on DSPs, the rest on
// LUTs, by the steps of GEMM-D and GEMM-L, and requantized as VEC does. docs/hls4ml.md says what it computes.
//
// This header and those that it includes are C++11 where integers are ap_int, as hls4ml's scripts demand.
#pragma once

#if defined(__SYNTHESIS__) || __cplusplus < 201703L
#define HETFAB_AP_INT
#endif

#include "ap_int.h"
#include "hls_stream.h"
#include "mac_arrays.hpp"
#include "rounding.hpp"

namespace hetfab {

// A host compiler that can takes native integers, which are faster and give the same bits.
#ifdef HETFAB_AP_INT
using DenseInts = Ap;
#else
using DenseInts = Native;
#endif

// Sizes that follow from a layer's configuration.
template <class Config>
struct DenseShape {
    // A chain of DSPs serves two rows. A lone row leaves the second half zero, which synthesis removes.
    static constexpr unsigned chain_rows = 2;
    static constexpr unsigned rows = Config::n_rows > 1 ? 2 : 1;
    static constexpr unsigned words = (Config::n_in + plane_lanes - 1) / plane_lanes;
    // Steps on DSPs: in a word of 32 channels, and in a row.
    static constexpr unsigned word_steps = Config::packed ? 4 : 8;
    static constexpr unsigned step_channels = plane_lanes / word_steps;
    static constexpr unsigned steps = (Config::n_in + step_channels - 1) / step_channels;
    static constexpr unsigned slices = Config::in_bits > slice_bits ? 2 : 1;
    static constexpr unsigned groups_d = (Config::n_dsp + Config::dsp_cols - 1) / Config::dsp_cols;
    static constexpr unsigned groups_l =
        (Config::n_out - Config::n_dsp + Config::lut_cols - 1) / Config::lut_cols;
    // Arrays have at least one element, also of an engine that has no outputs.
    static constexpr unsigned sums_d = groups_d == 0 ? 1 : groups_d * Config::dsp_cols;
    static constexpr unsigned sums_l = groups_l == 0 ? 1 : groups_l * Config::lut_cols;
    // An unsigned activation that fills its field enters the chain with its top bit inverted.
    static constexpr bool flip_d = !Config::in_signed && Config::in_bits == (Config::packed ? 4 : 8);
};

// The activations of the rows that are multiplied at once, as each engine takes them.
template <class Config, class Z>
struct DenseActivations {
    using Shape = DenseShape<Config>;
    U<Z, 32> chain[Shape::words * Shape::word_steps][Shape::chain_rows];
    Word<Z, 128> slices[Shape::slices * Shape::words][Shape::rows];
};

// The bits of a number of hls4ml, as a signed or unsigned integer of `Bits` bits.
template <int Bits, bool Signed, class Number>
int dense_integer(const Number& number) {
#pragma HLS INLINE
    const ap_uint<Bits> bits = number.range(Bits - 1, 0);
    return Signed ? ap_int<Bits>(bits).to_int() : static_cast<int>(bits.to_uint());
}

// Puts channel `lane` of a word into the words of both engines.
template <class Config, class Z>
void dense_put(DenseActivations<Config, Z>& act, unsigned row, unsigned word, unsigned lane, int value,
               U<Z, 32> (&chain)[DenseShape<Config>::word_steps], U<Z, 32> (&high)[4], U<Z, 32> (&low)[4]);

// One word of 32 channels of a row, from the row's integers.
template <class Config, class Z>
void dense_pack_word(DenseActivations<Config, Z>& act, const S<Z, 9> (&row)[Config::n_in], unsigned number,
                     unsigned word) {
#pragma HLS INLINE
    using Shape = DenseShape<Config>;
    U<Z, 32> chain[8];
    U<Z, 32> high[4];
    U<Z, 32> low[4];
}

}  // namespace hetfab
