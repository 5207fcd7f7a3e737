// SPDX-License-Identifier: Apache-2.0
// AGG: sums or means of the feature rows of each destination's sources, over one relation in CSR form.
// Rows are gathered by a port of their own, with requests of several rows running ahead of the sums, or come
// from a scratchpad that tags or a schedule fill (docs/aggregation.md).
#pragma once

#include <type_traits>

#include "bursts.hpp"
#include "events.hpp"
#include "shim.hpp"
#include "types.hpp"

namespace hetfab {

// Largest number of destinations in one instruction.
constexpr unsigned agg_rows = 1U << isa::Reduce::Rows::bits;
// Records in the graph segment, in beats: those of a destination, and those of a schedule's run.
constexpr unsigned beats_per_destination = isa::DestinationRecord::bytes / beat_bytes;
constexpr unsigned beats_per_run = isa::RunRecord::bytes / beat_bytes;
// Beats of a word of sums.
constexpr unsigned beats_per_sums = 4;
// Words of feature_ram in a block, which has a tag.
constexpr unsigned words_per_tag = 8;
// Units of a schedule: from the first on, a row is read; the last one does not keep it.
constexpr unsigned unit_reads = 1U << 15;
constexpr unsigned unit_streams = (1U << 16) - 1;
// Units of the longest entry of an edge: one of a schedule and an id of 4 bytes.
constexpr unsigned longest_entry = 3;
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

// A destination, or a run of a schedule, as the gather needs it.
template <class Z>
struct Destination {
    unsigned degree;
    U<Z, isa::DestinationRecord::Reciprocal::bits> reciprocal;
    U<Z, isa::DestinationRecord::Exponent::bits> exponent;
    unsigned row;
};

// The fields of a reduce and the arrays of its context.
struct ReduceTile {
    unsigned sum;
    unsigned rows;
    unsigned groups;
    unsigned destination;
    unsigned id_bytes;
    unsigned mode;
    bool is_unsigned;
    bool accumulate;
    bool tagged;
    bool scheduled;
    bool merge;
    bool spill;
    bool weighted;
    bool from_fifo;
    std::uint64_t features;
    unsigned row_beats;
    unsigned first_block;
    unsigned slot_mask;
    std::uint64_t destinations;
    std::uint64_t ids;
    std::uint64_t spilled;
    unsigned spilled_beats;

