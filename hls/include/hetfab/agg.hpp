// SPDX-License-Identifier: Apache-2.0
// AGG: sums, means or attention over the feature rows of each destination's sources, over one relation in CSR
// form. Rows are gathered by a port of their own, with requests of several rows running ahead of the sums, or
// come from a scratchpad that tags or a schedule fill (docs/aggregation.md, docs/attention.md).
#pragma once

#include "attention.hpp"
#include "reduce.hpp"

namespace hetfab {

// Keeps a word of a context; that of features clears the tags of its slots.
template <class D, class Z, class TagRam, class ContextRam, class Events>
void agg_configure(const Word<Z, isa::instruction_bits>& instruction, unsigned kind, bool has_tags,
                   TagRam tag_ram, ContextRam agg_context, Events& events) {
#pragma HLS INLINE
    using Op = isa::ConfigureFeatures;
    agg_context[isa::context_words * number<Z, Op::Slot>(instruction) + kind] = instruction;
    const unsigned first = number<Z, Op::FirstBlock>(instruction);
    const unsigned end = first + (1U << number<Z, Op::SlotBits>(instruction));
    const bool clears = has_tags && D::feature_words != 0;
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
    AggMemories<D, Z> memories;
// Two ports that read and write: what was spilled and what sum_ram held, or what is spilled, are used in one
// trip.
#pragma HLS BIND_STORAGE variable = memories.held type = ram_t2p impl = bram
    const int opcode = static_cast<int>(number<Z, isa::Header::Opcode>(instruction));
    if (opcode == isa::Reduce::opcode) {
        const ReduceTile tile = reduce_tile<Z>(instruction, agg_context, events);
        return reduce_rows<D, Z>(tile, features, graph, feature_ram, tag_ram, sum_ram, rows_fifo, memories,
                                 events);
    }
    if constexpr (D::agg_heads != 0) {
        if (opcode == isa::Attend::opcode) {
            const AttendTile tile = attend_tile<Z>(instruction, agg_context, events);
            return attend_rows<D, Z>(tile, features, graph, feature_ram, tag_ram, sum_ram, rows_fifo,
                                     memories, events);
        }
        if (opcode >= isa::ConfigureSources::opcode && opcode <= isa::ConfigureTypes::opcode) {
            const unsigned kind = static_cast<unsigned>(opcode - isa::ConfigureSources::opcode);
            agg_configure<D, Z>(instruction, kind, false, tag_ram, agg_context, events);
            return {true, 1};
        }
    }
    if (opcode == isa::ConfigureSpilled::opcode) {
        agg_configure<D, Z>(instruction, isa::context_words - 1, false, tag_ram, agg_context, events);
        return {true, 1};
    }
    if (opcode >= isa::ConfigureFeatures::opcode && opcode <= isa::ConfigureIds::opcode) {
        const unsigned kind = static_cast<unsigned>(opcode - isa::ConfigureFeatures::opcode);
        agg_configure<D, Z>(instruction, kind, kind == 0, tag_ram, agg_context, events);
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
