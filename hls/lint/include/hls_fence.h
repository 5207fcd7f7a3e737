// SPDX-License-Identifier: Apache-2.0
// Declaration of Vitis HLS's fence (UG1399, "HLS Fence Library"): what the lint reads in the place of the tool's header.
#pragma once

namespace hls {

template <class... Objects>
void fence(Objects&&... objects);

}  // namespace hls
