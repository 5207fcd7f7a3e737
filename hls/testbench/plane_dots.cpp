// SPDX-License-Identifier: Apache-2.0
// Steps of GEMM-L's processing element, called from tests: `outer` after each of them.
// HETFAB_PLANE_BOXES selects the mapped form with its models in C++.
#ifdef HETFAB_PLANE_BOXES
#include "hetfab/plane_boxes.hpp"
#else
#include "hetfab/plane_dot.hpp"
#endif

namespace {

#ifdef HETFAB_AP_INT
using Z = hetfab::Ap;
#else
using Z = hetfab::Native;
#endif

constexpr int lanes = 32;
constexpr int slice_bits = 4;

template <int AccBits>
void run(const unsigned char* slices, const std::uint32_t* planes, const unsigned char* controls, long steps,
         std::int32_t* outer) {
    hetfab::PlaneState<Z, AccBits> state;
    for (long step = 0; step < steps; step++) {
        hetfab::Word<Z, lanes * slice_bits> word;
        hetfab::read_bytes(word, slices + step * lanes * slice_bits / 8);
        const unsigned flags = controls[step];
        const hetfab::PlaneControl control = {(flags & 1) != 0, (flags & 2) != 0, (flags & 4) != 0,
                                              (flags & 8) != 0, (flags & 16) != 0};
        const hetfab::U<Z, lanes> plane = planes[step];
#ifdef HETFAB_PLANE_BOXES
        hetfab::mapped_plane_dot_step(state, word, plane, control);
#else
        hetfab::plane_dot_step<Z, lanes, slice_bits>(state, word, plane, control);
#endif
        outer[step] = static_cast<std::int32_t>(static_cast<std::int64_t>(state.outer));
    }
}

}  // namespace

// Bits of a control byte, lowest first: bipolar, negative, last, clear, next_slice.
extern "C" void plane_dots_24(const unsigned char* slices, const std::uint32_t* planes,
                              const unsigned char* controls, long steps, std::int32_t* outer) {
    run<24>(slices, planes, controls, steps, outer);
}
extern "C" void plane_dots_32(const unsigned char* slices, const std::uint32_t* planes,
                              const unsigned char* controls, long steps, std::int32_t* outer) {
    run<32>(slices, planes, controls, steps, outer);
}
