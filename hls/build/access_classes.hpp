// SPDX-License-Identifier: Apache-2.0
// What is known of the accesses to a memory, for the order check. Words that have been accessed alike are one
// class with one record, so that an access whose words are some classes costs no more than these: programs
// repeat their accesses tile by tile. An access that covers a class in part splits it.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <numeric>
#include <tuple>
#include <unordered_map>
#include <utility>
#include <vector>

#include "sets.hpp"

namespace hetfab {

// A half-open range of words, or of blocks of DRAM.
struct Range {
    std::uint64_t first;
    std::uint64_t end;
};

// Who wrote a word last, and each engine's last read since. Older accesses are forgotten and no race is lost:
// an access is only recorded when those that it replaces are ordered before it, so what is ordered after it
// is ordered after them, and what is not is reported against it.
struct Accesses {
    static constexpr std::uint8_t nobody = isa::engine::count;
    std::uint8_t writer = nobody;
    std::uint8_t readers = 0;
    std::uint32_t write = 0;
    std::array<std::uint32_t, isa::engine::count> read = {};

    auto all() const { return std::tie(writer, readers, write, read); }
};

class AccessClasses {
  public:
    // A class of a region, and its youngest part that the region has in its list.
    struct Member {
        std::uint32_t number;
        std::uint32_t seen;
    };

    void clear() {
        class_of_.clear();
        classes_.assign(1, {});
        members_.clear();
        most_classes_ = fewest_classes;
    }

    Accesses& operator[](const Member& member) { return classes_[member.number].accesses; }
    const Accesses& at(std::uint64_t word) const { return classes_[class_of_[word]].accesses; }

    // The classes whose words are those of a region. `for_each_part` calls a visitor with all ranges of them.
    template <class ForEachPart>
    const std::vector<Member>& find(const sets::Region& region, ForEachPart for_each_part) {
        const Box box(region);
        if (const auto known = members_.find(box); known != members_.end()) {
            add_parts(known->second);
            return known->second;
        }
        if (classes_.size() > most_classes_) join_equal();
        return members_.emplace(box, divide(for_each_part)).first->second;
    }

  private:
    struct Class {
        Accesses accesses;
        std::uint64_t words = 0;
        // Parts that were taken out of it: the youngest, and of a part the one before it. 0 is none.
        std::uint32_t youngest_part = 0;
        std::uint32_t part_before = 0;
        // Of a region that divides classes: its words of this one, and which one they are to be.
        std::uint64_t touched = 0;
        std::uint32_t becomes = 0;
    };

    // Consecutive words of a class.
    struct Run {
        std::uint32_t number;
        Range words;
    };

    struct Box {
        explicit Box(const sets::Region& region)
            : base(region.base), rows(region.rows), stride(region.row_stride), length(region.row_length) {}
        bool operator==(const Box& other) const {
            return base == other.base && rows == other.rows && stride == other.stride &&
                   length == other.length;
        }

        std::uint64_t base;
        std::uint64_t rows;
        std::uint64_t stride;
        std::uint64_t length;
    };

    struct BoxHash {
        std::size_t operator()(const Box& box) const {
            constexpr std::uint64_t odd = 0x9e3779b97f4a7c15;
            std::uint64_t hash = box.base * odd;
            for (const std::uint64_t value : {box.rows, box.stride, box.length}) {
                hash = ((hash ^ hash >> 32) + value) * odd;
            }
            return hash ^ hash >> 32;
        }
    };

    // Words that were never accessed. They are no class of a region: its words leave it.
    static constexpr std::uint32_t untouched = 0;
    static constexpr std::size_t fewest_classes = 64;

    // Makes a region's words classes of their own.
    template <class ForEachPart>
    std::vector<Member> divide(ForEachPart for_each_part) {
        runs_.clear();
        touched_.clear();
        for_each_part([&](const Range& words) {
            if (class_of_.size() < words.end) class_of_.resize(words.end, untouched);
            add_runs(words);
        });
        bool divides = false;
        std::vector<Member> members;
        members.reserve(touched_.size());
        for (const std::uint32_t number : touched_) {
            const std::uint32_t part = take_out(number);
            divides = divides || part != number;
            members.push_back({part, classes_[part].youngest_part});
        }
        if (!divides) return members;
        for (const Run& run : runs_) {
            const std::uint32_t becomes = classes_[run.number].becomes;
            for (std::uint64_t word = run.words.first; word < run.words.end; word++) {
                class_of_[word] = becomes;
            }
        }
        return members;
    }

    void add_runs(const Range& words) {
        for (std::uint64_t first = words.first, end = first; first < words.end; first = end) {
            const std::uint32_t number = class_of_[first];
            while (end < words.end && class_of_[end] == number) end++;
            runs_.push_back({number, {first, end}});
            if (classes_[number].touched == 0) touched_.push_back(number);
            classes_[number].touched += end - first;
        }
    }

    // The class of a class's touched words: itself when they are all, or a new part.
    std::uint32_t take_out(std::uint32_t number) {
        Class& whole = classes_[number];
        const std::uint64_t words = std::exchange(whole.touched, 0);
        whole.becomes = number;
        if (number != untouched && words == whole.words) return number;
        const auto part = static_cast<std::uint32_t>(classes_.size());
        Class taken;
        taken.accesses = whole.accesses;
        taken.words = words;
        taken.part_before = whole.youngest_part;
        taken.becomes = part;
        whole.words -= words;
        whole.youngest_part = part;
        whole.becomes = part;
        classes_.push_back(taken);
        return part;
    }

    // Appends what was taken out of a region's classes since it was asked for.
    void add_parts(std::vector<Member>& members) const {
        for (std::size_t place = 0; place < members.size(); place++) {
            const Member member = members[place];
            const std::uint32_t youngest = classes_[member.number].youngest_part;
            for (std::uint32_t part = youngest; part != member.seen; part = classes_[part].part_before) {
                members.push_back({part, 0});
            }
            members[place].seen = youngest;
        }
    }

    // Classes are only divided, so those with the same record are joined when they have become twice as many.
    // Regions are found again.
    void join_equal() {
        std::vector<std::uint32_t> order(classes_.size() - 1);
        std::iota(order.begin(), order.end(), 1U);
        std::sort(order.begin(), order.end(), [&](std::uint32_t a, std::uint32_t b) {
            return classes_[a].accesses.all() < classes_[b].accesses.all();
        });
        std::vector<Class> joined(1);
        for (const std::uint32_t number : order) {
            const Class& one = classes_[number];
            if (joined.size() == 1 || joined.back().accesses.all() != one.accesses.all()) {
                joined.emplace_back().accesses = one.accesses;
            }
            joined.back().words += one.words;
            classes_[number].becomes = static_cast<std::uint32_t>(joined.size() - 1);
        }
        classes_[untouched].becomes = untouched;
        for (std::uint32_t& number : class_of_) number = classes_[number].becomes;
        classes_ = std::move(joined);
        members_.clear();
        // At least so many new ones that a class costs few words that are looked at.
        constexpr std::size_t words_per_class = 64;
        most_classes_ = 2 * classes_.size() + fewest_classes + class_of_.size() / words_per_class;
    }

    std::vector<std::uint32_t> class_of_;
    std::vector<Class> classes_ = std::vector<Class>(1);
    std::unordered_map<Box, std::vector<Member>, BoxHash> members_;
    std::vector<Run> runs_;
    std::vector<std::uint32_t> touched_;
    std::size_t most_classes_ = fewest_classes;
};

}  // namespace hetfab
