// SPDX-License-Identifier: Apache-2.0
// GEMM-L's processing element, cycle by cycle as hls/include/hetfab/plane_dot.hpp states it: LANES activations of SLICE
// bits and one weight bit plane a cycle, no dead cycle between planes, words, slices or outputs. `outer` holds the
// result of a plane three cycles later. MAPPED = 1 instantiates LUT6_2, LUT5 and CARRY4, MAPPED = 0 is plain Verilog.
module plane_dot #(
    parameter LANES = 32,
    parameter SLICE = 4,
    parameter SUM = 9,
    parameter INNER = 17,
    parameter OUTER = 24,
    parameter MAPPED = 1
) (
    input  wire                   ap_clk,
    input  wire                   ap_rst,
    input  wire                   ap_ce,
    input  wire [LANES*SLICE-1:0] slices,
    input  wire [      LANES-1:0] plane,
    input  wire                   bipolar,
    input  wire                   negative,
    input  wire                   last,
    input  wire                   clear,
    input  wire                   next_slice,
    output reg  [      OUTER-1:0] outer
);
    // The control of a plane travels with it.
    reg negative_1, last_1, clear_1, shift_1, last_2, clear_2, shift_2;
    always @(posedge ap_clk) begin
        if (ap_ce) begin
            {negative_1, clear_1, shift_1} <= {negative, clear, next_slice};
            {clear_2, shift_2} <= {clear_1, shift_1};
        end
        if (ap_rst) {last_1, last_2} <= 2'b00;
        else if (ap_ce) {last_1, last_2} <= {last, last_1};
    end

    wire [2*SUM-1:0] sums;
    plane_sums #(
        .LANES (LANES),
        .SLICE (SLICE),
        .SUM   (SUM),
        .MAPPED(MAPPED)
    ) plane_sums (
        .ap_clk   (ap_clk),
        .ap_rst   (ap_rst),
        .ap_ce    (ap_ce),
        .slices   (slices),
        .plane    (plane),
        .bipolar  (bipolar),
        .ap_return(sums)
    );

    wire [INNER-1:0] word, inner;
    plane_accumulate #(
        .SUM   (SUM),
        .INNER (INNER),
        .MAPPED(MAPPED)
    ) plane_accumulate (
        .ap_clk   (ap_clk),
        .ap_rst   (ap_rst),
        .ap_ce    (ap_ce),
        .inner    (inner),
        .sums     (sums),
        .negative (negative_1),
        .last     (last_1),
        .ap_return({word, inner})
    );

    wire [OUTER-1:0] folded;
    fold_adder #(
        .WIDTH (OUTER),
        .SLICE (SLICE),
        .MAPPED(MAPPED)
    ) fold_adder (
        .clear(clear_2),
        .shift(shift_2),
        .outer(outer),
        .word ({{OUTER - INNER{word[INNER-1]}}, word}),
        .sum  (folded)
    );
    always @(posedge ap_clk) begin
        if (ap_rst) outer <= 0;
        else if (ap_ce & last_2) outer <= folded;
    end
endmodule
