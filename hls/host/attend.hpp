// SPDX-License-Identifier: Apache-2.0
// Host body of attention: destination by destination, the logits of its edges as vectors of heads, then their
// weighted rows as vectors of channels.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <vector>

#include "gather.hpp"
#include "hetfab/attention.hpp"

namespace hetfab {

namespace {

// The heads of a beat, and the sums of a group of channels before they may leave 32 bits.
typedef std::int16_t StoredHeads __attribute__((vector_size(8)));
typedef std::int32_t Heads __attribute__((vector_size(16)));
// So many products of 12 by 8 bits fit 31 bits.
constexpr unsigned edges_per_sum = 2048;
static_assert(edges_per_sum % 2 == 0, "edges are added in pairs");
static_assert(std::uint64_t{edges_per_sum} * 4095 * 255 < (std::uint64_t{1} << 31), "sums fit 32 bits");

inline Heads heads_at(const unsigned char* place) {
    StoredHeads stored;
    std::memcpy(&stored, place, sizeof stored);
    return __builtin_convertvector(stored, Heads);
}

inline Heads least(Heads values, int bound) {
    const Heads bounds = Heads{} + bound;
    return values < bounds ? values : bounds;
}
inline Heads largest(Heads values, Heads others) { return values > others ? values : others; }

// As edge_weight, by gaps that end at the first one that weighs nothing.
struct HostWeights12 {
    std::array<std::int32_t, isa::exponentials + 1> of_gap = {};

    HostWeights12() { std::copy(std::begin(exponentials), std::end(exponentials), of_gap.begin()); }

    Heads at(Heads gaps) const {
#if defined(__AVX2__)
        return reinterpret_cast<Heads>(
            _mm_i32gather_epi32(of_gap.data(), reinterpret_cast<__m128i>(gaps), 4));
#else
        return Heads{of_gap[static_cast<unsigned>(gaps[0])], of_gap[static_cast<unsigned>(gaps[1])],
                     of_gap[static_cast<unsigned>(gaps[2])], of_gap[static_cast<unsigned>(gaps[3])]};
#endif
    }
};

// The arrays of an attend in mapped memory.
template <class Z, class Beat>
class HostAttention {
  public:
    // Whether all that it reads is in mapped memory; only then is the rest of use.
    bool find(const AttendTile& tile, const HostMemory<Beat>& features, const HostMemory<Beat>& graph) {
        if (!edges_.find(tile.rows, features, graph)) return false;
        row_bytes_ = std::uint64_t{beat_bytes} * tile.score_beats;
        target_rows_ = score_rows(tile.targets, tile.rows.rows, tile.score_beats);
        type_rows_ =
            score_rows({tile.types, tile.score_beats}, tile.typed() ? tile.type_count : 0, tile.score_beats);
        targets_ = features.find(target_rows_);
        types_ = features.find(type_rows_);
        sources_ = features.dram.mapped(tile.sources.address);
        features_ = features.dram.mapped(tile.rows.features);
        if (targets_ == nullptr || (type_rows_.rows != 0 && types_ == nullptr)) return false;
        source_stride_ = std::uint64_t{beat_bytes} * tile.sources.row_beats;
        feature_stride_ = std::uint64_t{beat_bytes} * tile.rows.row_beats;
        target_stride_ = std::uint64_t{beat_bytes} * tile.targets.row_beats;
        return take_edges(tile);
    }

    const HostEdges<Z, Beat>& edges() const { return edges_; }
    const HostRows& target_rows() const { return target_rows_; }
    const HostRows& type_rows() const { return type_rows_; }
    std::uint64_t row_bytes() const { return row_bytes_; }
    std::uint64_t source_offset(unsigned edge) const { return source_stride_ * vertices_[edge]; }
    std::uint64_t feature_offset(unsigned edge) const { return feature_stride_ * vertices_[edge]; }
    const unsigned char* source(unsigned edge) const { return sources_.bytes + source_offset(edge); }
    const unsigned char* features(unsigned edge) const { return features_.bytes + feature_offset(edge); }
    const unsigned char* target(unsigned row) const { return targets_ + target_stride_ * row; }
    const unsigned char* type(unsigned edge) const { return types_ + row_bytes_ * edge_types_[edge]; }

