// SPDX-License-Identifier: Apache-2.0
// Host body of AGG: destination by destination, the rows of its edges are added as vectors.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <vector>

#include "hetfab/agg.hpp"
#include "lanes.hpp"
#include "memories.hpp"

namespace hetfab {

namespace {

// A group of features, and its sums modulo 2^32.
constexpr unsigned group_channels = 8;
typedef unsigned char UnsignedGroup __attribute__((vector_size(group_channels)));
typedef signed char SignedGroup __attribute__((vector_size(group_channels)));
typedef std::uint32_t GroupSums __attribute__((vector_size(4 * group_channels)));

// A group of features as 32 bits each. The compiler widens such vectors lane by lane if it is not told. The
// result is no return value: processors without AVX return such vectors otherwise.
template <class Group>
void widen(const unsigned char* place, GroupSums& features) {
#if defined(__AVX2__)
    const __m128i bytes = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(place));
    features = std::is_same_v<Group, SignedGroup> ? reinterpret_cast<GroupSums>(_mm256_cvtepi8_epi32(bytes))
                                                  : reinterpret_cast<GroupSums>(_mm256_cvtepu8_epi32(bytes));
#else
    Group bytes;
    std::memcpy(&bytes, place, sizeof bytes);
    features = __builtin_convertvector(bytes, GroupSums);
#endif
}

// The records and entries of a reduce's destinations, and where the rows of features are.
template <class Z, class Beat>
class HostEdges {
  public:
    // Whether the records and the entries are in mapped memory; only then is the rest of use.
    bool find(const ReduceTile& tile, const HostMemory<Beat>& features, const HostMemory<Beat>& graph) {
        record_bytes_ = tile.record_beats() * beat_bytes;
        records_rows_ = {tile.destinations, 1, tile.records() * record_bytes_, 0};
        records_ = graph.find(records_rows_);
        if (records_ == nullptr) return false;
        std::uint64_t count = 0;
        std::uint64_t units = 0;
        for (unsigned row = 0; row < tile.records(); row++) {
            count += degree(row);
            units += tile.scheduled ? number_at<Record::Units>(row, 2)
                                    : std::uint64_t{degree(row)} * tile.id_units();
        }
        const std::uint64_t first = number_at<Record::First>(0, 0);
        range_ = {first * (tile.scheduled ? 1 : tile.id_units()), units, static_cast<unsigned>(count), 0};
        if (count != range_.count) return false;
        wide_ = tile.id_bytes == 4;
        weighted_ = tile.weighted;
        row_bytes_ = std::uint64_t{tile.row_beats} * beat_bytes;
        features_ = features.dram.mapped(tile.features);
        return range_.units == 0 || find_entries(tile, graph);
    }

    const EdgeRange& range() const { return range_; }
    const HostRows& record_rows() const { return records_rows_; }
    const HostRows& entry_rows() const { return entry_rows_; }

    unsigned degree(unsigned row) const { return number_at<Record::Degree>(row, 0); }
    Destination<Z> destination(const ReduceTile& tile, unsigned row) const {
        const Word<Z, 64> second = beat(row, 1);
        return {degree(row), get<Z, InBeat<Record::Reciprocal>>(second),
                get<Z, InBeat<Record::Exponent>>(second),
                tile.scheduled ? number_at<Record::Row>(row, 2) : tile.destination + row};
    }
    // An id with the weight or the type beside it.
    unsigned entry(unsigned edge) const {
        return wide_ ? unit(2 * edge) | unit(2 * edge + 1) << 16 : unit(edge);
    }
    unsigned id(unsigned edge) const {
        return weighted_ ? entry(edge) & ((1U << weight_place) - 1) : entry(edge);
    }
    // The weight beside an id.
    int weight(unsigned edge) const { return static_cast<std::int8_t>(entry(edge) >> weight_place); }
    unsigned unit(std::uint64_t place) const {
        std::uint16_t value;
        std::memcpy(&value, entries_ + 2 * place, sizeof value);
        return value;
    }
    bool wide() const { return wide_; }
    // The offset of a row from the first feature.
    std::uint64_t offset(unsigned id) const { return id * row_bytes_; }
    const unsigned char* row(unsigned id) const { return features_.bytes + offset(id); }
    bool holds(const ReduceTile& tile, unsigned largest_id) const {
        return offset(largest_id) + std::uint64_t{tile.groups} * beat_bytes <= features_.size;
    }
    bool holds_all(const ReduceTile& tile) const {
        unsigned largest = 0;
        for (unsigned edge = 0; edge < range_.count; edge++) largest = std::max(largest, id(edge));
        return range_.count == 0 || holds(tile, largest);
    }

