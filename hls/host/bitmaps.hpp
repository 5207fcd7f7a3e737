// SPDX-License-Identifier: Apache-2.0
// Bitmaps of columns by the host's vector instructions: OR, the test for all ones, and their ids in order.
#pragma once

#include <cstdint>
#include <cstring>
#include <vector>

#if defined(__AVX512F__)
#include <immintrin.h>
#endif

namespace hetfab {

namespace {

constexpr unsigned bitmap_bits = 64;
// Words are handled in groups of this many, one vector of the widest kind.
constexpr unsigned bitmap_group = 8;
// What writing the ids of a word may touch beyond them.
constexpr unsigned ids_slack = bitmap_bits;

inline unsigned bitmap_words(std::uint64_t columns) {
    return static_cast<unsigned>((columns + bitmap_bits - 1) / bitmap_bits);
}

inline unsigned grouped_words(std::uint64_t columns) {
    return (bitmap_words(columns) + bitmap_group - 1) / bitmap_group * bitmap_group;
}

inline void set_bit(std::uint64_t* words, std::uint32_t column) {
    words[column / bitmap_bits] |= std::uint64_t{1} << column % bitmap_bits;
}

inline void or_words(std::uint64_t* words, const std::uint64_t* others, unsigned count) {
    typedef std::uint64_t Group __attribute__((vector_size(8 * bitmap_group)));
    for (unsigned word = 0; word < count; word += bitmap_group) {
        Group ours;
        Group theirs;
        std::memcpy(&ours, words + word, sizeof ours);
        std::memcpy(&theirs, others + word, sizeof theirs);
        ours |= theirs;
        std::memcpy(words + word, &ours, sizeof ours);
    }
}

inline bool all_ones(const std::uint64_t* words, std::uint64_t columns) {
    const std::uint64_t whole = columns / bitmap_bits;
    for (std::uint64_t word = 0; word < whole; word++) {
        if (words[word] != ~std::uint64_t{0}) return false;
    }
    const unsigned rest = columns % bitmap_bits;
    return rest == 0 || words[whole] == (std::uint64_t{1} << rest) - 1;
}

// Writes the ids of one word; it may write up to ids_slack ids, and returns the place behind the last one.
inline std::uint32_t* write_ids(std::uint32_t* place, std::uint64_t word, std::uint32_t first) {
#if defined(__AVX512F__)
    const __m512i counting = _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
    for (unsigned part = 0; part < 4; part++) {
        const auto mask = static_cast<__mmask16>(word >> 16 * part);
        const __m512i ids =
            _mm512_add_epi32(counting, _mm512_set1_epi32(static_cast<int>(first + 16 * part)));
        _mm512_storeu_si512(place, _mm512_maskz_compress_epi32(mask, ids));
        place += __builtin_popcount(mask);
    }
    return place;
#else
    if (word == ~std::uint64_t{0}) {
        for (unsigned bit = 0; bit < bitmap_bits; bit++) place[bit] = first + bit;
        return place + bitmap_bits;
    }
    while (word != 0) {
        *place++ = first + static_cast<std::uint32_t>(__builtin_ctzll(word));
        word &= word - 1;
    }
    return place;
#endif
}

}  // namespace

}  // namespace hetfab
