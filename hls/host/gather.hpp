// SPDX-License-Identifier: Apache-2.0
// Host body of AGG: destination by destination, the rows of its edges are added as vectors.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>

#include "hetfab/agg.hpp"
#include "memories.hpp"

namespace hetfab {

namespace {

// A group of features, and its sums modulo 2^32.
constexpr unsigned group_channels = 8;
typedef unsigned char UnsignedGroup __attribute__((vector_size(group_channels)));
typedef signed char SignedGroup __attribute__((vector_size(group_channels)));
typedef std::uint32_t GroupSums __attribute__((vector_size(4 * group_channels)));

// The edges of a reduce's destinations, and where their rows are.
template <class Z, class Beat>
class HostEdges {
  public:
    // Whether the records, the ids and all rows are in mapped memory; only then is the rest of use.
    bool find(const ReduceTile& tile, const HostMemory<Beat>& features, const HostMemory<Beat>& graph) {
        records_rows_ = {tile.destinations, 1, std::uint64_t{tile.rows} * isa::DestinationRecord::bytes, 0};
        records_ = graph.find(records_rows_);
        if (records_ == nullptr) return false;
        std::uint64_t count = 0;
        for (unsigned row = 0; row < tile.rows; row++) count += degree(row);
        range_ = {static_cast<unsigned>(get<Z, InBeat<Record::First>>(beat(0))), static_cast<unsigned>(count),
                  0};
        if (count != range_.count) return false;
        wide_ = tile.id_bytes == 4;
        row_bytes_ = std::uint64_t{tile.row_beats} * beat_bytes;
        features_ = features.dram.mapped(tile.features);
        return range_.count == 0 || (find_ids(tile, graph) && holds_rows(tile));
    }

    const EdgeRange& range() const { return range_; }
    const HostRows& record_rows() const { return records_rows_; }
    const HostRows& id_rows() const { return id_rows_; }

    unsigned degree(unsigned row) const {
        return static_cast<unsigned>(get<Z, InBeat<Record::Degree>>(beat(beats_per_destination * row)));
    }
    Destination<Z> destination(unsigned row) const {
        const Word<Z, 64> second = beat(beats_per_destination * row + 1);
        return {degree(row), get<Z, InBeat<Record::Reciprocal>>(second),
                get<Z, InBeat<Record::Exponent>>(second)};
    }
    // The offset of an edge's row from the first feature.
    std::uint64_t offset(unsigned edge) const {
        std::uint32_t wide = 0;
        std::uint16_t narrow = 0;
        if (wide_) {
            std::memcpy(&wide, ids_ + std::size_t{4} * edge, 4);
        } else {
            std::memcpy(&narrow, ids_ + std::size_t{2} * edge, 2);
        }
        return (wide_ ? wide : narrow) * row_bytes_;
    }
    const unsigned char* row(unsigned edge) const { return features_.bytes + offset(edge); }

  private:
    using Record = isa::DestinationRecord;

    Word<Z, 64> beat(unsigned number) const {
        Word<Z, 64> word;
        read_bytes(word, records_ + std::size_t{beat_bytes} * number);
        return word;
    }

    // As IdReader reads them: whole beats.
    bool find_ids(const ReduceTile& tile, const HostMemory<Beat>& graph) {
        const unsigned per_beat = static_cast<unsigned>(beat_bytes) / (wide_ ? 4 : 2);
        const std::uint64_t skipped = range_.first % per_beat;
        const std::uint64_t beats = (skipped + range_.count + per_beat - 1) / per_beat;
        id_rows_ = {tile.ids + range_.first / per_beat * beat_bytes, 1, beats * beat_bytes, 0};
        const unsigned char* beats_of_ids = graph.find(id_rows_);
        ids_ = beats_of_ids + skipped * (wide_ ? 4 : 2);
        return beats_of_ids != nullptr;
    }

    bool holds_rows(const ReduceTile& tile) const {
        std::uint64_t last = 0;
        for (unsigned edge = 0; edge < range_.count; edge++) last = std::max(last, offset(edge));
        return last + std::uint64_t{tile.groups} * beat_bytes <= features_.size;
    }

