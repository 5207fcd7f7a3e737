// SPDX-License-Identifier: Apache-2.0
// Tiles: some vertices of one side stay in the buffer while the other side is streamed past them once.
#pragma once

#include <algorithm>

#include "buckets.hpp"
#include "log.hpp"

namespace hetfab::orders {

// How many vertices a tile keeps and how many of the streamed side stay for good; one slot streams.
struct TileShape {
    Id kept;
    Id pinned;
};

// As few tiles as there can be, of equal size; what that leaves of the buffer holds pins.
inline TileShape balanced_tiles(Id active, Id slots) {
    const Id tiles = std::max<Id>(1, (active + slots - 2) / (slots - 1));
    const Id kept = std::max<Id>(1, (active + tiles - 1) / tiles);
    return {kept, slots - 1 - kept};
}

enum class Seed { fewest_edges, most_edges };

namespace {

// Grows tiles of rows: the next row is the one with the largest share of its columns in the tile already.
class TileGrowth {
  public:
    TileGrowth(const Csr& rows, const Csr& columns, Id tile_rows, Seed seed)
        : rows_(rows),
          columns_(columns),
          tile_rows_(tile_rows),
          seeds_(rows_by_degree(rows, seed == Seed::most_edges)),
          placed_(rows.rows),
          tile_of_column_(columns.rows, none),
          tile_of_row_(rows.rows, none),
          overlap_(rows.rows),
          next_(rows.rows, scores) {}

    std::vector<Id> run() {
        std::vector<Id> order;
        order.reserve(seeds_.size());
        for (Id tile = 0; order.size() < seeds_.size(); tile++) {
            next_.clear();
            for (Id count = 0; count < tile_rows_ && order.size() < seeds_.size(); count++) {
                const Id found = next_.pop();
                const Id row = found == none ? next_seed() : found;
                placed_[row] = 1;
                order.push_back(row);
                add_columns(row, tile);
            }
        }
        return order;
    }

  private:
    static constexpr int scores = 1024;

    Id next_seed() {
        while (placed_[seeds_[seed_]]) seed_++;
        return seeds_[seed_];
    }
    void add_columns(Id row, Id tile) {
        for (const Id* column = rows_.begin(row); column != rows_.end(row); column++) {
            if (tile_of_column_[*column] == tile) continue;
            tile_of_column_[*column] = tile;
            for (const Id* other = columns_.begin(*column); other != columns_.end(*column); other++) {
                if (placed_[*other]) continue;
                if (tile_of_row_[*other] != tile) {
                    tile_of_row_[*other] = tile;
                    overlap_[*other] = 0;
                    next_.remove(*other);
                }
                overlap_[*other]++;
                next_.set(*other, score(*other));
            }
        }
    }
    int score(Id row) const {
        return static_cast<int>(std::uint64_t{overlap_[row]} * (scores - 1) / rows_.degree(row));
    }

