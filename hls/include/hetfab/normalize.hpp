// SPDX-License-Identifier: Apache-2.0
// Normalization of rows by their deviation or their length (docs/arithmetic.md). VEC keeps the channels of
// all rows of a tile, then sums them, makes a reciprocal root of each row, and then the results.
#pragma once

#include "events.hpp"
#include "rounding.hpp"
#include "shim.hpp"
#include "types.hpp"

namespace hetfab {

// Of the four 16-bit halves of a record, which one is the gain.
constexpr unsigned gain_half = isa::GainRecord::Gain::lsb / 16;
static_assert(isa::GainRecord::bytes == 8 && isa::GainRecord::Offset::lsb == 0,
              "a gain is 64 bits and begins with its offset");

// Rows that an instruction can name.
constexpr unsigned norm_rows = 256;
// Of the sum of a row's channels, and of the sum of their squares: of at most 127 groups of 8.
constexpr int norm_sum_bits = 26;
constexpr int norm_square_bits = 40;
// Of what the root is taken of, and of a channel without its mean.
constexpr int norm_spread_bits = 52;
constexpr int norm_centred_bits = 27;

// The rows of a tile: their channels as int16, group by group.
template <class D, class Z>
struct NormRows {
    Word<Z, 16 * D::lanes> channels[depth_of(D::norm_words)];
    unsigned groups = 0;
};

template <class Z>
struct RowSums {
    S<Z, norm_sum_bits> sum = 0;
    U<Z, norm_square_bits> squares = 0;
};

// A row's sum, and what its channels without their mean are multiplied and shifted by.
template <class Z>
struct RowRoot {
    S<Z, norm_sum_bits> sum;
    U<Z, 17> mantissa;
    U<Z, 6> shift;
};

// Keeps the next group of the tile.
template <class D, class Z, class Value>
void keep_group(const Value (&group)[D::lanes], NormRows<D, Z>& kept) {
#pragma HLS INLINE
    Word<Z, 16 * D::lanes> word = zero<Z, 16 * D::lanes>();
kept_lanes:
    for (unsigned lane = 0; lane < D::lanes; lane++) {
#pragma HLS UNROLL factor=D::lanes
        set_lane<Z, 16>(word, lane, wrap<Z, 16>(group[lane]));
    }
    kept.channels[kept.groups++] = word;
}

// Adds a group to the sums of its row.
template <class D, class Z>
void add_group(const Word<Z, 16 * D::lanes>& word, RowSums<Z>& sums) {
#pragma HLS INLINE
summed_lanes:
    for (unsigned lane = 0; lane < D::lanes; lane++) {
#pragma HLS UNROLL factor=D::lanes
        const S<Z, 16> channel = lane_s<Z, 16>(word, lane);
        sums.sum = sum<Z, norm_sum_bits>(sums.sum, channel);
        const S<Z, norm_square_bits + 1> squares =
            sum<Z, norm_square_bits + 1>(sums.squares, product<Z, 32>(channel, channel));
        sums.squares = U<Z, norm_square_bits>(squares);
    }
}

// The sums of each row of a tile.
template <class D, class Z, class Events>
void sum_rows(const NormRows<D, Z>& kept, unsigned groups, RowSums<Z> (&row_sums)[norm_rows],
              Events& events) {
#pragma HLS INLINE
    RowSums<Z> sums;
    unsigned row = 0;
    unsigned group = 0;
norm_sums:
    for (unsigned trip = 0; trip < kept.groups; trip++) {
#pragma HLS LOOP_TRIPCOUNT min=8 max=1024
// One lane's multiplier does the work of eight.
#pragma HLS PIPELINE II=8 style=stp
        events.trip(isa::loops::norm_sums);
        add_group<D, Z>(kept.channels[trip], sums);
        group++;
        if (group == groups) {
            row_sums[row++] = sums;
            sums = RowSums<Z>();
            group = 0;
        }
    }
    events.loop(isa::loops::norm_sums, kept.groups);
}

// What the rows of a tile have in common: the last record of the layout 'normalization'.
template <class Z>
struct NormSpread {
    U<Z, 48> epsilon;
    U<Z, isa::SpreadRecord::Channels::bits> factor;
    bool centred;

