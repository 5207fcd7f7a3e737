// SPDX-License-Identifier: Apache-2.0
// The end of a lane of VEC (vec_lane.v) with results of BITS bits, to be counted: 8, or 16 in a design with functions.
`default_nettype none

module vec_result #(
    parameter BITS = 8
) (
    input wire clk,
    input wire signed [31:0] value,
    input wire [5:0] shift,
    input wire [46:0] below,
    input wire [46:0] beyond,
    input wire signed [BITS+1:0] smallest,
    input wire signed [BITS+1:0] largest,
    output reg [BITS-1:0] result
);
    wire signed [BITS:0] rounded;
    round_shift #(.IN(47), .OUT(BITS + 1)) round (
        .clk(clk), .value({value, 15'd0}), .shift(shift), .half_up(1'b0), .below(below), .beyond(beyond),
        .result(rounded)
    );
    wire signed [BITS+1:0] wide = rounded;
    always @(posedge clk)
        result <= wide < smallest ? smallest[BITS-1:0] : wide > largest ? largest[BITS-1:0] : wide[BITS-1:0];
endmodule

`default_nettype wire
