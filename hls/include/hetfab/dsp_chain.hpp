// SPDX-License-Identifier: Apache-2.0
#pragma once
#include "ints.hpp"
namespace hetfab {
template <class D, class Z>
void dsp_chain(const U<Z, 32> (&act)[2], const U<Z, 32> (&weight)[2], bool packed, bool is_unsigned,
               S<Z, 32> (&sums)[2][2]) {
    for (int r = 0; r < 2; r++)
        for (int c = 0; c < 2; c++) {
            int total = 0;
            const int bits = packed ? 4 : 8;
            const int half = 1 << (bits - 1), mask = 2 * half - 1;
            for (int k = 0; k < 32 / bits; k++) {
                int a = static_cast<int>(static_cast<std::uint32_t>(act[r]) >> (bits * k)) & mask;
                int w = static_cast<int>(static_cast<std::uint32_t>(weight[c]) >> (bits * k)) & mask;
                if (!is_unsigned) a ^= half;
                total += (a - half) * ((w ^ half) - half);
            }
            sums[r][c] = total;
        }
}
}  // namespace hetfab
