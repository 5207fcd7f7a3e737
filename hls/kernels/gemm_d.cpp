// SPDX-License-Identifier: Apache-2.0
// GEMM-D's top function: one instruction per call, ap_start tied to 1 in the block design.
#include "hetfab/gemm_d.hpp"

#include "tops.hpp"

void gemm_d_top(hls::stream<Types::Instruction>& instructions, hls::stream<Types::Token>& tokens,
                Types::ActWord act_ram[Design::act_words], Types::WgtWord wgt_ram[Design::wgt_words],
                Types::AccWord acc_ram[Design::acc_words]) {
#pragma HLS INTERFACE mode=ap_ctrl_hs port=return
#pragma HLS INTERFACE mode=axis port=instructions
#pragma HLS INTERFACE mode=axis port=tokens
// One port of each RAM: the other one belongs to LOAD or VEC.
#pragma HLS INTERFACE mode=ap_memory port=act_ram storage_type=ram_1p latency=1
#pragma HLS INTERFACE mode=ap_memory port=wgt_ram storage_type=ram_1p latency=1
#pragma HLS INTERFACE mode=ap_memory port=acc_ram storage_type=ram_1p latency=1
    hetfab::NoEvents events;
    hetfab::gemm_d_step<Design, Family>(instructions, tokens, act_ram, wgt_ram, acc_ram, events);
}
