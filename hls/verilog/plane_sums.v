// SPDX-License-Identifier: Apache-2.0
// The sum of LANES activations of SLICE bits, gated by a weight bit each, as two numbers: gated adders, then ternary
// adders. Latency 1, interval 1. MAPPED = 0 is the same in plain Verilog, as a tool builds it from C++.
// Bipolar: an activation u counts u where its bit is set and 2^SLICE - 1 - u where it is not.
module plane_sums #(
    parameter LANES = 32,
    parameter SLICE = 4,
    parameter SUM = 9,
    parameter MAPPED = 1
) (
    input  wire                   ap_clk,
    input  wire                   ap_rst,
    input  wire                   ap_ce,
    input  wire [LANES*SLICE-1:0] slices,
    input  wire [      LANES-1:0] plane,
    input  wire                   bipolar,
    output reg  [      2*SUM-1:0] ap_return
);
    wire [SUM-1:0] first, second;

    generate
        if (MAPPED) begin : mapped
            wire [LANES/2*(SLICE+1)-1:0] pairs;
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
                    .sum     (pairs[i*(SLICE+1)+:SLICE+1])
                );
            end
            ternary_tree #(
                .COUNT    (LANES / 2),
                .WIDTH    (SLICE + 1),
                .SUM_WIDTH(SUM)
            ) tree (
                .values(pairs),
                .first (first),
                .second(second)
            );
        end else begin : plain
            reg [SUM-1:0] total;
            integer lane;
            always @* begin
                total = 0;
                for (lane = 0; lane < LANES; lane = lane + 1)
                    total = total + ((slices[lane*SLICE+:SLICE] & {SLICE{plane[lane]}})
                        | (~slices[lane*SLICE+:SLICE] & {SLICE{bipolar & ~plane[lane]}}));
            end
            assign first = total;
            assign second = 0;
        end
    endgenerate

    always @(posedge ap_clk) begin
        if (ap_rst) ap_return <= 0;
        else if (ap_ce) ap_return <= {second, first};
    end
endmodule
