// SPDX-License-Identifier: Apache-2.0
// STORE's top function: one instruction per call, ap_start tied to 1 in the block design.
#include "hetfab/store.hpp"

#include "tops.hpp"

void store_top(hls::stream<Types::Instruction>& instructions, hls::stream<Types::Token>& tokens,
               hls::burst_maxi<Types::Beat> memory, Types::Half out_ram[2][Design::out_words],
               Types::Half mid_ram[2][hetfab::depth_of(Design::mid_words)]) {
#pragma HLS INTERFACE mode=ap_ctrl_hs port=return
#pragma HLS INTERFACE mode=axis port=instructions register_mode=off
#pragma HLS INTERFACE mode=axis port=tokens register_mode=off
#pragma HLS INTERFACE mode=m_axi port=memory bundle=memory offset=direct depth=4096 latency=32 \
    num_read_outstanding=1 max_read_burst_length=2 num_write_outstanding=16 max_write_burst_length=16 \
    max_widen_bitwidth=64
// One port of each RAM: the other one belongs to the writing engine. A bank is a RAM of its own.
#pragma HLS ARRAY_PARTITION variable=out_ram type=complete dim=1
#pragma HLS ARRAY_PARTITION variable=mid_ram type=complete dim=1
#pragma HLS INTERFACE mode=ap_memory port=out_ram storage_type=ram_1p latency=1
#pragma HLS INTERFACE mode=ap_memory port=mid_ram storage_type=ram_1p latency=1
    hetfab::NoEvents events;
    hetfab::store_step<Design, Family>(instructions, tokens, memory, out_ram, mid_ram, events);
}
