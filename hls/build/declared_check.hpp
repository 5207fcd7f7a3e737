// SPDX-License-Identifier: Apache-2.0
// Debug builds: every real access of a kernel lies in the declared sets of its instruction, or the run stops.
#pragma once

#include <algorithm>
#include <cinttypes>
#include <cstdint>
#include <cstdio>
#include <stdexcept>
#include <string>

#include "sets.hpp"

#ifdef HETFAB_DECLARED_HEADER
#include HETFAB_DECLARED_HEADER
#endif

namespace hetfab {

// The sets of the instruction that is executing. One kernel runs at a time, so one object serves all
// memories.
class DeclaredCheck {
  public:
    void enter(const sets::Word& word, const sets::Regions& regions) {
#ifdef HETFAB_DECLARED
        regions_ = HETFAB_DECLARED(word, regions);
#else
        static_cast<void>(word);
        regions_ = regions;
#endif
        executing_ = true;
    }
    void leave() { executing_ = false; }

    void word(unsigned memory, std::uint64_t position, bool write) const {
        if (!executing_ || inside(memory, position, 1, write)) return;
        throw std::out_of_range(std::string(write ? "writes" : "reads") + " word " +
                                std::to_string(position) + " of " + sets::memory_names[memory] +
                                declared(memory, write));
    }

    void burst(std::uint64_t address, std::uint64_t bytes, bool write) const {
        if (!executing_ || inside(sets::memory::dram, address, bytes, write)) return;
        throw std::out_of_range(std::string(write ? "writes" : "reads") + " bytes " + hexadecimal(address) +
                                " to " + hexadecimal(address + bytes - 1) + " of dram" +
                                declared(sets::memory::dram, write));
    }

  private:
    // Ports carry whole beats, of which the first and the last may reach beyond what an instruction needs.
    static constexpr std::uint64_t beat = isa::beat_bytes;

    bool inside(unsigned memory, std::uint64_t first, std::uint64_t length, bool write) const {
        for (unsigned number = 0; number < regions_.count; number++) {
            const sets::Region& region = regions_.region[number];
            if (region.memory != memory || (region.write != 0) != write || first + length <= region.base)
                continue;
            const std::uint64_t unit = memory == sets::memory::dram ? beat : 1;
            const std::uint64_t past = first > region.base ? first - region.base : 0;
            const std::uint64_t row =
                region.row_stride == 0 ? 0 : std::min(past / region.row_stride, region.rows - 1);
            const std::uint64_t begin = region.base + row * region.row_stride;
            const std::uint64_t end = begin + region.row_length;
            if (first >= begin / unit * unit && first + length <= (end + unit - 1) / unit * unit) return true;
        }
        return false;
    }

    std::string declared(unsigned memory, bool write) const {
        std::string text;
        for (unsigned number = 0; number < regions_.count; number++) {
            const sets::Region& region = regions_.region[number];
            if (region.memory != memory || (region.write != 0) != write) continue;
            text += text.empty() ? "; declared are " : " and ";
            const bool bytes = memory == sets::memory::dram;
            text += bytes ? "bytes " : "words ";
            text += bytes ? hexadecimal(region.base) : std::to_string(region.base);
            const std::uint64_t last = region.base + region.row_length - 1;
            text += " to " + (bytes ? hexadecimal(last) : std::to_string(last));
            if (region.rows > 1) {
                text += " in " + std::to_string(region.rows) + " rows, " + std::to_string(region.row_stride) +
                        (bytes ? " bytes apart" : " words apart");
            }
        }
        return text.empty() ? "; nothing of it is declared" : text;
    }

    static std::string hexadecimal(std::uint64_t value) {
        char text[24];
        std::snprintf(text, sizeof text, "0x%" PRIx64, value);
        return text;
    }

    sets::Regions regions_;
    bool executing_ = false;
};

// From the start of an instruction to its end, or to the fault that ends it.
class DeclaredScope {
  public:
    DeclaredScope(DeclaredCheck& check, const sets::Word& word, const sets::Regions& regions)
        : check_(check) {
        check_.enter(word, regions);
    }
    ~DeclaredScope() { check_.leave(); }
    DeclaredScope(const DeclaredScope&) = delete;
    DeclaredScope& operator=(const DeclaredScope&) = delete;

  private:
    DeclaredCheck& check_;
};

// A word of an on-chip memory that knows whether it is read or written.
template <class T>
class CheckedWord {
  public:
    CheckedWord(const DeclaredCheck& check, unsigned memory, unsigned position, T& word)
        : check_(check), memory_(memory), position_(position), word_(word) {}

    operator T() const {
        check_.word(memory_, position_, false);
        return word_;
    }
    const CheckedWord& operator=(const T& value) const {
        check_.word(memory_, position_, true);
        word_ = value;
        return *this;
    }

  private:
    const DeclaredCheck& check_;
    unsigned memory_;
    unsigned position_;
    T& word_;
};

}  // namespace hetfab
