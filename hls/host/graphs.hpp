// SPDX-License-Identifier: Apache-2.0
// Host bodies of SGB: the host's composition and transpose, and what the plain bodies count.
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <vector>

#include "hetfab/sgb.hpp"
#include "memories.hpp"
#include "semantic.hpp"

namespace hetfab {

namespace {

// Traffic of a port and the requests that its readers make ahead.
struct HostReads {
    std::uint64_t beats = 0;
    std::uint64_t bursts = 0;
    std::uint64_t requests_ahead = 0;
    std::uint64_t readers = 0;

    // A reader of `count` numbers from number `first` on, so many times.
    void add(std::uint64_t array, std::uint64_t first, std::uint64_t count, std::uint64_t times = 1) {
        if (count == 0) return;
        const std::uint64_t read =
            (first % numbers_per_beat + count + numbers_per_beat - 1) / numbers_per_beat;
        const std::uint64_t cut = cuts(array / beat_bytes + first / numbers_per_beat, read);
        beats += times * read;
        bursts += times * cut;
        requests_ahead += times * std::min<std::uint64_t>(cut, bursts_ahead);
        readers += times;
    }
    // As BurstCursor cuts a run of beats.
    static std::uint64_t cuts(std::uint64_t first_beat, std::uint64_t count) {
        return count == 0 ? 0 : (first_beat % burst_beats + count + burst_beats - 1) / burst_beats;
    }
    template <class Events>
    void count_requests(Events& events) const {
        events.loops(isa::loops::request_ahead, requests_ahead, readers);
    }
    template <class Beat>
    void count_read(const HostMemory<Beat>& mem) const {
        mem.port.traffic.read_bytes += beats * beat_bytes;
        mem.port.traffic.read_bursts += bursts;
    }
};

// Bursts of runs of numbers that are written one behind the other.
class HostWrites {
  public:
    explicit HostWrites(std::uint64_t array) : beat_(array / beat_bytes) {}

    void run(std::uint64_t count) {
        const std::uint64_t lane = written_ % numbers_per_beat;
        bursts_ += HostReads::cuts(beat_ + written_ / numbers_per_beat, (lane + count) / numbers_per_beat);
        written_ += count;
    }
    // With the last half beat.
    std::uint64_t bursts() const { return bursts_ + written_ % numbers_per_beat; }
    std::uint64_t beats() const { return (written_ + numbers_per_beat - 1) / numbers_per_beat; }

