// SPDX-License-Identifier: Apache-2.0
// A stream FIFO of up to 32 words in LUT RAM: what axis_data_fifo does between DISPATCH and an engine. For measuring only:
// the overlay's FIFOs are IP of the block design.
module stream_fifo #(
    parameter WIDTH = 128,
    parameter ADDRESS = 4
) (
    input  wire             ap_clk,
    input  wire             ap_rst_n,
    input  wire [WIDTH-1:0] s_tdata,
    input  wire             s_tvalid,
    output wire             s_tready,
    output reg  [WIDTH-1:0] m_tdata,
    output reg              m_tvalid,
    input  wire             m_tready
);
    (* ram_style = "distributed" *) reg [WIDTH-1:0] words[0:(1 << ADDRESS)-1];
    reg [ADDRESS:0] written;
    reg [ADDRESS:0] taken;
    wire empty = written == taken;
    wire full = written == {!taken[ADDRESS], taken[ADDRESS-1:0]};
    wire put = s_tvalid && !full;
    wire take = !empty && (!m_tvalid || m_tready);
    assign s_tready = !full;
    always @(posedge ap_clk) begin
        if (put) words[written[ADDRESS-1:0]] <= s_tdata;
        if (take) m_tdata <= words[taken[ADDRESS-1:0]];
        if (!ap_rst_n) begin
            written  <= 0;
            taken    <= 0;
            m_tvalid <= 0;
        end else begin
            if (put) written <= written + 1'b1;
            if (take) taken <= taken + 1'b1;
            m_tvalid <= take || (m_tvalid && !m_tready);
        end
    end
endmodule
