// SPDX-License-Identifier: Apache-2.0
// value * 2^-shift rounded half to even, or up, and limited to OUT bits: shifted() of hls/include/hetfab/rounding.hpp,
// in two pipeline steps. The masks depend on the shift alone and come from outside.
`default_nettype none

module round_shift #(
    parameter IN = 49,
    parameter OUT = 24
) (
    input wire clk,
    input wire signed [IN-1:0] value,
    input wire [5:0] shift,
    input wire half_up,
    input wire [IN-1:0] below,
    input wire [IN-1:0] beyond,
    output reg signed [OUT-1:0] result
);
    // Three choices among four; the lowest bit has the weight of one half.
    wire signed [127:0] wide = {value, 1'b0};
    wire [OUT+15:0] coarse = wide >>> {shift[5:4], 4'd0};
    wire [OUT+3:0] fine = coarse >> {shift[3:2], 2'd0};
    wire [OUT:0] chosen = fine >> shift[1:0];

    reg [OUT:0] halves;
    reg rest, over, negative;
    always @(posedge clk) begin
        halves <= chosen;
        rest <= |(value & below) | half_up;
        over <= |((value ^ {IN{value[IN-1]}}) & beyond);
        negative <= value[IN-1];
    end

    wire raised = halves[0] & (rest | halves[1]);
    wire signed [OUT:0] rounded = $signed(halves[OUT:1]) + $signed({1'b0, raised});
    wire limited = over | (rounded[OUT] != rounded[OUT-1]);
    always @(posedge clk) result <= limited ? {negative, {(OUT - 1) {~negative}}} : rounded[OUT-1:0];
endmodule

`default_nettype wire
