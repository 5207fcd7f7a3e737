// SPDX-License-Identifier: Apache-2.0
// Rows of source vertices, requested ahead of their use: from DRAM, or those that a scratchpad lacks.
#pragma once

#include "agg_tile.hpp"
#include "edge_entries.hpp"

namespace hetfab {

// What becomes of an edge's row.
struct EdgeRow {
    bool read;
    bool kept;
    unsigned word;
    EdgeEntry entry;
};

// Requests rows in the order of the edges, those that the scratchpad does not hold.
template <class Z>
class RowRequests {
  public:
    RowRequests(const VertexRows& rows, unsigned edges, unsigned word_beats = 1)
        : rows_(rows),
          base_(rows.address / beat_bytes),
          left_(edges),
          slot_beats_(slot_beats(rows.beats, word_beats)) {}

    // Whether edges are left whose rows have not been requested.
    bool wants() const { return left_ != 0; }

    // Takes the next edge, and the tag of its slot.
    template <class TagRam>
    void look(const EdgeEntry& entry, TagRam tag_ram) {
#pragma HLS INLINE
        entry_ = entry;
        slot_ = rows_.tagged ? entry_.id & rows_.slot_mask : entry_.unit & (unit_reads - 1);
        tag_ = rows_.tagged ? static_cast<unsigned>(
                                  get<Z, isa::Field<0, 32>>(Word<Z, 64>(tag_ram[rows_.first_block + slot_])))
                            : 0;
    }

    // Decides on its row, and requests it where it must be read.
    template <class MemF, class TagRam>
    void issue(MemF features, TagRam tag_ram) {
#pragma HLS INLINE
        if (left_ == 0) return;
        const bool held = rows_.scheduled ? entry_.unit < unit_reads : rows_.tagged && tag_ == entry_.id + 1;
        const bool kept = rows_.scheduled ? entry_.unit != unit_streams : rows_.tagged;
        if (rows_.tagged && !held) {
            Word<Z, 64> tag = zero<Z, 64>();
            Z::template set<isa::Field<0, 32>>(tag, entry_.id + 1);
            tag_ram[rows_.first_block + slot_] = tag;
        }
        if (!held) features.read_request(base_ + std::uint64_t{entry_.id} * rows_.row_beats, rows_.beats);
        places_[last_] = {!held, kept, words_per_tag * rows_.first_block + slot_ * slot_beats_, entry_};
        last_ = (last_ + 1) % most_rows_ahead;
        left_--;
    }

    // Of the oldest edge that has not been taken yet.
    EdgeRow take() {
#pragma HLS INLINE
        const EdgeRow place = places_[first_];
        first_ = (first_ + 1) % most_rows_ahead;
        return place;
    }

  private:
    VertexRows rows_;
    std::uint64_t base_;
    unsigned left_;
    unsigned slot_beats_;
    EdgeEntry entry_ = {0, 0, 1};
    unsigned slot_ = 0;
    unsigned tag_ = 0;
    EdgeRow places_[most_rows_ahead] = {};
    unsigned first_ = 0;
    unsigned last_ = 0;
};

// Which groups of a row a trip takes: one that comes from DRAM or ends the sums of a run, whose words leave
// one by one, or all of a word of the scratchpad.
template <class D>
struct RowTrip {
    bool wide;
    unsigned trip;
    unsigned groups;

    // The group that a bank's lanes take, and whether they take one.
    unsigned group(unsigned bank) const {
        return D::agg_word_beats * (wide ? trip : trip / D::agg_word_beats) + bank;
    }
    bool takes(unsigned bank) const {
        return group(bank) < groups && (wide || bank == trip % D::agg_word_beats);
    }
};

// The beats of an edge's row in a trip: one from DRAM, written to the scratchpad where it is kept, or those
// that are held there. One access to each bank of the scratchpad in a trip.
template <class D, class Z, class MemF, class FeatureRam>
void row_beats(const EdgeRow& place, const RowTrip<D>& trip, MemF features, FeatureRam feature_ram,
               Word<Z, 64> (&beats)[D::agg_word_beats]) {
#pragma HLS INLINE
    const Word<Z, 64> read = place.read ? Word<Z, 64>(features.read()) : zero<Z, 64>();
    // A row shorter than a word lies within one, at a multiple of its length.
    const unsigned first = place.word % D::agg_word_beats;
bank_beats:
    for (unsigned bank = 0; bank < D::agg_word_beats; bank++) {
#pragma HLS UNROLL factor=D::agg_word_beats
        beats[bank] = read;
        if constexpr (D::feature_words != 0) {
            const unsigned word = place.word / D::agg_word_beats + trip.group(bank) / D::agg_word_beats;
            const unsigned held_in = (first + bank) % D::agg_word_beats;
            if (trip.takes(bank) && !place.read) beats[bank] = feature_ram[held_in][word];
            if (trip.takes(bank) && place.read && place.kept) feature_ram[held_in][word] = read;
        }
    }
}

}  // namespace hetfab
