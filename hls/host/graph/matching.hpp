// SPDX-License-Identifier: Apache-2.0
// Maximum matching from the rows of a graph by augmenting paths (H. W. Kuhn, 1955), breadth first. Columns
// that a failed search has met are dead for good: no later search can pass them, so each is met once.
#pragma once

#include "sides.hpp"

namespace hetfab::orders {

struct Matching {
    // Of each row its column, of each column its row; `none` where free.
    std::vector<Id> column_of_row;
    std::vector<Id> row_of_column;
    // Columns of failed searches: the columns of a least cover (D. Koenig, 1931).
    std::vector<std::uint8_t> dead;
    Id size = 0;
    std::uint64_t edge_visits = 0;
};

namespace {

class Matcher {
  public:
    explicit Matcher(const Csr& graph)
        : graph_(graph), parent_(graph.columns), seen_by_(graph.columns, none) {
        found_.column_of_row.assign(graph.rows, none);
        found_.row_of_column.assign(graph.columns, none);
        found_.dead.assign(graph.columns, 0);
    }

    Matching run() {
        std::vector<Id> free_rows;
        for (Id row = 0; row < graph_.rows; row++) {
            if (graph_.degree(row) != 0 && !take_free_column(row)) free_rows.push_back(row);
        }
        for (const Id row : free_rows) search(row);
        return std::move(found_);
    }

  private:
    bool take_free_column(Id row) {
        for (const Id* column = graph_.begin(row); column != graph_.end(row); column++) {
            found_.edge_visits++;
            if (found_.row_of_column[*column] != none) continue;
            join(row, *column);
            found_.size++;
            return true;
        }
        return false;
    }
    void join(Id row, Id column) {
        found_.column_of_row[row] = column;
        found_.row_of_column[column] = row;
    }

    void search(Id root) {
        queue_.assign(1, root);
        for (std::size_t head = 0; head < queue_.size(); head++) {
            const Id free = explore(queue_[head], root);
            if (free == none) continue;
            flip(free, root);
            found_.size++;
            return;
        }
        for (std::size_t place = 1; place < queue_.size(); place++) {
            found_.dead[found_.column_of_row[queue_[place]]] = 1;
        }
    }
    // Queues the rows behind a row's matched columns; returns a free column when it meets one.
    Id explore(Id row, Id root) {
        for (const Id* column = graph_.begin(row); column != graph_.end(row); column++) {
            found_.edge_visits++;
            if (found_.dead[*column] || seen_by_[*column] == root) continue;
            seen_by_[*column] = root;
            parent_[*column] = row;
            if (found_.row_of_column[*column] == none) return *column;
            queue_.push_back(found_.row_of_column[*column]);
        }
        return none;
    }
    void flip(Id column, Id root) {
        for (;;) {
            const Id row = parent_[column];
            const Id given_up = found_.column_of_row[row];
            join(row, column);
            if (row == root) return;
            column = given_up;
        }
    }

    const Csr& graph_;
    Matching found_;
    std::vector<Id> parent_;
    std::vector<Id> seen_by_;
    std::vector<Id> queue_;
};

}  // namespace

inline Matching match(const Csr& graph) { return Matcher(graph).run(); }

}  // namespace hetfab::orders
