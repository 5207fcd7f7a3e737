// SPDX-License-Identifier: Apache-2.0
// VEC's top function: one instruction per call, ap_start tied to 1 in the block design.
#include "hetfab/vec.hpp"

#include "tops.hpp"

void vec_top(hls::stream<Types::Instruction>& instructions, hls::stream<Types::Token>& tokens,
             Types::AccDWord acc_d_ram[Design::acc_d_words], Types::AccLWord acc_l_ram[Design::acc_l_words],
             Types::ParWord par_ram[Design::par_words],
             Types::FunWord fun_ram[4][hetfab::depth_of(Design::fun_words)],
             Types::SumWord sum_ram[Design::sum_words],
             Types::ResWord res_ram[hetfab::depth_of(Design::res_words)],
             Types::Half out_ram[2][Design::out_words],
             Types::Half exp_ram[2][hetfab::depth_of(Design::exp_words)],
             Types::VecContext vec_context[isa::vec_words]) {
#pragma HLS INTERFACE mode=ap_ctrl_hs port=return
#pragma HLS INTERFACE mode=axis port=instructions register_mode=off
#pragma HLS INTERFACE mode=axis port=tokens register_mode=off
// One port of each RAM: the other one belongs to the engine that writes or reads it.
#pragma HLS INTERFACE mode=ap_memory port=acc_d_ram storage_type=ram_1p latency=1
#pragma HLS INTERFACE mode=ap_memory port=acc_l_ram storage_type=ram_1p latency=1
#pragma HLS INTERFACE mode=ap_memory port=par_ram storage_type=ram_1p latency=1
#pragma HLS ARRAY_PARTITION variable=fun_ram type=complete dim=1
#pragma HLS INTERFACE mode=ap_memory port=fun_ram storage_type=ram_1p latency=1
#pragma HLS INTERFACE mode=ap_memory port=sum_ram storage_type=ram_1p latency=1
#pragma HLS INTERFACE mode=ap_memory port=res_ram storage_type=ram_1p latency=1
#pragma HLS ARRAY_PARTITION variable=out_ram type=complete dim=1
#pragma HLS ARRAY_PARTITION variable=exp_ram type=complete dim=1
#pragma HLS INTERFACE mode=ap_memory port=out_ram storage_type=ram_1p latency=1
#pragma HLS INTERFACE mode=ap_memory port=exp_ram storage_type=ram_1p latency=1
#pragma HLS INTERFACE mode=ap_memory port=vec_context storage_type=ram_1p latency=1
    hetfab::NoEvents events;
    hetfab::vec_step<Design, Family>(instructions, tokens, acc_d_ram, acc_l_ram, par_ram, fun_ram, sum_ram,
                                     res_ram, out_ram, exp_ram, vec_context, events);
}
