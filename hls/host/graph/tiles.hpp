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

namespace {

// Grows tiles of rows: the next row is the one with the largest share of its columns in the tile already.
// Where rows are long, every few-th column stands for all.
class TileGrowth {
  public:
    TileGrowth(const Csr& rows, const Csr& columns, Id tile_rows, bool most_edges_first)
        : rows_(rows),
          columns_(columns),
          tile_rows_(tile_rows),
          seeds_(rows_by_degree(rows, most_edges_first)),
          stride_(std::max<Id>(1, rows.edges() / (sampled_edges * std::max<Id>(1, active_rows(rows))))),
          tile_of_column_(columns.rows, none),
          states_(rows.rows),
          next_(rows.rows, scores) {
        for (Id column = 0; column < columns.rows; column += stride_) {
            for (const Id* row = columns.begin(column); row != columns.end(column); row++)
                states_[*row].sampled++;
        }
    }

    std::vector<Id> run() {
        std::vector<Id> order;
        order.reserve(seeds_.size());
        for (Id tile = 0; order.size() < seeds_.size(); tile++) {
            next_.clear();
            for (Id count = 0; count < tile_rows_ && order.size() < seeds_.size(); count++) {
                const Id found = next_.pop().vertex;
                const Id row = found == none ? next_seed() : found;
                states_[row].placed = true;
                order.push_back(row);
                add_columns(row, tile);
            }
        }
        return order;
    }

  private:
    static constexpr Id scores = 128;
    // Of a row on average.
    static constexpr Id sampled_edges = 32;

    // Of a row: columns of the sample, the tile that met it last, and those columns that are in that tile.
    struct State {
        Id sampled = 0;
        Id tile = none;
        Id overlap = 0;
        bool placed = false;
    };

    Id next_seed() {
        while (states_[seeds_[seed_]].placed) seed_++;
        return seeds_[seed_];
    }
    void add_columns(Id row, Id tile) {
        for (const Id* column = rows_.begin(row); column != rows_.end(row); column++) {
            if (*column % stride_ != 0 || tile_of_column_[*column] == tile) continue;
            tile_of_column_[*column] = tile;
            for (const Id* other = columns_.begin(*column); other != columns_.end(*column); other++) {
                State& state = states_[*other];
                if (state.placed) continue;
                if (state.tile != tile) {
                    state.tile = tile;
                    state.overlap = 0;
                    next_.remove(*other);
                }
                state.overlap++;
                next_.set(*other, share_score(state.overlap, state.sampled, scores));
            }
        }
    }

    const Csr& rows_;
    const Csr& columns_;
    Id tile_rows_;
    std::vector<Id> seeds_;
    std::size_t seed_ = 0;
    Id stride_;
    std::vector<Id> tile_of_column_;
    std::vector<State> states_;
    Buckets next_;
};

}  // namespace

inline std::vector<Id> grown_order(const Csr& rows, const Csr& columns, Id tile_rows, bool most_edges_first) {
    return TileGrowth(rows, columns, tile_rows, most_edges_first).run();
}

inline std::vector<Id> order_by_id(const Csr& rows) {
    std::vector<Id> order;
    for (Id row = 0; row < rows.rows; row++) {
        if (rows.degree(row) != 0) order.push_back(row);
    }
    return order;
}

// Tiles as a list of runs: what is computed of an order, and all that an executing buffer needs.
struct Tiling {
    TileShape shape;
    // The kept side in order; a tile is `shape.kept` of them.
    std::vector<Id> kept;
    // Of each tile its first run; of each run the streamed vertex and where its edges end.
    std::vector<Id> first_runs;
    std::vector<Id> run_vertices;
    std::vector<Id> run_ends;
    // Of each edge, which of the tile's kept vertices it leads to. Empty where tiles go by id: then a run is
    // a slice of the streamed vertex's row, and nothing has to be written for each edge.
    std::vector<std::uint16_t> places;
};

