// SPDX-License-Identifier: Apache-2.0
// plane_sums and plane_accumulate with the ports of a Vitis HLS black box; plane_sums_box.json and
// plane_accumulate_box.json describe them, hls/include/hetfab/plane_boxes.hpp declares them.
module plane_sums_box (
    input  wire         ap_clk,
    input  wire         ap_rst,
    input  wire         ap_ce,
    input  wire         ap_start,
    input  wire         ap_continue,
    output wire         ap_idle,
    output wire         ap_ready,
    output wire         ap_done,
    input  wire [127:0] slices,
    input  wire [ 31:0] plane,
    input  wire         bipolar,
    output wire [ 17:0] ap_return
);
    assign ap_idle  = ~ap_start;
    assign ap_ready = ap_done;
    reg [2:0] started;
    assign ap_done = started[2];
    always @(posedge ap_clk) begin
        if (ap_rst) started <= 3'b000;
        else if (ap_ce) started <= {started, ap_start};
    end
    wire unused_continue = ap_continue;

    plane_sums sums (
        .ap_clk   (ap_clk),
        .ap_rst   (ap_rst),
        .ap_ce    (ap_ce),
        .slices   (slices),
        .plane    (plane),
        .bipolar  (bipolar),
        .ap_return(ap_return)
    );
endmodule

module plane_accumulate_box (
    input  wire        ap_clk,
    input  wire        ap_rst,
    input  wire        ap_ce,
    input  wire        ap_start,
    input  wire        ap_continue,
    output wire        ap_idle,
    output wire        ap_ready,
    output reg         ap_done,
    input  wire [16:0] inner,
    input  wire [17:0] sums,
    input  wire        negative,
    input  wire        last,
    output wire [33:0] ap_return
);
    assign ap_idle  = ~ap_start;
    assign ap_ready = ap_done;
    always @(posedge ap_clk) begin
        if (ap_rst) ap_done <= 1'b0;
        else if (ap_ce) ap_done <= ap_start;
    end
    wire unused_continue = ap_continue;

    plane_accumulate accumulate (
        .ap_clk   (ap_clk),
        .ap_rst   (ap_rst),
        .ap_ce    (ap_ce),
        .inner    (inner),
        .sums     (sums),
        .negative (negative),
        .last     (last),
        .ap_return(ap_return)
    );
endmodule
