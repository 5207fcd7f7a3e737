// SPDX-License-Identifier: Apache-2.0
// The activations of two rows on the 18-bit ports of a chain of 8 DSP48E1, as hls/include/hetfab/dsp_chain.hpp packs
// them, slice k one cycle after slice k - 1. All chains of the two rows share it.
// int8: byte k % 4 of row k / 4. int4 ("nibbles"): nibble k of both rows, row 1 shifted left by 10.
module row_operand (
    input  wire        ap_clk,
    input  wire        ap_ce,
    input  wire        nibbles,
    input  wire        flip,
    input  wire [31:0] row_0,
    input  wire [31:0] row_1,
    output wire [143:0] ports
);
    // Unsigned activations enter with their top bit inverted.
    wire [31:0] top_bits = {4{flip, 3'b000, flip & nibbles, 3'b000}};
    wire [31:0] act_0 = row_0 ^ top_bits;
    wire [31:0] act_1 = row_1 ^ top_bits;

    genvar k;
    generate
        for (k = 0; k < 8; k = k + 1) begin : slices
            wire [7:0] one = k < 4 ? act_0[8*(k%4)+:8] : act_1[8*(k%4)+:8];
            wire [3:0] low = act_0[4*k+:4];
            wire [3:0] high = act_1[4*k+:4];
            // {high[3], high} - low[3], since the sign of the low activation borrows from the high one; spelled out,
            // or tools spend a carry chain on five bits.
            wire [4:0] borrow = {low[3] & ~|high, low[3] & ~|high[2:0], low[3] & ~|high[1:0], low[3] & ~high[0], low[3]};
            wire [4:0] borrowed = {high[3], high} ^ borrow;
            // The port's bits that differ: its others repeat a sign.
            wire [12:0] bits = nibbles ? {borrowed, {4{low[3]}}, low} : {{5{one[7]}}, one};
            wire [12:0] skewed;
            delay #(
                .WIDTH (13),
                .CYCLES(k)
            ) skew (
                .ap_clk (ap_clk),
                .ap_ce  (ap_ce),
                .value  (bits),
                .delayed(skewed)
            );
            assign ports[18*k+:18] = {{4{skewed[12]}}, skewed[11:8], {2{skewed[7]}}, skewed[7:0]};
        end
    endgenerate
endmodule
