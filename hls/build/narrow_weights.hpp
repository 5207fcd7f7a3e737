// SPDX-License-Identifier: Apache-2.0
// GEMM-D's weights are narrow, which the instruction set asks for: hardware multiplies the smallest value
// wrong (docs/dsp-packing.md). A tile's weights are looked at once, until its words are written again.
#pragma once

#include <algorithm>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <vector>

#include "hetfab/gemm_d.hpp"
#include "memories.hpp"

namespace hetfab {

namespace {

class NarrowWeights {
  public:
    // Words were written: what is known of them is no more.
    void written(std::uint64_t first, std::uint64_t count) {
        const auto changed = [&](const Words& words) {
            return words.first < first + count && first < words.first + words.count;
        };
        known_.erase(std::remove_if(known_.begin(), known_.end(), changed), known_.end());
    }
    void forget() { known_.clear(); }

    // Stops at a tile with the smallest weight; words that do not exist are left to the kernel.
    void check(const MatmulTile& tile, unsigned word_bytes, const RamModel& ram) {
        const Words words = {tile.wgt, std::uint64_t{tile.col_groups} * steps_per_beat * tile.row_beats(),
                             tile.packed};
        if (std::find(known_.begin(), known_.end(), words) != known_.end()) return;
        content_.resize(words.count * word_bytes);
        if (!ram.read(words.first, words.count, content_.data())) return;
        if (has_smallest(tile.packed)) {
            throw std::out_of_range(std::string("matmul of a weight of ") + (tile.packed ? "-8" : "-128") +
                                    ", not narrow weights of " + (tile.packed ? "4" : "8") + " bits");
        }
        if (known_.size() == most) known_.erase(known_.begin());
        known_.push_back(words);
    }

  private:
    static constexpr std::size_t most = 4;

    struct Words {
        std::uint64_t first;
        std::uint64_t count;
        bool packed;

        bool operator==(const Words& other) const {
            return first == other.first && count == other.count && packed == other.packed;
        }
    };

    // All bytes are looked at, as bytes: the compiler does so in vectors.
    bool has_smallest(bool packed) const {
        unsigned char found = 0;
        for (const unsigned char byte : content_) {
            const bool smallest = packed ? (byte & 0x0f) == 0x08 || (byte & 0xf0) == 0x80 : byte == 0x80;
            found = static_cast<unsigned char>(found | (smallest ? 1 : 0));
        }
        return found != 0;
    }

    std::vector<Words> known_;
    std::vector<unsigned char> content_;
};

}  // namespace

}  // namespace hetfab
