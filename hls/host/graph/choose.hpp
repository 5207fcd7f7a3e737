// SPDX-License-Identifier: Apache-2.0
// Chooses an order by its price, as overlay/restructure/choose.py defines it: traffic is predicted from
// degrees alone, so that the choice costs a look at each vertex.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

#include "resident.hpp"

namespace hetfab::orders {

// A row of prices.json: what an order leaves of the avoidable traffic, and what finding it costs.
struct OrderPrice {
    std::uint32_t method;
    std::uint32_t grow;
    double share;
    double share_octave;
    double edge_ns;
    double vertex_ns;
    double run_ns;
    double look_ns;
    double sampled_ns;
    double visit_ns;
    // Of the engine; no order of its own where a vertex takes no cycles. What cutting tiles takes beside it.
    double engine_edge_cycles;
    double engine_vertex_cycles;
    double engine_sampled_cycles;
    double engine_visit_cycles;
    double engine_edge_ns;
    double engine_run_ns;
};

struct Price {
    double slots;
    double feature_bytes;
    double accumulator_bytes;
    double result_bytes;
    double passes;
    // What DRAM could move while the board does what takes the host a nanosecond.
    double bytes_per_host_ns;
    // The same while the engine has a cycle, and the largest graph that it takes; 0 where there is none.
    double bytes_per_cycle;
    double engine_vertices;
    double least_vertex_ns;
    double clearly;
};

struct Offer {
    std::uint32_t row;
    std::uint32_t by_engine;
    double pass_bytes;
    double order_bytes;
};

namespace {

// Vertices by degree in half octaves.
class DegreeClasses {
  public:
    explicit DegreeClasses(const Csr& graph) {
        for (Id row = 0; row < graph.rows; row++) {
            const Id degree = graph.degree(row);
            if (degree == 0) continue;
            const std::size_t number = log2_q8(degree) >> 7;
            edges_[number] += degree;
            vertices_[number] += 1;
        }
        for (std::size_t number = 0; number < most; number++) {
            if (vertices_[number] == 0) continue;
            active += vertices_[number];
            degree_[used_] = edges_[number] / vertices_[number];
            vertices_[used_++] = vertices_[number];
        }
    }

    // Sum over vertices of what `of` makes of a degree.
    template <class Of>
    double sum(const Of& of) const {
        double total = 0;
        for (std::size_t number = 0; number < used_; number++) {
            total += vertices_[number] * of(degree_[number]);
        }
        return total;
    }

    // Calls `of` with mean degree, vertices, and whether this is the last class, fewest edges first.
    template <class Of>
    void each(const Of& of) const {
        for (std::size_t number = 0; number < used_; number++) {
            of(degree_[number], vertices_[number], number + 1 == used_);
        }
    }

    double active = 0;

  private:
    static constexpr std::size_t most = 64;

    std::array<double, most> edges_ = {};
    std::array<double, most> vertices_ = {};
    std::array<double, most> degree_ = {};
    std::size_t used_ = 0;
};

// Edges for which a least-recently-used buffer holds a vertex (H. Che, Y. Tung, Z. Wang, 2002).
inline double characteristic_time(const DegreeClasses& classes, double edges, double slots) {
    if (classes.active <= slots) return std::numeric_limits<double>::infinity();
    double low = slots;
    double high = slots * edges;
    for (unsigned halving = 0; halving < 14; halving++) {
        const double time = std::sqrt(low * high);
        const double held = classes.sum([&](double degree) { return -std::expm1(-degree / edges * time); });
        (held < slots ? low : high) = time;
    }
    return low;
}

// Tiles of one side with neighbours drawn at random.
class Tiles {
  public:
    Tiles(const DegreeClasses& kept_classes, const DegreeClasses& streamed_classes, Id others, double slots)
        : kept(kept_classes.active),
          streamed(streamed_classes.active),
          tiles(std::max(1.0, std::ceil(kept / (slots - 1)))),
          looks(tiles * others),
          kept_classes_(kept_classes),
          streamed_classes_(streamed_classes),
          away_(tiles > 1 ? -std::log1p(-1 / tiles) : std::numeric_limits<double>::infinity()) {}

