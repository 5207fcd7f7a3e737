// SPDX-License-Identifier: Apache-2.0
// Compares hls/verilog/attend_quotients.v, of one channel, with hls/include/hetfab/quotients.hpp.
#include <algorithm>
#include <deque>
#include <random>

#include "Vdut.h"
#include "hetfab/quotients.hpp"
#include "verilated.h"

namespace {

using hetfab::Native;

constexpr int steps = 20000;
// From a numerator to its result, and to what is added to it.
constexpr unsigned latency = 19;
constexpr unsigned added_after = 17;
constexpr std::int64_t largest_denominator = std::int64_t{65535} * 4095;

struct Step {
    std::uint32_t before;
    bool accumulate;
    std::uint32_t result;
};

// A numerator at most one away from where a quotient begins.
std::int64_t numerator_of(std::mt19937& dice, std::int64_t denominator, bool is_unsigned) {
    const std::int64_t lowest = is_unsigned ? 0 : -128;
    const std::int64_t quotient = static_cast<std::int64_t>(dice() % (255 * 256 + 1)) + lowest * 256;
    const std::int64_t begins =
        ((2 * quotient - 1) * denominator) / 512 + static_cast<std::int64_t>(dice() % 3) - 1;
    return std::clamp(begins, lowest * denominator, (lowest + 255) * denominator);
}

int run() {
    VerilatedContext context;
    Vdut dut{&context};
    std::mt19937 dice(1);
    std::deque<Step> expected;
    for (int step = 0; step < steps; step++) {
        const std::int64_t sizes[] = {0, 1, dice() % 4096, dice() % largest_denominator, largest_denominator};
        const std::int64_t denominator = sizes[dice() % 5];
        const bool is_unsigned = dice() % 2 != 0;
        const std::int64_t numerator = numerator_of(dice, denominator, is_unsigned);
        const auto stored = hetfab::wrap<Native, hetfab::isa::partial_bits>(numerator);
        const std::int32_t quotient =
            hetfab::attention_q8<Native>(stored, hetfab::divisor_of<Native>(denominator, is_unsigned));
        const auto before = static_cast<std::uint32_t>(dice());
        const bool accumulate = dice() % 2 != 0;
        expected.push_back(
            {before, accumulate, (accumulate ? before : 0) + static_cast<std::uint32_t>(quotient)});

        dut.denominator = static_cast<std::uint32_t>(denominator);
        dut.is_unsigned = is_unsigned;
        dut.numerators = static_cast<std::uint64_t>(numerator) & ((std::uint64_t{1} << 36) - 1);
        if (expected.size() > added_after) {
            const Step& adding = expected[expected.size() - 1 - added_after];
            dut.sum = adding.before;
            dut.accumulate = adding.accumulate;
        }
        dut.clk = 0;
        dut.eval();
        dut.clk = 1;
        dut.eval();
        if (expected.size() == latency) {
            if (dut.results != expected.front().result) {
                std::printf("the result of step %d is %u, not %u\n", step + 1 - static_cast<int>(latency),
                            dut.results, expected.front().result);
                return 1;
            }
            expected.pop_front();
        }
    }
    std::printf("%d\n", steps);
    return 0;
}

}  // namespace

int main() { return run(); }