  private:
    std::uint64_t beat_;
    std::uint64_t bursts_ = 0;
    std::uint64_t written_ = 0;
};

template <class Beat>
unsigned count_written(const HostMemory<Beat>& out, const HostWrites& starts, const HostWrites& ids) {
    out.port.traffic.write_bytes += (starts.beats() + ids.beats()) * beat_bytes;
    out.port.traffic.write_bursts += starts.bursts() + ids.bursts();
    return ahead(starts.bursts() + ids.bursts());
}

// Host addresses of a graph's arrays; both null if not all of them is in one mapped buffer.
template <class Beat>
GraphSpace find_space(const HostMemory<Beat>& mem, const GraphArrays& graph) {
    const std::uint64_t bytes =
        graph.ids - graph.starts + (std::uint64_t{graph.edges} + 1) / numbers_per_beat * beat_bytes;
    unsigned char* place = mem.find({graph.starts, 1, bytes, 0});
    if (place == nullptr) return {nullptr, nullptr, 0};
    return {reinterpret_cast<std::uint32_t*>(place),
            reinterpret_cast<std::uint32_t*>(place + (graph.ids - graph.starts)), graph.edges};
}

inline GraphView view_of(const GraphSpace& space, const GraphArrays& graph, unsigned columns) {
    return {graph.rows, columns, space.starts, space.ids};
}

// Zeros where a last beat is half full.
inline void pad_graph(const GraphSpace& space, std::uint64_t rows, std::uint64_t edges) {
    if ((rows + 1) % numbers_per_beat != 0) space.starts[rows + 1] = 0;
    if (edges % numbers_per_beat != 0) space.ids[edges] = 0;
}

inline std::uint64_t blocks_of_rows(std::uint64_t rows) {
    return (rows + isa::sgb_block_rows - 1) / isa::sgb_block_rows;
}

// The starts of a graph, block by block, from the left port.
template <class Events>
void count_starts(const GraphArrays& graph, HostReads& left, Events& events) {
    for (unsigned row = 0; row < graph.rows; row += isa::sgb_block_rows) {
        left.add(graph.starts, row, std::min(graph.rows - row, isa::sgb_block_rows) + 1);
    }
    const std::uint64_t blocks = blocks_of_rows(graph.rows);
    events.loops(isa::loops::sgb_starts, graph.rows + blocks, blocks);
}

// The left graph's ids, batch by batch. Returns the number of batches.
template <class Events>
std::uint64_t count_batches(const GraphTile& tile, const GraphView& view, HostReads& left, Events& events) {
    std::uint64_t batches = 0;
    for (unsigned row = 0; row < view.rows; row++) {
        for (unsigned first = view.starts[row]; first < view.starts[row + 1]; first += isa::sgb_batch) {
            left.add(tile.left.ids, first, std::min(view.starts[row + 1] - first, isa::sgb_batch));
            batches++;
        }
    }
    events.loops(isa::loops::sgb_starts, view.edges(), batches);
    return batches;
}

// How often a composition looks up each right row, reads its ids, and joins its bitmap.
struct RowUses {
    std::vector<std::uint32_t> found;
    std::vector<std::uint32_t> read;
    std::vector<std::uint32_t> joined;
};

inline RowUses row_uses(const GraphTile& tile, const GraphView& left, const GraphView& right) {
    RowUses uses;
    uses.found.resize(right.rows);
    for (std::uint32_t edge = 0; edge < left.edges(); edge++) uses.found[left.ids[edge]]++;
    uses.read = uses.found;
    uses.joined.resize(right.rows);
    const unsigned words = words_of(tile.columns);
    for (std::uint32_t row = 0; tile.wide && row < left.rows; row++) {
        if (left.degree(row) < 2) continue;
        std::uint64_t expansions = 0;
        for (unsigned first = left.starts[row]; first < left.starts[row + 1]; first += isa::sgb_batch) {
            const unsigned end = std::min(first + isa::sgb_batch, left.starts[row + 1]);
            for (unsigned edge = first; edge < end; edge++) expansions += right.degree(left.ids[edge]);
            for (unsigned edge = first; edge < end && expansions > tile.threshold; edge++) {
                const std::uint32_t middle = left.ids[edge];
                const bool joins = is_dense(right.degree(middle), words);
                uses.joined[middle] += joins;
                uses.read[middle] -= joins;
            }
        }
    }
    return uses;
}

// What a composition reads by its right port.
struct RightReads {
    // The ids of rows, their ends, their bitmaps.
    HostReads rows;
    HostReads ends;
    HostReads bitmaps;
    // Ids of rows that are joined by their bitmaps.
    std::uint64_t joined_ids = 0;
};

inline RightReads right_reads(const GraphTile& tile, const RowUses& uses, const GraphView& right) {
    RightReads reads;
    constexpr std::uint64_t page_beats = isa::page_bytes / beat_bytes;
    const unsigned words = words_of(tile.columns);
    for (std::uint32_t row = 0; row < right.rows; row++) {
        const bool odd = row % numbers_per_beat != 0;
        const bool crosses =
            (tile.right.starts / beat_bytes + row / numbers_per_beat) % page_beats == page_beats - 1;
        reads.ends.beats += std::uint64_t{uses.found[row]} * (odd ? 2 : 1);
        reads.ends.bursts += std::uint64_t{uses.found[row]} * (odd && crosses ? 2 : 1);
        reads.rows.add(tile.right.ids, right.starts[row], right.degree(row), uses.read[row]);
        if (uses.joined[row] == 0) continue;
        const std::uint64_t first = right.starts[row] + right.starts[row] % numbers_per_beat;
        reads.bitmaps.add(tile.bitmaps, first, std::uint64_t{numbers_per_beat} * words, uses.joined[row]);
        reads.joined_ids += std::uint64_t{uses.joined[row]} * right.degree(row);
    }
    return reads;
}

// Expansions of rows of one edge, and how many of these are not empty.
struct CopiedRows {
    std::uint64_t ids = 0;
    std::uint64_t rows = 0;
};

inline CopiedRows copied_rows(const GraphView& left, const GraphView& right) {
    CopiedRows copied;
    for (std::uint32_t row = 0; row < left.rows; row++) {
        if (left.degree(row) != 1) continue;
        const std::uint32_t count = right.degree(left.ids[left.starts[row]]);
        copied.ids += count;
        copied.rows += count != 0;
    }
    return copied;
}

template <class Events>
void count_composition(const GraphTile& tile, const Composed& made, const CopiedRows& copied,
                       std::uint64_t batches, const RightReads& reads, const GraphView& left,
                       Events& events) {
    const std::uint64_t words = bitmap_words(tile.columns);
    events.loops(isa::loops::sgb_clear, words, words != 0);
    events.loops(isa::loops::sgb_requests, left.edges(), batches);
    events.loops(isa::loops::sgb_rows, reads.ends.beats, batches);
    events.loops(isa::loops::sgb_copy, copied.ids, copied.rows);
    events.loops(isa::loops::sgb_expand, made.expansions - copied.ids - reads.joined_ids,
                 reads.rows.readers - copied.rows);
    events.loops(isa::loops::sgb_wide, reads.bitmaps.beats, reads.bitmaps.readers);
    events.loops(isa::loops::sgb_ascend, made.ascending_rows * words - made.filled_words + made.ascending_ids,
                 made.ascending_rows);
    events.loops(isa::loops::sgb_seen, made.seen_ids, made.seen_rows);
    if (tile.to_fifo) return;
    events.loops(isa::loops::sgb_out_starts, tile.out.rows + 1, blocks_of_rows(tile.out.rows) + 1);
}

// Space for a graph that is not in DRAM: as large as it could become.
class OwnSpace {
  public:
    OwnSpace(std::uint64_t rows, std::uint64_t most_edges)
        : starts_(rows + 1),
          ids_(new std::uint32_t[most_edges + ids_slack]),
          capacity_(most_edges + ids_slack) {}

