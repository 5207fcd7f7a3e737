// SPDX-License-Identifier: Apache-2.0
// VEC: bias, requantization, addition of aggregates, ReLU, and the export of 32-bit results.
// The rounding is that of docs/arithmetic.md: half to even.
#pragma once

#include <type_traits>

#include "events.hpp"
#include "shim.hpp"
#include "types.hpp"

namespace hetfab {

// Of the four 16-bit halves of a parameter, which one is the multiplier.
constexpr unsigned par_multiplier_half = isa::ParameterRecord::Multiplier::lsb / 16;
static_assert(isa::ParameterRecord::bytes == 8 && isa::ParameterRecord::Bias::lsb == 0,
              "a parameter is 64 bits and begins with its bias");

// value * multiplier * 2^-shift, rounded half to even; 48 bits hold the product of 32 and 16.
template <class Z>
S<Z, 48> requantize(const S<Z, 32>& value, const U<Z, 16>& multiplier, const U<Z, 6>& shift) {
#pragma HLS INLINE
    const S<Z, 48> scaled = product<Z, 48>(value, multiplier);
    if (shift == 0) return scaled;
    const S<Z, 64> wide = scaled;
    const S<Z, 64> below_half = (S<Z, 64>(1) << (shift - 1)) - 1;
    const S<Z, 64> odd = (wide >> shift) & 1;
    const S<Z, 64> rounded = sum<Z, 64>(sum<Z, 64>(wide, below_half), odd);
    return S<Z, 48>(S<Z, 64>(rounded >> shift));
}

// The fields of VEC's operations; those that an operation lacks are zero.
template <class Z>
struct VecTile {
    unsigned acc;
    unsigned sum;
    unsigned acc_groups;
    unsigned out;
    unsigned par;
    unsigned rows;
    unsigned groups;
    unsigned row_blocks;
    bool with_acc;
    bool with_sum;
    bool wide_result;
    bool relu;
    bool is_unsigned;
    U<Z, 6> shift;
    U<Z, 6> post_shift;
    U<Z, 4> post_left;
};

template <class Z>
VecTile<Z> vec_tile(const Word<Z, isa::instruction_bits>& instruction, int opcode) {
#pragma HLS INLINE
    using Op = isa::Combine;
    static_assert(std::is_same_v<isa::Requantize::Acc, Op::Acc> &&
                      std::is_same_v<isa::Requantize::Out, Op::Out> &&
                      std::is_same_v<isa::Requantize::Relu, Op::Relu> &&
                      std::is_same_v<isa::Requantize::Shift, Op::Shift> &&
                      std::is_same_v<isa::ExportSums::Sum, Op::Sum> &&
                      std::is_same_v<isa::ExportSums::WithAcc, Op::WithAcc> &&
                      std::is_same_v<isa::ExportAccumulators::Par, Op::Par> &&
                      std::is_same_v<isa::ExportAccumulators::RowBlocks, Op::RowBlocks>,
                  "VEC's operations share the places of their fields");
    const bool combines = opcode == isa::Combine::opcode;
    const bool exports = opcode == isa::ExportSums::opcode || opcode == isa::ExportAccumulators::opcode;
    const bool adds = combines || opcode == isa::ExportSums::opcode;
    return {number<Z, Op::Acc>(instruction),
            number<Z, Op::Sum>(instruction),
            number<Z, Op::AccGroups>(instruction),
            number<Z, Op::Out>(instruction),
            number<Z, Op::Par>(instruction),
            number<Z, Op::Rows>(instruction),
            number<Z, Op::Groups>(instruction),
            number<Z, Op::RowBlocks>(instruction),
            !adds || flag<Z, Op::WithAcc>(instruction),
            adds,
            exports,
            !exports && flag<Z, Op::Relu>(instruction),
            flag<Z, Op::Unsigned>(instruction),
            get<Z, Op::Shift>(instruction),
            get<Z, Op::PostShift>(instruction),
            get<Z, Op::PostLeft>(instruction)};
}

// acc + bias; the n-th group of lanes channels is a part of a word of acc_ram.
template <class D, class Z>
void vec_biased(const Word<Z, 32 * D::gemm_cols>& acc, unsigned part, const Word<Z, 64 * D::lanes>& par,
                S<Z, 32> (&value)[D::lanes]) {
#pragma HLS INLINE
bias_lanes:
    for (unsigned lane = 0; lane < D::lanes; lane++) {
#pragma HLS UNROLL
        const S<Z, 32> accumulator = lane_s<Z, 32>(acc, part * D::lanes + lane);
        value[lane] = wrap<Z, 32>(sum<Z, 33>(accumulator, lane_s<Z, 32>(par, 2 * lane)));
    }
}

// One group of lanes channels as int32: a biased accumulator, or a sum in Q.8.
template <class D, class Z>
void vec_values(const VecTile<Z>& tile, const Word<Z, 32 * D::gemm_cols>& acc, unsigned part,
                const Word<Z, 64 * D::lanes>& par, const Word<Z, 32 * D::lanes>& sums,
                S<Z, 32> (&value)[D::lanes]) {
#pragma HLS INLINE
    S<Z, 32> biased[D::lanes];
#pragma HLS ARRAY_PARTITION variable=biased type=complete dim=0
    vec_biased<D, Z>(acc, part, par, biased);
value_lanes:
    for (unsigned lane = 0; lane < D::lanes; lane++) {
#pragma HLS UNROLL
        if (tile.with_sum) {
            const U<Z, 16> multiplier = lane_u<Z, 16>(par, 4 * lane + par_multiplier_half);
            const S<Z, isa::term_bits> term =
                saturate<Z, isa::term_bits>(requantize<Z>(biased[lane], multiplier, tile.shift));
            const S<Z, 33> total = tile.with_acc ? sum<Z, 33>(lane_s<Z, 32>(sums, lane), term)
                                                 : S<Z, 33>(lane_s<Z, 32>(sums, lane));
            value[lane] = wrap<Z, 32>(total);
        } else {
            value[lane] = biased[lane];
        }
    }
}

// The same group as bytes: the result's requantization, ReLU, saturation.
template <class D, class Z>
Word<Z, 8 * D::lanes> vec_bytes(const VecTile<Z>& tile, const S<Z, 32> (&value)[D::lanes],
                                const Word<Z, 64 * D::lanes>& par) {
#pragma HLS INLINE
    Word<Z, 8 * D::lanes> word = zero<Z, 8 * D::lanes>();
    const U<Z, 16> left = U<Z, 16>(1U << static_cast<unsigned>(tile.post_left));
byte_lanes:
    for (unsigned lane = 0; lane < D::lanes; lane++) {
#pragma HLS UNROLL
        const U<Z, 16> own = lane_u<Z, 16>(par, 4 * lane + par_multiplier_half);
        const U<Z, 16> multiplier = tile.with_sum ? left : own;
        const S<Z, 48> scaled =
            requantize<Z>(value[lane], multiplier, tile.with_sum ? tile.post_shift : tile.shift);
        const S<Z, 48> result = tile.relu && scaled < 0 ? S<Z, 48>(0) : scaled;
        if (tile.is_unsigned) {
            set_lane<Z, 8>(word, lane, saturate_unsigned<Z, 8>(result));
        } else {
            set_lane<Z, 8>(word, lane, saturate<Z, 8>(result));
        }
    }
    return word;
}

// A quarter of the group as little-endian int32: the lanes that one output word holds.
template <class D, class Z>
Word<Z, 8 * D::lanes> vec_quarter(const S<Z, 32> (&value)[D::lanes], unsigned quarter) {
#pragma HLS INLINE
    Word<Z, 8 * D::lanes> word = zero<Z, 8 * D::lanes>();
quarter_lanes:
    for (unsigned lane = 0; lane < D::lanes / 4; lane++) {
#pragma HLS UNROLL
        set_lane<Z, 32>(word, lane, value[quarter * (D::lanes / 4) + lane]);
    }
    return word;
}

template <class D, class Z, class AccRam, class ParRam, class SumRam, class OutRam, class Events>
unsigned vec_rows(const VecTile<Z>& tile, AccRam acc_ram, ParRam par_ram, SumRam sum_ram, OutRam out_ram,
                  Events& events) {
#pragma HLS INLINE
    constexpr unsigned parts_per_word = D::gemm_cols / D::lanes;
    constexpr unsigned words_per_block = isa::block_bytes / D::lanes;
    const unsigned row_words = tile.row_blocks * words_per_block;
    const unsigned words = tile.rows * row_words;
    const unsigned last_quarter = tile.wide_result ? 3 : 0;
    unsigned row = 0;
    unsigned position = 0;
    unsigned group = 0;
    unsigned quarter = 0;
    unsigned written = 0;
out_words:
    for (unsigned word = 0; word < words; word++) {
#pragma HLS LOOP_TRIPCOUNT min=64 max=2048
#pragma HLS PIPELINE II=1 style=stp
        events.trip(isa::loops::vec_words);
        const bool inside = group < tile.groups;
        const bool reads_acc = inside && tile.with_acc;
        const Word<Z, 32 * D::gemm_cols> acc =
            reads_acc ? acc_ram[tile.acc + row * tile.acc_groups + group / parts_per_word]
                      : zero<Z, 32 * D::gemm_cols>();
        const Word<Z, 64 * D::lanes> par = reads_acc ? par_ram[tile.par + group] : zero<Z, 64 * D::lanes>();
        const Word<Z, 32 * D::lanes> sums = inside && tile.with_sum
                                                ? sum_ram[tile.sum + row * tile.groups + group]
                                                : zero<Z, 32 * D::lanes>();
        S<Z, 32> value[D::lanes];
#pragma HLS ARRAY_PARTITION variable=value type=complete dim=0
        vec_values<D, Z>(tile, acc, group % parts_per_word, par, sums, value);
        Word<Z, 8 * D::lanes> result = zero<Z, 8 * D::lanes>();
        if (inside) {
            result = tile.wide_result ? vec_quarter<D, Z>(value, quarter) : vec_bytes<D, Z>(tile, value, par);
        }
        out_ram[tile.out + word] = result;
        written++;
        quarter = quarter == last_quarter ? 0 : quarter + 1;
        if (quarter == 0) group++;
        position++;
        if (position == row_words) {
            position = 0;
            quarter = 0;
            group = 0;
            row++;
        }
    }
    events.loop(isa::loops::vec_words, words);
    return written;
}

template <class D, class Z, class AccRam, class ParRam, class SumRam, class OutRam, class Events>
Outcome vec_execute(const Word<Z, isa::instruction_bits>& instruction, AccRam acc_ram, ParRam par_ram,
                    SumRam sum_ram, OutRam out_ram, Events& events) {
#pragma HLS INLINE off
    static_assert(D::lanes % 4 == 0, "an output word holds a quarter of a group's 32-bit results");
    const int opcode = static_cast<int>(number<Z, isa::Header::Opcode>(instruction));
    if (opcode < isa::Requantize::opcode || opcode > isa::ExportAccumulators::opcode) {
        return {opcode == isa::Sync::opcode, 0};
    }
    const VecTile<Z> tile = vec_tile<Z>(instruction, opcode);
    return {true, vec_rows<D, Z>(tile, acc_ram, par_ram, sum_ram, out_ram, events)};
}

// The engine: one instruction, from its stream to its token.
template <class D, class Z, class AccRam, class ParRam, class SumRam, class OutRam, class Events>
void vec_step(hls::stream<Word<Z, isa::instruction_bits>>& instructions,
              hls::stream<Word<Z, isa::token_bits>>& tokens, AccRam acc_ram, ParRam par_ram, SumRam sum_ram,
              OutRam out_ram, Events& events) {
#pragma HLS INLINE
    const Word<Z, isa::instruction_bits> instruction = instructions.read();
    events.loop(isa::loops::instruction, 1);
    const Outcome outcome = vec_execute<D, Z>(instruction, acc_ram, par_ram, sum_ram, out_ram, events);
    HETFAB_FENCE(acc_ram, par_ram, sum_ram, out_ram, tokens);
    tokens.write(make_token<D, Z>(instruction, outcome));
}

}  // namespace hetfab
