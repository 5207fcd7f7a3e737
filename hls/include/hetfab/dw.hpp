// SPDX-License-Identifier: Apache-2.0
// DW: depthwise convolution of 3 x 3 taps from exp_ram to mid_ram, word of channels by word of channels.
//
// A trip reads one word of a column of the image and multiplies its 16 nibbles by the weights of three taps:
// the nibble is part of the windows that begin in its column and in the two before. A byte is two nibbles, of
// which the high one is signed where the byte is; so is a weight's, and bytes take two trips, for the low and
// the high nibble of their weights. After the last line of a column one window is complete, and its sums
// leave in the trips that follow.
#pragma once

#include "events.hpp"
#include "rounding.hpp"
#include "shim.hpp"
#include "types.hpp"
#include "vec.hpp"

namespace hetfab {

constexpr unsigned taps = isa::window_taps;
// Channels of a packed word, and nibbles of any word.
constexpr unsigned word_nibbles = 16;
constexpr unsigned parameter_words = isa::ParameterRecord::bytes / 8;
// Sums of a nibble over all taps: 9 products of -8..15 and -128..127.
constexpr int window_sum_bits = 16;

// The fields of a depthwise.
template <class Z>
struct DwTile {
    unsigned lines;
    unsigned columns;
    unsigned top;
    unsigned bottom;
    unsigned left;
    unsigned right;
    unsigned stride;
    unsigned exp;
    unsigned line_words;
    unsigned mid;
    unsigned par;
    unsigned groups;
    int highest;
    bool packed;
    bool is_unsigned;
    bool is_signed;
    bool out_packed;
    U<Z, 6> shift;

