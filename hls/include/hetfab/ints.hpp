// SPDX-License-Identifier: Apache-2.0
// Integer families: one kernel source for native integers and for ap_int. `wrap` and `saturate` are the only
// narrowing operations; `sum` and `product` are exact in the width that they name.
// The family of ap_int is C++11, which is what projects of hls4ml are compiled as; the rest is C++17.
#pragma once

#include <cstdint>
#include <cstring>
#include <type_traits>

#ifdef HETFAB_DEBUG
#include <stdexcept>
#include <string>
#endif

#ifdef HETFAB_AP_INT
#include "ap_int.h"
#endif

namespace hetfab {

#if __cplusplus >= 201703L
// The smallest native integer that holds `Bits` bits.
template <int Bits, bool Signed>
using NativeInteger = std::conditional_t<
    (Bits <= 8), std::conditional_t<Signed, std::int8_t, std::uint8_t>,
    std::conditional_t<
        (Bits <= 16), std::conditional_t<Signed, std::int16_t, std::uint16_t>,
        std::conditional_t<(Bits <= 32), std::conditional_t<Signed, std::int32_t, std::uint32_t>,
                           std::conditional_t<Signed, std::int64_t, std::uint64_t>>>>;

#ifdef HETFAB_DEBUG
// A native integer that stops at a value outside `Bits` bits: the integers of debug builds.
template <int Bits, bool Signed>
class CheckedInteger {
  public:
    using Wide = std::conditional_t<Signed, std::int64_t, std::uint64_t>;
    static_assert(Bits >= 1 && Bits <= (Signed ? 64 : 63), "a checked integer is computed in 64 bits");
    static constexpr bool is_signed = Signed;

    constexpr CheckedInteger() = default;
    template <class Value, class = std::enable_if_t<std::is_integral_v<Value>>>
    constexpr CheckedInteger(Value value) : value_(static_cast<Stored>(value)) {
        if (static_cast<std::int64_t>(value) != static_cast<std::int64_t>(value_) || !fits(value_)) {
            throw std::range_error(std::to_string(value) + " does not fit " + std::to_string(Bits) +
                                   (Signed ? " signed bits" : " unsigned bits"));
        }
    }
    template <int OtherBits, bool OtherSigned>
    constexpr CheckedInteger(CheckedInteger<OtherBits, OtherSigned> other)
        : CheckedInteger(static_cast<typename CheckedInteger<OtherBits, OtherSigned>::Wide>(other)) {}
    constexpr operator Wide() const { return value_; }

  private:
    using Stored = NativeInteger<Bits, Signed>;
    static constexpr bool fits(Stored value) {
        const auto rest = static_cast<std::int64_t>(value) >> (Signed ? Bits - 1 : Bits);
        return rest == 0 || (Signed && rest == -1);
    }
    Stored value_ = 0;
};
#endif

// A word of a memory or a bus in native builds: bytes, lowest first, as ap_uint holds its bits.
template <int Bits>
struct alignas(Bits / 8) WordBytes {
    static_assert(Bits % 32 == 0, "words are whole beats of 64 bits, or half a beat");
    unsigned char bytes[Bits / 8];
};

struct Native {
    // A family that derives from this one multiplies as this one does (dsp_chain.hpp).
    using Multiplier = Native;

#ifdef HETFAB_DEBUG
    template <int Bits>
    using s = CheckedInteger<Bits, true>;
    template <int Bits>
    using u = CheckedInteger<Bits, false>;
#else
    template <int Bits>
    using s = NativeInteger<Bits, true>;
    template <int Bits>
    using u = NativeInteger<Bits, false>;
#endif
    template <int Bits>
    using word = WordBytes<Bits>;

    template <int Bits>
    static constexpr bool exact_word = sizeof(word<Bits>) * 8 == Bits;
    template <int Bits>
    static constexpr bool exact_integer = sizeof(NativeInteger<Bits, true>) * 8 == Bits;

    template <int Bits>
    static word<Bits> zero() {
        return word<Bits>{};
    }

    // A field of an instruction; fields never straddle bit 64.
    template <class Field, int Bits>
    static u<Field::bits> get(const WordBytes<Bits>& word) {
        static_assert(Field::lsb / 64 == (Field::lsb + Field::bits - 1) / 64, "a field straddles bit 64");
        std::uint64_t half;
        std::memcpy(&half, word.bytes + Field::lsb / 64 * 8, 8);
        return static_cast<NativeInteger<Field::bits, false>>(half >> (Field::lsb % 64) &
                                                              mask<Field::bits>());
    }

