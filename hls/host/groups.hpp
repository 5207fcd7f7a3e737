// SPDX-License-Identifier: Apache-2.0
// Host body of VEC: whole rows at a time. Products of 32 and 16 bits, their sums and powers of two are exact
// in double, and rounding a double to an integer in the default mode is half to even, so the result is VEC's
// (docs/emulator.md).
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

#include "hetfab/vec.hpp"
#include "memories.hpp"

namespace hetfab {

namespace {

// The parameters of a tile's channels, apart from each other, and the terms of a row.
struct VecChannels {
    std::vector<std::int32_t> bias;
    std::vector<double> scale;
    std::vector<std::int32_t> value;
    std::vector<unsigned char> bytes;
};

// value rounded half to even, for |value| < 2^51 where the last bit of the sum is 1.
inline std::int32_t rounded(double value) {
    constexpr double one_and_a_half = 6755399441055744.0;
    const double sum = value + one_and_a_half;
    std::uint64_t bits;
    std::memcpy(&bits, &sum, sizeof bits);
    return static_cast<std::int32_t>(static_cast<std::uint32_t>(bits));
}

inline double limited(double value, double smallest, double largest) {
    const double above = value < smallest ? smallest : value;
    return above > largest ? largest : above;
}

// Whether the host rounds as the bodies need it.
inline bool rounds_to_even() {
    volatile double half = 0.5;
    volatile double three_halves = 1.5;
    return rounded(half) == 0 && rounded(three_halves) == 2 && rounded(-half) == 0;
}

template <class Z>
class VecRows {
  public:
    VecRows(const VecTile<Z>& tile, unsigned lanes, VecChannels& channels)
        : tile_(tile), count_(tile.groups * lanes), channels_(channels) {
        channels_.value.resize(count_);
        channels_.bytes.resize(count_ + count_ % 2);
    }

    // Records of 8 bytes: bias, multiplier, zero.
    void read_parameters(const unsigned char* records) {
        channels_.bias.assign(count_, 0);
        channels_.scale.assign(count_, 0);
        if (!tile_.with_acc) return;
        const double step = std::ldexp(1.0, -static_cast<int>(tile_.shift));
        for (unsigned i = 0; i < count_; i++) {
            std::uint16_t multiplier;
            std::memcpy(&channels_.bias[i], records + 8 * i, 4);
            std::memcpy(&multiplier, records + 8 * i + 2 * par_multiplier_half, 2);
            channels_.scale[i] = multiplier * step;
        }
    }

    // One row; sums and accumulators that the operation lacks are null.
    void run(const std::int32_t* acc, const std::int32_t* sums, unsigned char* out, std::size_t row_bytes) {
        std::int32_t* value =
            tile_.wide_result ? reinterpret_cast<std::int32_t*>(out) : channels_.value.data();
        if (tile_.with_sum) {
            add_sums(acc, sums, value);
        } else {
            add_bias(acc, value);
        }
        if (tile_.wide_result) {
            std::memset(out + 4 * std::size_t{count_}, 0, row_bytes - 4 * std::size_t{count_});
            return;
        }
        if (tile_.with_sum) {
            const double post =
                std::ldexp(1.0, static_cast<int>(tile_.post_left) - static_cast<int>(tile_.post_shift));
            make_bytes([post](unsigned) { return post; });
        } else {
            const double* scale = channels_.scale.data();
            make_bytes([scale](unsigned i) { return scale[i]; });
        }
        write(out, row_bytes);
    }

  private:
    void add_bias(const std::int32_t* acc, std::int32_t* value) const {
        const std::int32_t* bias = channels_.bias.data();
        for (unsigned i = 0; i < count_; i++) value[i] = wrapped(acc[i], bias[i]);
    }

    void add_sums(const std::int32_t* acc, const std::int32_t* sums, std::int32_t* value) const {
        if (!tile_.with_acc) {
            std::memcpy(value, sums, 4 * std::size_t{count_});
            return;
        }
        constexpr double largest = (1 << (isa::term_bits - 1)) - 1;
        const std::int32_t* bias = channels_.bias.data();
        const double* scale = channels_.scale.data();
        for (unsigned i = 0; i < count_; i++) {
            const double term = wrapped(acc[i], bias[i]) * scale[i];
            value[i] = wrapped(sums[i], rounded(limited(term, -largest - 1, largest)));
        }
    }

