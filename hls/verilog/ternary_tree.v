// SPDX-License-Identifier: Apache-2.0
// Reduces COUNT unsigned values to two with the same sum, by levels of ternary adders: each level adds groups of three
// and passes on the one or two values that are left. `values` holds the first value in its lowest bits. A register after
// every level: the last sum bit of a carry chain and its carry leave a slice by one output, so that without a flip-flop
// that takes one of them, every adder would spend a LUT on leading its carry out.
module ternary_tree #(
    parameter COUNT = 16,
    parameter WIDTH = 5,
    parameter SUM_WIDTH = 9
) (
    input  wire                   ap_clk,
    input  wire                   ap_rst,
    input  wire                   ap_ce,
    input  wire [COUNT*WIDTH-1:0] values,
    output wire [  SUM_WIDTH-1:0] first,
    output wire [  SUM_WIDTH-1:0] second
);
    localparam GROUPS = COUNT / 3;
    localparam REST = COUNT % 3;
    // No partial sum needs more bits than the whole.
    localparam GROWN = WIDTH + 2 < SUM_WIDTH ? WIDTH + 2 : SUM_WIDTH;

    genvar i;
    generate
        if (COUNT <= 2) begin : leaf
            assign first = values[WIDTH-1:0];
            if (COUNT == 2) begin : pair
                assign second = values[2*WIDTH-1:WIDTH];
            end else begin : single
                assign second = {SUM_WIDTH{1'b0}};
            end
        end else begin : level
            wire [(GROUPS+REST)*GROWN-1:0] reduced;
            reg [(GROUPS+REST)*GROWN-1:0] stage;
            always @(posedge ap_clk) begin
                if (ap_rst) stage <= 0;
                else if (ap_ce) stage <= reduced;
            end
            for (i = 0; i < GROUPS; i = i + 1) begin : groups
                wire [WIDTH+1:0] sum;
                ternary_adder #(
                    .WIDTH(WIDTH)
                ) adder (
                    .negate(1'b0),
                    .x     (values[3*i*WIDTH+:WIDTH]),
                    .y     (values[(3*i+1)*WIDTH+:WIDTH]),
                    .z     (values[(3*i+2)*WIDTH+:WIDTH]),
                    .sum   (sum)
                );
                assign reduced[i*GROWN+:GROWN] = sum[GROWN-1:0];
            end
            for (i = 0; i < REST; i = i + 1) begin : rest
                assign reduced[(GROUPS+i)*GROWN+:GROWN] = values[(3*GROUPS+i)*WIDTH+:WIDTH];
            end
            ternary_tree #(
                .COUNT    (GROUPS + REST),
                .WIDTH    (GROWN),
                .SUM_WIDTH(SUM_WIDTH)
            ) next (
                .ap_clk(ap_clk),
                .ap_rst(ap_rst),
                .ap_ce (ap_ce),
                .values(stage),
                .first (first),
                .second(second)
            );
        end
    endgenerate
endmodule
