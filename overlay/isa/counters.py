# SPDX-License-Identifier: Apache-2.0
"""The event counters of a run.

Generated from ``counters.json`` by ``python -m hetfab.overlay.isa.generate``; do not edit.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Counters:
    """Totals since the start of a run, 64 bits each, counted by the engines.

    Attributes:
        load_instructions: Instructions that LOAD retired (instruction).
        store_instructions: Instructions that STORE retired (instruction).
        gemm_d_instructions: Instructions that GEMM-D retired (instruction).
        gemm_l_instructions: Instructions that GEMM-L retired (instruction).
        vec_instructions: Instructions that VEC retired (instruction).
        agg_instructions: Instructions that AGG retired (instruction).
        sgb_instructions: Instructions that SGB retired (instruction).
        dw_instructions: Instructions that DW retired (instruction).
        rst_instructions: Instructions that RST retired (instruction).
        load_read_bytes: Bytes that LOAD read from DRAM (byte).
        store_write_bytes: Bytes that STORE wrote to DRAM (byte).
        gemm_d_macs: Multiply-accumulates of GEMM-D's valid rows; channels that pad a row or a word count
            (MAC).
        gemm_l_macs: Multiply-accumulates of GEMM-L's valid rows, of whatever widths; channels that pad a row
            or a word count (MAC).
        agg_edges: Edges that AGG aggregated over; one pass over an edge set for each tile of channels (edge).
        agg_feature_bytes: Bytes of gathered rows that AGG read from DRAM (byte).
        agg_graph_bytes: Bytes of destinations and source ids that AGG read from DRAM (byte).
        sgb_edges: Expansions of SGB's compositions, and edges of each pass of a transpose (edge).
        sgb_right_bytes: Bytes that SGB read from DRAM by its right port: rows of right graphs, ids of graphs
            that it turned (byte).
        sgb_write_bytes: Bytes that SGB wrote to DRAM (byte).
        dw_macs: Multiply-accumulates of DW's windows, those outside of the image too (MAC).
        rst_edges: Edges that RST looked at, once for each visit (edge).
        rst_read_bytes: Bytes that RST read from DRAM (byte).
        rst_write_bytes: Bytes that RST wrote to DRAM (byte).
    """

    load_instructions: int
    store_instructions: int
    gemm_d_instructions: int
    gemm_l_instructions: int
    vec_instructions: int
    agg_instructions: int
    sgb_instructions: int
    dw_instructions: int
    rst_instructions: int
    load_read_bytes: int
    store_write_bytes: int
    gemm_d_macs: int
    gemm_l_macs: int
    agg_edges: int
    agg_feature_bytes: int
    agg_graph_bytes: int
    sgb_edges: int
    sgb_right_bytes: int
    sgb_write_bytes: int
    dw_macs: int
    rst_edges: int
    rst_read_bytes: int
    rst_write_bytes: int
