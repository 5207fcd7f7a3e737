// SPDX-License-Identifier: Apache-2.0
#pragma once
#include "ints.hpp"
namespace hetfab {
constexpr unsigned plane_lanes = 32;
struct PlaneControl { bool bipolar, negative, first_plane, last_plane, clear, next_slice; };
template <class Z, int AccBits>
struct PlaneDot { S<Z, 17> inner; S<Z, AccBits> outer; };
template <class Z>
Word<Z, 128> offset_slices(const Word<Z, 128>& word, bool flip) {
    Word<Z, 128> out = word;
    for (unsigned i = 0; i < 4; i++) set_lane<Z, 32>(out, i, static_cast<std::int32_t>(static_cast<std::uint32_t>(lane_u<Z, 32>(word, i)) ^ (flip ? 0x88888888U : 0U)));
    return out;
}
template <class Z, int AccBits>
void plane_dot_step(PlaneDot<Z, AccBits>& dot, const Word<Z, 128>& act, const U<Z, 32>& wgt, const PlaneControl& control) {
    int s = 0;
    const std::uint32_t w = static_cast<std::uint32_t>(wgt);
    for (unsigned i = 0; i < 32; i++) {
        const int u = static_cast<int>(static_cast<std::uint32_t>(lane_u<Z, 32>(act, i / 8)) >> (4 * (i % 8))) & 15;
        s += (w >> i & 1) ? u : control.bipolar ? 15 - u : 0;
    }
    dot.inner = wrap<Z, 17>((control.first_plane ? 0 : 2 * static_cast<int>(dot.inner)) + (control.negative ? -s : s));
    if (control.last_plane) {
        const std::int64_t before = control.clear ? 0 : control.next_slice ? 16 * static_cast<std::int64_t>(dot.outer) : static_cast<std::int64_t>(dot.outer);
        dot.outer = wrap<Z, AccBits>(S<Z, 64>(before + static_cast<int>(dot.inner)));
    }
}
}  // namespace hetfab
