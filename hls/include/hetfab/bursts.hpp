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

// Rows `stride_beats` apart, in a row `runs` runs of `run_beats` beats, `run_stride` apart.
struct RunShape {
    unsigned rows;
    unsigned stride_beats;
    unsigned runs;
    unsigned run_stride;
    unsigned run_beats;
};

// Walks the bursts of rows of runs.
class BurstCursor {
  public:
    BurstCursor(std::uint64_t byte_address, const RunShape& shape)
        : shape_(shape),
          row_(byte_address / beat_bytes),
          run_(row_),
          beat_(row_),
          left_(shape.run_beats),
          runs_(shape.runs),
          rows_(shape.run_beats == 0 || shape.runs == 0 ? 0 : shape.rows) {}

    // Rows of one run each.
    BurstCursor(std::uint64_t byte_address, unsigned rows, unsigned row_beats, unsigned stride_beats)
        : BurstCursor(byte_address, {rows, stride_beats, 1, 0, row_beats}) {}

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
        if (left_ != 0) return;
        left_ = shape_.run_beats;
        runs_--;
        if (runs_ == 0) {
            runs_ = shape_.runs;
            row_ += shape_.stride_beats;
            run_ = row_;
            rows_--;
        } else {
            run_ += shape_.run_stride;
        }
        beat_ = run_;
    }

  private:
    RunShape shape_;
    std::uint64_t row_;
    std::uint64_t run_;
    std::uint64_t beat_;
    unsigned left_;
    unsigned runs_;
    unsigned rows_;
};

// Reads the beats of a cursor in order, with requests running ahead. The lengths of the bursts that were
// requested wait in a ring, so that one cursor is enough.
class BurstReader {
  public:
    explicit BurstReader(const BurstCursor& cursor) : requests_(cursor) {}

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
        if (left_ == 0) {
            left_ = lengths_[begun_ % ring];
            begun_++;
        }
        auto beat = mem.read();
        beats_read_++;
        left_--;
        if (left_ == 0 && !requests_.finished()) request(mem);
        return beat;
    }

    // Beats read so far: an event count.
    unsigned beats_read() const { return beats_read_; }

  private:
    // No more bursts are under way, and their number is a power of two.
    static constexpr unsigned ring = bursts_ahead;
    static_assert((ring & (ring - 1)) == 0, "a place is the low bits of a count");

    template <class Mem>
    void request(Mem mem) {
#pragma HLS INLINE
        const unsigned beats = requests_.length();
        mem.read_request(requests_.beat(), beats);
        lengths_[requested_ % ring] = beats;
        requested_++;
        requests_.advance();
    }

    BurstCursor requests_;
    unsigned lengths_[ring] = {};
    unsigned requested_ = 0;
    unsigned begun_ = 0;
    unsigned left_ = 0;
    unsigned beats_read_ = 0;
};

}  // namespace hetfab
