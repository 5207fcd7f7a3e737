// SPDX-License-Identifier: Apache-2.0
// For comparison only, in no design: a dot product that is serial in the bits of both operands, by AND and popcount, as
// BISMO and the LUT core of N3H-Core do it. One bit plane of LANES activations and of LANES weights a cycle; `halve`
// says that a plane pair has half the significance of those before it.
module popcount_dot #(
    parameter LANES = 128,
    parameter SUM   = 8,
    parameter OUTER = 24
) (
    input  wire             ap_clk,
    input  wire             ap_rst,
    input  wire             ap_ce,
    input  wire [LANES-1:0] act_plane,
    input  wire [LANES-1:0] weight_plane,
    input  wire             negative,
    input  wire             clear,
    input  wire             halve,
    output reg  [OUTER-1:0] outer
);
    wire [LANES-1:0] products = act_plane & weight_plane;
    reg [SUM-1:0] total, count;
    integer lane;
    always @* begin
        total = 0;
        for (lane = 0; lane < LANES; lane = lane + 1) total = total + products[lane];
    end

    reg negative_1, clear_1, halve_1;
    wire [OUTER-1:0] kept = clear_1 ? {OUTER{1'b0}} : halve_1 ? {outer[OUTER-2:0], 1'b0} : outer;
    always @(posedge ap_clk) begin
        if (ap_rst) outer <= 0;
        else if (ap_ce) outer <= kept + (negative_1 ? -{{OUTER - SUM{1'b0}}, count} : {{OUTER - SUM{1'b0}}, count});
        if (ap_ce) {count, negative_1, clear_1, halve_1} <= {total, negative, clear, halve};
    end
endmodule
