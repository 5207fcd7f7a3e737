// SPDX-License-Identifier: Apache-2.0
// Semantic graphs that follow changes of edges, by counts of paths (overlay/semantic/changing.py says why and
// after whom): with L and R as matrices of 0 and 1, L R counts the vertices between two ends. A change of
// both changes it by dL R' + L dR, where R' has its change already and L has not.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <utility>
#include <vector>

namespace hetfab {

namespace {

// An edge that came, 1, or went, -1.
struct Flip {
    std::uint32_t row;
    std::uint32_t column;
    std::int32_t sign;
};

// Changes of one row's counts, summed by column.
class RowSums {
  public:
    explicit RowSums(std::size_t columns) : sums_(columns) {}

    void add(std::uint32_t column, std::int32_t change) {
        // A sum that comes back to 0 is noted again; taking it makes it 0, so it is taken once.
        if (sums_[column] == 0) touched_.push_back(column);
        sums_[column] += change;
    }

    void sort() { std::sort(touched_.begin(), touched_.end()); }

    // Gives each column with a sum that is not 0, and forgets all.
    template <typename Take>
    void take(Take take) {
        for (const std::uint32_t column : touched_) {
            const std::int32_t sum = std::exchange(sums_[column], 0);
            if (sum != 0) take(column, sum);
        }
        touched_.clear();
    }

  private:
    std::vector<std::int32_t> sums_;
    std::vector<std::uint32_t> touched_;
};

// Counts of pairs, row by row.
class Counts {
  public:
    virtual ~Counts() = default;
    // Adds the sums of a row and appends the pairs that got their first count or lost their last one.
    virtual void apply(std::uint32_t row, RowSums& sums, std::vector<Flip>& flips) = 0;
    virtual std::uint64_t degree(std::uint32_t row) const = 0;
    // Columns with a count, in rising order; returns the place behind them.
    virtual std::int32_t* write(std::uint32_t row, std::int32_t* place) const = 0;
    virtual void add_row(std::uint32_t row, std::int32_t change, RowSums& sums) const = 0;
};

// Counts of few pairs: of each row, its columns in rising order.
class ListedCounts final : public Counts {
  public:
    struct Pair {
        std::uint32_t column;
        std::uint32_t count;
    };

    explicit ListedCounts(std::size_t rows) : rows_(rows) {}

    const std::vector<Pair>& row(std::uint32_t row) const { return rows_[row]; }

    void apply(std::uint32_t row, RowSums& sums, std::vector<Flip>& flips) override {
        merged_.clear();
        const std::vector<Pair>& old = rows_[row];
        auto next = old.begin();
        sums.sort();
        sums.take([&](std::uint32_t column, std::int32_t sum) {
            while (next != old.end() && next->column < column) merged_.push_back(*next++);
            const bool there = next != old.end() && next->column == column;
            const std::uint32_t count = (there ? next++->count : 0) + static_cast<std::uint32_t>(sum);
            if (count != 0) merged_.push_back({column, count});
            if (there != (count != 0)) flips.push_back({row, column, there ? -1 : 1});
        });
        merged_.insert(merged_.end(), next, old.end());
        rows_[row] = merged_;
    }

    std::uint64_t degree(std::uint32_t row) const override { return rows_[row].size(); }

    std::int32_t* write(std::uint32_t row, std::int32_t* place) const override {
        for (const Pair& pair : rows_[row]) *place++ = static_cast<std::int32_t>(pair.column);
        return place;
    }

    void add_row(std::uint32_t row, std::int32_t change, RowSums& sums) const override {
        for (const Pair& pair : rows_[row]) sums.add(pair.column, change);
    }

  private:
    std::vector<std::vector<Pair>> rows_;
    std::vector<Pair> merged_;
};

// Counts of many pairs: a matrix.
template <typename Count>
class MatrixCounts final : public Counts {
  public:
    MatrixCounts(std::size_t rows, std::size_t columns) : columns_(columns), cells_(rows * columns) {}

    void apply(std::uint32_t row, RowSums& sums, std::vector<Flip>& flips) override {
        Count* const cells = cells_.data() + row * columns_;
        sums.take([&](std::uint32_t column, std::int32_t sum) {
            const bool there = cells[column] != 0;
            cells[column] = static_cast<Count>(cells[column] + static_cast<Count>(sum));
            if (there != (cells[column] != 0)) flips.push_back({row, column, there ? -1 : 1});
        });
    }

    std::uint64_t degree(std::uint32_t row) const override {
        const Count* const cells = cells_.data() + row * columns_;
        std::uint64_t count = 0;
        for (std::size_t column = 0; column < columns_; column++) count += cells[column] != 0;
        return count;
    }

    std::int32_t* write(std::uint32_t row, std::int32_t* place) const override {
        const Count* const cells = cells_.data() + row * columns_;
        for (std::size_t column = 0; column < columns_; column++) {
            if (cells[column] != 0) *place++ = static_cast<std::int32_t>(column);
        }
        return place;
    }

    void add_row(std::uint32_t row, std::int32_t change, RowSums& sums) const override {
        const Count* const cells = cells_.data() + row * columns_;
        for (std::size_t column = 0; column < columns_; column++) {
            if (cells[column] != 0) sums.add(static_cast<std::uint32_t>(column), change);
        }
    }