    template <class ParWord>
    explicit NormSpread(const ParWord& word) {
#pragma HLS INLINE
        using Record = isa::SpreadRecord;
        const Word<Z, 64> record = Z::beat(word, 0);
        const auto low = static_cast<std::uint64_t>(get<Z, Record::EpsilonLow>(record));
        epsilon = U<Z, 48>(static_cast<std::uint64_t>(get<Z, Record::EpsilonHigh>(record)) << 32 | low);
        const unsigned channels = number<Z, Record::Channels>(record);
        centred = channels != 0;
        factor = U<Z, Record::Channels::bits>(centred ? channels : 1);
    }
};

// The reciprocal root of a row's spread.
template <class Z>
RowRoot<Z> row_root(const NormSpread<Z>& common, const RowSums<Z>& sums) {
#pragma HLS INLINE
    const S<Z, norm_sum_bits> mean = common.centred ? sums.sum : S<Z, norm_sum_bits>(0);
    const S<Z, norm_spread_bits> whole = product<Z, norm_spread_bits>(sums.squares, common.factor);
    const S<Z, norm_spread_bits> part = product<Z, norm_spread_bits>(mean, mean);
    const S<Z, norm_spread_bits + 1> rest =
        sum<Z, norm_spread_bits + 1>(whole, S<Z, norm_spread_bits>(-part));
    const S<Z, norm_spread_bits + 1> spread =
        sum<Z, norm_spread_bits + 1>(rest < 0 ? S<Z, norm_spread_bits + 1>(0) : rest, common.epsilon);
    const auto number = static_cast<std::uint64_t>(spread);
    unsigned halvings = 0;
spread_pairs:
    for (unsigned pair = 1; pair <= 25; pair++) {
#pragma HLS UNROLL factor=25
        if (number >> (2 * pair) != 0) halvings = pair;
    }
    const std::uint64_t scaled =
        number << (52 - 2 * halvings) >> (52 - isa::root_index_bits - isa::root_place_bits);
    const auto index = static_cast<unsigned>(scaled >> isa::root_place_bits);
    const auto place = static_cast<unsigned>(scaled) & ((1U << isa::root_place_bits) - 1);
    const unsigned fallen = isa::root_fall[index] * place + (1U << (isa::root_place_bits - 1));
    return {mean, U<Z, 17>(isa::root_base[index] - (fallen >> isa::root_place_bits)),
            U<Z, 6>(halvings + isa::root_bits - isa::normalized_fraction)};
}

// The results of a group as bytes.
template <class D, class Z>
Word<Z, 8 * D::lanes> normalized_group(const Word<Z, 16 * D::lanes>& channels,
                                       const Word<Z, 64 * D::lanes>& gains, const NormSpread<Z>& common,
                                       const RowRoot<Z>& root, const Distance<Z, 9>& end, int highest,
                                       bool is_signed) {
#pragma HLS INLINE
    Word<Z, 8 * D::lanes> word = zero<Z, 8 * D::lanes>();
    const Distance<Z, isa::normalized_bits> distance(root.shift);
    const S<Z, 10> largest = S<Z, 10>(highest);
    const S<Z, 10> smallest = S<Z, 10>(is_signed ? -highest - 1 : 0);
normalized_lanes:
    for (unsigned lane = 0; lane < D::lanes; lane++) {
#pragma HLS UNROLL factor=D::lanes
        const S<Z, norm_centred_bits> multiple =
            product<Z, norm_centred_bits>(lane_s<Z, 16>(channels, lane), common.factor);
        const S<Z, norm_centred_bits + 1> centred =
            sum<Z, norm_centred_bits + 1>(multiple, S<Z, norm_centred_bits>(-root.sum));
        const S<Z, 46> scaled = product<Z, 46>(centred, root.mantissa);
        const S<Z, isa::normalized_bits> row = shifted<Z, isa::normalized_bits>(scaled, distance);
        const S<Z, 34> gained = product<Z, 34>(row, lane_s<Z, 16>(gains, 4 * lane + gain_half));
        const S<Z, 36> total = sum<Z, 36>(gained, lane_s<Z, 32>(gains, 2 * lane));
        const S<Z, 10> rounded = shifted<Z, 9>(total, end);
        const S<Z, 10> limited = rounded < smallest ? smallest : rounded > largest ? largest : rounded;
        set_lane<Z, 8>(word, lane, wrap<Z, 8>(limited));
    }
    return word;
}

// The rows that VEC kept, normalized: a root for each, then a word a trip; beyond the results there are
// zeros.
template <class D, class Z, class ParRam, class OutRam, class Events>
unsigned normalize_rows(const Word<Z, isa::instruction_bits>& instruction, ParRam par_ram, OutRam out_ram,
                        const NormRows<D, Z>& kept, Events& events) {
#pragma HLS INLINE
    using Op = isa::Normalize;
    const unsigned rows = number<Z, Op::Rows>(instruction);
    const unsigned groups = number<Z, Op::Groups>(instruction);
    const unsigned row_words = number<Z, Op::RowWords>(instruction);
    const unsigned row_blocks = number<Z, Op::RowBlocks>(instruction);
    const unsigned gains = number<Z, Op::Par>(instruction) + groups;
    const Word<Z, 64 * D::lanes> last = par_ram[gains + groups];
    const NormSpread<Z> common(last);
    RowSums<Z> row_sums[norm_rows];
    RowRoot<Z> roots[norm_rows];
    sum_rows<D, Z>(kept, groups, row_sums, events);
norm_roots:
    for (unsigned row = 0; row < rows; row++) {
#pragma HLS LOOP_TRIPCOUNT min=1 max=255
#pragma HLS PIPELINE II=1 style=stp
        events.trip(isa::loops::norm_roots);
        roots[row] = row_root<Z>(common, row_sums[row]);
    }
    events.loop(isa::loops::norm_roots, rows);
    const Distance<Z, 9> end(get<Z, Op::PostShift>(instruction));
    const auto highest = static_cast<int>(number<Z, Op::Highest>(instruction));
    const bool is_signed = flag<Z, Op::Signed>(instruction);
    const unsigned trips = rows * row_words;
    unsigned row = 0;
    unsigned group = 0;
    unsigned place = 0;
    unsigned out_row = number<Z, Op::Out>(instruction);
norm_groups:
    for (unsigned trip = 0; trip < trips; trip++) {
#pragma HLS LOOP_TRIPCOUNT min=8 max=1024
// One lane's multipliers do the work of eight.
#pragma HLS PIPELINE II=8 style=stp
        events.trip(isa::loops::norm_groups);
        const bool inside = group < groups;
        Word<Z, 8 * D::lanes> word = zero<Z, 8 * D::lanes>();
        if (inside) {
            word = normalized_group<D, Z>(kept.channels[place], par_ram[gains + group], common, roots[row],
                                          end, highest, is_signed);
            place++;
        }
    normalized_halves:
        for (unsigned half = 0; half < 2; half++) {
#pragma HLS UNROLL factor=2
            Word<Z, 32> bytes = zero<Z, 32>();
            set_lane<Z, 32>(bytes, 0, lane_u<Z, 32>(word, half));
            out_ram[half][out_row + group] = bytes;
        }
        group++;
        if (group == row_words) {
            group = 0;
            row++;
            out_row += row_blocks == 0 ? row_words : row_blocks * (isa::block_bytes / isa::beat_bytes);
        }
    }
    events.loop(isa::loops::norm_groups, trips);
    return trips;
}

}  // namespace hetfab
