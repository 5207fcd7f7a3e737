// SPDX-License-Identifier: Apache-2.0
// GEMM-L's top function: one instruction per call, ap_start tied to 1 in the block design.
#include "hetfab/gemm_l.hpp"

#include "tops.hpp"

void gemm_l_top(hls::stream<Types::Instruction>& instructions, hls::stream<Types::Token>& tokens,
                Types::ActLBank act_l_ram[Design::gemm_l_rows][Design::act_l_words],
                Types::WgtLWord wgt_l_ram[Design::wgt_l_words],
                Types::AccLWord acc_l_ram[Design::acc_l_words]) {
#pragma HLS INTERFACE mode=ap_ctrl_hs port=return
#pragma HLS INTERFACE mode=axis port=instructions register_mode=off
#pragma HLS INTERFACE mode=axis port=tokens register_mode=off
// One port of each RAM: the other one belongs to LOAD or VEC. A bank is a RAM of its own.
#pragma HLS ARRAY_PARTITION variable=act_l_ram type=complete dim=1
#pragma HLS INTERFACE mode=ap_memory port=act_l_ram storage_type=ram_1p latency=1
#pragma HLS INTERFACE mode=ap_memory port=wgt_l_ram storage_type=ram_1p latency=1
#pragma HLS INTERFACE mode=ap_memory port=acc_l_ram storage_type=ram_1p latency=1
    hetfab::NoEvents events;
    hetfab::gemm_l_step<Design, Family>(instructions, tokens, act_l_ram, wgt_l_ram, acc_l_ram, events);
}