    // Streamed vertices that tiles meet when they take what comes.
    double at_random() const { return tiles * met(away_); }
    // The same when tiles are filled by degree: classes are put together until they fill one.
    double by_degree(double edges) const {
        if (tiles == 1) return streamed;
        double found = 0;
        double vertices = 0;
        double share = 0;
        kept_classes_.each([&](double degree, double count, bool last) {
            vertices += count;
            share += count * degree / edges;
            if (vertices * tiles < kept && !last) return;
            const double filled = std::max(1.0, vertices * tiles / kept);
            found += filled * met(share / filled);
            vertices = share = 0;
        });
        return std::max(streamed, found);
    }
    // Edges of the vertices that tiles meet.
    double visits() const {
        return tiles *
               streamed_classes_.sum([&](double degree) { return degree * -std::expm1(-degree * away_); });
    }

    const double kept;
    const double streamed;
    const double tiles;
    const double looks;

  private:
    double met(double share) const {
        return streamed_classes_.sum([&](double degree) { return -std::expm1(-degree * share); });
    }

    const DegreeClasses& kept_classes_;
    const DegreeClasses& streamed_classes_;
    double away_;
};

class Chooser {
  public:
    Chooser(const Sides& sides, const Price& price)
        : sides_(sides),
          price_(price),
          sources_(sides.by_source),
          destinations_(sides.by_destination),
          time_(characteristic_time(sources_, edges(), price.slots - 1)),
          as_is_(std::max(sources_.active, sources_.sum([&](double degree) { return misses(degree); }))),
          octaves_(std::log2(2 * edges() / std::max(1.0, sources_.active + destinations_.active))),
          destination_tiles_(destinations_, sources_, sides.sources(), price.slots),
          source_tiles_(sources_, destinations_, sides.destinations(), price.slots) {}

    // Bytes of features that the order as it is reads more than once, and of lists beyond the shortest.
    double avoidable() const {
        const double fewest = std::min(2 * edges(), sources_.active * destinations_.active / 8);
        return (as_is_ - sources_.active) * price_.feature_bytes + numbers() - fewest;
    }
    // Bytes of vectors that every order moves.
    double least() const {
        return sources_.active * price_.feature_bytes + destinations_.active * price_.result_bytes;
    }
    // What an order costs at least.
    double least_cost(const OrderPrice& row) const { return cost(row, {}).bytes; }

    // `row` is one of as_is, walked or greedy destinations.
    Offer without_tiles(const OrderPrice& row, bool as_is) const {
        const double again = share(row) * (as_is_ - sources_.active) * price_.feature_bytes;
        const double listed = numbers() + (as_is ? 0 : 2) * destinations_.active;
        Work work;
        if (row.visit_ns != 0) {
            look_at(work, stride(16, destinations_.active),
                    sources_.sum([&](double degree) { return degree * std::max(1.0, misses(degree)); }));
        }
        return offer(again + least() + listed, cost(row, work));
    }

    Offer with_tiles(const OrderPrice& row, bool keeps_destinations, bool by_degree) const {
        const Tiles& tiles = keeps_destinations ? destination_tiles_ : source_tiles_;
        const double random = by_degree ? tiles.by_degree(edges()) : tiles.at_random();
        const double met = tiles.streamed + share(row) * (random - tiles.streamed);
        const double again = keeps_destinations ? price_.feature_bytes : 2 * price_.accumulator_bytes;
        const double listed = std::min(2 * edges() + 2 * met, met * std::ceil(tiles.kept / tiles.tiles / 8)) +
                              2 * (met + tiles.kept);
        Work work;
        work.runs = met;
        work.looks = tiles.looks;
        if (row.visit_ns != 0) look_at(work, stride(32, tiles.kept), tiles.visits());
        return offer(least() + (met - tiles.streamed) * again + listed, cost(row, work));
    }

