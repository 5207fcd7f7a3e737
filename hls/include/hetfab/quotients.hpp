// SPDX-License-Identifier: Apache-2.0
// The division that ends an attend: weighted means in Q.8, of which hls/verilog/attend_quotients.v counts
// the area.
#pragma once

#include "ints.hpp"
#include "isa.hpp"

namespace hetfab {

// Of signed features from -2^15 on, of unsigned ones from 0 on.
constexpr unsigned q8_quotient_bits = 16;

// What the quotients of a destination's head share: its denominator, weights of 12 bits of 65,535 edges, and
// minus that. `offset` makes 256 numerators round to the nearest, halves up, and centres the quotients of
// unsigned features, which go to 65,280, on 2^15.
template <class Z>
struct Divisor {
    S<Z, 29> plus;
    S<Z, 29> minus;
    S<Z, 44> offset;
    bool is_unsigned;
};

template <class Z>
Divisor<Z> divisor_of(const S<Z, isa::partial_bits>& denominator, bool is_unsigned) {
#pragma HLS INLINE
    const S<Z, 29> plus = wrap<Z, 29>(denominator);
    const S<Z, 64> centre = S<Z, 64>(is_unsigned ? plus : S<Z, 29>(0)) << (q8_quotient_bits - 1);
    return {plus, wrap<Z, 29>(-plus), wrap<Z, 44>(sum<Z, 46>(S<Z, 28>(plus >> 1), S<Z, 46>(-centre))),
            is_unsigned};
}

// floor((512 num + den) / (2 den)), 0 where den is: floor((256 num + floor(den / 2)) / den), bit by bit, not
// restored. A rest is at least -den and below den; a stage doubles it, takes the dividend's next bit, and
// adds the divisor below 0 and subtracts it else. The quotient's bits are where rests are not below 0, the
// highest one's the sign of the centred dividend. Numerators wrap: of 65,535 unsigned features of 255 they
// have 36 bits.
template <class Z>
S<Z, 32> attention_q8(const S<Z, isa::partial_bits>& numerator, const Divisor<Z>& divisor) {
#pragma HLS INLINE
    const S<Z, 44> dividend =
        wrap<Z, 44>(sum<Z, 46>(S<Z, 46>(S<Z, 64>(numerator) << isa::q8_bits), divisor.offset));
    S<Z, 29> rest = wrap<Z, 29>(dividend >> (q8_quotient_bits - 1));
    unsigned quotient = rest < 0 ? 0 : 1;
quotient_stages:
    for (unsigned bit = q8_quotient_bits - 1; bit > 0; bit--) {
#pragma HLS UNROLL factor=q8_quotient_bits-1
        const S<Z, 31> doubled =
            sum<Z, 31>(product<Z, 30>(rest, S<Z, 3>(2)), S<Z, 2>(bit_of<Z>(dividend, bit - 1) ? 1 : 0));
        rest = wrap<Z, 29>(sum<Z, 32>(doubled, rest < 0 ? divisor.plus : divisor.minus));
        quotient = 2 * quotient + (rest < 0 ? 0 : 1);
    }
    const int centre = divisor.is_unsigned ? 0 : 1 << (q8_quotient_bits - 1);
    return divisor.plus == 0 ? S<Z, 32>(0) : S<Z, 32>(static_cast<int>(quotient) - centre);
}

}  // namespace hetfab
