// SPDX-License-Identifier: Apache-2.0
// The C interface of the host's restructurer, which restructure.py calls.
#include <cstring>
#include <memory>

#include "host/graph/choose.hpp"
#include "host/graph/resident.hpp"
#include "host/graph/subgraphs.hpp"
#include "host/graph/tiles.hpp"
#include "host/graph/walk.hpp"
#include "host/graph/window.hpp"

namespace {

using namespace hetfab::orders;

// As Method in overlay/restructure/candidates.py.
enum Method : std::uint32_t {
    as_is,
    walked_destinations,
    subgraphs_by_source,
    subgraphs_by_destination,
    destination_tiles,
    source_tiles,
    resident,
    greedy_destinations,
};

// As Grow there.
enum Grow : std::uint32_t {
    by_id,
    fewest_edges_first,
    most_edges_first,
    by_walk,
    from_fewest_edges,
    from_most_edges
};

struct Candidate {
    std::uint32_t method;
    std::uint32_t slots;
    // Of tiles.
    std::uint32_t grow;
    // Of greedy and farthest use: what giving up an accumulator costs against a feature.
    std::uint32_t accumulator_weight;
    // Whether vertices of a resident set or of greedy destinations leave by their farthest use.
    std::uint32_t farthest;

    bool tiles() const { return method == destination_tiles || method == source_tiles; }
};

struct Schedule {
    Log log;
    std::vector<Id> tiles;
};

struct TileSides {
    const Csr& kept;
    const Csr& streamed;
};

TileSides tile_sides(const Sides& sides, const Candidate& candidate) {
    if (candidate.method == destination_tiles) return {sides.by_destination, sides.by_source};
    return {sides.by_source, sides.by_destination};
}

std::vector<Id> tile_order(const Sides& sides, const Candidate& candidate, Id tile_rows) {
    const auto [kept, streamed] = tile_sides(sides, candidate);
    switch (candidate.grow) {
        case fewest_edges_first:
        case most_edges_first:
            return rows_by_degree(kept, candidate.grow == most_edges_first);
        case by_walk:
            return candidate.method == destination_tiles ? walk(sides).destinations : walk(sides).sources;
        default:
            return grown_order(kept, streamed, tile_rows, candidate.grow == from_most_edges);
    }
}

Tiling tiling(const Sides& sides, const Candidate& candidate, std::vector<std::uint16_t> space) {
    const auto [kept, streamed] = tile_sides(sides, candidate);
    const TileShape shape = balanced_tiles(active_rows(kept), candidate.slots);
    if (candidate.grow == by_id) return slice_tiles(kept, streamed, shape);
    return cut_tiles(kept, tile_order(sides, candidate, shape.kept), shape, std::move(space));
}

Log replay(const Sides& sides, const EdgeOrder& order, const Candidate& candidate) {
    if (!candidate.farthest) return replay_least_recent(sides, order, candidate.slots);
    return replay_farthest_use(sides, order, candidate.slots, candidate.accumulator_weight);
}

Log resident_log(const Sides& sides, const Candidate& candidate) {
    Log greedy = resident_set(sides, candidate.slots, candidate.accumulator_weight);
    if (!candidate.farthest) return greedy;
    const EdgeOrder order{std::move(greedy.sources), std::move(greedy.destinations)};
    return replay(sides, order, candidate);
}

Log untiled(const Sides& sides, const Candidate& candidate) {
    switch (candidate.method) {
        case as_is:
            return replay_least_recent(sides, by_destination(sides, order_by_id(sides.by_destination)),
                                       candidate.slots);
        case walked_destinations:
            return replay_least_recent(sides, by_destination(sides, walk(sides).destinations),
                                       candidate.slots);
        case resident:
            return resident_log(sides, candidate);
        case greedy_destinations:
            return replay(sides, by_destination(sides, window_order(sides, candidate.slots - 2)), candidate);
        default:
            return replay_farthest_use(sides,
                                       three_subgraphs(sides, least_cover(sides), walk(sides),
                                                       candidate.method == subgraphs_by_source),
                                       candidate.slots, candidate.accumulator_weight);
    }
}

}  // namespace

