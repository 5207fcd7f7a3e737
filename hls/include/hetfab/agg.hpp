// SPDX-License-Identifier: Apache-2.0
// AGG: sums or means of the feature rows of each destination's sources, over one relation in CSR form.
// Rows are gathered by a port of their own, with requests of several rows running ahead of the sums.
#pragma once

#include "bursts.hpp"
#include "events.hpp"
#include "shim.hpp"
#include "types.hpp"

namespace hetfab {

// Largest number of destinations in one instruction.
constexpr unsigned agg_rows = 1U << isa::Reduce::Rows::bits;
// Destination record in the graph segment, as two beats.
constexpr unsigned beats_per_destination = isa::DestinationRecord::bytes / beat_bytes;
// A field of a record within the beat that holds it.
template <class F>
using InBeat = isa::Field<F::lsb % (8 * static_cast<int>(beat_bytes)), F::bits>;

// What the adapter of the feature port keeps outstanding (num_read_outstanding in hls/kernels/agg.cpp).
constexpr unsigned feature_outstanding = isa::outstanding_rows;
// Half of that, in requests and in beats of rows: requesting as many as it keeps may lock it up.
constexpr unsigned most_rows_ahead = feature_outstanding / 2;
constexpr unsigned row_beats_ahead = bursts_ahead * burst_beats;

// Rows requested ahead of the sums: row_beats_ahead / groups, at most most_rows_ahead, at least one.
constexpr unsigned rows_ahead(unsigned groups) {
    unsigned rows = 1;
    for (unsigned candidate = 2; candidate <= most_rows_ahead; candidate++) {
#pragma HLS UNROLL factor=most_rows_ahead-1
        if (candidate * groups <= row_beats_ahead) rows = candidate;
    }
    return rows;
}

// Whether every beat is requested more trips before its read than the gather's pipeline has stages, for all
// sizes of rows: a stalling pipeline stops as a whole, so a read must never wait for a request in a later
// stage. A request is made with the last beat of a row, `rows_ahead` rows before its own.
constexpr bool rows_ahead_cover(unsigned most_groups, unsigned depth) {
    for (unsigned groups = 1; groups <= most_groups; groups++) {
        if ((rows_ahead(groups) - 1) * groups + 1 <= depth) return false;
    }
    return true;
}

// A destination as the gather needs it.
template <class Z>
struct Destination {
    unsigned degree;
    U<Z, isa::DestinationRecord::Reciprocal::bits> reciprocal;
    U<Z, isa::DestinationRecord::Exponent::bits> exponent;
};

// The fields of a reduce and the arrays of its context.
struct ReduceTile {
    unsigned sum;
    unsigned rows;
    unsigned groups;
    unsigned id_bytes;
    unsigned mode;
    bool is_unsigned;
    bool accumulate;
    std::uint64_t features;
    unsigned row_beats;
    std::uint64_t destinations;
    std::uint64_t ids;
};

template <class Z, class ContextRam, class Events>
ReduceTile reduce_tile(const Word<Z, isa::instruction_bits>& instruction, ContextRam agg_context,
                       Events& events) {
#pragma HLS INLINE
    using Op = isa::Reduce;
    const unsigned slot = isa::context_words * number<Z, Op::Slot>(instruction);
    Word<Z, isa::instruction_bits> context[3];
#pragma HLS ARRAY_PARTITION variable = context type = complete dim = 0
context_words:
    for (unsigned word = 0; word < 3; word++) {
#pragma HLS PIPELINE II = 1 style = stp
        events.trip(isa::loops::agg_context);
        context[word] = agg_context[slot + word];
    }
    events.loop(isa::loops::agg_context, 3);
    using Features = isa::ConfigureFeatures;
    return {number<Z, Op::Sum>(instruction),
            number<Z, Op::Rows>(instruction),
            number<Z, Op::Groups>(instruction),
            number<Z, isa::ConfigureIds::IdBytes>(context[2]),
            number<Z, Op::Mode>(instruction),
            flag<Z, Op::Unsigned>(instruction),
            flag<Z, Op::Accumulate>(instruction),
            static_cast<std::uint64_t>(get<Z, Features::Address>(context[0])),
            number<Z, Features::RowBlocks>(context[0]) * beats_per_block,
            static_cast<std::uint64_t>(get<Z, isa::ConfigureDestinations::Address>(context[1])) +
                std::uint64_t{isa::DestinationRecord::bytes} * number<Z, Op::Destination>(instruction),
            static_cast<std::uint64_t>(get<Z, isa::ConfigureIds::Address>(context[2]))};
}

// Where a reduce's edges are: consecutive destinations have consecutive edges.
struct EdgeRange {
    std::uint64_t first;
    unsigned count;
    // Beats that their destinations took: an event count.
    unsigned beats_read;
};

// Reads the records of all destinations into a local buffer.
template <class Z, class Mem, class Events>
EdgeRange read_destinations(const ReduceTile& tile, Mem graph, Destination<Z> (&destinations)[agg_rows],
                            Events& events) {
#pragma HLS INLINE
    using Record = isa::DestinationRecord;
    static_assert(beats_per_destination == 2,
                  "the first beat has edge and degree, the second the reciprocal");
    const unsigned beats = tile.rows * beats_per_destination;
    BurstReader reader(BurstCursor(tile.destinations, tile.rows == 0 ? 0 : 1, beats, 0));
    reader.start(graph, events);
    EdgeRange edges = {0, 0, 0};
    unsigned degree = 0;
destination_beats:
    for (unsigned beat = 0; beat < beats; beat++) {
#pragma HLS LOOP_TRIPCOUNT min = 2 max = 510
#pragma HLS PIPELINE II = 1 style = stp
        events.trip(isa::loops::agg_descriptors);
        const Word<Z, 64> half = reader.read(graph);
        if (beat % beats_per_destination == 0) {
            if (beat == 0) edges.first = static_cast<unsigned>(get<Z, InBeat<Record::First>>(half));
            degree = static_cast<unsigned>(get<Z, InBeat<Record::Degree>>(half));
            edges.count += degree;
        } else {
            destinations[beat / beats_per_destination] = {degree, get<Z, InBeat<Record::Reciprocal>>(half),
                                                          get<Z, InBeat<Record::Exponent>>(half)};
        }
    }
    events.loop(isa::loops::agg_descriptors, beats);
    edges.beats_read = reader.beats_read();
    return edges;
}

// The source ids of consecutive edges, 2 or 4 bytes each, unpacked from beats of the graph port.
template <class Z>
class IdReader {
  public:
    IdReader(const ReduceTile& tile, const EdgeRange& edges)
        : wide_(tile.id_bytes == 4), lane_(first_lane(tile, edges)), reader_(cursor(tile, edges)) {}

