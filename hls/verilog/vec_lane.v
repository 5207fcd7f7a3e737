// SPDX-License-Identifier: Apache-2.0
// What a lane of VEC computes (hls/include/hetfab/vec.hpp), to be counted: bias, product, rounding to 24 bits, a sum,
// rounding and limits of a byte. STORED adds the tensors of res_ram: what joins, and the sums of windows. JOINED adds an
// aggregate to the accumulator before its bias.
`default_nettype none

module vec_lane #(
    parameter STORED = 1,
    parameter JOINED = 1
) (
    input wire clk,
    input wire signed [31:0] acc,
    input wire signed [31:0] bias,
    input wire [16:0] multiplier,
    input wire [5:0] shift,
    input wire [48:0] below,
    input wire [48:0] beyond,
    input wire signed [31:0] aggregate,
    input wire adds_early,
    input wire signed [8:0] stored,
    input wire first_tap,
    input wire averages,
    input wire joins,
    input wire adds,
    input wire exports_acc,
    input wire [5:0] post_shift,
    input wire [46:0] post_below,
    input wire [46:0] post_beyond,
    input wire signed [9:0] smallest,
    input wire signed [9:0] largest,
    output reg signed [31:0] value,
    output reg [7:0] result
);
    reg signed [24:0] window;
    always @(posedge clk) if (STORED) window <= (first_tap ? 25'sd0 : window) + stored;

    wire signed [31:0] operand;
    generate
        if (JOINED) begin : joining
            // One adder for both: the accumulator is zero where a window is averaged.
            wire signed [31:0] early = STORED && averages ? window : adds_early ? aggregate : 32'sd0;
            reg signed [31:0] summed;
            always @(posedge clk) summed <= acc + early;
            assign operand = summed;
        end else begin : choosing
            assign operand = STORED && averages ? window : acc;
        end
    endgenerate

    reg signed [31:0] biased, biased1, biased2, biased3, biased4;
    reg signed [48:0] product, scaled;
    always @(posedge clk) begin
        biased <= operand + bias;
        product <= biased * $signed({1'b0, multiplier});
        scaled <= product;
        biased1 <= biased;
        biased2 <= biased1;
        biased3 <= biased2;
        biased4 <= biased3;
    end

    wire signed [23:0] term;
    round_shift #(.IN(49), .OUT(24)) first (
        .clk(clk), .value(scaled), .shift(shift), .half_up(averages), .below(below), .beyond(beyond), .result(term)
    );

    wire signed [31:0] in_q8 = {{15{stored[8]}}, stored, 8'd0};
    reg signed [31:0] addend, joined;
    always @(posedge clk) begin
        addend <= exports_acc ? biased4 : STORED && joins ? in_q8 : adds ? aggregate : 32'sd0;
        joined <= exports_acc ? 32'sd0 : term;
        value <= addend + joined;
    end

    wire signed [8:0] rounded;
    round_shift #(.IN(47), .OUT(9)) second (
        .clk(clk), .value({value, 15'd0}), .shift(post_shift), .half_up(1'b0), .below(post_below),
        .beyond(post_beyond), .result(rounded)
    );
    wire signed [9:0] wide = rounded;
    always @(posedge clk) result <= wide < smallest ? smallest[7:0] : wide > largest ? largest[7:0] : wide[7:0];
endmodule

`default_nettype wire