    template <class Field, int Bits, class Value>
    static void set(WordBytes<Bits>& word, Value value) {
        check_fits<Field::bits, false>(value);
        std::uint64_t half;
        std::memcpy(&half, word.bytes + Field::lsb / 64 * 8, 8);
        half &= ~(mask<Field::bits>() << (Field::lsb % 64));
        half |= (static_cast<std::uint64_t>(value) & mask<Field::bits>()) << (Field::lsb % 64);
        std::memcpy(word.bytes + Field::lsb / 64 * 8, &half, 8);
    }

    template <int Width, int Bits>
    static s<Width> lane_s(const WordBytes<Bits>& word, unsigned position) {
        return stored_lane<NativeInteger<Width, true>, Width>(word, position);
    }
    template <int Width, int Bits>
    static u<Width> lane_u(const WordBytes<Bits>& word, unsigned position) {
        return stored_lane<NativeInteger<Width, false>, Width>(word, position);
    }

    // A lane of a part of a byte.
    template <int Width, int Bits>
    static u<Width> slice_of(const WordBytes<Bits>& word, unsigned position) {
        static_assert(8 % Width == 0, "a slice does not straddle bytes");
        const unsigned byte = word.bytes[position * Width / 8];
        return static_cast<NativeInteger<Width, false>>(byte >> position * Width % 8 & mask<Width>());
    }
    template <class Value>
    static bool bit_of(Value value, unsigned position) {
        return (static_cast<std::uint64_t>(value) >> position & 1) != 0;
    }

    template <int Width, int Bits, class Value>
    static void set_lane(WordBytes<Bits>& word, unsigned position, Value value) {
        static_assert(Width == 8 || Width == 16 || Width == 32, "lanes are whole native integers");
        check_fits<Width, is_signed<Value>()>(value);
        const auto lane = static_cast<NativeInteger<Width, true>>(value);
        std::memcpy(word.bytes + position * (Width / 8), &lane, Width / 8);
    }
    template <int Bits>
    static void set_beat(WordBytes<Bits>& word, unsigned position, const WordBytes<64>& beat) {
        std::memcpy(word.bytes + position * 8, beat.bytes, 8);
    }
    template <int Bits>
    static WordBytes<64> beat(const WordBytes<Bits>& word, unsigned position) {
        WordBytes<64> beat;
        std::memcpy(beat.bytes, word.bytes + position * 8, 8);
        return beat;
    }

    template <int Width, class A, class B>
    static s<Width> sum(A a, B b) {
        return exact<Width>(wide(a) + wide(b));
    }
    template <int Width, class A, class B>
    static s<Width> product(A a, B b) {
        return exact<Width>(wide(a) * wide(b));
    }
    template <int Width, class Value>
    static s<Width> wrap(Value value) {
        if constexpr (Width == 8 * sizeof(NativeInteger<Width, true>)) {
            return static_cast<NativeInteger<Width, true>>(wide(value));
        } else {
            const auto bits = static_cast<std::uint64_t>(wide(value)) << (64 - Width);
            return static_cast<NativeInteger<Width, true>>(static_cast<std::int64_t>(bits) >> (64 - Width));
        }
    }
    template <int Width, class Value>
    static s<Width> saturate(Value value) {
        constexpr std::int64_t largest = (std::int64_t{1} << (Width - 1)) - 1;
        return static_cast<NativeInteger<Width, true>>(limit(wide(value), -largest - 1, largest));
    }

