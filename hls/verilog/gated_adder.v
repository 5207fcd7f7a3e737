// SPDX-License-Identifier: Apache-2.0
// Adds two activations, each gated by a weight bit, in one LUT6_2 per bit. A gate passes the activation where its
// weight bit is set; elsewhere it passes zero, or for bipolar weights the inverted activation.
// Both gates and the adder's two functions fit the five inputs that O5 and O6 share, so inversion costs nothing.
module gated_adder #(
    parameter SLICE = 4
) (
    input  wire             bipolar,
    input  wire [SLICE-1:0] a,
    input  wire             a_weight,
    input  wire [SLICE-1:0] b,
    input  wire             b_weight,
    output wire [  SLICE:0] sum
);
    // Inputs 0 to 4 are a, a_weight, b, b_weight, bipolar. O5 is gate(a), O6 is gate(a) ^ gate(b).
    function [63:0] gates(input unused);
        integer i;
        reg [4:0] in;
        reg gated_a, gated_b;
        for (i = 0; i < 32; i = i + 1) begin
            in = i;
            gated_a = in[4] ? ~(in[0] ^ in[1]) : in[0] & in[1];
            gated_b = in[4] ? ~(in[2] ^ in[3]) : in[2] & in[3];
            gates[i] = gated_a;
            gates[32+i] = gated_a ^ gated_b;
        end
    endfunction

    wire [SLICE-1:0] propagate, generated;
    genvar i;
    generate
        for (i = 0; i < SLICE; i = i + 1) begin : bits
            LUT6_2 #(
                .INIT(gates(1'b0))
            ) lut (
                .I0(a[i]),
                .I1(a_weight),
                .I2(b[i]),
                .I3(b_weight),
                .I4(bipolar),
                .I5(1'b1),
                .O5(generated[i]),
                .O6(propagate[i])
            );
        end
    endgenerate

    carry_chain #(
        .WIDTH(SLICE)
    ) chain (
        .carry_in (1'b0),
        .propagate(propagate),
        .generated(generated),
        .sum      (sum[SLICE-1:0]),
        .carry_out(sum[SLICE])
    );
endmodule