    template <class Mem, class Events>
    void start(Mem graph, Events& events) {
#pragma HLS INLINE
        reader_.start(graph, events);
    }

    template <class Mem>
    unsigned next(Mem graph) {
#pragma HLS INLINE
        if (!loaded_) beat_ = reader_.read(graph);
        const unsigned id = wide_ ? static_cast<unsigned>(lane_u<Z, 32>(beat_, lane_ % 2))
                                  : static_cast<unsigned>(lane_u<Z, 16>(beat_, lane_ % 4));
        lane_ = (lane_ + 1) % (wide_ ? 2 : 4);
        loaded_ = lane_ != 0;
        return id;
    }

    unsigned beats_read() const { return reader_.beats_read(); }

  private:
    static unsigned first_lane(const ReduceTile& tile, const EdgeRange& edges) {
        return static_cast<unsigned>(edges.first % (tile.id_bytes == 4 ? 2 : 4));
    }
    static BurstCursor cursor(const ReduceTile& tile, const EdgeRange& edges) {
        const unsigned per_beat = tile.id_bytes == 4 ? 2 : 4;
        const std::uint64_t address = tile.ids + edges.first / per_beat * beat_bytes;
        const unsigned lanes = first_lane(tile, edges) + edges.count;
        const unsigned beats = edges.count == 0 ? 0 : (lanes + per_beat - 1) / per_beat;
        return BurstCursor(address, 1, beats, 0);
    }

