// SPDX-License-Identifier: Apache-2.0
// Finds accesses to memory that no chain of semaphores orders: a vector clock per engine and what is known of
// each memory's words, after FastTrack (Flanagan and Freund, PLDI 2009).
#pragma once

#include <algorithm>
#include <array>
#include <cinttypes>
#include <cstdint>
#include <cstdio>
#include <deque>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "access_classes.hpp"
#include "sets.hpp"

namespace hetfab {

// Two accesses that may happen in any order.
class Race : public std::runtime_error {
  public:
    Race(const std::string& text, std::uint32_t earlier_instruction, std::uint32_t instruction,
         unsigned raced_memory)
        : std::runtime_error(text), earlier(earlier_instruction), later(instruction), memory(raced_memory) {}

    std::uint32_t earlier;
    std::uint32_t later;
    unsigned memory;
};

// Per engine: how much of the program has certainly ended, as the index after its last ended instruction.
using Clock = std::array<std::uint32_t, isa::engine::count>;

// The runs of a region, in blocks where it is DRAM, joined where nothing lies between them.
template <class Visit>
void for_each_range(const sets::Region& region, Visit visit) {
    // Strides in DRAM are whole blocks, so every row takes as many blocks as the first.
    const std::uint64_t unit = region.memory == sets::memory::dram ? std::uint64_t{isa::block_bytes} : 1;
    Range run = {region.base / unit, (region.base + region.row_length - 1) / unit + 1};
    const std::uint64_t stride = region.row_stride / unit;
    if (stride <= run.end - run.first) {
        run.end += stride * (region.rows - 1);
        visit(run);
        return;
    }
    for (std::uint64_t row = 0; row < region.rows; row++) {
        visit(run);
        run = {run.first + stride, run.end + stride};
    }
}

// The DRAM that a program writes, as blocks. Its blocks have places, numbers without gaps.
class WrittenBlocks {
  public:
    explicit WrittenBlocks(std::vector<Range> ranges = {}) {
        std::sort(ranges.begin(), ranges.end(),
                  [](const Range& a, const Range& b) { return a.first < b.first; });
        for (const Range& range : ranges) {
            if (!ranges_.empty() && range.first <= ranges_.back().end) {
                ranges_.back().end = std::max(ranges_.back().end, range.end);
            } else {
                ranges_.push_back(range);
            }
        }
        std::uint64_t place = 0;
        for (const Range& range : ranges_) {
            places_.push_back(place);
            place += range.end - range.first;
        }
    }

    bool meets(const Range& blocks) const {
        const std::size_t number = first_after(blocks.first);
        return number < ranges_.size() && ranges_[number].first < blocks.end;
    }

    // Calls a visitor with the places of the blocks that are written, range by range.
    template <class Visit>
    void for_each_part(const Range& blocks, Visit visit) const {
        for (std::size_t number = first_after(blocks.first);
             number < ranges_.size() && ranges_[number].first < blocks.end; number++) {
            const Range& written = ranges_[number];
            const std::uint64_t first = std::max(written.first, blocks.first);
            const std::uint64_t end = std::min(written.end, blocks.end);
            visit(Range{places_[number] + first - written.first, places_[number] + end - written.first});
        }
    }

    // The block of a place.
    std::uint64_t block(std::uint64_t place) const {
        const auto after = std::upper_bound(places_.begin(), places_.end(), place);
        const auto number = static_cast<std::size_t>(after - places_.begin()) - 1;
        return ranges_[number].first + place - places_[number];
    }

  private:
    // The first range that ends after a block.
    std::size_t first_after(std::uint64_t block) const {
        const auto found = std::upper_bound(ranges_.begin(), ranges_.end(), block,
                                            [](std::uint64_t at, const Range& one) { return at < one.end; });
        return static_cast<std::size_t>(found - ranges_.begin());
    }

    std::vector<Range> ranges_;
    std::vector<std::uint64_t> places_;
};

// The order check. Instructions enter and leave in any order that the semaphores allow; whether there is a
// race does not depend on it.
class OrderCheck {
  public:
    explicit OrderCheck(const sets::Constants& design) : design_(design) {}

