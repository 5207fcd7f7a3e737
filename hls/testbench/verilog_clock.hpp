// SPDX-License-Identifier: Apache-2.0
// A verilated module with a clock and a clock enable, driven one edge at a time.
#pragma once

#include <cstdio>
#include <cstdlib>
#include <random>

#include "Vdut.h"
#include "verilated.h"

namespace hetfab {

class VerilogClock {
  public:
    explicit VerilogClock(unsigned seed) : dice(seed) {}

    // A rising edge; returns whether the clock enable was set, which it is seven times out of eight.
    bool edge() {
        dut.ap_ce = dice() % 8 != 0;
        tick();
        return dut.ap_ce != 0;
    }
    void tick() {
        dut.ap_clk = 0;
        dut.eval();
        dut.ap_clk = 1;
        dut.eval();
    }
    // Random bits, or all zeros or all ones, each in one of four calls.
    std::uint32_t word() {
        const std::uint32_t kind = dice() % 4;
        return kind == 0 ? 0 : kind == 1 ? ~std::uint32_t{0} : static_cast<std::uint32_t>(dice());
    }

    VerilatedContext context;
    Vdut dut{&context};
    std::mt19937 dice;
};

// Ends the program at the first difference.
inline void expect(const char* what, long step, long long found, long long expected) {
    if (found == expected) return;
    std::printf("%s after step %ld is %lld, not %lld\n", what, step, found, expected);
    std::exit(1);
}

}  // namespace hetfab
