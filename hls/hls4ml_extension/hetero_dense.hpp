// SPDX-License-Identifier: Apache-2.0
// A dense layer with fixed weights for projects of hls4ml: its first outputs are summed on DSPs, the rest on
// LUTs, by the steps of GEMM-D and GEMM-L, and requantized as VEC does. docs/hls4ml.md says what it computes.
//
// This header and those that it includes are C++11 where integers are ap_int, as hls4ml's scripts demand, and
// directives are spelled as both Vivado HLS and Vitis HLS take them.
#pragma once

#if (defined(__SYNTHESIS__) || __cplusplus < 201703L) && !defined(HETFAB_AP_INT)
#define HETFAB_AP_INT
#endif

#include <bitset>
#include <cstdint>
#include <cstring>

#include "ap_int.h"
#include "hls_stream.h"
#include "mac_arrays.hpp"
#include "rounding.hpp"

namespace hetfab {

#ifdef HETFAB_AP_INT
using DenseInts = Ap;
#else
// A host compiler that can takes native integers, which are faster and give the same bits.
struct DenseInts : Native {};

// 16 lanes at a time: their bits spread to masks of nibbles, and the nibbles under them added in bytes.
template <>
struct PlaneSum<DenseInts, plane_lanes, slice_bits> {
    static S<DenseInts, plane_word_bits> of(const Word<DenseInts, 128>& slices, std::uint32_t plane,
                                            bool bipolar) {
        std::uint64_t half[2];
        std::memcpy(half, slices.bytes, sizeof half);
        const int set =
            nibbles(half[0] & mask(plane & 0xffffU)) + nibbles(half[1] & mask(plane >> 16 & 0xffffU));
        if (!bipolar) return set;
        const int clear = nibbles(half[0]) + nibbles(half[1]) - set;
        return set + 15 * (plane_lanes - static_cast<int>(std::bitset<32>(plane).count())) - clear;
    }

