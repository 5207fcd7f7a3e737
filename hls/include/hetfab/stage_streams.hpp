// SPDX-License-Identifier: Apache-2.0
// The way of two rows into a project of hls4ml and of their sums out of it: functions of a dataflow region.
#pragma once

#include "ap_int.h"
#include "hls_stream.h"

namespace hetfab {

template <class Row, unsigned Inputs>
void stage_rows_in(const ap_int<9> (&inputs)[2][Inputs], hls::stream<Row>& rows) {
#pragma HLS INLINE off
rows_in:
    for (unsigned row = 0; row < 2; row++) {
#pragma HLS PIPELINE II=1 style=stp
        Row word;
    channels_in:
        for (unsigned channel = 0; channel < Inputs; channel++) {
#pragma HLS UNROLL factor=Inputs
            word[channel] = inputs[row][channel];
        }
        rows.write(word);
    }
}

template <class Row, unsigned Outputs>
void stage_sums_out(hls::stream<Row>& results, ap_int<32> (&sums)[2][Outputs]) {
#pragma HLS INLINE off
rows_out:
    for (unsigned row = 0; row < 2; row++) {
#pragma HLS PIPELINE II=1 style=stp
        const Row word = results.read();
    channels_out:
        for (unsigned channel = 0; channel < Outputs; channel++) {
#pragma HLS UNROLL factor=Outputs
            sums[row][channel] = word[channel].to_int();
        }
    }
}

}  // namespace hetfab
