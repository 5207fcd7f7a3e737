// SPDX-License-Identifier: Apache-2.0
// The dividers that end an attend (hls/include/hetfab/quotients.hpp), to be counted; not part of an overlay.
`default_nettype none

// What the quotients of a destination's head share.
module attend_divisor (
    input wire clk,
    input wire [27:0] denominator,
    input wire is_unsigned,
    output reg signed [28:0] plus,
    output reg signed [28:0] minus,
    output reg [43:0] offset,
    output reg divides
);
    always @(posedge clk) begin
        plus <= {1'b0, denominator};
        minus <= -{1'b0, denominator};
        offset <= denominator[27:1] - (is_unsigned ? {1'b0, denominator, 15'd0} : 44'd0);
        divides <= denominator != 0;
    end
endmodule

// A channel: 16 bits of a quotient, one a stage, in division that does not restore; then what sum_ram held is added.
module attend_quotient (
    input wire clk,
    input wire [35:0] numerator,
    input wire [43:0] offset,
    // As they reach each stage, and the last adder.
    input wire [15*29-1:0] plus,
    input wire [15*29-1:0] minus,
    input wire is_unsigned,
    input wire divides,
    input wire [31:0] sum,
    input wire accumulate,
    output reg [31:0] result
);
    reg signed [28:0] rest[0:15];
    reg [14:0] below[0:15];
    reg [14:0] below_zero[0:15];
    reg [31:0] held;
    integer stage;
    always @(posedge clk) begin
        {rest[0], below[0]} <= {numerator, 8'd0} + offset;
        for (stage = 1; stage < 16; stage = stage + 1) begin
            rest[stage] <= {rest[stage-1][27:0], below[stage-1][14]}
                + (rest[stage-1][28] ? plus[29*(stage-1)+:29] : minus[29*(stage-1)+:29]);
            below[stage] <= below[stage-1] << 1;
            below_zero[stage] <= {below_zero[stage-1][13:0], rest[stage-1][28]};
        end
        held <= accumulate ? sum : 32'd0;
    end
    // A bit of the quotient is the inverted sign of a rest; quotients of signed features are 2^15 less.
    wire [15:0] signs = {below_zero[15], rest[15][28]};
    reg [16:0] inverted;
    always @(posedge clk) begin
        inverted <= divides ? {is_unsigned | ~signs[15], signs[15] ^ ~is_unsigned, signs[14:0]} : 17'h1ffff;
        result <= held + {{15{~inverted[16]}}, ~inverted};
    end
endmodule

// Channels of one denominator. What arrives with a numerator leaves 19 cycles later.
module attend_quotients #(
    parameter LANES = 1
) (
    input wire clk,
    input wire [27:0] denominator,
    input wire is_unsigned,
    input wire [LANES*36-1:0] numerators,
    // 17 cycles after the numerators.
    input wire accumulate,
    input wire [LANES*32-1:0] sum,
    output wire [LANES*32-1:0] results
);
    reg [15*29-1:0] pluses, minuses;
    reg [16:0] unsigneds;
    reg [15:0] all_divide;
    wire signed [28:0] plus, minus;
    wire [43:0] offset;
    wire divides;
    attend_divisor divisor (
        .clk(clk), .denominator(denominator), .is_unsigned(is_unsigned),
        .plus(plus), .minus(minus), .offset(offset), .divides(divides)
    );
    always @(posedge clk) begin
        pluses <= {pluses[14*29-1:0], plus};
        minuses <= {minuses[14*29-1:0], minus};
        unsigneds <= {unsigneds[15:0], is_unsigned};
        all_divide <= {all_divide[14:0], divides};
    end
    reg [LANES*36-1:0] arrived;
    always @(posedge clk) arrived <= numerators;
    genvar lane;
    generate
        for (lane = 0; lane < LANES; lane = lane + 1) begin : quotients
            attend_quotient channel (
                .clk(clk), .numerator(arrived[36*lane+:36]), .offset(offset), .plus(pluses), .minus(minuses),
                .is_unsigned(unsigneds[16]), .divides(all_divide[15]), .sum(sum[32*lane+:32]),
                .accumulate(accumulate), .result(results[32*lane+:32])
            );
        end
    endgenerate
endmodule

`default_nettype wire
