// SPDX-License-Identifier: Apache-2.0
// What the black boxes compute, for C simulation: C synthesis takes the Verilog instead.
#include "hetfab/plane_boxes.hpp"

namespace {

// The first sum is that of three ternary adders of three pairs, the second that of what is left.
constexpr int first_lanes = 18;
constexpr int lanes = 32;
constexpr int slice_bits = 4;

ap_uint<9> sum_of(const ap_uint<128>& slices, const ap_uint<32>& plane, bool bipolar, int begin, int end) {
    ap_uint<9> total = 0;
    for (int lane = begin; lane < end; lane++) {
        const ap_uint<4> activation = slices.range(slice_bits * lane + slice_bits - 1, slice_bits * lane);
        const ap_uint<4> otherwise = bipolar ? ap_uint<4>(~activation) : ap_uint<4>(0);
        total += plane[lane] ? activation : otherwise;
    }
    return total;
}

}  // namespace

ap_uint<18> plane_sums_box(ap_uint<128> slices, ap_uint<32> plane, ap_uint<1> bipolar) {
    const ap_uint<9> first = sum_of(slices, plane, bipolar != 0, 0, first_lanes);
    const ap_uint<9> second = sum_of(slices, plane, bipolar != 0, first_lanes, lanes);
    return (second, first);
}

ap_uint<34> plane_accumulate_box(ap_uint<17> inner, ap_uint<18> sums, ap_uint<1> negative, ap_uint<1> last) {
    const ap_uint<17> added = sums.range(8, 0) + sums.range(17, 9);
    const ap_uint<17> twice = inner << 1;
    const ap_uint<17> word = negative != 0 ? ap_uint<17>(twice - added) : ap_uint<17>(twice + added);
    const ap_uint<17> restarted = last != 0 ? ap_uint<17>(0) : word;
    return (word, restarted);
}
