// SPDX-License-Identifier: Apache-2.0
// Sums and means of the rows of each destination's sources.
#pragma once

#include "row_requests.hpp"

namespace hetfab {

// A mean or a sum in Q.8 of one lane, or the plain sum.
template <class Z>
S<Z, 32> reduce_lane(const S<Z, 32>& total, const Destination<Z>& destination, unsigned mode) {
#pragma HLS INLINE
    if (mode == isa::reduce_mode::raw) return total;
    const S<Z, 49> scaled = product<Z, 49>(total, destination.reciprocal);
    const S<Z, 64> half = S<Z, 64>(1) << (destination.exponent + isa::q8_bits - 1);
    const S<Z, 64> rounded = sum<Z, 64>(scaled, half);
    const S<Z, 64> quotient = rounded >> (destination.exponent + isa::q8_bits);
    const S<Z, 64> shifted = product<Z, 64>(total, S<Z, isa::q8_bits + 2>(1 << isa::q8_bits));
    return wrap<Z, 32>(mode == isa::reduce_mode::mean ? quotient : shifted);
}

// Adds a beat of features to the sums of one group, or to what the first edge begins with.
template <class D, class Z>
void add_features(S<Z, 32> (&totals)[D::lanes], const Word<Z, 64>& beat, bool is_unsigned, int weight,
                  bool first, const Word<Z, 32 * D::lanes>& merged) {
#pragma HLS INLINE
feature_lanes:
    for (unsigned lane = 0; lane < D::lanes; lane++) {
#pragma HLS UNROLL factor=D::lanes
        const S<Z, 9> feature =
            is_unsigned ? S<Z, 9>(lane_u<Z, 8>(beat, lane)) : S<Z, 9>(lane_s<Z, 8>(beat, lane));
        const S<Z, 32> before = first ? lane_s<Z, 32>(merged, lane) : totals[lane];
        if constexpr (D::agg_weights != 0) {
            totals[lane] = wrap<Z, 32>(sum<Z, 33>(before, product<Z, 17>(feature, S<Z, 8>(weight))));
        } else {
            totals[lane] = wrap<Z, 32>(sum<Z, 33>(before, feature));
        }
    }
}

// The sums of one group of a destination, or what it merges where it has no edges.
template <class D, class Z>
Word<Z, 32 * D::lanes> sums_word(const S<Z, 32> (&totals)[D::lanes], bool edges,
                                 const Word<Z, 32 * D::lanes>& merged) {
#pragma HLS INLINE
    Word<Z, 32 * D::lanes> word = merged;
sum_lanes:
    for (unsigned lane = 0; lane < D::lanes; lane++) {
#pragma HLS UNROLL factor=D::lanes
        if (edges) set_lane<Z, 32>(word, lane, totals[lane]);
    }
    return word;
}

// The result of one group of a destination, added to what sum_ram held.
template <class D, class Z>
Word<Z, 32 * D::lanes> reduced_word(const Word<Z, 32 * D::lanes>& sums, const Destination<Z>& destination,
                                    unsigned mode, const Word<Z, 32 * D::lanes>& before) {
#pragma HLS INLINE
    Word<Z, 32 * D::lanes> word = zero<Z, 32 * D::lanes>();
result_lanes:
    for (unsigned lane = 0; lane < D::lanes; lane++) {
#pragma HLS UNROLL factor=D::lanes
        const S<Z, 32> result = reduce_lane<Z>(lane_s<Z, 32>(sums, lane), destination, mode);
        set_lane<Z, 32>(word, lane, wrap<Z, 32>(sum<Z, 33>(lane_s<Z, 32>(before, lane), result)));
    }
    return word;
}

// Copies the sums that the results are added to. A loop and a memory of their own: in the gather's pipeline
// the read for one destination and the write for another would meet at the one port of sum_ram.
template <class D, class Z, class SumRam, class Events>
void read_sums(const ReduceTile& tile, SumRam sum_ram, Word<Z, 32 * D::lanes> (&held)[D::sum_words],
               Events& events) {
#pragma HLS INLINE
    const unsigned words = tile.accumulate ? tile.rows * tile.groups : 0;
held_words:
    for (unsigned word = 0; word < words; word++) {
#pragma HLS LOOP_TRIPCOUNT min = 8 max = 1024
#pragma HLS PIPELINE II = 1 style = stp
        events.trip(isa::loops::agg_sums);
        held[word] = sum_ram[tile.sum + word];
    }
    events.loop(isa::loops::agg_sums, words);
}

// Requests rows of spilled sums, each for itself: their vertices need not be neighbours.
template <class Z, class Mem>
void request_spilled(const ReduceTile& tile, const Destination<Z>& destination, Mem features) {
#pragma HLS INLINE
    features.read_request(tile.spilled_row(destination.row) / beat_bytes, tile.sum_beats());
}

// Reads what was spilled for the destinations, run by run; it counts beats.
template <class D, class Z, class Mem, class Events>
unsigned read_spilled(const ReduceTile& tile, const Destination<Z> (&destinations)[agg_runs], unsigned first,
                      Mem features, Word<Z, 32 * D::lanes> (&held)[D::sum_words], Events& events) {
#pragma HLS INLINE
    const unsigned rows = tile.merge ? tile.rows : 0;
    const unsigned ahead = rows_ahead(tile.sum_beats());
    unsigned requested = 0;
spilled_ahead:
    while (requested < ahead && requested < rows) {
#pragma HLS LOOP_TRIPCOUNT min = 1 max = 16
#pragma HLS PIPELINE II = 1 style = stp
        events.trip(isa::loops::agg_spilled_ahead);
        request_spilled<Z>(tile, destinations[requested], features);
        requested++;
    }
    events.loop(isa::loops::agg_spilled_ahead, requested);
    const unsigned beats = rows * tile.sum_beats();
    unsigned word = first;
    unsigned position = 0;
    Word<Z, 32 * D::lanes> sums = zero<Z, 32 * D::lanes>();
spilled_beats:
    for (unsigned beat = 0; beat < beats; beat++) {
#pragma HLS LOOP_TRIPCOUNT min = 4 max = 4096
#pragma HLS PIPELINE II = 1 style = stp
        events.trip(isa::loops::agg_spilled);
        const Word<Z, 64> pair = features.read();
        const unsigned quarter = position % beats_per_sums;
        set_lane<Z, 32>(sums, 2 * quarter, lane_s<Z, 32>(pair, 0));
        set_lane<Z, 32>(sums, 2 * quarter + 1, lane_s<Z, 32>(pair, 1));
        if (quarter == beats_per_sums - 1) held[word++] = sums;
        position++;
        if (position == tile.sum_beats()) {
            position = 0;
            if (requested < rows) {
                request_spilled<Z>(tile, destinations[requested], features);
                requested++;
            }
        }
    }
    events.loop(isa::loops::agg_spilled, beats);
    return beats;
}

// Writes sums to the rows of their destinations, and waits for the responses, as STORE does.
template <class D, class Z, class Mem, class Events>
void write_spilled(const ReduceTile& tile, const Destination<Z> (&destinations)[agg_runs],
                   const Word<Z, 32 * D::lanes> (&held)[D::sum_words], Mem features, Events& events) {
#pragma HLS INLINE
    const unsigned beats = tile.spill ? tile.rows * tile.sum_beats() : 0;
    BurstCursor cursor(tile.spilled_row(destinations[0].row), 1, tile.sum_beats(), 0);
    unsigned left = 0;
    unsigned responses_due = 0;
    unsigned row = 0;
    unsigned position = 0;
sum_beats:
    for (unsigned beat = 0; beat < beats; beat++) {
#pragma HLS LOOP_TRIPCOUNT min = 4 max = 4096
#pragma HLS PIPELINE II = 1 style = stp
        events.trip(isa::loops::agg_spill);
        if (left == 0) {
            left = cursor.length();
            features.write_request(cursor.beat(), left);
            cursor.advance();
        }
        features.write(Z::beat(held[beat / beats_per_sums], beat % beats_per_sums));
        left--;
        position++;
        if (position == tile.sum_beats()) {
            position = 0;
            row++;
            cursor = BurstCursor(tile.spilled_row(destinations[row % agg_runs].row), 1, tile.sum_beats(), 0);
        }
        if (left == 0) {
            if (responses_due == bursts_ahead) {
                features.write_response();
            } else {
                responses_due++;
            }
        }
    }
    events.loop(isa::loops::agg_spill, beats);
    unsigned responses = 0;
spill_responses:
    while (responses < responses_due) {
#pragma HLS LOOP_TRIPCOUNT min = 1 max = 8
#pragma HLS PIPELINE II = 1 style = stp
        events.trip(isa::loops::agg_spill_responses);
        features.write_response();
        responses++;
    }
    events.loop(isa::loops::agg_spill_responses, responses);
}

// Requests the rows of the first edges.
template <class Z, class MemF, class MemG, class TagRam, class Events>
void request_rows_ahead(unsigned groups, RowRequests<Z>& requests, EntryReader<Z>& entries, MemF features,
                        MemG graph, TagRam tag_ram, RowsStream<Z>& rows_fifo, Events& events) {
#pragma HLS INLINE
    const unsigned ahead = rows_ahead(groups);
    unsigned trips = 0;
rows_ahead_loop:
    while (trips < ahead && requests.wants()) {
#pragma HLS LOOP_TRIPCOUNT min = 1 max = 16
#pragma HLS PIPELINE II = 2 style = stp
        events.trip(isa::loops::agg_rows_ahead);
        requests.look(entries.next(graph, rows_fifo), tag_ram);
        requests.issue(features, tag_ram);
        trips++;
    }
    events.loop(isa::loops::agg_rows_ahead, trips);
}

// One trip per group of a row, and per group of a run without edges, which reads nothing; one per word of the
// scratchpad where the row is held and its run goes on. The parts of a destination are merged in `held`.
// It counts edges and the beats of both ports.
template <class D, class Z, class MemF, class MemG, class FeatureRam, class TagRam, class SumRam,
          class Events>
Outcome gather(const ReduceTile& tile, const Destination<Z> (&destinations)[agg_runs], const EdgeRange& edges,
               Word<Z, 32 * D::lanes> (&held)[D::sum_words], unsigned merged_from, MemF features, MemG graph,
               FeatureRam feature_ram, TagRam tag_ram, SumRam sum_ram, RowsStream<Z>& rows_fifo,
               Events& events) {
#pragma HLS INLINE
    static_assert(
        rows_ahead_cover(D::agg_groups, D::agg_word_beats, isa::loops::agg_gather.depth),
        "a row is requested more trips before its first beat than the gather's pipeline has stages");
    S<Z, 32> totals[D::agg_groups][D::lanes];
#pragma HLS ARRAY_PARTITION variable = totals type = complete dim = 0
    RowRequests<Z> requests(tile.feature_rows(), edges.count, D::agg_word_beats);
    EntryReader<Z> entries(tile, edges);
    entries.start(graph, events);
    request_rows_ahead<Z>(tile.groups, requests, entries, features, graph, tag_ram, rows_fifo, events);
    unsigned record = 0;
    unsigned row = 0;
    unsigned part = 0;
    unsigned group = 0;
    unsigned word = 0;
    unsigned trips = 0;
    unsigned edges_summed = 0;
    unsigned rows_read = 0;
    // A group of each edge: up to 34 bits, of which the token holds 36.
    std::uint64_t feature_beats = 0;
    Destination<Z> destination = destinations[0];
    Destination<Z> next = destinations[1];
    unsigned edges_left = destination.degree;
    bool first_edge = true;
    EdgeRow place = {false, false, 0, {0, 0, 1}};
row_beats:
    while (record < tile.records()) {
#pragma HLS LOOP_TRIPCOUNT min = 8 max = 65536
#pragma HLS PIPELINE II = 1 style = stp
// The sums of a run are read at its first edge and written at its last one; the next run of its destination
// comes 16 rows later at least, more trips than the pipeline has stages.
#pragma HLS DEPENDENCE variable=held type=inter dependent=false
        events.trip(isa::loops::agg_gather);
        // Read in every trip, two rows ahead: the address depends on nothing but the row, and what the memory
        // gives after its latency is needed two rows, so at least two trips, later. Beyond the last
        // destination it is not used.
        const Destination<Z> ahead = destinations[(record + 2) % agg_runs];
        const bool has_edge = destination.degree != 0;
        const bool last_edge = edges_left <= 1;
        const bool merges = tile.merge || part != 0;
        if (has_edge && group == 0) {
            place = requests.take();
            if (requests.wants()) requests.look(entries.next(graph, rows_fifo), tag_ram);
            if (place.read) rows_read++;
        }
        const bool wide = has_edge && !place.read && !last_edge && !(first_edge && merges);
        const unsigned row_trips = wide ? tile.held_trips(D::agg_word_beats) : tile.row_trips();
        const bool last_trip = group + 1 == row_trips;
        const bool in_row = group < tile.groups;
        const Word<Z, 32 * D::lanes> merged =
            merges && in_row ? held[merged_from + word + group] : zero<Z, 32 * D::lanes>();
        if (has_edge && in_row) {
            if (place.read) feature_beats++;
            const RowTrip<D> trip = {wide, group, tile.groups};
            Word<Z, 64> beats[D::agg_word_beats];
#pragma HLS ARRAY_PARTITION variable = beats type = complete dim = 0
            row_beats<D, Z>(place, trip, features, feature_ram, beats);
        gathered_banks:
            for (unsigned bank = 0; bank < D::agg_word_beats; bank++) {
#pragma HLS UNROLL factor=D::agg_word_beats
                if (trip.takes(bank)) {
                    add_features<D, Z>(totals[trip.group(bank)], beats[bank], tile.is_unsigned,
                                       place.entry.weight, first_edge, merged);
                }
            }
        }
        if (has_edge && last_trip) {
            edges_summed++;
            requests.issue(features, tag_ram);
        }
        const bool ends = last_edge && in_row;
        const Word<Z, 32 * D::lanes> sums = sums_word<D, Z>(totals[in_row ? group : 0], has_edge, merged);
        const bool keeps = tile.keeps(part);
        if (ends && (keeps || tile.spill)) {
            held[(keeps ? merged_from : 0) + word + group] = sums;
        }
        if (ends && !keeps && !tile.spill) {
            const unsigned place_of_row = (destination.row - tile.destination) * tile.groups + group;
            const Word<Z, 32 * D::lanes> before =
                tile.accumulate ? held[place_of_row] : zero<Z, 32 * D::lanes>();
            sum_ram[tile.sum + place_of_row] = reduced_word<D, Z>(sums, destination, tile.mode, before);
        }
        group = last_trip ? 0 : group + 1;
        if (last_trip && last_edge) {
            const bool ends_part = row + 1 == tile.rows;
            record++;
            row = ends_part ? 0 : row + 1;
            word = ends_part ? 0 : word + tile.groups;
            part = ends_part ? part + 1 : part;
            destination = next;
            next = ahead;
            edges_left = destination.degree;
            first_edge = true;
        } else if (last_trip) {
            edges_left--;
            first_edge = false;
        }
        trips++;
    }
    events.loop(isa::loops::agg_gather, trips);
    events.misses(rows_read);
    return {true, trips, edges_summed, feature_beats, edges.beats_read + entries.beats_read()};
}

// round(2^(16+k) / d) and k = ceil(log2 d), bit by bit from the top; both are 0 where d is 0.
template <class Z, class Events>
Destination<Z> divided_destination(unsigned degree, unsigned row, Events& events) {
#pragma HLS INLINE
    using Record = isa::DestinationRecord;
    unsigned exponent = 0;
exponent_bits:
    for (unsigned bit = 0; bit < 32; bit++) {
#pragma HLS UNROLL factor=32
        if (degree > 1 && ((degree - 1) >> bit) != 0) exponent = bit + 1;
    }
    // The quotient of 2^(17+k) + d and 2 d, below 2^18.
    std::uint64_t rest = (std::uint64_t{1} << (Record::Reciprocal::bits + exponent)) + degree;
    std::uint64_t part = std::uint64_t{degree} << (Record::Reciprocal::bits + 1);
    unsigned quotient = 0;
quotient_bits:
    for (unsigned bit = 0; bit <= Record::Reciprocal::bits; bit++) {
#pragma HLS PIPELINE II = 1 style = stp
        events.trip(isa::loops::agg_divide);
        const bool fits = degree != 0 && part <= rest;
        quotient = 2 * quotient + (fits ? 1 : 0);
        if (fits) rest -= part;
        part >>= 1;
    }
    events.loop(isa::loops::agg_divide, Record::Reciprocal::bits + 1);
    return {degree, U<Z, Record::Reciprocal::bits>(quotient), U<Z, Record::Exponent::bits>(exponent), row};
}

// A destination that comes by the FIFO, in place of the records of a tile.
template <class Z, class Events>
EdgeRange take_destination(const ReduceTile& tile, unsigned row, RowsStream<Z>& rows_fifo,
                           Destination<Z> (&destinations)[agg_runs], Events& events) {
#pragma HLS INLINE
    const auto degree = static_cast<unsigned>(rows_fifo.read());
    destinations[0] = divided_destination<Z>(degree, tile.destination + row, events);
    return {0, 0, degree, 0};
}

// All destinations of a tile; those that come by the FIFO one by one, as only then the next degree is known.
template <class D, class Z, class MemF, class MemG, class FeatureRam, class TagRam, class SumRam, class Fifo,
          class Events>
Outcome reduce_rows(const ReduceTile& tile, MemF features, MemG graph, FeatureRam feature_ram, TagRam tag_ram,
                    SumRam sum_ram, Fifo& rows_fifo, AggMemories<D, Z>& memories, Events& events) {
#pragma HLS INLINE
    if (tile.rows == 0 || tile.groups == 0) return {true, 0};
    ReduceTile part = tile;
    if (tile.from_fifo) part.rows = 1;
    const unsigned parts = tile.from_fifo ? tile.rows : 1;
    Outcome outcome = {true, 0};
destination_parts:
    for (unsigned row = 0; row < parts; row++) {
#pragma HLS LOOP_TRIPCOUNT min = 1 max = 255
        const EdgeRange edges = tile.from_fifo
                                    ? take_destination<Z>(tile, row, rows_fifo, memories.destinations, events)
                                    : read_destinations<Z>(tile, graph, memories.destinations, events);
        part.sum = tile.sum + row * tile.groups;
        part.destination = tile.destination + row;
        events.edges(edges.count);
        read_sums<D, Z>(part, sum_ram, memories.held, events);
        const unsigned merged_from = part.accumulate ? part.rows * part.groups : 0;
        outcome.count1 +=
            read_spilled<D, Z>(part, memories.destinations, merged_from, features, memories.held, events);
        const Outcome gathered =
            gather<D, Z>(part, memories.destinations, edges, memories.held, merged_from, features, graph,
                         feature_ram, tag_ram, sum_ram, rows_fifo, events);
        write_spilled<D, Z>(part, memories.destinations, memories.held, features, events);
        outcome.work += gathered.work;
        outcome.count0 += gathered.count0;
        outcome.count1 += gathered.count1;
        outcome.count2 += gathered.count2;
    }
    return outcome;
}

}  // namespace hetfab
