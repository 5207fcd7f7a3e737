// SPDX-License-Identifier: Apache-2.0
// Weights in the order in which a Lanes class takes them, kept while the memory that they came from does not change;
// and the product of rows of bytes with them.
#pragma once

#include <array>
#include <cstdint>
#include <cstring>
#include <list>
#include <utility>
#include <vector>

#include "lanes.hpp"

namespace hetfab {

namespace {

// Columns of a unit. Weights are unpacked unit by unit: for every 4 channels, 4 bytes of each column.
constexpr unsigned unit_columns = 8;
using UnitStep = std::array<std::uint32_t, unit_columns>;

// `columns / Lanes::columns` panels, rounded up; a panel has all channels of its columns, step by step.
template <class Lanes>
struct Panels {
    unsigned channels = 0;
    unsigned columns = 0;
    std::vector<unsigned char> weights;
    // What each column's sums begin with.
    std::vector<std::int32_t> base;

    static constexpr unsigned step_bytes = 4 * Lanes::columns;

    Panels(unsigned unit_steps, unsigned units)
        : channels(4 * unit_steps), columns(unit_columns * units), weights(count() * panel_bytes()), base(count() * Lanes::columns) {}

    unsigned count() const { return (columns + Lanes::columns - 1) / Lanes::columns; }
    std::size_t panel_bytes() const { return std::size_t{channels} / Lanes::channels * step_bytes; }
    const unsigned char* panel(unsigned number) const { return weights.data() + number * panel_bytes(); }

    // All steps of a unit, of which one panel has a part, or several panels have one each.
    void put(unsigned unit, const UnitStep* steps) {
        for (unsigned first = 0; first < unit_columns; first += Lanes::columns) {
            const unsigned column = unit * unit_columns + first;
            unsigned char* place = weights.data() + column / Lanes::columns * panel_bytes() +
                                   column % Lanes::columns * 4;
            for (unsigned step = 0; step < channels / 4; step++) place = put_step(place, steps[step], first);
        }
    }

  private:
    static constexpr unsigned width = Lanes::columns < unit_columns ? Lanes::columns : unit_columns;

    static unsigned char* put_step(unsigned char* place, const UnitStep& step, unsigned first) {
        if constexpr (Lanes::channels == 4) {
            std::memcpy(place, step.data() + first, 4 * width);
            return place + step_bytes;
        } else {
            std::uint32_t pairs[2][width];
            for (unsigned column = 0; column < width; column++) {
                pairs[0][column] = low_pair(step[first + column]);
                pairs[1][column] = high_pair(step[first + column]);
            }
            std::memcpy(place, pairs[0], sizeof pairs[0]);
            std::memcpy(place + step_bytes, pairs[1], sizeof pairs[1]);
            return place + 2 * step_bytes;
        }
    }
};

// Where sums go: added to what is there or not, after they are cut to their bits.
struct SumPlace {
    std::int32_t* first;
    std::size_t row_length;
    bool accumulate;
    unsigned cut;

