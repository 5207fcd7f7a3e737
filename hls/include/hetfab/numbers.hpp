// SPDX-License-Identifier: Apache-2.0
// Arrays of 32-bit numbers in DRAM, two a beat: read into memories on chip, written in runs of known length.
#pragma once

#include "bursts.hpp"
#include "events.hpp"
#include "shim.hpp"
#include "types.hpp"

namespace hetfab {

constexpr unsigned numbers_per_beat = beat_bytes / 4;

// Beats that hold numbers from `first` on.
inline unsigned beats_of_numbers(unsigned first, unsigned count) {
#pragma HLS INLINE
    return count == 0 ? 0 : (first % numbers_per_beat + count + numbers_per_beat - 1) / numbers_per_beat;
}

// The beats that hold `count` numbers of an array from number `first` on.
inline BurstCursor number_cursor(std::uint64_t array, unsigned first, unsigned count) {
#pragma HLS INLINE
    const unsigned beats = beats_of_numbers(first, count);
    return BurstCursor(array + std::uint64_t{first / numbers_per_beat} * beat_bytes, 1, beats, 0);
}

// Numbers one after the other, with requests running ahead.
template <class Z>
class NumberReader {
  public:
    NumberReader(std::uint64_t array, unsigned first, unsigned count)
        : reader_(number_cursor(array, first, count)), lane_(first % numbers_per_beat) {}

    template <class Mem, class Events>
    void start(Mem mem, Events& events) {
#pragma HLS INLINE
        reader_.start(mem, events);
    }
    template <class Mem>
    unsigned next(Mem mem) {
#pragma HLS INLINE
        if (!loaded_) beat_ = reader_.read(mem);
        const auto number = static_cast<unsigned>(lane_u<Z, 32>(beat_, lane_));
        lane_ = (lane_ + 1) % numbers_per_beat;
        loaded_ = lane_ != 0;
        return number;
    }
    // Beats read so far: an event count.
    unsigned beats_read() const { return reader_.beats_read(); }

  private:
    BurstReader reader_;
    unsigned lane_;
    bool loaded_ = false;
    Word<Z, 64> beat_ = zero<Z, 64>();
};

// Write responses of a port that are awaited later, at most bursts_ahead of them.
class WriteResponses {
  public:
    template <class Mem>
    void expect(Mem mem) {
#pragma HLS INLINE
        if (due_ == bursts_ahead) {
            mem.write_response();
        } else {
            due_++;
        }
    }
    template <class Mem, class Events>
    unsigned drain(Mem mem, Events& events) {
#pragma HLS INLINE
        unsigned responses = 0;
    number_responses:
        while (responses < due_) {
#pragma HLS LOOP_TRIPCOUNT min=1 max=8
#pragma HLS PIPELINE II=1 style=stp
            events.trip(isa::loops::number_responses);
            mem.write_response();
            responses++;
        }
        events.loop(isa::loops::number_responses, responses);
        due_ = 0;
        return responses;
    }

  private:
    unsigned due_ = 0;
};

// Writes numbers one behind the other in runs: the bursts of a run are the whole beats that it completes.
// What does not fit is left out.
template <class Z>
class NumberWriter {
  public:
    NumberWriter(std::uint64_t array, unsigned most)
        : beat_(array / beat_bytes), cursor_(array, 1, 0, 0), room_(most) {}

    // Announces a run: none of the runs before it has numbers left.
    void begin(unsigned count) {
#pragma HLS INLINE
        kept_ = count < room_ ? count : room_;
        room_ -= kept_;
        const unsigned lane = odd_ ? 1 : 0;
        cursor_ = BurstCursor(beat_ * beat_bytes, 1, (lane + kept_) / numbers_per_beat, 0);
    }
    // The next number of the run.
    template <class Mem>
    void put(Mem mem, WriteResponses& responses, unsigned number) {
#pragma HLS INLINE
        if (kept_ == 0) return;
        kept_--;
        const unsigned lane = odd_ ? 1 : 0;
        set_lane<Z, 32>(word_, lane, number);
        odd_ = !odd_;
        if (!odd_) write(mem, responses);
    }
    // The last number, where it is alone in its beat.
    template <class Mem>
    void finish(Mem mem, WriteResponses& responses) {
#pragma HLS INLINE
        if (!odd_) return;
        cursor_ = BurstCursor(beat_ * beat_bytes, 1, 1, 0);
        odd_ = false;
        write(mem, responses);
    }
    unsigned beats_written() const { return beats_written_; }

  private:
    template <class Mem>
    void write(Mem mem, WriteResponses& responses) {
#pragma HLS INLINE
        if (left_ == 0) {
            left_ = cursor_.length();
            mem.write_request(cursor_.beat(), left_);
            cursor_.advance();
        }
        mem.write(word_);
        word_ = zero<Z, 64>();
        beat_++;
        beats_written_++;
        left_--;
        if (left_ == 0) responses.expect(mem);
    }

    std::uint64_t beat_;
    BurstCursor cursor_;
    unsigned room_;
    unsigned kept_ = 0;
    unsigned left_ = 0;
    unsigned beats_written_ = 0;
    bool odd_ = false;
    Word<Z, 64> word_ = zero<Z, 64>();
};

}  // namespace hetfab
