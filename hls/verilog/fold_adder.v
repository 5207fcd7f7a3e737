// SPDX-License-Identifier: Apache-2.0
// (clear ? 0 : shift ? outer * 2^SLICE : outer) + word, in one LUT per bit: the choice and the parity have five
// inputs, and `word` enters the carry chain beside the LUT.
module fold_adder #(
    parameter WIDTH = 24,
    parameter SLICE = 4,
    parameter MAPPED = 1
) (
    input  wire             clear,
    input  wire             shift,
    input  wire [WIDTH-1:0] outer,
    input  wire [WIDTH-1:0] word,
    output wire [WIDTH-1:0] sum
);
    wire [WIDTH-1:0] shifted = outer << SLICE;

    // Inputs 0 to 4 are word, outer, shifted, shift, clear.
    function [31:0] choice_and_parity(input unused);
        integer i;
        reg [4:0] in;
        for (i = 0; i < 32; i = i + 1) begin
            in = i;
            choice_and_parity[i] = in[0] ^ (~in[4] & (in[3] ? in[2] : in[1]));
        end
    endfunction

    generate
        if (MAPPED) begin : mapped
            wire [WIDTH-1:0] propagate;
            wire unused_carry;
            genvar i;
            for (i = 0; i < WIDTH; i = i + 1) begin : bits
                LUT5 #(
                    .INIT(choice_and_parity(1'b0))
                ) lut (
                    .I0(word[i]),
                    .I1(outer[i]),
                    .I2(shifted[i]),
                    .I3(shift),
                    .I4(clear),
                    .O (propagate[i])
                );
            end
            carry_chain #(
                .WIDTH(WIDTH)
            ) chain (
                .carry_in (1'b0),
                .propagate(propagate),
                .generated(word),
                .sum      (sum),
                .carry_out(unused_carry)
            );
        end else begin : plain
            assign sum = word + (clear ? {WIDTH{1'b0}} : shift ? shifted : outer);
        end
    endgenerate
endmodule
