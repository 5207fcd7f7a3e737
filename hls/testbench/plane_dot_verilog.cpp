// SPDX-License-Identifier: Apache-2.0
// Compares hls/verilog/plane_dot.v with plane_dot.hpp, step by step, with a clock enable that comes and goes
// and a reset on the way. LANES, SLICE and LEVELS are the module's parameters.
#include <cstring>
#include <deque>

#include "hetfab/plane_dot.hpp"
#include "verilog_clock.hpp"

namespace {

using Z = hetfab::Native;
constexpr int steps = 12000;
constexpr int reset_at = 6000;
constexpr int latency = 3 + LEVELS;
constexpr int acc_bits = 24;

using Slices = hetfab::Word<Z, LANES * SLICE>;

struct Planes {
    int left = 0;
    bool bipolar = false;
    bool first = false;
};

hetfab::PlaneControl next_control(hetfab::VerilogClock& clock, Planes& planes) {
    planes.first = planes.left == 0;
    if (planes.first) {
        planes.bipolar = clock.dice() % 4 == 0;
        planes.left = planes.bipolar ? 1 : 1 + static_cast<int>(clock.dice() % 8);
    }
    // Only a sign plane keeps 8 planes within 17 bits.
    const bool may_be_positive = planes.left < 8 && clock.dice() % 4 == 0;
    const bool negative = planes.first && !planes.bipolar && !may_be_positive;
    planes.left--;
    const bool last = planes.left == 0;
    const unsigned fold = clock.dice() % 4;
    return {planes.bipolar, negative, last, last && fold == 0, last && fold == 1};
}

void reset(hetfab::VerilogClock& clock) {
    clock.dut.ap_rst = 1;
    clock.dut.ap_ce = 1;
    clock.dut.last = 0;
    for (int i = 0; i < latency; i++) clock.tick();
    clock.dut.ap_rst = 0;
}

void run() {
    hetfab::VerilogClock clock(1);
    hetfab::PlaneState<Z, acc_bits> state;
    Planes planes;
    std::deque<long long> expected(latency - 1, 0);
    reset(clock);
    for (int step = 0; step < steps; step++) {
        if (step == reset_at) {
            reset(clock);
            state = {};
            planes = {};
            expected.assign(latency - 1, 0);
        }
        Slices slices;
        for (unsigned i = 0; i < sizeof(slices) / 4; i++) {
            const std::uint32_t word = clock.word();
            std::memcpy(slices.bytes + 4 * i, &word, 4);
        }
        std::uint64_t plane = clock.word();
        if (LANES > 32) plane |= static_cast<std::uint64_t>(clock.word()) << 32;
        const hetfab::PlaneControl control = next_control(clock, planes);

        std::memcpy(&clock.dut.slices, slices.bytes, sizeof(slices));
        clock.dut.plane = static_cast<hetfab::U<Z, LANES>>(plane);
        clock.dut.bipolar = control.bipolar;
        clock.dut.negative = control.negative;
        clock.dut.last = control.last;
        clock.dut.clear = control.clear;
        clock.dut.next_slice = control.next_slice;

        hetfab::plane_dot_step<Z, LANES, SLICE>(state, slices, static_cast<hetfab::U<Z, LANES>>(plane),
                                                control);
        expected.push_back(state.outer);
        while (!clock.edge()) {
        }
        const auto outer = static_cast<long long>(hetfab::wrap<Z, acc_bits>(clock.dut.outer));
        hetfab::expect("outer", step, outer, expected.front());
        expected.pop_front();
    }
}

}  // namespace

int main() {
    run();
    std::printf("%d\n", steps);
    return 0;
}
