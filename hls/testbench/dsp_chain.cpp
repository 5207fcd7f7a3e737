// SPDX-License-Identifier: Apache-2.0
// Runs steps of GEMM-D's chain. It reads records of six 32-bit words (2 rows, 2 columns, nibbles, flip) and
// writes the four int32 sums of each; or, with the argument `constants`, it prints what the chain is built
// with.
//
// Arguments: constants | native SLICE | packed SLICE, where SLICE is dsp48e1 or dsp48e2.
#include "hetfab/dsp_chain.hpp"

#include <cstdint>
#include <cstdio>
#include <exception>
#include <string>

namespace {

template <class Dsp>
void print_constants(const char* name) {
    std::printf("%s %d %d %d\n", name, Dsp::weight_port, Dsp::activation_port, Dsp::sum_port);
    std::printf("8 %d %d\n", Dsp::int8.spacing, Dsp::int8.accumulations);
    std::printf("4 %d %d\n", Dsp::int4.spacing, Dsp::int4.accumulations);
}

template <class Z, class Dsp>
void run_steps() {
    std::uint32_t record[6];
    while (std::fread(record, sizeof record, 1, stdin) == 1) {
        const hetfab::U<Z, 32> act[2] = {record[0], record[1]};
        const hetfab::U<Z, 32> wgt[2] = {record[2], record[3]};
        hetfab::S<Z, hetfab::chain_sum_bits> sums[2][2];
        hetfab::chain_step<Z, Dsp>(act, wgt, record[4] != 0, record[5] != 0, sums);
        const std::int32_t out[4] = {
            static_cast<std::int32_t>(sums[0][0]), static_cast<std::int32_t>(sums[0][1]),
            static_cast<std::int32_t>(sums[1][0]), static_cast<std::int32_t>(sums[1][1])};
        std::fwrite(out, sizeof out, 1, stdout);
    }
}

template <class Z>
void run_on(const std::string& slice) {
    if (slice == "dsp48e1") {
        run_steps<Z, hetfab::Dsp48e1>();
    } else {
        run_steps<Z, hetfab::Dsp48e2>();
    }
}

}  // namespace

int main(int count, char** arguments) {
    const std::string what = count > 1 ? arguments[1] : "";
    if (what == "constants") {
        print_constants<hetfab::Dsp48e1>("dsp48e1");
        print_constants<hetfab::Dsp48e2>("dsp48e2");
        return 0;
    }
    if (count != 3) return 2;
    try {
        if (what == "native") {
            run_on<hetfab::Native>(arguments[2]);
        } else {
            run_on<hetfab::Ap>(arguments[2]);
        }
    } catch (const std::exception& error) {
        std::fprintf(stderr, "%s\n", error.what());
        return 1;
    }
    return 0;
}
