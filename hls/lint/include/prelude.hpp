// SPDX-License-Identifier: Apache-2.0
// Read before every source that the lint parses: the open headers of AMD's types refuse synthesis, so they
// come first, and the sources then show what a synthesis tool would see of them.
#pragma once

#include <ap_fixed.h>
#include <ap_int.h>
#include <hls_math.h>
#include <hls_stream.h>

#define __SYNTHESIS__
