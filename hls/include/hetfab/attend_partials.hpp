// SPDX-License-Identifier: Apache-2.0
// Rows that AGG copies for an attend: those of targets and types, and partial results that are spilled.
#pragma once

#include "attend_tile.hpp"

namespace hetfab {

// Rows one behind the other are one long row.
inline BurstCursor score_cursor(const ScoreRows& array, unsigned rows, unsigned beats) {
#pragma HLS INLINE
    const bool dense = array.row_beats == beats;
    return BurstCursor(array.address, dense ? 1 : rows, dense ? rows * beats : beats, array.row_beats);
}

// Copies rows of beats; returns their beats.
template <class Z, unsigned Size, class Mem, class Events>
unsigned copy_score_rows(const ScoreRows& array, unsigned rows, unsigned beats, Mem features,
                         Word<Z, 64> (&kept)[Size], Events& events) {
#pragma HLS INLINE
    BurstReader reader(score_cursor(array, rows, beats));
    reader.start(features, events);
score_row_beats:
    for (unsigned beat = 0; beat < rows * beats; beat++) {
#pragma HLS LOOP_TRIPCOUNT min = 1 max = 512
#pragma HLS PIPELINE II = 1 style = stp
        events.trip(isa::loops::attend_rows);
        kept[beat] = reader.read(features);
    }
    events.loop(isa::loops::attend_rows, rows * beats);
    return rows * beats;
}

// A place in a spilled row: a beat of its maxima, or a lane of a group.
class PartialPlace {
  public:
    PartialPlace(unsigned first, unsigned beats, unsigned lanes)
        : first_(first), beats_(beats), lanes_(lanes), beat_(first) {}

    bool in_maxima() const { return beat_ < maxima_beats; }
    unsigned beat() const { return beat_; }
    unsigned row() const { return row_; }
    unsigned word() const { return word_; }
    unsigned lane() const { return lane_; }

    // Goes on by a beat; a row has `beats` of them from `first` on.
    void advance() {
#pragma HLS INLINE
        if (!in_maxima()) {
            lane_ = lane_ + 1 == lanes_ ? 0 : lane_ + 1;
            if (lane_ == 0) word_++;
        }
        beat_++;
        if (beat_ == first_ + beats_) {
            beat_ = first_;
            row_++;
        }
    }

  private:
    unsigned first_;
    unsigned beats_;
    unsigned lanes_;
    unsigned beat_;
    unsigned row_ = 0;
    unsigned word_ = 0;
    unsigned lane_ = 0;
};

// Reads the spilled maxima of the destinations, and what they merge; returns the beats.
template <class D, class Z, class Mem, class Events>
unsigned read_partials(const AttendTile& tile, AttendMemories<D, Z>& kept, Mem features, Events& events) {
#pragma HLS INLINE
    const unsigned rows = tile.reads_spilled() ? tile.rows.rows : 0;
    const unsigned sums = tile.rows.merge && tile.weigh ? tile.sum_beats<D>() : 0;
    const unsigned row_beats = maxima_beats + sums;
    BurstReader reader(
        BurstCursor(tile.rows.spilled_row(tile.rows.destination), rows, row_beats, tile.rows.spilled_beats));
    reader.start(features, events);
    PartialPlace place(0, row_beats, D::lanes + 1);
partial_beats:
    for (unsigned beat = 0; beat < rows * row_beats; beat++) {
#pragma HLS LOOP_TRIPCOUNT min=2 max=4736
#pragma HLS PIPELINE II=1 style=stp
        events.trip(isa::loops::attend_partials);
        const Word<Z, 64> content = reader.read(features);
    read_maxima:
        for (unsigned head = 0; head < D::agg_heads; head++) {
#pragma HLS UNROLL factor=D::agg_heads
            if (head / scores_per_beat == place.beat()) {
                kept.maxima[place.row()][head] = lane_s<Z, 16>(content, head % scores_per_beat);
            }
        }
        if (!place.in_maxima()) {
            const S<Z, 64> high = S<Z, 64>(lane_s<Z, 32>(content, 1)) << 32;
            kept.partials[place.word()][place.lane()] =
                wrap<Z, isa::partial_bits>(S<Z, 64>(high | S<Z, 64>(lane_u<Z, 32>(content, 0))));
        }
        place.advance();
    }
    events.loop(isa::loops::attend_partials, rows * row_beats);
    return rows * row_beats;
}

// A beat of a spilled row.
template <class D, class Z>
Word<Z, 64> partial_beat(const AttendMemories<D, Z>& kept, const PartialPlace& place) {
#pragma HLS INLINE
    Word<Z, 64> content = zero<Z, 64>();
    const S<Z, 64> sum = kept.partials[place.word()][place.lane()];
    if (!place.in_maxima()) {
        set_lane<Z, 32>(content, 0, wrap<Z, 32>(sum));
        set_lane<Z, 32>(content, 1, S<Z, 32>(S<Z, 64>(sum >> 32)));
    }
write_maxima:
    for (unsigned head = 0; head < D::agg_heads; head++) {
#pragma HLS UNROLL factor=D::agg_heads
        if (head / scores_per_beat == place.beat()) {
            set_lane<Z, 16>(content, head % scores_per_beat, kept.maxima[place.row()][head]);
        }
    }
    return content;
}

// Writes maxima or sums to the rows of their destinations, and waits for the responses, as STORE does.
template <class D, class Z, class Mem, class Events>
void write_partials(const AttendTile& tile, const AttendMemories<D, Z>& kept, Mem features, Events& events) {
#pragma HLS INLINE
    const unsigned first = tile.weigh ? maxima_beats : 0;
    const unsigned row_beats = tile.weigh ? tile.sum_beats<D>() : maxima_beats;
    const unsigned beats = tile.rows.spill ? tile.rows.rows * row_beats : 0;
    BurstCursor cursor(tile.rows.spilled_row(tile.rows.destination) + std::uint64_t{first} * beat_bytes,
                       tile.rows.rows, row_beats, tile.rows.spilled_beats);
    PartialPlace place(first, row_beats, D::lanes + 1);
    unsigned left = 0;
    unsigned responses_due = 0;
spilled_partials:
    for (unsigned beat = 0; beat < beats; beat++) {
#pragma HLS LOOP_TRIPCOUNT min=2 max=4608
#pragma HLS PIPELINE II=1 style=stp
        events.trip(isa::loops::attend_spill);
        if (left == 0) {
            left = cursor.length();
            features.write_request(cursor.beat(), left);
            cursor.advance();
        }
        features.write(partial_beat<D, Z>(kept, place));
        place.advance();
        left--;
        if (left == 0) {
            if (responses_due == bursts_ahead) {
                features.write_response();
            } else {
                responses_due++;
            }
        }
    }
    events.loop(isa::loops::attend_spill, beats);
    unsigned responses = 0;
partial_responses:
    while (responses < responses_due) {
#pragma HLS LOOP_TRIPCOUNT min=1 max=8
#pragma HLS PIPELINE II=1 style=stp
        events.trip(isa::loops::attend_responses);
        features.write_response();
        responses++;
    }
    events.loop(isa::loops::attend_responses, responses);
}

}  // namespace hetfab
