// SPDX-License-Identifier: Apache-2.0
// The entries of edges in the graph segment, or from the FIFO of rows.
#pragma once

#include "agg_tile.hpp"

namespace hetfab {

// An edge: its source vertex where it is named, its weight, and what a schedule says of its row.
struct EdgeEntry {
    unsigned id;
    unsigned unit;
    int weight;
};

// Rows of a graph that SGB makes: the degree of each, then its ids.
template <class Z>
using RowsStream = hls::stream<U<Z, isa::rows_fifo_bits>>;

// The entries of consecutive edges, one to three units of 16 bits each, unpacked from beats of the graph
// port.
template <class Z>
class EntryReader {
  public:
    EntryReader(const ReduceTile& tile, const EdgeRange& edges)
        : wide_(tile.id_bytes == 4),
          scheduled_(tile.scheduled),
          weighted_(tile.weighted),
          from_fifo_(tile.from_fifo),
          skipped_(static_cast<unsigned>(edges.first % units_per_beat)),
          beats_(beats_of(edges)),
          reader_(BurstCursor(tile.ids + edges.first / units_per_beat * beat_bytes, 1, beats_of(edges), 0)) {}

    // Takes the first beat too, which an entry may leave early.
    template <class Mem, class Events>
    void start(Mem graph, Events& events) {
#pragma HLS INLINE
        reader_.start(graph, events);
        if (beats_ == 0) return;
        low_ = beat(graph) >> (unit_bits * skipped_);
        units_ = units_per_beat - skipped_;
    }

    template <class Mem>
    EdgeEntry next(Mem graph, RowsStream<Z>& rows_fifo) {
#pragma HLS INLINE
        if (from_fifo_) return {static_cast<unsigned>(rows_fifo.read()), 0, 1};
        if (units_ < longest_entry && beats_ != 0) append(beat(graph));
        const unsigned unit = static_cast<unsigned>(low_ & unit_streams);
        const bool named = !scheduled_ || unit >= unit_reads;
        const auto words = static_cast<std::uint32_t>(scheduled_ ? low_ >> unit_bits : low_);
        const std::uint32_t id = wide_ ? words : words & unit_streams;
        drop((scheduled_ ? 1U : 0U) + (!named ? 0U : wide_ ? 2U : 1U));
        const int top = static_cast<int>(id >> weight_place);
        return {weighted_ ? id & ((1U << weight_place) - 1) : id, unit,
                weighted_ ? top - 2 * (top & 128) : 1};
    }

    unsigned beats_read() const { return reader_.beats_read(); }

  private:
    static constexpr unsigned unit_bits = 16;
    static constexpr unsigned units_per_beat = 64 / unit_bits;
    static constexpr unsigned weight_place = 24;

    static unsigned beats_of(const EdgeRange& edges) {
        if (edges.units == 0) return 0;
        return static_cast<unsigned>((edges.first % units_per_beat + edges.units + units_per_beat - 1) /
                                     units_per_beat);
    }

    template <class Mem>
    std::uint64_t beat(Mem graph) {
#pragma HLS INLINE
        const Word<Z, 64> word = reader_.read(graph);
        beats_--;
        const auto low = static_cast<std::uint64_t>(lane_u<Z, 32>(word, 0));
        return low | static_cast<std::uint64_t>(lane_u<Z, 32>(word, 1)) << 32;
    }

    // Behind the units that are left, at most two of them.
    void append(std::uint64_t beat) {
        low_ |= beat << (unit_bits * units_);
        high_ = units_ == 0 ? 0 : beat >> (64 - unit_bits * units_);
        units_ += units_per_beat;
    }

    void drop(unsigned units) {
        low_ = low_ >> (unit_bits * units) | high_ << (64 - unit_bits * units);
        high_ >>= unit_bits * units;
        units_ -= units;
    }

    bool wide_;
    bool scheduled_;
    bool weighted_;
    bool from_fifo_;
    unsigned skipped_;
    unsigned beats_;
    BurstReader reader_;
    std::uint64_t low_ = 0;
    std::uint64_t high_ = 0;
    unsigned units_ = 0;
};

}  // namespace hetfab
