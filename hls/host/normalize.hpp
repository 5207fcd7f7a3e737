// SPDX-License-Identifier: Apache-2.0
// Host body of VEC's normalization. All products and sums are exact in double, and adding a number whose last
// bit is 1 rounds half to even in the default mode, so the results are VEC's (docs/emulator.md).
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

#include "groups.hpp"
#include "hetfab/normalize.hpp"
#include "memories.hpp"

namespace hetfab {

namespace {

// Half to even; the value has fewer than 51 bits before the point.
inline double nearest(double value) {
    constexpr double whole = 6755399441055744.0;
    return (value + whole) - whole;
}

// Gains and offsets of a row's channels times 2^-post_shift.
struct HostGains {
    std::vector<double> gain;
    std::vector<double> offset;

    HostGains(const unsigned char* records, unsigned channels, int post_shift)
        : gain(channels), offset(channels) {
        const double step = std::ldexp(1.0, -post_shift);
        for (unsigned channel = 0; channel < channels; channel++) {
            std::int32_t added;
            std::int16_t factor;
            std::memcpy(&added, records + 8 * channel, sizeof added);
            std::memcpy(&factor, records + 8 * channel + 2 * gain_half, sizeof factor);
            gain[channel] = factor * step;
            offset[channel] = added * step;
        }
    }
};

template <class Z>
RowSums<Z> host_sums(const std::int16_t* row, unsigned channels) {
    std::int64_t sum = 0;
    std::int64_t squares = 0;
    for (unsigned channel = 0; channel < channels; channel++) {
        const std::int32_t value = row[channel];
        sum += value;
        squares += value * value;
    }
    RowSums<Z> sums;
    sums.sum = static_cast<std::int32_t>(sum);
    sums.squares = static_cast<std::uint64_t>(squares);
    return sums;
}

// A row's results as bytes.
template <class Z>
void normalize_row(const std::int16_t* row, unsigned channels, const RowRoot<Z>& root, int factor,
                   const HostGains& gains, double smallest, double largest, unsigned char* bytes) {
    const double step = std::ldexp(static_cast<double>(root.mantissa), -static_cast<int>(root.shift));
    const int mean = static_cast<int>(root.sum);
    const double* gain = gains.gain.data();
    const double* offset = gains.offset.data();
    constexpr double most = (1 << (isa::normalized_bits - 1)) - 1;
    for (unsigned channel = 0; channel < channels; channel++) {
        const double scaled = nearest((factor * row[channel] - mean) * step);
        const double limited = std::min(std::max(scaled, -most - 1), most);
        const double result = nearest(limited * gain[channel] + offset[channel]);
        bytes[channel] =
            static_cast<unsigned char>(static_cast<int>(std::min(std::max(result, smallest), largest)));
    }
}

template <class D, class Z, class Par, class Half, class Events>
unsigned normalize_rows(const Word<Z, isa::instruction_bits>& instruction, HostParameters<Par> par_ram,
                        HostBanks<Half> out_ram, const NormRows<D, Z>& kept, Events& events) {
    using Op = isa::Normalize;
    static const bool exact = rounds_to_even();
    const unsigned rows = number<Z, Op::Rows>(instruction);
    const unsigned groups = number<Z, Op::Groups>(instruction);
    const unsigned row_words = number<Z, Op::RowWords>(instruction);
    const unsigned row_blocks = number<Z, Op::RowBlocks>(instruction);
    const unsigned out = number<Z, Op::Out>(instruction);
    const unsigned par = number<Z, Op::Par>(instruction) + groups;
    const unsigned distance = row_blocks == 0 ? row_words : row_blocks * (isa::block_bytes / isa::beat_bytes);
    if (!exact || rows == 0 || row_words < groups || !par_ram.holds(par, groups + 1) ||
        !out_ram.holds(out, std::uint64_t{rows - 1} * distance + row_words)) {
        return normalize_rows<D, Z>(instruction, par_ram.plain, out_ram.plain, kept, events);
    }
    const unsigned channels = groups * D::lanes;
    const NormSpread<Z> common(par_ram.plain.words[par + groups]);
    const HostGains gains(par_ram.at(par), channels, static_cast<int>(number<Z, Op::PostShift>(instruction)));
    const double largest = number<Z, Op::Highest>(instruction);
    const double smallest = flag<Z, Op::Signed>(instruction) ? -largest - 1 : 0;
    std::vector<unsigned char> bytes(std::size_t{row_words} * D::lanes);
    std::vector<std::int16_t> row(channels);
    for (unsigned r = 0; r < rows; r++) {
        std::memcpy(row.data(), kept.channels + std::size_t{r} * groups, 2 * std::size_t{channels});
        const RowRoot<Z> root = row_root<Z>(common, host_sums<Z>(row.data(), channels));
        normalize_row<Z>(row.data(), channels, root, static_cast<int>(common.factor), gains, smallest,
                         largest, bytes.data());
        split_words(out_ram, out + r * distance, bytes.data(), row_words);
    }
    events.loop(isa::loops::norm_sums, rows * groups);
    events.loop(isa::loops::norm_roots, rows);
    events.loop(isa::loops::norm_groups, rows * row_words);
    return rows * row_words;
}

}  // namespace

}  // namespace hetfab
