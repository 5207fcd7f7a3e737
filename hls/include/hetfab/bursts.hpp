// SPDX-License-Identifier: Apache-2.0
// Rows of beats as AXI3 bursts: at most 16 beats, ending at multiples of 128 bytes and so never across 4 KiB.
#pragma once

#include <cstdint>

#include "isa.hpp"

namespace hetfab {

using isa::beat_bytes;
using isa::burst_beats;
using isa::bursts_ahead;
constexpr unsigned beats_per_block = isa::block_bytes / beat_bytes;

// Walks the bursts of `rows` runs of `row_beats` beats, `stride_beats` apart.
class BurstCursor {
  public:
    BurstCursor(std::uint64_t byte_address, unsigned rows, unsigned row_beats, unsigned stride_beats)
        : row_(byte_address / beat_bytes),
          beat_(row_),
          row_beats_(row_beats),
          stride_beats_(stride_beats),
          left_(row_beats),
          rows_(row_beats == 0 ? 0 : rows) {}

    bool finished() const { return rows_ == 0; }
    std::uint64_t beat() const { return beat_; }

    unsigned length() const {
        const unsigned room = burst_beats - static_cast<unsigned>(beat_ % burst_beats);
        return left_ < room ? left_ : room;
    }

    void advance() {
        const unsigned beats = length();
        beat_ += beats;
        left_ -= beats;
        if (left_ == 0) {
            row_ += stride_beats_;
            beat_ = row_;
            left_ = row_beats_;
            rows_--;
        }
    }

  private:
    std::uint64_t row_;
    std::uint64_t beat_;
    unsigned row_beats_;
    unsigned stride_beats_;
    unsigned left_;
    unsigned rows_;
};

// Reads the beats of a cursor in order, with requests running ahead.
class BurstReader {
  public:
    explicit BurstReader(const BurstCursor& cursor) : requests_(cursor), beats_(cursor) {}

    template <class Mem, class Events>
    void start(Mem mem, Events& events) {
#pragma HLS INLINE
        unsigned trips = 0;
    request_ahead:
        while (trips < bursts_ahead && !requests_.finished()) {
#pragma HLS LOOP_TRIPCOUNT min=1 max=8
#pragma HLS PIPELINE II=1 style=stp
            events.trip(isa::loops::request_ahead);
            request(mem);
            trips++;
        }
        events.loop(isa::loops::request_ahead, trips);
    }

    // One beat; the request that keeps the distance follows the last beat of each burst.
    template <class Mem>
    auto read(Mem mem) {
#pragma HLS INLINE
        if (left_ == 0) left_ = beats_.length();
        auto beat = mem.read();
        beats_read_++;
        left_--;
        if (left_ == 0) {
            beats_.advance();
            if (!requests_.finished()) request(mem);
        }
        return beat;
    }

    // Beats read so far: an event count.
    unsigned beats_read() const { return beats_read_; }

  private:
    template <class Mem>
    void request(Mem mem) {
#pragma HLS INLINE
        mem.read_request(requests_.beat(), requests_.length());
        requests_.advance();
    }

    BurstCursor requests_;
    BurstCursor beats_;
    unsigned left_ = 0;
    unsigned beats_read_ = 0;
};

}  // namespace hetfab
