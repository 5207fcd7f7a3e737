// SPDX-License-Identifier: Apache-2.0
// Compares hls/verilog/popcount_dot.v, 128 lanes, with its definition.
#include <bitset>
#include <deque>

#include "hetfab/ints.hpp"
#include "verilog_clock.hpp"

namespace {

constexpr int steps = 12000;
constexpr int latency = 2;
constexpr int acc_bits = 24;

void run() {
    hetfab::VerilogClock clock(1);
    std::int32_t outer = 0;
    std::deque<std::int32_t> expected(latency - 1, 0);
    clock.dut.ap_rst = 1;
    clock.dut.ap_ce = 1;
    clock.dut.clear = 1;
    for (int i = 0; i < latency; i++) clock.tick();
    clock.dut.ap_rst = 0;
    for (int step = 0; step < steps; step++) {
        std::int32_t count = 0;
        for (int i = 0; i < 4; i++) {
            clock.dut.act_plane[i] = clock.word();
            clock.dut.weight_plane[i] = clock.word();
            count += static_cast<std::int32_t>(
                std::bitset<32>(clock.dut.act_plane[i] & clock.dut.weight_plane[i]).count());
        }
        clock.dut.negative = clock.dice() % 4 == 0;
        clock.dut.clear = step == 0 || clock.dice() % 16 == 0;
        clock.dut.halve = clock.dice() % 4 == 0;
        const std::int32_t before = clock.dut.clear != 0 ? 0 : clock.dut.halve != 0 ? 2 * outer : outer;
        outer = hetfab::wrap<hetfab::Native, acc_bits>(before + (clock.dut.negative != 0 ? -count : count));
        expected.push_back(outer);
        while (!clock.edge()) {
        }
        const auto found = hetfab::wrap<hetfab::Native, acc_bits>(clock.dut.outer);
        if (step > 0) hetfab::expect("outer", step, found, expected.front());
        expected.pop_front();
    }
}

}  // namespace

int main() {
    run();
    std::printf("%d\n", steps);
    return 0;
}
