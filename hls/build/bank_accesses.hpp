// SPDX-License-Identifier: Apache-2.0
// How often each trip of each pipelined loop accesses each on-chip memory, recorded in debug builds. A loop
// can start a trip every `ii` cycles only if no trip accesses a memory more often than `ii` times its ports.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <stdexcept>
#include <string>

#include "hetfab/isa.hpp"
#include "sets.hpp"

namespace hetfab {

#ifdef HETFAB_DEBUG
constexpr bool records_accesses = true;
#else
constexpr bool records_accesses = false;
#endif

class BankAccesses {
  public:
    void access(unsigned memory, unsigned bank = 0) {
        if constexpr (records_accesses) in_trip_[memory][bank]++;
    }

    // The accesses from here on belong to a trip of this loop.
    void begin_trip(isa::Loop loop) {
        if constexpr (records_accesses) {
            close_trip();
            current_ = loop.id;
            loops_[loop.id].open_trips++;
        }
    }

    // What follows belongs to the instruction, until another loop begins. An instruction is itself a loop of
    // one trip; its own record is that of the accesses outside of all other loops.
    void end_loop(isa::Loop loop, unsigned trips) {
        if constexpr (records_accesses) {
            close_trip();
            current_ = isa::loops::instruction.id;
            LoopRecord& record = loops_[loop.id];
            if (loop.id == isa::loops::instruction.id) record.open_trips = trips;
            if (record.open_trips != trips) {
                throw std::logic_error(std::string("loop '") + isa::loop_names[loop.id] + "' states " +
                                       std::to_string(trips) + " trips and takes " +
                                       std::to_string(record.open_trips));
            }
            record.trips += trips;
            record.open_trips = 0;
        }
    }

    // What comes next belongs to another instruction.
    void end_instruction() {
        if constexpr (records_accesses) close_trip();
    }

    std::uint64_t trips(unsigned loop) const { return loop < isa::loops::count ? loops_[loop].trips : 0; }

    // The largest number of accesses to a bank of a memory in one trip of a loop.
    unsigned largest(unsigned loop, const std::string& memory) const {
        for (unsigned number = 0; number < memories; number++) {
            if (loop < isa::loops::count && sets::memory_names[number] == memory) {
                return loops_[loop].largest[number];
            }
        }
        return 0;
    }

  private:
    static constexpr unsigned memories = sets::memory::count;

    struct LoopRecord {
        std::uint64_t trips = 0;
        std::uint64_t open_trips = 0;
        std::array<unsigned, memories> largest{};
    };

    void close_trip() {
        for (unsigned memory = 0; memory < memories; memory++) {
            unsigned& largest = loops_[current_].largest[memory];
            largest = std::max(largest, *std::max_element(in_trip_[memory].begin(), in_trip_[memory].end()));
            in_trip_[memory].fill(0);
        }
    }

    // Banks of the activation RAMs are the rows of an array, of which a design has at most these.
    static constexpr unsigned banks = 32;

    std::array<std::array<unsigned, banks>, memories> in_trip_{};
    std::array<LoopRecord, isa::loops::count> loops_;
    unsigned current_ = isa::loops::instruction.id;
};

}  // namespace hetfab
