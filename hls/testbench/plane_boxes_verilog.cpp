// SPDX-License-Identifier: Apache-2.0
// Compares a black box of hls/verilog/plane_boxes.v with its model in C++: the results as many enabled edges
// after the operands as its latency, and the handshake. HETFAB_SUMS selects plane_sums_box, else it is
// plane_accumulate_box.
#include <deque>

#include "hetfab/plane_boxes.hpp"
#include "verilog_clock.hpp"

namespace {

constexpr int steps = 12000;

struct Expected {
    std::uint64_t result;
    int started;
};

#ifdef HETFAB_SUMS
constexpr int latency = 3;

// Drives the operands and returns what the model makes of them.
std::uint64_t drive(hetfab::VerilogClock& clock) {
    ap_uint<128> slices = 0;
    for (int i = 0; i < 4; i++) {
        clock.dut.slices[i] = clock.word();
        slices.range(32 * i + 31, 32 * i) = clock.dut.slices[i];
    }
    clock.dut.plane = clock.word();
    clock.dut.bipolar = clock.dice() % 2;
    return plane_sums_box(slices, clock.dut.plane, clock.dut.bipolar).to_uint64();
}
#else
constexpr int latency = 1;

// Drives the operands and returns what the model makes of them.
std::uint64_t drive(hetfab::VerilogClock& clock) {
    clock.dut.inner = clock.word() & 0x1ffff;
    clock.dut.sums = clock.word() & 0x3ffff;
    clock.dut.negative = clock.dice() % 2;
    clock.dut.last = clock.dice() % 2;
    return plane_accumulate_box(clock.dut.inner, clock.dut.sums, clock.dut.negative, clock.dut.last)
        .to_uint64();
}
#endif

}  // namespace

int main() {
    hetfab::VerilogClock clock(1);
    std::deque<Expected> expected;
    for (int step = 0; step < steps; step++) {
        const std::uint64_t result = drive(clock);
        clock.dut.ap_start = clock.dice() % 2;
        expected.push_back({result, clock.dut.ap_start});
        while (!clock.edge()) {
        }
        if (step + 1 < latency) continue;
        hetfab::expect("ap_return", step, static_cast<long long>(clock.dut.ap_return),
                       static_cast<long long>(expected.front().result));
        hetfab::expect("ap_done", step, clock.dut.ap_done, expected.front().started);
        expected.pop_front();
    }
    std::printf("%d\n", steps);
    return 0;
}
