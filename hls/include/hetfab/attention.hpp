// SPDX-License-Identifier: Apache-2.0
// Attention over the edges of a tile of destinations: a pass for the largest logits, and one that weighs the
// sources' rows, chunk by chunk of edges whose logits are known (docs/attention.md).
#pragma once

#include "attend_partials.hpp"
#include "attend_scores.hpp"
#include "exponentials.hpp"
#include "quotients.hpp"
#include "reduce.hpp"

namespace hetfab {

// The weight of an edge that is so far below the largest logit.
template <class Z>
U<Z, 12> edge_weight(const U<Z, 12>& gap) {
#pragma HLS INLINE
    return gap < isa::exponentials ? U<Z, 12>(exponentials[static_cast<unsigned>(gap)]) : U<Z, 12>(0);
}

// Which head each group of channels belongs to.
template <class D>
void heads_of_groups(unsigned head_groups, unsigned (&heads)[D::agg_groups]) {
#pragma HLS INLINE
    unsigned head = 0;
    unsigned in_head = 0;
groups_of_heads:
    for (unsigned group = 0; group < D::agg_groups; group++) {
#pragma HLS UNROLL factor=D::agg_groups
        heads[group] = head % D::agg_heads;
        in_head = in_head + 1 == head_groups ? 0 : in_head + 1;
        if (in_head == 0) head++;
    }
}

// Adds a weighted beat of features to the sums of a group, the last of which adds the weight itself.
template <class D, class Z>
void add_weighted(S<Z, isa::partial_bits> (&totals)[D::lanes + 1], const Word<Z, 64>& beat, bool is_unsigned,
                  const U<Z, 12>& weight, bool first, const S<Z, isa::partial_bits> (&merged)[D::lanes + 1]) {
#pragma HLS INLINE
weighted_lanes:
    for (unsigned lane = 0; lane <= D::lanes; lane++) {
#pragma HLS UNROLL factor=D::lanes+1
        S<Z, 9> feature = 1;
        if (lane < D::lanes) {
            feature = is_unsigned ? S<Z, 9>(lane_u<Z, 8>(beat, lane)) : S<Z, 9>(lane_s<Z, 8>(beat, lane));
        }
        const S<Z, isa::partial_bits> before = first ? merged[lane] : totals[lane];
        totals[lane] = wrap<Z, isa::partial_bits>(
            sum<Z, isa::partial_bits + 1>(before, product<Z, 21>(feature, S<Z, 13>(weight))));
    }
}

// Requests the rows of the first edges of a chunk, whose vertices are kept.
template <class D, class Z, class MemF, class TagRam, class Events>
void request_weighted_ahead(unsigned groups, RowRequests<Z>& requests, const AttendMemories<D, Z>& kept,
                            MemF features, TagRam tag_ram, Events& events) {
#pragma HLS INLINE
    const unsigned ahead = rows_ahead(groups);
    unsigned trips = 0;
weighted_ahead:
    while (trips < ahead && requests.wants()) {
#pragma HLS LOOP_TRIPCOUNT min=1 max=16
#pragma HLS PIPELINE II=2 style=stp
        events.trip(isa::loops::attend_weighted_ahead);
        requests.look({kept.vertices[trips], 0, 1}, tag_ram);
        requests.issue(features, tag_ram);
        trips++;
    }
    events.loop(isa::loops::attend_weighted_ahead, trips);
}

// What a chunk took: trips, and rows that were read from DRAM.
struct ChunkCounts {
    unsigned trips;
    unsigned rows_read;
};

// Adds the weighted rows of a chunk of edges to the sums of their destinations, group by group.
template <class D, class Z, class MemF, class FeatureRam, class TagRam, class Events>
ChunkCounts weigh_edges(const AttendTile& tile, const EdgeChunk& chunk,
                        const Destination<Z> (&destinations)[agg_runs], EdgeWalk<Z>& walk,
                        S<Z, isa::partial_bits> (&totals)[D::agg_groups][D::lanes + 1],
                        AttendMemories<D, Z>& kept, MemF features, FeatureRam feature_ram, TagRam tag_ram,
                        Events& events) {
#pragma HLS INLINE
    static_assert(rows_ahead_cover(D::agg_groups, D::agg_word_beats, isa::loops::attend_weighted.depth),
                  "a row is requested more trips before its first beat than the pipeline of sums has stages");
    RowRequests<Z> requests(tile.rows.feature_rows(), chunk.edges, D::agg_word_beats);
    request_weighted_ahead<D, Z>(tile.rows.groups, requests, kept, features, tag_ram, events);
    const unsigned ahead_edges = rows_ahead(tile.rows.groups);
    unsigned head_of_group[D::agg_groups];
#pragma HLS ARRAY_PARTITION variable = head_of_group type = complete dim = 0
    heads_of_groups<D>(tile.head_groups, head_of_group);
    unsigned edge = 0;
    unsigned group = 0;
    ChunkCounts counts = {0, 0};
    EdgeRow place = {false, false, 0, {0, 0, 1}};
weighted_beats:
    while (chunk.holds(edge, walk)) {
#pragma HLS LOOP_TRIPCOUNT min=1 max=65536
#pragma HLS PIPELINE II=1 style=stp
// The sums of a run are read at its first edge and written at its last one; the next run of its destination
// comes 16 rows later at least, more trips than the pipeline has stages.
#pragma HLS DEPENDENCE variable=kept.partials type=inter dependent=false
        events.trip(isa::loops::attend_weighted);
        const Destination<Z> ahead = destinations[walk.row_ahead()];
        const unsigned word = walk.row() * tile.rows.groups + group;
        if (walk.has_edge() && group == 0) {
            place = requests.take();
            if (requests.wants()) {
                requests.look({kept.vertices[(edge + ahead_edges) % isa::attend_edges], 0, 1}, tag_ram);
            }
            if (place.read) counts.rows_read++;
        }
        const bool merges = tile.rows.merge || walk.part() != 0;
        const bool wide =
            walk.has_edge() && !place.read && !walk.last_edge() && !(walk.first_edge() && merges);
        const unsigned row_trips = wide ? tile.rows.held_trips(D::agg_word_beats) : tile.rows.row_trips();
        const bool last_trip = group + 1 == row_trips;
        const bool in_row = group < tile.rows.groups;
        S<Z, isa::partial_bits> merged[D::lanes + 1];
#pragma HLS ARRAY_PARTITION variable = merged type = complete dim = 0
    merged_lanes:
        for (unsigned lane = 0; lane <= D::lanes; lane++) {
#pragma HLS UNROLL factor=D::lanes+1
            merged[lane] = merges && in_row ? kept.partials[word][lane] : S<Z, isa::partial_bits>(0);
        }
        if (walk.has_edge() && in_row) {
            const RowTrip<D> trip = {wide, group, tile.rows.groups};
            Word<Z, 64> beats[D::agg_word_beats];
#pragma HLS ARRAY_PARTITION variable = beats type = complete dim = 0
            row_beats<D, Z>(place, trip, features, feature_ram, beats);
        weighted_banks:
            for (unsigned bank = 0; bank < D::agg_word_beats; bank++) {
#pragma HLS UNROLL factor=D::agg_word_beats
                if (trip.takes(bank)) {
                    const unsigned of_row = trip.group(bank);
                    const U<Z, 12> weight = edge_weight<Z>(kept.gaps[edge][head_of_group[of_row]]);
                    add_weighted<D, Z>(totals[of_row], beats[bank], tile.rows.is_unsigned, weight,
                                       walk.first_edge(), merged);
                }
            }
        }
        if (walk.last_edge() && in_row) {
        partial_lanes:
            for (unsigned lane = 0; lane <= D::lanes; lane++) {
#pragma HLS UNROLL factor=D::lanes+1
                kept.partials[word][lane] = walk.has_edge() ? totals[group][lane] : merged[lane];
            }
        }
        if (last_trip && walk.has_edge()) {
            requests.issue(features, tag_ram);
            edge++;
        }
        if (last_trip) walk.advance(ahead);
        group = last_trip ? 0 : group + 1;
        counts.trips++;
    }
    events.loop(isa::loops::attend_weighted, counts.trips);
    return counts;
}

// The second pass: chunk by chunk the gaps of edges, then their weighted rows.
template <class D, class Z, class MemF, class MemG, class FeatureRam, class TagRam, class Events>
Outcome weigh_rows(const AttendTile& tile, const EdgeRange& edges,
                   const Destination<Z> (&destinations)[agg_runs], AttendMemories<D, Z>& kept, MemF features,
                   MemG graph, FeatureRam feature_ram, TagRam tag_ram, RowsStream<Z>& rows_fifo,
                   Events& events) {
#pragma HLS INLINE
    S<Z, isa::partial_bits> totals[D::agg_groups][D::lanes + 1];
#pragma HLS ARRAY_PARTITION variable = totals type = complete dim = 0
    EdgeWalk<Z> compared(destinations, tile.rows);
    EdgeWalk<Z> weighed(destinations, tile.rows);
    EntryReader<Z> entries(tile.rows, edges);
    entries.start(graph, events);
    Outcome outcome = {true, 0};
    unsigned left = edges.count;
    unsigned rows_read = 0;
    bool last = false;
edge_chunks:
    while (!last) {
#pragma HLS LOOP_TRIPCOUNT min = 1 max = 128
        last = left <= isa::attend_edges;
        const EdgeChunk chunk = {last ? left : isa::attend_edges, last};
        outcome.work += compare_edges<D, Z>(tile, chunk, false, destinations, compared, entries, kept,
                                            features, graph, tag_ram, rows_fifo, events);
        const ChunkCounts counts = weigh_edges<D, Z>(tile, chunk, destinations, weighed, totals, kept,
                                                     features, feature_ram, tag_ram, events);
        outcome.work += counts.trips;
        rows_read += counts.rows_read;
        left -= chunk.edges;
    }
    events.misses(rows_read);
    outcome.count1 =
        std::uint64_t{edges.count} * tile.score_beats + std::uint64_t{rows_read} * tile.rows.groups;
    outcome.count2 = entries.beats_read();
    return outcome;
}

// Divides the sums, as many channels a cycle as there are dividers, and writes the results to sum_ram, added
// to what it held.
template <class D, class Z, class SumRam, class Events>
void write_quotients(const AttendTile& tile, const AttendMemories<D, Z>& kept,
                     const Word<Z, 32 * D::lanes> (&held)[D::sum_words], SumRam sum_ram, Events& events) {
#pragma HLS INLINE
    constexpr unsigned dividers = attend_dividers(D::agg_word_beats);
    static_assert(D::lanes % dividers == 0, "a word of sums takes whole trips of the dividers");
    const unsigned trips = tile.rows.rows * tile.rows.groups * (D::lanes / dividers);
    Word<Z, 32 * D::lanes> results = zero<Z, 32 * D::lanes>();
quotient_channels:
    for (unsigned trip = 0; trip < trips; trip++) {
#pragma HLS LOOP_TRIPCOUNT min=1 max=4096
#pragma HLS PIPELINE II=1 style=stp
        events.trip(isa::loops::attend_quotients);
        const unsigned word = trip / (D::lanes / dividers);
        const unsigned first = trip % (D::lanes / dividers) * dividers;
        const Divisor<Z> divisor = divisor_of<Z>(kept.partials[word][D::lanes], tile.rows.is_unsigned);
    quotient_lanes:
        for (unsigned divider = 0; divider < dividers; divider++) {
#pragma HLS UNROLL factor=dividers
            const unsigned lane = first + divider;
            const S<Z, 32> quotient = attention_q8<Z>(kept.partials[word][lane], divisor);
            const S<Z, 32> before = tile.rows.accumulate ? lane_s<Z, 32>(held[word], lane) : S<Z, 32>(0);
            set_lane<Z, 32>(results, lane, wrap<Z, 32>(sum<Z, 33>(before, quotient)));
        }
        if (first == D::lanes - dividers) sum_ram[tile.rows.sum + word] = results;
    }
    events.loop(isa::loops::attend_quotients, trips);
}

// Both passes over a tile, or one of them.
template <class D, class Z, class MemF, class MemG, class FeatureRam, class TagRam, class SumRam, class Fifo,
          class Events>
Outcome attend_rows(const AttendTile& tile, MemF features, MemG graph, FeatureRam feature_ram, TagRam tag_ram,
                    SumRam sum_ram, Fifo& rows_fifo, AggMemories<D, Z>& memories, Events& events) {
#pragma HLS INLINE
    if (tile.rows.rows == 0 || tile.rows.groups == 0) return {true, 0};
    AttendMemories<D, Z> kept;
#pragma HLS ARRAY_PARTITION variable = kept.maxima type = complete dim = 2
#pragma HLS ARRAY_PARTITION variable = kept.gaps type = complete dim = 2
#pragma HLS ARRAY_PARTITION variable = kept.partials type = complete dim = 2
// Narrow or shallow memories, of which a design has less block RAM left than LUTs.
#pragma HLS BIND_STORAGE variable = kept.types type = ram_s2p impl = lutram
#pragma HLS BIND_STORAGE variable = kept.maxima type = ram_s2p impl = lutram
#pragma HLS BIND_STORAGE variable = kept.gaps type = ram_s2p impl = lutram
    const EdgeRange edges = read_destinations<Z>(tile.rows, graph, memories.destinations, events);
    events.edges(edges.count);
    Outcome outcome = {true, 0, edges.count, 0, edges.beats_read};
    outcome.count1 +=
        copy_score_rows<Z>(tile.targets, tile.rows.rows, tile.score_beats, features, kept.targets, events);
    const ScoreRows types = {tile.types, tile.score_beats};
    outcome.count1 += copy_score_rows<Z>(types, tile.typed() ? tile.type_count : 0, tile.score_beats,
                                         features, kept.types, events);
    outcome.count1 += read_partials<D, Z>(tile, kept, features, events);
    if (tile.maxima) {
        EdgeWalk<Z> walk(memories.destinations, tile.rows);
        EntryReader<Z> entries(tile.rows, edges);
        entries.start(graph, events);
        outcome.work += compare_edges<D, Z>(tile, {edges.count, true}, true, memories.destinations, walk,
                                            entries, kept, features, graph, tag_ram, rows_fifo, events);
        outcome.count1 += std::uint64_t{edges.count} * tile.score_beats;
        outcome.count2 += entries.beats_read();
    }
    if (tile.weigh) {
        const Outcome weighed = weigh_rows<D, Z>(tile, edges, memories.destinations, kept, features, graph,
                                                 feature_ram, tag_ram, rows_fifo, events);
        outcome.work += weighed.work;
        outcome.count1 += weighed.count1;
        outcome.count2 += weighed.count2;
    }
    if (tile.rows.spill) {
        write_partials<D, Z>(tile, kept, features, events);
    } else {
        read_sums<D, Z>(tile.rows, sum_ram, memories.held, events);
        write_quotients<D, Z>(tile, kept, memories.held, sum_ram, events);
    }
    return outcome;
}

}  // namespace hetfab