    unsigned words() const { return packed ? groups / 2 : groups; }
    unsigned image_lines() const { return (lines - 1) * stride + taps - top - bottom; }
    unsigned width() const { return left + columns + right; }
    unsigned slices() const { return packed ? 1 : 2; }
    unsigned out_words() const { return out_packed ? groups / 2 : groups; }
};

template <class Z>
DwTile<Z> dw_tile(const Word<Z, isa::instruction_bits>& instruction) {
#pragma HLS INLINE
    using Op = isa::Depthwise;
    return {number<Z, Op::Lines>(instruction),
            number<Z, Op::Columns>(instruction),
            number<Z, Op::Top>(instruction),
            number<Z, Op::Bottom>(instruction),
            number<Z, Op::Left>(instruction),
            number<Z, Op::Right>(instruction),
            number<Z, Op::Stride>(instruction) + 1,
            number<Z, Op::Exp>(instruction),
            number<Z, Op::LineWords>(instruction),
            number<Z, Op::Mid>(instruction),
            number<Z, Op::Par>(instruction),
            number<Z, Op::Groups>(instruction),
            static_cast<int>(number<Z, Op::Highest>(instruction)),
            flag<Z, Op::Packed>(instruction),
            flag<Z, Op::Unsigned>(instruction),
            flag<Z, Op::Signed>(instruction),
            flag<Z, Op::OutPacked>(instruction),
            get<Z, Op::Shift>(instruction)};
}

// A word's weights, and bias and multiplier of its channels.
template <class Z>
struct DwParameters {
    Word<Z, 64> weight[taps * taps];
    Word<Z, 64> record[word_nibbles];
};

// Reads the parameters of a word of channels; returns how many words they take.
template <class Z, class DwpRam, class Events>
unsigned dw_parameters(const DwTile<Z>& tile, unsigned first, DwpRam dwp_ram, DwParameters<Z>& parameters,
                       Events& events) {
#pragma HLS INLINE
    const unsigned count = taps * taps + (tile.packed ? word_nibbles : word_nibbles / 2) * parameter_words;
word_parameters:
    for (unsigned position = 0; position < count; position++) {
#pragma HLS LOOP_TRIPCOUNT min=17 max=25
#pragma HLS PIPELINE II=1 style=stp
        events.trip(isa::loops::dw_parameters);
        const Word<Z, 64> word = dwp_ram[first + position];
        if (position < taps * taps) {
            parameters.weight[position] = word;
        } else {
            parameters.record[position - taps * taps] = word;
        }
    }
    events.loop(isa::loops::dw_parameters, count);
    return count;
}

// Sums of the nibbles of windows that begin in one column.
template <class Z>
struct DwSums {
    S<Z, window_sum_bits> nibble[word_nibbles];
};

// A nibble as it is multiplied: signed only where the sign of a channel is in it.
template <class Z>
S<Z, 5> signed_nibble(const U<Z, 4>& nibble, bool is_signed) {
#pragma HLS INLINE
    const int value = static_cast<int>(nibble);
    return S<Z, 5>(is_signed ? (value ^ 8) - 8 : value);
}

// Adds the products of a word with a tap's weights, of bytes with one nibble of each, to the sums of the
// window that began `back` columns before; the sums so far are those of `from`.
template <class Z>
void dw_products(const DwTile<Z>& tile, const Word<Z, 64>& word, const Word<Z, 64>& weight, bool high_weights,
                 bool begins, unsigned from, unsigned back, DwSums<Z> (&sums)[taps]) {
#pragma HLS INLINE
product_lanes:
    for (unsigned lane = 0; lane < word_nibbles; lane++) {
#pragma HLS UNROLL factor=word_nibbles
        const bool top_nibble = tile.packed || lane % 2 == 1;
        const unsigned own = tile.packed ? lane : lane / 2 * 2 + (high_weights ? 1 : 0);
        const S<Z, 5> a = signed_nibble<Z>(slice_of<Z, 4>(word, lane), top_nibble && !tile.is_unsigned);
        const S<Z, 5> w = signed_nibble<Z>(slice_of<Z, 4>(weight, own), tile.packed || high_weights);
        const S<Z, 9> small = product<Z, 9>(a, w);
        const S<Z, window_sum_bits> term =
            high_weights ? S<Z, window_sum_bits>(static_cast<int>(small) * 16) : S<Z, window_sum_bits>(small);
        const S<Z, window_sum_bits> before = begins ? S<Z, window_sum_bits>(0) : sums[from].nibble[lane];
        sums[back].nibble[lane] = sum<Z, window_sum_bits>(before, term);
    }
}

// What has been summed for a window, of which half of the channels leave at a time.
template <class Z>
struct DwFinished {
    DwSums<Z> sums;
    bool pending = false;
    unsigned half = 0;
    unsigned place = 0;
};

// The results of 8 channels as bytes: bias, requantization, limits.
template <class D, class Z>
Word<Z, 64> dw_results(const DwTile<Z>& tile, const DwParameters<Z>& parameters,
                       const DwFinished<Z>& finished, const Distance<Z, result_bits>& distance) {
#pragma HLS INLINE
    Word<Z, 64> results = zero<Z, 64>();
    const S<Z, result_bits + 1> largest = S<Z, result_bits + 1>(tile.highest);
    const S<Z, result_bits + 1> smallest = S<Z, result_bits + 1>(tile.is_signed ? -tile.highest - 1 : 0);
result_lanes:
    for (unsigned lane = 0; lane < D::lanes; lane++) {
#pragma HLS UNROLL factor=D::lanes
        const unsigned channel = tile.packed ? finished.half * D::lanes + lane : lane;
        const S<Z, 21> high = S<Z, 21>(static_cast<int>(finished.sums.nibble[2 * lane + 1]) * 16);
        const S<Z, 21> of_bytes = sum<Z, 21>(high, finished.sums.nibble[2 * lane]);
        const S<Z, 21> total = tile.packed ? S<Z, 21>(finished.sums.nibble[channel]) : of_bytes;
        const Word<Z, 64> record = parameters.record[channel];
        const S<Z, 32> biased = wrap<Z, 32>(sum<Z, 33>(total, lane_s<Z, 32>(record, 0)));
        const U<Z, 16> multiplier = lane_u<Z, 16>(record, par_multiplier_half);
        const S<Z, 49> scaled = product<Z, 49>(biased, multiplier);
        const S<Z, result_bits + 1> rounded = shifted<Z, result_bits>(scaled, distance);
        const S<Z, result_bits + 1> limited = rounded < smallest  ? smallest
                                              : rounded > largest ? largest
                                                                  : rounded;
        set_lane<Z, 8>(results, lane, wrap<Z, 8>(limited));
    }
    return results;
}

// Writes a group's results to its words of mid_ram.
template <class D, class Z, class MidRam>
void put_group(const DwTile<Z>& tile, unsigned group, unsigned place, const Word<Z, 64>& results,
               MidRam mid_ram) {
#pragma HLS INLINE
    const Word<Z, 32> nibbles = vec_nibbles<D, Z>(results);
    const bool odd = group % 2 == 1;
    const VecResult<Z> halves = {tile.out_packed ? nibbles : vec_half<D, Z>(results, 0),
                                 tile.out_packed ? nibbles : vec_half<D, Z>(results, 1),
                                 !tile.out_packed || !odd, !tile.out_packed || odd};
    put_halves(mid_ram, place + (tile.out_packed ? group / 2 : group), halves);
}

// A word of a column of the image, zero outside of it.
template <class Z, class ExpRam>
Word<Z, 64> image_word(const DwTile<Z>& tile, unsigned line, unsigned column, unsigned word, ExpRam exp_ram) {
#pragma HLS INLINE
    const bool inside = line >= tile.top && line - tile.top < tile.image_lines() && column >= tile.left &&
                        column - tile.left < tile.columns;
    Word<Z, 32> low = zero<Z, 32>();
    Word<Z, 32> high = zero<Z, 32>();
    if (inside) {
        const unsigned place =
            tile.exp + (line - tile.top) * tile.line_words + (column - tile.left) * tile.words() + word;
        low = exp_ram[0][place];
        high = exp_ram[1][place];
    }
    Word<Z, 64> found = zero<Z, 64>();
    set_lane<Z, 32>(found, 0, lane_u<Z, 32>(low, 0));
    set_lane<Z, 32>(found, 1, lane_u<Z, 32>(high, 0));
    return found;
}

// Where the walk over a word's image is: output line, column, line of the window, half of the weights.
template <class Z>
struct DwPlace {
    unsigned line = 0;
    unsigned column = 0;
    unsigned tap = 0;
    unsigned slice = 0;
    // Columns until a window ends that is wanted.
    unsigned until = taps - 1;

