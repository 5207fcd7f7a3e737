// SPDX-License-Identifier: Apache-2.0
// SGB's top function: one instruction per call, ap_start tied to 1 in the block design.
#include "hetfab/sgb.hpp"

#include "tops.hpp"

void sgb_top(hls::stream<Types::Instruction>& instructions, hls::stream<Types::Token>& tokens,
             hls::burst_maxi<Types::Beat> left, hls::burst_maxi<Types::Beat> right,
             hls::burst_maxi<Types::Beat> out, Types::Instruction sgb_context[isa::sgb_words],
             hls::stream<Types::RowsWord>& rows_fifo) {
#pragma HLS INTERFACE mode=ap_ctrl_hs port=return
#pragma HLS INTERFACE mode=axis port=instructions register_mode=off
#pragma HLS INTERFACE mode=axis port=tokens register_mode=off
// Bundles of their own: the right rows' beats must not wait behind the left graph's, and the ids go out
// meanwhile. Rows may be as short as a beat, so more of them are outstanding on the right port.
#pragma HLS INTERFACE mode=m_axi port=left bundle=left offset=direct depth=4096 latency=32 \
    num_read_outstanding=16 max_read_burst_length=16 num_write_outstanding=1 max_write_burst_length=2 \
    max_widen_bitwidth=64
#pragma HLS INTERFACE mode=m_axi port=right bundle=right offset=direct depth=4096 latency=32 \
    num_read_outstanding=32 max_read_burst_length=16 num_write_outstanding=1 max_write_burst_length=2 \
    max_widen_bitwidth=64
#pragma HLS INTERFACE mode=m_axi port=out bundle=out offset=direct depth=4096 latency=32 \
    num_read_outstanding=1 max_read_burst_length=2 num_write_outstanding=16 max_write_burst_length=16 \
    max_widen_bitwidth=64
#pragma HLS INTERFACE mode=ap_memory port=sgb_context storage_type=ram_1p latency=1
#pragma HLS INTERFACE mode=axis port=rows_fifo
    hetfab::NoEvents events;
    hetfab::sgb_step<Design, Family>(instructions, tokens, left, right, out, sgb_context, rows_fifo, events);
}
