// SPDX-License-Identifier: Apache-2.0
// Host bodies of both GEMM cores: operands are unpacked to bytes, unsigned activations times signed weights,
// and multiplied by one routine. What turns them into the cores' operands is a constant of each column.
#pragma once

#include <cstdint>
#include <vector>

#include "hetfab/gemm_d.hpp"
#include "hetfab/gemm_l.hpp"
#include "memories.hpp"
#include "panels.hpp"

namespace hetfab {

namespace {

// A memory of weights, and the panels that were made of them.
template <class T>
using HostWeights = HostCached<T, PanelCache>;

using Activations = std::vector<HostLanes::Activation>;

// The rows of a tile as bytes 0..255, of which GEMM-D's operands are 128 less.
constexpr std::int32_t byte_offset = 128;

// A buffer that keeps its memory from one instruction to the next.
inline HostLanes::Activation* row_buffer(std::size_t size) {
    static thread_local Activations buffer;
    if (buffer.size() < size) buffer.resize(size);
    return buffer.data();
}

// Bytes: signed ones with their top bit flipped are 0..255; so are unsigned ones, whose flip the core undoes.
inline void unpack_bytes(const unsigned char* row, std::size_t bytes, unsigned char flip,
                         HostLanes::Activation* acts) {
    for (std::size_t i = 0; i < bytes; i++) {
        acts[i] = static_cast<HostLanes::Activation>(static_cast<unsigned char>(row[i] ^ flip));
    }
}

// Of every 4 bytes the even channels, then the odd ones: the order of unpack_nibble_weights.
inline void unpack_nibbles(const unsigned char* row, std::size_t bytes, unsigned char flip,
                           HostLanes::Activation* acts) {
    for (std::size_t group = 0; group < bytes / 4; group++) {
        for (unsigned i = 0; i < 4; i++) {
            const unsigned pair = row[4 * group + i];
            acts[8 * group + i] = static_cast<HostLanes::Activation>((pair & 15) ^ flip);
            acts[8 * group + 4 + i] = static_cast<HostLanes::Activation>(pair >> 4 ^ flip);
        }
    }
}

// One slice of a row of GEMM-L, channel by channel.
inline void unpack_slice(const unsigned char* row, std::size_t bytes, unsigned char flip,
                         HostLanes::Activation* acts) {
    for (std::size_t i = 0; i < bytes; i++) {
        acts[2 * i] = static_cast<HostLanes::Activation>((row[i] & 15) ^ flip);
        acts[2 * i + 1] = static_cast<HostLanes::Activation>(row[i] >> 4 ^ flip);
    }
}

// Two slices of a row: the high and the low halves of bytes.
inline void join_slices(const unsigned char* high, const unsigned char* low, std::size_t bytes,
                        unsigned char flip, HostLanes::Activation* acts) {
    for (std::size_t i = 0; i < bytes; i++) {
        const unsigned even = (high[i] & 15U) << 4 | (low[i] & 15U);
        const unsigned odd = (high[i] & 0xf0U) | low[i] >> 4;
        acts[2 * i] = static_cast<HostLanes::Activation>(even ^ flip << 4);
        acts[2 * i + 1] = static_cast<HostLanes::Activation>(odd ^ flip << 4);
    }
}

// A word's part of a unit as it is: 4 bytes of each column.
inline UnitStep unit_step(const unsigned char* place) {
    UnitStep step;
    std::memcpy(step.data(), place, sizeof step);
    return step;
}

// The even or the odd nibbles of 4 bytes, sign-extended to bytes.
inline UnitStep unpack_nibble_weights(const UnitStep& packed, bool odd) {
    UnitStep step;
    for (unsigned column = 0; column < unit_columns; column++) {
        const std::uint32_t nibbles = packed[column] >> (odd ? 4 : 0) & 0x0f0f0f0fU;
        // 0 to 15 with bit 3 flipped is 8 more than the signed value; no byte borrows from its neighbour.
        step[column] = ((nibbles ^ 0x08080808U) | 0x80808080U) - 0x08080808U;
        step[column] ^= 0x80808080U;
    }
    return step;
}

// GEMM-D's weights: unit by unit, step by step.
template <unsigned Cols>
Panels<HostLanes> gemm_d_panels(const unsigned char* words, const MatmulTile& tile) {
    const unsigned steps = steps_per_beat * tile.row_beats();
    constexpr unsigned parts = Cols / unit_columns;
    Panels<HostLanes> panels(tile.packed ? 2 * steps : steps, tile.col_groups * parts);
    for (unsigned number = 0; number < tile.col_groups * parts; number++) {
        const unsigned char* group =
            words + (std::size_t{number / parts} * steps * parts + number % parts) * sizeof(UnitStep);
        const auto found = [group](unsigned step) { return unit_step(group + std::size_t{step} * 4 * Cols); };
        if (tile.packed) {
            panels.put(number, [found](unsigned step) {
                return unpack_nibble_weights(found(step / 2), step % 2 != 0);
            });
        } else {
            panels.put(number, found);
        }
    }
    const std::vector<std::int32_t> sums = column_sums(panels);
    const std::int32_t offset = tile.packed ? byte_offset / 16 : byte_offset;
    for (unsigned column = 0; column < panels.columns; column++) panels.base[column] = -offset * sums[column];
    return panels;
}

// Adds a plane's bits, `weight` each, to the bytes of 32 channels of a unit.
inline void add_plane(const UnitStep& plane, unsigned weight, UnitStep (&steps)[8]) {
    for (unsigned nibble = 0; nibble < 8; nibble++) {
        for (unsigned column = 0; column < unit_columns; column++) {
            // Copies of 4 bits, 7 apart, have bit i at 8 * i.
            const std::uint32_t bits = (plane[column] >> 4 * nibble & 15) * 0x00204081U & 0x01010101U;
            steps[nibble][column] += bits * weight;
        }
    }
}

// 32 channels of a unit: all planes of a word, the most significant first.
inline void unpack_planes(const unsigned char* place, std::size_t plane_bytes, unsigned planes, bool bipolar,
                          UnitStep* unit) {
    UnitStep steps[8] = {};
    for (unsigned plane = 0; plane < planes; plane++) {
        add_plane(unit_step(place + plane * plane_bytes), 1U << (planes - 1 - plane), steps);
    }
    const std::uint32_t sign = 0x01010101U << (planes - 1);
    for (unsigned nibble = 0; nibble < 8; nibble++) {
        for (unsigned column = 0; column < unit_columns; column++) {
            const std::uint32_t value = steps[nibble][column];
            // Bytes do not borrow from each other: their top bit is set before, and restored after.
            const std::uint32_t extended = ((value ^ sign) | 0x80808080U) - sign;
            const std::uint32_t narrow = planes == 8 ? value : extended ^ 0x80808080U;
            // Bit 1 is +1, bit 0 is -1.
            unit[nibble][column] = bipolar ? ((value * 2 | 0x80808080U) - 0x01010101U) ^ 0x80808080U : narrow;
        }
    }
}

// GEMM-L's weights as bytes.
template <unsigned Cols>
Panels<HostLanes> gemm_l_panels(const unsigned char* words, const PlanesTile& tile) {
    constexpr unsigned parts = Cols / unit_columns;
    const unsigned row_words = tile.row_words();
    Panels<HostLanes> panels(8 * row_words, tile.col_groups * parts);
    std::vector<UnitStep> unit(std::size_t{8} * row_words);
    for (unsigned number = 0; number < tile.col_groups * parts; number++) {
        const std::size_t first = std::size_t{number / parts} * row_words * tile.planes;
        for (unsigned k = 0; k < row_words; k++) {
            const unsigned char* place =
                words + ((first + k * tile.planes) * parts + number % parts) * sizeof(UnitStep);
            unpack_planes(place, 4 * Cols, tile.planes, tile.bipolar, unit.data() + 8 * k);
        }
        panels.put(number, [&unit](unsigned step) { return unit[step]; });
    }
    if (tile.bipolar) {
        // A weight -1 counts the slice's largest value minus the activation.
        const std::int32_t largest = tile.slices == 2 ? 255 : 15;
        const std::vector<std::int32_t> sums = column_sums(panels);
        for (unsigned column = 0; column < panels.columns; column++) {
            panels.base[column] = largest * ((static_cast<std::int32_t>(panels.channels) - sums[column]) / 2);
        }
    }
    return panels;
}

// The words from the first to the last that a strip's pixels take, `slices` words apart.
inline std::uint64_t strip_words(const StripShape& strip, const RowBlocks& blocks, unsigned slices) {
    return std::uint64_t{strip.lines - 1} * strip.line_words +
           std::uint64_t{blocks.count - 1} * strip.step_words + std::uint64_t{slices} * strip.run;
}

// Calls a visitor with each row of a tile, each of its lines, and where in a bank the line's words begin.
template <class Visit>
void for_each_line(const StripShape& strip, const RowBlocks& blocks, unsigned rows, Visit visit) {
    for (unsigned row = 0; row < rows; row++) {
        for (unsigned line = 0; line < strip.lines; line++) {
            const unsigned word =
                strip.act + row / blocks.block_rows * strip.step_words + line * strip.line_words;
            visit(row, line, row % blocks.block_rows, word);
        }
    }
}

inline const HostLanes::Activation* gemm_d_rows(const MatmulTile& tile,
                                                const HostBanks<WordBytes<64>>& act_ram,
                                                std::size_t row_length) {
    const std::size_t bytes = std::size_t{8} * tile.strip.run;
    HostLanes::Activation* acts = row_buffer(tile.rows() * row_length);
    for_each_line(
        tile.strip, tile.blocks, tile.rows(), [&](unsigned row, unsigned line, unsigned bank, unsigned word) {
            const unsigned char* place = act_ram.at(bank, word);
            HostLanes::Activation* to = acts + row * row_length + line * (tile.packed ? 2 : 1) * bytes;
            if (tile.packed) {
                unpack_nibbles(place, bytes, tile.is_unsigned ? 0 : 8, to);
            } else {
                unpack_bytes(place, bytes, tile.is_unsigned ? 0 : 0x80, to);
            }
        });
    return acts;
}

inline const HostLanes::Activation* gemm_l_rows(const PlanesTile& tile,
                                                const HostBanks<WordBytes<128>>& act_ram,
                                                std::size_t row_length) {
    constexpr std::size_t word_bytes = 16;
    HostLanes::Activation* acts = row_buffer(tile.rows() * row_length);
    const unsigned char flip = tile.is_unsigned ? 0 : 8;
    for_each_line(
        tile.strip, tile.blocks, tile.rows(), [&](unsigned row, unsigned line, unsigned bank, unsigned word) {
            const unsigned char* place = act_ram.at(bank, word);
            HostLanes::Activation* to = acts + row * row_length + line * 2 * word_bytes * tile.strip.run;
            if (tile.slices == 1) {
                unpack_slice(place, word_bytes * tile.strip.run, flip, to);
                return;
            }
            for (unsigned k = 0; k < tile.strip.run; k++) {
                const unsigned char* high = place + 2 * k * word_bytes;
                join_slices(high, high + word_bytes, word_bytes, flip, to + 2 * k * word_bytes);
            }
        });
    return acts;
}

inline std::int32_t* accumulators(unsigned char* bytes) { return reinterpret_cast<std::int32_t*>(bytes); }

template <class D, class Z, int ActBits, int Bits, class Events>
Outcome gemm_d_blocks(const MatmulTile& tile, HostBanks<WordBytes<ActBits>> act_ram,
                      HostWeights<WordBytes<Bits>> wgt_ram, HostRam<WordBytes<Bits>> acc_ram,
                      Events& events) {
    const unsigned steps = steps_per_beat * tile.row_beats();
    const unsigned words = tile.col_groups * steps;
    const unsigned sums = tile.rows() * tile.col_groups;
    if (sums == 0 || steps == 0 || tile.blocks.block_rows > D::gemm_d_rows ||
        !act_ram.holds(tile.strip.act, strip_words(tile.strip, tile.blocks, 1)) ||
        !wgt_ram.holds(tile.wgt, words) || !acc_ram.holds(tile.acc, sums)) {
        return gemm_d_blocks<D, Z>(tile, act_ram.plain, wgt_ram.plain, acc_ram.plain, events);
    }
    const WeightKey key = {tile.wgt, words, tile.col_groups, 0, 0, tile.packed, false};
    const Panels<HostLanes>& panels =
        wgt_ram.cache->get(key, [&] { return gemm_d_panels<D::gemm_d_cols>(wgt_ram.at(tile.wgt), tile); });
    multiply(gemm_d_rows(tile, act_ram, panels.row_length()), tile.rows(), panels,
             {accumulators(acc_ram.at(tile.acc)), panels.columns, tile.accumulate, 0});
    const BlockWalk walk(tile.blocks, tile.col_groups, steps, tile.accumulate);
    events.loop(isa::loops::gemm_d_steps, walk.trips());
    events.macs(std::uint64_t{panels.channels} * tile.rows() * panels.columns);
    return {true, sums, (tile.packed ? 2 : 1) * steps * sums};
}

template <class D, class Z, int ActBits, int Bits, class Events>
Outcome gemm_l_blocks(const PlanesTile& tile, HostBanks<WordBytes<ActBits>> act_ram,
                      HostWeights<WordBytes<Bits>> wgt_ram, HostRam<WordBytes<Bits>> acc_ram,
                      Events& events) {
    const unsigned words = tile.col_groups * tile.row_words() * tile.planes;
    const unsigned row_words = tile.slices * tile.row_words();
    const unsigned sums = tile.rows() * tile.col_groups;
    const bool served = sums != 0 && words != 0 && tile.planes <= 8 && (tile.planes == 1 || !tile.bipolar) &&
                        (tile.slices == 1 || tile.slices == 2);
    if (!served || tile.blocks.block_rows > D::gemm_l_rows ||
        !act_ram.holds(tile.strip.act, strip_words(tile.strip, tile.blocks, tile.slices)) ||
        !wgt_ram.holds(tile.wgt, words) || !acc_ram.holds(tile.acc, sums)) {
        return gemm_l_blocks<D, Z>(tile, act_ram.plain, wgt_ram.plain, acc_ram.plain, events);
    }
    const WeightKey key = {tile.wgt, words, tile.col_groups, tile.planes, tile.slices, false, tile.bipolar};
    const Panels<HostLanes>& panels =
        wgt_ram.cache->get(key, [&] { return gemm_l_panels<D::gemm_l_cols>(wgt_ram.at(tile.wgt), tile); });
    multiply(gemm_l_rows(tile, act_ram, panels.row_length()), tile.rows(), panels,
             {accumulators(acc_ram.at(tile.acc)), panels.columns, tile.accumulate, 32 - D::gemm_l_acc_bits});
    const BlockWalk walk(tile.blocks, tile.col_groups, row_words * tile.planes, tile.accumulate);
    events.loop(isa::loops::gemm_l_steps, walk.trips());
    events.macs(std::uint64_t{panels.channels} * tile.rows() * panels.columns);
    return {true, sums, tile.row_words() * sums};
}

}  // namespace

}  // namespace hetfab
