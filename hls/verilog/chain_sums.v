// SPDX-License-Identifier: Apache-2.0
// The four sums of a chain, row + 2 * column: takes the fields out of the DSPs' sums and adds them up. int8 fields are 17
// bits apart, row 0 in `half`, row 1 in `total`; int4 fields are 10 bits apart, all in `total`.
// `clear` has a bit per row: in int8 mode row 0 is four cycles ahead.
module chain_sums #(
    parameter WIDTH  = 32,
    parameter MAPPED = 1
) (
    input  wire               ap_clk,
    input  wire               ap_ce,
    input  wire               nibbles,
    input  wire [        1:0] clear,
    input  wire [       47:0] half,
    input  wire [       47:0] total,
    output reg  [4*WIDTH-1:0] sums
);
    wire [4*WIDTH-1:0] added;
    genvar row, column;
    generate
        for (column = 0; column < 2; column = column + 1) begin : columns
            for (row = 0; row < 2; row = row + 1) begin : rows
                localparam FIELD = row + 2 * column;
                wire [47:0] int8_sum = row == 0 ? half : total;
                field_adder #(
                    .WIDTH   (WIDTH),
                    .OFFSET_4(FIELD < 3),
                    .OFFSET_8(column < 1),
                    .MAPPED  (MAPPED)
                ) adder (
                    .nibbles(nibbles),
                    .clear  (clear[row]),
                    .sum    (sums[FIELD*WIDTH+:WIDTH]),
                    .field_4(total[10*FIELD+:10]),
                    .field_8(int8_sum[17*column+:17]),
                    .added  (added[FIELD*WIDTH+:WIDTH])
                );
            end
        end
    endgenerate
    always @(posedge ap_clk) if (ap_ce) sums <= added;
endmodule
