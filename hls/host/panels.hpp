// SPDX-License-Identifier: Apache-2.0
// Weights in the order in which a Lanes class takes them, kept while the memory that they came from does not
// change; and the product of rows of bytes with them.
#pragma once

#include <array>
#include <cstdint>
#include <cstring>
#include <utility>
#include <vector>

#include "lanes.hpp"
#include "words_cache.hpp"

namespace hetfab {

namespace {

// Columns of a unit. Weights are unpacked unit by unit: for every 4 channels, 4 bytes of each column.
constexpr unsigned unit_columns = 8;
using UnitStep = std::array<std::uint32_t, unit_columns>;

// A cache line: vectors that begin with one are loaded by one access.
struct alignas(64) Line {
    unsigned char bytes[64];
};

// Panels of two vectors of columns; of an odd number of vectors the last one is a panel. A panel has all
// channels of its columns, step by step, so that one stream of addresses serves a block.
template <class Lanes>
struct Panels {
    unsigned channels;
    unsigned columns;
    std::vector<Line> weights;
    // What each column's sums begin with.
    std::vector<std::int32_t> base;

    static constexpr unsigned step_bytes = 4 * Lanes::columns;

    Panels(unsigned unit_steps, unsigned units)
        : channels(4 * unit_steps),
          columns(unit_columns * units),
          weights((vectors() * vector_bytes() + sizeof(Line) - 1) / sizeof(Line)),
          base(vectors() * Lanes::columns) {}

    unsigned vectors() const { return (columns + Lanes::columns - 1) / Lanes::columns; }
    // The first vector of a panel, and the vectors that it has.
    const unsigned char* panel(unsigned vector) const { return bytes() + vector * vector_bytes(); }
    unsigned width(unsigned vector) const { return vector + 2 <= vectors() ? 2 : 1; }
    // From a row of activations to the next: no power of two, which would put them all in the same sets of a
    // cache.
    std::size_t row_length() const { return std::size_t{channels} + sizeof(Line); }

    // All steps of a unit, of which one vector has a part, or several vectors have one each. `step_of` gives
    // a step by its number.
    template <class StepOf>
    void put(unsigned unit, StepOf step_of) {
        for (unsigned first = 0; first < unit_columns; first += Lanes::columns) {
            const unsigned column = unit * unit_columns + first;
            const unsigned vector = column / Lanes::columns;
            const unsigned vectors_of_panel = width(vector / 2 * 2);
            unsigned char* place = bytes() + vector / 2 * 2 * vector_bytes() + vector % 2 * step_bytes +
                                   column % Lanes::columns * 4;
            for (unsigned step = 0; step < channels / 4; step++) {
                place = put_step(place, vectors_of_panel * step_bytes, step_of(step), first);
            }
        }
    }

  private:
    static constexpr unsigned part = Lanes::columns < unit_columns ? Lanes::columns : unit_columns;

    std::size_t vector_bytes() const { return std::size_t{channels} / Lanes::channels * step_bytes; }
    unsigned char* bytes() { return reinterpret_cast<unsigned char*>(weights.data()); }
    const unsigned char* bytes() const { return reinterpret_cast<const unsigned char*>(weights.data()); }

    static unsigned char* put_step(unsigned char* place, unsigned stride, const UnitStep& step,
                                   unsigned first) {
        if constexpr (Lanes::channels == 4) {
            std::memcpy(place, step.data() + first, 4 * part);
            return place + stride;
        } else {
            std::uint32_t pairs[2][part];
            for (unsigned column = 0; column < part; column++) {
                pairs[0][column] = low_pair(step[first + column]);
                pairs[1][column] = high_pair(step[first + column]);
            }
            std::memcpy(place, pairs[0], sizeof pairs[0]);
            std::memcpy(place + stride, pairs[1], sizeof pairs[1]);
            return place + 2 * stride;
        }
    }
};

// Where sums go: added to what is there or not, after they are cut to their bits.
struct SumPlace {
    std::int32_t* first;
    std::size_t row_length;
    bool accumulate;
    int cut;

