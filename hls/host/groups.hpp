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
#include "lanes.hpp"
#include "memories.hpp"
#include "words_cache.hpp"

#if defined(__SSE2__)
#include <immintrin.h>
#endif

namespace hetfab {

namespace {

// Doubles of a few channels by the host's vector instructions. The best one that the compiler may use is
// HostDoubles.
struct PortableDoubles {
    static constexpr unsigned count = 2;
    struct Values {
        double each[count];
    };
    typedef std::int32_t Ints __attribute__((vector_size(4 * count)));

    static Values all(double value) { return {value, value}; }
    static Values load(const double* place) { return {place[0], place[1]}; }
    static Values product(const Ints& ints, const Values& scale) {
        return {ints[0] * scale.each[0], ints[1] * scale.each[1]};
    }
    // Limits are integers of 32 bits, so that limiting before rounding is the same as after it.
    static Ints rounded(const Values& values, const Values& smallest, const Values& largest) {
        Ints ints = {};
        for (unsigned i = 0; i < count; i++) {
            // The last bit of a sum with this number is 1, and the host rounds sums half to even.
            constexpr double one_and_a_half = 6755399441055744.0;
            const double above = std::max(values.each[i], smallest.each[i]);
            ints[i] =
                static_cast<std::int32_t>(std::min(above, largest.each[i]) + one_and_a_half - one_and_a_half);
        }
        return ints;
    }
};

#if defined(__SSE2__)
struct SseDoubles {
    static constexpr unsigned count = 2;
    using Values = __m128d;
    typedef std::int32_t Ints __attribute__((vector_size(4 * count)));

    static Values all(double value) { return _mm_set1_pd(value); }
    static Values load(const double* place) { return _mm_loadu_pd(place); }
    static Values product(const Ints& ints, Values scale) {
        return _mm_mul_pd(_mm_cvtepi32_pd(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(&ints))), scale);
    }
    static Ints rounded(Values values, Values smallest, Values largest) {
        const __m128i found = _mm_cvtpd_epi32(_mm_min_pd(_mm_max_pd(values, smallest), largest));
        Ints ints;
        std::memcpy(&ints, &found, sizeof ints);
        return ints;
    }
};
#endif

#if defined(__AVX__)
struct AvxDoubles {
    static constexpr unsigned count = 4;
    using Values = __m256d;
    typedef std::int32_t Ints __attribute__((vector_size(4 * count)));

    static Values all(double value) { return _mm256_set1_pd(value); }
    static Values load(const double* place) { return _mm256_loadu_pd(place); }
    static Values product(Ints ints, Values scale) {
        return _mm256_mul_pd(_mm256_cvtepi32_pd(reinterpret_cast<__m128i>(ints)), scale);
    }
    static Ints rounded(Values values, Values smallest, Values largest) {
        return reinterpret_cast<Ints>(
            _mm256_cvtpd_epi32(_mm256_min_pd(_mm256_max_pd(values, smallest), largest)));
    }
};
#endif

#if defined(__AVX512F__)
struct Avx512Doubles {
    static constexpr unsigned count = 8;
    using Values = __m512d;
    typedef std::int32_t Ints __attribute__((vector_size(4 * count)));

    static Values all(double value) { return _mm512_set1_pd(value); }
    static Values load(const double* place) { return _mm512_loadu_pd(place); }
    static Values product(Ints ints, Values scale) {
        return _mm512_mul_pd(_mm512_maskz_cvtepi32_pd(every, reinterpret_cast<__m256i>(ints)), scale);
    }
    static Ints rounded(Values values, Values smallest, Values largest) {
        const Values limited =
            _mm512_maskz_min_pd(every, _mm512_maskz_max_pd(every, values, smallest), largest);
        return reinterpret_cast<Ints>(_mm512_maskz_cvtpd_epi32(every, limited));
    }

