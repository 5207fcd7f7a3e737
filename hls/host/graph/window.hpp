// SPDX-License-Identifier: Apache-2.0
// Greedy destinations: the next destination is the one with the largest share of its sources among those that
// were used last. Where destinations have many sources, every few-th source stands for all.
#pragma once

#include <algorithm>
#include <deque>
#include <utility>

#include "buckets.hpp"

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
          sampled_(sides.destinations()),
          placed_(sides.destinations()),
          overlap_(sides.destinations()),
          last_use_(sides.sources()),
          inside_(sides.sources()),
          next_(sides.destinations(), scores) {
        window_ = std::max<Id>(1, window_ / stride_);
        for (Id source = 0; source < sides.sources(); source += stride_) {
            const Csr& columns = sides.by_source;
            for (const Id* row = columns.begin(source); row != columns.end(source); row++) sampled_[*row]++;
        }
    }

    std::vector<Id> run() {
        std::vector<Id> order;
        order.reserve(seeds_.size());
        while (order.size() < seeds_.size()) {
            const Id found = next_.pop();
            const Id row = found == none ? next_seed() : found;
            placed_[row] = 1;
            next_.remove(row);
            order.push_back(row);
            const Csr& rows = sides_.by_destination;
            for (const Id* source = rows.begin(row); source != rows.end(row); source++) {
                if (*source % stride_ == 0) use(*source);
            }
        }
        return order;
    }

  private:
    static constexpr int scores = 1024;
    // Of a destination on average.
    static constexpr Id sampled_edges = 16;

    Id next_seed() {
        while (placed_[seeds_[seed_]]) seed_++;
        return seeds_[seed_];
    }
    void use(Id source) {
        last_use_[source] = ++clock_;
        uses_.push_back({source, clock_});
        if (inside_[source]) return;
        inside_[source] = 1;
        count_++;
        change_overlaps(source, 1);
        while (count_ > window_) drop_oldest();
    }
    void drop_oldest() {
        const auto [source, when] = uses_.front();
        uses_.pop_front();
        if (last_use_[source] != when) return;
        inside_[source] = 0;
        count_--;
        change_overlaps(source, ~Id{0});
    }
    void change_overlaps(Id source, Id step) {
        const Csr& columns = sides_.by_source;
        for (const Id* row = columns.begin(source); row != columns.end(source); row++) {
            overlap_[*row] += step;
            if (placed_[*row]) continue;
            const std::uint64_t share = std::uint64_t{overlap_[*row]} * (scores - 1);
            if (overlap_[*row] == 0) {
                next_.remove(*row);
            } else {
                next_.set(*row, static_cast<int>(share / sampled_[*row]));
            }
        }
    }

    const Sides& sides_;
    Id window_;
    std::vector<Id> seeds_;
    std::size_t seed_ = 0;
    Id stride_;
    std::vector<Id> sampled_;
    std::vector<std::uint8_t> placed_;
    std::vector<Id> overlap_;
    std::vector<std::uint64_t> last_use_;
    std::vector<std::uint8_t> inside_;
    std::deque<std::pair<Id, std::uint64_t>> uses_;
    std::uint64_t clock_ = 0;
    Id count_ = 0;
    Buckets next_;
};

}  // namespace

inline std::vector<Id> window_order(const Sides& sides, Id window) {
    return WindowGreedy(sides, window).run();
}

}  // namespace hetfab::orders
