// SPDX-License-Identifier: Apache-2.0
// Registers in a row. They stay registers: as a shift register in a LUT every bit would cost what is scarce here.
module delay #(
    parameter WIDTH = 8,
    parameter CYCLES = 1
) (
    input  wire             ap_clk,
    input  wire             ap_ce,
    input  wire [WIDTH-1:0] value,
    output wire [WIDTH-1:0] delayed
);
    generate
        if (CYCLES == 0) begin : none
            assign delayed = value;
        end else begin : some
            (* shreg_extract = "no" *)reg [CYCLES*WIDTH-1:0] stages;
            always @(posedge ap_clk) if (ap_ce) stages <= {stages, value};
            assign delayed = stages[(CYCLES-1)*WIDTH+:WIDTH];
        end
    endgenerate
endmodule
