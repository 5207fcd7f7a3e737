// SPDX-License-Identifier: Apache-2.0
// Right shifts that round half to even and limit (docs/arithmetic.md). All lanes shift by the same distance,
// so what depends on it alone is made once; a lane has one shifter, as wide as its result.
#pragma once

#include "ints.hpp"

namespace hetfab {

// A distance, and masks of the bits that it cuts off below the half and of those that a result of Out bits
// lacks.
template <class Z, int Out>
struct Distance {
    U<Z, 6> shift;
    S<Z, 64> below;
    S<Z, 64> beyond;

    explicit Distance(const U<Z, 6>& by) : shift(by) {
#pragma HLS INLINE
        const S<Z, 64> one = 1;
        below = by == 0 ? S<Z, 64>(0) : S<Z, 64>((one << (by - 1)) - 1);
        // Values have fewer bits than 62.
        beyond = by > 62 - Out ? S<Z, 64>(0) : S<Z, 64>(~((one << (by + Out)) - 1));
    }
};

// The low Width bits of value * 2^-shift, by three choices among four: two bits of the distance each, of no
// more bits than the choices behind them take.
template <class Z, int Width>
S<Z, Width> shifted_bits(const S<Z, 64>& value, const U<Z, 6>& shift) {
#pragma HLS INLINE
    const auto distance = static_cast<unsigned>(shift);
    const S<Z, Width + 15> coarse = wrap<Z, Width + 15>(S<Z, 64>(value >> (distance & 48)));
    const S<Z, Width + 3> fine = wrap<Z, Width + 3>(S<Z, Width + 15>(coarse >> (distance & 12)));
    return wrap<Z, Width>(S<Z, Width + 3>(fine >> (distance & 3)));
}

// value * 2^-shift rounded half to even, or up where half_up, and limited to Out bits; the value has at
// most 50.
template <class Z, int Out, class Value>
S<Z, Out> shifted(const Value& value, const Distance<Z, Out>& by, bool half_up = false) {
#pragma HLS INLINE
    const S<Z, 64> wide = value;
    // The floor, and below it the bit of weight one half.
    const S<Z, Out + 2> halves = shifted_bits<Z, Out + 2>(S<Z, 64>(wide << 1), by.shift);
    const bool rest = half_up || (wide & by.below) != 0;
    const bool raised = bit_of<Z>(halves, 0) && (rest || bit_of<Z>(halves, 1));
    const S<Z, Out + 1> floor = wrap<Z, Out + 1>(S<Z, Out + 2>(halves >> 1));
    const S<Z, Out> rounded = saturate<Z, Out>(sum<Z, Out + 2>(floor, U<Z, 1>(raised ? 1 : 0)));
    const auto magnitude = S<Z, 64>(wide < 0 ? S<Z, 64>(~wide) : wide);
    if ((magnitude & by.beyond) == 0) return rounded;
    return wide < 0 ? S<Z, Out>(-(1 << (Out - 1))) : S<Z, Out>((1 << (Out - 1)) - 1);
}

// A sum with its bias; both wrap.
template <class Z>
S<Z, 32> biased_sum(const S<Z, 32>& acc, const S<Z, 32>& bias) {
#pragma HLS INLINE
    return wrap<Z, 32>(sum<Z, 33>(acc, bias));
}

// A biased sum times its channel's factor: the value that a requantization shifts.
template <class Z>
S<Z, 50> scaled_sum(const S<Z, 32>& biased, const U<Z, 17>& factor) {
#pragma HLS INLINE
    return product<Z, 50>(biased, factor);
}

}  // namespace hetfab
