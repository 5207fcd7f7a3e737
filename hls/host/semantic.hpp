// SPDX-License-Identifier: Apache-2.0
// Composition and transpose of boolean graphs on arrays in DRAM, as docs/semantic-graphs.md defines them.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <stdexcept>
#include <string>
#include <vector>

#include "bitmaps.hpp"

namespace hetfab {

namespace {

// A graph in CSR form: ids below `columns`, those of row r from starts[r] to starts[r + 1].
struct GraphView {
    std::uint32_t rows;
    std::uint32_t columns;
    const std::uint32_t* starts;
    const std::uint32_t* ids;

    std::uint32_t edges() const { return starts[rows]; }
    std::uint32_t degree(std::uint32_t row) const { return starts[row + 1] - starts[row]; }
};

// Where a graph is written: `rows` + 1 starts and at most `capacity` ids.
struct GraphSpace {
    std::uint32_t* starts;
    std::uint32_t* ids;
    std::uint64_t capacity;
};

inline std::out_of_range does_not_fit(std::uint64_t capacity) {
    return std::out_of_range("a semantic graph has more than " + std::to_string(capacity) +
                             " edges, the space that it was given");
}

// Rows of the right graph that are met often and long enough to be kept as bitmaps.
class RowBitmaps {
  public:
    static constexpr std::uint32_t none = ~std::uint32_t{0};

    // Bitmaps get 1 / memory_part of what the result may take; shorter rows gain less than the words cost.
    static constexpr std::uint64_t memory_part = 8;
    static constexpr std::uint64_t row_expansions = 32;

    RowBitmaps(const GraphView& left, const GraphView& right, std::uint64_t most_edges,
               std::uint64_t expansions)
        : words_(grouped_words(right.columns)) {
        if (expansions <= row_expansions * left.rows) return;
        slots_.assign(right.rows, none);
        std::vector<std::uint32_t> uses(right.rows);
        for (std::uint32_t edge = 0; edge < left.edges(); edge++) uses[left.ids[edge]]++;
        const std::uint64_t room = most_edges * sizeof(std::uint32_t) / memory_part / (8 * words_);
        std::uint32_t count = 0;
        for (std::uint32_t row = 0; row < right.rows && count < room; row++) {
            if (uses[row] >= 2 && right.degree(row) > words_ / 4) slots_[row] = count++;
        }
        bitmaps_.assign(std::size_t{count} * words_ + bitmap_group, 0);
        for (std::uint32_t row = 0; row < right.rows; row++) {
            if (slots_[row] == none) continue;
            std::uint64_t* bitmap = at(slots_[row]);
            for (std::uint32_t edge = right.starts[row]; edge < right.starts[row + 1]; edge++) {
                set_bit(bitmap, right.ids[edge]);
            }
        }
        uses_bytes_ = uses.size() * sizeof(std::uint32_t);
        if (count == 0) slots_.clear();
    }

    bool empty() const { return slots_.empty(); }
    // The bitmap of a row, null where it has none.
    const std::uint64_t* find(std::uint32_t row) const {
        return slots_.empty() || slots_[row] == none ? nullptr
                                                     : bitmaps_.data() + std::size_t{slots_[row]} * words_;
    }
    std::uint64_t bytes() const {
        return bitmaps_.size() * sizeof(std::uint64_t) + slots_.size() * sizeof(std::uint32_t) + uses_bytes_;
    }

  private:
    std::uint64_t* at(std::uint32_t slot) { return bitmaps_.data() + std::size_t{slot} * words_; }

    unsigned words_;
    std::uint64_t uses_bytes_ = 0;
    std::vector<std::uint32_t> slots_;
    std::vector<std::uint64_t> bitmaps_;
};

// Composes row after row of one product.
class Composer {
  public:
    Composer(const GraphView& left, const GraphView& right, std::uint32_t threshold, std::uint64_t expansions)
        : left_(left),
          right_(right),
          threshold_(threshold),
          bitmaps_(left, right, std::min(expansions, std::uint64_t{left.rows} * right.columns), expansions),
          stamps_(right.columns),
          bitmap_(grouped_words(right.columns)) {}

