// SPDX-License-Identifier: Apache-2.0
// What DW computes (hls/include/hetfab/dw.hpp), to be counted: the windows of one nibble, and how a channel ends.
`default_nettype none

// Three products of a nibble, each added to the sum of a window; a new column moves the sums on.
module dw_nibble (
    input wire clk,
    input wire [3:0] nibble,
    input wire nibble_signed,
    input wire [11:0] weights,
    input wire weight_signed,
    input wire high_weights,
    input wire moves,
    output wire signed [15:0] finished
);
    wire signed [4:0] a = {nibble_signed & nibble[3], nibble};
    reg signed [15:0] sums[0:2];
    reg signed [8:0] products[0:2];
    reg moves1, high1;

    // In LUTs: a sign of 4 bits makes the weight of its highest bit negative.
    function signed [8:0] times(input signed [4:0] one, input [3:0] other, input other_signed);
        reg signed [8:0] wide;
        begin
            wide = one;
            times = (other[0] ? wide : 9'sd0) + (other[1] ? wide <<< 1 : 9'sd0) + (other[2] ? wide <<< 2 : 9'sd0)
                + (other[3] ? (other_signed ? -(wide <<< 3) : wide <<< 3) : 9'sd0);
        end
    endfunction

    integer back;
    always @(posedge clk) begin
        moves1 <= moves;
        high1 <= high_weights;
        for (back = 0; back < 3; back = back + 1) begin
            products[back] <= times(a, weights[4*back+:4], weight_signed);
            sums[back] <= (moves1 ? (back == 0 ? 16'sd0 : sums[back == 0 ? 0 : back - 1]) : sums[back])
                + (high1 ? $signed({products[back], 4'd0}) : products[back]);
        end
    end
    assign finished = sums[2];
endmodule

// Half of a packed word's sums, or the two nibbles of a byte; bias, product, rounding, limits.
module dw_end (
    input wire clk,
    input wire packed_word,
    input wire second_half,
    input wire signed [15:0] first,
    input wire signed [15:0] second,
    input wire signed [15:0] low,
    input wire signed [15:0] high,
    input wire signed [31:0] first_bias,
    input wire signed [31:0] second_bias,
    input wire [15:0] first_multiplier,
    input wire [15:0] second_multiplier,
    input wire [5:0] shift,
    input wire [48:0] below,
    input wire [48:0] beyond,
    input wire signed [9:0] smallest,
    input wire signed [9:0] largest,
    output reg [7:0] result
);
    reg signed [20:0] total;
    reg signed [31:0] bias, biased;
    reg [15:0] multiplier, multiplier1;
    reg signed [48:0] product, scaled;
    always @(posedge clk) begin
        total <= packed_word ? (second_half ? second : first) : $signed({high, 4'd0}) + low;
        bias <= second_half ? second_bias : first_bias;
        multiplier <= second_half ? second_multiplier : first_multiplier;
        biased <= total + bias;
        multiplier1 <= multiplier;
        product <= biased * $signed({1'b0, multiplier1});
        scaled <= product;
    end
    wire signed [8:0] rounded;
    round_shift #(.IN(49), .OUT(9)) ending (
        .clk(clk), .value(scaled), .shift(shift), .half_up(1'b0), .below(below), .beyond(beyond), .result(rounded)
    );
    wire signed [9:0] wide = rounded;
    always @(posedge clk) result <= wide < smallest ? smallest[7:0] : wide > largest ? largest[7:0] : wide[7:0];
endmodule

`default_nettype wire