  private:
    using Record = isa::RunRecord;
    static constexpr unsigned weight_place = 24;

    Word<Z, 64> beat(unsigned row, unsigned part) const {
        Word<Z, 64> word;
        read_bytes(word, records_ + row * record_bytes_ + std::size_t{beat_bytes} * part);
        return word;
    }
    template <class Field>
    unsigned number_at(unsigned row, unsigned part) const {
        return static_cast<unsigned>(get<Z, InBeat<Field>>(beat(row, part)));
    }

    // As EntryReader reads them: whole beats.
    bool find_entries(const ReduceTile& tile, const HostMemory<Beat>& graph) {
        constexpr unsigned per_beat = static_cast<unsigned>(beat_bytes) / 2;
        const std::uint64_t skipped = range_.first % per_beat;
        const std::uint64_t beats = (skipped + range_.units + per_beat - 1) / per_beat;
        entry_rows_ = {tile.ids + range_.first / per_beat * beat_bytes, 1, beats * beat_bytes, 0};
        const unsigned char* found = graph.find(entry_rows_);
        entries_ = found + 2 * skipped;
        return found != nullptr;
    }

    std::uint64_t record_bytes_ = 0;
    HostRows records_rows_ = {};
    HostRows entry_rows_ = {};
    const unsigned char* records_ = nullptr;
    const unsigned char* entries_ = nullptr;
    EdgeRange range_ = {0, 0, 0, 0};
    bool wide_ = false;
    bool weighted_ = false;
    std::uint64_t row_bytes_ = 0;
    MappedBytes features_ = {nullptr, 0};
};

// Where the row of an edge comes from.
struct HostRow {
    bool read;
    bool kept;
    unsigned id;
    unsigned slot;
};

// What becomes of every edge's row; with tags they are left as the edges leave them.
template <class Z, class Beat, class Tags>
std::vector<HostRow> decided_rows(const ReduceTile& tile, const HostEdges<Z, Beat>& edges, Tags* tags) {
    std::vector<HostRow> rows(edges.range().count);
    std::uint64_t place = 0;
    for (unsigned edge = 0; edge < rows.size(); edge++) {
        if (tile.tagged) {
            const unsigned id = edges.id(edge);
            const unsigned slot = id & tile.slot_mask;
            const bool held = get<Z, isa::Field<0, 32>>(tags[tile.first_block + slot]) == id + 1;
            rows[edge] = {!held, true, id, slot};
            if (held) continue;
            tags[tile.first_block + slot] = zero<Z, 64>();
            Z::template set<isa::Field<0, 32>>(tags[tile.first_block + slot], id + 1);
            continue;
        }
        const unsigned unit = edges.unit(place++);
        rows[edge] = {unit >= unit_reads, unit != unit_streams, 0, unit & (unit_reads - 1)};
        if (unit < unit_reads) continue;
        rows[edge].id = edges.unit(place++);
        if (edges.wide()) rows[edge].id |= edges.unit(place++) << 16;
    }
    return rows;
}

// Whether all slots are in the scratchpad and its tags, and all rows that are read in mapped memory.
template <class D, class Z, class Beat>
bool holds_slots(const ReduceTile& tile, const HostEdges<Z, Beat>& edges, const std::vector<HostRow>& rows) {
    for (const HostRow& row : rows) {
        const std::uint64_t end = std::uint64_t{words_per_tag} * tile.first_block +
                                  std::uint64_t{row.slot} * slot_beats(tile.groups, D::agg_word_beats) +
                                  tile.groups;
        if ((!row.read || row.kept) && end > D::feature_words) return false;
        if (row.read && !edges.holds(tile, row.id)) return false;
    }
    return true;
}

template <class Group>
void add_row(const unsigned char* row, unsigned groups, GroupSums* totals) {
    for (unsigned group = 0; group < groups; group++) {
        GroupSums features;
        widen<Group>(row + group_channels * group, features);
        totals[group] += features;
    }
}

template <class Group>
void add_weighted_row(const unsigned char* row, unsigned groups, int weight, GroupSums* totals) {
    for (unsigned group = 0; group < groups; group++) {
        GroupSums features;
        widen<Group>(row + group_channels * group, features);
        totals[group] += features * static_cast<std::uint32_t>(weight);
    }
}

// Adds the rows of a destination's edges.
template <class Group, class Z, class Beat, class Rows>
void add_edges(const ReduceTile& tile, const HostEdges<Z, Beat>& edges, unsigned first, unsigned end,
               Rows& gathered, GroupSums* totals) {
    for (unsigned edge = first; edge < end; edge++) {
        if (tile.weighted) {
            add_weighted_row<Group>(gathered.row(edge), tile.groups, edges.weight(edge), totals);
        } else {
            add_row<Group>(gathered.row(edge), tile.groups, totals);
        }
    }
}

// The results of a destination, added to what its words hold or not.
template <class Z>
void put_results(const GroupSums* totals, const ReduceTile& tile, const Destination<Z>& destination,
                 unsigned char* words) {
    for (unsigned channel = 0; channel < tile.groups * group_channels; channel++) {
        const auto total =
            static_cast<std::int32_t>(totals[channel / group_channels][channel % group_channels]);
        const std::int32_t own = reduce_lane<Z>(total, destination, tile.mode);
        std::uint32_t before = 0;
        if (tile.accumulate) std::memcpy(&before, words + std::size_t{4} * channel, 4);
        const std::uint32_t result = before + static_cast<std::uint32_t>(own);
        std::memcpy(words + std::size_t{4} * channel, &result, 4);
    }
}

// Trips of the gather: a group at a time, and a word at a time of rows that are held, but the last of a run.
template <class Z, class Beat>
unsigned gather_trips(const ReduceTile& tile, const HostEdges<Z, Beat>& edges,
                      const std::vector<HostRow>& rows, unsigned word_beats) {
    unsigned trips = 0;
    unsigned edge = 0;
    for (unsigned row = 0; row < tile.rows; row++) {
        const unsigned degree = edges.degree(row);
        for (unsigned left = std::max(degree, 1U); left > 0; left--) {
            const bool held = degree != 0 && !rows.empty() && !rows[edge].read;
            trips += held && left > 1 ? tile.held_trips(word_beats) : tile.row_trips();
            edge += degree != 0 ? 1 : 0;
        }
    }
    return trips;
}

// What the loops of the plain body count, and what its ports carry beside rows of features.
template <class Z, class Beat, class Events>
Outcome count_reduce(const ReduceTile& tile, const HostEdges<Z, Beat>& edges, unsigned rows_read,
                     const std::vector<HostRow>& read_rows, unsigned word_beats,
                     const HostMemory<Beat>& features, const HostMemory<Beat>& graph, Events& events) {
    const unsigned count = edges.range().count;
    const HostRows* const read[] = {&edges.record_rows(), &edges.entry_rows()};
    for (const HostRows* rows : read) {
        const std::uint64_t bursts = rows->bursts();
        graph.count_read(*rows, bursts);
        events.loop(isa::loops::request_ahead, ahead(bursts));
    }
    features.port.traffic.read_bytes += std::uint64_t{rows_read} * tile.groups * beat_bytes;
    const unsigned trips = gather_trips(tile, edges, read_rows, word_beats);
    events.edges(count);
    events.misses(rows_read);
    events.loop(isa::loops::agg_descriptors, tile.rows * tile.record_beats());
    events.loop(isa::loops::agg_sums, tile.accumulate ? tile.rows * tile.groups : 0);
    events.loop(isa::loops::agg_rows_ahead, std::min(rows_ahead(tile.groups), count));
    events.loop(isa::loops::agg_gather, trips);
    const auto graph_beats =
        static_cast<unsigned>((edges.record_rows().row_bytes + edges.entry_rows().row_bytes) / beat_bytes);
    return {true, trips, count, std::uint64_t{rows_read} * tile.groups, graph_beats};
}

// The rows of a reduce's edges, one after the other.
template <class D, class Z, class Beat, class T>
class HostGather {
  public:
    HostGather(const ReduceTile& tile, const HostEdges<Z, Beat>& edges, const HostMemory<Beat>& features,
               HostBanks<T> feature_ram, const std::vector<HostRow>& rows)
        : tile_(tile),
          edges_(edges),
          port_(features.port),
          feature_ram_(feature_ram),
          rows_(rows),
          bytes_(std::size_t{tile.groups} * beat_bytes),
          slot_(bytes_) {}