    HostRows records_rows_ = {};
    HostRows id_rows_ = {};
    const unsigned char* records_ = nullptr;
    const unsigned char* ids_ = nullptr;
    EdgeRange range_ = {0, 0, 0};
    bool wide_ = false;
    std::uint64_t row_bytes_ = 0;
    MappedBytes features_ = {nullptr, 0};
};

template <class Group>
void add_row(const unsigned char* row, unsigned groups, GroupSums* totals) {
    for (unsigned group = 0; group < groups; group++) {
        Group features;
        std::memcpy(&features, row + group_channels * group, sizeof features);
        totals[group] += __builtin_convertvector(features, GroupSums);
    }
}

// The results of a destination, added to what its words hold or not.
template <class Z>
void put_results(const GroupSums* totals, const ReduceTile& tile, const Destination<Z>& destination,
                 unsigned char* words) {
    for (unsigned channel = 0; channel < tile.groups * group_channels; channel++) {
        const auto total =
            static_cast<std::int32_t>(totals[channel / group_channels][channel % group_channels]);
        const std::int32_t own = destination.degree == 0 ? 0 : reduce_lane<Z>(total, destination, tile.mode);
        std::uint32_t before = 0;
        if (tile.accumulate) std::memcpy(&before, words + std::size_t{4} * channel, 4);
        const std::uint32_t result = before + static_cast<std::uint32_t>(own);
        std::memcpy(words + std::size_t{4} * channel, &result, 4);
    }
}

// What the loops of the plain body count, and what its ports carry.
template <class Z, class Beat, class Events>
Outcome count_reduce(const ReduceTile& tile, const HostEdges<Z, Beat>& edges,
                     const HostMemory<Beat>& features, const HostMemory<Beat>& graph, Events& events) {
    const unsigned count = edges.range().count;
    const HostRows* const read[] = {&edges.record_rows(), &edges.id_rows()};
    for (const HostRows* rows : read) {
        const std::uint64_t bursts = rows->bursts();
        graph.count_read(*rows, bursts);
        events.loop(isa::loops::request_ahead, ahead(bursts));
    }
    const std::uint64_t row_bytes = std::uint64_t{tile.groups} * beat_bytes;
    for (unsigned edge = 0; edge < count; edge++) {
        features.port.traffic.read_bursts +=
            features.port.bursts(tile.features + edges.offset(edge), row_bytes, beat_bytes);
    }
    features.port.traffic.read_bytes += count * row_bytes;
    unsigned rows_read = 0;
    for (unsigned row = 0; row < tile.rows; row++) rows_read += std::max(edges.degree(row), 1U);
    const unsigned trips = rows_read * tile.groups;
    events.edges(count);
    events.loop(isa::loops::agg_descriptors, tile.rows * beats_per_destination);
    events.loop(isa::loops::agg_sums, tile.accumulate ? tile.rows * tile.groups : 0);
    events.loop(isa::loops::agg_rows_ahead, std::min(rows_ahead(tile.groups), count));
    events.loop(isa::loops::agg_gather, trips);
    const auto graph_beats =
        static_cast<unsigned>((edges.record_rows().row_bytes + edges.id_rows().row_bytes) / beat_bytes);
    return {true, trips, count, std::uint64_t{count} * tile.groups, graph_beats};
}

template <class D, class Z, class Beat, class T, class Events>
Outcome reduce_rows(const ReduceTile& tile, HostMemory<Beat> features, HostMemory<Beat> graph,
                    HostRam<T> sum_ram, Events& events) {
    static_assert(D::lanes == group_channels, "a beat of a feature row is one group");
    HostEdges<Z, Beat> edges;
    if (tile.rows == 0 || tile.groups == 0 ||
        !sum_ram.holds(tile.sum, std::uint64_t{tile.rows} * tile.groups) ||
        !edges.find(tile, features, graph)) {
        return reduce_rows<D, Z>(tile, features.plain(), graph.plain(), sum_ram.plain, events);
    }
    unsigned edge = 0;
    for (unsigned row = 0; row < tile.rows; row++) {
        const Destination<Z> destination = edges.destination(row);
        GroupSums totals[D::agg_groups] = {};
        for (const unsigned end = edge + destination.degree; edge < end; edge++) {
            if (tile.is_unsigned) {
                add_row<UnsignedGroup>(edges.row(edge), tile.groups, totals);
            } else {
                add_row<SignedGroup>(edges.row(edge), tile.groups, totals);
            }
        }
        put_results(totals, tile, destination, sum_ram.at(tile.sum + row * tile.groups));
    }
    return count_reduce(tile, edges, features, graph, events);
}

}  // namespace

}  // namespace hetfab
