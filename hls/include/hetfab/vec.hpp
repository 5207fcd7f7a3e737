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

// value * 2^-shift, rounded half to even.
template <class Z>
S<Z, 48> round_shift(const S<Z, 48>& scaled, const U<Z, 6>& shift) {
#pragma HLS INLINE
    if (shift == 0) return scaled;
    const S<Z, 64> wide = scaled;
    const auto below_half = S<Z, 64>((S<Z, 64>(1) << (shift - 1)) - 1);
    const S<Z, 64> odd = (wide >> shift) & 1;
    const S<Z, 64> rounded = sum<Z, 64>(sum<Z, 64>(wide, below_half), odd);
    return S<Z, 48>(S<Z, 64>(rounded >> shift));
}

// value * multiplier * 2^-shift, rounded half to even; 48 bits hold the product of 32 and 16.
template <class Z>
S<Z, 48> requantize(const S<Z, 32>& value, const U<Z, 16>& multiplier, const U<Z, 6>& shift) {
#pragma HLS INLINE
    return round_shift<Z>(product<Z, 48>(value, multiplier), shift);
}

// The fields of VEC's operations; those that an operation lacks are zero.
template <class Z>
struct VecTile {
    unsigned acc;
    unsigned sum;
    unsigned sum_groups;
    unsigned out;
    unsigned par;
    unsigned rows;
    unsigned groups;
    unsigned row_blocks;
    unsigned row_words;
    unsigned out_bits;
    bool from_l;
    bool from_sum;
    bool with_acc;
    bool with_sum;
    bool wide_result;
    bool packed;
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
                      std::is_same_v<isa::Requantize::OutBits, Op::OutBits> &&
                      std::is_same_v<isa::Requantize::Packed, Op::Packed> &&
                      std::is_same_v<isa::Requantize::Shift, Op::Shift> &&
                      std::is_same_v<isa::ExportSums::SumGroups, Op::SumGroups> &&
                      std::is_same_v<isa::ExportSums::WithAcc, Op::WithAcc> &&
                      std::is_same_v<isa::ExportAccumulators::Core, Op::Core> &&
                      std::is_same_v<isa::ExportAccumulators::FromSum, isa::Requantize::FromSum> &&
                      std::is_same_v<isa::ExportAccumulators::RowWords, Op::RowWords>,
                  "VEC's operations share the places of their fields");
    const bool combines = opcode == isa::Combine::opcode;
    const bool exports = opcode == isa::ExportSums::opcode || opcode == isa::ExportAccumulators::opcode;
    const bool adds = combines || opcode == isa::ExportSums::opcode;
    return {number<Z, Op::Acc>(instruction),
            number<Z, Op::Sum>(instruction),
            number<Z, Op::SumGroups>(instruction) + 1,
            number<Z, Op::Out>(instruction),
            number<Z, Op::Par>(instruction),
            number<Z, Op::Rows>(instruction),
            number<Z, Op::Groups>(instruction),
            number<Z, Op::RowBlocks>(instruction),
            number<Z, Op::RowWords>(instruction),
            number<Z, Op::OutBits>(instruction) + 1,
            flag<Z, Op::Core>(instruction),
            !adds && flag<Z, isa::Requantize::FromSum>(instruction),
            !adds || flag<Z, Op::WithAcc>(instruction),
            adds,
            exports,
            !exports && flag<Z, Op::Packed>(instruction),
            !exports && flag<Z, Op::Relu>(instruction),
            flag<Z, Op::Unsigned>(instruction),
            get<Z, Op::Shift>(instruction),
            get<Z, Op::PostShift>(instruction),
            get<Z, Op::PostLeft>(instruction)};
}

// A group of lanes channels of a word of Cols accumulators.
template <class D, class Z, int Cols>
void acc_group(const Word<Z, 32 * Cols>& word, unsigned part, S<Z, 32> (&value)[D::lanes]) {
#pragma HLS INLINE
acc_lanes:
    for (unsigned lane = 0; lane < D::lanes; lane++) {
#pragma HLS UNROLL factor=D::lanes
        value[lane] = lane_s<Z, 32>(word, part * D::lanes + lane);
    }
}

// The walk over a core's accumulators: groups of lanes channels, whole words to a row.
template <unsigned Parts>
struct AccPlace {
    unsigned word;
    unsigned part = 0;

    void next_group() {
        part++;
        if (part != Parts) return;
        part = 0;
        word++;
    }
    // A row's last word may not be full.
    void next_row() {
        if (part != 0) word++;
        part = 0;
    }
};

// One group of lanes channels: its value in 32 bits, and before it is rounded to bytes in 48.
template <class Z, unsigned Lanes>
struct VecGroup {
    S<Z, 32> value[Lanes];
    S<Z, 48> scaled[Lanes];
};