    // Whether each row is one burst: whole powers of two that lie at multiples of themselves cross nothing.
    bool one_burst(std::uint64_t address, std::uint64_t stride, std::uint64_t bytes) const {
        const bool power = (bytes & (bytes - 1)) == 0 && bytes <= std::uint64_t{burst_beats} * beat_bytes;
        return power && address % bytes == 0 && stride % bytes == 0;
    }
    std::uint64_t source_bursts(const AttendTile& tile, const PortModel& port) const {
        if (one_burst(tile.sources.address, source_stride_, row_bytes_)) return vertices_.size();
        std::uint64_t bursts = 0;
        for (unsigned edge = 0; edge < vertices_.size(); edge++) {
            bursts += port.bursts(tile.sources.address + source_offset(edge), row_bytes_, beat_bytes);
        }
        return bursts;
    }
    std::uint64_t feature_bursts(const AttendTile& tile, const PortModel& port) const {
        const std::uint64_t bytes = std::uint64_t{beat_bytes} * tile.rows.groups;
        if (one_burst(tile.rows.features, feature_stride_, bytes)) return vertices_.size();
        std::uint64_t bursts = 0;
        for (unsigned edge = 0; edge < vertices_.size(); edge++) {
            bursts += port.bursts(tile.rows.features + feature_offset(edge), bytes, beat_bytes);
        }
        return bursts;
    }

  private:
    static HostRows score_rows(const ScoreRows& array, unsigned rows, unsigned beats) {
        const std::uint64_t bytes = std::uint64_t{beat_bytes} * beats;
        if (array.row_beats == beats) return {array.address, rows != 0 ? 1U : 0U, rows * bytes, 0};
        return {array.address, rows, bytes, std::uint64_t{beat_bytes} * array.row_beats};
    }

    bool take_edges(const AttendTile& tile) {
        const unsigned count = edges_.range().count;
        vertices_.resize(count);
        edge_types_.assign(tile.typed() ? count : 0, 0);
        unsigned last = 0;
        for (unsigned edge = 0; edge < count; edge++) {
            const unsigned id = edges_.entry(edge);
            vertices_[edge] = tile.typed() ? id & 0xffffff : id;
            last = std::max(last, vertices_[edge]);
            if (!tile.typed()) continue;
            edge_types_[edge] = id >> 24;
            if (edge_types_[edge] >= tile.type_count) return false;
        }
        const std::uint64_t bytes = std::uint64_t{beat_bytes} * tile.rows.groups;
        return count == 0 || (source_stride_ * last + row_bytes_ <= sources_.size &&
                              feature_stride_ * last + bytes <= features_.size);
    }

    HostEdges<Z, Beat> edges_;
    HostRows target_rows_ = {};
    HostRows type_rows_ = {};
    const unsigned char* targets_ = nullptr;
    const unsigned char* types_ = nullptr;
    MappedBytes sources_ = {nullptr, 0};
    MappedBytes features_ = {nullptr, 0};
    std::uint64_t row_bytes_ = 0;
    std::uint64_t source_stride_ = 0;
    std::uint64_t feature_stride_ = 0;
    std::uint64_t target_stride_ = 0;
    std::vector<unsigned> vertices_;
    std::vector<unsigned> edge_types_;
};

// Logits and weights of the edges of one destination: Beats vectors of four heads each.
template <unsigned Beats>
class HostScores {
  public:
    template <class Z, class Beat>
    void compare(const AttendTile& tile, const HostAttention<Z, Beat>& arrays, unsigned row, unsigned first,
                 unsigned count) {
        heads_.resize(std::size_t{Beats} * count);
        for (unsigned beat = 0; beat < Beats; beat++) maxima_[beat] = Heads{} + no_logit;
        for (unsigned edge = 0; edge < count; edge++) {
            Heads* const logits = &heads_[std::size_t{Beats} * edge];
            if (tile.dot()) {
                dot_logits(tile, arrays.source(first + edge), arrays.target(row), logits);
            } else {
                add_logits(tile, arrays.source(first + edge), arrays.target(row),
                           tile.typed() ? arrays.type(first + edge) : nullptr, logits);
            }
            for (unsigned beat = 0; beat < Beats; beat++) {
                maxima_[beat] = largest(maxima_[beat], logits[beat]);
            }
        }
    }

