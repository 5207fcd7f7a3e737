// SPDX-License-Identifier: Apache-2.0
// SGB: composes boolean graphs in CSR form row after row, and turns them. Columns that a row has met are bits
// on chip; the ids go to DRAM, or to AGG by rows_fifo, as the row ends, in the order of
// docs/semantic-graphs.md.
#pragma once

#include "graph_arrays.hpp"
#include "numbers.hpp"

namespace hetfab {

constexpr unsigned bitmap_word_bits = 64;

// What an instruction of SGB reads and writes.
struct GraphTile {
    GraphArrays left;
    GraphArrays right;
    GraphArrays out;
    unsigned threshold;
    unsigned columns;
    // The rows of `out` go to rows_fifo.
    bool to_fifo;
    // Dense rows of `right` are bitmaps there, too.
    bool wide;
    std::uint64_t bitmaps;
};

template <class Z, class ContextRam, class Events>
GraphTile graph_tile(const Word<Z, isa::instruction_bits>& instruction, ContextRam sgb_context,
                     Events& events) {
#pragma HLS INLINE
    Word<Z, isa::instruction_bits> context[isa::sgb_words];
#pragma HLS ARRAY_PARTITION variable=context type=complete dim=0
graph_words:
    for (unsigned word = 0; word < isa::sgb_words; word++) {
#pragma HLS PIPELINE II=1 style=stp
        events.trip(isa::loops::sgb_context);
        context[word] = sgb_context[word];
    }
    events.loop(isa::loops::sgb_context, isa::sgb_words);
    return {graph_arrays<Z, isa::ConfigureLeft>(context[0]),
            graph_arrays<Z, isa::ConfigureRight>(context[1]),
            graph_arrays<Z, isa::Compose>(instruction),
            number<Z, isa::ConfigureBitmap::Threshold>(context[2]),
            number<Z, isa::ConfigureBitmap::Columns>(context[2]),
            flag<Z, isa::Compose::ToFifo>(instruction),
            flag<Z, isa::ConfigureBitmap::Wide>(context[2]),
            static_cast<std::uint64_t>(get<Z, isa::ConfigureBitmap::Address>(context[2]))};
}

// Words of a bitmap of all columns.
inline unsigned words_of(unsigned columns) {
#pragma HLS INLINE
    return (columns + bitmap_word_bits - 1) / bitmap_word_bits;
}

// Whether a row's ids take more room than its bitmap: that fits in their place, from a whole beat on.
inline bool is_dense(unsigned ids, unsigned words) {
#pragma HLS INLINE
    return ids > numbers_per_beat * words;
}

template <class Z>
using RowsWord = U<Z, isa::rows_fifo_bits>;
template <class Z>
using RowsFifo = hls::stream<RowsWord<Z>>;

// Takes the ids of rows to where they go: to DRAM, or to rows_fifo, which gets the degree of a row before
// them.
template <class Z>
class RowWriter {
  public:
    explicit RowWriter(const GraphTile& tile)
        : to_fifo_(tile.to_fifo), ids_(tile.out.ids, tile.to_fifo ? 0 : tile.out.edges) {}

    void begin(RowsFifo<Z>& fifo, unsigned degree) {
#pragma HLS INLINE
        if (to_fifo_) fifo.write(RowsWord<Z>(degree));
        ids_.begin(degree);
    }
    template <class Mem>
    void put(Mem mem, RowsFifo<Z>& fifo, WriteResponses& responses, unsigned id) {
#pragma HLS INLINE
        if (to_fifo_) fifo.write(RowsWord<Z>(id));
        ids_.put(mem, responses, id);
    }
    template <class Mem>
    void finish(Mem mem, WriteResponses& responses) {
#pragma HLS INLINE
        ids_.finish(mem, responses);
    }
    unsigned beats_written() const { return ids_.beats_written(); }