    // Writes a row's ids and up to ids_slack more behind them; returns the place behind the ids.
    std::uint32_t* row(std::uint32_t row, std::uint64_t expansions, std::uint32_t* place) {
        const std::uint32_t first = left_.starts[row];
        const std::uint32_t last = left_.starts[row + 1];
        if (last - first == 1) return copied(left_.ids[first], place);
        if (expansions > threshold_) return collected(first, last, place);
        return first_seen(row + 1, first, last, place);
    }

    // Words of bitmaps that held an id, over all rows that were collected in one.
    std::uint64_t filled_words() const { return filled_words_; }

    std::uint64_t bytes() const {
        return bitmaps_.bytes() + stamps_.size() * sizeof(std::uint32_t) +
               bitmap_.size() * sizeof(std::uint64_t);
    }

  private:
    std::uint32_t* copied(std::uint32_t middle, std::uint32_t* place) const {
        const std::uint32_t count = right_.degree(middle);
        const std::uint32_t* source = right_.ids + right_.starts[middle];
        // Short rows are the rule, and a call costs more than they do.
        if (count <= 16) {
            for (std::uint32_t id = 0; id < count; id++) place[id] = source[id];
        } else {
            std::memcpy(place, source, count * sizeof *source);
        }
        return place + count;
    }

    // Stamps say which row has seen a column last. An id that is there already is written and then
    // overwritten.
    std::uint32_t* first_seen(std::uint32_t stamp, std::uint32_t first, std::uint32_t last,
                              std::uint32_t* place) {
        for (std::uint32_t edge = first; edge < last; edge++) {
            const std::uint32_t middle = left_.ids[edge];
            const std::uint32_t* id = right_.ids + right_.starts[middle];
            const std::uint32_t* const end = right_.ids + right_.starts[middle + 1];
            for (; id < end; id++) {
                std::uint32_t& seen = stamps_[*id];
                *place = *id;
                place += seen != stamp;
                seen = stamp;
            }
        }
        return place;
    }

    std::uint32_t* collected(std::uint32_t first, std::uint32_t last, std::uint32_t* place) {
        constexpr unsigned ors_between_tests = 8;
        const unsigned words = grouped_words(right_.columns);
        unsigned ors = 0;
        for (std::uint32_t edge = first; edge < last; edge++) {
            const std::uint32_t middle = left_.ids[edge];
            const std::uint64_t* wide = bitmaps_.find(middle);
            if (wide == nullptr) {
                for (std::uint32_t at = right_.starts[middle]; at < right_.starts[middle + 1]; at++) {
                    set_bit(bitmap_.data(), right_.ids[at]);
                }
            } else {
                or_words(bitmap_.data(), wide, words);
                if (++ors % ors_between_tests == 0 && all_ones(bitmap_.data(), right_.columns)) break;
            }
        }
        for (unsigned word = 0; word < words; word++) {
            if (bitmap_[word] == 0) continue;
            place = write_ids(place, bitmap_[word], word * bitmap_bits);
            bitmap_[word] = 0;
            filled_words_++;
        }
        return place;
    }