namespace {

class TileCutter {
  public:
    TileCutter(const Csr& kept, std::vector<Id> order, TileShape shape, std::vector<std::uint16_t> space)
        : kept_(kept), place_(kept.columns) {
        made_.shape = shape;
        made_.kept = std::move(order);
        made_.places = std::move(space);
        made_.places.resize(kept.edges());
        // One more than can be met: a vertex is written before it is known to be new.
        met_.resize(std::size_t{kept.columns} + 1);
    }

    Tiling run() {
        for (std::size_t first = 0; first < made_.kept.size(); first += made_.shape.kept) {
            made_.first_runs.push_back(static_cast<Id>(made_.run_vertices.size()));
            tile(first, std::min<std::size_t>(first + made_.shape.kept, made_.kept.size()));
        }
        made_.first_runs.push_back(static_cast<Id>(made_.run_vertices.size()));
        return std::move(made_);
    }

  private:
    // Counts the edges of each streamed vertex, then puts them behind each other.
    void tile(std::size_t first, std::size_t last) {
        Id count = 0;
        for (std::size_t place = first; place < last; place++) {
            const Id row = made_.kept[place];
            for (const Id* other = kept_.begin(row); other != kept_.end(row); other++) {
                met_[count] = *other;
                count += place_[*other]++ == 0;
            }
        }
        for (Id run = 0; run < count; run++) {
            const Id edges = place_[met_[run]];
            place_[met_[run]] = edges_;
            edges_ += edges;
            made_.run_vertices.push_back(met_[run]);
            made_.run_ends.push_back(edges_);
        }
        for (std::size_t place = first; place < last; place++) {
            const Id row = made_.kept[place];
            const auto slot = static_cast<std::uint16_t>(place - first);
            for (const Id* other = kept_.begin(row); other != kept_.end(row); other++) {
                made_.places[place_[*other]++] = slot;
            }
        }
        for (Id run = 0; run < count; run++) place_[met_[run]] = 0;
    }

    const Csr& kept_;
    Tiling made_;
    Id edges_ = 0;
    std::vector<Id> place_;
    std::vector<Id> met_;
};

}  // namespace

// `space` is memory for the places, of any size.
inline Tiling cut_tiles(const Csr& kept, std::vector<Id> order, TileShape shape,
                        std::vector<std::uint16_t> space) {
    return TileCutter(kept, std::move(order), shape, std::move(space)).run();
}

namespace {

// Where the ids below `limit` end; rows ascend, and the next tile's ids are near.
inline const Id* gallop(const Id* first, const Id* end, Id limit) {
    if (end[-1] < limit) return end;
    std::ptrdiff_t step = 1;
    while (step < end - first && first[step] < limit) step *= 2;
    return std::lower_bound(first + step / 2, std::min(first + step + 1, end), limit);
}

}  // namespace

// Tiles of vertices by id: streamed vertices in order of id, each with the slice of its row in the tile.
inline Tiling slice_tiles(const Csr& kept, const Csr& streamed, TileShape shape) {
    Tiling made{shape, order_by_id(kept), {}, {}, {}, {}};
    std::vector<Id> next(streamed.starts, streamed.starts + streamed.rows);
    Id edges = 0;
    for (std::size_t first = 0; first < made.kept.size(); first += shape.kept) {
        made.first_runs.push_back(static_cast<Id>(made.run_vertices.size()));
        const std::size_t last = first + shape.kept;
        const Id limit = last < made.kept.size() ? made.kept[last] : kept.rows;
        for (Id vertex = 0; vertex < streamed.rows; vertex++) {
            const Id* place = streamed.ids + next[vertex];
            if (place == streamed.end(vertex) || *place >= limit) continue;
            const Id count = static_cast<Id>(gallop(place, streamed.end(vertex), limit) - place);
            next[vertex] += count;
            edges += count;
            made.run_vertices.push_back(vertex);
            made.run_ends.push_back(edges);
        }
    }
    made.first_runs.push_back(static_cast<Id>(made.run_vertices.size()));
    return made;
}

