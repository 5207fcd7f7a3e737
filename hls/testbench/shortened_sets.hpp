// SPDX-License-Identifier: Apache-2.0
// Declared sets that lack their last word or beat: what debug builds must catch.
#pragma once

#include "build/sets.hpp"

namespace hetfab {

// Which region of which operation (engine and opcode) is too short; none at first.
inline int shortened_operation = -1;
inline unsigned shortened_region = 0;

inline sets::Regions shortened(const sets::Word& word, sets::Regions regions) {
    constexpr std::uint64_t beat = isa::beat_bytes;
    const auto operation =
        static_cast<int>(sets::field<isa::Header::Engine>(word) << isa::Header::Opcode::bits |
                         sets::field<isa::Header::Opcode>(word));
    if (operation == shortened_operation) {
        sets::Region& region = regions.region[shortened_region];
        region.row_length -= region.memory == sets::memory::dram ? beat : 1;
    }
    return regions;
}

}  // namespace hetfab

extern "C" void hetfab_shorten(int operation, unsigned region) {
    hetfab::shortened_operation = operation;
    hetfab::shortened_region = region;
}
