// SPDX-License-Identifier: Apache-2.0
// What an instruction of AGG is about: its fields, the arrays of its context, its destinations.
#pragma once

#include <type_traits>

#include "bursts.hpp"
#include "events.hpp"
#include "shim.hpp"
#include "types.hpp"

namespace hetfab {

// Largest number of destinations in one instruction.
constexpr unsigned agg_rows = 1U << isa::Reduce::Rows::bits;
// Records that are kept for one: its destinations', each of which may have several runs of edges.
constexpr unsigned agg_runs = isa::agg_runs;
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

// Trips that take a row from the scratchpad, whose words have so many beats.
constexpr unsigned word_trips(unsigned groups, unsigned word_beats) {
    return (groups + word_beats - 1) / word_beats;
}

// Words of a bank's width that a slot takes: whole words of all banks, or a power of two within one.
constexpr unsigned slot_beats(unsigned groups, unsigned word_beats) {
    unsigned beats = word_trips(groups, word_beats) * word_beats;
    // Words have up to 8 beats.
    for (unsigned bit = 3; bit > 0; bit--) {
#pragma HLS UNROLL factor=3
        const unsigned part = 1U << (bit - 1);
        if (part < word_beats && part >= groups) beats = part;
    }
    return beats;
}

// Whether every beat is requested more trips before its read than the gather's pipeline has stages, for all
// sizes of rows: a stalling pipeline stops as a whole, so a read must never wait for a request in a later
// stage. A request is made with the last beat of a row, `rows_ahead` rows before its own, all of which may
// come from the scratchpad.
constexpr bool rows_ahead_cover(unsigned most_groups, unsigned word_beats, unsigned depth) {
    for (unsigned groups = 1; groups <= most_groups; groups++) {
#pragma HLS LOOP_TRIPCOUNT min=1 max=63
        if ((rows_ahead(groups) - 1) * word_trips(groups, word_beats) + 1 <= depth) return false;
    }
    return true;
}

// Rows of source vertices in DRAM, and where the scratchpad keeps them.
struct VertexRows {
    std::uint64_t address;
    unsigned row_beats;
    // Beats of a row that are read.
    unsigned beats;
    bool tagged;
    bool scheduled;
    unsigned first_block;
    unsigned slot_mask;
};

// A destination, or a run of a schedule, as the gather needs it.
template <class Z>
struct Destination {
    unsigned degree;
    U<Z, isa::DestinationRecord::Reciprocal::bits> reciprocal;
    U<Z, isa::DestinationRecord::Exponent::bits> exponent;
    unsigned row;
};

// What AGG keeps for an instruction: records, and sums that results are added to, or that are spilled.
template <class D, class Z>
struct AggMemories {
    Destination<Z> destinations[agg_runs];
    Word<Z, 32 * D::lanes> held[D::sum_words];
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
    // Runs of each destination.
    unsigned parts = 1;

