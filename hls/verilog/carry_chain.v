// SPDX-License-Identifier: Apache-2.0
// A carry chain of CARRY4: sum[i] = propagate[i] ^ carry[i]; a bit that does not propagate takes its carry from
// `generated`. UltraScale+ has CARRY8; Vivado builds one from a CARRY4 that it finds there.
module carry_chain #(
    parameter WIDTH = 8
) (
    input  wire             carry_in,
    input  wire [WIDTH-1:0] propagate,
    input  wire [WIDTH-1:0] generated,
    output wire [WIDTH-1:0] sum,
    output wire             carry_out
);
    localparam CELLS = (WIDTH + 3) / 4;
    localparam PADDED = 4 * CELLS;

    wire [PADDED-1:0] s, di, o, co;
    assign s = propagate;
    assign di = generated;
    assign sum = o[WIDTH-1:0];
    assign carry_out = co[WIDTH-1];

    genvar i;
    generate
        for (i = 0; i < CELLS; i = i + 1) begin : cells
            if (i == 0) begin : first
                CARRY4 cell_ (.CI(1'b0), .CYINIT(carry_in), .S(s[3:0]), .DI(di[3:0]), .O(o[3:0]), .CO(co[3:0]));
            end else begin : next
                CARRY4 cell_ (.CI(co[4*i-1]), .CYINIT(1'b0), .S(s[4*i+:4]), .DI(di[4*i+:4]), .O(o[4*i+:4]), .CO(co[4*i+:4]));
            end
        end
    endgenerate
endmodule