  private:
    // Debug builds stop at a value that a field or a lane would cut; the other ones cut it, as hardware does.
    template <int Width, bool Signed, class Value>
    static void check_fits([[maybe_unused]] Value value) {
#ifdef HETFAB_DEBUG
        const std::int64_t rest = wide(value) >> (Signed ? Width - 1 : Width);
        if (rest != 0 && !(Signed && rest == -1)) {
            throw std::range_error(std::to_string(wide(value)) + " does not fit " + std::to_string(Width) +
                                   (Signed ? " signed bits" : " unsigned bits"));
        }
#endif
    }
    template <class Value>
    static constexpr bool is_signed() {
        if constexpr (std::is_integral_v<Value>) {
            return std::is_signed_v<Value>;
        } else {
            return Value::is_signed;
        }
    }
    template <int Width>
    static constexpr std::uint64_t mask() {
        return Width == 64 ? ~std::uint64_t{0} : (std::uint64_t{1} << Width % 64) - 1;
    }
    template <class Value>
    static constexpr std::int64_t wide(Value value) {
        return static_cast<std::int64_t>(value);
    }
    static constexpr std::int64_t limit(std::int64_t value, std::int64_t smallest, std::int64_t largest) {
        return value < smallest ? smallest : value > largest ? largest : value;
    }
    template <int Width>
    static s<Width> exact(std::int64_t value) {
#ifdef HETFAB_DEBUG
        return s<Width>(value);
#else
        return static_cast<s<Width>>(value);
#endif
    }
    template <class Stored, int Width, int Bits>
    static Stored stored_lane(const WordBytes<Bits>& word, unsigned position) {
        static_assert(Width == 8 || Width == 16 || Width == 32, "lanes are whole native integers");
        Stored lane;
        std::memcpy(&lane, word.bytes + position * (Width / 8), Width / 8);
        return lane;
    }
};

template <int Bits>
void read_bytes(WordBytes<Bits>& word, const unsigned char* bytes) {
    std::memcpy(word.bytes, bytes, Bits / 8);
}
template <int Bits>
void write_bytes(const WordBytes<Bits>& word, unsigned char* bytes) {
    std::memcpy(bytes, word.bytes, Bits / 8);
}
template <int Bits>
constexpr unsigned bytes_of(const WordBytes<Bits>*) {
    return Bits / 8;
}
#endif

#ifdef HETFAB_AP_INT
struct Ap {
    using Multiplier = Ap;

    template <int Bits>
    using s = ap_int<Bits>;
    template <int Bits>
    using u = ap_uint<Bits>;
    template <int Bits>
    using word = ap_uint<Bits>;

#if __cplusplus >= 201703L
    template <int Bits>
    static constexpr bool exact_word = ap_uint<Bits>::width == Bits;
    template <int Bits>
    static constexpr bool exact_integer = ap_int<Bits>::width == Bits;
#endif

