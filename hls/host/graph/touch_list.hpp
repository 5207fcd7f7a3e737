// SPDX-License-Identifier: Apache-2.0
// Vertices by when they were last touched.
#pragma once

#include "sides.hpp"

namespace hetfab::orders {

// The least recently touched first.
class TouchList {
  public:
    explicit TouchList(Id vertices) : before_(vertices + 1), after_(vertices + 1), end_(vertices) {
        before_[end_] = after_[end_] = end_;
    }
    Id first() const { return after_[end_] == end_ ? none : after_[end_]; }
    Id after(Id vertex) const { return after_[vertex] == end_ ? none : after_[vertex]; }
    void append(Id vertex) {
        before_[vertex] = before_[end_];
        after_[vertex] = end_;
        after_[before_[end_]] = vertex;
        before_[end_] = vertex;
    }
    void remove(Id vertex) {
        after_[before_[vertex]] = after_[vertex];
        before_[after_[vertex]] = before_[vertex];
    }

  private:
    std::vector<Id> before_;
    std::vector<Id> after_;
    Id end_;
};

}  // namespace hetfab::orders
