// SPDX-License-Identifier: Apache-2.0
// Port widths of DSP slices and the packings that GEMM-D's chain uses on them: rows of
// overlay/isa/dsp_packing.json with narrow weights and signed activations. Tests compare the two.
#pragma once

namespace hetfab {

struct Packing {
    int spacing;        // bits from a field of the sum to the next
    int accumulations;  // products whose sum a field holds for all operands
};

struct Dsp48e1 {
    static constexpr int weight_port = 25;
    static constexpr int activation_port = 18;
    static constexpr int sum_port = 48;
    static constexpr Packing int8 = {17, 4};
    static constexpr Packing int4 = {10, 9};
};

struct Dsp48e2 {
    static constexpr int weight_port = 27;
    static constexpr int activation_port = 18;
    static constexpr int sum_port = 48;
    static constexpr Packing int8 = {19, 16};
    static constexpr Packing int4 = {11, 18};
};

}  // namespace hetfab
