// SPDX-License-Identifier: Apache-2.0
// The mapped form of GEMM-L's processing element: plane_dot_step with two Vitis HLS black boxes, in C
// synthesis the Verilog of hls/verilog, in C simulation hls/verilog/plane_boxes.cpp. For ap_int only. Both
// boxes have interval 1. plane_accumulate_box has latency 1, so the loop around a step keeps interval 1:
// `inner` leaves its register and enters the box again.
#pragma once

#include "plane_dot.hpp"

// The sums of lanes 0..17, in the low 9 bits, and 18..31.
ap_uint<18> plane_sums_box(ap_uint<128> slices, ap_uint<32> plane, ap_uint<1> bipolar);
// The word after this plane, in the high 17 bits, and what the next plane starts from.
ap_uint<34> plane_accumulate_box(ap_uint<17> inner, ap_uint<18> sums, ap_uint<1> negative, ap_uint<1> last);

namespace hetfab {

template <int AccBits>
void mapped_plane_dot_step(PlaneState<Ap, AccBits>& state, const ap_uint<128>& slices,
                           const ap_uint<32>& plane, const PlaneControl& control) {
#pragma HLS INLINE
    const ap_uint<18> sums = plane_sums_box(slices, plane, control.bipolar);
    const ap_uint<34> words =
        plane_accumulate_box(ap_uint<17>(state.inner), sums, control.negative, control.last);
    state.inner = ap_int<17>(words.range(16, 0));
    if (control.last)
        state.outer = fold_word<Ap, 4, AccBits>(state.outer, ap_int<17>(words.range(33, 17)), control);
}

}  // namespace hetfab
