// SPDX-License-Identifier: Apache-2.0
// Host bodies of LOAD and STORE: rows are copied as wholes.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <vector>

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

// A line as the words of GEMM-L's banks.
inline void write_slices(const unsigned char* line, std::size_t bytes, bool packed, unsigned char* words) {
    if (packed) {
        std::memcpy(words, line, bytes);
        return;
    }
    for (std::size_t first = 0; first < bytes; first += 32) {
        split_slices(line + first, 16, words + first, words + first + 16);
    }
}

// The first bank that takes a line, how many do, and which of their lines it is to the first of them. A row
// of a tile goes to one bank, whose rows are its lines.
struct LineBanks {
    unsigned first;
    unsigned count;
    unsigned line;
};

inline LineBanks banks_of_line(const BankShape& shape, unsigned array_rows, unsigned line) {
    if (shape.rows) return {line % array_rows, 1, line / array_rows};
    const unsigned begin =
        line < shape.kernel_lines ? 0 : (line - shape.kernel_lines) / shape.line_stride + 1;
    const unsigned end = std::min(line / shape.line_stride + 1, shape.banks);
    return {shape.first_bank + begin, end > begin ? end - begin : 0, line - begin * shape.line_stride};
}

// Writes a line to all banks that take it; its words are those of `put`.
template <class Banks, class Put>
void write_line(const TileCopy& tile, unsigned array_rows, unsigned line, unsigned ram, unsigned line_words,
                const Banks& act_ram, Put put) {
    const LineBanks to = banks_of_line(tile.banks, array_rows, line);
    for (unsigned bank = 0; bank < to.count; bank++) {
        const unsigned place = to.line - bank * tile.banks.line_stride;
        put(act_ram.at(to.first + bank, ram + place * line_words));
    }
}

// Words that a tile takes in each bank.
inline std::uint64_t bank_words(const TileCopy& tile, unsigned array_rows, std::uint64_t line_words) {
    const unsigned lines =
        tile.banks.rows ? (tile.lines.lines + array_rows - 1) / array_rows : tile.banks.kernel_lines;
    return lines * line_words;
}

// The bytes of a line as they leave for the banks.
inline void lay_out(const TileCopy& tile, const unsigned char* read, unsigned char* line) {
    constexpr std::size_t beat = beat_bytes;
    if (tile.windows.columns == 0) {
        std::memcpy(line + beat * tile.lines.left, read, beat * tile.lines.read_beats);
        return;
    }
    const std::size_t run = beat * tile.windows.run_beats;
    for (std::size_t x = 0; x < tile.windows.columns; x++) {
        std::memcpy(line + x * run, read + tile.windows.offset + x * tile.windows.step_bytes, run);
    }
}

