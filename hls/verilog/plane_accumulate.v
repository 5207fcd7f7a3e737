// SPDX-License-Identifier: Apache-2.0
// Adds a bit plane's sum, or subtracts it, to twice the word so far: word = 2 * inner +- (first + second).
// ap_return is {word, inner}, where `inner` restarts at zero after the last plane of a word: two registers with one
// input, of which one has a synchronous reset, so that the restart takes no LUT and no cycle. Latency 1, interval 1:
// the caller feeds `inner` back, and the recurrence closes in one cycle.
module plane_accumulate #(
    parameter SUM = 9,
    parameter INNER = 17,
    parameter MAPPED = 1
) (
    input  wire               ap_clk,
    input  wire               ap_rst,
    input  wire               ap_ce,
    input  wire [  INNER-1:0] inner,
    input  wire [  2*SUM-1:0] sums,
    input  wire               negative,
    input  wire               last,
    output wire [2*INNER-1:0] ap_return
);
    wire [SUM-1:0] first = sums[SUM-1:0];
    wire [SUM-1:0] second = sums[2*SUM-1:SUM];
    wire [INNER-1:0] word;

    generate
        if (MAPPED) begin : mapped
            ternary_adder #(
                .WIDTH(INNER),
                .GROW (0)
            ) adder (
                .negate(negative),
                .x     ({inner[INNER-2:0], 1'b0}),
                .y     ({{INNER - SUM{1'b0}}, first}),
                .z     ({{INNER - SUM{1'b0}}, second}),
                .sum   (word)
            );
        end else begin : plain
            wire [INNER-1:0] sum = first + second;
            assign word = {inner[INNER-2:0], 1'b0} + (negative ? -sum : sum);
        end
    endgenerate

    reg [INNER-1:0] word_register, inner_register;
    always @(posedge ap_clk) begin
        if (ap_ce) word_register <= word;
        if (ap_rst | (ap_ce & last)) inner_register <= 0;
        else if (ap_ce) inner_register <= word;
    end
    assign ap_return = {word_register, inner_register};
endmodule
