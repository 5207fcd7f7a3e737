// SPDX-License-Identifier: Apache-2.0
// RST's top function: one instruction per call, ap_start tied to 1 in the block design.
#include "hetfab/rst.hpp"

#include "tops.hpp"

void rst_top(hls::stream<Types::Instruction>& instructions, hls::stream<Types::Token>& tokens,
             hls::burst_maxi<Types::Beat> graph, hls::burst_maxi<Types::Beat> out,
             Types::Instruction rst_context[isa::rst_words]) {
#pragma HLS INTERFACE mode=ap_ctrl_hs port=return
#pragma HLS INTERFACE mode=axis port=instructions register_mode=off
#pragma HLS INTERFACE mode=axis port=tokens register_mode=off
// Bundles of their own: edges go out while ids are read.
#pragma HLS INTERFACE mode=m_axi port=graph bundle=graph offset=direct depth=4096 latency=32 \
    num_read_outstanding=16 max_read_burst_length=16 num_write_outstanding=1 max_write_burst_length=2 \
    max_widen_bitwidth=64
#pragma HLS INTERFACE mode=m_axi port=out bundle=out offset=direct depth=4096 latency=32 \
    num_read_outstanding=1 max_read_burst_length=2 num_write_outstanding=16 max_write_burst_length=16 \
    max_widen_bitwidth=64
#pragma HLS INTERFACE mode=ap_memory port=rst_context storage_type=ram_1p latency=1
    hetfab::NoEvents events;
    hetfab::rst_step<Design, Family>(instructions, tokens, graph, out, rst_context, events);
}