    // Trips of a row: tags are read in its first and written in its last one, by the one port of their
    // memory.
    unsigned row_trips() const { return tagged && groups == 1 ? 2 : groups; }
    unsigned record_beats() const { return scheduled ? beats_per_run : beats_per_destination; }
    unsigned id_units() const { return id_bytes == 4 ? 2 : 1; }
    // Beats of a row's spilled sums.
    unsigned sum_beats() const { return beats_per_sums * groups; }
    std::uint64_t spilled_row(unsigned row) const {
        return spilled + std::uint64_t{row} * spilled_beats * beat_bytes;
    }
};

template <class Z, class ContextRam, class Events>
ReduceTile reduce_tile(const Word<Z, isa::instruction_bits>& instruction, ContextRam agg_context,
                       Events& events) {
#pragma HLS INLINE
    using Op = isa::Reduce;
    const unsigned slot = isa::context_words * number<Z, Op::Slot>(instruction);
    Word<Z, isa::instruction_bits> context[isa::context_words];
#pragma HLS ARRAY_PARTITION variable = context type = complete dim = 0
context_words:
    for (unsigned word = 0; word < isa::context_words; word++) {
#pragma HLS PIPELINE II = 1 style = stp
        events.trip(isa::loops::agg_context);
        context[word] = agg_context[slot + word];
    }
    events.loop(isa::loops::agg_context, isa::context_words);
    using Features = isa::ConfigureFeatures;
    const unsigned source = number<Z, Op::Source>(instruction);
    const bool scheduled = source == isa::reduce_source::schedule;
    const unsigned record_bytes = scheduled ? isa::RunRecord::bytes : isa::DestinationRecord::bytes;
    return {number<Z, Op::Sum>(instruction),
            number<Z, Op::Rows>(instruction),
            number<Z, Op::Groups>(instruction),
            number<Z, Op::Destination>(instruction),
            number<Z, isa::ConfigureIds::IdBytes>(context[2]),
            number<Z, Op::Mode>(instruction),
            flag<Z, Op::Unsigned>(instruction),
            flag<Z, Op::Accumulate>(instruction) && !flag<Z, Op::Spill>(instruction),
            source == isa::reduce_source::tags,
            scheduled,
            flag<Z, Op::Merge>(instruction),
            flag<Z, Op::Spill>(instruction),
            flag<Z, Op::Weighted>(instruction),
            flag<Z, Op::FromFifo>(instruction),
            static_cast<std::uint64_t>(get<Z, Features::Address>(context[0])),
            number<Z, Features::RowBlocks>(context[0]) * beats_per_block,
            number<Z, Features::FirstBlock>(context[0]),
            (1U << number<Z, Features::SlotBits>(context[0])) - 1,
            static_cast<std::uint64_t>(get<Z, isa::ConfigureDestinations::Address>(context[1])) +
                std::uint64_t{record_bytes} * number<Z, Op::Destination>(instruction),
            static_cast<std::uint64_t>(get<Z, isa::ConfigureIds::Address>(context[2])),
            static_cast<std::uint64_t>(get<Z, isa::ConfigureSpilled::Address>(context[3])),
            number<Z, isa::ConfigureSpilled::RowBlocks>(context[3]) * beats_per_block};
}

// Where a reduce's edges are: consecutive records have consecutive units, the halves of ids of 4 bytes being
// units too.
struct EdgeRange {
    std::uint64_t first;
    std::uint64_t units;
    unsigned count;
    // Beats that their records took: an event count.
    unsigned beats_read;
};

// Reads the records of all destinations into a local buffer.
template <class Z, class Mem, class Events>
EdgeRange read_destinations(const ReduceTile& tile, Mem graph, Destination<Z> (&destinations)[agg_rows],
                            Events& events) {
#pragma HLS INLINE
    using Record = isa::RunRecord;
    static_assert(std::is_same_v<isa::DestinationRecord::Exponent, Record::Exponent>,
                  "a run begins as a destination does");
    static_assert(beats_per_destination == 2 && beats_per_run == 3,
                  "the first beat has edge and degree, the second the reciprocal, the third units and row");
    const unsigned last_part = tile.record_beats() - 1;
    const unsigned beats = tile.rows * tile.record_beats();
    BurstReader reader(BurstCursor(tile.destinations, tile.rows == 0 ? 0 : 1, beats, 0));
    reader.start(graph, events);
    EdgeRange edges = {0, 0, 0, 0};
    Destination<Z> destination = {0, 0, 0, tile.destination};
    unsigned part = 0;
    unsigned row = 0;
destination_beats:
    for (unsigned beat = 0; beat < beats; beat++) {
#pragma HLS LOOP_TRIPCOUNT min = 2 max = 765
#pragma HLS PIPELINE II = 1 style = stp
        events.trip(isa::loops::agg_descriptors);
        const Word<Z, 64> third = reader.read(graph);
        if (part == 0) {
            const auto first = static_cast<unsigned>(get<Z, InBeat<Record::First>>(third));
            if (beat == 0) edges.first = std::uint64_t{first} * (tile.scheduled ? 1 : tile.id_units());
            destination.degree = static_cast<unsigned>(get<Z, InBeat<Record::Degree>>(third));
            edges.count += destination.degree;
            if (!tile.scheduled) edges.units += std::uint64_t{destination.degree} * tile.id_units();
        } else if (part == 1) {
            destination.reciprocal = get<Z, InBeat<Record::Reciprocal>>(third);
            destination.exponent = get<Z, InBeat<Record::Exponent>>(third);
        } else {
            edges.units += static_cast<unsigned>(get<Z, InBeat<Record::Units>>(third));
            destination.row = static_cast<unsigned>(get<Z, InBeat<Record::Row>>(third));
        }
        if (part == last_part) {
            destinations[row] = destination;
            destination.row++;
            row++;
        }
        part = part == last_part ? 0 : part + 1;
    }
    events.loop(isa::loops::agg_descriptors, beats);
    edges.beats_read = reader.beats_read();
    return edges;
}

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

// What becomes of an edge's row.
struct EdgeRow {
    bool read;
    bool kept;
    unsigned word;
    int weight;
};

// Requests feature rows in the order of the edges, those that the scratchpad does not hold.
template <class Z>
class RowRequests {
  public:
    RowRequests(const ReduceTile& tile, const EdgeRange& edges)
        : base_(tile.features / beat_bytes),
          row_beats_(tile.row_beats),
          groups_(tile.groups),
          tagged_(tile.tagged),
          scheduled_(tile.scheduled),
          first_block_(tile.first_block),
          slot_mask_(tile.slot_mask),
          left_(edges.count),
          entries_(tile, edges) {}

