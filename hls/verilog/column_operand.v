// SPDX-License-Identifier: Apache-2.0
// The weights of two columns for a chain of 8 DSP48E1: the pre-adder's two operands, of which 8 bits each differ, slice
// k one cycle after slice k - 1. All chains of the two columns share it.
// int8: byte k % 4 of either column, column 1 shifted left by 17. int4 ("nibbles"): nibble k, column 1 by 20.
module column_operand (
    input  wire        ap_clk,
    input  wire        ap_ce,
    input  wire        nibbles,
    input  wire [31:0] column_0,
    input  wire [31:0] column_1,
    output wire [63:0] low,
    output wire [63:0] high
);
    genvar k;
    generate
        for (k = 0; k < 8; k = k + 1) begin : slices
            wire [7:0] byte_0 = column_0[8*(k%4)+:8];
            wire [7:0] byte_1 = column_1[8*(k%4)+:8];
            wire [3:0] nibble_0 = column_0[4*k+:4];
            wire [3:0] nibble_1 = column_1[4*k+:4];
            wire [7:0] bits_0 = nibbles ? {{4{nibble_0[3]}}, nibble_0} : byte_0;
            wire [7:0] bits_1 = nibbles ? {nibble_1[3], nibble_1, 3'b000} : byte_1;
            delay #(
                .WIDTH (16),
                .CYCLES(k)
            ) skew (
                .ap_clk (ap_clk),
                .ap_ce  (ap_ce),
                .value  ({bits_1, bits_0}),
                .delayed({high[8*k+:8], low[8*k+:8]})
            );
        end
    endgenerate
endmodule
