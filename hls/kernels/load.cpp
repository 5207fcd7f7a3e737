// SPDX-License-Identifier: Apache-2.0
// LOAD's top function: one instruction per call, ap_start tied to 1 in the block design.
#include "hetfab/load.hpp"

#include "tops.hpp"

void load_top(hls::stream<Types::Instruction>& instructions, hls::stream<Types::Token>& tokens,
              hls::burst_maxi<Types::Beat> memory, Types::ActWord act_ram[Design::act_words],
              Types::WgtWord wgt_ram[Design::wgt_words], Types::ParWord par_ram[Design::par_words]) {
#pragma HLS INTERFACE mode=ap_ctrl_hs port=return
#pragma HLS INTERFACE mode=axis port=instructions
#pragma HLS INTERFACE mode=axis port=tokens
#pragma HLS INTERFACE mode=m_axi port=memory bundle=memory offset=direct depth=4096 latency=32 \
    num_read_outstanding=16 max_read_burst_length=16 num_write_outstanding=1 max_write_burst_length=2 \
    max_widen_bitwidth=64
// One port of each RAM: the other one belongs to the reading engine.
#pragma HLS INTERFACE mode=ap_memory port=act_ram storage_type=ram_1p latency=1
#pragma HLS INTERFACE mode=ap_memory port=wgt_ram storage_type=ram_1p latency=1
#pragma HLS INTERFACE mode=ap_memory port=par_ram storage_type=ram_1p latency=1
    hetfab::NoEvents events;
    hetfab::load_step<Design, Family>(instructions, tokens, memory, act_ram, wgt_ram, par_ram, events);
}
