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
    RowRequests(const VertexRows& rows, unsigned edges)
        : rows_(rows), base_(rows.address / beat_bytes), left_(edges) {}

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
        places_[last_] = {!held, kept, words_per_tag * rows_.first_block + slot_ * rows_.beats, entry_};
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
    EdgeEntry entry_ = {0, 0, 1};
    unsigned slot_ = 0;
    unsigned tag_ = 0;
    EdgeRow places_[most_rows_ahead] = {};
    unsigned first_ = 0;
    unsigned last_ = 0;
};

// A beat of an edge's row: read from DRAM and written to the scratchpad where it is kept, or held there. One
// access to the scratchpad in a trip.
template <class D, class Z, class MemF, class FeatureRam>
Word<Z, 64> row_beat(const EdgeRow& place, unsigned beat, MemF features, FeatureRam feature_ram) {
#pragma HLS INLINE
    Word<Z, 64> content = zero<Z, 64>();
    if (place.read) {
        content = features.read();
        if constexpr (D::feature_words != 0) {
            if (place.kept) feature_ram[place.word + beat] = content;
        }
    } else if constexpr (D::feature_words != 0) {
        content = feature_ram[place.word + beat];
    }
    return content;
}

}  // namespace hetfab
