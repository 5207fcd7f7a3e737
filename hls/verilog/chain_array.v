// SPDX-License-Identifier: Apache-2.0
// GEMM-D's array without its memories and its drain: an operand unit for every two rows and every two columns, a chain
// of 8 DSP48E1 and its four sums for every 2 x 2 block. Sums are row-major, WIDTH bits each.
module chain_array #(
    parameter ROWS   = 2,
    parameter COLS   = 2,
    parameter WIDTH  = 32,
    parameter MAPPED = 1
) (
    input  wire                       ap_clk,
    input  wire                       ap_ce,
    input  wire                       nibbles,
    input  wire                       flip,
    input  wire [                1:0] clear,
    input  wire [        32*ROWS-1:0] activations,
    input  wire [        32*COLS-1:0] weights,
    output wire [ROWS*COLS*WIDTH-1:0] sums
);
    wire [72*ROWS-1:0] ports;
    wire [32*COLS-1:0] low, high;

    genvar row, column;
    generate
        for (row = 0; row < ROWS; row = row + 2) begin : row_pairs
            row_operand operand (
                .ap_clk (ap_clk),
                .ap_ce  (ap_ce),
                .nibbles(nibbles),
                .flip   (flip),
                .row_0  (activations[32*row+:32]),
                .row_1  (activations[32*(row+1)+:32]),
                .ports  (ports[72*row+:144])
            );
        end
        for (column = 0; column < COLS; column = column + 2) begin : column_pairs
            column_operand operand (
                .ap_clk  (ap_clk),
                .ap_ce   (ap_ce),
                .nibbles (nibbles),
                .column_0(weights[32*column+:32]),
                .column_1(weights[32*(column+1)+:32]),
                .low     (low[32*column+:64]),
                .high    (high[32*column+:64])
            );
        end
        for (row = 0; row < ROWS; row = row + 2) begin : rows
            for (column = 0; column < COLS; column = column + 2) begin : columns
                wire [47:0] half, total;
                wire [4*WIDTH-1:0] block;
                dsp_chain chain (
                    .ap_clk     (ap_clk),
                    .ap_ce      (ap_ce),
                    .nibbles    (nibbles),
                    .activations(ports[72*row+:144]),
                    .low        (low[32*column+:64]),
                    .high       (high[32*column+:64]),
                    .half       (half),
                    .total      (total)
                );
                chain_sums #(
                    .WIDTH (WIDTH),
                    .MAPPED(MAPPED)
                ) accumulators (
                    .ap_clk (ap_clk),
                    .ap_ce  (ap_ce),
                    .nibbles(nibbles),
                    .clear  (clear),
                    .half   (half),
                    .total  (total),
                    .sums   (block)
                );
                assign sums[(row*COLS+column)*WIDTH+:WIDTH] = block[0+:WIDTH];
                assign sums[((row+1)*COLS+column)*WIDTH+:WIDTH] = block[WIDTH+:WIDTH];
                assign sums[(row*COLS+column+1)*WIDTH+:WIDTH] = block[2*WIDTH+:WIDTH];
                assign sums[((row+1)*COLS+column+1)*WIDTH+:WIDTH] = block[3*WIDTH+:WIDTH];
            end
        end
    endgenerate
endmodule
