// SPDX-License-Identifier: Apache-2.0
// The run log: one record per retired instruction, and the events of kernels that fill it.
#pragma once

#include <cstdint>
#include <vector>

#include "bank_accesses.hpp"
#include "hetfab/counters.hpp"
#include "hetfab/events.hpp"

namespace hetfab {

// One record of the run log; the layout of RUN_LOG_DTYPE.
struct Record {
    std::uint32_t index;
    std::uint8_t engine;
    std::uint8_t opcode;
    std::uint16_t layer;
    RunLogCounts counts;
};
static_assert(sizeof(Record) == 8 + sizeof(RunLogCounts), "a record is packed as RUN_LOG_DTYPE");

// What the kernels tell: the counts of a record, and in debug builds the accesses of each trip.
class OverlayEvents : public CountedEvents {
  public:
    explicit OverlayEvents(BankAccesses& accesses) : accesses_(&accesses) {}
    void trip(isa::Loop loop) { accesses_->begin_trip(loop); }
    void loop(isa::Loop loop, unsigned trips) {
        CountedEvents::loop(loop, trips);
        accesses_->end_loop(loop, trips);
    }

  private:
    BankAccesses* accesses_;
};

// Records in the order of the program. An instruction is executed before it retires, and is in the log when
// it has retired.
class RunLog {
  public:
    void clear() {
        records_.clear();
        retired_.clear();
    }

    // The record of an instruction, to be filled.
    Record& add(std::uint32_t index) {
        if (records_.size() <= index) {
            records_.resize(index + 1);
            retired_.resize(index + 1);
        }
        records_[index] = {};
        records_[index].index = index;
        return records_[index];
    }

    void retire(std::uint32_t index) { retired_[index] = true; }

    // Copies the records of the retired instructions; returns their number.
    std::uint64_t copy(Record* records, std::uint64_t capacity) const {
        std::uint64_t count = 0;
        for (std::size_t i = 0; i < records_.size(); i++) {
            if (!retired_[i]) continue;
            if (count < capacity) records[count] = records_[i];
            count++;
        }
        return count;
    }

  private:
    std::vector<Record> records_;
    std::vector<bool> retired_;
};

}  // namespace hetfab