    // Records that are read, and whether sums of a part stay for the next one.
    unsigned records() const { return rows * parts; }
    bool keeps(unsigned part) const { return part + 1 < parts; }
    // Trips of a row: tags are read in its first and written in its last one, by the one port of their
    // memory.
    unsigned row_trips() const { return tagged && groups == 1 ? 2 : groups; }
    // Those of a row that comes from the scratchpad in words of so many beats.
    unsigned held_trips(unsigned word_beats) const {
        const unsigned trips = word_trips(groups, word_beats);
        return tagged && trips == 1 ? 2 : trips;
    }
    unsigned record_beats() const { return scheduled ? beats_per_run : beats_per_destination; }
    unsigned id_units() const { return id_bytes == 4 ? 2 : 1; }
    // Beats of a row's spilled sums.
    unsigned sum_beats() const { return beats_per_sums * groups; }
    VertexRows feature_rows() const {
        return {features, row_beats, groups, tagged, scheduled, first_block, slot_mask};
    }
    std::uint64_t spilled_row(unsigned row) const {
        return spilled + std::uint64_t{row} * spilled_beats * beat_bytes;
    }
};

// Reads the words of a context.
template <class Z, class ContextRam, class Events>
void read_context(unsigned slot, ContextRam agg_context,
                  Word<Z, isa::instruction_bits> (&context)[isa::context_words], Events& events) {
#pragma HLS INLINE
context_words:
    for (unsigned word = 0; word < isa::context_words; word++) {
#pragma HLS PIPELINE II = 1 style = stp
        events.trip(isa::loops::agg_context);
        context[word] = agg_context[isa::context_words * slot + word];
    }
    events.loop(isa::loops::agg_context, isa::context_words);
}

// Runs of each destination of an instruction: with few rows, one would follow the one before too closely.
template <class Z>
unsigned parts_of(unsigned rows, const Word<Z, isa::instruction_bits>& destinations) {
    return rows < isa::part_rows ? 1 : 1 + number<Z, isa::ConfigureDestinations::Parts>(destinations);
}

// Where the records of an instruction begin: each destination has room for all of its runs.
template <class Z>
std::uint64_t records_from(const Word<Z, isa::instruction_bits>& destinations, unsigned record_bytes,
                           unsigned destination) {
    const unsigned parts = 1 + number<Z, isa::ConfigureDestinations::Parts>(destinations);
    return static_cast<std::uint64_t>(get<Z, isa::ConfigureDestinations::Address>(destinations)) +
           std::uint64_t{record_bytes} * parts * destination;
}

template <class Z, class ContextRam, class Events>
ReduceTile reduce_tile(const Word<Z, isa::instruction_bits>& instruction, ContextRam agg_context,
                       Events& events) {
#pragma HLS INLINE
    using Op = isa::Reduce;
    Word<Z, isa::instruction_bits> context[isa::context_words];
#pragma HLS ARRAY_PARTITION variable = context type = complete dim = 0
    read_context<Z>(number<Z, Op::Slot>(instruction), agg_context, context, events);
    using Features = isa::ConfigureFeatures;
    const unsigned source = number<Z, Op::Source>(instruction);
    const bool scheduled = source == isa::reduce_source::schedule;
    const unsigned record_bytes = scheduled ? isa::RunRecord::bytes : isa::DestinationRecord::bytes;
    return {
        number<Z, Op::Sum>(instruction),
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
        records_from<Z>(context[1], record_bytes, number<Z, Op::Destination>(instruction)),
        static_cast<std::uint64_t>(get<Z, isa::ConfigureIds::Address>(context[2])),
        static_cast<std::uint64_t>(get<Z, isa::ConfigureSpilled::Address>(context[3])),
        number<Z, isa::ConfigureSpilled::RowBlocks>(context[3]) * beats_per_block,
        flag<Z, Op::FromFifo>(instruction) ? 1 : parts_of<Z>(number<Z, Op::Rows>(instruction), context[1])};
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
EdgeRange read_destinations(const ReduceTile& tile, Mem graph, Destination<Z> (&destinations)[agg_runs],
                            Events& events) {
#pragma HLS INLINE
    using Record = isa::RunRecord;
    static_assert(std::is_same_v<isa::DestinationRecord::Exponent, Record::Exponent>,
                  "a run begins as a destination does");
    static_assert(beats_per_destination == 2 && beats_per_run == 3,
                  "the first beat has edge and degree, the second the reciprocal, the third units and row");
    const unsigned last_part = tile.record_beats() - 1;
    const unsigned beats = tile.records() * tile.record_beats();
    BurstReader reader(BurstCursor(tile.destinations, tile.rows == 0 ? 0 : 1, beats, 0));
    reader.start(graph, events);
    EdgeRange edges = {0, 0, 0, 0};
    Destination<Z> destination = {0, 0, 0, tile.destination};
    unsigned part = 0;
    unsigned record = 0;
    unsigned row = 0;
destination_beats:
    for (unsigned beat = 0; beat < beats; beat++) {
#pragma HLS LOOP_TRIPCOUNT min = 2 max = 1024
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
            destinations[record++] = destination;
            row = row + 1 == tile.rows ? 0 : row + 1;
            destination.row = tile.destination + row;
        }
        part = part == last_part ? 0 : part + 1;
    }
    events.loop(isa::loops::agg_descriptors, beats);
    edges.beats_read = reader.beats_read();
    return edges;
}

}  // namespace hetfab