  private:
    // g++ 12 warns of the forms without a mask that what is not selected is uninitialized.
    static constexpr __mmask8 every = 0xff;
};
using HostDoubles = Avx512Doubles;
#elif defined(__AVX__)
using HostDoubles = AvxDoubles;
#elif defined(__SSE2__)
using HostDoubles = SseDoubles;
#else
using HostDoubles = PortableDoubles;
#endif

using Doubles = HostDoubles::Values;
using Ints = HostDoubles::Ints;
constexpr unsigned vec_channels = HostDoubles::count;
typedef std::uint32_t Words __attribute__((vector_size(4 * vec_channels)));
typedef unsigned char Bytes __attribute__((vector_size(vec_channels)));
typedef std::uint16_t Shorts __attribute__((vector_size(2 * vec_channels)));

inline Ints load_ints(const void* place) {
    Ints ints;
    std::memcpy(&ints, place, sizeof ints);
    return ints;
}

// Sums modulo 2^32.
inline Ints wrapped(Ints a, Ints b) {
    return reinterpret_cast<Ints>(reinterpret_cast<Words>(a) + reinterpret_cast<Words>(b));
}

// Whether the host rounds as the bodies need it.
inline bool rounds_to_even() {
    const auto rounded = [](double value) {
        const volatile double half = 0.5;
        const Doubles limit = HostDoubles::all(4);
        const Doubles product =
            HostDoubles::product(Ints{} + static_cast<int>(2 * value), HostDoubles::all(half));
        return HostDoubles::rounded(product, HostDoubles::all(-4), limit)[0];
    };
    return rounded(0.5) == 0 && rounded(1.5) == 2 && rounded(-0.5) == 0 && rounded(-1.5) == -2;
}

// The low nibbles of bytes, the first in the low half of the first byte.
inline void put_nibbles(const unsigned char* bytes, unsigned char* place) {
    std::uint64_t nibbles = 0;
    std::memcpy(&nibbles, bytes, vec_channels);
    nibbles &= 0x0f0f0f0f0f0f0f0f;
    nibbles = (nibbles | nibbles >> 4) & 0x00ff00ff00ff00ff;
    nibbles = (nibbles | nibbles >> 8) & 0x0000ffff0000ffff;
    nibbles |= nibbles >> 16;
    std::memcpy(place, &nibbles, vec_channels / 2);
}

// The parameters of a tile's channels, apart from each other.
struct VecChannels {
    std::vector<std::int32_t> bias;
    std::vector<double> scale;
    // Whether all scales are powers of two, at most 1 and not too small: how far sums are shifted to the
    // right then, and half of what that cuts off, at least 1.
    bool shifts;
    std::vector<std::int32_t> shift;
    std::vector<std::int32_t> half;

    // Records of 8 bytes: bias, multiplier, zero.
    VecChannels(const unsigned char* records, unsigned count, unsigned common_shift)
        : bias(count), scale(count), shifts(true), shift(count), half(count) {
        const double step = std::ldexp(1.0, -static_cast<int>(common_shift));
        for (unsigned i = 0; i < count; i++) {
            std::uint16_t multiplier;
            std::memcpy(&bias[i], records + 8 * i, 4);
            std::memcpy(&multiplier, records + 8 * i + 2 * par_multiplier_half, 2);
            scale[i] = multiplier * step;
            int exponent;
            const bool power = std::frexp(scale[i], &exponent) == 0.5;
            const int right = 1 - exponent;
            shifts = shifts && power && right >= 0 && right <= most_shifted;
            if (!shifts) continue;
            shift[i] = right;
            half[i] = right == 0 ? 1 : 1 << (right - 1);
        }
    }

  private:
    static constexpr int most_shifted = 30;
};

struct ChannelKey {
    unsigned first;
    unsigned words;
    unsigned shift;

    bool operator==(const ChannelKey& other) const {
        return first == other.first && words == other.words && shift == other.shift;
    }
};

// The channels of the last few tiles.
using ChannelCache = WordsCache<ChannelKey, VecChannels>;

// A memory of parameters, and the channels that were made of them.
template <class T>
using HostParameters = HostCached<T, ChannelCache>;

// Requantization with scales that are powers of two, in integers and so for more channels at once.
class ShiftedRow {
  public:
    static constexpr unsigned count = HostLanes::columns;