    // The weights of two edges at a time, the second one's in the high halves; a missing one weighs nothing.
    void weigh(unsigned count) {
        const std::size_t beats = std::size_t{Beats} * ((count + 1) / 2);
        pairs_.resize(beats);
        for (unsigned beat = 0; beat < Beats; beat++) sums_[beat] = Heads{};
        for (unsigned edge = 0; edge < count; edge += 2) {
            for (unsigned beat = 0; beat < Beats; beat++) {
                const Heads low = weights(edge, beat);
                const Heads high = edge + 1 < count ? weights(edge + 1, beat) : Heads{};
                sums_[beat] += low + high;
                pairs_[std::size_t{Beats} * (edge / 2) + beat] = low | high << 16;
            }
        }
    }
    // The weights of a head for edges 2 pair and 2 pair + 1.
    const std::int32_t* pair_of_weights(unsigned pair) const {
        return reinterpret_cast<const std::int32_t*>(&pairs_[std::size_t{Beats} * pair]);
    }

    // The sum of a head's weights: 12 bits of at most 65,535 edges.
    std::int64_t sum(unsigned head) const { return sums_[head / scores_per_beat][head % scores_per_beat]; }

  private:
    Heads weights(unsigned edge, unsigned beat) const {
        static const HostWeights12 weights;
        const Heads gaps = least(maxima_[beat] - heads_[std::size_t{Beats} * edge + beat], isa::exponentials);
        return weights.at(gaps);
    }

    static void add_logits(const AttendTile& tile, const unsigned char* source, const unsigned char* target,
                           const unsigned char* type, Heads* logits) {
        const auto slope = static_cast<std::int32_t>(tile.factor);
        for (unsigned beat = 0; beat < Beats; beat++) {
            const std::size_t place = std::size_t{beat_bytes} * beat;
            Heads total = heads_at(source + place) + heads_at(target + place);
            if (type != nullptr) total += heads_at(type + place);
            total = largest(least(total, 32767), Heads{} - 32768);
            const Heads sloped = (total * slope + (1 << (slope_bits - 1))) >> static_cast<int>(slope_bits);
            logits[beat] = total < 0 ? sloped : total;
        }
    }

    static void dot_logits(const AttendTile& tile, const unsigned char* key, const unsigned char* query,
                           Heads* logits) {
        const unsigned channels = tile.head_beats * group_channels;
        const Distance<Native, 16> distance(static_cast<std::uint8_t>(tile.shift));
        for (unsigned head = 0; head < tile.heads; head++) {
            std::int32_t products = 0;
            for (unsigned channel = head * channels; channel < (head + 1) * channels; channel++) {
                products += static_cast<signed char>(key[channel]) * static_cast<signed char>(query[channel]);
            }
            const std::int64_t scaled = std::int64_t{products} * tile.factor;
            logits[head / scores_per_beat][head % scores_per_beat] = shifted<Native, 16>(scaled, distance);
        }
    }