  private:
    bool to_fifo_;
    NumberWriter<Z> ids_;
};

// The starts of a block of rows, or the ids of a batch of edges, from the left port.
template <class Z, unsigned Size, class Mem, class Events>
void read_numbers(Mem mem, std::uint64_t array, unsigned first, unsigned count, unsigned (&numbers)[Size],
                  Events& events) {
#pragma HLS INLINE
    NumberReader<Z> reader(array, first, count);
    reader.start(mem, events);
number_places:
    for (unsigned place = 0; place < count; place++) {
#pragma HLS LOOP_TRIPCOUNT min=1 max=65
#pragma HLS PIPELINE II=1 style=stp
        events.trip(isa::loops::sgb_starts);
        numbers[place] = reader.next(mem);
    }
    events.loop(isa::loops::sgb_starts, count);
}

// What a composition keeps on chip.
template <class D>
struct ComposeMemories {
    std::uint64_t bitmap[D::sgb_columns / bitmap_word_bits];
    unsigned ids[D::sgb_ids];
    unsigned starts[isa::sgb_block_rows + 1];
    unsigned out_starts[isa::sgb_block_rows];
    unsigned middles[isa::sgb_batch];
    RowPlace places[isa::sgb_batch];
};

// The last words written to the bitmap. At one id per cycle the read for one comes before the writes for
// those just before it, so what they wrote is taken from here.
class RecentWords {
  public:
    RecentWords() {
#pragma HLS INLINE
    recent_words:
        for (unsigned age = 0; age < isa::sgb_recent; age++) {
#pragma HLS UNROLL factor=isa::sgb_recent
            places_[age] = nowhere;
            words_[age] = 0;
        }
    }

    std::uint64_t latest(unsigned place, std::uint64_t stored) const {
#pragma HLS INLINE
        std::uint64_t word = stored;
    recent_down:
        for (unsigned age = isa::sgb_recent; age > 0; age--) {
#pragma HLS UNROLL factor=isa::sgb_recent
            if (places_[age - 1] == place) word = words_[age - 1];
        }
        return word;
    }
    void add(unsigned place, std::uint64_t word) {
#pragma HLS INLINE
    recent_up:
        for (unsigned age = isa::sgb_recent - 1; age > 0; age--) {
#pragma HLS UNROLL factor=isa::sgb_recent-1
            places_[age] = places_[age - 1];
            words_[age] = words_[age - 1];
        }
        places_[0] = place;
        words_[0] = word;
    }