    ShiftedRow(const VecChannels& channels, int smallest, int largest)
        : bias_(channels.bias.data()),
          shift_(channels.shift.data()),
          half_(channels.half.data()),
          smallest_(Signed{} + smallest),
          largest_(Signed{} + largest) {}

    // The results of some channels, as bytes. Half to even: what is cut off, and 1 more where the quotient is
    // odd, is more than half.
    void put(const unsigned char* acc, unsigned first, unsigned char* bytes) const {
        HostLanes::Sums sums;
        std::memcpy(&sums, acc + 4 * std::size_t{first}, sizeof sums);
        const auto value = reinterpret_cast<Signed>(sums + HostLanes::load_sums(bias_ + first));
        const auto shift = reinterpret_cast<Signed>(HostLanes::load_sums(shift_ + first));
        const auto half = reinterpret_cast<Signed>(HostLanes::load_sums(half_ + first));
        const Signed quotient = value >> shift;
        const Signed rest = value - (quotient << shift);
        // A comparison that holds is -1.
        const Signed rounded = quotient - (rest + (quotient & 1) > half);
        const Signed above = rounded < smallest_ ? smallest_ : rounded;
        const Signed limited = above > largest_ ? largest_ : above;
        const Results results = __builtin_convertvector(limited, Results);
        std::memcpy(bytes, &results, sizeof results);
    }

  private:
    using Signed = HostLanes::Signed;
    typedef unsigned char Results __attribute__((vector_size(count)));

    const std::int32_t* bias_;
    const std::int32_t* shift_;
    const std::int32_t* half_;
    Signed smallest_;
    Signed largest_;
};

// What a tile's rows have in common. Its members are values, as bytes that are written may be anything.
class VecRows {
  public:
    template <class Z>
    VecRows(const VecTile<Z>& tile, unsigned lanes, const VecChannels& channels)
        : with_acc_(tile.with_acc),
          with_sum_(tile.addend == Addend::sums),
          wide_(tile.wide_result),
          packed_(tile.packed),
          halves_(tile.halves || tile.normalizes),
          mapped_(tile.mapped),
          index_mask_(tile.index_mask()),
          count_(tile.groups * lanes),
          smallest_(tile.is_signed ? -tile.highest - 1 : 0),
          largest_(tile.highest),
          shifted_(channels, smallest_, largest_),
          shifts_(channels.shifts && !with_sum_ && !wide_ && !halves_ && !mapped_),
          bias_(channels.bias.data()),
          scale_(channels.scale.data()),
          smallest_double_(HostDoubles::all(smallest_)),
          largest_double_(HostDoubles::all(largest_)) {
        const int post = static_cast<int>(isa::post_left) - static_cast<int>(tile.post_shift);
        post_ = HostDoubles::all(std::ldexp(1.0, post));
    }

