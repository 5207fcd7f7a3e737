// SPDX-License-Identifier: Apache-2.0
// 8 DSP48E1 along the input channels. Each forms (low + high) * activation and adds what its neighbour passed on; in
// int8 mode the second half starts anew. `half` and `total` are the sums after 4 and after 8 slices: those of a step
// come 7 and 11 cycles after the step entered row_operand and column_operand.
module dsp_chain (
    input  wire        ap_clk,
    input  wire        ap_ce,
    input  wire        nibbles,
    input  wire [143:0] activations,
    input  wire [ 63:0] low,
    input  wire [ 63:0] high,
    output wire [ 47:0] half,
    output wire [ 47:0] total
);
    // Half of a field's range in every field but the top one, so that no field borrows from the one above it.
    wire [47:0] start = nibbles ? 48'h0000_2008_0200 : 48'h0000_0001_0000;

    wire [47:0] cascade[0:8];
    wire [47:0] sums[0:7];
    assign cascade[0] = 48'd0;
    assign half = sums[3];
    assign total = sums[7];

    genvar k;
    generate
        for (k = 0; k < 8; k = k + 1) begin : slices
            // X and Y are the product; Z is the start or the cascade.
            wire from_start = k == 0 ? 1'b1 : k == 4 ? ~nibbles : 1'b0;
            DSP48E1 #(
                .USE_DPORT ("TRUE"),
                .AREG      (1),
                .ACASCREG  (1),
                .DREG      (1),
                .ADREG     (1),
                .BREG      (2),
                .BCASCREG  (1),
                .CREG      (1),
                .MREG      (1),
                .PREG      (1),
                .ALUMODEREG(0),
                .CARRYINREG(0),
                .CARRYINSELREG(0),
                .INMODEREG (0),
                .OPMODEREG (1)
            ) slice (
                .CLK(ap_clk),
                .A({{22{low[8*k+7]}}, low[8*k+:8]}),
                .D({high[8*k+:8], 17'd0}),
                .B(activations[18*k+:18]),
                .C(start),
                .PCIN(cascade[k]),
                .P(sums[k]),
                .PCOUT(cascade[k+1]),
                .INMODE(5'b00100),
                .OPMODE({1'b0, from_start, 5'b10101}),
                .ALUMODE(4'b0000),
                .CARRYIN(1'b0),
                .CARRYINSEL(3'b000),
                .ACIN(30'd0),
                .BCIN(18'd0),
                .CARRYCASCIN(1'b0),
                .MULTSIGNIN(1'b0),
                .CEA1(1'b0),
                .CEA2(ap_ce),
                .CEAD(ap_ce),
                .CEALUMODE(1'b0),
                .CEB1(ap_ce),
                .CEB2(ap_ce),
                .CEC(ap_ce),
                .CECARRYIN(1'b0),
                .CECTRL(ap_ce),
                .CED(ap_ce),
                .CEINMODE(1'b0),
                .CEM(ap_ce),
                .CEP(ap_ce),
                .RSTA(1'b0),
                .RSTALLCARRYIN(1'b0),
                .RSTALUMODE(1'b0),
                .RSTB(1'b0),
                .RSTC(1'b0),
                .RSTCTRL(1'b0),
                .RSTD(1'b0),
                .RSTINMODE(1'b0),
                .RSTM(1'b0),
                .RSTP(1'b0)
            );
        end
    endgenerate
endmodule