template <class D, class Z, class Beat, int DBits, int LBits, class Events>
Outcome load_tile(const TileCopy& tile, HostMemory<Beat> mem, HostBanks<WordBytes<DBits>> act_d_ram,
                  HostBanks<WordBytes<LBits>> act_l_ram, Events& events) {
    const HostRows rows = {tile.address, tile.lines.read_lines,
                           std::uint64_t{beat_bytes} * tile.lines.read_beats,
                           std::uint64_t{beat_bytes} * tile.stride_beats};
    const unsigned beats = tile.lines.line_beats;
    const unsigned char* first = mem.find(rows);
    const bool fits_d = !tile.to_d || act_d_ram.holds(tile.ram_d, bank_words(tile, D::gemm_d_rows, beats));
    const bool fits_l =
        !tile.to_l || act_l_ram.holds(tile.ram_l, bank_words(tile, D::gemm_l_rows, beats / 2));
    if (first == nullptr || !fits_d || !fits_l) {
        return load_tile<D, Z>(tile, mem.plain(), act_d_ram.plain, act_l_ram.plain, events);
    }
    const std::size_t bytes = std::size_t{beat_bytes} * beats;
    std::vector<unsigned char> line_bytes(bytes);
    for (unsigned line = 0; line < tile.lines.lines; line++) {
        const bool reads = tile.lines.top <= line && line < tile.lines.top + tile.lines.read_lines;
        if (reads) {
            lay_out(tile, first + (line - tile.lines.top) * rows.stride, line_bytes.data());
        } else {
            std::fill(line_bytes.begin(), line_bytes.end(), static_cast<unsigned char>(0));
        }
        const unsigned char* words = line_bytes.data();
        if (tile.to_d) {
            write_line(tile, D::gemm_d_rows, line, tile.ram_d, beats, act_d_ram,
                       [=](unsigned char* place) { std::memcpy(place, words, bytes); });
        }
        if (tile.to_l) {
            write_line(tile, D::gemm_l_rows, line, tile.ram_l, beats / 2, act_l_ram,
                       [&](unsigned char* place) { write_slices(words, bytes, tile.packed, place); });
        }
    }
    const std::uint64_t bursts = rows.bursts();
    mem.count_read(rows, bursts);
    const unsigned trips = TileSource<Z, D::gather_beats>(tile.lines, tile.windows).trips();
    events.loop(isa::loops::request_ahead, ahead(bursts));
    events.loop(isa::loops::load_tile_beats, trips);
    return {true, trips, static_cast<unsigned>(rows.rows * rows.row_bytes / beat_bytes)};
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

template <class Z, class Beat, class T, class Events>
Outcome load_tables(const WordsCopy& copy, HostMemory<Beat> mem, HostBanks<T> fun_ram, Events& events) {
    return load_tables<Z>(copy, mem.plain(), fun_ram.plain, events);
}

template <class Z, class Beat, class T, class Events>
Outcome load_runs(const RunsCopy& copy, HostMemory<Beat> mem, HostRam<T> res_ram, Events& events) {
    const HostRuns runs = {copy.address, copy.shape};
    const unsigned char* first = mem.find_runs(runs);
    const unsigned beats = copy.shape.rows * copy.shape.runs * copy.shape.run_beats;
    if (first == nullptr || !res_ram.holds(copy.ram, beats)) {
        return load_runs<Z>(copy, mem.plain(), res_ram.plain, events);
    }
    unsigned char* place = res_ram.at(copy.ram);
    runs.for_each([&](std::uint64_t offset) {
        std::memcpy(place, first + offset, runs.run_bytes());
        place += runs.run_bytes();
    });
    const std::uint64_t bursts = runs.bursts();
    mem.count_read(runs, bursts);
    events.loop(isa::loops::request_ahead, ahead(bursts));
    events.loop(isa::loops::load_beats, beats);
    return {true, beats, beats};
}

// The words of a RAM from the first to the last of a copy.
inline std::uint64_t copied_words(const RowsCopy& copy) {
    if (copy.from_middle) return copy.beats();
    return std::uint64_t{copy.banks - 1} * copy.bank_words +
           std::uint64_t{copy.columns - 1} * copy.column_words + copy.row_beats;
}

// The first word of a row of a copy.
inline unsigned taken_at(const RowsCopy& copy, unsigned bank, unsigned column) {
    const unsigned bank_words = copy.from_middle ? copy.columns * copy.row_beats : copy.bank_words;
    return copy.ram + bank * bank_words + column * copy.column_words;
}

// Where a row of a copy goes, in bytes from the first one: joined rows follow each other.
inline std::uint64_t stored_at(const RowsCopy& copy, std::uint64_t bank, std::uint64_t column) {
    const std::uint64_t distance = copy.runs.runs == 1 ? copy.row_beats : copy.runs.run_stride;
    return beat_bytes * (bank * copy.runs.stride_beats + column * distance);
}

template <class D, class Z, class Beat, class Half, class Events>
Outcome store_copy(const RowsCopy& copy, HostMemory<Beat> mem, HostBanks<Half> out_ram,
                   HostBanks<Half> mid_ram, Events& events) {
    const HostRuns runs = {copy.address, copy.runs};
    const unsigned beats = copy.beats();
    unsigned char* first = mem.find_runs(runs);
    const HostBanks<Half> ram = copy.from_middle ? mid_ram : out_ram;
    if (first == nullptr || !ram.holds(copy.ram, copied_words(copy))) {
        return store_copy<D, Z>(copy, mem.plain(), out_ram.plain, mid_ram.plain, events);
    }
    for (unsigned bank = 0; bank < copy.banks; bank++) {
        for (unsigned column = 0; column < copy.columns; column++) {
            join_words(ram, taken_at(copy, bank, column), first + stored_at(copy, bank, column),
                       copy.row_beats);
        }
    }
    const std::uint64_t bursts = runs.bursts();
    mem.count_written(runs, bursts);
    events.loop(isa::loops::store_beats, beats);
    events.loop(isa::loops::store_responses, ahead(bursts));
    return {true, ahead(bursts), beats};
}

}  // namespace

}  // namespace hetfab
