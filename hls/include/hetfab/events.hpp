// SPDX-License-Identifier: Apache-2.0
// What kernels tell the run log, a template parameter of every kernel: the emulator listens, hardware does
// not. The counters that hardware has too are in the token.
#pragma once

#include <cstdint>

#include "isa.hpp"

namespace hetfab {

// Hardware: nobody listens.
struct NoEvents {
    void trip(isa::Loop) {}
    void loop(isa::Loop, unsigned) {}
    void loops(isa::Loop, std::uint64_t, std::uint64_t) {}
    void macs(std::uint64_t) {}
    void edges(std::uint64_t) {}
    void misses(std::uint64_t) {}
};

// The emulator: cycles by the loops' trips; bytes and bursts are counted by the port models.
struct CountedEvents {
    std::uint64_t cycles = 0;
    std::uint64_t mac_count = 0;
    std::uint64_t edge_count = 0;
    std::uint64_t miss_count = 0;

    // A trip of a pipelined loop begins.
    void trip(isa::Loop) {}
    // A pipelined loop takes its interval for each trip and its depth once, if it runs at all.
    void loop(isa::Loop loop, unsigned trips) {
        if (trips == 0) return;
        cycles += std::uint64_t{trips} * static_cast<unsigned>(loop.ii) + static_cast<unsigned>(loop.depth);
    }
    // The same for many runs of a loop, of so many trips together and one at least in each.
    void loops(isa::Loop loop, std::uint64_t trips, std::uint64_t runs) {
        cycles += trips * static_cast<unsigned>(loop.ii) + runs * static_cast<unsigned>(loop.depth);
    }
    void macs(std::uint64_t count) { mac_count += count; }
    void edges(std::uint64_t count) { edge_count += count; }
    void misses(std::uint64_t count) { miss_count += count; }
};

}  // namespace hetfab
