// SPDX-License-Identifier: Apache-2.0
// STORE's top function: one instruction per call, ap_start tied to 1 in the block design.
#include "hetfab/store.hpp"

#include "tops.hpp"

void store_top(hls::stream<Types::Instruction>& instructions, hls::stream<Types::Token>& tokens,
               hls::burst_maxi<Types::Beat> memory, Types::OutWord out_ram[Design::out_words]) {
#pragma HLS INTERFACE mode=ap_ctrl_hs port=return
#pragma HLS INTERFACE mode=axis port=instructions register_mode=off
#pragma HLS INTERFACE mode=axis port=tokens register_mode=off
#pragma HLS INTERFACE mode=m_axi port=memory bundle=memory offset=direct depth=4096 latency=32 \
    num_read_outstanding=1 max_read_burst_length=2 num_write_outstanding=16 max_write_burst_length=16 \
    max_widen_bitwidth=64
// One port of the RAM: the other one belongs to the writing engine.
#pragma HLS INTERFACE mode=ap_memory port=out_ram storage_type=ram_1p latency=1
    hetfab::NoEvents events;
    hetfab::store_step<Design, Family>(instructions, tokens, memory, out_ram, events);
}
