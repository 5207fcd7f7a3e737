// SPDX-License-Identifier: Apache-2.0
// Declarations of Vitis HLS's manual bursts (UG1399, "Using Manual Burst"): what the lint reads in the place of the
// tool's header.
#pragma once

namespace hls {

template <class T>
class burst_maxi {
  public:
    void read_request(unsigned long offset, unsigned long length);
    T read();
    void write_request(unsigned long offset, unsigned long length);
    void write(const T& value);
    void write_response();
};

}  // namespace hls