  private:
    // What finding an order looks at, beside edges and vertices.
    struct Work {
        double runs = 0;
        double looks = 0;
        double sampled = 0;
        double visits = 0;
    };
    struct OrderCost {
        double bytes;
        bool by_engine;
    };

    // Of the processor or of the engine, whichever is cheaper.
    OrderCost cost(const OrderPrice& row, const Work& work) const {
        const double vertices = sides_.vertices();
        const double host_ns = row.edge_ns * edges() + row.vertex_ns * vertices + row.run_ns * work.runs +
                               row.look_ns * work.looks + row.sampled_ns * work.sampled +
                               row.visit_ns * work.visits;
        const double by_processor = host_ns * price_.bytes_per_host_ns;
        const bool takes = std::max(sides_.sources(), sides_.destinations()) <= price_.engine_vertices;
        if (row.engine_vertex_cycles == 0 || price_.bytes_per_cycle == 0 || !takes)
            return {by_processor, false};
        const double cycles = row.engine_edge_cycles * edges() + row.engine_vertex_cycles * vertices +
                              row.engine_sampled_cycles * work.sampled +
                              row.engine_visit_cycles * work.visits;
        const double rest_ns = row.engine_edge_ns * edges() + row.engine_run_ns * work.runs;
        const double by_engine = cycles * price_.bytes_per_cycle + rest_ns * price_.bytes_per_host_ns;
        return {std::min(by_processor, by_engine), by_engine < by_processor};
    }
    Offer offer(double pass_bytes, const OrderCost& cost) const {
        return {0, cost.by_engine, pass_bytes, cost.bytes};
    }
    double edges() const { return sides_.edges(); }
    // How often a vertex of this degree enters a least-recently-used buffer.
    double misses(double degree) const { return degree * std::exp(-degree / edges() * time_); }
    double share(const OrderPrice& row) const {
        return std::clamp(row.share + row.share_octave * octaves_, 0.0, 1.0);
    }
    // Bytes of the lists of the graph as it is.
    double numbers() const {
        const double kept = destinations_.active;
        return std::min(2 * edges() + 2 * kept, kept * std::ceil(sides_.sources() / 8.0));
    }
    double stride(double sampled, double rows) const {
        return std::max(1.0, std::floor(edges() / (sampled * std::max(1.0, rows))));
    }
    void look_at(Work& work, double stride, double visits) const {
        work.sampled = edges() / stride;
        work.visits = std::max(0.0, visits / stride - work.sampled);
    }

    const Sides& sides_;
    const Price& price_;
    DegreeClasses sources_;
    DegreeClasses destinations_;
    double time_;
    double as_is_;
    // log2 of the mean degree of both sides.
    double octaves_;
    Tiles destination_tiles_;
    Tiles source_tiles_;
};

}  // namespace

// The first row is the order as it is; `judge` gives a row's offer. Nothing is judged where no order could
// pay.
template <class Judge>
Offer choose(const Sides& sides, const Price& price, std::uint32_t rows, const OrderPrice* prices,
             const Judge& judge) {
    const double edges = sides.edges();
    const double smaller = std::min(sides.sources(), sides.destinations());
    const double least = price.least_vertex_ns * smaller * price.bytes_per_host_ns;
    const double features = std::max(0.0, edges - sides.sources()) * price.feature_bytes;
    if (least >= price.passes * (features + 2 * edges)) return {0, 0, 0, 0};
    const Chooser chooser(sides, price);
    if (least >= price.passes * chooser.avoidable()) return {0, 0, 0, 0};
    const auto total = [&](const Offer& offer) {
        return price.passes * offer.pass_bytes + offer.order_bytes;
    };
    const Offer as_is = judge(chooser, 0);
    Offer best = as_is;
    for (std::uint32_t row = 1; row < rows; row++) {
        // What costs more than all that any order saves need not be predicted.
        if (price.passes * chooser.least() + chooser.least_cost(prices[row]) >= total(best)) continue;
        Offer offer = judge(chooser, row);
        offer.row = row;
        if (total(offer) < price.clearly * total(as_is) && total(offer) < total(best)) best = offer;
    }
    return best;
}

}  // namespace hetfab::orders