    // Forgets all accesses. `written` is the DRAM that the program writes; the rest can have no race. Without
    // `compares` only AGG's contexts are kept.
    void start(std::vector<Range> written, bool compares = true) {
        compares_ = compares;
        clocks_ = {};
        for (auto& signals : signals_) signals.clear();
        for (auto& memory : memories_) memory.clear();
        operations_.clear();
        written_ = WrittenBlocks(std::move(written));
    }

    // An issued instruction begins: takes its signals and compares its sets with what is not known to have
    // ended.
    void enter(std::uint32_t index, const sets::Word& word) {
        sets::update_context(word, contexts_);
        if (!compares_) return;
        const auto engine = static_cast<unsigned>(sets::field<isa::Header::Engine>(word));
        take(engine, sets::field<isa::Header::Wait0>(word));
        take(engine, sets::field<isa::Header::Wait1>(word));
        if (operations_.size() <= index) operations_.resize(index + 1);
        operations_[index] = word.low;
        const sets::Regions found = sets::regions(word, contexts_, design_);
        for (unsigned region = 0; region < found.count; region++) {
            access(found.region[region], engine, index);
        }
    }

    // It ends: gives its signals.
    void leave(std::uint32_t index, const sets::Word& word) {
        if (!compares_) return;
        Clock& clock = clocks_[sets::field<isa::Header::Engine>(word)];
        clock[sets::field<isa::Header::Engine>(word)] = index + 1;
        for (const std::uint64_t signal :
             {sets::field<isa::Header::Signal0>(word), sets::field<isa::Header::Signal1>(word)}) {
            if (signal != 0) signals_[signal].push_back(clock);
        }
    }

    // Whether the n-th signal was given before the n-th wait; false means that an instruction cannot begin
    // yet.
    bool ready(const sets::Word& word) const {
        const std::uint64_t first = sets::field<isa::Header::Wait0>(word);
        const std::uint64_t second = sets::field<isa::Header::Wait1>(word);
        if (first != 0 && first == second) return signals_[first].size() >= 2;
        return (first == 0 || !signals_[first].empty()) && (second == 0 || !signals_[second].empty());
    }

    sets::Regions regions(const sets::Word& word) const { return sets::regions(word, contexts_, design_); }

    // The DRAM that an issued instruction writes, as blocks from the first to the last.
    static void add_written(const sets::Word& word, const sets::Constants& design,
                            std::vector<Range>& written) {
        static const sets::Word no_contexts[sets::context_words] = {};
        const sets::Regions found = sets::regions(word, no_contexts, design);
        for (unsigned number = 0; number < found.count; number++) {
            const sets::Region& region = found.region[number];
            if (region.write != 0 && region.memory == sets::memory::dram) written.push_back(bounds(region));
        }
    }

  private:
    static Range bounds(const sets::Region& region) {
        const std::uint64_t last =
            region.base + region.row_stride * (region.rows - 1) + region.row_length - 1;
        return {region.base / isa::block_bytes, last / isa::block_bytes + 1};
    }

    // The n-th wait takes what its engine knew that gave the n-th signal.
    void take(unsigned engine, std::uint64_t semaphore) {
        if (semaphore == 0 || signals_[semaphore].empty()) return;
        const Clock& known = signals_[semaphore].front();
        for (unsigned other = 0; other < isa::engine::count; other++) {
            clocks_[engine][other] = std::max(clocks_[engine][other], known[other]);
        }
        signals_[semaphore].pop_front();
    }

    void access(const sets::Region& region, unsigned engine, std::uint32_t index) {
        if (region.memory == sets::memory::dram && !written_.meets(bounds(region))) return;
        AccessClasses& memory = memories_[region.memory];
        const auto& members = memory.find(region, [&](auto visit) { for_each_part(region, visit); });
        for (const AccessClasses::Member& member : members) {
            Accesses& known = memory[member];
            if (conflict(known, region.write != 0, engine).found) report(region, engine, index);
            if (region.write != 0) {
                known = {};
                known.writer = static_cast<std::uint8_t>(engine);
                known.write = index;
            } else {
                known.readers = static_cast<std::uint8_t>(known.readers | 1U << engine);
                known.read[engine] = index;
            }
        }
    }