// Writes the places that a run's slice stands for.
inline void place_slices(Tiling& tiling, const Csr& kept, const Csr& streamed) {
    std::vector<Id> rank(kept.rows);
    for (Id place = 0; place < tiling.kept.size(); place++) rank[tiling.kept[place]] = place;
    std::vector<Id> next(streamed.starts, streamed.starts + streamed.rows);
    tiling.places.reserve(kept.edges());
    for (std::size_t run = 0; run < tiling.run_vertices.size(); run++) {
        while (tiling.places.size() < tiling.run_ends[run]) {
            const Id place = rank[streamed.ids[next[tiling.run_vertices[run]]++]];
            tiling.places.push_back(static_cast<std::uint16_t>(place % tiling.shape.kept));
        }
    }
}

// Which streamed vertices most tiles meet, at least two; equals by id.
inline std::vector<std::uint8_t> most_reused(const Tiling& tiling, Id streamed) {
    std::vector<Id> uses(streamed);
    for (const Id vertex : tiling.run_vertices) uses[vertex]++;
    std::vector<Id> reused;
    for (Id vertex = 0; vertex < streamed; vertex++) {
        if (uses[vertex] > 1) reused.push_back(vertex);
    }
    const std::size_t pins = std::min<std::size_t>(tiling.shape.pinned, reused.size());
    const auto before = [&](Id a, Id b) { return uses[a] != uses[b] ? uses[a] > uses[b] : a < b; };
    std::partial_sort(reused.begin(), reused.begin() + static_cast<std::ptrdiff_t>(pins), reused.end(),
                      before);
    std::vector<std::uint8_t> pinned(streamed);
    for (std::size_t pin = 0; pin < pins; pin++) pinned[reused[pin]] = 1;
    return pinned;
}

namespace {

// The log of tiles.
class TileLog {
  public:
    TileLog(const Csr& kept, bool keeps_destinations, const Tiling& tiling)
        : log(kept.edges()),
          kept_first_(keeps_destinations ? kept.columns : 0),
          streamed_first_(keeps_destinations ? 0 : kept.rows),
          keeps_destinations_(keeps_destinations),
          tiling_(tiling),
          pinned_(most_reused(tiling, kept.columns)),
          entered_(kept.columns),
          left_(kept.columns) {
        for (Id edge = 0; edge < kept.edges(); edge++) left_[kept.ids[edge]]++;
    }

    void run() {
        for (std::size_t tile = 0; tile + 1 < tiling_.first_runs.size(); tile++) {
            tiles.push_back(edge_);
            const Id* first = tiling_.kept.data() + tile * tiling_.shape.kept;
            const Id* last = std::min(first + tiling_.shape.kept, tiling_.kept.data() + tiling_.kept.size());
            for (const Id* row = first; row != last; row++) log.load(kept_first_ + *row);
            for (Id run = tiling_.first_runs[tile]; run < tiling_.first_runs[tile + 1]; run++) {
                stream(first, tiling_.run_vertices[run], tiling_.run_ends[run]);
            }
            for (const Id* row = first; row != last; row++) log.leave(kept_first_ + *row);
        }
    }

    Log log;
    // Edges done before each tile.
    std::vector<Id> tiles;

  private:
    void stream(const Id* tile, Id vertex, Id end) {
        if (!entered_[vertex]) log.load(streamed_first_ + vertex);
        entered_[vertex] = pinned_[vertex];
        left_[vertex] -= end - edge_;
        for (; edge_ < end; edge_++) {
            const Id row = tile[tiling_.places[edge_]];
            if (keeps_destinations_) {
                log.edge(vertex, row);
            } else {
                log.edge(row, vertex);
            }
        }
        if (!pinned_[vertex] || left_[vertex] == 0) log.leave(streamed_first_ + vertex);
    }

    // The sides are numbered through as vertices.
    Id kept_first_;
    Id streamed_first_;
    bool keeps_destinations_;
    const Tiling& tiling_;
    std::vector<std::uint8_t> pinned_;
    std::vector<std::uint8_t> entered_;
    std::vector<Id> left_;
    Id edge_ = 0;
};

}  // namespace

}  // namespace hetfab::orders
