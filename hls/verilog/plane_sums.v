// SPDX-License-Identifier: Apache-2.0
// The sum of LANES activations of SLICE bits, gated by a weight bit each, as two numbers: gated adders, then LEVELS
// levels of ternary adders, a register after each. Latency 1 + LEVELS, interval 1. MAPPED = 0 is the same in plain
// Verilog, as a tool builds it from C++.
// Bipolar: an activation u counts u where its bit is set and 2^SLICE - 1 - u where it is not.
module plane_sums #(
    parameter LANES = 32,
    parameter SLICE = 4,
    parameter SUM = 9,
    parameter LEVELS = 2,
    parameter MAPPED = 1
) (
    input  wire                   ap_clk,
    input  wire                   ap_rst,
    input  wire                   ap_ce,
    input  wire [LANES*SLICE-1:0] slices,
    input  wire [      LANES-1:0] plane,
    input  wire                   bipolar,
    output wire [      2*SUM-1:0] ap_return
);
    generate
        if (MAPPED) begin : mapped
            wire [LANES/2*(SLICE+1)-1:0] added;
            reg  [LANES/2*(SLICE+1)-1:0] pairs;
            genvar i;
            for (i = 0; i < LANES / 2; i = i + 1) begin : adders
                gated_adder #(
                    .SLICE(SLICE)
                ) adder (
                    .bipolar (bipolar),
                    .a       (slices[2*i*SLICE+:SLICE]),
                    .a_weight(plane[2*i]),
                    .b       (slices[(2*i+1)*SLICE+:SLICE]),
                    .b_weight(plane[2*i+1]),
                    .sum     (added[i*(SLICE+1)+:SLICE+1])
                );
            end
            always @(posedge ap_clk) begin
                if (ap_rst) pairs <= 0;
                else if (ap_ce) pairs <= added;
            end
            ternary_tree #(
                .COUNT    (LANES / 2),
                .WIDTH    (SLICE + 1),
                .SUM_WIDTH(SUM)
            ) tree (
                .ap_clk(ap_clk),
                .ap_rst(ap_rst),
                .ap_ce (ap_ce),
                .values(pairs),
                .first (ap_return[SUM-1:0]),
                .second(ap_return[2*SUM-1:SUM])
            );
        end else begin : plain
            reg [SUM-1:0] total;
            reg [(1+LEVELS)*SUM-1:0] stages;
            integer lane;
            always @* begin
                total = 0;
                for (lane = 0; lane < LANES; lane = lane + 1)
                    total = total + ((slices[lane*SLICE+:SLICE] & {SLICE{plane[lane]}})
                        | (~slices[lane*SLICE+:SLICE] & {SLICE{bipolar & ~plane[lane]}}));
            end
            // A tool would move these registers into the sum.
            always @(posedge ap_clk) begin
                if (ap_rst) stages <= 0;
                else if (ap_ce) stages <= {stages, total};
            end
            assign ap_return = stages[LEVELS*SUM+:SUM];
        end
    endgenerate
endmodule