  private:
    static std::uint64_t mask(std::uint64_t bits) {
        bits = (bits | bits << 24) & 0x000000ff000000ffU;
        bits = (bits | bits << 12) & 0x000f000f000f000fU;
        bits = (bits | bits << 6) & 0x0303030303030303U;
        return ((bits | bits << 3) & 0x1111111111111111U) * 15;
    }
    static int nibbles(std::uint64_t values) {
        constexpr std::uint64_t low = 0x0f0f0f0f0f0f0f0fU;
        // At most 8 * 30, which a byte holds.
        return static_cast<int>(((values & low) + (values >> 4 & low)) * 0x0101010101010101U >> 56);
    }
};
#endif

// Bits of a result that is rounded; an exact one is the whole product.
constexpr int dense_term_bits = 24;

// Sizes that follow from a layer's configuration, which hls4ml_extension/layer.py writes.
template <class Config>
struct DenseShape {
    // A chain of DSPs serves two rows. Of a lone row the second is zero, which synthesis removes.
    static constexpr unsigned chain_rows = 2;
    static constexpr unsigned rows = Config::n_rows > 1 ? 2 : 1;
    static constexpr unsigned words = (Config::n_in + plane_lanes - 1) / plane_lanes;
    // Steps on DSPs for a word of 32 channels, and for a row.
    static constexpr unsigned word_steps = Config::packed ? 4 : 8;
    static constexpr unsigned step_channels = plane_lanes / word_steps;
    static constexpr unsigned steps = (Config::n_in + step_channels - 1) / step_channels;
    static constexpr unsigned slices = Config::in_bits > slice_bits ? 2 : 1;
    static constexpr unsigned n_lut = Config::n_out - Config::n_dsp;
    static constexpr unsigned groups_d = (Config::n_dsp + Config::dsp_cols - 1) / Config::dsp_cols;
    static constexpr unsigned groups_l = (n_lut + Config::lut_cols - 1) / Config::lut_cols;
    // Arrays of an engine without outputs have one element.
    static constexpr unsigned sums_d = groups_d == 0 ? 1 : groups_d * Config::dsp_cols;
    static constexpr unsigned sums_l = groups_l == 0 ? 1 : groups_l * Config::lut_cols;
    static constexpr unsigned words_d = groups_d == 0 ? 1 : groups_d * steps * Config::dsp_cols;
    static constexpr unsigned words_l =
        groups_l == 0 ? 1 : groups_l * words * Config::planes * Config::lut_cols;
    // An unsigned activation that fills its field enters the chain with its top bit inverted.
    static constexpr bool flip = !Config::in_signed && Config::in_bits == (Config::packed ? 4 : 8);
};

// The rows that are multiplied at once, as each engine takes them: a chain's steps, and slices word by word.
template <class Config, class Z>
using ChainRows =
    U<Z, 32>[DenseShape<Config>::words * DenseShape<Config>::word_steps][DenseShape<Config>::chain_rows];
template <class Config, class Z>
using SliceRows =
    Word<Z, 128>[DenseShape<Config>::slices * DenseShape<Config>::words][DenseShape<Config>::rows];

// A row's integers, zero behind its channels.
template <class Config>
using DenseRow = int[DenseShape<Config>::words * plane_lanes];

// The bits of a number of hls4ml as an integer.
template <int Bits, bool Signed, class Number>
int dense_integer(const Number& number) {
#pragma HLS INLINE
    const ap_uint<Bits> bits = number.range(Bits - 1, 0);
    const int value = static_cast<int>(bits.to_uint());
    return Signed && (value >> (Bits - 1)) != 0 ? value - (1 << Bits) : value;
}

// A word of 32 channels of a row, as the chains of DSPs take it: 4 bytes a step, or 8 nibbles.
template <class Config, class Z>
void dense_pack_chain(const DenseRow<Config>& row, unsigned word,
                      U<Z, 32> (&step)[DenseShape<Config>::word_steps]) {
#pragma HLS INLINE
    constexpr unsigned channels = DenseShape<Config>::step_channels;
    constexpr unsigned bits = 32 / channels;
pack_steps:
    for (unsigned i = 0; i < DenseShape<Config>::word_steps; i++) {
#pragma HLS UNROLL factor=DenseShape<Config>::word_steps
        unsigned packed = 0;
    pack_channels:
        for (unsigned k = 0; k < channels; k++) {
#pragma HLS UNROLL factor=channels
            const auto value = static_cast<unsigned>(row[word * plane_lanes + i * channels + k]);
            packed |= (value & ((1U << bits) - 1)) << (k * bits);
        }
        step[i] = U<Z, 32>(packed);
    }
}

// One slice of a word of 32 channels: bits `shift` to `shift` + 3 of each.
template <class Z, unsigned Channels>
Word<Z, 128> dense_pack_slice(const int (&row)[Channels], unsigned word, unsigned shift) {
#pragma HLS INLINE
    Word<Z, 128> slices = zero<Z, 128>();
slice_lanes:
    for (unsigned lane = 0; lane < 4; lane++) {
#pragma HLS UNROLL factor=4
        unsigned packed = 0;
    slice_channels:
        for (unsigned k = 0; k < 8; k++) {
#pragma HLS UNROLL factor=8
            const auto value = static_cast<unsigned>(row[word * plane_lanes + lane * 8 + k]);
            packed |= (value >> shift & 15U) << (k * slice_bits);
        }
        set_lane<Z, 32>(slices, lane, U<Z, 32>(packed));
    }
    return slices;
}

// Packs a row for both engines; its channels behind n_in are zero.
template <class Config, class Z>
void dense_pack(const DenseRow<Config>& row, unsigned number, ChainRows<Config, Z>& chain,
                SliceRows<Config, Z>& slices) {
#pragma HLS INLINE
    using Shape = DenseShape<Config>;
pack_words:
    for (unsigned word = 0; word < Shape::words; word++) {
#pragma HLS PIPELINE II=1
        if (Shape::groups_d != 0) {
            U<Z, 32> step[Shape::word_steps];
            dense_pack_chain<Config, Z>(row, word, step);
        put_steps:
            for (unsigned i = 0; i < Shape::word_steps; i++) {
#pragma HLS UNROLL factor=Shape::word_steps
                chain[word * Shape::word_steps + i][number] = step[i];
            }
        }
        if (Shape::groups_l != 0) {
        put_slices:
            for (unsigned slice = 0; slice < Shape::slices; slice++) {
#pragma HLS UNROLL factor=Shape::slices
                // The most significant slice first; of signed values it alone has the sign.
                const Word<Z, 128> bits =
                    dense_pack_slice<Z>(row, word, (Shape::slices - 1 - slice) * slice_bits);
                slices[slice * Shape::words + word][number] =
                    offset_slices<Z>(bits, Config::in_signed && slice == 0);
            }
        }
    }
}

// The sums of the first outputs, on DSPs, as GEMM-D makes them. Weights are group by group, step by step,
// column by column.
template <class Config, class Z>
void dense_on_dsps(const ChainRows<Config, Z>& chain, const ap_uint<32> weight[DenseShape<Config>::words_d],
                   S<Z, 32> (&sums)[DenseShape<Config>::chain_rows][DenseShape<Config>::sums_d]) {
// A function of its own, so that the tool starts both engines together: they share no array.
#pragma HLS INLINE off
    using Shape = DenseShape<Config>;
    constexpr unsigned cols = Config::dsp_cols;
// A step reads the words of all columns, which lie side by side: one wide word of a ROM.
#pragma HLS ARRAY_RESHAPE variable=weight cyclic factor=cols dim=1
    S<Z, Config::dsp_bits> acc[Shape::chain_rows][cols];
#pragma HLS ARRAY_PARTITION variable=acc complete dim=0
dsp_groups:
    for (unsigned group = 0; group < Shape::groups_d; group++) {
    dsp_steps:
        for (unsigned step = 0; step < Shape::steps; step++) {
#pragma HLS PIPELINE II=1
            U<Z, 32> wgt[cols];
#pragma HLS ARRAY_PARTITION variable=wgt complete dim=0
        dsp_weights:
            for (unsigned col = 0; col < cols; col++) {
#pragma HLS UNROLL factor=cols
                wgt[col] = static_cast<U<Z, 32>>(weight[(group * Shape::steps + step) * cols + col]);
            }
            const U<Z, 32> pair[Shape::chain_rows] = {chain[step][0],
                                                      Shape::rows == 1 ? U<Z, 32>(0) : chain[step][1]};
            chain_array_step<Z, Dsp48e1, Config::dsp_bits>(acc, pair, wgt, Config::packed, Shape::flip,
                                                           step == 0);
            if (step + 1 == Shape::steps) {
            dsp_rows:
                for (unsigned row = 0; row < Shape::rows; row++) {
#pragma HLS UNROLL factor=Shape::rows
                dsp_cols:
                    for (unsigned col = 0; col < cols; col++) {
#pragma HLS UNROLL factor=cols
                        sums[row][group * cols + col] = acc[row][col];
                    }
                }
            }
        }
    }
}

// The sums of the other outputs, on LUTs, as GEMM-L makes them. Weights are group by group, word by word,
// plane by plane, column by column: all slices take the same ones.
template <class Config, class Z>
void dense_on_luts(const SliceRows<Config, Z>& slices, const ap_uint<32> weight[DenseShape<Config>::words_l],
                   S<Z, 32> (&sums)[DenseShape<Config>::rows][DenseShape<Config>::sums_l]) {
#pragma HLS INLINE off
    using Shape = DenseShape<Config>;
    constexpr unsigned cols = Config::lut_cols;
#pragma HLS ARRAY_RESHAPE variable=weight cyclic factor=cols dim=1
    const PlaneShape shape = {Shape::slices, Shape::words, Config::planes, Config::bipolar};
    constexpr unsigned steps = Shape::slices * Shape::words * Config::planes;
    PlaneState<Z, Config::lut_bits> dot[Shape::rows][cols];
#pragma HLS ARRAY_PARTITION variable=dot complete dim=0
lut_groups:
    for (unsigned group = 0; group < Shape::groups_l; group++) {
        PlanePlace place;
    lut_steps:
        for (unsigned step = 0; step < steps; step++) {
#pragma HLS PIPELINE II=1
            Word<Z, 128> slice[Shape::rows];
#pragma HLS ARRAY_PARTITION variable=slice complete
        lut_slices:
            for (unsigned row = 0; row < Shape::rows; row++) {
#pragma HLS UNROLL factor=Shape::rows
                slice[row] = slices[place.slice * Shape::words + place.word][row];
            }
            U<Z, 32> wgt[cols];
#pragma HLS ARRAY_PARTITION variable=wgt complete dim=0
        lut_weights:
            for (unsigned col = 0; col < cols; col++) {
#pragma HLS UNROLL factor=cols
                wgt[col] = static_cast<U<Z, 32>>(
                    weight[(group * Shape::words * Config::planes + place.weight) * cols + col]);
            }
            plane_array_step<Z, Config::lut_bits>(dot, slice, wgt, place.control(shape));
            place.next(shape);
            if (step + 1 == steps) {
            lut_rows:
                for (unsigned row = 0; row < Shape::rows; row++) {
#pragma HLS UNROLL factor=Shape::rows
                lut_cols:
                    for (unsigned col = 0; col < cols; col++) {
#pragma HLS UNROLL factor=cols
                        sums[row][group * cols + col] = dot[row][col].outer;
                    }
                }
            }
        }
    }
}

// What becomes of a scaled sum: nothing where the result is exact, else it is rounded and limited.
template <class Config, class Z, bool Exact = Config::exact>
struct DenseEnd {
    const Distance<Z, dense_term_bits> by;
    DenseEnd() : by(U<Z, 6>(Config::shift)) {}
    S<Z, 50> end(const S<Z, 50>& scaled) const {
#pragma HLS INLINE
        const S<Z, dense_term_bits> rounded = shifted<Z, dense_term_bits>(scaled, by);
        const S<Z, dense_term_bits> lowest = Config::lowest;
        const S<Z, dense_term_bits> highest = Config::highest;
        return rounded < lowest ? lowest : rounded > highest ? highest : rounded;
    }
};
template <class Config, class Z>
struct DenseEnd<Config, Z, true> {
    S<Z, 50> end(const S<Z, 50>& scaled) const {
#pragma HLS INLINE
        const S<Z, 50> lowest = Config::relu ? S<Z, 50>(0) : scaled;
        return scaled < lowest ? lowest : scaled;
    }
};

// The rows that are multiplied at once, from integers to results.
template <class Config, class Z, class Result>
void dense_rows(const ChainRows<Config, Z>& chain, const SliceRows<Config, Z>& slices,
                const ap_uint<32> weight_d[DenseShape<Config>::words_d],
                const ap_uint<32> weight_l[DenseShape<Config>::words_l], const ap_int<32> bias[Config::n_out],
                const ap_uint<16> multiplier[Config::n_out],
                Result (&result)[DenseShape<Config>::rows][Config::n_out]) {
    using Shape = DenseShape<Config>;
    S<Z, 32> sums_d[Shape::chain_rows][Shape::sums_d];
#pragma HLS ARRAY_PARTITION variable=sums_d complete dim=1
    S<Z, 32> sums_l[Shape::rows][Shape::sums_l];
#pragma HLS ARRAY_PARTITION variable=sums_l complete dim=1
    dense_on_dsps<Config, Z>(chain, weight_d, sums_d);
    dense_on_luts<Config, Z>(slices, weight_l, sums_l);
    const DenseEnd<Config, Z> end;
out_channels:
    for (unsigned channel = 0; channel < Config::n_out; channel++) {
#pragma HLS PIPELINE II=1
        const auto channel_bias = S<Z, 32>(bias[channel]);
        const auto factor = U<Z, 17>(multiplier[channel]);
    out_rows:
        for (unsigned row = 0; row < Shape::rows; row++) {
#pragma HLS UNROLL factor=Shape::rows
            const S<Z, 32> acc =
                channel < Config::n_dsp ? sums_d[row][channel] : sums_l[row][channel - Config::n_dsp];
            const S<Z, 50> value = end.end(scaled_sum<Z>(biased_sum<Z>(acc, channel_bias), factor));
            result[row][channel].range(Config::out_bits - 1, 0) = ap_int<Config::out_bits>(value);
        }
    }
}

// io_parallel: rows one behind the other in arrays.
template <class Config, class Input, class Result>
void hetero_dense(const Input* input, Result* output, const ap_uint<32> weight_d[DenseShape<Config>::words_d],
                  const ap_uint<32> weight_l[DenseShape<Config>::words_l],
                  const ap_int<32> bias[Config::n_out], const ap_uint<16> multiplier[Config::n_out]) {
    using Z = DenseInts;
    using Shape = DenseShape<Config>;
dense_blocks:
    for (unsigned first = 0; first < Config::n_rows; first += Shape::rows) {
        ChainRows<Config, Z> chain;
// A word of 32 channels is written at once, and a step of all rows is read at once.
#pragma HLS ARRAY_PARTITION variable=chain cyclic factor=Shape::word_steps dim=1
#pragma HLS ARRAY_PARTITION variable=chain complete dim=2
        SliceRows<Config, Z> slices;
#pragma HLS ARRAY_PARTITION variable=slices block factor=Shape::slices dim=1
#pragma HLS ARRAY_PARTITION variable=slices complete dim=2
        Result result[Shape::rows][Config::n_out];
#pragma HLS ARRAY_PARTITION variable=result complete dim=1
    read_rows:
        for (unsigned number = 0; number < Shape::rows; number++) {
            DenseRow<Config> row = {};
// Packing reads 32 channels at once.
#pragma HLS ARRAY_PARTITION variable=row cyclic factor=plane_lanes
        read_channels:
            for (unsigned k = 0; k < Config::n_in; k++) {
#pragma HLS PIPELINE II=1
                // A block's second row may be missing: the last one again, whose results are dropped.
                const unsigned place = first + number < Config::n_rows ? first + number : first;
                row[k] = dense_integer<Config::in_bits, Config::in_signed>(input[place * Config::n_in + k]);
            }
            dense_pack<Config, Z>(row, number, chain, slices);
        }
        dense_rows<Config, Z>(chain, slices, weight_d, weight_l, bias, multiplier, result);
    write_rows:
        for (unsigned number = 0; number < Shape::rows; number++) {
        write_channels:
            for (unsigned k = 0; k < Config::n_out; k++) {
#pragma HLS PIPELINE II=1
                if (first + number < Config::n_rows) {
                    output[(first + number) * Config::n_out + k] = result[number][k];
                }
            }
        }
    }
}

// io_stream: a beat is a row or an equal part of one.
template <class Config, class Input, class Result>
void hetero_dense(hls::stream<Input>& input, hls::stream<Result>& output,
                  const ap_uint<32> weight_d[DenseShape<Config>::words_d],
                  const ap_uint<32> weight_l[DenseShape<Config>::words_l],
                  const ap_int<32> bias[Config::n_out], const ap_uint<16> multiplier[Config::n_out]) {
    using Z = DenseInts;
    using Shape = DenseShape<Config>;
    static_assert(Config::n_in % Input::size == 0 && Config::n_out % Result::size == 0,
                  "a row is whole beats of the stream");
dense_blocks:
    for (unsigned first = 0; first < Config::n_rows; first += Shape::rows) {
        ChainRows<Config, Z> chain;
// A word of 32 channels is written at once, and a step of all rows is read at once.
#pragma HLS ARRAY_PARTITION variable=chain cyclic factor=Shape::word_steps dim=1
#pragma HLS ARRAY_PARTITION variable=chain complete dim=2
        SliceRows<Config, Z> slices;
#pragma HLS ARRAY_PARTITION variable=slices block factor=Shape::slices dim=1
#pragma HLS ARRAY_PARTITION variable=slices complete dim=2
        typename Result::value_type result[Shape::rows][Config::n_out];
#pragma HLS ARRAY_PARTITION variable=result complete dim=0
        DenseRow<Config> row = {};
#pragma HLS ARRAY_PARTITION variable=row complete
    read_rows:
        for (unsigned number = 0; number < Shape::rows; number++) {
            if (first + number < Config::n_rows) {
            read_beats:
                for (unsigned beat = 0; beat < Config::n_in / Input::size; beat++) {
#pragma HLS PIPELINE II=1
                    const Input values = input.read();
                beat_channels:
                    for (unsigned k = 0; k < Input::size; k++) {
#pragma HLS UNROLL
                        row[beat * Input::size + k] =
                            dense_integer<Config::in_bits, Config::in_signed>(values[k]);
                    }
                }
            }
            dense_pack<Config, Z>(row, number, chain, slices);
        }
        dense_rows<Config, Z>(chain, slices, weight_d, weight_l, bias, multiplier, result);
    write_rows:
        for (unsigned number = 0; number < Shape::rows; number++) {
            if (first + number < Config::n_rows) {
            write_beats:
                for (unsigned beat = 0; beat < Config::n_out / Result::size; beat++) {
#pragma HLS PIPELINE II=1
                    Result values;
                result_channels:
                    for (unsigned k = 0; k < Result::size; k++) {
#pragma HLS UNROLL
                        values[k] = result[number][beat * Result::size + k];
                    }
                    output.write(values);
                }
            }
        }
    }
}

}  // namespace hetfab
