// SPDX-License-Identifier: Apache-2.0
// (clear ? 0 : sum) + field, where the field is one of 10 bits (int4) or of 17 bits (int8) of a DSP's sum. A field
// that began at half of its range is signed once its top bit is inverted; OFFSET_4 and OFFSET_8 say which did.
// One LUT6_2 per bit: choice, inversion and the gate of `sum` fit the five inputs that O5 and O6 share.
module field_adder #(
    parameter WIDTH = 32,
    parameter OFFSET_4 = 1,
    parameter OFFSET_8 = 1,
    parameter MAPPED = 1
) (
    input  wire             nibbles,
    input  wire             clear,
    input  wire [WIDTH-1:0] sum,
    input  wire [      9:0] field_4,
    input  wire [     16:0] field_8,
    output wire [WIDTH-1:0] added
);
    // Inputs 0 to 4 are sum, clear, a bit of either field, nibbles. O5 is the gated sum, O6 its parity with the field.
    function [63:0] choice_and_parity(input invert_4, input invert_8);
        integer i;
        reg [4:0] in;
        reg kept, chosen;
        for (i = 0; i < 32; i = i + 1) begin
            in = i;
            kept = in[0] & ~in[1];
            chosen = in[4] ? in[2] ^ invert_4 : in[3] ^ invert_8;
            choice_and_parity[i] = kept;
            choice_and_parity[32+i] = kept ^ chosen;
        end
    endfunction

    generate
        if (MAPPED) begin : mapped
            wire [WIDTH-1:0] propagate, generated;
            wire unused_carry;
            genvar i;
            for (i = 0; i < WIDTH; i = i + 1) begin : bits
                LUT6_2 #(
                    .INIT(choice_and_parity(i >= 9 && OFFSET_4, i >= 16 && OFFSET_8))
                ) lut (
                    .I0(sum[i]),
                    .I1(clear),
                    .I2(field_4[i<9?i : 9]),
                    .I3(field_8[i<16?i : 16]),
                    .I4(nibbles),
                    .I5(1'b1),
                    .O5(generated[i]),
                    .O6(propagate[i])
                );
            end
            carry_chain #(
                .WIDTH(WIDTH)
            ) chain (
                .carry_in (1'b0),
                .propagate(propagate),
                .generated(generated),
                .sum      (added),
                .carry_out(unused_carry)
            );
        end else begin : plain
            wire signed [9:0] value_4 = field_4 ^ (OFFSET_4 ? 10'h200 : 10'h000);
            wire signed [16:0] value_8 = field_8 ^ (OFFSET_8 ? 17'h10000 : 17'h00000);
            wire signed [16:0] value = nibbles ? value_4 : value_8;
            assign added = (clear ? {WIDTH{1'b0}} : sum) + {{WIDTH - 17{value[16]}}, value};
        end
    endgenerate
endmodule
