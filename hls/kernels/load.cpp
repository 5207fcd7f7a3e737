// SPDX-License-Identifier: Apache-2.0
// LOAD's top function: one instruction per call, ap_start tied to 1 in the block design.
#include "hetfab/load.hpp"

#include "tops.hpp"

void load_top(hls::stream<Types::Instruction>& instructions, hls::stream<Types::Token>& tokens,
              hls::burst_maxi<Types::Beat> memory,
              Types::ActDBank act_d_ram[Design::gemm_d_rows][Design::act_d_words],
              Types::ActLBank act_l_ram[Design::gemm_l_rows][Design::act_l_words],
              Types::WgtDWord wgt_d_ram[Design::wgt_d_words], Types::WgtLWord wgt_l_ram[Design::wgt_l_words],
              Types::ParWord par_ram[Design::par_words],
              Types::FunWord fun_ram[4][hetfab::depth_of(Design::fun_words)],
              Types::ResWord res_ram[hetfab::depth_of(Design::res_words)],
              Types::DwpWord dwp_ram[hetfab::depth_of(Design::dwp_words)],
              Types::LoadContext load_context[hetfab::isa::load_contexts]) {
#pragma HLS INTERFACE mode=ap_ctrl_hs port=return
#pragma HLS INTERFACE mode=axis port=instructions register_mode=off
#pragma HLS INTERFACE mode=axis port=tokens register_mode=off
#pragma HLS INTERFACE mode=m_axi port=memory bundle=memory offset=direct depth=4096 latency=32 \
    num_read_outstanding=16 max_read_burst_length=16 num_write_outstanding=1 max_write_burst_length=2 \
    max_widen_bitwidth=64
// One port of each RAM: the other one belongs to the reading engine. A bank is a RAM of its own.
#pragma HLS ARRAY_PARTITION variable=act_d_ram type=complete dim=1
#pragma HLS ARRAY_PARTITION variable=act_l_ram type=complete dim=1
#pragma HLS ARRAY_PARTITION variable=fun_ram type=complete dim=1
#pragma HLS INTERFACE mode=ap_memory port=act_d_ram storage_type=ram_1p latency=1
#pragma HLS INTERFACE mode=ap_memory port=act_l_ram storage_type=ram_1p latency=1
#pragma HLS INTERFACE mode=ap_memory port=wgt_d_ram storage_type=ram_1p latency=1
#pragma HLS INTERFACE mode=ap_memory port=wgt_l_ram storage_type=ram_1p latency=1
#pragma HLS INTERFACE mode=ap_memory port=par_ram storage_type=ram_1p latency=1
#pragma HLS INTERFACE mode=ap_memory port=fun_ram storage_type=ram_1p latency=1
#pragma HLS INTERFACE mode=ap_memory port=res_ram storage_type=ram_1p latency=1
#pragma HLS INTERFACE mode=ap_memory port=dwp_ram storage_type=ram_1p latency=1
#pragma HLS INTERFACE mode=ap_memory port=load_context storage_type=ram_1p latency=1
    hetfab::NoEvents events;
    hetfab::load_step<Design, Family>(instructions, tokens, memory, act_d_ram, act_l_ram, wgt_d_ram,
                                      wgt_l_ram, par_ram, fun_ram, res_ram, dwp_ram, load_context, events);
}