  private:
    std::size_t columns_;
    std::vector<Count> cells_;
};

// Items in the order of their keys, which are below `count`; equal ones stay in order.
template <typename Item, typename Key>
std::vector<Item> sorted_by(const std::vector<Item>& items, std::size_t count, Key key) {
    std::vector<Item> sorted = items;
    // Counting visits all keys.
    if (items.size() < count / 16) {
        std::stable_sort(sorted.begin(), sorted.end(),
                         [&](const Item& one, const Item& other) { return key(one) < key(other); });
        return sorted;
    }
    std::vector<std::size_t> next(count + 1);
    for (const Item& item : items) next[key(item) + 1]++;
    for (std::size_t at = 0; at < count; at++) next[at + 1] += next[at];
    for (const Item& item : items) sorted[next[key(item)]++] = item;
    return sorted;
}

// A graph whose edges have counts: copies of an edge, or vertices between its ends.
class ChangingGraph {
  public:
    // `most` is the largest count; `edges` about how many edges there will be; `is_left` says whether other
    // graphs begin with this one.
    ChangingGraph(std::uint32_t rows, std::uint32_t columns, std::uint64_t edges, std::uint64_t most,
                  bool is_left)
        : rows_(rows),
          columns_(columns),
          is_left_(is_left),
          counts_(counts(rows, columns, edges, most)),
          sums_(columns),
          into_(is_left ? columns : 0),
          into_sums_(is_left ? rows : 0) {}

    // Adds copies of edges.
    void change(const std::vector<Flip>& changes) {
        flips_.clear();
        const std::vector<Flip> sorted = sorted_by(changes, rows_, [](const Flip& flip) { return flip.row; });
        for (auto at = sorted.begin(); at != sorted.end();) {
            const std::uint32_t row = at->row;
            for (; at != sorted.end() && at->row == row; at++) sums_.add(at->column, at->sign);
            counts_->apply(row, sums_, flips_);
        }
    }

    // Becomes the product of two graphs that have their changes.
    void follow(const ChangingGraph& left, const ChangingGraph& right) {
        flips_.clear();
        const std::vector<Term> terms = left.terms(right.flips_);
        auto flip = left.flips_.begin();
        auto term = terms.begin();
        while (flip != left.flips_.end() || term != terms.end()) {
            const std::uint32_t row = std::min(flip != left.flips_.end() ? flip->row : rows_,
                                               term != terms.end() ? term->row : rows_);
            for (; flip != left.flips_.end() && flip->row == row; flip++) {
                right.counts_->add_row(flip->column, flip->sign, sums_);
            }
            for (; term != terms.end() && term->row == row; term++) {
                for (std::size_t at = term->begin; at < term->end; at++) {
                    sums_.add(right.flips_[at].column, right.flips_[at].sign);
                }
            }
            counts_->apply(row, sums_, flips_);
        }
    }

    // Ends a change: until then graphs that begin with this one still see its edges of before.
    void settle() {
        if (!is_left_) return;
        std::vector<Flip> turned;
        const auto column = [](const Flip& flip) { return flip.column; };
        const std::vector<Flip> sorted = sorted_by(flips_, columns_, column);
        for (auto at = sorted.begin(); at != sorted.end();) {
            const std::uint32_t into = at->column;
            for (; at != sorted.end() && at->column == into; at++) into_sums_.add(at->row, at->sign);
            into_.apply(into, into_sums_, turned);
        }
    }

    const Counts& counts() const { return *counts_; }
    // Edges that the last change made or took away, in the order of their rows.
    const std::vector<Flip>& flips() const { return flips_; }

  private:
    // A row of this graph, and the changes of one row of the right graph that it leads to.
    struct Term {
        std::uint32_t row;
        std::uint32_t begin;
        std::uint32_t end;
    };

    std::vector<Term> terms(const std::vector<Flip>& of_right) const {
        std::vector<Term> terms;
        for (std::size_t begin = 0, end = 0; begin < of_right.size(); begin = end) {
            while (end < of_right.size() && of_right[end].row == of_right[begin].row) end++;
            for (const ListedCounts::Pair& pair : into_.row(of_right[begin].row)) {
                terms.push_back(
                    {pair.column, static_cast<std::uint32_t>(begin), static_cast<std::uint32_t>(end)});
            }
        }
        return sorted_by(terms, rows_, [](const Term& term) { return term.row; });
    }

    static std::unique_ptr<Counts> counts(std::uint32_t rows, std::uint32_t columns, std::uint64_t edges,
                                          std::uint64_t most) {
        // Cells of two bytes for a pair of eight.
        constexpr std::uint64_t cells_a_pair = sizeof(ListedCounts::Pair) / sizeof(std::uint16_t);
        const std::uint64_t cells = std::uint64_t{rows} * columns;
        if (edges * cells_a_pair < cells) return std::make_unique<ListedCounts>(rows);
        if (most <= std::numeric_limits<std::uint16_t>::max()) {
            return std::make_unique<MatrixCounts<std::uint16_t>>(rows, columns);
        }
        return std::make_unique<MatrixCounts<std::uint32_t>>(rows, columns);
    }

    std::uint32_t rows_;
    std::uint32_t columns_;
    bool is_left_;
    std::unique_ptr<Counts> counts_;
    RowSums sums_;
    // The edges turned, where other graphs begin with this one.
    ListedCounts into_;
    RowSums into_sums_;
    std::vector<Flip> flips_;
};

}  // namespace

}  // namespace hetfab