    GraphView left_;
    GraphView right_;
    std::uint32_t threshold_;
    RowBitmaps bitmaps_;
    std::vector<std::uint32_t> stamps_;
    std::vector<std::uint64_t> bitmap_;
    std::uint64_t filled_words_ = 0;
};

// Expansions of one row.
inline std::uint64_t row_expansions(const GraphView& left, const GraphView& right, std::uint32_t row) {
    std::uint64_t count = 0;
    for (std::uint32_t edge = left.starts[row]; edge < left.starts[row + 1]; edge++) {
        count += right.degree(left.ids[edge]);
    }
    return count;
}

inline std::uint64_t all_expansions(const GraphView& left, const GraphView& right) {
    std::uint64_t count = 0;
    for (std::uint32_t edge = 0; edge < left.edges(); edge++) count += right.degree(left.ids[edge]);
    return count;
}

// A product cannot have more edges.
inline std::uint64_t most_edges(const GraphView& left, const GraphView& right) {
    return std::min(all_expansions(left, right), std::uint64_t{left.rows} * right.columns);
}

// What a composition did.
struct Composed {
    std::uint64_t edges;
    std::uint64_t expansions;
    // Memory beside the three graphs.
    std::uint64_t scratch_bytes;
    // Rows of several edges: those that ascend, and those in the order seen that are not empty.
    std::uint64_t ascending_rows;
    std::uint64_t ascending_ids;
    // Words of bitmaps that hold the former.
    std::uint64_t filled_words;
    std::uint64_t seen_rows;
    std::uint64_t seen_ids;
};

inline Composed compose_graph(const GraphView& left, const GraphView& right, std::uint32_t threshold,
                              const GraphSpace& space) {
    const std::uint64_t expansions = all_expansions(left, right);
    Composer composer(left, right, threshold, expansions);
    // For rows whose slack would leave the space.
    std::vector<std::uint32_t> last_row;
    Composed made = {};
    for (std::uint32_t row = 0; row < left.rows; row++) {
        space.starts[row] = static_cast<std::uint32_t>(made.edges);
        const std::uint32_t degree = left.degree(row);
        if (degree == 0) continue;
        const std::uint64_t work = row_expansions(left, right, row);
        const std::uint64_t most = std::min<std::uint64_t>(work, right.columns);
        std::uint32_t* const place = space.ids + made.edges;
        std::uint64_t count = 0;
        if (made.edges + most + ids_slack <= space.capacity) {
            count = static_cast<std::uint64_t>(composer.row(row, work, place) - place);
        } else {
            last_row.resize(std::max(last_row.size(), most + ids_slack));
            count = static_cast<std::uint64_t>(composer.row(row, work, last_row.data()) - last_row.data());
            if (made.edges + count > space.capacity) throw does_not_fit(space.capacity);
            std::memcpy(place, last_row.data(), count * sizeof *place);
        }
        made.edges += count;
        if (degree == 1) continue;
        const bool ascends = work > threshold;
        made.ascending_rows += ascends;
        made.ascending_ids += ascends ? count : 0;
        made.seen_rows += !ascends && count != 0;
        made.seen_ids += ascends ? 0 : count;
    }
    space.starts[left.rows] = static_cast<std::uint32_t>(made.edges);
    made.expansions = expansions;
    made.filled_words = composer.filled_words();
    made.scratch_bytes = composer.bytes() + last_row.size() * sizeof(std::uint32_t);
    return made;
}

// Turns every edge; in each row the ids ascend.
inline std::uint64_t transpose_graph(const GraphView& graph, const GraphSpace& space) {
    if (graph.edges() > space.capacity) throw does_not_fit(space.capacity);
    std::vector<std::uint32_t> next(std::size_t{graph.columns} + 1);
    for (std::uint32_t edge = 0; edge < graph.edges(); edge++) next[graph.ids[edge] + 1]++;
    for (std::uint32_t column = 0; column < graph.columns; column++) next[column + 1] += next[column];
    std::memcpy(space.starts, next.data(), next.size() * sizeof(std::uint32_t));
    for (std::uint32_t row = 0; row < graph.rows; row++) {
        for (std::uint32_t edge = graph.starts[row]; edge < graph.starts[row + 1]; edge++) {
            space.ids[next[graph.ids[edge]]++] = row;
        }
    }
    return next.size() * sizeof(std::uint32_t);
}

}  // namespace

}  // namespace hetfab
