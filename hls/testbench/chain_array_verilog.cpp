// SPDX-License-Identifier: Apache-2.0
// Compares hls/verilog/chain_array.v with sums of products: int8 and int4, activations with and without their
// top bit inverted, narrow weights. ROWS and COLS are the module's parameters.
#include <array>
#include <cstring>
#include <vector>

#include "hetfab/ints.hpp"
#include "verilog_clock.hpp"

namespace {

constexpr int steps = 5000;
constexpr int half_latency = 7;
constexpr int latency = 11;

struct Step {
    std::array<std::uint32_t, ROWS> activations;
    std::array<std::uint32_t, COLS> weights;
    bool clear;
};

int channel(std::uint32_t operands, int position, int bits) {
    const auto up = static_cast<std::int32_t>(operands << (32 - bits * (position + 1)));
    return up >> (32 - bits);
}

// Weights that would be -2^(bits - 1) become one more.
std::uint32_t narrowed(std::uint32_t weights, int bits) {
    const std::uint32_t lowest = std::uint32_t{1} << (bits - 1);
    for (int position = 0; position < 32 / bits; position++) {
        if (channel(weights, position, bits) == -static_cast<int>(lowest)) weights |= 1U << (bits * position);
    }
    return weights;
}

Step random_step(hetfab::VerilogClock& clock, int bits, bool clear) {
    Step step = {};
    for (auto& word : step.activations) word = clock.word();
    for (auto& word : step.weights) {
        // All bits set is a weight of -1; the extremes are the smallest and the largest.
        const unsigned kind = clock.dice() % 4;
        word = clock.word();
        if (kind == 0) word = bits == 8 ? 0x80808080U : 0x88888888U;
        if (kind == 1) word = bits == 8 ? 0x7f7f7f7fU : 0x77777777U;
        word = narrowed(word, bits);
    }
    step.clear = clear;
    return step;
}

int dot(const Step& step, int row, int col, int bits, bool flip) {
    const std::uint32_t top_bits = bits == 8 ? 0x80808080U : 0x88888888U;
    const std::uint32_t act = step.activations[static_cast<unsigned>(row)] ^ (flip ? top_bits : 0);
    int total = 0;
    for (int position = 0; position < 32 / bits; position++) {
        total +=
            channel(act, position, bits) * channel(step.weights[static_cast<unsigned>(col)], position, bits);
    }
    return total;
}

void run(int bits, bool flip) {
    hetfab::VerilogClock clock(static_cast<unsigned>(2 * bits + flip));
    std::vector<Step> history;
    std::array<std::array<std::int32_t, COLS>, ROWS> sums = {};
    clock.dut.nibbles = bits == 4;
    clock.dut.flip = flip;
    // The registers of the mode settle before the first step.
    clock.dut.ap_ce = 1;
    for (int i = 0; i < 2 * latency; i++) clock.tick();
    for (int number = 0; number < steps; number++) {
        history.push_back(random_step(clock, bits, number == 0 || clock.dice() % 16 == 0));
        std::memcpy(&clock.dut.activations, history.back().activations.data(), 4 * ROWS);
        std::memcpy(&clock.dut.weights, history.back().weights.data(), 4 * COLS);
        const int row_0 = number - (bits == 8 ? half_latency : latency);
        const int row_1 = number - latency;
        const auto clears = [&history](int step) {
            return step >= 0 && history[static_cast<unsigned>(step)].clear ? 1U : 0U;
        };
        clock.dut.clear = static_cast<unsigned char>(clears(row_0) | clears(row_1) << 1);
        while (!clock.edge()) {
        }
        for (int row = 0; row < ROWS; row++) {
            const int arrived = row % 2 == 0 ? row_0 : row_1;
            for (int col = 0; arrived >= 0 && col < COLS; col++) {
                const Step& step = history[static_cast<unsigned>(arrived)];
                auto& sum = sums[static_cast<unsigned>(row)][static_cast<unsigned>(col)];
                sum = (step.clear ? 0 : sum) + dot(step, row, col, bits, flip);
                const auto found = static_cast<std::int32_t>(clock.dut.sums[row * COLS + col]);
                hetfab::expect(bits == 8 ? "int8 sum" : "int4 sum", number, found, sum);
            }
        }
    }
}

}  // namespace

int main() {
    for (const int bits : {8, 4}) {
        for (const bool flip : {false, true}) run(bits, flip);
    }
    std::printf("%d\n", 4 * steps);
    return 0;
}
