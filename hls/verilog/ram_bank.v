// SPDX-License-Identifier: Apache-2.0
// A memory between two engines: one port writes, one reads, in block RAM without an output register. For measuring only:
// the overlay's memories are IP of the block design.
module ram_bank #(
    parameter DEPTH = 1024,
    parameter WIDTH = 64,
    parameter ADDRESS = 10
) (
    input  wire               ap_clk,
    input  wire               write,
    input  wire [ADDRESS-1:0] write_address,
    input  wire [  WIDTH-1:0] write_data,
    input  wire               read,
    input  wire [ADDRESS-1:0] read_address,
    output reg  [  WIDTH-1:0] read_data
);
    (* ram_style = "block" *) reg [WIDTH-1:0] words[0:DEPTH-1];
    always @(posedge ap_clk) begin
        if (write) words[write_address] <= write_data;
        if (read) read_data <= words[read_address];
    end
endmodule
