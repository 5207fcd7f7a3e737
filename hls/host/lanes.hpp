// SPDX-License-Identifier: Apache-2.0
// Dot products of unsigned bytes and signed bytes by the host's vector instructions. A Lanes class adds, to each of its
// columns, the products of a few channels; the best one that the compiler may use is HostLanes. All are exact modulo
// 2^32: none of the instructions saturates.
#pragma once

#include <cstdint>
#include <cstring>

#if defined(__SSE2__)
#include <immintrin.h>
#endif

namespace hetfab {

namespace {

// A group of 4 channels of one column as Lanes with 2 channels take it: two pairs of 16 bits.
inline std::uint32_t low_pair(std::uint32_t bytes) {
    const auto first = static_cast<std::uint32_t>(static_cast<std::int32_t>(bytes << 24) >> 24);
    const auto second = static_cast<std::uint32_t>(static_cast<std::int32_t>(bytes << 16) >> 24);
    return (first & 0xffff) | second << 16;
}
inline std::uint32_t high_pair(std::uint32_t bytes) { return low_pair(bytes >> 16); }

// Without vector instructions that the compiler names.
struct PlainLanes {
    using Activation = std::int16_t;
    static constexpr unsigned columns = 4;
    static constexpr unsigned channels = 2;
    static constexpr unsigned block_rows = 2;
    static constexpr const char* name = "plain";
    struct Sums {
        std::int32_t column[columns];
    };
    struct Weights {
        std::int16_t pair[columns][2];
    };
    using Broadcast = const Activation*;

    static Sums zero() { return {}; }
    static Weights load(const unsigned char* place) {
        Weights weights;
        std::memcpy(&weights, place, sizeof weights);
        return weights;
    }
    static Broadcast broadcast(const Activation* place) { return place; }
    static Sums add(const Sums& sums, Broadcast act, const Weights& weights) {
        Sums result;
        for (unsigned column = 0; column < columns; column++) {
            const std::int32_t products = act[0] * weights.pair[column][0] + act[1] * weights.pair[column][1];
            result.column[column] = static_cast<std::int32_t>(static_cast<std::uint32_t>(sums.column[column]) +
                                                              static_cast<std::uint32_t>(products));
        }
        return result;
    }
    static void store(std::int32_t* place, const Sums& sums) { std::memcpy(place, &sums, sizeof sums); }
};

#if defined(__SSE2__)
struct SseLanes {
    using Activation = std::int16_t;
    static constexpr unsigned columns = 4;
    static constexpr unsigned channels = 2;
    static constexpr unsigned block_rows = 4;
    static constexpr const char* name = "sse2";
    using Sums = __m128i;
    using Weights = __m128i;
    using Broadcast = __m128i;

    static Sums zero() { return _mm_setzero_si128(); }
    static Weights load(const unsigned char* place) {
        return _mm_loadu_si128(reinterpret_cast<const __m128i*>(place));
    }
    static Broadcast broadcast(const Activation* place) {
        std::int32_t pair;
        std::memcpy(&pair, place, sizeof pair);
        return _mm_set1_epi32(pair);
    }
    static Sums add(Sums sums, Broadcast act, Weights weights) {
        return _mm_add_epi32(sums, _mm_madd_epi16(act, weights));
    }
    static void store(std::int32_t* place, Sums sums) {
        _mm_storeu_si128(reinterpret_cast<__m128i*>(place), sums);
    }
};
#endif

#if defined(__AVX2__)
struct Avx2Lanes {
    using Activation = std::int16_t;
    static constexpr unsigned columns = 8;
    static constexpr unsigned channels = 2;
    static constexpr unsigned block_rows = 4;
    static constexpr const char* name = "avx2";
    using Sums = __m256i;
    using Weights = __m256i;
    using Broadcast = __m256i;

    static Sums zero() { return _mm256_setzero_si256(); }
    static Weights load(const unsigned char* place) {
        return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(place));
    }
    static Broadcast broadcast(const Activation* place) {
        std::int32_t pair;
        std::memcpy(&pair, place, sizeof pair);
        return _mm256_set1_epi32(pair);
    }
    static Sums add(Sums sums, Broadcast act, Weights weights) {
        return _mm256_add_epi32(sums, _mm256_madd_epi16(act, weights));
    }
    static void store(std::int32_t* place, Sums sums) {
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(place), sums);
    }
};
#endif

#if defined(__AVX512VNNI__) && defined(__AVX512F__)
struct VnniLanes {
    using Activation = std::uint8_t;
    static constexpr unsigned columns = 16;
    static constexpr unsigned channels = 4;
    static constexpr unsigned block_rows = 8;
    static constexpr const char* name = "avx512vnni";
    using Sums = __m512i;
    using Weights = __m512i;
    using Broadcast = __m512i;

    static Sums zero() { return _mm512_setzero_si512(); }
    static Weights load(const unsigned char* place) { return _mm512_loadu_si512(place); }
    static Broadcast broadcast(const Activation* place) {
        std::int32_t group;
        std::memcpy(&group, place, sizeof group);
        return _mm512_set1_epi32(group);
    }
    static Sums add(Sums sums, Broadcast act, Weights weights) {
        return _mm512_dpbusd_epi32(sums, act, weights);
    }
    static void store(std::int32_t* place, Sums sums) { _mm512_storeu_si512(place, sums); }
};
using HostLanes = VnniLanes;
#elif defined(__AVX2__)
using HostLanes = Avx2Lanes;
#elif defined(__SSE2__)
using HostLanes = SseLanes;
#else
using HostLanes = PlainLanes;
#endif

}  // namespace

}  // namespace hetfab