// Bias, requantization and the sum in Q.8 of one group.
template <class D, class Z>
void vec_group(const VecTile<Z>& tile, const S<Z, 32> (&acc)[D::lanes], const Word<Z, 64 * D::lanes>& par,
               const Word<Z, 32 * D::lanes>& sums, VecGroup<Z, D::lanes>& group) {
#pragma HLS INLINE
group_lanes:
    for (unsigned lane = 0; lane < D::lanes; lane++) {
#pragma HLS UNROLL factor=D::lanes
        const S<Z, 32> biased = wrap<Z, 32>(sum<Z, 33>(acc[lane], lane_s<Z, 32>(par, 2 * lane)));
        const U<Z, 16> multiplier = lane_u<Z, 16>(par, 4 * lane + par_multiplier_half);
        const S<Z, 48> term = requantize<Z>(biased, multiplier, tile.shift);
        if (tile.with_sum) {
            const S<Z, 32> before = lane_s<Z, 32>(sums, lane);
            const S<Z, 33> total = sum<Z, 33>(
                before, tile.with_acc ? saturate<Z, isa::term_bits>(term) : S<Z, isa::term_bits>(0));
            group.value[lane] = wrap<Z, 32>(total);
            const S<Z, 48> left = wrap<Z, 48>(S<Z, 64>(group.value[lane]) << tile.post_left);
            group.scaled[lane] = round_shift<Z>(left, tile.post_shift);
        } else {
            group.value[lane] = biased;
            group.scaled[lane] = term;
        }
    }
}

// The results of a group as bytes: ReLU and saturation to their bits.
template <class D, class Z>
Word<Z, 8 * D::lanes> vec_bytes(const VecTile<Z>& tile, const S<Z, 48> (&scaled)[D::lanes]) {
#pragma HLS INLINE
    Word<Z, 8 * D::lanes> word = zero<Z, 8 * D::lanes>();
    const unsigned magnitude = tile.is_unsigned ? tile.out_bits : tile.out_bits - 1;
    const S<Z, 48> largest = S<Z, 48>((1 << magnitude) - 1);
    const S<Z, 48> smallest = tile.is_unsigned ? S<Z, 48>(0) : S<Z, 48>(-(1 << magnitude));
byte_lanes:
    for (unsigned lane = 0; lane < D::lanes; lane++) {
#pragma HLS UNROLL factor=D::lanes
        const S<Z, 48> positive = tile.relu && scaled[lane] < 0 ? S<Z, 48>(0) : scaled[lane];
        const S<Z, 48> limited = positive < smallest ? smallest : positive > largest ? largest : positive;
        set_lane<Z, 8>(word, lane, wrap<Z, 8>(limited));
    }
    return word;
}

// The low nibbles of a group's bytes, as 32 bits.
template <class D, class Z>
U<Z, 32> vec_nibbles(const Word<Z, 8 * D::lanes>& bytes) {
#pragma HLS INLINE
    std::uint32_t nibbles = 0;
nibble_lanes:
    for (unsigned lane = 0; lane < D::lanes; lane++) {
#pragma HLS UNROLL factor=D::lanes
        nibbles |= (static_cast<std::uint32_t>(lane_u<Z, 8>(bytes, lane)) & 15) << (4 * lane);
    }
    return U<Z, 32>(nibbles);
}

// A quarter of the group as little-endian int32: the lanes that one output word holds.
template <class D, class Z>
Word<Z, 8 * D::lanes> vec_quarter(const S<Z, 32> (&value)[D::lanes], unsigned quarter) {
#pragma HLS INLINE
    Word<Z, 8 * D::lanes> word = zero<Z, 8 * D::lanes>();
quarter_lanes:
    for (unsigned lane = 0; lane < D::lanes / 4; lane++) {
#pragma HLS UNROLL factor=D::lanes/4
        set_lane<Z, 32>(word, lane, value[quarter * (D::lanes / 4) + lane]);
    }
    return word;
}

// A trip makes a word of bytes, half a word of nibbles, or a quarter of a group's int32.
template <class D, class Z, class AccDRam, class AccLRam, class ParRam, class SumRam, class OutRam,
          class Events>