    const unsigned char* row(unsigned edge) {
        if (rows_.empty()) return read(edges_.id(edge));
        const HostRow& row = rows_[edge];
        const unsigned first =
            words_per_tag * tile_.first_block + row.slot * slot_beats(tile_.groups, D::agg_word_beats);
        if (!row.read) {
            for (unsigned group = 0; group < tile_.groups; group++) {
                std::memcpy(&slot_[beat_bytes * group], held_at(first + group), beat_bytes);
            }
            return slot_.data();
        }
        const unsigned char* const found = read(row.id);
        for (unsigned group = 0; row.kept && group < tile_.groups; group++) {
            std::memcpy(held_at(first + group), found + beat_bytes * group, beat_bytes);
        }
        return found;
    }
    unsigned rows_read() const { return rows_read_; }

  private:
    unsigned char* held_at(unsigned beat) const {
        return feature_ram_.at(beat % D::agg_word_beats, beat / D::agg_word_beats);
    }
    const unsigned char* read(unsigned id) {
        rows_read_++;
        port_.traffic.read_bursts += port_.bursts(tile_.features + edges_.offset(id), bytes_, beat_bytes);
        return edges_.row(id);
    }

    const ReduceTile& tile_;
    const HostEdges<Z, Beat>& edges_;
    PortModel& port_;
    HostBanks<T> feature_ram_;
    const std::vector<HostRow>& rows_;
    std::size_t bytes_;
    std::vector<unsigned char> slot_;
    unsigned rows_read_ = 0;
};

// Whether this body does what a reduce asks for; spilled sums, parts and rows that come by the FIFO are the
// plain body's.
inline bool gathers_on_host(const ReduceTile& tile) {
    return tile.rows != 0 && tile.groups != 0 && !tile.merge && !tile.spill && !tile.from_fifo &&
           tile.parts == 1;
}

// Whether the results of all destinations are in sum_ram.
template <class Z, class Beat>
bool rows_in_tile(const ReduceTile& tile, const HostEdges<Z, Beat>& edges) {
    for (unsigned row = 0; row < tile.rows; row++) {
        if (edges.destination(tile, row).row - tile.destination >= tile.rows) return false;
    }
    return true;
}

template <class D, class Z, class Beat, class F, class TagRam, class T, class Fifo, class Events>
Outcome reduce_rows(const ReduceTile& tile, HostMemory<Beat> features, HostMemory<Beat> graph,
                    HostBanks<F> feature_ram, TagRam tag_ram, HostRam<T> sum_ram, Fifo& rows_fifo,
                    AggMemories<D, Z>& memories, Events& events) {
    static_assert(D::lanes == group_channels, "a beat of a feature row is one group");
    const auto plain = [&] {
        return reduce_rows<D, Z>(tile, features.plain(), graph.plain(), feature_ram.plain, tag_ram,
                                 sum_ram.plain, rows_fifo, memories, events);
    };
    HostEdges<Z, Beat> edges;
    if (!gathers_on_host(tile) || !sum_ram.holds(tile.sum, std::uint64_t{tile.rows} * tile.groups) ||
        !edges.find(tile, features, graph) || !rows_in_tile(tile, edges)) {
        return plain();
    }
    std::vector<HostRow> rows;
    if (tile.tagged || tile.scheduled) {
        if (tile.tagged && tile.first_block + tile.slot_mask >= D::feature_words / words_per_tag)
            return plain();
        auto* const tags = tag_ram.words;
        const std::vector<std::remove_reference_t<decltype(*tags)>> before(tags, tags + tag_ram.depth);
        rows = decided_rows(tile, edges, tags);
        if (!holds_slots<D>(tile, edges, rows)) {
            std::copy(before.begin(), before.end(), tags);
            return plain();
        }
    } else if (!edges.holds_all(tile)) {
        return plain();
    }
    HostGather<D, Z, Beat, F> gathered(tile, edges, features, feature_ram, rows);
    unsigned edge = 0;
    for (unsigned row = 0; row < tile.rows; row++) {
        const Destination<Z> destination = edges.destination(tile, row);
        GroupSums totals[D::agg_groups] = {};
        const unsigned end = edge + destination.degree;
        if (tile.is_unsigned) {
            add_edges<UnsignedGroup>(tile, edges, edge, end, gathered, totals);
        } else {
            add_edges<SignedGroup>(tile, edges, edge, end, gathered, totals);
        }
        edge = end;
        put_results(totals, tile, destination,
                    sum_ram.at(tile.sum + (destination.row - tile.destination) * tile.groups));
    }
    return count_reduce(tile, edges, gathered.rows_read(), rows, D::agg_word_beats, features, graph, events);
}

}  // namespace

}  // namespace hetfab
