// SPDX-License-Identifier: Apache-2.0
// DW's top function: one instruction per call, ap_start tied to 1 in the block design.
#include "hetfab/dw.hpp"

#include "tops.hpp"

void dw_top(hls::stream<Types::Instruction>& instructions, hls::stream<Types::Token>& tokens,
            Types::Half exp_ram[2][hetfab::depth_of(Design::exp_words)],
            Types::DwpWord dwp_ram[hetfab::depth_of(Design::dwp_words)],
            Types::Half mid_ram[2][hetfab::depth_of(Design::mid_words)]) {
#pragma HLS INTERFACE mode=ap_ctrl_hs port=return
#pragma HLS INTERFACE mode=axis port=instructions register_mode=off
#pragma HLS INTERFACE mode=axis port=tokens register_mode=off
// One port of each RAM: the other one belongs to the engine that writes or reads it. A bank is a RAM of its
// own.
#pragma HLS ARRAY_PARTITION variable=exp_ram type=complete dim=1
#pragma HLS ARRAY_PARTITION variable=mid_ram type=complete dim=1
#pragma HLS INTERFACE mode=ap_memory port=exp_ram storage_type=ram_1p latency=1
#pragma HLS INTERFACE mode=ap_memory port=dwp_ram storage_type=ram_1p latency=1
#pragma HLS INTERFACE mode=ap_memory port=mid_ram storage_type=ram_1p latency=1
    hetfab::NoEvents events;
    hetfab::dw_step<Design, Family>(instructions, tokens, exp_ram, dwp_ram, mid_ram, events);
}