extern "C" {

// The schedule of a candidate; hetfab_orders_free gives it back.
Schedule* hetfab_orders_make(const Sides* sides, const Candidate* candidate) {
    if (!candidate->tiles()) return new Schedule{untiled(*sides, *candidate), {}};
    const auto [kept, streamed] = tile_sides(*sides, *candidate);
    Tiling made = tiling(*sides, *candidate, {});
    if (candidate->grow == by_id) place_slices(made, kept, streamed);
    TileLog writer(kept, candidate->method == destination_tiles, made);
    writer.run();
    return new Schedule{std::move(writer.log), std::move(writer.tiles)};
}

// Finds what an executing buffer needs of a candidate, and no more: the runs of tiles, the order of
// destinations whose rows stay as they are, or the whole log. Returns how much that is.
std::uint64_t hetfab_orders_find(const Sides* sides, const Candidate* candidate) {
    if (candidate->method == as_is) return 0;
    if (candidate->method == walked_destinations) return walk(*sides).destinations.size();
    if (candidate->method == greedy_destinations && !candidate->farthest) {
        return window_order(*sides, candidate->slots - 2).size();
    }
    if (candidate->tiles()) {
        // As a board's DRAM, the pages for the result are there before the call.
        thread_local std::vector<std::uint16_t> space;
        Tiling made = tiling(*sides, *candidate, std::move(space));
        space = std::move(made.places);
        return made.run_ends.size() + most_reused(made, tile_sides(*sides, *candidate).kept.columns).size();
    }
    return untiled(*sides, *candidate).at.size();
}

// The row of `rows` whose order has the fewest predicted bytes.
void hetfab_orders_choose(const Sides* sides, const Price* price, const OrderPrice* rows, std::uint32_t count,
                          Offer* offer) {
    *offer = choose(*sides, *price, count, rows, [&](const Chooser& chooser, std::uint32_t row) {
        const OrderPrice& order = rows[row];
        const bool by_degree = order.grow == fewest_edges_first || order.grow == most_edges_first;
        const bool destinations = order.method == destination_tiles;
        if (destinations || order.method == source_tiles)
            return chooser.with_tiles(order, destinations, by_degree);
        return chooser.without_tiles(order, order.method == as_is);
    });
}

// A given order of edges in the buffer: by least recent use where `farthest` is 0.
Schedule* hetfab_orders_replay(const Sides* sides, const Id* sources, const Id* destinations,
                               const Candidate* candidate) {
    const Id edges = sides->edges();
    const EdgeOrder order{{sources, sources + edges}, {destinations, destinations + edges}};
    return new Schedule{replay(*sides, order, *candidate), {}};
}

void hetfab_orders_sizes(const Schedule* schedule, std::uint64_t* events, std::uint64_t* tiles) {
    *events = schedule->log.at.size();
    *tiles = schedule->tiles.size();
}

void hetfab_orders_copy(const Schedule* schedule, Id* sources, Id* destinations, Id* at, Id* vertices,
                        std::uint8_t* leaves, Id* tiles) {
    const auto copy = [](const auto& from, auto* to) {
        if (!from.empty()) std::memcpy(to, from.data(), from.size() * sizeof from[0]);
    };
    copy(schedule->log.sources, sources);
    copy(schedule->log.destinations, destinations);
    copy(schedule->log.at, at);
    copy(schedule->log.vertices, vertices);
    copy(schedule->log.leaves, leaves);
    copy(schedule->tiles, tiles);
}

void hetfab_orders_free(Schedule* schedule) { delete schedule; }

// Matches from the rows: the column of each row, which columns are dead, and the edge visits.
std::uint32_t hetfab_orders_match(const Csr* graph, Id* column_of_row, std::uint8_t* dead,
                                  std::uint64_t* edge_visits) {
    const Matching found = match(*graph);
    std::memcpy(column_of_row, found.column_of_row.data(), found.column_of_row.size() * sizeof(Id));
    std::memcpy(dead, found.dead.data(), found.dead.size());
    *edge_visits = found.edge_visits;
    return found.size;
}
}