    // Limits are integers, so that limiting before rounding is the same as after it.
    template <class Scale>
    void make_bytes(Scale scale) {
        const unsigned magnitude = tile_.is_unsigned ? tile_.out_bits : tile_.out_bits - 1;
        const double largest = (1 << magnitude) - 1;
        const double smallest = tile_.is_unsigned || tile_.relu ? 0 : -largest - 1;
        const std::int32_t* value = channels_.value.data();
        unsigned char* bytes = channels_.bytes.data();
        for (unsigned i = 0; i < count_; i++) {
            bytes[i] = static_cast<unsigned char>(rounded(limited(value[i] * scale(i), smallest, largest)));
        }
    }

    void write(unsigned char* out, std::size_t row_bytes) const {
        const unsigned char* bytes = channels_.bytes.data();
        std::size_t written = count_;
        if (tile_.packed) {
            written = (count_ + 1) / 2;
            for (unsigned i = 0; i < written; i++) {
                out[i] = static_cast<unsigned char>((bytes[2 * i] & 15) | bytes[2 * i + 1] << 4);
            }
        } else {
            std::memcpy(out, bytes, written);
        }
        std::memset(out + written, 0, row_bytes - written);
    }

    static std::int32_t wrapped(std::int32_t a, std::int32_t b) {
        return static_cast<std::int32_t>(static_cast<std::uint32_t>(a) + static_cast<std::uint32_t>(b));
    }

    const VecTile<Z>& tile_;
    unsigned count_;
    VecChannels& channels_;
};

// Whether a row's words hold all groups, so that every row has read all of its accumulators.
template <class Z>
bool holds_all_groups(const VecTile<Z>& tile) {
    const unsigned words = tile.wide_result ? 4 * tile.groups
                           : tile.packed    ? (tile.groups + 1) / 2
                                            : tile.groups;
    return words <= tile.row_words;
}

template <class D, class Z, class AccD, class AccL, class Par, class Sum, class Out, class Events>
unsigned vec_rows(const VecTile<Z>& tile, HostRam<AccD> acc_d_ram, HostRam<AccL> acc_l_ram,
                  HostRam<Par> par_ram, HostRam<Sum> sum_ram, HostRam<Out> out_ram, Events& events) {
    static const bool exact = rounds_to_even();
    static thread_local VecChannels channels;
    constexpr unsigned block_words = isa::block_bytes / D::lanes;
    const unsigned cols = tile.from_l ? D::gemm_l_cols : D::gemm_d_cols;
    const unsigned acc_words = (tile.groups * D::lanes + cols - 1) / cols;
    const std::uint64_t rows = tile.rows;
    const std::uint64_t accs = tile.with_acc ? rows * acc_words : 0;
    const bool held =
        (tile.from_l ? acc_l_ram.holds(tile.acc, accs) : acc_d_ram.holds(tile.acc, accs)) &&
        par_ram.holds(tile.par, tile.with_acc ? tile.groups : 0) &&
        sum_ram.holds(tile.sum,
                      tile.with_sum && tile.groups != 0 ? (rows - 1) * tile.sum_groups + tile.groups : 0) &&
        out_ram.holds(tile.out, (rows - 1) * tile.row_blocks * block_words + tile.row_words);
    if (!exact || rows == 0 || tile.row_words == 0 || !held || !holds_all_groups(tile)) {
        return vec_rows<D, Z>(tile, acc_d_ram.plain, acc_l_ram.plain, par_ram.plain, sum_ram.plain,
                              out_ram.plain, events);
    }
    VecRows<Z> body(tile, D::lanes, channels);
    body.read_parameters(par_ram.at(tile.par));
    for (unsigned row = 0; row < tile.rows; row++) {
        const unsigned acc = tile.acc + row * acc_words;
        const unsigned char* acc_bytes = tile.from_l ? acc_l_ram.at(acc) : acc_d_ram.at(acc);
        const unsigned char* sum_bytes = sum_ram.at(tile.sum + row * tile.sum_groups);
        body.run(reinterpret_cast<const std::int32_t*>(acc_bytes),
                 reinterpret_cast<const std::int32_t*>(sum_bytes),
                 out_ram.at(tile.out + row * tile.row_blocks * block_words),
                 std::size_t{tile.row_words} * D::lanes);
    }
    events.loop(isa::loops::vec_groups, tile.rows * (tile.packed ? 2 : 1) * tile.row_words);
    return tile.rows * tile.row_words;
}

}  // namespace

}  // namespace hetfab