    // One row; sums, accumulators and a table that the operation lacks are not read. A row of 16-bit results
    // may have no place for the last half group.
    void run(const unsigned char* acc, const unsigned char* sums, const unsigned char* table,
             unsigned char* out, std::size_t row_bytes) const {
        unsigned char* place = out;
        unsigned first = 0;
        for (; shifts_ && first + ShiftedRow::count <= count_; first += ShiftedRow::count) {
            unsigned char bytes[ShiftedRow::count];
            shifted_.put(acc, first, bytes);
            for (unsigned part = 0; part < ShiftedRow::count; part += vec_channels) {
                place = put(bytes + part, place);
            }
        }
        for (; first < count_; first += vec_channels) {
            const Ints value = with_sum_ ? summed(acc, sums, first) : biased(acc, first);
            if (wide_) {
                std::memcpy(place, &value, sizeof value);
                place += sizeof value;
                continue;
            }
            const Doubles scale = with_sum_ ? post_ : HostDoubles::load(scale_ + first);
            const Ints narrow =
                HostDoubles::rounded(HostDoubles::product(value, scale), smallest_double_, largest_double_);
            if (halves_) {
                const Shorts shorts = __builtin_convertvector(narrow, Shorts);
                const std::size_t left = row_bytes - static_cast<std::size_t>(place - out);
                const std::size_t taken = std::min(left, sizeof shorts);
                std::memcpy(place, &shorts, taken);
                place += taken;
                continue;
            }
            if (mapped_) {
                for (unsigned channel = 0; channel < vec_channels; channel++) {
                    *place++ = table[static_cast<unsigned>(narrow[channel]) & index_mask_];
                }
                continue;
            }
            const Bytes bytes = __builtin_convertvector(narrow, Bytes);
            place = put(reinterpret_cast<const unsigned char*>(&bytes), place);
        }
        std::memset(place, 0, row_bytes - static_cast<std::size_t>(place - out));
    }

  private:
    // Results of vec_channels channels, as bytes or packed; returns the place after them.
    unsigned char* put(const unsigned char* bytes, unsigned char* place) const {
        if (!packed_) {
            std::memcpy(place, bytes, vec_channels);
            return place + vec_channels;
        }
        put_nibbles(bytes, place);
        return place + vec_channels / 2;
    }

    Ints biased(const unsigned char* acc, unsigned first) const {
        return wrapped(load_ints(acc + 4 * std::size_t{first}), load_ints(bias_ + first));
    }

    Ints summed(const unsigned char* acc, const unsigned char* sums, unsigned first) const {
        const Ints sum = load_ints(sums + 4 * std::size_t{first});
        if (!with_acc_) return sum;
        constexpr double largest = (1 << (isa::term_bits - 1)) - 1;
        const Doubles term = HostDoubles::product(biased(acc, first), HostDoubles::load(scale_ + first));
        return wrapped(sum,
                       HostDoubles::rounded(term, HostDoubles::all(-largest - 1), HostDoubles::all(largest)));
    }