  private:
    static constexpr unsigned nowhere = ~0U;
    unsigned places_[isa::sgb_recent];
    std::uint64_t words_[isa::sgb_recent];
};

// Sets a column's bit; says whether it is new.
template <class Bitmap>
bool meet_column(Bitmap& bitmap, RecentWords& recent, unsigned column) {
#pragma HLS INLINE
    const unsigned place = column / bitmap_word_bits;
    const std::uint64_t bit = std::uint64_t{1} << (column % bitmap_word_bits);
    const std::uint64_t word = recent.latest(place, bitmap[place]);
    bitmap[place] = word | bit;
    recent.add(place, word | bit);
    return (word & bit) == 0;
}

// What is known of the row that is being composed.
struct RowState {
    // Of the batches whose right rows have been looked up.
    unsigned expansions = 0;
    // Columns met, those that the ids on chip have room for among them.
    unsigned found = 0;
};

// Looks up the right rows of a batch of edges: both ends of a row are neighbours in DRAM. Returns the beats.
template <class Z, class D, class Mem, class Events>
unsigned read_places(const GraphArrays& right, unsigned count, ComposeMemories<D>& memories, RowState& state,
                     Mem mem, Events& events) {
#pragma HLS INLINE
row_requests:
    for (unsigned edge = 0; edge < count; edge++) {
#pragma HLS LOOP_TRIPCOUNT min=1 max=16
#pragma HLS PIPELINE II=1 style=stp
        events.trip(isa::loops::sgb_requests);
        const unsigned middle = memories.middles[edge];
        mem.read_request(right.starts / beat_bytes + middle / numbers_per_beat,
                         1 + middle % numbers_per_beat);
    }
    events.loop(isa::loops::sgb_requests, count);
    unsigned beats = 0;
    unsigned edge = 0;
    unsigned first = 0;
    bool second = false;
row_ends:
    while (edge < count) {
#pragma HLS LOOP_TRIPCOUNT min=1 max=32
#pragma HLS PIPELINE II=1 style=stp
        events.trip(isa::loops::sgb_rows);
        const Word<Z, 64> beat = mem.read();
        const auto low = static_cast<unsigned>(lane_u<Z, 32>(beat, 0));
        const auto high = static_cast<unsigned>(lane_u<Z, 32>(beat, 1));
        beats++;
        const bool straddles = memories.middles[edge] % numbers_per_beat != 0;
        if (straddles && !second) {
            first = high;
            second = true;
        } else {
            const unsigned start = straddles ? first : low;
            const unsigned length = (straddles ? low : high) - start;
            memories.places[edge] = {start, length};
            state.expansions += length;
            second = false;
            edge++;
        }
    }
    events.loop(isa::loops::sgb_rows, beats);
    return beats;
}

// A row of one edge: the right row as it is. Returns the beats read.
template <class Z, class MemR, class MemO, class Events>
unsigned copy_row(const GraphArrays& right, const RowPlace& place, MemR mem, MemO out, RowsFifo<Z>& fifo,
                  RowWriter<Z>& writer, WriteResponses& responses, Events& events) {
#pragma HLS INLINE
    NumberReader<Z> reader(right.ids, place.first, place.count);
    reader.start(mem, events);
    writer.begin(fifo, place.count);
copied_ids:
    for (unsigned id = 0; id < place.count; id++) {
#pragma HLS LOOP_TRIPCOUNT min=1 max=1024
#pragma HLS PIPELINE II=1 style=stp
        events.trip(isa::loops::sgb_copy);
        writer.put(out, fifo, responses, reader.next(mem));
    }
    events.loop(isa::loops::sgb_copy, place.count);
    return reader.beats_read();
}

// Sets the bits of a right row; columns not met before are kept in the order seen, as far as there is room: a
// row that has more is collected in the bitmap. Returns the beats read.
template <class Z, class D, unsigned Words, class Mem, class Events>
unsigned expand_row(const GraphArrays& right, const RowPlace& place, std::uint64_t (&bitmap)[Words],
                    unsigned (&ids)[D::sgb_ids], RowState& state, Mem mem, Events& events) {
#pragma HLS INLINE
    NumberReader<Z> reader(right.ids, place.first, place.count);
    RecentWords recent;
    reader.start(mem, events);
expanded_ids:
    for (unsigned id = 0; id < place.count; id++) {
#pragma HLS LOOP_TRIPCOUNT min=1 max=1024
#pragma HLS PIPELINE II=1 style=stp
// RecentWords has what the read may miss.
#pragma HLS DEPENDENCE variable=bitmap type=inter direction=RAW dependent=false
        events.trip(isa::loops::sgb_expand);
        const unsigned column = reader.next(mem);
        if (meet_column(bitmap, recent, column)) {
            if (state.found < D::sgb_ids) ids[state.found] = column;
            state.found++;
        }
    }
    events.loop(isa::loops::sgb_expand, place.count);
    return reader.beats_read();
}

// The bits that are set.
inline unsigned count_bits(std::uint64_t word) {
#pragma HLS INLINE
    unsigned count = 0;
counted_bits:
    for (unsigned bit = 0; bit < bitmap_word_bits; bit++) {
#pragma HLS UNROLL factor=bitmap_word_bits
        count += static_cast<unsigned>(word >> bit & 1);
    }
    return count;
}

// The words of a row's bitmap in DRAM.
inline BurstCursor bitmap_cursor(std::uint64_t bitmaps, const RowPlace& place, unsigned words) {
#pragma HLS INLINE
    const unsigned first = (place.first + numbers_per_beat - 1) / numbers_per_beat;
    return BurstCursor(bitmaps + std::uint64_t{first} * beat_bytes, 1, words, 0);
}

// Joins the bitmap of a dense right row, a word a cycle. Returns the beats read.
template <class Z, unsigned Words, class Mem, class Events>
unsigned join_row(const GraphTile& tile, const RowPlace& place, std::uint64_t (&bitmap)[Words],
                  RowState& state, Mem mem, Events& events) {
#pragma HLS INLINE
    const unsigned words = words_of(tile.columns);
    BurstReader reader(bitmap_cursor(tile.bitmaps, place, words));
    reader.start(mem, events);
wide_words:
    for (unsigned word = 0; word < words; word++) {
#pragma HLS LOOP_TRIPCOUNT min=1 max=256
#pragma HLS PIPELINE II=1 style=stp
// No word is met twice.
#pragma HLS DEPENDENCE variable=bitmap type=inter dependent=false
        events.trip(isa::loops::sgb_wide);
        const Word<Z, 64> beat = reader.read(mem);
        const std::uint64_t theirs = static_cast<std::uint64_t>(lane_u<Z, 32>(beat, 0)) |
                                     static_cast<std::uint64_t>(lane_u<Z, 32>(beat, 1)) << 32;
        const std::uint64_t ours = bitmap[word];
        bitmap[word] = ours | theirs;
        state.found += count_bits(theirs & ~ours);
    }
    events.loop(isa::loops::sgb_wide, words);
    return reader.beats_read();
}

// Writes what a row has met in the order seen, and clears its bits.
template <class Z, class D, class Mem, class Events>
void write_seen(const RowState& state, ComposeMemories<D>& memories, Mem out, RowsFifo<Z>& fifo,
                RowWriter<Z>& writer, WriteResponses& responses, Events& events) {
#pragma HLS INLINE
    writer.begin(fifo, state.found);
seen_ids:
    for (unsigned id = 0; id < state.found; id++) {
#pragma HLS LOOP_TRIPCOUNT min=1 max=4096
#pragma HLS PIPELINE II=1 style=stp
        events.trip(isa::loops::sgb_seen);
        const unsigned column = memories.ids[id];
        memories.bitmap[column / bitmap_word_bits] = 0;
        writer.put(out, fifo, responses, column);
    }
    events.loop(isa::loops::sgb_seen, state.found);
}

// The place of the lowest bit that is set.
inline unsigned lowest_bit(std::uint64_t word) {
#pragma HLS INLINE
    unsigned lowest = 0;
bits_down:
    for (unsigned bit = 0; bit < bitmap_word_bits; bit++) {
#pragma HLS UNROLL factor=bitmap_word_bits
        const unsigned place = bitmap_word_bits - 1 - bit;
        if ((word >> place & 1) != 0) lowest = place;
    }
    return lowest;
}

// Writes what a row has met in ascending order, an id or an empty word a cycle, and clears the bitmap. A word
// is read two before it is needed, in every trip: its address depends on nothing but the word that is at
// work.
template <class Z, unsigned Words, class Mem, class Events>
void write_ascending(const RowState& state, unsigned columns, std::uint64_t (&bitmap)[Words], Mem out,
                     RowsFifo<Z>& fifo, RowWriter<Z>& writer, WriteResponses& responses, Events& events) {
#pragma HLS INLINE
    writer.begin(fifo, state.found);
    const unsigned words = words_of(columns);
    std::uint64_t bits = bitmap[0];
    std::uint64_t next = bitmap[Words > 1 ? 1 : 0];
    unsigned word = 0;
    unsigned trips = 0;
bitmap_bits:
    while (word < words) {
#pragma HLS LOOP_TRIPCOUNT min=1 max=16384
#pragma HLS PIPELINE II=1 style=stp
// What is cleared was read two trips before at least, and is not read again.
#pragma HLS DEPENDENCE variable=bitmap type=inter dependent=false
        events.trip(isa::loops::sgb_ascend);
        const std::uint64_t ahead = bitmap[word + 2 < Words ? word + 2 : 0];
        const std::uint64_t rest = bits & (bits - 1);
        if (bits != 0) {
            writer.put(out, fifo, responses, word * bitmap_word_bits + lowest_bit(bits));
        }
        bits = rest;
        if (rest == 0) {
            bitmap[word] = 0;
            word++;
            bits = next;
            next = ahead;
        }
        trips++;
    }
    events.loop(isa::loops::sgb_ascend, trips);
}

// Writes the starts of a block of rows.
template <class Z, unsigned Size, class Mem, class Events>
void write_starts(const unsigned (&starts)[Size], unsigned count, Mem out, NumberWriter<Z>& writer,
                  WriteResponses& responses, Events& events) {
#pragma HLS INLINE
    writer.begin(count);
out_starts:
    for (unsigned row = 0; row < count; row++) {
#pragma HLS LOOP_TRIPCOUNT min=1 max=64
#pragma HLS PIPELINE II=1 style=stp
        events.trip(isa::loops::sgb_out_starts);
        writer.put(out, responses, starts[row]);
    }
    events.loop(isa::loops::sgb_out_starts, count);
}

// Clears `count` words of a memory on chip.
template <class Word, unsigned Size, class Events>
void clear_words(Word (&words)[Size], unsigned count, Events& events) {
#pragma HLS INLINE
cleared_words:
    for (unsigned word = 0; word < count; word++) {
#pragma HLS LOOP_TRIPCOUNT min=1 max=16384
#pragma HLS PIPELINE II=1 style=stp
        events.trip(isa::loops::sgb_clear);
        words[word] = 0;
    }
    events.loop(isa::loops::sgb_clear, count);
}

// What an instruction of SGB has done so far.
struct GraphWork {
    unsigned edges = 0;
    std::uint64_t right_beats = 0;
};

// One edge of a row of several edges. Returns the beats read.
template <class D, class Z, class MemR, class Events>
unsigned follow_edge(const GraphTile& tile, const RowPlace& place, ComposeMemories<D>& memories,
                     RowState& state, MemR right, Events& events) {
#pragma HLS INLINE
    // A row that is not certain to ascend needs the order of the ids, which bitmaps do not have.
    if (tile.wide && state.expansions > tile.threshold && is_dense(place.count, words_of(tile.columns))) {
        return join_row<Z>(tile, place, memories.bitmap, state, right, events);
    }
    return expand_row<Z, D>(tile.right, place, memories.bitmap, memories.ids, state, right, events);
}

// Composes one row: its edges in batches, then its ids. Returns their number.
template <class D, class Z, class MemL, class MemR, class MemO, class Events>
unsigned compose_row(const GraphTile& tile, unsigned first, unsigned degree, ComposeMemories<D>& memories,
                     GraphWork& work, MemL left, MemR right, MemO out, RowsFifo<Z>& fifo,
                     RowWriter<Z>& writer, WriteResponses& responses, Events& events) {
#pragma HLS INLINE
    RowState state;
edge_batches:
    for (unsigned done = 0; done < degree; done += isa::sgb_batch) {
#pragma HLS LOOP_TRIPCOUNT min=1 max=256
        const unsigned rest = degree - done;
        const unsigned count = rest < isa::sgb_batch ? rest : isa::sgb_batch;
        read_numbers<Z>(left, tile.left.ids, first + done, count, memories.middles, events);
        work.right_beats += read_places<Z>(tile.right, count, memories, state, right, events);
    batch_edges:
        for (unsigned edge = 0; edge < count; edge++) {
#pragma HLS LOOP_TRIPCOUNT min=1 max=16
            const RowPlace place = memories.places[edge];
            if (degree == 1) {
                state.found = place.count;
                work.right_beats +=
                    copy_row<Z>(tile.right, place, right, out, fifo, writer, responses, events);
            } else {
                work.right_beats += follow_edge<D, Z>(tile, place, memories, state, right, events);
            }
        }
    }
    if (degree != 1 && state.expansions > tile.threshold) {
        write_ascending<Z>(state, tile.columns, memories.bitmap, out, fifo, writer, responses, events);
    } else if (degree != 1) {
        write_seen<Z>(state, memories, out, fifo, writer, responses, events);
    }
    work.edges += state.expansions;
    return state.found;
}

// The product of the left and the right graph; it counts expansions and the beats of the right and out ports.
template <class D, class Z, class MemL, class MemR, class MemO, class Fifo, class Events>
Outcome compose(const GraphTile& tile, MemL left, MemR right, MemO out, Fifo& fifo, Events& events) {
#pragma HLS INLINE
    ComposeMemories<D> memories;
    RowWriter<Z> ids(tile);
    NumberWriter<Z> starts(tile.out.starts, tile.out.rows + 1);
    WriteResponses responses;
    GraphWork work;
    unsigned edges = 0;
    clear_words(memories.bitmap, words_of(tile.columns), events);
row_blocks:
    for (unsigned row = 0; row < tile.left.rows; row += isa::sgb_block_rows) {
#pragma HLS LOOP_TRIPCOUNT min=1 max=256
        const unsigned rest = tile.left.rows - row;
        const unsigned rows = rest < isa::sgb_block_rows ? rest : isa::sgb_block_rows;
        read_numbers<Z>(left, tile.left.starts, row, rows + 1, memories.starts, events);
    block_rows:
        for (unsigned place = 0; place < rows; place++) {
#pragma HLS LOOP_TRIPCOUNT min=1 max=64
            memories.out_starts[place] = edges;
            const unsigned first = memories.starts[place];
            edges += compose_row<D, Z>(tile, first, memories.starts[place + 1] - first, memories, work, left,
                                       right, out, fifo, ids, responses, events);
        }
        if (!tile.to_fifo) write_starts<Z>(memories.out_starts, rows, out, starts, responses, events);
    }
    memories.out_starts[0] = edges;
    if (!tile.to_fifo) write_starts<Z>(memories.out_starts, 1, out, starts, responses, events);
    starts.finish(out, responses);
    ids.finish(out, responses);
    const unsigned waited = responses.drain(out, events);
    return {true, waited, work.edges, work.right_beats, ids.beats_written() + starts.beats_written()};
}

// Writes a row's bitmap to DRAM, and clears it. Returns the beats written.
template <class Z, unsigned Words, class Mem, class Events>
unsigned write_bitmap(const GraphTile& tile, const RowPlace& place, std::uint64_t (&bitmap)[Words], Mem out,
                      WriteResponses& responses, Events& events) {
#pragma HLS INLINE
    const unsigned words = words_of(tile.columns);
    BurstCursor cursor = bitmap_cursor(tile.bitmaps, place, words);
    unsigned left = 0;
widened_words:
    for (unsigned word = 0; word < words; word++) {
#pragma HLS LOOP_TRIPCOUNT min=1 max=256
#pragma HLS PIPELINE II=1 style=stp
        events.trip(isa::loops::sgb_widen);
        if (left == 0) {
            left = cursor.length();
            out.write_request(cursor.beat(), left);
            cursor.advance();
        }
        const std::uint64_t bits = bitmap[word];
        Word<Z, 64> beat = zero<Z, 64>();
        set_lane<Z, 32>(beat, 0, bits & 0xFFFFFFFF);
        set_lane<Z, 32>(beat, 1, bits >> 32);
        out.write(beat);
        bitmap[word] = 0;
        left--;
        if (left == 0) responses.expect(out);
    }
    events.loop(isa::loops::sgb_widen, words);
    return words;
}

// The dense rows of the right graph as bitmaps.
template <class D, class Z, class MemL, class MemR, class MemO, class Events>
Outcome widen(const GraphTile& tile, MemL left, MemR right, MemO out, Events& events) {
#pragma HLS INLINE
    ComposeMemories<D> memories;
    WriteResponses responses;
    GraphWork work;
    unsigned beats_written = 0;
    clear_words(memories.bitmap, words_of(tile.columns), events);
row_blocks:
    for (unsigned row = 0; row < tile.right.rows; row += isa::sgb_block_rows) {
#pragma HLS LOOP_TRIPCOUNT min=1 max=256
        const unsigned rest = tile.right.rows - row;
        const unsigned rows = rest < isa::sgb_block_rows ? rest : isa::sgb_block_rows;
        read_numbers<Z>(left, tile.right.starts, row, rows + 1, memories.starts, events);
    block_rows:
        for (unsigned place = 0; place < rows; place++) {
#pragma HLS LOOP_TRIPCOUNT min=1 max=64
            const unsigned first = memories.starts[place];
            const RowPlace found = {first, memories.starts[place + 1] - first};
            if (!is_dense(found.count, words_of(tile.columns))) continue;
            RowState state;
            work.right_beats +=
                expand_row<Z, D>(tile.right, found, memories.bitmap, memories.ids, state, right, events);
            work.edges += found.count;
            beats_written += write_bitmap<Z>(tile, found, memories.bitmap, out, responses, events);
        }
    }
    const unsigned waited = responses.drain(out, events);
    return {true, waited, work.edges, work.right_beats, beats_written};
}

// What a transpose keeps on chip.
template <class D>
struct TransposeMemories {
    // Where the next edge into a column goes.
    unsigned places[D::sgb_columns];
    // The part of the ids that is being filled.
    unsigned window[D::sgb_ids];
    unsigned starts[isa::sgb_block_rows + 1];
};

// Counts the edges into each column. Returns the beats read.
template <class Z, class D, class Mem, class Events>
unsigned count_columns(const GraphArrays& graph, unsigned edges, TransposeMemories<D>& memories, Mem mem,
                       Events& events) {
#pragma HLS INLINE
    NumberReader<Z> reader(graph.ids, 0, edges);
    reader.start(mem, events);
counted_edges:
    for (unsigned edge = 0; edge < edges; edge++) {
#pragma HLS LOOP_TRIPCOUNT min=1 max=65536
#pragma HLS PIPELINE II=2 style=stp
        events.trip(isa::loops::sgb_count);
        const unsigned column = reader.next(mem);
        memories.places[column] = memories.places[column] + 1;
    }
    events.loop(isa::loops::sgb_count, edges);
    return reader.beats_read();
}

// Turns the counts of columns into their starts, and writes these.
template <class Z, class D, class Mem, class Events>
void begin_columns(const GraphTile& tile, TransposeMemories<D>& memories, Mem out, NumberWriter<Z>& starts,
                   WriteResponses& responses, Events& events) {
#pragma HLS INLINE
    unsigned next = 0;
    starts.begin(tile.out.rows + 1);
column_starts:
    for (unsigned column = 0; column <= tile.out.rows; column++) {
#pragma HLS LOOP_TRIPCOUNT min=1 max=16385
#pragma HLS PIPELINE II=2 style=stp
        events.trip(isa::loops::sgb_begin);
        starts.put(out, responses, next);
        if (column < tile.out.rows) {
            const unsigned count = memories.places[column];
            memories.places[column] = next;
            next += count;
        }
    }
    events.loop(isa::loops::sgb_begin, tile.out.rows + 1);
    starts.finish(out, responses);
}

// After a pass each column's place is the start of the next one: moves them up by one.
template <class D, class Events>
void rewind_columns(unsigned columns, TransposeMemories<D>& memories, Events& events) {
#pragma HLS INLINE
    unsigned start = 0;
rewound_columns:
    for (unsigned column = 0; column < columns; column++) {
#pragma HLS LOOP_TRIPCOUNT min=1 max=16384
#pragma HLS PIPELINE II=2 style=stp
        events.trip(isa::loops::sgb_rewind);
        const unsigned end = memories.places[column];
        memories.places[column] = start;
        start = end;
    }
    events.loop(isa::loops::sgb_rewind, columns);
}

// Walks all edges and keeps those whose places are in the window. Returns the beats read.
template <class Z, class D, class MemL, class MemR, class Events>
unsigned fill_window(const GraphArrays& graph, unsigned edges, unsigned window,
                     TransposeMemories<D>& memories, MemL left, MemR right, Events& events) {
#pragma HLS INLINE
    NumberReader<Z> reader(graph.ids, 0, edges);
    reader.start(right, events);
row_blocks:
    for (unsigned row = 0; row < graph.rows; row += isa::sgb_block_rows) {
#pragma HLS LOOP_TRIPCOUNT min=1 max=256
        const unsigned rest = graph.rows - row;
        const unsigned rows = rest < isa::sgb_block_rows ? rest : isa::sgb_block_rows;
        read_numbers<Z>(left, graph.starts, row, rows + 1, memories.starts, events);
    block_rows:
        for (unsigned place = 0; place < rows; place++) {
#pragma HLS LOOP_TRIPCOUNT min=1 max=64
            const unsigned degree = memories.starts[place + 1] - memories.starts[place];
        placed_edges:
            for (unsigned edge = 0; edge < degree; edge++) {
#pragma HLS LOOP_TRIPCOUNT min=1 max=1024
#pragma HLS PIPELINE II=2 style=stp
                events.trip(isa::loops::sgb_place);
                const unsigned column = reader.next(right);
                const unsigned target = memories.places[column];
                memories.places[column] = target + 1;
                if (target >= window && target - window < D::sgb_ids) {
                    memories.window[target - window] = row + place;
                }
            }
            events.loop(isa::loops::sgb_place, degree);
        }
    }
    return reader.beats_read();
}

// Writes the ids of a window.
template <class Z, class D, class Mem, class Events>
void write_window(unsigned count, TransposeMemories<D>& memories, Mem out, NumberWriter<Z>& ids,
                  WriteResponses& responses, Events& events) {
#pragma HLS INLINE
    ids.begin(count);
window_ids:
    for (unsigned id = 0; id < count; id++) {
#pragma HLS LOOP_TRIPCOUNT min=1 max=4096
#pragma HLS PIPELINE II=1 style=stp
        events.trip(isa::loops::sgb_window);
        ids.put(out, responses, memories.window[id]);
    }
    events.loop(isa::loops::sgb_window, count);
}

// The left graph turned, in as many passes over its edges as its ids take windows.
template <class D, class Z, class MemL, class MemR, class MemO, class Events>
Outcome transpose(const GraphTile& tile, MemL left, MemR right, MemO out, Events& events) {
#pragma HLS INLINE
    TransposeMemories<D> memories;
    NumberWriter<Z> ids(tile.out.ids, tile.out.edges);
    NumberWriter<Z> starts(tile.out.starts, tile.out.rows + 1);
    WriteResponses responses;
    GraphWork work;
    const GraphArrays& graph = tile.left;
    read_numbers<Z>(left, graph.starts, graph.rows, 1, memories.starts, events);
    const unsigned edges = memories.starts[0];
    clear_words(memories.places, tile.out.rows, events);
    work.right_beats += count_columns<Z>(graph, edges, memories, right, events);
    work.edges += edges;
    begin_columns<Z>(tile, memories, out, starts, responses, events);
windows:
    for (unsigned window = 0; window < edges; window += D::sgb_ids) {
#pragma HLS LOOP_TRIPCOUNT min=1 max=64
        if (window != 0) rewind_columns(tile.out.rows, memories, events);
        work.right_beats += fill_window<Z>(graph, edges, window, memories, left, right, events);
        work.edges += edges;
        const unsigned rest = edges - window;
        write_window<Z>(rest < D::sgb_ids ? rest : D::sgb_ids, memories, out, ids, responses, events);
    }
    ids.finish(out, responses);
    const unsigned waited = responses.drain(out, events);
    return {true, waited, work.edges, work.right_beats, ids.beats_written() + starts.beats_written()};
}

template <class D, class Z, class MemL, class MemR, class MemO, class ContextRam, class Events>
Outcome sgb_execute(const Word<Z, isa::instruction_bits>& instruction, MemL left, MemR right, MemO out,
                    ContextRam sgb_context, RowsFifo<Z>& rows_fifo, Events& events) {
// A function of its own: its return waits for the write responses, so the token cannot pass them.
#pragma HLS INLINE off
    const int opcode = static_cast<int>(number<Z, isa::Header::Opcode>(instruction));
    if (opcode >= isa::ConfigureLeft::opcode && opcode <= isa::ConfigureBitmap::opcode) {
        sgb_context[static_cast<unsigned>(opcode - isa::ConfigureLeft::opcode)] = instruction;
        return {true, 1};
    }
    if (opcode < isa::Compose::opcode || opcode > isa::Widen::opcode) {
        return {opcode == isa::Sync::opcode, 0};
    }
    const GraphTile tile = graph_tile<Z>(instruction, sgb_context, events);
    Outcome outcome = {true, 0};
    if (opcode == isa::Compose::opcode) {
        outcome = compose<D, Z>(tile, left, right, out, rows_fifo, events);
    } else if (opcode == isa::Transpose::opcode) {
        outcome = transpose<D, Z>(tile, left, right, out, events);
    } else {
        outcome = widen<D, Z>(tile, left, right, out, events);
    }
    events.edges(outcome.count0);
    return outcome;
}

// The engine: one instruction, from its stream to its token.
template <class D, class Z, class MemL, class MemR, class MemO, class ContextRam, class Events>
void sgb_step(hls::stream<Word<Z, isa::instruction_bits>>& instructions,
              hls::stream<Word<Z, isa::token_bits>>& tokens, MemL left, MemR right, MemO out,
              ContextRam sgb_context, RowsFifo<Z>& rows_fifo, Events& events) {
#pragma HLS INLINE
    const Word<Z, isa::instruction_bits> instruction = instructions.read();
    events.loop(isa::loops::instruction, 1);
    const Outcome outcome = sgb_execute<D, Z>(instruction, left, right, out, sgb_context, rows_fifo, events);
    // The write responses were awaited inside sgb_execute; the port is named so that no access to it moves
    // behind the token either.
    HETFAB_FENCE(out, sgb_context, rows_fifo, tokens);
    tokens.write(make_token<D, Z>(instruction, outcome));
}

}  // namespace hetfab