    GraphSpace space() { return {starts_.data(), ids_.get(), capacity_}; }

  private:
    std::vector<std::uint32_t> starts_;
    // Not a vector: only what is written takes memory.
    std::unique_ptr<std::uint32_t[]> ids_;
    std::uint64_t capacity_;
};

template <class Z>
void send_rows(const GraphSpace& space, unsigned rows, RowsFifo<Z>& rows_fifo) {
    for (unsigned row = 0; row < rows; row++) {
        rows_fifo.write(RowsWord<Z>(space.starts[row + 1] - space.starts[row]));
        for (unsigned edge = space.starts[row]; edge < space.starts[row + 1]; edge++) {
            rows_fifo.write(RowsWord<Z>(space.ids[edge]));
        }
    }
}

// What a composition that has been made read, followed and computed. Returns its outcome without writes.
template <class Beat, class Events>
Outcome count_made(const GraphTile& tile, const GraphView& left_view, const GraphView& right_view,
                   const Composed& made, HostMemory<Beat> left, HostMemory<Beat> right, Events& events) {
    HostReads left_reads;
    count_starts(tile.left, left_reads, events);
    const std::uint64_t batches = count_batches(tile, left_view, left_reads, events);
    const RightReads reads = right_reads(tile, row_uses(tile, left_view, right_view), right_view);
    count_composition(tile, made, copied_rows(left_view, right_view), batches, reads, left_view, events);
    left_reads.count_requests(events);
    left_reads.count_read(left);
    reads.rows.count_requests(events);
    reads.bitmaps.count_requests(events);
    for (const HostReads* part : {&reads.rows, &reads.ends, &reads.bitmaps}) part->count_read(right);
    return {true, 0, static_cast<unsigned>(made.expansions),
            reads.rows.beats + reads.ends.beats + reads.bitmaps.beats};
}

template <class D, class Z, class Beat, class Fifo, class Events>
Outcome compose(const GraphTile& tile, HostMemory<Beat> left, HostMemory<Beat> right, HostMemory<Beat> out,
                Fifo& rows_fifo, Events& events) {
    const GraphSpace left_space = find_space(left, tile.left);
    const GraphSpace right_space = find_space(right, tile.right);
    const GraphSpace space = tile.to_fifo ? GraphSpace{} : find_space(out, tile.out);
    const bool there = left_space.starts != nullptr && right_space.starts != nullptr &&
                       (tile.to_fifo || space.starts != nullptr);
    if (!there) return compose<D, Z>(tile, left.plain(), right.plain(), out.plain(), rows_fifo, events);
    const GraphView left_view = view_of(left_space, tile.left, tile.right.rows);
    const GraphView right_view = view_of(right_space, tile.right, tile.columns);
    if (tile.to_fifo) {
        OwnSpace own(tile.out.rows, most_edges(left_view, right_view));
        const Composed made = compose_graph(left_view, right_view, tile.threshold, own.space());
        send_rows<Z>(own.space(), tile.out.rows, rows_fifo);
        return count_made(tile, left_view, right_view, made, left, right, events);
    }
    Composed made = {};
    try {
        made = compose_graph(left_view, right_view, tile.threshold, space);
    } catch (const std::out_of_range&) {
        return compose<D, Z>(tile, left.plain(), right.plain(), out.plain(), rows_fifo, events);
    }
    pad_graph(space, tile.out.rows, made.edges);
    Outcome outcome = count_made(tile, left_view, right_view, made, left, right, events);
    HostWrites starts(tile.out.starts);
    HostWrites ids(tile.out.ids);
    for (unsigned row = 0; row < tile.out.rows; row++) ids.run(space.starts[row + 1] - space.starts[row]);
    for (unsigned row = 0; row < tile.out.rows; row += isa::sgb_block_rows) {
        starts.run(std::min(tile.out.rows - row, isa::sgb_block_rows));
    }
    starts.run(1);
    outcome.work = count_written(out, starts, ids);
    outcome.count2 = static_cast<unsigned>(starts.beats() + ids.beats());
    events.loop(isa::loops::number_responses, outcome.work);
    return outcome;
}

template <class D, class Z, class Beat, class Events>
Outcome widen(const GraphTile& tile, HostMemory<Beat> left, HostMemory<Beat> right, HostMemory<Beat> out,
              Events& events) {
    const GraphSpace from = find_space(right, tile.right);
    const std::uint64_t bytes = (std::uint64_t{tile.right.edges} + 1) / numbers_per_beat * beat_bytes;
    unsigned char* const bitmaps = out.find({tile.bitmaps, 1, bytes, 0});
    if (from.starts == nullptr || bitmaps == nullptr) {
        return widen<D, Z>(tile, left.plain(), right.plain(), out.plain(), events);
    }
    const GraphView view = view_of(from, tile.right, tile.columns);
    const unsigned words = words_of(tile.columns);
    HostReads starts;
    HostReads rows;
    HostReads written;
    std::uint64_t ids = 0;
    std::vector<std::uint64_t> bits(words);
    for (unsigned row = 0; row < view.rows; row++) {
        if (!is_dense(view.degree(row), words)) continue;
        std::fill(bits.begin(), bits.end(), 0);
        for (unsigned edge = view.starts[row]; edge < view.starts[row + 1]; edge++) {
            set_bit(bits.data(), view.ids[edge]);
        }
        const std::uint64_t first = view.starts[row] + view.starts[row] % numbers_per_beat;
        std::memcpy(bitmaps + first * sizeof(std::uint32_t), bits.data(), words * beat_bytes);
        rows.add(tile.right.ids, view.starts[row], view.degree(row));
        written.add(tile.bitmaps, first, std::uint64_t{numbers_per_beat} * words);
        ids += view.degree(row);
    }
    events.loops(isa::loops::sgb_clear, words, words != 0);
    count_starts(tile.right, starts, events);
    starts.count_requests(events);
    starts.count_read(left);
    events.loops(isa::loops::sgb_expand, ids, rows.readers);
    rows.count_requests(events);
    rows.count_read(right);
    events.loops(isa::loops::sgb_widen, written.beats, written.readers);
    out.port.traffic.write_bytes += written.beats * beat_bytes;
    out.port.traffic.write_bursts += written.bursts;
    events.loop(isa::loops::number_responses, ahead(written.bursts));
    return {true, ahead(written.bursts), static_cast<unsigned>(ids), rows.beats,
            static_cast<unsigned>(written.beats)};
}

template <class D, class Z, class Beat, class Events>
Outcome transpose(const GraphTile& tile, HostMemory<Beat> left, HostMemory<Beat> right, HostMemory<Beat> out,
                  Events& events) {
    const GraphSpace from = find_space(left, tile.left);
    const GraphSpace space = find_space(out, tile.out);
    if (from.starts == nullptr || space.starts == nullptr || from.starts[tile.left.rows] > tile.out.edges) {
        return transpose<D, Z>(tile, left.plain(), right.plain(), out.plain(), events);
    }
    const unsigned edges = from.starts[tile.left.rows];
    const unsigned columns = tile.out.rows;
    const GraphView view = view_of(from, tile.left, columns);
    transpose_graph(view, space);
    pad_graph(space, columns, edges);
    const std::uint64_t windows = (std::uint64_t{edges} + D::sgb_ids - 1) / D::sgb_ids;
    std::uint64_t rows = 0;
    for (unsigned row = 0; row < view.rows; row++) rows += view.degree(row) != 0;
    events.loops(isa::loops::sgb_clear, columns, columns != 0);
    events.loops(isa::loops::sgb_count, edges, edges != 0);
    events.loops(isa::loops::sgb_begin, columns + 1, 1);
    HostReads left_reads;
    left_reads.add(tile.left.starts, tile.left.rows, 1);
    events.loops(isa::loops::sgb_starts, 1, 1);
    HostReads right_reads;
    right_reads.add(tile.left.ids, 0, edges, windows + 1);
    HostWrites starts(tile.out.starts);
    HostWrites ids(tile.out.ids);
    starts.run(columns + 1);
    for (std::uint64_t window = 0; window < windows; window++) {
        if (window != 0) events.loops(isa::loops::sgb_rewind, columns, columns != 0);
        count_starts(tile.left, left_reads, events);
        events.loops(isa::loops::sgb_place, edges, rows);
        const std::uint64_t size = std::min<std::uint64_t>(edges - window * D::sgb_ids, D::sgb_ids);
        events.loops(isa::loops::sgb_window, size, 1);
        ids.run(size);
    }
    left_reads.count_requests(events);
    right_reads.count_requests(events);
    left_reads.count_read(left);
    right_reads.count_read(right);
    const unsigned responses = count_written(out, starts, ids);
    events.loop(isa::loops::number_responses, responses);
    return {true, responses, static_cast<unsigned>(edges * (windows + 1)), right_reads.beats,
            static_cast<unsigned>(starts.beats() + ids.beats())};
}

}  // namespace

}  // namespace hetfab
