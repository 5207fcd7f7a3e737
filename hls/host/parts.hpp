// SPDX-License-Identifier: Apache-2.0
// The edges of destinations in parts of their sources, as overlay/parts.py defines them: tile by tile, each
// while its ids are in the processor's caches, to where they were: new memory would take longer.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <memory>
#include <numeric>
#include <vector>

namespace hetfab {

// What tiles and parts may be.
struct PartLimits {
    std::uint64_t destinations;
    std::uint64_t tile_rows;
    // Vertices of a block, and blocks.
    std::uint64_t width;
    std::uint64_t blocks;
    // Parts of a tile; of tiles with fewer rows one.
    std::uint64_t most;
    std::uint64_t part_rows;
    std::uint64_t edges_for_a_run;
    // The bits of an id that name its source.
    std::uint64_t mask;
};

template <typename Id>
class PartsMaker {
  public:
    // Orders `ids` where they are, and writes `degrees`, of limits.most * limits.destinations records.
    PartsMaker(const PartLimits& limits, const std::int64_t* starts, Id* ids, std::uint64_t* degrees)
        : limits_(limits),
          starts_(starts),
          ids_(ids),
          degrees_(degrees),
          limits_of_blocks_(limits.blocks + at_once, std::numeric_limits<Id>::max()),
          counts_(limits.tile_rows * limits.blocks),
          places_(limits.tile_rows * limits.blocks),
          from_(limits.tile_rows),
          tile_(new Id[largest_tile() + line_ids]) {
        // All memory is taken before an id moves.
        ends_.reserve(limits.blocks);
        held_.reserve(limits.blocks);
        for (std::size_t block = 0; block + 1 < limits.blocks; block++) {
            limits_of_blocks_[block] = static_cast<Id>((block + 1) * limits.width);
        }
    }

    // The runs of each destination; `degrees` are then of so many.
    std::size_t make() {
        std::size_t count = 1;
        for (std::size_t first = 0; first < limits_.destinations; first += limits_.tile_rows) {
            count = std::max(count, make_tile(first, rows_from(first)));
        }
        for (std::size_t first = 0; first < limits_.destinations; first += limits_.tile_rows) {
            std::copy_n(degrees_ + limits_.most * first, count * rows_from(first), degrees_ + count * first);
        }
        return count;
    }

  private:
    // Limits that are searched side by side; ids of a cache line.
    static constexpr std::size_t at_once = 4;
    static constexpr std::size_t line_ids = 64 / sizeof(Id);

    std::size_t block(Id id) const {
        return std::min<std::size_t>(source(id) / limits_.width, limits_.blocks - 1);
    }

    Id source(Id id) const { return static_cast<Id>(id & static_cast<Id>(limits_.mask)); }

    Id* begin(std::size_t row) const { return ids_ + starts_[row]; }

    std::size_t edges(std::size_t first, std::size_t rows) const {
        return static_cast<std::size_t>(starts_[first + rows] - starts_[first]);
    }

    std::size_t rows_from(std::size_t first) const {
        return std::min<std::size_t>(limits_.tile_rows, limits_.destinations - first);
    }

    std::size_t largest_tile() const {
        std::size_t most = 0;
        for (std::size_t first = 0; first < limits_.destinations; first += limits_.tile_rows) {
            most = std::max(most, edges(first, rows_from(first)));
        }
        return most;
    }

    // The parts of the tile.
    std::size_t make_tile(std::size_t first, std::size_t rows) {
        std::fill_n(counts_.begin(), rows * limits_.blocks, 0);
        const bool ascending = ascends(first, rows);
        for (std::size_t row = 0; row < rows; row++) {
            count_row(first + row, &counts_[row * limits_.blocks], ascending);
        }
        join(rows);
        std::uint64_t* const degrees = degrees_ + limits_.most * first;
        set_degrees(rows, degrees);
        if (!ascending) {
            scatter(first, rows);
        } else if (ends_.size() > 1) {
            copy_runs(first, rows, degrees);
        }
        return ends_.size();
    }

    // Whether the sources of each row of the tile do.
    bool ascends(std::size_t first, std::size_t rows) const {
        const Id* const ids = begin(first);
        const std::size_t count = edges(first, rows);
        std::size_t falls = 0;
        for (std::size_t edge = 1; edge < count; edge++) falls += source(ids[edge]) < source(ids[edge - 1]);
        // Those between a row and the next one do not count.
        const Id* last = nullptr;
        for (std::size_t row = first + 1; row < first + rows; row++) {
            const Id* const next = begin(row);
            if (next == last || next == ids || next == ids + count) continue;
            last = next;
            falls -= source(*next) < source(*(next - 1));
        }
        return falls == 0;
    }

    // Edges of a row from each block.
    void count_row(std::size_t row, std::uint32_t* counts, bool ascending) const {
        const Id* const ids = begin(row);
        const std::size_t degree = edges(row, 1);
        if (!ascending || degree <= limits_.blocks) {
            for (std::size_t edge = 0; edge < degree; edge++) counts[block(ids[edge])]++;
            return;
        }
        std::size_t before = 0;
        for (std::size_t first = 0; first + 1 < limits_.blocks; first += at_once) {
            const std::size_t here = std::min(at_once, limits_.blocks - 1 - first);
            const auto places = firsts_of(ids, degree, &limits_of_blocks_[first]);
            for (std::size_t block = 0; block < here; block++) {
                counts[first + block] = static_cast<std::uint32_t>(places[block] - before);
                before = places[block];
            }
        }
        counts[limits_.blocks - 1] = static_cast<std::uint32_t>(degree - before);
    }

