// SPDX-License-Identifier: Apache-2.0
// Host bodies of LOAD and STORE: rows are copied as wholes.
#pragma once

#include <cstdint>
#include <cstring>

#include "hetfab/load.hpp"
#include "hetfab/store.hpp"
#include "memories.hpp"

namespace hetfab {

namespace {

// A row of bytes as two slices of nibbles, the even channel in the low half.
inline void split_slices(const unsigned char* row, std::size_t pairs, unsigned char* high,
                         unsigned char* low) {
    for (std::size_t i = 0; i < pairs; i++) {
        const unsigned even = row[2 * i];
        const unsigned odd = row[2 * i + 1];
        high[i] = static_cast<unsigned char>(even >> 4 | (odd & 0xf0));
        low[i] = static_cast<unsigned char>((even & 15) | odd << 4);
    }
}

template <class D>
void copy_rows_d(const HostRows& rows, const unsigned char* first, unsigned ram,
                 const HostBanks<WordBytes<64>>& act_ram) {
    const auto row_beats = static_cast<unsigned>(rows.row_bytes / beat_bytes);
    for (unsigned row = 0; row < rows.rows; row++) {
        const unsigned word = ram + row / D::gemm_d_rows * row_beats;
        std::memcpy(act_ram.at(row % D::gemm_d_rows, word), first + row * rows.stride, rows.row_bytes);
    }
}

template <class D>
void copy_rows_l(const HostRows& rows, const unsigned char* first, unsigned ram, bool packed,
                 const HostBanks<WordBytes<128>>& act_ram) {
    const auto row_words = static_cast<unsigned>(rows.row_bytes / 16);
    for (unsigned row = 0; row < rows.rows; row++) {
        unsigned char* place = act_ram.at(row % D::gemm_l_rows, ram + row / D::gemm_l_rows * row_words);
        const unsigned char* source = first + row * rows.stride;
        if (packed) {
            std::memcpy(place, source, rows.row_bytes);
        } else {
            split_slices(source, rows.row_bytes / 2, place, place + rows.row_bytes / 2);
        }
    }
}

inline std::uint64_t banked_words(std::uint64_t rows, unsigned banks, std::uint64_t row_words) {
    return (rows + banks - 1) / banks * row_words;
}

template <class D, class Z, class Beat, int DBits, int LBits, class Events>
Outcome load_tile(const TileCopy& tile, HostMemory<Beat> mem, HostBanks<WordBytes<DBits>> act_d_ram,
                  HostBanks<WordBytes<LBits>> act_l_ram, Events& events) {
    const HostRows rows = {tile.address, tile.rows, std::uint64_t{beat_bytes} * tile.row_beats,
                           std::uint64_t{beat_bytes} * tile.stride_beats};
    const unsigned char* first = mem.find(rows);
    const bool fits_d = !tile.to_d || act_d_ram.holds(tile.ram_d, banked_words(rows.rows, D::gemm_d_rows,
                                                                               rows.row_bytes / 8));
    const bool fits_l = !tile.to_l || act_l_ram.holds(tile.ram_l, banked_words(rows.rows, D::gemm_l_rows,
                                                                               rows.row_bytes / 16));
    if (first == nullptr || !fits_d || !fits_l) {
        return load_tile<D, Z>(tile, mem.plain(), act_d_ram.plain, act_l_ram.plain, events);
    }
    if (tile.to_d) copy_rows_d<D>(rows, first, tile.ram_d, act_d_ram);
    if (tile.to_l) copy_rows_l<D>(rows, first, tile.ram_l, tile.packed, act_l_ram);
    const std::uint64_t bursts = rows.bursts();
    mem.count_read(rows, bursts);
    const auto beats = static_cast<unsigned>(rows.rows * rows.row_bytes / beat_bytes);
    events.loop(isa::loops::request_ahead, ahead(bursts));
    events.loop(isa::loops::load_tile_beats, beats);
    return {true, beats, beats};
}

// What was made of the words that are overwritten; of most memories nothing is made.
template <class T>
void forget(const HostRam<T>&, std::uint64_t, std::uint64_t) {}
template <class T, class Cache>
void forget(const HostCached<T, Cache>& ram, std::uint64_t first, std::uint64_t count) {
    ram.cache->written(first, count);
}

template <class Z, int Bits, class Beat, class Ram, class Events>
Outcome load_words(const WordsCopy& copy, HostMemory<Beat> mem, Ram ram, Events& events) {
    const HostRows rows = {copy.address, 1, std::uint64_t{copy.words} * (Bits / 8), 0};
    forget(ram, copy.ram, copy.words);
    const unsigned char* source = mem.find(rows);
    if (source == nullptr || !ram.holds(copy.ram, copy.words)) {
        return load_words<Z, Bits>(copy, mem.plain(), ram.plain, events);
    }
    std::memcpy(ram.at(copy.ram), source, rows.row_bytes);
    const std::uint64_t bursts = rows.bursts();
    mem.count_read(rows, bursts);
    const auto beats = static_cast<unsigned>(rows.row_bytes / beat_bytes);
    events.loop(isa::loops::request_ahead, ahead(bursts));
    events.loop(isa::loops::load_beats, beats);
    return {true, copy.words, beats};
}

template <class D, class Z, class Beat, class Half, class Events>
Outcome store_copy(const RowsCopy& copy, HostMemory<Beat> mem, HostBanks<Half> out_ram, Events& events) {
    const HostRows rows = {copy.address, copy.rows, std::uint64_t{beat_bytes} * copy.row_beats,
                           std::uint64_t{beat_bytes} * copy.stride_beats};
    const auto beats = static_cast<unsigned>(rows.rows * rows.row_bytes / beat_bytes);
    unsigned char* first = mem.find(rows);
    const std::uint64_t words = copy.ram_row_words;
    if (first == nullptr || !out_ram.holds(copy.ram, copy.rows * words)) {
        return store_copy<D, Z>(copy, mem.plain(), out_ram.plain, events);
    }
    for (std::uint64_t row = 0; row < rows.rows; row++) {
        join_words(out_ram, static_cast<unsigned>(copy.ram + row * words), first + row * rows.stride,
                   copy.row_beats);
    }
    const std::uint64_t bursts = rows.bursts();
    mem.count_written(rows, bursts);
    events.loop(isa::loops::store_beats, beats);
    events.loop(isa::loops::store_responses, ahead(bursts));
    return {true, ahead(bursts), beats};
}

}  // namespace

}  // namespace hetfab