    template <class MemF, class MemG, class TagRam, class Events>
    void start(MemF features, MemG graph, RowsStream<Z>& rows_fifo, TagRam tag_ram, Events& events) {
#pragma HLS INLINE
        entries_.start(graph, events);
        const unsigned ahead = rows_ahead(groups_);
        unsigned trips = 0;
    rows_ahead_loop:
        while (trips < ahead && left_ != 0) {
#pragma HLS LOOP_TRIPCOUNT min = 1 max = 16
#pragma HLS PIPELINE II = 2 style = stp
            events.trip(isa::loops::agg_rows_ahead);
            look(graph, rows_fifo, tag_ram);
            issue(features, tag_ram);
            trips++;
        }
        events.loop(isa::loops::agg_rows_ahead, trips);
    }

    // Takes the next edge, and the tag of its slot.
    template <class MemG, class TagRam>
    void look(MemG graph, RowsStream<Z>& rows_fifo, TagRam tag_ram) {
#pragma HLS INLINE
        if (left_ == 0) return;
        entry_ = entries_.next(graph, rows_fifo);
        slot_ = tagged_ ? entry_.id & slot_mask_ : entry_.unit & (unit_reads - 1);
        tag_ =
            tagged_
                ? static_cast<unsigned>(get<Z, isa::Field<0, 32>>(Word<Z, 64>(tag_ram[first_block_ + slot_])))
                : 0;
    }