    // `count` is Lanes::columns, or less in the last panel.
    template <class Lanes>
    void put(unsigned row, unsigned column, unsigned count, const std::int32_t* base,
             typename Lanes::Sums sums) const {
        std::int32_t* place = first + row * row_length + column;
        sums = Lanes::cut(sums + Lanes::load_sums(base), cut);
        if (count == Lanes::columns) {
            Lanes::store(place, accumulate ? sums + Lanes::load_sums(place) : sums);
            return;
        }
        std::int32_t part[Lanes::columns] = {};
        if (accumulate) std::memcpy(part, place, 4 * std::size_t{count});
        Lanes::store(part, sums + Lanes::load_sums(part));
        std::memcpy(place, part, 4 * std::size_t{count});
    }
};

// The loops over rows and vectors are unrolled as they are read, so that all sums stay in registers.
template <class Lanes, unsigned Rows, unsigned Vectors>
void multiply_block(const typename Lanes::Activation* rows, const Panels<Lanes>& panels, unsigned first,
                    const SumPlace& place, unsigned row) {
    typename Lanes::Sums sums[Rows][Vectors];
#pragma GCC unroll 16
    for (unsigned r = 0; r < Rows; r++) {
#pragma GCC unroll 16
        for (unsigned vector = 0; vector < Vectors; vector++) sums[r][vector] = typename Lanes::Sums{};
    }
    const unsigned char* weights = panels.panel(first);
    const std::size_t row_length = panels.row_length();
    const typename Lanes::Activation* act = rows + row * row_length;
    for (unsigned step = 0; step < panels.channels / Lanes::channels; step++) {
        typename Lanes::Weights loaded[Vectors];
#pragma GCC unroll 16
        for (unsigned vector = 0; vector < Vectors; vector++) {
            loaded[vector] = Lanes::load(weights + vector * Panels<Lanes>::step_bytes);
        }
#pragma GCC unroll 16
        for (unsigned r = 0; r < Rows; r++) {
            const auto value = Lanes::broadcast(act + r * row_length);
#pragma GCC unroll 16
            for (unsigned vector = 0; vector < Vectors; vector++) {
                sums[r][vector] = Lanes::add(sums[r][vector], value, loaded[vector]);
            }
        }
        weights += Vectors * Panels<Lanes>::step_bytes;
        act += Lanes::channels;
    }
#pragma GCC unroll 16
    for (unsigned vector = 0; vector < Vectors; vector++) {
        const unsigned column = (first + vector) * Lanes::columns;
        const unsigned left = panels.columns - column;
        const unsigned count = left < Lanes::columns ? left : Lanes::columns;
#pragma GCC unroll 16
        for (unsigned r = 0; r < Rows; r++) {
            place.put<Lanes>(row + r, column, count, panels.base.data() + column, sums[r][vector]);
        }
    }
}

template <class Lanes>
using Block = void (*)(const typename Lanes::Activation*, const Panels<Lanes>&, unsigned, const SumPlace&,
                       unsigned);

// The blocks of 1 to block_rows rows, by their rows less one.
template <class Lanes, unsigned Vectors, unsigned... Less>
constexpr std::array<Block<Lanes>, sizeof...(Less)> blocks_of(std::integer_sequence<unsigned, Less...>) {
    return {multiply_block<Lanes, Less + 1, Vectors>...};
}

// All rows times a panel, in blocks of about equal size: small ones take as many cycles as larger ones.
template <class Lanes, unsigned Vectors>
void multiply_panel(const typename Lanes::Activation* acts, unsigned rows, const Panels<Lanes>& panels,
                    unsigned first, const SumPlace& place) {
    static constexpr auto blocks =
        blocks_of<Lanes, Vectors>(std::make_integer_sequence<unsigned, Lanes::block_rows>());
    unsigned left = (rows + Lanes::block_rows - 1) / Lanes::block_rows;
    for (unsigned row = 0; row < rows; left--) {
        const unsigned count = (rows - row + left - 1) / left;
        blocks[count - 1](acts, panels, first, place, row);
        row += count;
    }
}

// Rows of activations, row_length() apart, times the panels.
template <class Lanes>
void multiply(const typename Lanes::Activation* acts, unsigned rows, const Panels<Lanes>& panels,
              const SumPlace& place) {
    for (unsigned first = 0; first < panels.vectors(); first += 2) {
        if (panels.width(first) == 2) {
            multiply_panel<Lanes, 2>(acts, rows, panels, first, place);
        } else {
            multiply_panel<Lanes, 1>(acts, rows, panels, first, place);
        }
    }
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
using PanelCache = WordsCache<WeightKey, Panels<HostLanes>>;

}  // namespace

}  // namespace hetfab
