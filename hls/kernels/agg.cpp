// SPDX-License-Identifier: Apache-2.0
// AGG's top function: one instruction per call, ap_start tied to 1 in the block design.
#include "hetfab/agg.hpp"

#include "tops.hpp"

void agg_top(hls::stream<Types::Instruction>& instructions, hls::stream<Types::Token>& tokens,
             hls::burst_maxi<Types::Beat> features, hls::burst_maxi<Types::Beat> graph,
             Types::Beat feature_ram[Design::agg_word_beats]
                                    [hetfab::depth_of(Design::feature_words / Design::agg_word_beats)],
             Types::Tag tag_ram[hetfab::depth_of(Design::feature_words / hetfab::words_per_tag)],
             Types::SumWord sum_ram[Design::sum_words],
             Types::Instruction agg_context[isa::context_words * Design::agg_contexts],
             hls::stream<Types::RowsWord>& rows_fifo) {
#pragma HLS INTERFACE mode=ap_ctrl_hs port=return
#pragma HLS INTERFACE mode=axis port=instructions register_mode=off
#pragma HLS INTERFACE mode=axis port=tokens register_mode=off
// Two bundles: the graph's beats must not wait behind the gathered rows. Rows may be as short as a beat, so
// more of them are outstanding (feature_outstanding). Sums are spilled by the same port.
#pragma HLS INTERFACE mode=m_axi port=features bundle=features offset=direct depth=4096 latency=32 \
    num_read_outstanding=32 max_read_burst_length=16 num_write_outstanding=16 max_write_burst_length=16 \
    max_widen_bitwidth=64
#pragma HLS INTERFACE mode=m_axi port=graph bundle=graph offset=direct depth=4096 latency=32 \
    num_read_outstanding=16 max_read_burst_length=16 num_write_outstanding=1 max_write_burst_length=2 \
    max_widen_bitwidth=64
// A bank per beat of a word. One port of each: a trip of the gather reads a row's word or writes a beat of
// it, reads a tag or writes one.
#pragma HLS ARRAY_PARTITION variable=feature_ram type=complete dim=1
#pragma HLS INTERFACE mode=ap_memory port=feature_ram storage_type=ram_1p latency=1
#pragma HLS INTERFACE mode=ap_memory port=tag_ram storage_type=ram_1p latency=1
// One port of sum_ram: the other one belongs to VEC.
#pragma HLS INTERFACE mode=ap_memory port=sum_ram storage_type=ram_1p latency=1
#pragma HLS INTERFACE mode=ap_memory port=agg_context storage_type=ram_1p latency=1
#pragma HLS INTERFACE mode=axis port=rows_fifo
    hetfab::NoEvents events;
    hetfab::agg_step<Design, Family>(instructions, tokens, features, graph, feature_ram, tag_ram, sum_ram,
                                     agg_context, rows_fifo, events);
}
