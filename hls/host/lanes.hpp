// SPDX-License-Identifier: Apache-2.0
// Dot products of unsigned bytes and signed bytes by the host's vector instructions. A Lanes class adds, to
// each of its columns, the products of a few channels; the best one that the compiler may use is HostLanes.
// All are exact modulo 2^32: none of the instructions saturates.
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

// What all Lanes have: sums of 32 bits, as one vector that the compiler knows.
template <unsigned Columns>
struct LaneSums {
    static constexpr unsigned columns = Columns;
    // g++ ignores the attribute of an alias whose size is a template's parameter.
    typedef std::uint32_t Sums __attribute__((vector_size(4 * Columns)));
    typedef std::int32_t Signed __attribute__((vector_size(4 * Columns)));

    static Sums load_sums(const std::int32_t* place) {
        Sums sums;
        std::memcpy(&sums, place, sizeof sums);
        return sums;
    }
    static void store(std::int32_t* place, Sums sums) { std::memcpy(place, &sums, sizeof sums); }
    // The low 32 - count bits, sign-extended.
    static Sums cut(Sums sums, int count) {
        return reinterpret_cast<Sums>(reinterpret_cast<Signed>(sums << count) >> count);
    }
};

// Products of pairs of 16 bits.
template <unsigned Columns>
struct PairLanes : LaneSums<Columns> {
    using Activation = std::int16_t;
    static constexpr unsigned channels = 2;

  protected:
    static std::int32_t pair(const Activation* place) {
        std::int32_t both;
        std::memcpy(&both, place, sizeof both);
        return both;
    }
};

// Without vector instructions that have a name.
struct PortableLanes : PairLanes<4> {
    static constexpr unsigned block_rows = 2;
    static constexpr const char* name = "portable";
    struct Weights {
        std::int16_t pair[columns][2];
    };
    using Broadcast = const Activation*;

    static Weights load(const unsigned char* place) {
        Weights weights;
        std::memcpy(&weights, place, sizeof weights);
        return weights;
    }
    static Broadcast broadcast(const Activation* place) { return place; }
    static Sums add(Sums sums, Broadcast act, const Weights& weights) {
        for (unsigned column = 0; column < columns; column++) {
            const auto products = act[0] * weights.pair[column][0] + act[1] * weights.pair[column][1];
            sums[column] += static_cast<std::uint32_t>(products);
        }
        return sums;
    }
};

#if defined(__SSE2__)
struct SseLanes : PairLanes<4> {
    static constexpr unsigned block_rows = 4;
    static constexpr const char* name = "sse2";
    using Weights = __m128i;
    using Broadcast = __m128i;

    static Weights load(const unsigned char* place) {
        return _mm_loadu_si128(reinterpret_cast<const __m128i*>(place));
    }
    static Broadcast broadcast(const Activation* place) { return _mm_set1_epi32(pair(place)); }
    static Sums add(Sums sums, Broadcast act, Weights weights) {
        return sums + reinterpret_cast<Sums>(_mm_madd_epi16(act, weights));
    }
};
#endif

#if defined(__AVX2__)
struct Avx2Lanes : PairLanes<8> {
    static constexpr unsigned block_rows = 4;
    static constexpr const char* name = "avx2";
    using Weights = __m256i;
    using Broadcast = __m256i;

    static Weights load(const unsigned char* place) {
        return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(place));
    }
    static Broadcast broadcast(const Activation* place) { return _mm256_set1_epi32(pair(place)); }
    static Sums add(Sums sums, Broadcast act, Weights weights) {
        return sums + reinterpret_cast<Sums>(_mm256_madd_epi16(act, weights));
    }
};
#endif

#if defined(__AVX512VNNI__) && defined(__AVX512F__)
struct VnniLanes : LaneSums<16> {
    using Activation = std::uint8_t;
    static constexpr unsigned channels = 4;
    static constexpr unsigned block_rows = 8;
    static constexpr const char* name = "avx512vnni";
    using Weights = __m512i;
    using Broadcast = __m512i;

    static Weights load(const unsigned char* place) { return _mm512_loadu_si512(place); }
    static Broadcast broadcast(const Activation* place) {
        std::int32_t group;
        std::memcpy(&group, place, sizeof group);
        return _mm512_set1_epi32(group);
    }
    static Sums add(Sums sums, Broadcast act, Weights weights) {
        return reinterpret_cast<Sums>(_mm512_dpbusd_epi32(reinterpret_cast<__m512i>(sums), act, weights));
    }
};
using HostLanes = VnniLanes;
#elif defined(__AVX2__)
using HostLanes = Avx2Lanes;
#elif defined(__SSE2__)
using HostLanes = SseLanes;
#else
using HostLanes = PortableLanes;
#endif

}  // namespace

}  // namespace hetfab