unsigned vec_rows(const VecTile<Z>& tile, AccDRam acc_d_ram, AccLRam acc_l_ram, ParRam par_ram,
                  SumRam sum_ram, OutRam out_ram, Events& events) {
#pragma HLS INLINE
    constexpr unsigned words_per_block = isa::block_bytes / D::lanes;
    const unsigned row_trips = tile.packed ? 2 * tile.row_words : tile.row_words;
    const unsigned trips = tile.rows * row_trips;
    const unsigned last_quarter = tile.wide_result ? 3 : 0;
    AccPlace<D::gemm_d_cols / D::lanes> acc_d = {tile.acc};
    AccPlace<D::gemm_l_cols / D::lanes> acc_l = {tile.acc};
    AccPlace<1> acc_sum = {tile.acc};
    unsigned sum_row = tile.sum;
    unsigned out_row = tile.out;
    unsigned position = 0;
    unsigned group = 0;
    unsigned quarter = 0;
    unsigned written = 0;
    U<Z, 32> even = 0;
vec_groups:
    for (unsigned trip = 0; trip < trips; trip++) {
#pragma HLS LOOP_TRIPCOUNT min=64 max=2048
#pragma HLS PIPELINE II=1 style=stp
        events.trip(isa::loops::vec_groups);
        const bool inside = group < tile.groups;
        const bool reads_acc = inside && tile.with_acc;
        // One read of sum_ram for either use.
        const Word<Z, 32 * D::lanes> sums = inside && (tile.with_sum || tile.from_sum)
                                                ? sum_ram[tile.from_sum ? acc_sum.word : sum_row + group]
                                                : zero<Z, 32 * D::lanes>();
        S<Z, 32> acc[D::lanes];
#pragma HLS ARRAY_PARTITION variable=acc type=complete dim=0
        if (reads_acc && tile.from_sum) {
            acc_group<D, Z, D::lanes>(sums, 0, acc);
        } else if (reads_acc && tile.from_l) {
            acc_group<D, Z, D::gemm_l_cols>(acc_l_ram[acc_l.word], acc_l.part, acc);
        } else if (reads_acc) {
            acc_group<D, Z, D::gemm_d_cols>(acc_d_ram[acc_d.word], acc_d.part, acc);
        } else {
            acc_group<D, Z, D::lanes>(zero<Z, 32 * D::lanes>(), 0, acc);
        }
        const Word<Z, 64 * D::lanes> par = reads_acc ? par_ram[tile.par + group] : zero<Z, 64 * D::lanes>();
        VecGroup<Z, D::lanes> results;
#pragma HLS ARRAY_PARTITION variable=results.value type=complete dim=0
#pragma HLS ARRAY_PARTITION variable=results.scaled type=complete dim=0
        vec_group<D, Z>(tile, acc, par, sums, results);
        Word<Z, 8 * D::lanes> word = zero<Z, 8 * D::lanes>();
        if (inside) {
            word = tile.wide_result ? vec_quarter<D, Z>(results.value, quarter)
                                    : vec_bytes<D, Z>(tile, results.scaled);
        }
        const bool odd = position % 2 == 1;
        if (tile.packed) {
            const U<Z, 32> nibbles = vec_nibbles<D, Z>(word);
            set_lane<Z, 32>(word, 0, odd ? even : nibbles);
            set_lane<Z, 32>(word, 1, nibbles);
            even = nibbles;
        }
        if (!tile.packed || odd) {
            out_ram[out_row + (tile.packed ? position / 2 : position)] = word;
            written++;
        }
        quarter = quarter == last_quarter ? 0 : quarter + 1;
        if (quarter == 0 && inside) {
            group++;
            acc_d.next_group();
            acc_l.next_group();
            acc_sum.next_group();
        }
        position++;
        if (position == row_trips) {
            position = 0;
            quarter = 0;
            group = 0;
            acc_d.next_row();
            acc_l.next_row();
            out_row += tile.row_blocks * words_per_block;
            sum_row += tile.sum_groups;
        }
    }
    events.loop(isa::loops::vec_groups, trips);
    return written;
}

template <class D, class Z, class AccDRam, class AccLRam, class ParRam, class SumRam, class OutRam,
          class Events>
Outcome vec_execute(const Word<Z, isa::instruction_bits>& instruction, AccDRam acc_d_ram, AccLRam acc_l_ram,
                    ParRam par_ram, SumRam sum_ram, OutRam out_ram, Events& events) {
#pragma HLS INLINE off
    static_assert(D::lanes % 4 == 0, "an output word holds a quarter of a group's 32-bit results");
    const int opcode = static_cast<int>(number<Z, isa::Header::Opcode>(instruction));
    if (opcode < isa::Requantize::opcode || opcode > isa::ExportAccumulators::opcode) {
        return {opcode == isa::Sync::opcode, 0};
    }
    const VecTile<Z> tile = vec_tile<Z>(instruction, opcode);
    return {true, vec_rows<D, Z>(tile, acc_d_ram, acc_l_ram, par_ram, sum_ram, out_ram, events)};
}

// The engine: one instruction, from its stream to its token.
template <class D, class Z, class AccDRam, class AccLRam, class ParRam, class SumRam, class OutRam,
          class Events>
void vec_step(hls::stream<Word<Z, isa::instruction_bits>>& instructions,
              hls::stream<Word<Z, isa::token_bits>>& tokens, AccDRam acc_d_ram, AccLRam acc_l_ram,
              ParRam par_ram, SumRam sum_ram, OutRam out_ram, Events& events) {
#pragma HLS INLINE
    const Word<Z, isa::instruction_bits> instruction = instructions.read();
    events.loop(isa::loops::instruction, 1);
    const Outcome outcome =
        vec_execute<D, Z>(instruction, acc_d_ram, acc_l_ram, par_ram, sum_ram, out_ram, events);
    HETFAB_FENCE(acc_d_ram, acc_l_ram, par_ram, sum_ram, out_ram, tokens);
    tokens.write(make_token<D, Z>(instruction, outcome));
}

}  // namespace hetfab
