// SPDX-License-Identifier: Apache-2.0
// The C interface of the host's restructurer, which restructure.py calls.
#include <cstring>
#include <memory>

#include "host/graph/resident.hpp"
#include "host/graph/subgraphs.hpp"
#include "host/graph/tiles.hpp"
#include "host/graph/window.hpp"

namespace {

using namespace hetfab::orders;

// As restructure.py's Method.
enum Method : std::uint32_t {
    as_is,
    subgraphs_by_source,
    subgraphs_by_destination,
    destination_tiles,
    source_tiles,
    resident,
    greedy_destinations,
};

enum Grow : std::uint32_t { by_id, fewest_edges, most_edges };

struct Candidate {
    std::uint32_t method;
    std::uint32_t slots;
    // Of tiles.
    std::uint32_t grow;
    // Of greedy and farthest use: what giving up an accumulator costs against a feature.
    std::uint32_t accumulator_weight;
    // Whether vertices of a greedy order leave by their farthest use.
    std::uint32_t farthest;
};

struct Schedule {
    Log log;
    std::vector<Id> tiles;
};

Schedule tiled(const Sides& sides, const Candidate& candidate, bool destinations) {
    const Csr& kept = destinations ? sides.by_destination : sides.by_source;
    const Csr& streamed = destinations ? sides.by_source : sides.by_destination;
    const TileShape shape = balanced_tiles(active_rows(kept), candidate.slots);
    const std::vector<Id> order =
        candidate.grow == by_id
            ? order_by_id(kept)
            : grown_order(kept, streamed, shape.kept,
                          candidate.grow == fewest_edges ? Seed::fewest_edges : Seed::most_edges);
    TileWriter writer(kept, destinations, order, shape);
    writer.run();
    return {std::move(writer.log), std::move(writer.tiles)};
}

Log again(const Sides& sides, Log greedy, const Candidate& candidate) {
    if (!candidate.farthest) return greedy;
    const EdgeOrder order{std::move(greedy.sources), std::move(greedy.destinations)};
    return replay_farthest_use(sides, order, candidate.slots, candidate.accumulator_weight);
}

Log untiled(const Sides& sides, const Candidate& candidate) {
    switch (candidate.method) {
        case as_is:
            return replay_least_recent(sides, by_destination(sides, order_by_id(sides.by_destination)),
                                       candidate.slots);
        case resident:
            return again(sides, resident_set(sides, candidate.slots, candidate.accumulator_weight),
                         candidate);
        case greedy_destinations:
            return replay_farthest_use(sides,
                                       by_destination(sides, window_order(sides, candidate.slots - 2)),
                                       candidate.slots, candidate.accumulator_weight);
        default:
            return replay_farthest_use(sides,
                                       three_subgraphs(sides, least_cover(sides), walk(sides),
                                                       candidate.method == subgraphs_by_source),
                                       candidate.slots, candidate.accumulator_weight);
    }
}

}  // namespace

extern "C" {

// An order of the graph's edges; hetfab_orders_free gives it back.
Schedule* hetfab_orders_make(const Sides* sides, const Candidate* candidate) {
    const bool destinations = candidate->method == destination_tiles;
    if (destinations || candidate->method == source_tiles) {
        return new Schedule(tiled(*sides, *candidate, destinations));
    }
    return new Schedule{untiled(*sides, *candidate), {}};
}

// A given order of edges in the buffer: by least recent use where `farthest` is 0.
Schedule* hetfab_orders_replay(const Sides* sides, const Id* sources, const Id* destinations,
                               const Candidate* candidate) {
    const Id edges = sides->edges();
    const EdgeOrder order{{sources, sources + edges}, {destinations, destinations + edges}};
    if (!candidate->farthest) return new Schedule{replay_least_recent(*sides, order, candidate->slots), {}};
    return new Schedule{
        replay_farthest_use(*sides, order, candidate->slots, candidate->accumulator_weight), {}};
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