    // Decides on its row, and requests it where it must be read.
    template <class MemF, class TagRam>
    void issue(MemF features, TagRam tag_ram) {
#pragma HLS INLINE
        if (left_ == 0) return;
        const bool held = scheduled_ ? entry_.unit < unit_reads : tagged_ && tag_ == entry_.id + 1;
        const bool kept = scheduled_ ? entry_.unit != unit_streams : tagged_;
        if (tagged_ && !held) {
            Word<Z, 64> tag = zero<Z, 64>();
            Z::template set<isa::Field<0, 32>>(tag, entry_.id + 1);
            tag_ram[first_block_ + slot_] = tag;
        }
        if (!held) features.read_request(base_ + std::uint64_t{entry_.id} * row_beats_, groups_);
        places_[last_] = {!held, kept, words_per_tag * first_block_ + slot_ * groups_, entry_.weight};
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

    // Beats of entries read so far: an event count.
    unsigned beats_read() const { return entries_.beats_read(); }

  private:
    std::uint64_t base_;
    unsigned row_beats_;
    unsigned groups_;
    bool tagged_;
    bool scheduled_;
    unsigned first_block_;
    unsigned slot_mask_;
    unsigned left_;
    EntryReader<Z> entries_;
    EdgeEntry entry_ = {0, 0, 1};
    unsigned slot_ = 0;
    unsigned tag_ = 0;
    EdgeRow places_[most_rows_ahead] = {};
    unsigned first_ = 0;
    unsigned last_ = 0;
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

// Requests rows of spilled sums, each for itself: their vertices need not be neighbours.
template <class Z, class Mem>
void request_spilled(const ReduceTile& tile, const Destination<Z>& destination, Mem features) {
#pragma HLS INLINE
    features.read_request(tile.spilled_row(destination.row) / beat_bytes, tile.sum_beats());
}

// Reads what was spilled for the destinations, run by run; it counts beats.
template <class D, class Z, class Mem, class Events>
unsigned read_spilled(const ReduceTile& tile, const Destination<Z> (&destinations)[agg_rows], unsigned first,
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
void write_spilled(const ReduceTile& tile, const Destination<Z> (&destinations)[agg_rows],
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
            cursor = BurstCursor(tile.spilled_row(destinations[row % agg_rows].row), 1, tile.sum_beats(), 0);
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

// One trip per group of a row, and per group of a destination without edges, which reads nothing.
// It counts edges and the beats of both ports.
template <class D, class Z, class MemF, class MemG, class FeatureRam, class TagRam, class SumRam,
          class Events>
Outcome gather(const ReduceTile& tile, const Destination<Z> (&destinations)[agg_rows], const EdgeRange& edges,
               Word<Z, 32 * D::lanes> (&held)[D::sum_words], unsigned merged_from, MemF features, MemG graph,
               FeatureRam feature_ram, TagRam tag_ram, SumRam sum_ram, RowsStream<Z>& rows_fifo,
               Events& events) {
#pragma HLS INLINE
    static_assert(
        rows_ahead_cover(D::agg_groups, isa::loops::agg_gather.depth),
        "a row is requested more trips before its first beat than the gather's pipeline has stages");
    S<Z, 32> totals[D::agg_groups][D::lanes];
#pragma HLS ARRAY_PARTITION variable = totals type = complete dim = 0
    RowRequests<Z> requests(tile, edges);
    requests.start(features, graph, rows_fifo, tag_ram, events);
    unsigned row = 0;
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
    EdgeRow place = {false, false, 0, 1};
row_beats:
    while (row < tile.rows) {
#pragma HLS LOOP_TRIPCOUNT min = 8 max = 65536
#pragma HLS PIPELINE II = 1 style = stp
        events.trip(isa::loops::agg_gather);
        // Read in every trip, two rows ahead: the address depends on nothing but the row, and what the memory
        // gives after its latency is needed two rows, so at least two trips, later. Beyond the last
        // destination it is not used.
        const Destination<Z> ahead = destinations[(row + 2) % agg_rows];
        const bool has_edge = destination.degree != 0;
        const bool last_edge = edges_left <= 1;
        const bool last_trip = group + 1 == tile.row_trips();
        const bool in_row = group < tile.groups;
        const Word<Z, 32 * D::lanes> merged =
            tile.merge && in_row ? held[merged_from + word + group] : zero<Z, 32 * D::lanes>();
        if (has_edge && group == 0) {
            place = requests.take();
            requests.look(graph, rows_fifo, tag_ram);
            if (place.read) rows_read++;
        }
        if (has_edge && in_row) {
            // One access to the scratchpad in a trip: a row that is read is written, one that is held is
            // read.
            Word<Z, 64> beat = zero<Z, 64>();
            if (place.read) {
                beat = features.read();
                feature_beats++;
                if constexpr (D::feature_words != 0) {
                    if (place.kept) feature_ram[place.word + group] = beat;
                }
            } else if constexpr (D::feature_words != 0) {
                beat = feature_ram[place.word + group];
            }
            add_features<D, Z>(totals[group], beat, tile.is_unsigned, place.weight, first_edge, merged);
        }
        if (has_edge && last_trip) {
            edges_summed++;
            requests.issue(features, tag_ram);
        }
        const bool ends = last_edge && in_row;
        const Word<Z, 32 * D::lanes> sums = sums_word<D, Z>(totals[in_row ? group : 0], has_edge, merged);
        if (ends && tile.spill) held[word + group] = sums;
        if (ends && !tile.spill) {
            const unsigned place_of_row = (destination.row - tile.destination) * tile.groups + group;
            const Word<Z, 32 * D::lanes> before =
                tile.accumulate ? held[place_of_row] : zero<Z, 32 * D::lanes>();
            sum_ram[tile.sum + place_of_row] = reduced_word<D, Z>(sums, destination, tile.mode, before);
        }
        group = last_trip ? 0 : group + 1;
        if (last_trip && last_edge) {
            row++;
            word += tile.groups;
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
    return {true, trips, edges_summed, feature_beats, edges.beats_read + requests.beats_read()};
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
                           Destination<Z> (&destinations)[agg_rows], Events& events) {
#pragma HLS INLINE
    const auto degree = static_cast<unsigned>(rows_fifo.read());
    destinations[0] = divided_destination<Z>(degree, tile.destination + row, events);
    return {0, 0, degree, 0};
}

// All destinations of a tile; those that come by the FIFO one by one, as only then the next degree is known.
template <class D, class Z, class MemF, class MemG, class FeatureRam, class TagRam, class SumRam, class Fifo,
          class Events>
Outcome reduce_rows(const ReduceTile& tile, MemF features, MemG graph, FeatureRam feature_ram, TagRam tag_ram,
                    SumRam sum_ram, Fifo& rows_fifo, Events& events) {
#pragma HLS INLINE
    if (tile.rows == 0 || tile.groups == 0) return {true, 0};
    Destination<Z> destinations[agg_rows];
    Word<Z, 32 * D::lanes> held[D::sum_words];
// Two ports that read and write: what was spilled and what sum_ram held, or what is spilled, are used in one
// trip.
#pragma HLS BIND_STORAGE variable = held type = ram_t2p impl = bram
    ReduceTile part = tile;
    if (tile.from_fifo) part.rows = 1;
    const unsigned parts = tile.from_fifo ? tile.rows : 1;
    Outcome outcome = {true, 0};
destination_parts:
    for (unsigned row = 0; row < parts; row++) {
#pragma HLS LOOP_TRIPCOUNT min = 1 max = 255
        const EdgeRange edges = tile.from_fifo
                                    ? take_destination<Z>(tile, row, rows_fifo, destinations, events)
                                    : read_destinations<Z>(tile, graph, destinations, events);
        part.sum = tile.sum + row * tile.groups;
        part.destination = tile.destination + row;
        events.edges(edges.count);
        read_sums<D, Z>(part, sum_ram, held, events);
        const unsigned merged_from = part.accumulate ? part.rows * part.groups : 0;
        outcome.count1 += read_spilled<D, Z>(part, destinations, merged_from, features, held, events);
        const Outcome gathered = gather<D, Z>(part, destinations, edges, held, merged_from, features, graph,
                                              feature_ram, tag_ram, sum_ram, rows_fifo, events);
        write_spilled<D, Z>(part, destinations, held, features, events);
        outcome.work += gathered.work;
        outcome.count0 += gathered.count0;
        outcome.count1 += gathered.count1;
        outcome.count2 += gathered.count2;
    }
    return outcome;
}

// Keeps a word of a context; that of features clears the tags of its slots.
template <class D, class Z, class TagRam, class ContextRam, class Events>
void agg_configure(const Word<Z, isa::instruction_bits>& instruction, unsigned kind, TagRam tag_ram,
                   ContextRam agg_context, Events& events) {
#pragma HLS INLINE
    using Op = isa::ConfigureFeatures;
    agg_context[isa::context_words * number<Z, Op::Slot>(instruction) + kind] = instruction;
    const unsigned first = number<Z, Op::FirstBlock>(instruction);
    const unsigned end = first + (1U << number<Z, Op::SlotBits>(instruction));
    const bool clears = kind == 0 && D::feature_words != 0;
    const unsigned most = D::feature_words / words_per_tag;
    const unsigned last = !clears ? first : end < most ? end : most;
    unsigned trips = 0;
cleared_tags:
    for (unsigned tag = first; tag < last; tag++) {
#pragma HLS LOOP_TRIPCOUNT min = 1 max = 4096
#pragma HLS PIPELINE II = 1 style = stp
        events.trip(isa::loops::agg_tags);
        tag_ram[tag] = zero<Z, 64>();
        trips++;
    }
    events.loop(isa::loops::agg_tags, trips);
}

template <class D, class Z, class MemF, class MemG, class FeatureRam, class TagRam, class SumRam,
          class ContextRam, class Events>
Outcome agg_execute(const Word<Z, isa::instruction_bits>& instruction, MemF features, MemG graph,
                    FeatureRam feature_ram, TagRam tag_ram, SumRam sum_ram, ContextRam agg_context,
                    RowsStream<Z>& rows_fifo, Events& events) {
// A function of its own: its return waits for the write responses, so the token cannot pass them.
#pragma HLS INLINE off
    static_assert(D::lanes * 8 == 64, "a beat of a feature row is one group of lanes channels");
    static_assert(beats_per_sums * 64 == 32 * D::lanes, "a word of sums is whole beats");
    const int opcode = static_cast<int>(number<Z, isa::Header::Opcode>(instruction));
    if (opcode == isa::Reduce::opcode) {
        const ReduceTile tile = reduce_tile<Z>(instruction, agg_context, events);
        return reduce_rows<D, Z>(tile, features, graph, feature_ram, tag_ram, sum_ram, rows_fifo, events);
    }
    if (opcode == isa::ConfigureSpilled::opcode) {
        agg_configure<D, Z>(instruction, isa::context_words - 1, tag_ram, agg_context, events);
        return {true, 1};
    }
    if (opcode >= isa::ConfigureFeatures::opcode && opcode <= isa::ConfigureIds::opcode) {
        const unsigned kind = static_cast<unsigned>(opcode - isa::ConfigureFeatures::opcode);
        agg_configure<D, Z>(instruction, kind, tag_ram, agg_context, events);
        return {true, 1};
    }
    return {opcode == isa::Sync::opcode, 0};
}

// The engine: one instruction, from its stream to its token.
template <class D, class Z, class MemF, class MemG, class FeatureRam, class TagRam, class SumRam,
          class ContextRam, class Events>
void agg_step(hls::stream<Word<Z, isa::instruction_bits>>& instructions,
              hls::stream<Word<Z, isa::token_bits>>& tokens, MemF features, MemG graph,
              FeatureRam feature_ram, TagRam tag_ram, SumRam sum_ram, ContextRam agg_context,
              RowsStream<Z>& rows_fifo, Events& events) {
#pragma HLS INLINE
    const Word<Z, isa::instruction_bits> instruction = instructions.read();
    events.loop(isa::loops::instruction, 1);
    const Outcome outcome = agg_execute<D, Z>(instruction, features, graph, feature_ram, tag_ram, sum_ram,
                                              agg_context, rows_fifo, events);
    HETFAB_FENCE(features, feature_ram, tag_ram, sum_ram, agg_context, rows_fifo, tokens);
    tokens.write(make_token<D, Z>(instruction, outcome));
}

}  // namespace hetfab
