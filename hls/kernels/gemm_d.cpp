// SPDX-License-Identifier: Apache-2.0
// GEMM-D's top function: one instruction per call, ap_start tied to 1 in the block design.
#include "hetfab/gemm_d.hpp"

#include "tops.hpp"

// A design with fixed weights has stages beside the array, or in its place.
#ifdef HETFAB_STAGES
#include "stages.hpp"
#endif

void gemm_d_top(hls::stream<Types::Instruction>& instructions, hls::stream<Types::Token>& tokens,
                Types::ActDBank act_d_ram[Design::gemm_d_rows][Design::act_d_words],
                Types::WgtDWord wgt_d_ram[Design::wgt_d_words],
                Types::AccDWord acc_d_ram[Design::acc_d_words]) {
#pragma HLS INTERFACE mode=ap_ctrl_hs port=return
#pragma HLS INTERFACE mode=axis port=instructions register_mode=off
#pragma HLS INTERFACE mode=axis port=tokens register_mode=off
// One port of each RAM: the other one belongs to LOAD or VEC. A bank is a RAM of its own.
#pragma HLS ARRAY_PARTITION variable=act_d_ram type=complete dim=1
#pragma HLS INTERFACE mode=ap_memory port=act_d_ram storage_type=ram_1p latency=1
#pragma HLS INTERFACE mode=ap_memory port=wgt_d_ram storage_type=ram_1p latency=1
#pragma HLS INTERFACE mode=ap_memory port=acc_d_ram storage_type=ram_1p latency=1
    hetfab::NoEvents events;
#ifdef HETFAB_STAGES
    hetfab::dense_step<Design, Family, hetfab::Stages>(instructions, tokens, act_d_ram, wgt_d_ram, acc_d_ram,
                                                       events);
#else
    hetfab::gemm_d_step<Design, Family>(instructions, tokens, act_d_ram, wgt_d_ram, acc_d_ram, events);
#endif
}