    template <int Bits>
    static ap_uint<Bits> zero() {
        return ap_uint<Bits>(0);
    }
    template <class Field, int Bits>
    static ap_uint<Field::bits> get(const ap_uint<Bits>& word) {
        return word.range(Field::lsb + Field::bits - 1, Field::lsb);
    }
    template <class Field, int Bits, class Value>
    static void set(ap_uint<Bits>& word, const Value& value) {
        word.range(Field::lsb + Field::bits - 1, Field::lsb) = ap_uint<Field::bits>(value);
    }
    template <int Width, int Bits>
    static ap_int<Width> lane_s(const ap_uint<Bits>& word, unsigned position) {
        return ap_int<Width>(lane_u<Width>(word, position));
    }
    template <int Width, int Bits>
    static ap_uint<Width> lane_u(const ap_uint<Bits>& word, unsigned position) {
        const int low = static_cast<int>(position) * Width;
        return word.range(low + Width - 1, low);
    }
    template <int Width, int Bits>
    static ap_uint<Width> slice_of(const ap_uint<Bits>& word, unsigned position) {
        return lane_u<Width>(word, position);
    }
    template <class Value>
    static bool bit_of(const Value& value, unsigned position) {
        return value[static_cast<int>(position)];
    }
    template <int Width, int Bits, class Value>
    static void set_lane(ap_uint<Bits>& word, unsigned position, const Value& value) {
        const int low = static_cast<int>(position) * Width;
        word.range(low + Width - 1, low) = ap_uint<Width>(value);
    }
    template <int Bits>
    static void set_beat(ap_uint<Bits>& word, unsigned position, const ap_uint<64>& beat) {
        set_lane<64>(word, position, beat);
    }
    template <int Bits>
    static ap_uint<64> beat(const ap_uint<Bits>& word, unsigned position) {
        return lane_u<64>(word, position);
    }
    template <int Width, class A, class B>
    static ap_int<Width> sum(const A& a, const B& b) {
        return ap_int<Width>(a + b);
    }
    template <int Width, class A, class B>
    static ap_int<Width> product(const A& a, const B& b) {
        return ap_int<Width>(a * b);
    }
    template <int Width, class Value>
    static ap_int<Width> wrap(const Value& value) {
        return ap_int<Width>(value);
    }
    template <int Width, class Value>
    static ap_int<Width> saturate(const Value& value) {
        const ap_int<64> wide = value;
        const auto largest = ap_int<64>((ap_int<64>(1) << (Width - 1)) - 1);
        const auto smallest = ap_int<64>(-largest - 1);
        return ap_int<Width>(wide < smallest ? smallest : wide > largest ? largest : wide);
    }
};

template <int Bits>
void read_bytes(ap_uint<Bits>& word, const unsigned char* bytes) {
    static_assert(Bits % 32 == 0, "words are whole beats of 64 bits, or half a beat");
    for (int half = 0; half < Bits / 32; half++) {
        std::uint32_t value;
        std::memcpy(&value, bytes + 4 * half, 4);
        word.range(32 * half + 31, 32 * half) = value;
    }
}
template <int Bits>
void write_bytes(const ap_uint<Bits>& word, unsigned char* bytes) {
    for (int half = 0; half < Bits / 32; half++) {
        const std::uint32_t value = word.range(32 * half + 31, 32 * half).to_uint();
        std::memcpy(bytes + 4 * half, &value, 4);
    }
}
template <int Bits>
constexpr unsigned bytes_of(const ap_uint<Bits>*) {
    return Bits / 8;
}
#endif

// The family's types and operations without `typename` and `template` at every use.
template <class Z, int Bits>
using S = typename Z::template s<Bits>;
template <class Z, int Bits>
using U = typename Z::template u<Bits>;
template <class Z, int Bits>
using Word = typename Z::template word<Bits>;

template <class Z, int Bits>
Word<Z, Bits> zero() {
#pragma HLS INLINE
    return Z::template zero<Bits>();
}
template <class Z, class Field, class W>
U<Z, Field::bits> get(const W& word) {
#pragma HLS INLINE
    return Z::template get<Field>(word);
}
// A field as a loop bound or a RAM index.
template <class Z, class Field, class W>
unsigned number(const W& word) {
#pragma HLS INLINE
    static_assert(Field::bits <= 32, "a number has at most 32 bits");
    return static_cast<unsigned>(Z::template get<Field>(word));
}
template <class Z, class Field, class W>
bool flag(const W& word) {
#pragma HLS INLINE
    static_assert(Field::bits == 1, "a flag is one bit");
    return Z::template get<Field>(word) != 0;
}
template <class Z, int Width, class W>
S<Z, Width> lane_s(const W& word, unsigned position) {
#pragma HLS INLINE
    return Z::template lane_s<Width>(word, position);
}
template <class Z, int Width, class W>
U<Z, Width> lane_u(const W& word, unsigned position) {
#pragma HLS INLINE
    return Z::template lane_u<Width>(word, position);
}
// A lane of fewer than 8 bits, as of nibbles.
template <class Z, int Width, class W>
U<Z, Width> slice_of(const W& word, unsigned position) {
#pragma HLS INLINE
    return Z::template slice_of<Width>(word, position);
}
template <class Z, class Value>
bool bit_of(const Value& value, unsigned position) {
#pragma HLS INLINE
    return Z::bit_of(value, position);
}
template <class Z, int Width, class W, class Value>
void set_lane(W& word, unsigned position, const Value& value) {
#pragma HLS INLINE
    Z::template set_lane<Width>(word, position, value);
}
template <class Z, int Width, class A, class B>
S<Z, Width> sum(const A& a, const B& b) {
#pragma HLS INLINE
    return Z::template sum<Width>(a, b);
}
template <class Z, int Width, class A, class B>
S<Z, Width> product(const A& a, const B& b) {
#pragma HLS INLINE
    return Z::template product<Width>(a, b);
}
template <class Z, int Width, class Value>
S<Z, Width> wrap(const Value& value) {
#pragma HLS INLINE
    return Z::template wrap<Width>(value);
}
template <class Z, int Width, class Value>
S<Z, Width> saturate(const Value& value) {
#pragma HLS INLINE
    return Z::template saturate<Width>(value);
}

}  // namespace hetfab
