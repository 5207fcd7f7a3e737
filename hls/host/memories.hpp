// SPDX-License-Identifier: Apache-2.0
// What host bodies get in place of a kernel's ports: the memories as plain arrays. A host body runs only
// where all of its accesses are inside; otherwise it hands the instruction to the plain body, which stops at
// the access.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>

#include "../build/memories.hpp"
#include "hetfab/bursts.hpp"

namespace hetfab {

namespace {

// The bytes of a word and of those after it: words have nothing between them.
template <class T>
unsigned char* bytes_from(T* word) {
    static_assert(sizeof(T) == bytes_of(static_cast<const T*>(nullptr)), "a word is its bytes");
    return reinterpret_cast<unsigned char*>(word);
}

template <class T>
struct HostRam {
    RamPort<T> plain;

    bool holds(std::uint64_t first, std::uint64_t count) const {
        return count == 0 || first + count <= plain.depth;
    }
    unsigned char* at(unsigned word) const { return bytes_from(plain.words + word); }
};

template <class T>
struct HostBanks {
    BankedPort<T> plain;

    bool holds(std::uint64_t first, std::uint64_t count) const {
        return count == 0 || first + count <= plain.depth;
    }
    unsigned char* at(unsigned bank, unsigned word) const {
        return bytes_from(plain.words + std::size_t{bank} * plain.depth + word);
    }
};

// Words of 8 bytes whose halves are two banks, from a row of them and to one.
template <class Half>
void split_words(HostBanks<Half> ram, unsigned first, const unsigned char* row, std::size_t words) {
    unsigned char* const low = ram.at(0, first);
    unsigned char* const high = ram.at(1, first);
    for (std::size_t word = 0; word < words; word++) {
        std::memcpy(low + 4 * word, row + 8 * word, 4);
        std::memcpy(high + 4 * word, row + 8 * word + 4, 4);
    }
}
template <class Half>
void join_words(HostBanks<Half> ram, unsigned first, unsigned char* row, std::size_t words) {
    const unsigned char* const low = ram.at(0, first);
    const unsigned char* const high = ram.at(1, first);
    for (std::size_t word = 0; word < words; word++) {
        std::memcpy(row + 8 * word, low + 4 * word, 4);
        std::memcpy(row + 8 * word + 4, high + 4 * word, 4);
    }
}

// A memory, and what was made of its content.
template <class T, class Cache>
struct HostCached {
    RamPort<T> plain;
    Cache* cache;

    bool holds(std::uint64_t first, std::uint64_t count) const {
        return count == 0 || first + count <= plain.depth;
    }
    unsigned char* at(unsigned word) const { return bytes_from(plain.words + word); }
};

// Rows of bytes in DRAM, and the bursts that carry them.
struct HostRows {
    std::uint64_t address;
    std::uint64_t rows;
    std::uint64_t row_bytes;
    std::uint64_t stride;

    std::uint64_t end() const { return stride * (rows - 1) + row_bytes; }
    // As BurstCursor cuts them: at multiples of the longest burst.
    std::uint64_t bursts() const {
        constexpr std::uint64_t longest = std::uint64_t{burst_beats} * beat_bytes;
        std::uint64_t count = 0;
        for (std::uint64_t row = 0; row < rows; row++) {
            count += ((address + row * stride) % longest + row_bytes + longest - 1) / longest;
        }
        return count;
    }
};

// Rows of runs in DRAM.
struct HostRuns {
    std::uint64_t address;
    RunShape shape;

    std::uint64_t run_bytes() const { return std::uint64_t{beat_bytes} * shape.run_beats; }
    std::uint64_t bytes() const { return std::uint64_t{shape.rows} * shape.runs * run_bytes(); }
    std::uint64_t end() const {
        return beat_bytes * (std::uint64_t{shape.rows - 1} * shape.stride_beats +
                             std::uint64_t{shape.runs - 1} * shape.run_stride + shape.run_beats);
    }
    // Calls a visitor with where each run begins, in bytes from the first one.
    template <class Visit>
    void for_each(Visit visit) const {
        for (std::uint64_t row = 0; row < shape.rows; row++) {
            for (std::uint64_t run = 0; run < shape.runs; run++) {
                visit(beat_bytes * (row * shape.stride_beats + run * shape.run_stride));
            }
        }
    }
    // As BurstCursor cuts them: at multiples of the longest burst.
    std::uint64_t bursts() const {
        constexpr std::uint64_t longest = std::uint64_t{burst_beats} * beat_bytes;
        std::uint64_t count = 0;
        for_each([&](std::uint64_t offset) {
            count += ((address + offset) % longest + run_bytes() + longest - 1) / longest;
        });
        return count;
    }
};

// A port to DRAM.
template <class Beat>
struct HostMemory {
    PortModel& port;
    const Dram& dram;

    hls::burst_maxi<Beat> plain() const { return hls::burst_maxi<Beat>(port); }

    // The place of the first row, null if there is none or not all rows are in one mapped buffer.
    unsigned char* find(const HostRows& rows) const {
        if (rows.rows == 0 || rows.row_bytes == 0) return nullptr;
        const MappedBytes mapped = dram.mapped(rows.address);
        return rows.end() <= mapped.size ? mapped.bytes : nullptr;
    }
    unsigned char* find_runs(const HostRuns& runs) const {
        if (runs.bytes() == 0) return nullptr;
        const MappedBytes mapped = dram.mapped(runs.address);
        return runs.end() <= mapped.size ? mapped.bytes : nullptr;
    }
    void count_read(const HostRows& rows, std::uint64_t bursts) const {
        port.traffic.read_bytes += rows.rows * rows.row_bytes;
        port.traffic.read_bursts += bursts;
    }
    void count_read(const HostRuns& runs, std::uint64_t bursts) const {
        port.traffic.read_bytes += runs.bytes();
        port.traffic.read_bursts += bursts;
    }
    void count_written(const HostRuns& runs, std::uint64_t bursts) const {
        port.traffic.write_bytes += runs.bytes();
        port.traffic.write_bursts += bursts;
    }
};

// Trips of a loop that works ahead of `bursts` bursts.
inline unsigned ahead(std::uint64_t bursts) {
    return static_cast<unsigned>(std::min<std::uint64_t>(bursts, bursts_ahead));
}

}  // namespace

}  // namespace hetfab
