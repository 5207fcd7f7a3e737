// SPDX-License-Identifier: Apache-2.0
// GEMM-L's processing element, cycle by cycle as hls/include/hetfab/plane_dot.hpp states it: LANES activations of SLICE
// bits and one weight bit plane a cycle, no dead cycle between planes, words, slices or outputs. `outer` holds the
// result of a plane 3 + LEVELS cycles later, LEVELS being those of the tree of ternary adders. MAPPED = 1 instantiates
// LUT6_2, LUT5 and CARRY4, MAPPED = 0 is plain Verilog.
module plane_dot #(
    parameter LANES = 32,
    parameter SLICE = 4,
    parameter SUM = 9,
    parameter LEVELS = 2,
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
    // The control of a plane travels with it: `sums_control` belongs to the sums, and one cycle later to the word.
    wire [3:0] sums_control;
    reg [4*(1+LEVELS)-1:0] stages;
    reg last_of_word, clear_of_word, shift_of_word;
    assign sums_control = stages[4*LEVELS+:4];
    wire negative_of_sums = sums_control[0];
    wire last_of_sums = sums_control[1];
    always @(posedge ap_clk) begin
        if (ap_rst) begin
            stages <= 0;
            {shift_of_word, clear_of_word, last_of_word} <= 3'b000;
        end else if (ap_ce) begin
            stages <= {stages, next_slice, clear, last, negative};
            {shift_of_word, clear_of_word, last_of_word} <= sums_control[3:1];
        end
    end

    wire [2*SUM-1:0] sums;
    plane_sums #(
        .LANES (LANES),
        .SLICE (SLICE),
        .SUM   (SUM),
        .LEVELS(LEVELS),
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
        .negative (negative_of_sums),
        .last     (last_of_sums),
        .ap_return({word, inner})
    );

    wire [OUTER-1:0] folded;
    fold_adder #(
        .WIDTH (OUTER),
        .SLICE (SLICE),
        .MAPPED(MAPPED)
    ) fold_adder (
        .clear(clear_of_word),
        .shift(shift_of_word),
        .outer(outer),
        .word ({{OUTER - INNER{word[INNER-1]}}, word}),
        .sum  (folded)
    );
    always @(posedge ap_clk) begin
        if (ap_rst) outer <= 0;
        else if (ap_ce & last_of_word) outer <= folded;
    end
endmodule
