// SPDX-License-Identifier: Apache-2.0
// What an attend is about: its fields, the arrays of its two contexts, and what AGG keeps for it.
#pragma once

#include "agg_tile.hpp"

namespace hetfab {

// Scores of a beat, and beats of the maxima of a spilled row.
constexpr unsigned scores_per_beat = 4;
constexpr unsigned maxima_beats = 2;
// Fraction bits of a slope below zero.
constexpr unsigned slope_bits = 12;
// Whether quotients take a group of channels a cycle: edges take less time where words are long, so that
// results would wait for one divider.
constexpr bool divides_groups(unsigned word_beats) { return word_beats >= 4; }
// Dividers that end an attend.
constexpr unsigned attend_dividers(unsigned word_beats) { return divides_groups(word_beats) ? 8 : 1; }
// The maximum of no logits.
constexpr int no_logit = -(1 << 15);

// Rows that are compared: of scores, keys or queries.
struct ScoreRows {
    std::uint64_t address;
    unsigned row_beats;
};

// The fields of an attend and the arrays of its contexts.
struct AttendTile {
    // What a reduce has too.
    ReduceTile rows;
    unsigned kind;
    unsigned heads;
    unsigned head_groups;
    bool maxima;
    bool weigh;
    unsigned shift;
    unsigned factor;
    ScoreRows sources;
    ScoreRows targets;
    std::uint64_t types;
    unsigned type_count;
    // Beats of a row that is compared, and of those of a head of keys.
    unsigned score_beats;
    unsigned head_beats;

    bool typed() const { return kind == isa::attend_kind::typed; }
    bool dot() const { return kind == isa::attend_kind::dot; }
    VertexRows score_rows() const {
        return {sources.address, sources.row_beats, score_beats, false, false, 0, 0};
    }
    // Whether what was spilled is read: always its maxima, sums only to merge them.
    bool reads_spilled() const { return rows.merge || !maxima; }
    template <class D>
    unsigned sum_beats() const {
        return (D::lanes + 1) * rows.groups;
    }
};

// What AGG keeps for an attend.
template <class D, class Z>
struct AttendMemories {
    Word<Z, 64> targets[isa::attend_words];
    Word<Z, 64> types[isa::type_beats];
    S<Z, 16> maxima[agg_rows][D::agg_heads];
    // Of the edges whose logits are known, before their rows are read.
    unsigned vertices[isa::attend_edges];
    U<Z, 12> gaps[isa::attend_edges][D::agg_heads];
    // Of each group the numerators of its channels and the denominator.
    S<Z, isa::partial_bits> partials[isa::attend_words][D::lanes + 1];
};

template <class Z, class ContextRam, class Events>
AttendTile attend_tile(const Word<Z, isa::instruction_bits>& instruction, ContextRam agg_context,
                       Events& events) {
#pragma HLS INLINE
    using Op = isa::Attend;
    Word<Z, isa::instruction_bits> context[isa::context_words];
#pragma HLS ARRAY_PARTITION variable = context type = complete dim = 0
    read_context<Z>(number<Z, Op::Slot>(instruction), agg_context, context, events);
    Word<Z, isa::instruction_bits> scores[isa::context_words];
#pragma HLS ARRAY_PARTITION variable = scores type = complete dim = 0
    read_context<Z>(number<Z, Op::Scores>(instruction), agg_context, scores, events);
    using Features = isa::ConfigureFeatures;
    const unsigned heads = number<Z, Op::Heads>(instruction);
    const unsigned head_groups = number<Z, Op::HeadGroups>(instruction);
    const unsigned kind = number<Z, Op::Kind>(instruction);
    const unsigned head_beats = number<Z, isa::ConfigureSources::HeadBeats>(scores[0]);
    const bool weigh = flag<Z, Op::Weigh>(instruction);
    const bool spill = flag<Z, Op::Spill>(instruction);
    const ReduceTile rows = {
        number<Z, Op::Sum>(instruction), number<Z, Op::Rows>(instruction), heads * head_groups,
        number<Z, Op::Destination>(instruction), number<Z, isa::ConfigureIds::IdBytes>(context[2]),
        isa::reduce_mode::raw, flag<Z, Op::Unsigned>(instruction),
        flag<Z, Op::Accumulate>(instruction) && weigh && !spill, flag<Z, Op::Source>(instruction), false,
        flag<Z, Op::Merge>(instruction), spill,
        // The type of an edge stands where a weight would.
        kind == isa::attend_kind::typed, false,
        static_cast<std::uint64_t>(get<Z, Features::Address>(context[0])),
        number<Z, Features::RowBlocks>(context[0]) * beats_per_block,
        number<Z, Features::FirstBlock>(context[0]), (1U << number<Z, Features::SlotBits>(context[0])) - 1,
        records_from<Z>(context[1], isa::DestinationRecord::bytes, number<Z, Op::Destination>(instruction)),
        static_cast<std::uint64_t>(get<Z, isa::ConfigureIds::Address>(context[2])),
        static_cast<std::uint64_t>(get<Z, isa::ConfigureSpilled::Address>(context[3])),
        number<Z, isa::ConfigureSpilled::RowBlocks>(context[3]) * beats_per_block,
        parts_of<Z>(number<Z, Op::Rows>(instruction), context[1])};
    const unsigned target_beats = number<Z, isa::ConfigureTargets::RowBeats>(scores[1]);
    return {
        rows,
        kind,
        heads,
        head_groups,
        flag<Z, Op::Maxima>(instruction),
        weigh,
        number<Z, Op::Shift>(instruction),
        number<Z, Op::Factor>(instruction),
        {static_cast<std::uint64_t>(get<Z, isa::ConfigureSources::Address>(scores[0])),
         number<Z, isa::ConfigureSources::RowBeats>(scores[0])},
        {static_cast<std::uint64_t>(get<Z, isa::ConfigureTargets::Address>(scores[1])) +
             std::uint64_t{beat_bytes} * target_beats * rows.destination,
         target_beats},
        static_cast<std::uint64_t>(get<Z, isa::ConfigureTypes::Address>(scores[2])),
        number<Z, isa::ConfigureTypes::Count>(scores[2]),
        kind == isa::attend_kind::dot ? heads * head_beats : (heads + scores_per_beat - 1) / scores_per_beat,
        head_beats};
}

}  // namespace hetfab
