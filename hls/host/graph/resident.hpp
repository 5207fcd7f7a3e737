// SPDX-License-Identifier: Apache-2.0
// Resident-set greedy: features and accumulators share the buffer; the vertex that does most with what is
// resident enters next, all its edges to residents are done at once, and the buffer gives up what it has not
// touched for longest.
#pragma once

#include <algorithm>
#include <array>

#include "buckets.hpp"
#include "log.hpp"
#include "touch_list.hpp"

namespace hetfab::orders {

// log2 with 8 fractional bits, linear between powers of two.
inline Id log2_q8(Id value) {
    const Id whole = 31 - static_cast<Id>(__builtin_clz(value));
    return whole * 256 + static_cast<Id>((std::uint64_t{value} << 8 >> whole) - 256);
}

namespace {

class ResidentSet {
  public:
    ResidentSet(const Sides& sides, Id slots, Id accumulator_weight)
        : log(sides.edges()),
          sides_(sides),
          slots_(slots),
          accumulator_weight_(accumulator_weight),
          log_slots_(log2_q8(slots + 1)),
          starts_(sides.vertices() + 1),
          left_(sides.vertices()),
          gain_(sides.vertices()),
          touched_(sides.vertices()),
          resident_(sides.vertices()),
          kinds_{TouchList(sides.vertices()), TouchList(sides.vertices())},
          next_(sides.vertices(), scores) {
        join_sides();
        order_seeds();
    }

    void run() {
        while (log.sources.size() < sides_.edges()) {
            const Id found = next_.pop().vertex;
            enter(found == none ? next_seed() : found);
            if (count_ == slots_) give_up_one();
        }
    }

    Log log;

  private:
    static constexpr Id scores = 2048;

    // An edge as one of its ends sees it: the other end, and where that end has it.
    struct HalfEdge {
        Id other;
        Id twin;
    };

    void join_sides() {
        std::vector<Id> place(sides_.vertices());
        for (Id vertex = 0; vertex < sides_.vertices(); vertex++) {
            left_[vertex] = sides_.degree(vertex);
            starts_[vertex + 1] = starts_[vertex] + left_[vertex];
            place[vertex] = starts_[vertex];
        }
        halves_.resize(starts_.back());
        for (Id source = 0; source < sides_.sources(); source++) {
            for (const Id* id = sides_.by_source.begin(source); id != sides_.by_source.end(source); id++) {
                const Id destination = sides_.vertex_of_destination(*id);
                const Id here = place[source]++;
                const Id there = place[destination]++;
                halves_[here] = {destination, there};
                halves_[there] = {source, here};
            }
        }
    }
    void order_seeds() {
        Id largest = 0;
        for (const Id degree : left_) largest = std::max(largest, degree);
        std::vector<Id> place(largest + 2);
        for (const Id degree : left_) place[degree + 1]++;
        for (Id degree = 0; degree <= largest; degree++) place[degree + 1] += place[degree];
        seeds_.resize(left_.size());
        for (Id vertex = 0; vertex < left_.size(); vertex++) seeds_[place[left_[vertex]]++] = vertex;
    }
    Id next_seed() {
        while (left_[seeds_[seed_]] == 0 || resident_[seeds_[seed_]]) seed_++;
        return seeds_[seed_];
    }

    void enter(Id vertex) {
        clock_++;
        resident_[vertex] = 1;
        count_++;
        log.load(vertex);
        next_.remove(vertex);
        touched_[vertex] = clock_;
        kind(vertex).append(vertex);
        const Id begin = starts_[vertex];
        const Id waiting = do_edges(vertex, begin);
        gain_[vertex] = 0;
        left_[vertex] = waiting;
        if (waiting == 0) leave(vertex);
        for (Id half = begin; half < begin + waiting; half++) rate(halves_[half].other);
    }
    // Does the edges to residents and keeps the others together; returns how many those are.
    Id do_edges(Id vertex, Id begin) {
        Id waiting = 0;
        for (Id half = begin; half < begin + left_[vertex]; half++) {
            const HalfEdge edge = halves_[half];
            if (resident_[edge.other]) {
                take_out(edge);
                write(vertex, edge.other);
                touch(edge.other);
                if (left_[edge.other] == 0) leave(edge.other);
            } else {
                halves_[begin + waiting] = edge;
                halves_[edge.twin].twin = begin + waiting;
                waiting++;
                gain_[edge.other]++;
            }
        }
        return waiting;
    }
    void take_out(const HalfEdge& edge) {
        const Id last = starts_[edge.other] + --left_[edge.other];
        halves_[edge.twin] = halves_[last];
        halves_[halves_[last].twin].twin = edge.twin;
    }
    void write(Id vertex, Id other) {
        const Id source = std::min(vertex, other);
        log.edge(source, std::max(vertex, other) - sides_.sources());
    }
    void touch(Id vertex) {
        touched_[vertex] = clock_;
        kind(vertex).remove(vertex);
        kind(vertex).append(vertex);
    }
    void leave(Id vertex) {
        kind(vertex).remove(vertex);
        resident_[vertex] = 0;
        count_--;
        log.leave(vertex);
    }
    void give_up_one() {
        const Id feature = kinds_[0].first();
        const Id accumulator = kinds_[1].first();
        const bool takes_feature =
            accumulator == none ||
            (feature != none && touched_[feature] <= touched_[accumulator] * accumulator_weight_);
        const Id vertex = takes_feature ? feature : accumulator;
        leave(vertex);
        for (Id half = starts_[vertex]; half < starts_[vertex] + left_[vertex]; half++) {
            gain_[halves_[half].other]--;
            rate(halves_[half].other);
        }
        rate(vertex);
    }
    // What entering would do: all that is left of it, or much of it and much in all.
    void rate(Id vertex) {
        const Id gain = gain_[vertex];
        if (gain == 0) {
            next_.remove(vertex);
        } else if (gain == left_[vertex]) {
            next_.set(vertex, scores - 1);
        } else {
            const Id much = std::min<Id>(1024, 1024 * log2_q8(gain) / log_slots_);
            const Id share = static_cast<Id>(std::uint64_t{gain} * 1024 / left_[vertex]);
            next_.set(vertex, static_cast<int>((6 * much + 4 * share) * (scores - 2) / 10240));
        }
    }
    TouchList& kind(Id vertex) { return kinds_[sides_.is_destination(vertex)]; }

    const Sides& sides_;
    Id slots_;
    std::uint64_t accumulator_weight_;
    Id log_slots_;
    std::vector<Id> starts_;
    std::vector<HalfEdge> halves_;
    // Of each vertex: edges not done, those of them to residents, when it was last touched.
    std::vector<Id> left_;
    std::vector<Id> gain_;
    std::vector<std::uint64_t> touched_;
    std::vector<std::uint8_t> resident_;
    std::array<TouchList, 2> kinds_;
    Buckets next_;
    std::vector<Id> seeds_;
    std::size_t seed_ = 0;
    std::uint64_t clock_ = 0;
    Id count_ = 0;
};

}  // namespace

inline Log resident_set(const Sides& sides, Id slots, Id accumulator_weight) {
    ResidentSet greedy(sides, slots, accumulator_weight);
    greedy.run();
    return std::move(greedy.log);
}

}  // namespace hetfab::orders
