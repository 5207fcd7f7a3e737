// SPDX-License-Identifier: Apache-2.0
// x + y + z, or x - y - z where `negate` is set, in one LUT6_2 per bit: each bit's O5 is the majority of its three
// operands, which the next bit adds to their parity. GROW = 1 gives all WIDTH + 2 bits of an unsigned sum, whose bit
// WIDTH takes one more LUT; GROW = 0 gives the sum modulo 2^WIDTH.
module ternary_adder #(
    parameter WIDTH = 8,
    parameter GROW  = 1
) (
    input  wire                    negate,
    input  wire [       WIDTH-1:0] x,
    input  wire [       WIDTH-1:0] y,
    input  wire [       WIDTH-1:0] z,
    output wire [WIDTH+2*GROW-1:0] sum
);
    // Inputs 0 to 4 are x, y, z, the majority of the bit below, negate. Inverting y and z leaves the parity alone.
    function [63:0] parity_and_majority(input unused);
        integer i;
        reg [4:0] in;
        reg y_in, z_in;
        for (i = 0; i < 32; i = i + 1) begin
            in = i;
            y_in = in[1] ^ in[4];
            z_in = in[2] ^ in[4];
            parity_and_majority[i] = in[0] & y_in | in[0] & z_in | y_in & z_in;
            parity_and_majority[32+i] = in[0] ^ in[1] ^ in[2] ^ in[3];
        end
    endfunction

    // -y - z = ~y + ~z + 2: one unit enters as the carry, one as the majority of the bit below bit 0.
    wire [WIDTH:0] majority;
    wire [WIDTH-1:0] parity;
    assign majority[0] = negate;

    genvar i;
    generate
        for (i = 0; i < WIDTH; i = i + 1) begin : bits
            LUT6_2 #(
                .INIT(parity_and_majority(1'b0))
            ) lut (
                .I0(x[i]),
                .I1(y[i]),
                .I2(z[i]),
                .I3(majority[i]),
                .I4(negate),
                .I5(1'b1),
                .O5(majority[i+1]),
                .O6(parity[i])
            );
        end
        if (GROW) begin : grown
            carry_chain #(
                .WIDTH(WIDTH + 1)
            ) chain (
                .carry_in (negate),
                .propagate({majority[WIDTH], parity}),
                .generated({1'b0, majority[WIDTH-1:0]}),
                .sum      (sum[WIDTH:0]),
                .carry_out(sum[WIDTH+1])
            );
        end else begin : modulo
            wire unused_carry;
            carry_chain #(
                .WIDTH(WIDTH)
            ) chain (
                .carry_in (negate),
                .propagate(parity),
                .generated(majority[WIDTH-1:0]),
                .sum      (sum),
                .carry_out(unused_carry)
            );
        end
    endgenerate
endmodule
