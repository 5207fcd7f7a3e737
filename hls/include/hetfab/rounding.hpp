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

// value * 2^-shift rounded half to even, or up where half_up, and limited to Out bits; the value has at
// most 50.
template <class Z, int Out, class Value>
S<Z, Out> shifted(const Value& value, const Distance<Z, Out>& by, bool half_up = false) {
#pragma HLS INLINE
    const S<Z, 64> wide = value;
    // The floor, and the bit of weight one half below it.
    const auto halves = S<Z, 64>(S<Z, 64>(wide << 1) >> by.shift);
    const bool half = bit_of<Z>(halves, 0);
    const bool rest = (wide & by.below) != 0;
    const auto magnitude = S<Z, 64>(wide < 0 ? S<Z, 64>(~wide) : wide);
    const S<Z, Out + 2> floor = wrap<Z, Out + 2>(S<Z, 64>(halves >> 1));
    const bool raised = half && (half_up || rest || bit_of<Z>(floor, 0));
    const S<Z, Out> rounded = saturate<Z, Out>(sum<Z, Out + 3>(floor, U<Z, 1>(raised ? 1 : 0)));
    if ((magnitude & by.beyond) == 0) return rounded;
    return wide < 0 ? S<Z, Out>(-(1 << (Out - 1))) : S<Z, Out>((1 << (Out - 1)) - 1);
}

}  // namespace hetfab