    // The first of ascending sources that is not below each of some limits: searches side by side, as each
    // step waits for a memory, without branches that depend on what they meet.
    std::array<std::size_t, at_once> firsts_of(const Id* ids, std::size_t degree, const Id* limits) const {
        std::array<std::size_t, at_once> places{};
        std::size_t left = degree;
        for (; left > 1; left -= left / 2) {
            const std::size_t half = left / 2;
            for (std::size_t at = 0; at < at_once; at++) {
                places[at] += source(ids[places[at] + half - 1]) < limits[at] ? half : 0;
            }
        }
        for (std::size_t at = 0; at < at_once; at++) places[at] += source(ids[places[at]]) < limits[at];
        return places;
    }

    // Ends of the parts of a tile: neighbours are joined where the one of fewer edges is not worth its runs.
    void join(std::size_t rows) {
        ends_.clear();
        if (rows < limits_.part_rows) {
            ends_.push_back(limits_.blocks);
            return;
        }
        held_.assign(limits_.blocks, 0);
        for (std::size_t row = 0; row < rows; row++) {
            for (std::size_t block = 0; block < limits_.blocks; block++) {
                held_[block] += counts_[row * limits_.blocks + block];
            }
        }
        for (std::size_t block = 0; block < limits_.blocks; block++) ends_.push_back(block + 1);
        while (held_.size() > 1) {
            std::size_t first = 0;
            std::uint64_t least = std::numeric_limits<std::uint64_t>::max();
            for (std::size_t part = 0; part + 1 < held_.size(); part++) {
                const std::uint64_t lost = std::min(held_[part], held_[part + 1]);
                if (lost < least) {
                    least = lost;
                    first = part;
                }
            }
            if (held_.size() <= limits_.most && least >= limits_.edges_for_a_run * rows) return;
            held_[first] += held_[first + 1];
            held_.erase(held_.begin() + static_cast<std::ptrdiff_t>(first) + 1);
            ends_.erase(ends_.begin() + static_cast<std::ptrdiff_t>(first));
        }
    }

    // Of each part and row of a tile.
    void set_degrees(std::size_t rows, std::uint64_t* degrees) const {
        std::fill_n(degrees + ends_.size() * rows, (limits_.most - ends_.size()) * rows, 0);
        for (std::size_t part = 0; part < ends_.size(); part++) {
            const std::size_t from = part == 0 ? 0 : ends_[part - 1];
            for (std::size_t row = 0; row < rows; row++) {
                const std::uint32_t* const counts = &counts_[row * limits_.blocks];
                degrees[part * rows + row] =
                    std::accumulate(counts + from, counts + ends_[part], std::uint64_t{0});
            }
        }
    }

    // Of ascending sources a run is consecutive. Most runs are short: whole lines are copied, and what
    // follows overwrites what was too much; behind the last tile's ids there is nothing to copy.
    void copy_runs(std::size_t first, std::size_t rows, const std::uint64_t* degrees) {
        for (std::size_t row = 0; row < rows; row++) from_[row] = begin(first + row);
        const Id* const end = begin(limits_.destinations);
        Id* to = tile_.get();
        for (std::size_t part = 0; part < ends_.size(); part++) {
            for (std::size_t row = 0; row < rows; row++) {
                const Id* const from = from_[row];
                const std::uint64_t run = degrees[part * rows + row];
                if (run + line_ids <= static_cast<std::size_t>(end - from)) {
                    for (std::size_t id = 0; id < run; id += line_ids) {
                        std::memcpy(to + id, from + id, line_ids * sizeof(Id));
                    }
                } else {
                    std::copy_n(from, run, to);
                }
                from_[row] += run;
                to += run;
            }
        }
        std::copy(tile_.get(), to, begin(first));
    }

    // Of a row in any order, each block's ids keep theirs.
    void scatter(std::size_t first, std::size_t rows) {
        Id* place = tile_.get();
        for (std::size_t part = 0; part < ends_.size(); part++) {
            for (std::size_t row = 0; row < rows; row++) {
                for (std::size_t block = part == 0 ? 0 : ends_[part - 1]; block < ends_[part]; block++) {
                    places_[row * limits_.blocks + block] = place;
                    place += counts_[row * limits_.blocks + block];
                }
            }
        }
        for (std::size_t row = 0; row < rows; row++) {
            Id** const places = &places_[row * limits_.blocks];
            const Id* const end = begin(first + row + 1);
            for (const Id* id = begin(first + row); id != end; id++) *places[block(*id)]++ = *id;
        }
        std::copy(tile_.get(), place, begin(first));
    }

    const PartLimits limits_;
    const std::int64_t* const starts_;
    Id* const ids_;
    std::uint64_t* const degrees_;
    // Where each block ends but the last one, and what fills the last search.
    std::vector<Id> limits_of_blocks_;
    // Edges of each row of a tile from each block.
    std::vector<std::uint32_t> counts_;
    // Where the next id of a row and block goes.
    std::vector<Id*> places_;
    // Where the next run of a row begins.
    std::vector<const Id*> from_;
    // The ids of a tile in parts, and room for a line.
    std::unique_ptr<Id[]> tile_;
    // Of the parts of a tile, their ends among the blocks and their edges.
    std::vector<std::size_t> ends_;
    std::vector<std::uint64_t> held_;
};

}  // namespace hetfab