    std::vector<Heads> heads_;
    std::vector<Heads> pairs_;
    Heads maxima_[Beats];
    Heads sums_[Beats];
};

// Adds, for each channel of a group, the products of two rows with a pair of weights.
template <class Group>
void add_weighted_pair(const unsigned char* first, const unsigned char* second, std::int32_t weights,
                       GroupSums& sums) {
#if defined(__AVX2__)
    const __m128i channels = _mm_unpacklo_epi8(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(first)),
                                               _mm_loadl_epi64(reinterpret_cast<const __m128i*>(second)));
    const __m256i pairs =
        std::is_same_v<Group, SignedGroup> ? _mm256_cvtepi8_epi16(channels) : _mm256_cvtepu8_epi16(channels);
    sums += reinterpret_cast<GroupSums>(_mm256_madd_epi16(pairs, _mm256_set1_epi32(weights)));
#else
    GroupSums one;
    GroupSums other;
    widen<Group>(first, one);
    widen<Group>(second, other);
    sums += one * static_cast<std::uint32_t>(weights & 0xffff) +
            other * static_cast<std::uint32_t>(weights >> 16);
#endif
}

// Adds the weighted rows of edges, two at a time, to the sums of `Groups` groups of channels; at most
// edges_per_sum edges, from an even one on.
template <class Group, unsigned Groups, unsigned Beats, class Z, class Beat>
void add_weighted_rows(const AttendTile& tile, const HostAttention<Z, Beat>& arrays,
                       const HostScores<Beats>& scores, unsigned first, unsigned begin, unsigned end,
                       unsigned group, std::int64_t* sums) {
    GroupSums totals[Groups] = {};
    unsigned heads[Groups];
    for (unsigned one = 0; one < Groups; one++) heads[one] = (group + one) / tile.head_groups;
    for (unsigned edge = begin; edge < end; edge += 2) {
        const std::size_t place = std::size_t{group_channels} * group;
        const unsigned char* const row = arrays.features(first + edge) + place;
        const unsigned char* const next = arrays.features(first + std::min(edge + 1, end - 1)) + place;
        const std::int32_t* const weights = scores.pair_of_weights(edge / 2);
#pragma GCC unroll 8
        for (unsigned one = 0; one < Groups; one++) {
            const std::size_t channel = std::size_t{group_channels} * one;
            add_weighted_pair<Group>(row + channel, next + channel, weights[heads[one]], totals[one]);
        }
    }
    for (unsigned one = 0; one < Groups; one++) {
        for (unsigned lane = 0; lane < group_channels; lane++) {
            sums[(group + one) * group_channels + lane] += static_cast<std::int32_t>(totals[one][lane]);
        }
    }
}

template <class Group, unsigned Beats, class Z, class Beat>
void add_weighted_edges(const AttendTile& tile, const HostAttention<Z, Beat>& arrays,
                        const HostScores<Beats>& scores, unsigned first, unsigned count, std::int64_t* sums) {
    for (unsigned begin = 0; begin < count; begin += edges_per_sum) {
        const unsigned end = std::min(count, begin + edges_per_sum);
        unsigned group = 0;
        for (; group + 8 <= tile.rows.groups; group += 8) {
            add_weighted_rows<Group, 8>(tile, arrays, scores, first, begin, end, group, sums);
        }
        for (; group + 2 <= tile.rows.groups; group += 2) {
            add_weighted_rows<Group, 2>(tile, arrays, scores, first, begin, end, group, sums);
        }
        for (; group < tile.rows.groups; group++) {
            add_weighted_rows<Group, 1>(tile, arrays, scores, first, begin, end, group, sums);
        }
    }
}

// The quotients of a destination, added to what its words hold or not.
template <unsigned Beats>
void put_quotients(const AttendTile& tile, const std::int64_t* sums, const HostScores<Beats>& scores,
                   unsigned char* words) {
    for (unsigned channel = 0; channel < tile.rows.groups * group_channels; channel++) {
        const std::int64_t weight = scores.sum(channel / group_channels / tile.head_groups);
        // Raised by 2^16 divisors, so that the division, which cuts, gives the floor.
        const std::int64_t dividend = 512 * sums[channel] + weight + (weight << 17);
        const std::int64_t quotient = weight == 0 ? 0 : dividend / (2 * weight) - (1 << 16);
        std::uint32_t before = 0;
        if (tile.rows.accumulate) std::memcpy(&before, words + std::size_t{4} * channel, 4);
        const std::uint32_t result = before + static_cast<std::uint32_t>(quotient);
        std::memcpy(words + std::size_t{4} * channel, &result, 4);
    }
}

template <unsigned Beats, class D, class Z, class Beat, class T>
void attend_destinations(const AttendTile& tile, const HostAttention<Z, Beat>& arrays, HostRam<T> sum_ram) {
    HostScores<Beats> scores;
    unsigned first = 0;
    for (unsigned row = 0; row < tile.rows.rows; row++) {
        const unsigned count = arrays.edges().degree(row);
        scores.compare(tile, arrays, row, first, count);
        scores.weigh(count);
        std::int64_t sums[D::agg_groups * group_channels] = {};
        if (tile.rows.is_unsigned) {
            add_weighted_edges<UnsignedGroup>(tile, arrays, scores, first, count, sums);
        } else {
            add_weighted_edges<SignedGroup>(tile, arrays, scores, first, count, sums);
        }
        put_quotients(tile, sums, scores, sum_ram.at(tile.rows.sum + row * tile.rows.groups));
        first += count;
    }
}

// What the plain body's loops count in the two passes over the edges.
template <class Events>
void count_passes(const AttendTile& tile, unsigned edges, std::uint64_t steps, Events& events) {
    const unsigned chunks = std::max(1U, (edges + isa::attend_edges - 1) / isa::attend_edges);
    const unsigned scores_ahead = rows_ahead(tile.score_beats);
    const unsigned rows_of_features = rows_ahead(tile.rows.groups);
    events.loop(isa::loops::attend_scores_ahead, std::min(scores_ahead, edges));
    events.loops(isa::loops::attend_scores, steps * tile.score_beats, 1);
    for (unsigned chunk = 0; chunk < chunks; chunk++) {
        const unsigned in_chunk = std::min(isa::attend_edges, edges - chunk * isa::attend_edges);
        events.loop(isa::loops::attend_scores_ahead, std::min(scores_ahead, in_chunk));
        events.loop(isa::loops::attend_weighted_ahead, std::min(rows_of_features, in_chunk));
    }
    events.loops(isa::loops::attend_scores, steps * tile.score_beats, chunks);
    events.loops(isa::loops::attend_weighted, steps * tile.rows.groups, chunks);
}

// What the loops of the plain body count, and what its ports carry.
template <class Z, class Beat, class Events>
Outcome count_attend(const AttendTile& tile, const HostAttention<Z, Beat>& arrays, unsigned dividers,
                     const HostMemory<Beat>& features, const HostMemory<Beat>& graph, Events& events) {
    const unsigned count = arrays.edges().range().count;
    const HostRows& entries = arrays.edges().entry_rows();
    const HostRows& records = arrays.edges().record_rows();
    std::uint64_t data_bytes = 0;
    std::uint64_t graph_bytes = 0;
    const auto copied = [&](const HostMemory<Beat>& memory, const HostRows& rows, std::uint64_t& bytes) {
        const std::uint64_t bursts = rows.bursts();
        memory.count_read(rows, bursts);
        events.loop(isa::loops::request_ahead, ahead(bursts));
        bytes += rows.rows * rows.row_bytes;
    };
    copied(graph, records, graph_bytes);
    copied(features, arrays.target_rows(), data_bytes);
    copied(features, arrays.type_rows(), data_bytes);
    for (unsigned pass = 0; pass < 2; pass++) copied(graph, entries, graph_bytes);
    const std::uint64_t types = arrays.type_rows().rows * arrays.type_rows().row_bytes / beat_bytes;
    events.loop(isa::loops::agg_descriptors, tile.rows.rows * tile.rows.record_beats());
    events.loop(isa::loops::attend_rows, tile.rows.rows * tile.score_beats);
    events.loop(isa::loops::attend_rows, static_cast<unsigned>(types));
    std::uint64_t steps = 0;
    for (unsigned row = 0; row < tile.rows.rows; row++) steps += std::max(arrays.edges().degree(row), 1U);
    count_passes(tile, count, steps, events);
    const unsigned words = tile.rows.rows * tile.rows.groups;
    events.loop(isa::loops::agg_sums, tile.rows.accumulate ? words : 0);
    events.loop(isa::loops::attend_quotients, words * (group_channels / dividers));
    const std::uint64_t row_bytes = 2 * arrays.row_bytes() + std::uint64_t{beat_bytes} * tile.rows.groups;
    features.port.traffic.read_bytes += count * row_bytes;
    features.port.traffic.read_bursts +=
        2 * arrays.source_bursts(tile, features.port) + arrays.feature_bursts(tile, features.port);
    events.edges(count);
    events.misses(count);
    const auto trips = static_cast<unsigned>(steps * (2 * tile.score_beats + tile.rows.groups));
    return {true, trips, count, (data_bytes + count * row_bytes) / beat_bytes,
            static_cast<unsigned>(graph_bytes / beat_bytes)};
}

// Whether this body does what an attend asks for; rows through the scratchpad, parts and partial results are
// the plain body's.
inline bool attends_on_host(const AttendTile& tile) {
    return tile.rows.rows != 0 && tile.rows.groups != 0 && tile.maxima && tile.weigh && !tile.rows.tagged &&
           tile.rows.parts == 1;
}

template <class D, class Z, class Beat, class F, class TagRam, class T, class Fifo, class Events>
Outcome attend_rows(const AttendTile& tile, HostMemory<Beat> features, HostMemory<Beat> graph,
                    HostBanks<F> feature_ram, TagRam tag_ram, HostRam<T> sum_ram, Fifo& rows_fifo,
                    AggMemories<D, Z>& memories, Events& events) {
    HostAttention<Z, Beat> arrays;
    if (!attends_on_host(tile) ||
        !sum_ram.holds(tile.rows.sum, std::uint64_t{tile.rows.rows} * tile.rows.groups) ||
        !arrays.find(tile, features, graph)) {
        return attend_rows<D, Z>(tile, features.plain(), graph.plain(), feature_ram.plain, tag_ram,
                                 sum_ram.plain, rows_fifo, memories, events);
    }
    if (tile.heads <= scores_per_beat) {
        attend_destinations<1, D>(tile, arrays, sum_ram);
    } else {
        attend_destinations<2, D>(tile, arrays, sum_ram);
    }
    return count_attend(tile, arrays, attend_dividers(D::agg_word_beats), features, graph, events);
}

}  // namespace

}  // namespace hetfab