    const Csr& rows_;
    const Csr& columns_;
    Id tile_rows_;
    std::vector<Id> seeds_;
    std::size_t seed_ = 0;
    std::vector<std::uint8_t> placed_;
    std::vector<Id> tile_of_column_;
    std::vector<Id> tile_of_row_;
    std::vector<Id> overlap_;
    Buckets next_;
};

}  // namespace

inline std::vector<Id> grown_order(const Csr& rows, const Csr& columns, Id tile_rows, Seed seed) {
    return TileGrowth(rows, columns, tile_rows, seed).run();
}

inline std::vector<Id> order_by_id(const Csr& rows) {
    std::vector<Id> order;
    for (Id row = 0; row < rows.rows; row++) {
        if (rows.degree(row) != 0) order.push_back(row);
    }
    return order;
}

// The streamed vertices that most tiles meet, at least two; equals by id.
inline std::vector<std::uint8_t> most_reused(const Csr& kept, const std::vector<Id>& order, TileShape shape) {
    std::vector<Id> last_tile(kept.columns, none);
    std::vector<Id> uses(kept.columns);
    for (std::size_t place = 0; place < order.size(); place++) {
        const Id tile = static_cast<Id>(place / shape.kept);
        for (const Id* other = kept.begin(order[place]); other != kept.end(order[place]); other++) {
            uses[*other] += last_tile[*other] != tile;
            last_tile[*other] = tile;
        }
    }
    std::vector<Id> reused;
    for (Id vertex = 0; vertex < kept.columns; vertex++) {
        if (uses[vertex] > 1) reused.push_back(vertex);
    }
    const std::size_t pins = std::min<std::size_t>(shape.pinned, reused.size());
    const auto before = [&](Id a, Id b) { return uses[a] != uses[b] ? uses[a] > uses[b] : a < b; };
    std::partial_sort(reused.begin(), reused.begin() + static_cast<std::ptrdiff_t>(pins), reused.end(), before);
    std::vector<std::uint8_t> pinned(kept.columns);
    for (std::size_t pin = 0; pin < pins; pin++) pinned[reused[pin]] = 1;
    return pinned;
}

namespace {

// Writes the log of tiles. `kept_first` and `streamed_first` number the sides as vertices.
class TileWriter {
  public:
    TileWriter(const Csr& kept, bool keeps_destinations, const std::vector<Id>& order, TileShape shape)
        : log(kept.edges()),
          kept_(kept),
          keeps_destinations_(keeps_destinations),
          order_(order),
          shape_(shape),
          pinned_(most_reused(kept, order, shape)),
          left_(kept.columns),
          place_(kept.columns) {
        for (Id edge = 0; edge < kept.edges(); edge++) left_[kept.ids[edge]]++;
    }

    void run() {
        for (std::size_t first = 0; first < order_.size(); first += shape_.kept) {
            const std::size_t last = std::min<std::size_t>(first + shape_.kept, order_.size());
            tiles.push_back(static_cast<Id>(log.sources.size()));
            tile(first, last);
        }
    }

    Log log;
    // Edges done before each tile.
    std::vector<Id> tiles;

  private:
    void tile(std::size_t first, std::size_t last) {
        met_.clear();
        for (std::size_t place = first; place < last; place++) {
            log.load(kept_vertex(order_[place]));
            for (const Id* other = kept_.begin(order_[place]); other != kept_.end(order_[place]); other++) {
                if (place_[*other]++ == 0) met_.push_back(*other);
            }
        }
        Id edges = 0;
        for (const Id other : met_) {
            edges += place_[other];
            place_[other] = edges - place_[other];
        }
        run_of_edge_.resize(edges);
        for (std::size_t place = first; place < last; place++) {
            const Id vertex = order_[place];
            for (const Id* other = kept_.begin(vertex); other != kept_.end(vertex); other++) {
                run_of_edge_[place_[*other]++] = vertex;
            }
        }
        stream();
        for (std::size_t place = first; place < last; place++) log.leave(kept_vertex(order_[place]));
    }
    // The streamed vertices in the order met, each with its edges to the tile.
    void stream() {
        Id edge = 0;
        for (const Id other : met_) {
            if (!pinned_[other] || !entered(other)) log.load(streamed_vertex(other));
            left_[other] -= place_[other] - edge;
            for (; edge < place_[other]; edge++) write(run_of_edge_[edge], other);
            place_[other] = 0;
            if (!pinned_[other] || left_[other] == 0) log.leave(streamed_vertex(other));
        }
    }
    // Marks a pinned vertex as loaded; whether it was.
    bool entered(Id other) {
        const bool before = pinned_[other] == 2;
        pinned_[other] = 2;
        return before;
    }
    void write(Id kept, Id other) {
        if (keeps_destinations_) {
            log.edge(other, kept);
        } else {
            log.edge(kept, other);
        }
    }
    Id kept_vertex(Id row) const { return keeps_destinations_ ? kept_.columns + row : row; }
    Id streamed_vertex(Id column) const { return keeps_destinations_ ? column : kept_.rows + column; }

    const Csr& kept_;
    bool keeps_destinations_;
    const std::vector<Id>& order_;
    TileShape shape_;
    std::vector<std::uint8_t> pinned_;
    std::vector<Id> left_;
    std::vector<Id> place_;
    std::vector<Id> met_;
    std::vector<Id> run_of_edge_;
};

}  // namespace

}  // namespace hetfab::orders