    bool wide_;
    unsigned lane_;
    bool loaded_ = false;
    Word<Z, 64> beat_ = zero<Z, 64>();
    BurstReader reader_;
};

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

// Adds a beat of features to the sums of one group.
template <class D, class Z>
void add_features(S<Z, 32> (&totals)[D::lanes], const Word<Z, 64>& beat, bool is_unsigned, bool first) {
#pragma HLS INLINE
feature_lanes:
    for (unsigned lane = 0; lane < D::lanes; lane++) {
#pragma HLS UNROLL factor=D::lanes
        const S<Z, 9> feature =
            is_unsigned ? S<Z, 9>(lane_u<Z, 8>(beat, lane)) : S<Z, 9>(lane_s<Z, 8>(beat, lane));
        const S<Z, 32> before = first ? S<Z, 32>(0) : totals[lane];
        totals[lane] = wrap<Z, 32>(sum<Z, 33>(before, feature));
    }
}

// The result of one group of a destination, added to what sum_ram held.
template <class D, class Z>
Word<Z, 32 * D::lanes> reduced_word(const S<Z, 32> (&totals)[D::lanes], const Destination<Z>& destination,
                                    unsigned mode, const Word<Z, 32 * D::lanes>& before) {
#pragma HLS INLINE
    Word<Z, 32 * D::lanes> word = zero<Z, 32 * D::lanes>();
result_lanes:
    for (unsigned lane = 0; lane < D::lanes; lane++) {
#pragma HLS UNROLL factor=D::lanes
        const S<Z, 32> result =
            destination.degree == 0 ? S<Z, 32>(0) : reduce_lane<Z>(totals[lane], destination, mode);
        set_lane<Z, 32>(word, lane, wrap<Z, 32>(sum<Z, 33>(lane_s<Z, 32>(before, lane), result)));
    }
    return word;
}

// Requests feature rows in the order of the edges.
template <class Z>
class RowRequests {
  public:
    RowRequests(const ReduceTile& tile, const EdgeRange& edges)
        : base_(tile.features / beat_bytes),
          row_beats_(tile.row_beats),
          groups_(tile.groups),
          left_(edges.count),
          ids_(tile, edges) {}

    template <class MemF, class MemG, class Events>
    void start(MemF features, MemG graph, Events& events) {
#pragma HLS INLINE
        ids_.start(graph, events);
        const unsigned ahead = rows_ahead(groups_);
        unsigned trips = 0;
    rows_ahead_loop:
        while (trips < ahead && left_ != 0) {
#pragma HLS LOOP_TRIPCOUNT min = 1 max = 16
#pragma HLS PIPELINE II = 1 style = stp
            events.trip(isa::loops::agg_rows_ahead);
            next(features, graph);
            trips++;
        }
        events.loop(isa::loops::agg_rows_ahead, trips);
    }

    template <class MemF, class MemG>
    void next(MemF features, MemG graph) {
#pragma HLS INLINE
        if (left_ == 0) return;
        const unsigned id = ids_.next(graph);
        features.read_request(base_ + std::uint64_t{id} * row_beats_, groups_);
        left_--;
    }

    // Beats of ids read so far: an event count.
    unsigned beats_read() const { return ids_.beats_read(); }