    bool with_acc_;
    bool with_sum_;
    bool wide_;
    bool packed_;
    bool halves_;
    bool mapped_;
    unsigned index_mask_;
    unsigned count_;
    int smallest_;
    int largest_;
    ShiftedRow shifted_;
    bool shifts_;
    const std::int32_t* bias_;
    const double* scale_;
    Doubles smallest_double_;
    Doubles largest_double_;
    Doubles post_;
};

// A row of accumulators with the sums that join them before the bias.
inline void join_row(const unsigned char* acc, const unsigned char* sums, std::vector<std::int32_t>& joined) {
    for (std::size_t first = 0; first < joined.size(); first += vec_channels) {
        const Ints both = wrapped(load_ints(acc + 4 * first), load_ints(sums + 4 * first));
        std::memcpy(&joined[first], &both, sizeof both);
    }
}

// Whether a row's words hold all groups, so that every row has read all of its accumulators.
template <class Z>
bool holds_all_groups(const VecTile<Z>& tile) {
    return tile.normalizes || tile.result_words() <= tile.row_words;
}

// Where the rows of a result begin, in out_ram or in exp_ram.
template <class Z>
std::vector<unsigned> first_words(const VecTile<Z>& tile, const VecContext<Z>& context) {
    PixelPlace pixel(tile.out, context.banks, context.exp_line_words, context.exp_pixel_words);
    std::vector<unsigned> words(tile.rows);
    for (unsigned row = 0; row < tile.rows; row++, pixel.next()) {
        words[row] = tile.to_exp ? pixel.word() : tile.out + row * tile.out_words();
    }
    return words;
}

// Products without windows; the plain body has the rest. Rows that are to be normalized are kept.
template <class D, class Z, class AccD, class AccL, class Par, class Fun, class Sum, class Res, class Half,
          class Events>
unsigned vec_rows(const VecTile<Z>& tile, const VecContext<Z>& context, HostRam<AccD> acc_d_ram,
                  HostRam<AccL> acc_l_ram, HostParameters<Par> par_ram, HostBanks<Fun> fun_ram,
                  HostRam<Sum> sum_ram, HostRam<Res> res_ram, HostBanks<Half> out_ram,
                  HostBanks<Half> exp_ram, NormRows<D, Z>& kept, Events& events) {
    static const bool exact = rounds_to_even();
    static_assert(D::lanes % vec_channels == 0, "a group has channels that no vector holds");
    const bool joins = tile.addend == Addend::joined;
    const unsigned cols = tile.from_sum ? D::lanes : tile.from_l ? D::gemm_l_cols : D::gemm_d_cols;
    const unsigned acc_words = (tile.groups * D::lanes + cols - 1) / cols;
    const std::uint64_t rows = tile.rows;
    const std::uint64_t accs = tile.with_acc ? rows * acc_words : 0;
    const std::vector<unsigned> places = first_words(tile, context);
    const HostBanks<Half> results = tile.to_exp ? exp_ram : out_ram;
    // All banks are equal, and the whole table is in them.
    const unsigned char* const table = tile.mapped ? fun_ram.at(0, tile.table) : nullptr;
    const bool held = (tile.from_sum ? sum_ram.holds(tile.acc, accs)
                       : tile.from_l ? acc_l_ram.holds(tile.acc, accs)
                                     : acc_d_ram.holds(tile.acc, accs)) &&
                      par_ram.holds(tile.par, tile.with_acc ? tile.groups : 0) &&
                      sum_ram.holds(tile.sum, tile.adds_sums() && tile.groups != 0
                                                  ? (rows - 1) * tile.sum_groups + tile.groups
                                                  : 0) &&
                      std::all_of(places.begin(), places.end(),
                                  [&](unsigned place) { return results.holds(place, tile.row_words); });
    if (!exact || tile.reads_stored() || rows == 0 || tile.row_words == 0 || !held ||
        !holds_all_groups(tile)) {
        return vec_rows<D, Z>(tile, context, acc_d_ram.plain, acc_l_ram.plain, par_ram.plain, fun_ram.plain,
                              sum_ram.plain, res_ram.plain, out_ram.plain, exp_ram.plain, kept, events);
    }
    const ChannelKey key = {tile.par, tile.with_acc ? tile.groups : 0, tile.shift};
    const VecChannels& channels = par_ram.cache->get(
        key, [&] { return VecChannels(par_ram.at(tile.par), key.words * D::lanes, tile.shift); });
    const VecRows body(tile, D::lanes, channels);
    std::vector<unsigned char> bytes(std::size_t{tile.normalizes ? 2 * tile.groups : tile.row_words} *
                                     D::lanes);
    std::vector<std::int32_t> joined(joins ? std::size_t{tile.groups} * D::lanes : 0);
    for (unsigned row = 0; row < tile.rows; row++) {
        const unsigned word = tile.acc + row * acc_words;
        const unsigned char* acc = tile.from_sum ? sum_ram.at(word)
                                   : tile.from_l ? acc_l_ram.at(word)
                                                 : acc_d_ram.at(word);
        const unsigned char* const sums = sum_ram.at(tile.sum + row * tile.sum_groups);
        if (joins) {
            join_row(acc, sums, joined);
            acc = reinterpret_cast<const unsigned char*>(joined.data());
        }
        body.run(acc, sums, table, bytes.data(), bytes.size());
        if (tile.normalizes) {
            std::memcpy(kept.channels + std::size_t{row} * tile.groups, bytes.data(), bytes.size());
            kept.groups += tile.groups;
        } else {
            split_words(results, places[row], bytes.data(), tile.row_words);
        }
    }
    events.loop(vec_loop<D>, tile.rows * tile.row_trips());
    return tile.rows * tile.row_words;
}

}  // namespace

}  // namespace hetfab
