// SPDX-License-Identifier: Apache-2.0
// Which vertex leaves a full buffer when the order of edges is given: the least recently used one, or the one
// whose next use is farthest (L. A. Belady, 1966).
#pragma once

#include <queue>
#include <utility>

#include "log.hpp"
#include "touch_list.hpp"

namespace hetfab::orders {

// Edges in the order in which they are done.
struct EdgeOrder {
    std::vector<Id> sources;
    std::vector<Id> destinations;

    void add(Id source, Id destination) {
        sources.push_back(source);
        destinations.push_back(destination);
    }
};

namespace {

// What both rules share: a full buffer gives up a vertex, accumulators leave when they are complete.
class Replacement {
  public:
    Replacement(const Sides& sides, const EdgeOrder& order, Id slots)
        : log(sides.edges()), sides_(sides), order_(order), slots_(slots), left_(sides.destinations()) {
        for (Id row = 0; row < sides.destinations(); row++) left_[row] = sides.by_destination.degree(row);
        resident_.assign(sides.vertices(), 0);
    }

    Log log;

  protected:
    bool enters(Id vertex) {
        if (resident_[vertex]) return false;
        resident_[vertex] = 1;
        count_++;
        log.load(vertex);
        return true;
    }
    void leaves(Id vertex) {
        resident_[vertex] = 0;
        count_--;
        log.leave(vertex);
    }
    bool full_for(Id vertex) const { return !resident_[vertex] && count_ == slots_; }

    const Sides& sides_;
    const EdgeOrder& order_;
    Id slots_;
    std::vector<Id> left_;
    std::vector<std::uint8_t> resident_;
    Id count_ = 0;
};

class LeastRecent : Replacement {
  public:
    LeastRecent(const Sides& sides, const EdgeOrder& order, Id slots)
        : Replacement(sides, order, slots), recent_(sides.vertices()) {}

    Log run() {
        for (std::size_t edge = 0; edge < order_.sources.size(); edge++) {
            const Id source = order_.sources[edge];
            const Id destination = sides_.vertex_of_destination(order_.destinations[edge]);
            use(destination, source);
            use(source, destination);
            log.edge(source, order_.destinations[edge]);
            if (--left_[order_.destinations[edge]] == 0) drop(destination);
        }
        while (recent_.first() != none) drop(recent_.first());
        return std::move(log);
    }

  private:
    void use(Id vertex, Id partner) {
        if (full_for(vertex)) {
            const Id oldest = recent_.first();
            drop(oldest == partner ? recent_.after(oldest) : oldest);
        }
        if (!enters(vertex)) recent_.remove(vertex);
        recent_.append(vertex);
    }
    void drop(Id vertex) {
        recent_.remove(vertex);
        leaves(vertex);
    }

    TouchList recent_;
};

class FarthestUse : Replacement {
  public:
    // An accumulator's way to its next use counts 1 / accumulator_weight: giving it up costs a write and a
    // read.
    FarthestUse(const Sides& sides, const EdgeOrder& order, Id slots, Id accumulator_weight)
        : Replacement(sides, order, slots),
          accumulator_weight_(accumulator_weight),
          next_of_source_(order.sources.size()),
          next_of_destination_(order.sources.size()),
          next_(sides.vertices(), never) {
        for (std::size_t edge = order.sources.size(); edge-- > 0;) {
            next_of_source_[edge] = exchange(order.sources[edge], edge);
            next_of_destination_[edge] =
                exchange(sides.vertex_of_destination(order.destinations[edge]), edge);
        }
    }

    Log run() {
        for (std::size_t edge = 0; edge < order_.sources.size(); edge++) {
            const Id source = order_.sources[edge];
            const Id destination = sides_.vertex_of_destination(order_.destinations[edge]);
            use(destination, edge);
            use(source, edge);
            log.edge(source, order_.destinations[edge]);
            advance(source, next_of_source_[edge]);
            advance(destination, next_of_destination_[edge]);
        }
        return std::move(log);
    }

  private:
    static constexpr Id never = none;
    using Use = std::pair<Id, Id>;

    Id exchange(Id vertex, std::size_t edge) { return std::exchange(next_[vertex], static_cast<Id>(edge)); }
    void use(Id vertex, std::size_t edge) {
        if (full_for(vertex)) leaves(farthest(edge));
        enters(vertex);
    }
    void advance(Id vertex, Id next) {
        next_[vertex] = next;
        if (next == never) {
            leaves(vertex);
        } else {
            uses_[sides_.is_destination(vertex)].push({next, vertex});
        }
    }
    // The other end of this edge has no way to go, so it stays.
    Id farthest(std::size_t edge) {
        const Id feature = top(uses_[0]);
        const Id accumulator = top(uses_[1]);
        const std::uint64_t of_feature = distance(feature, edge) * accumulator_weight_;
        return of_feature != 0 && of_feature >= distance(accumulator, edge) ? feature : accumulator;
    }
    std::uint64_t distance(Id vertex, std::size_t edge) const {
        return vertex == none ? 0 : next_[vertex] - edge;
    }
    // The resident that is used last; entries of vertices that left or were used since are dropped.
    Id top(std::priority_queue<Use>& uses) const {
        while (!uses.empty()) {
            const auto [next, vertex] = uses.top();
            if (resident_[vertex] && next_[vertex] == next) return vertex;
            uses.pop();
        }
        return none;
    }

    std::uint64_t accumulator_weight_;
    std::vector<Id> next_of_source_;
    std::vector<Id> next_of_destination_;
    std::vector<Id> next_;
    std::priority_queue<Use> uses_[2];
};

}  // namespace

inline Log replay_least_recent(const Sides& sides, const EdgeOrder& order, Id slots) {
    return LeastRecent(sides, order, slots).run();
}

inline Log replay_farthest_use(const Sides& sides, const EdgeOrder& order, Id slots, Id accumulator_weight) {
    return FarthestUse(sides, order, slots, accumulator_weight).run();
}

}  // namespace hetfab::orders
