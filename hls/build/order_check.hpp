// SPDX-License-Identifier: Apache-2.0
// Finds accesses to memory that no chain of semaphores orders: a vector clock per engine, an interval map per
// memory, after FastTrack (Flanagan and Freund, PLDI 2009).
#pragma once

#include <algorithm>
#include <array>
#include <cinttypes>
#include <cstdint>
#include <cstdio>
#include <deque>
#include <iterator>
#include <map>
#include <memory_resource>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

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

// A half-open range of words, or of blocks of DRAM.
struct Range {
    std::uint64_t first;
    std::uint64_t end;
};

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

// What is known of a range: who wrote it last, and each engine's last read since. Older accesses are
// forgotten and no race is lost: an access is only recorded when those that it replaces are ordered before
// it, so what is ordered after it is ordered after them, and what is not is reported against it.
struct Accesses {
    static constexpr std::uint8_t nobody = isa::engine::count;
    std::uint8_t writer = nobody;
    std::uint8_t readers = 0;
    std::uint32_t write = 0;
    std::array<std::uint32_t, isa::engine::count> read = {};
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
        written_ = joined(std::move(written));
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
    struct Interval {
        std::uint64_t end;
        Accesses accesses;
    };
    using Intervals = std::pmr::map<std::uint64_t, Interval>;

    static Range bounds(const sets::Region& region) {
        const std::uint64_t last =
            region.base + region.row_stride * (region.rows - 1) + region.row_length - 1;
        return {region.base / isa::block_bytes, last / isa::block_bytes + 1};
    }

    static std::vector<Range> joined(std::vector<Range> ranges) {
        std::sort(ranges.begin(), ranges.end(),
                  [](const Range& a, const Range& b) { return a.first < b.first; });
        std::vector<Range> result;
        for (const Range& range : ranges) {
            if (!result.empty() && range.first <= result.back().end) {
                result.back().end = std::max(result.back().end, range.end);
            } else {
                result.push_back(range);
            }
        }
        return result;
    }

    bool is_written(const Range& range) const {
        const auto after =
            std::upper_bound(written_.begin(), written_.end(), range.first,
                             [](std::uint64_t first, const Range& one) { return first < one.end; });
        return after != written_.end() && after->first < range.end;
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
        if (region.memory == sets::memory::dram && !is_written(bounds(region))) return;
        // Rows ascend: what follows the last row's interval is near the next row.
        auto near = memories_[region.memory].end();
        for_each_range(region, [&](const Range& range) {
            if (region.write != 0) {
                near = write(region, range, engine, index, near);
            } else {
                near = read(region, range, engine, index, near);
            }
        });
    }

    // Both return the last interval of the range.
    Intervals::iterator read(const sets::Region& region, Range range, unsigned engine, std::uint32_t index,
                             Intervals::iterator near) {
        Intervals& intervals = memories_[region.memory];
        auto place = border(intervals, range.first, near);
        while (range.first < range.end) {
            if (place == intervals.end() || place->first > range.first) {
                const std::uint64_t end =
                    place == intervals.end() ? range.end : std::min(range.end, place->first);
                place = intervals.emplace_hint(place, range.first, Interval{end, {}});
            } else if (place->second.end > range.end) {
                divide(intervals, place, range.end);
            }
            Accesses& known = place->second.accesses;
            check_write(region, *place, engine, index);
            known.readers = static_cast<std::uint8_t>(known.readers | 1U << engine);
            known.read[engine] = index;
            range.first = place->second.end;
            ++place;
        }
        return std::prev(place);
    }

    Intervals::iterator write(const sets::Region& region, const Range& range, unsigned engine,
                              std::uint32_t index, Intervals::iterator near) {
        Intervals& intervals = memories_[region.memory];
        auto place = border(intervals, range.first, near);
        const auto first = place;
        for (; place != intervals.end() && place->first < range.end; ++place) {
            if (place->second.end > range.end) divide(intervals, place, range.end);
            check_write(region, *place, engine, index);
            check_reads(region, *place, engine, index);
        }
        Interval whole{range.end, {}};
        whole.accesses.writer = static_cast<std::uint8_t>(engine);
        whole.accesses.write = index;
        if (first != place && first->first == range.first) {
            first->second = whole;
            intervals.erase(std::next(first), place);
            return first;
        }
        return intervals.emplace_hint(intervals.erase(first, place), range.first, whole);
    }

    // Makes `at` a border between intervals; returns the first interval at or after it. `near` is the end, or
    // an interval before `at`, where the search begins.
    static Intervals::iterator border(Intervals& intervals, std::uint64_t at, Intervals::iterator near) {
        const auto after = first_from(intervals, at, near);
        if (after == intervals.begin()) return after;
        const auto before = std::prev(after);
        if (before->second.end <= at) return after;
        return divide(intervals, before, at);
    }

    static Intervals::iterator first_from(Intervals& intervals, std::uint64_t at, Intervals::iterator near) {
        constexpr unsigned most_steps = 8;
        for (unsigned step = 0; step < most_steps && near != intervals.end(); step++) {
            if (near->first >= at) return near;
            ++near;
        }
        return intervals.lower_bound(at);
    }

    // Cuts an interval in two; returns the second one.
    static Intervals::iterator divide(Intervals& intervals, Intervals::iterator whole, std::uint64_t at) {
        const Interval rest = whole->second;
        whole->second.end = at;
        return intervals.emplace_hint(std::next(whole), at, rest);
    }

    bool ended(unsigned by, std::uint32_t index, unsigned engine) const {
        return by == engine || clocks_[engine][by] > index;
    }

    void check_write(const sets::Region& region, const Intervals::value_type& interval, unsigned engine,
                     std::uint32_t index) const {
        const Accesses& known = interval.second.accesses;
        if (known.writer == Accesses::nobody || ended(known.writer, known.write, engine)) return;
        report(region, interval, index, known.write, "wrote");
    }

    void check_reads(const sets::Region& region, const Intervals::value_type& interval, unsigned engine,
                     std::uint32_t index) const {
        const Accesses& known = interval.second.accesses;
        for (unsigned reader = 0; reader < isa::engine::count; reader++) {
            if ((known.readers >> reader & 1) == 0 || ended(reader, known.read[reader], engine)) continue;
            report(region, interval, index, known.read[reader], "reads");
        }
    }

    [[noreturn]] void report(const sets::Region& region, const Intervals::value_type& interval,
                             std::uint32_t index, std::uint32_t other, const std::string& how) const {
        const Range shared = overlap(region, {interval.first, interval.second.end});
        throw Race(
            described(index) + (region.write != 0 ? " writes " : " reads ") + place_text(region, shared) +
                " while " + described(other) + ", which " + how +
                (shared.end - shared.first == 1 && region.memory != sets::memory::dram ? " it" : " them") +
                ", need not have ended: no chain of semaphores orders them",
            other, index, static_cast<unsigned>(region.memory));
    }

    // The part of an interval that a run of the region touches.
    static Range overlap(const sets::Region& region, const Range& interval) {
        Range shared = interval;
        bool found = false;
        for_each_range(region, [&](const Range& range) {
            if (found || range.first >= interval.end || interval.first >= range.end) return;
            shared = {std::max(range.first, interval.first), std::min(range.end, interval.end)};
            found = true;
        });
        return shared;
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
    // A program of many strided rows makes and drops thousands of intervals.
    std::pmr::unsynchronized_pool_resource pool_;
    std::pmr::vector<Intervals> memories_{sets::memory::count, &pool_};
    std::vector<std::uint64_t> operations_;
    std::vector<Range> written_;
    bool compares_ = true;
};

}  // namespace hetfab