    // Words of a region range by range; those of DRAM by their places.
    template <class Visit>
    void for_each_part(const sets::Region& region, Visit visit) const {
        for_each_range(region, [&](const Range& range) {
            if (region.memory == sets::memory::dram) {
                written_.for_each_part(range, visit);
            } else {
                visit(range);
            }
        });
    }

    // An access that need not have ended.
    struct Conflict {
        bool found;
        bool wrote;
        std::uint32_t instruction;

        bool operator==(const Conflict& other) const {
            return found == other.found && wrote == other.wrote && instruction == other.instruction;
        }
    };

    Conflict conflict(const Accesses& known, bool write, unsigned engine) const {
        if (known.writer != Accesses::nobody && !ended(known.writer, known.write, engine)) {
            return {true, true, known.write};
        }
        if (!write) return {};
        for (unsigned reader = 0; reader < isa::engine::count; reader++) {
            if ((known.readers >> reader & 1) == 0 || ended(reader, known.read[reader], engine)) continue;
            return {true, false, known.read[reader]};
        }
        return {};
    }

    bool ended(unsigned by, std::uint32_t index, unsigned engine) const {
        return by == engine || clocks_[engine][by] > index;
    }

    // Of an access that has a conflict: names the first, and the words of a row that share it.
    [[noreturn]] void report(const sets::Region& region, unsigned engine, std::uint32_t index) const {
        Conflict first = {};
        Range shared = {};
        for_each_part(region, [&](const Range& words) {
            if (first.found) return;
            for (std::uint64_t word = words.first; word < words.end; word++) {
                const Conflict one = conflict(memories_[region.memory].at(word), region.write != 0, engine);
                if (first.found && !(one == first)) return;
                if (!one.found) continue;
                if (!first.found) shared.first = word;
                first = one;
                shared.end = word + 1;
            }
        });
        if (region.memory == sets::memory::dram) {
            shared = {written_.block(shared.first), written_.block(shared.end - 1) + 1};
        }
        throw Race(race_text(region, shared, index, first), first.instruction, index,
                   static_cast<unsigned>(region.memory));
    }

    std::string race_text(const sets::Region& region, const Range& shared, std::uint32_t index,
                          const Conflict& other) const {
        const bool one_word = shared.end - shared.first == 1 && region.memory != sets::memory::dram;
        return described(index) + (region.write != 0 ? " writes " : " reads ") + place_text(region, shared) +
               " while " + described(other.instruction) + ", which " + (other.wrote ? "wrote" : "reads") +
               (one_word ? " it" : " them") + ", need not have ended: no chain of semaphores orders them";
    }

    std::string described(std::uint32_t index) const {
        const sets::Word word = {operations_[index], 0};
        const char* name = sets::name_of(word);
        return "instruction " + std::to_string(index) + " (" +
               isa::engine_names[sets::field<isa::Header::Engine>(word)] + " " +
               (name == nullptr ? "unknown" : name) + ")";
    }

    static std::string place_text(const sets::Region& region, const Range& range) {
        const std::string name = sets::memory_names[region.memory];
        if (region.memory == sets::memory::dram) {
            char text[64];
            std::snprintf(text, sizeof text, " bytes 0x%" PRIx64 " to 0x%" PRIx64,
                          range.first * isa::block_bytes, range.end * isa::block_bytes - 1);
            return name + text;
        }
        if (range.end - range.first == 1) return name + " word " + std::to_string(range.first);
        return name + " words " + std::to_string(range.first) + " to " + std::to_string(range.end - 1);
    }

    sets::Constants design_;
    sets::Word contexts_[sets::context_words] = {};
    std::array<Clock, isa::engine::count> clocks_ = {};
    std::array<std::deque<Clock>, isa::semaphores + 1> signals_;
    std::array<AccessClasses, sets::memory::count> memories_;
    std::vector<std::uint64_t> operations_;
    WrittenBlocks written_;
    bool compares_ = true;
};

}  // namespace hetfab