    void put(unsigned row, unsigned column, unsigned count, const std::int32_t* base, const std::int32_t* sums) const {
        std::int32_t* place = first + row * row_length + column;
        for (unsigned i = 0; i < count; i++) {
            const std::uint32_t sum = static_cast<std::uint32_t>(base[i]) + static_cast<std::uint32_t>(sums[i]);
            const std::uint32_t value = static_cast<std::uint32_t>(static_cast<std::int32_t>(sum << cut) >> cut);
            place[i] = static_cast<std::int32_t>(accumulate ? static_cast<std::uint32_t>(place[i]) + value : value);
        }
    }
};

template <class Lanes, unsigned Rows, unsigned Vectors>
void multiply_block(const typename Lanes::Activation* rows, const Panels<Lanes>& panels, unsigned panel,
                    const SumPlace& place, unsigned row) {
    typename Lanes::Sums sums[Rows][Vectors];
    for (auto& row_sums : sums) {
        for (auto& sum : row_sums) sum = Lanes::zero();
    }
    const unsigned char* weights = panels.panel(panel);
    const typename Lanes::Activation* act = rows + std::size_t{row} * panels.channels;
    for (unsigned step = 0; step < panels.channels / Lanes::channels; step++) {
        typename Lanes::Weights loaded[Vectors];
        for (unsigned vector = 0; vector < Vectors; vector++) {
            loaded[vector] = Lanes::load(weights + vector * panels.panel_bytes());
        }
        for (unsigned r = 0; r < Rows; r++) {
            const auto value = Lanes::broadcast(act + std::size_t{r} * panels.channels);
            for (unsigned vector = 0; vector < Vectors; vector++) {
                sums[r][vector] = Lanes::add(sums[r][vector], value, loaded[vector]);
            }
        }
        weights += Panels<Lanes>::step_bytes;
        act += Lanes::channels;
    }
    for (unsigned r = 0; r < Rows; r++) {
        for (unsigned vector = 0; vector < Vectors; vector++) {
            std::int32_t found[Lanes::columns];
            Lanes::store(found, sums[r][vector]);
            const unsigned column = (panel + vector) * Lanes::columns;
            const std::int32_t* base = panels.base.data() + column;
            // A number that the compiler knows makes it a few vector instructions.
            if (column + Lanes::columns <= panels.columns) {
                place.put(row + r, column, Lanes::columns, base, found);
            } else {
                place.put(row + r, column, panels.columns - column, base, found);
            }
        }
    }
}

// Rows row..rows-1 in blocks of `Rows`, the rest in smaller ones.
template <class Lanes, unsigned Rows, unsigned Vectors>
void multiply_rows(const typename Lanes::Activation* acts, unsigned row, unsigned rows, const Panels<Lanes>& panels,
                   unsigned panel, const SumPlace& place) {
    for (; row + Rows <= rows; row += Rows) multiply_block<Lanes, Rows, Vectors>(acts, panels, panel, place, row);
    if constexpr (Rows > 1) multiply_rows<Lanes, Rows / 2, Vectors>(acts, row, rows, panels, panel, place);
}

// rows x channels activations times the panels.
template <class Lanes>
void multiply(const typename Lanes::Activation* acts, unsigned rows, const Panels<Lanes>& panels,
              const SumPlace& place) {
    unsigned panel = 0;
    for (; panel + 2 <= panels.count(); panel += 2) {
        multiply_rows<Lanes, Lanes::block_rows, 2>(acts, 0, rows, panels, panel, place);
    }
    if (panel < panels.count()) multiply_rows<Lanes, Lanes::block_rows, 1>(acts, 0, rows, panels, panel, place);
}

// The sum of each column's weights: the product with a row of ones.
template <class Lanes>
std::vector<std::int32_t> column_sums(const Panels<Lanes>& panels) {
    const std::vector<typename Lanes::Activation> ones(panels.channels, 1);
    std::vector<std::int32_t> sums(panels.columns);
    multiply(ones.data(), 1, panels, {sums.data(), panels.columns, false, 0});
    return sums;
}

// What a tile's weights are: the words that hold them and how they are packed.
struct WeightKey {
    unsigned first;
    unsigned words;
    unsigned col_groups;
    unsigned planes;
    unsigned slices;
    bool nibbles;
    bool bipolar;

    bool operator==(const WeightKey& other) const {
        return first == other.first && words == other.words && col_groups == other.col_groups &&
               planes == other.planes && slices == other.slices && nibbles == other.nibbles &&
               bipolar == other.bipolar;
    }
};

// The panels of a memory's last few tiles of weights: those of the layer's slots, whatever rows they meet.
class PanelCache {
  public:
    // Words were written: what came from them is no more.
    void written(std::uint64_t first, std::uint64_t count) {
        kept_.remove_if([&](const Kept& kept) {
            return kept.key.first < first + count && first < std::uint64_t{kept.key.first} + kept.key.words;
        });
    }
    void clear() { kept_.clear(); }

    template <class Make>
    const Panels<HostLanes>& get(const WeightKey& key, Make make) {
        for (auto found = kept_.begin(); found != kept_.end(); ++found) {
            if (!(found->key == key)) continue;
            kept_.splice(kept_.begin(), kept_, found);
            return kept_.front().panels;
        }
        kept_.push_front({key, make()});
        if (kept_.size() > most) kept_.pop_back();
        return kept_.front().panels;
    }

  private:
    static constexpr std::size_t most = 4;

    struct Kept {
        WeightKey key;
        Panels<HostLanes> panels;
    };
    std::list<Kept> kept_;
};

}  // namespace

}  // namespace hetfab