    bool begins_column() const { return tap == 0 && slice == 0; }
    // Whether a wanted window ends with the step that comes.
    bool ends_window(const DwTile<Z>& tile) const {
        return until == 0 && tap == taps - 1 && slice == tile.slices() - 1;
    }

    void next(const DwTile<Z>& tile) {
        slice++;
        if (slice != tile.slices()) return;
        slice = 0;
        tap++;
        if (tap != taps) return;
        tap = 0;
        until = until == 0 ? tile.stride - 1 : until - 1;
        column++;
        if (column != tile.width()) return;
        column = 0;
        until = taps - 1;
        line++;
    }
};

// Adds a word of a column to the windows that begin in this column, the one before and the one before that. A
// new column moves every sum on to the window one further back.
template <class Z>
void add_column(const DwTile<Z>& tile, const DwPlace<Z>& place, const Word<Z, 64>& pixel,
                const DwParameters<Z>& parameters, DwSums<Z> (&sums)[taps]) {
#pragma HLS INLINE
window_columns:
    for (unsigned number = 0; number < taps; number++) {
#pragma HLS UNROLL factor=taps
        const unsigned back = taps - 1 - number;
        const bool moves = place.begins_column() && back != 0;
        dw_products<Z>(tile, pixel, parameters.weight[place.tap * taps + back], place.slice == 1,
                       place.begins_column() && back == 0, moves ? back - 1 : back, back, sums);
    }
}

// Keeps the sums of a window whose results are to leave.
template <class Z>
void finish_window(const DwSums<Z>& sums, unsigned place, DwFinished<Z>& finished) {
#pragma HLS INLINE
    finished.pending = true;
    finished.half = 0;
    finished.place = place;
finished_lanes:
    for (unsigned lane = 0; lane < word_nibbles; lane++) {
#pragma HLS UNROLL factor=word_nibbles
        finished.sums.nibble[lane] = sums.nibble[lane];
    }
}

// All windows of one word of channels; returns the groups that it finished.
template <class D, class Z, class ExpRam, class MidRam, class Events>
unsigned dw_word(const DwTile<Z>& tile, unsigned word, const DwParameters<Z>& parameters, ExpRam exp_ram,
                 MidRam mid_ram, Events& events) {
#pragma HLS INLINE
    const Distance<Z, result_bits> distance(tile.shift);
    DwSums<Z> sums[taps] = {};
#pragma HLS ARRAY_PARTITION variable=sums type=complete dim=0
    DwFinished<Z> finished;
    DwPlace<Z> place;
    unsigned mid = tile.mid;
    unsigned groups = 0;
    const unsigned steps = tile.lines * tile.width() * taps * tile.slices();
    // The groups of the last window leave behind it.
    const unsigned trips = steps + (tile.packed ? 2 : 1);
window_steps:
    for (unsigned trip = 0; trip < trips; trip++) {
#pragma HLS LOOP_TRIPCOUNT min=64 max=8192
#pragma HLS PIPELINE II=1 style=stp
        events.trip(isa::loops::dw_steps);
        if (finished.pending) {
            const unsigned group = tile.packed ? 2 * word + finished.half : word;
            put_group<D, Z>(tile, group, finished.place,
                            dw_results<D, Z>(tile, parameters, finished, distance), mid_ram);
            groups++;
            finished.pending = tile.packed && finished.half == 0;
            finished.half++;
        }
        if (trip < steps) {
            const Word<Z, 64> pixel =
                image_word<Z>(tile, place.line * tile.stride + place.tap, place.column, word, exp_ram);
            add_column<Z>(tile, place, pixel, parameters, sums);
            if (place.ends_window(tile)) {
                finish_window<Z>(sums[taps - 1], mid, finished);
                mid += tile.out_words();
            }
            place.next(tile);
        }
    }
    events.loop(isa::loops::dw_steps, trips);
    return groups;
}

// The words of channels one behind the other.
template <class D, class Z, class ExpRam, class DwpRam, class MidRam, class Events>
unsigned dw_words(const DwTile<Z>& tile, ExpRam exp_ram, DwpRam dwp_ram, MidRam mid_ram, Events& events) {
#pragma HLS INLINE
    unsigned par = tile.par;
    unsigned groups = 0;
    const unsigned words = tile.lines == 0 ? 0 : tile.words();
channel_words:
    for (unsigned word = 0; word < words; word++) {
#pragma HLS LOOP_TRIPCOUNT min=1 max=128
        DwParameters<Z> parameters = {};
#pragma HLS ARRAY_PARTITION variable=parameters.weight type=complete dim=0
#pragma HLS ARRAY_PARTITION variable=parameters.record type=complete dim=0
        par += dw_parameters<Z>(tile, par, dwp_ram, parameters, events);
        groups += dw_word<D, Z>(tile, word, parameters, exp_ram, mid_ram, events);
    }
    events.macs(std::uint64_t{groups} * D::lanes * taps * taps);
    return groups;
}

template <class D, class Z, class ExpRam, class DwpRam, class MidRam, class Events>
Outcome dw_execute(const Word<Z, isa::instruction_bits>& instruction, ExpRam exp_ram, DwpRam dwp_ram,
                   MidRam mid_ram, Events& events) {
#pragma HLS INLINE off
    const int opcode = static_cast<int>(number<Z, isa::Header::Opcode>(instruction));
    if (opcode != isa::Depthwise::opcode) return {opcode == isa::Sync::opcode, 0};
    const unsigned groups = dw_words<D, Z>(dw_tile<Z>(instruction), exp_ram, dwp_ram, mid_ram, events);
    return {true, groups, groups};
}

// The engine: one instruction, from its stream to its token.
template <class D, class Z, class ExpRam, class DwpRam, class MidRam, class Events>
void dw_step(hls::stream<Word<Z, isa::instruction_bits>>& instructions,
             hls::stream<Word<Z, isa::token_bits>>& tokens, ExpRam exp_ram, DwpRam dwp_ram, MidRam mid_ram,
             Events& events) {
#pragma HLS INLINE
    const Word<Z, isa::instruction_bits> instruction = instructions.read();
    events.loop(isa::loops::instruction, 1);
    const Outcome outcome = dw_execute<D, Z>(instruction, exp_ram, dwp_ram, mid_ram, events);
    HETFAB_FENCE(exp_ram, dwp_ram, mid_ram, tokens);
    tokens.write(make_token<D, Z>(instruction, outcome));
}

}  // namespace hetfab
