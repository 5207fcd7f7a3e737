// SPDX-License-Identifier: Apache-2.0
// Compares the packed product of GEMM-D with plain products for every pair of int8 weights and every signed
// or unsigned 8-bit activation; prints how many it tried, or the first that differs.
#include <cstdio>

#include "hetfab/ints.hpp"

int main() {
    long tried = 0;
    for (int a = -128; a < 256; a++) {
        for (int low = -128; low < 128; low++) {
            for (int high = -128; high < 128; high++) {
                ap_int<17> low_product;
                ap_int<17> high_product;
                hetfab::product_pair<hetfab::Ap>(a, low, high, low_product, high_product);
                if (low_product != a * low || high_product != a * high) {
                    std::printf("%d * (%d, %d) is wrong\n", a, low, high);
                    return 1;
                }
                tried++;
            }
        }
    }
    std::printf("%ld\n", tried);
    return 0;
}
