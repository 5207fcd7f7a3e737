// SPDX-License-Identifier: Apache-2.0
// DISPATCH's registers by their byte offsets, as a bus reads and writes them.
#pragma once

#include <cstdint>

#include "hetfab/dispatch.hpp"

namespace hetfab {

// The memories behind DISPATCH's s_axilite port, and whoever reads or writes them while it runs.
class RegisterFile {
  public:
    // The value of a register other than `control`; 0 where there is none.
    std::uint32_t read(unsigned offset) const {
        namespace reg = isa::registers;
        if (const std::uint32_t* word = find(arguments_, reg::arguments, isa::argument::count, offset))
            return *word;
        if (const std::uint32_t* word = find(status_, reg::status, isa::status::count, offset)) return *word;
        return 0;
    }

    // Sets an argument of the next run; other registers are read only.
    void write(unsigned offset, std::uint32_t value) {
        namespace reg = isa::registers;
        std::uint32_t* const word = find(arguments_, reg::arguments, isa::argument::count, offset);
        if (word != nullptr) *word = value;
    }

    const std::uint32_t* arguments() const { return arguments_; }
    std::uint32_t* status() { return status_; }

  private:
    template <class Words>
    static auto find(Words& words, unsigned base, unsigned count, unsigned offset) -> decltype(&words[0]) {
        const bool inside = offset >= base && offset < base + 4 * count && offset % 4 == 0;
        return inside ? &words[(offset - base) / 4] : nullptr;
    }

    std::uint32_t arguments_[isa::argument::count] = {};
    std::uint32_t status_[isa::status::count] = {};
};

}  // namespace hetfab
