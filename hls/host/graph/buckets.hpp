// SPDX-License-Identifier: Apache-2.0
// A queue of vertices by small scores: the highest first, among equals the one that got its score last.
#pragma once

#include "sides.hpp"

namespace hetfab::orders {

// What part of a whole is, in steps of 1 / (scores - 1); a narrow division wherever it can be one.
inline int share_score(Id part, Id whole, Id scores) {
    constexpr Id narrow = Id{1} << 16;
    if (part < narrow && scores < narrow) return static_cast<int>(part * (scores - 1) / whole);
    return static_cast<int>(std::uint64_t{part} * (scores - 1) / whole);
}

class Buckets {
  public:
    static constexpr int absent = -1;

    Buckets(Id vertices, Id scores) : score_(vertices, absent), stacks_(scores) {}

    // A vertex that has this score keeps its place.
    void set(Id vertex, int score) {
        if (score_[vertex] == score) return;
        score_[vertex] = score;
        if (score == absent) return;
        stacks_[static_cast<std::size_t>(score)].push_back(vertex);
        if (score > top_) top_ = score;
    }
    void raise(Id vertex, int score) {
        if (score > score_[vertex]) set(vertex, score);
    }
    void remove(Id vertex) { score_[vertex] = absent; }
    // Drops all entries; scores stay until they are removed.
    void clear() {
        for (std::vector<Id>& stack : stacks_) stack.clear();
        top_ = absent;
    }

    struct Entry {
        Id vertex;
        int score;
    };

    // Takes a vertex out, `none` where there is none. Entries whose score has changed since are dropped.
    Entry pop() {
        for (; top_ >= 0; top_--) {
            std::vector<Id>& stack = stacks_[static_cast<std::size_t>(top_)];
            while (!stack.empty()) {
                const Id vertex = stack.back();
                stack.pop_back();
                if (score_[vertex] != top_) continue;
                score_[vertex] = absent;
                return {vertex, top_};
            }
        }
        return {none, absent};
    }

  private:
    std::vector<int> score_;
    std::vector<std::vector<Id>> stacks_;
    int top_ = absent;
};

}  // namespace hetfab::orders
