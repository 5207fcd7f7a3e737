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
    double edge_ns;
    double vertex_ns;
    double run_ns;
    double look_ns;
    double visit_ns;
    double sampled_ns;
};

struct Price {
    double slots;
    double feature_bytes;
    double accumulator_bytes;
    double result_bytes;
    double passes;
    // What DRAM could move while the board does what takes the host a nanosecond.
    double bytes_per_host_ns;
    double least_vertex_ns;
    double clearly;
};

struct Offer {
    std::uint32_t row;
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

    double active = 0;

  private:
    static constexpr std::size_t most = 64;

    std::array<double, most> edges_ = {};
    std::array<double, most> vertices_ = {};
    std::array<double, most> degree_ = {};
    std::size_t used_ = 0;
};

// Misses of a least-recently-used buffer by its characteristic time (H. Che, Y. Tung, Z. Wang, 2002).
inline double missed(const DegreeClasses& classes, double edges, double slots) {
    if (classes.active <= slots) return classes.active;
    double low = slots;
    double high = slots * edges;
    for (unsigned halving = 0; halving < 14; halving++) {
        const double time = std::sqrt(low * high);
        const double held = classes.sum([&](double degree) { return -std::expm1(-degree / edges * time); });
        (held < slots ? low : high) = time;
    }
    return classes.sum([&](double degree) { return degree * std::exp(-degree / edges * low); });
}

// Streamed vertices that tiles meet when neighbours are drawn at random.
inline double distinct(const DegreeClasses& classes, double tiles) {
    if (tiles == 1) return classes.active;
    const double away = std::log1p(-1 / tiles);
    return tiles * classes.sum([&](double degree) { return -std::expm1(degree * away); });
}

// Edges that growing tiles looks at.
inline double visits(const DegreeClasses& classes, double tiles, double stride) {
    const double away = tiles > 1 ? std::log1p(-1 / tiles) : -std::numeric_limits<double>::infinity();
    return tiles / stride * classes.sum([&](double degree) { return degree * -std::expm1(degree * away); });
}

class Chooser {
  public:
    Chooser(const Sides& sides, const Price& price)
        : sides_(sides), price_(price), sources_(sides.by_source), destinations_(sides.by_destination) {
        as_is_ = std::max(sources_.active, missed(sources_, edges(), price.slots - 1));
    }

    // Features that the order as it is reads more than once.
    double avoidable() const { return as_is_ - sources_.active; }

    // `row` is one of as_is, walked or greedy destinations.
    Offer without_tiles(const OrderPrice& row) const {
        const double features = sources_.active + row.share * (as_is_ - sources_.active);
        const double kept = destinations_.active;
        const double numbers = std::min(2 * edges() + 2 * kept, kept * std::ceil(sides_.sources() / 8.0));
        const double listed = numbers + (row.share == 1 ? 0 : 2) * kept;
        const double moved = features * price_.feature_bytes + kept * price_.result_bytes;
        const double sampled = edges() / stride(16, kept);
        return offer(moved + listed, row.sampled_ns * sampled, row);
    }

    Offer with_tiles(const OrderPrice& row, bool keeps_destinations) const {
        const DegreeClasses& classes = keeps_destinations ? sources_ : destinations_;
        const double kept = keeps_destinations ? destinations_.active : sources_.active;
        const double others = keeps_destinations ? sides_.sources() : sides_.destinations();
        const double tiles = std::max(1.0, std::ceil(kept / (price_.slots - 1)));
        const double met = classes.active + row.share * (distinct(classes, tiles) - classes.active);
        const double moved =
            sources_.active * price_.feature_bytes + destinations_.active * price_.result_bytes;
        const double again = keeps_destinations ? price_.feature_bytes : 2 * price_.accumulator_bytes;
        const double listed =
            std::min(2 * edges() + 2 * met, met * std::ceil(kept / tiles / 8)) + 2 * met + 2 * kept;
        double work = row.run_ns * met + row.look_ns * tiles * others;
        if (row.visit_ns != 0) work += row.visit_ns * visits(classes, tiles, stride(32, kept));
        return offer(moved + (met - classes.active) * again + listed, work, row);
    }

  private:
    double edges() const { return sides_.edges(); }
    double stride(double sampled, double rows) const {
        return std::max(1.0, std::floor(edges() / (sampled * std::max(1.0, rows))));
    }
    Offer offer(double pass_bytes, double work, const OrderPrice& row) const {
        const double vertices = sides_.vertices();
        const double host_ns = row.edge_ns * edges() + row.vertex_ns * vertices + work;
        return {0, pass_bytes, host_ns * price_.bytes_per_host_ns};
    }

    const Sides& sides_;
    const Price& price_;
    DegreeClasses sources_;
    DegreeClasses destinations_;
    double as_is_ = 0;
};

}  // namespace

// The first row is the order as it is; `judge` gives a row's offer. Nothing is judged where no order could
// pay.
template <class Judge>
Offer choose(const Sides& sides, const Price& price, std::uint32_t rows, const Judge& judge) {
    const double smaller = std::min(sides.sources(), sides.destinations());
    const double least = price.least_vertex_ns * smaller * price.bytes_per_host_ns;
    const auto pays = [&](double features) { return least < price.passes * features * price.feature_bytes; };
    if (!pays(std::max(0.0, double(sides.edges()) - sides.sources()))) return {0, 0, 0};
    const Chooser chooser(sides, price);
    if (!pays(chooser.avoidable())) return {0, 0, 0};
    const auto total = [&](const Offer& offer) {
        return price.passes * offer.pass_bytes + offer.order_bytes;
    };
    const Offer as_is = judge(chooser, 0);
    Offer best = as_is;
    for (std::uint32_t row = 1; row < rows; row++) {
        Offer offer = judge(chooser, row);
        offer.row = row;
        if (total(offer) < price.clearly * total(as_is) && total(offer) < total(best)) best = offer;
    }
    return best;
}

}  // namespace hetfab::orders
