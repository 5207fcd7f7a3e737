// SPDX-License-Identifier: Apache-2.0
// Greedy destinations: the next destination is the one with the largest share of its sources among those that
// were used last. A share that falls keeps its place in the queue until it is looked at: half of all updates
// are spared. Where destinations have many sources, every few-th source stands for all.
#pragma once

#include <algorithm>

#include "buckets.hpp"
#include "touch_list.hpp"

namespace hetfab::orders {

namespace {

class WindowGreedy {
  public:
    WindowGreedy(const Sides& sides, Id window)
        : sides_(sides),
          window_(window),
          seeds_(rows_by_degree(sides.by_destination, false)),
          stride_(std::max<Id>(
              1, sides.edges() / (sampled_edges * std::max<Id>(1, static_cast<Id>(seeds_.size()))))),
          rows_(sides.destinations()),
          inside_(sides.sources()),
          uses_(sides.sources()),
          next_(sides.destinations(), scores) {
        window_ = std::max<Id>(1, window_ / stride_);
        for (Id source = 0; source < sides.sources(); source += stride_) {
            const Csr& columns = sides.by_source;
            for (const Id* row = columns.begin(source); row != columns.end(source); row++)
                rows_[*row].sampled++;
        }
    }

    std::vector<Id> run() {
        std::vector<Id> order;
        order.reserve(seeds_.size());
        while (order.size() < seeds_.size()) {
            const Id found = next();
            const Id row = found == none ? next_seed() : found;
            rows_[row].placed = true;
            order.push_back(row);
            const Csr& rows = sides_.by_destination;
            for (const Id* source = rows.begin(row); source != rows.end(row); source++) {
                if (*source % stride_ == 0) use(*source);
            }
        }
        return order;
    }

  private:
    static constexpr Id scores = 128;
    // Of a destination on average.
    static constexpr Id sampled_edges = 16;

    // Of a destination: sources of the sample, and those of them that were used last.
    struct Row {
        Id sampled = 0;
        Id overlap = 0;
        bool placed = false;
    };

    Id next_seed() {
        while (rows_[seeds_[seed_]].placed) seed_++;
        return seeds_[seed_];
    }
    // Shares that fell since they were stored are corrected here, and only here.
    Id next() {
        for (;;) {
            const auto [row, score] = next_.pop();
            if (row == none) return none;
            if (rows_[row].overlap == 0) continue;
            if (share(row) == score) return row;
            next_.set(row, share(row));
        }
    }
    int share(Id row) const { return share_score(rows_[row].overlap, rows_[row].sampled, scores); }

    void use(Id source) {
        if (inside_[source]) {
            uses_.remove(source);
            uses_.append(source);
            return;
        }
        uses_.append(source);
        inside_[source] = 1;
        count_++;
        enters(source);
        if (count_ > window_) drop(uses_.first());
    }
    void drop(Id source) {
        uses_.remove(source);
        inside_[source] = 0;
        count_--;
        const Csr& columns = sides_.by_source;
        for (const Id* row = columns.begin(source); row != columns.end(source); row++) rows_[*row].overlap--;
    }
    void enters(Id source) {
        const Csr& columns = sides_.by_source;
        for (const Id* row = columns.begin(source); row != columns.end(source); row++) {
            rows_[*row].overlap++;
            if (!rows_[*row].placed) next_.raise(*row, share(*row));
        }
    }

    const Sides& sides_;
    Id window_;
    std::vector<Id> seeds_;
    std::size_t seed_ = 0;
    Id stride_;
    std::vector<Row> rows_;
    std::vector<std::uint8_t> inside_;
    TouchList uses_;
    Id count_ = 0;
    Buckets next_;
};

}  // namespace

inline std::vector<Id> window_order(const Sides& sides, Id window) {
    return WindowGreedy(sides, window).run();
}

}  // namespace hetfab::orders