  private:
    std::uint64_t base_;
    unsigned row_beats_;
    unsigned groups_;
    unsigned left_;
    IdReader<Z> ids_;
};

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

// One trip per beat of a gathered row, and per group of a destination without edges, which reads nothing.
// It counts edges and the beats of both ports.
template <class D, class Z, class MemF, class MemG, class SumRam, class Events>
Outcome gather(const ReduceTile& tile, const Destination<Z> (&destinations)[agg_rows], const EdgeRange& edges,
               const Word<Z, 32 * D::lanes> (&held)[D::sum_words], MemF features, MemG graph, SumRam sum_ram,
               Events& events) {
#pragma HLS INLINE
    static_assert(
        rows_ahead_cover(D::agg_groups, isa::loops::agg_gather.depth),
        "a row is requested more trips before its first beat than the gather's pipeline has stages");
    S<Z, 32> totals[D::agg_groups][D::lanes];
#pragma HLS ARRAY_PARTITION variable = totals type = complete dim = 0
    RowRequests<Z> requests(tile, edges);
    requests.start(features, graph, events);
    unsigned row = 0;
    unsigned group = 0;
    unsigned word = 0;
    unsigned trips = 0;
    unsigned edges_summed = 0;
    // A group of each edge: up to 34 bits, of which the token holds 36.
    std::uint64_t feature_beats = 0;
    Destination<Z> destination = destinations[0];
    Destination<Z> next = destinations[1];
    unsigned edges_left = destination.degree;
    bool first_edge = true;
row_beats:
    while (row < tile.rows) {
#pragma HLS LOOP_TRIPCOUNT min = 8 max = 65536
#pragma HLS PIPELINE II = 1 style = stp
        events.trip(isa::loops::agg_gather);
        // Read in every trip, two rows ahead: the address depends on nothing but the row, and what the memory
        // gives after its latency is needed two rows, so at least two trips, later. Beyond the last
        // destination it is not used.
        const Destination<Z> ahead = destinations[(row + 2) % agg_rows];
        const bool last_edge = edges_left <= 1;
        const bool last_group = group + 1 == tile.groups;
        if (destination.degree != 0) {
            add_features<D, Z>(totals[group], features.read(), tile.is_unsigned, first_edge);
            feature_beats++;
            if (last_group) {
                edges_summed++;
                requests.next(features, graph);
            }
        }
        if (last_edge) {
            const Word<Z, 32 * D::lanes> before = tile.accumulate ? held[word] : zero<Z, 32 * D::lanes>();
            sum_ram[tile.sum + word] = reduced_word<D, Z>(totals[group], destination, tile.mode, before);
            word++;
        }
        group = last_group ? 0 : group + 1;
        if (last_group && last_edge) {
            row++;
            destination = next;
            next = ahead;
            edges_left = destination.degree;
            first_edge = true;
        } else if (last_group) {
            edges_left--;
            first_edge = false;
        }
        trips++;
    }
    events.loop(isa::loops::agg_gather, trips);
    return {true, trips, edges_summed, feature_beats, edges.beats_read + requests.beats_read()};
}

// All destinations of a tile.
template <class D, class Z, class MemF, class MemG, class SumRam, class Events>
Outcome reduce_rows(const ReduceTile& tile, MemF features, MemG graph, SumRam sum_ram, Events& events) {
#pragma HLS INLINE
    if (tile.rows == 0 || tile.groups == 0) return {true, 0};
    Destination<Z> destinations[agg_rows];
    Word<Z, 32 * D::lanes> held[D::sum_words];
// One write and one read port: read_sums fills it, the gather reads it.
#pragma HLS BIND_STORAGE variable = held type = ram_s2p impl = bram
    const EdgeRange edges = read_destinations<Z>(tile, graph, destinations, events);
    events.edges(edges.count);
    read_sums<D, Z>(tile, sum_ram, held, events);
    return gather<D, Z>(tile, destinations, edges, held, features, graph, sum_ram, events);
}

template <class D, class Z, class MemF, class MemG, class SumRam, class ContextRam, class Events>
Outcome agg_execute(const Word<Z, isa::instruction_bits>& instruction, MemF features, MemG graph,
                    SumRam sum_ram, ContextRam agg_context, Events& events) {
#pragma HLS INLINE off
    static_assert(D::lanes * 8 == 64, "a beat of a feature row is one group of lanes channels");
    const int opcode = static_cast<int>(number<Z, isa::Header::Opcode>(instruction));
    if (opcode == isa::Reduce::opcode) {
        const ReduceTile tile = reduce_tile<Z>(instruction, agg_context, events);
        return reduce_rows<D, Z>(tile, features, graph, sum_ram, events);
    }
    if (opcode >= isa::ConfigureFeatures::opcode && opcode <= isa::ConfigureIds::opcode) {
        const unsigned kind = static_cast<unsigned>(opcode - isa::ConfigureFeatures::opcode);
        agg_context[isa::context_words * number<Z, isa::Reduce::Slot>(instruction) + kind] = instruction;
        return {true, 1};
    }
    return {opcode == isa::Sync::opcode, 0};
}

// The engine: one instruction, from its stream to its token.
template <class D, class Z, class MemF, class MemG, class SumRam, class ContextRam, class Events>
void agg_step(hls::stream<Word<Z, isa::instruction_bits>>& instructions,
              hls::stream<Word<Z, isa::token_bits>>& tokens, MemF features, MemG graph, SumRam sum_ram,
              ContextRam agg_context, hls::stream<U<Z, isa::rows_fifo_bits>>&, Events& events) {
#pragma HLS INLINE
    const Word<Z, isa::instruction_bits> instruction = instructions.read();
    events.loop(isa::loops::instruction, 1);
    const Outcome outcome = agg_execute<D, Z>(instruction, features, graph, sum_ram, agg_context, events);
    HETFAB_FENCE(sum_ram, agg_context, tokens);
    tokens.write(make_token<D, Z>(instruction, outcome));
}

}  // namespace hetfab
