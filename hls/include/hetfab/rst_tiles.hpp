// SPDX-License-Identifier: Apache-2.0
// RST: rows in the order in which tiles take them, by degree or grown.
#pragma once

#include "rst_lists.hpp"
#include "rst_memory.hpp"

namespace hetfab {

// How rows are ordered.
struct TileRule {
    bool grown;
    bool most_edges_first;
    unsigned stride;
    unsigned tile_rows;
};

// Rows of each degree, which is above 0. Returns the rows with edges.
template <class D, class Events>
unsigned count_degrees(unsigned rows, RestructureMemories<D>& memories, Events& events) {
#pragma HLS INLINE
    unsigned active = 0;
counted_degrees:
    for (unsigned row = 0; row < rows; row++) {
#pragma HLS LOOP_TRIPCOUNT min=1 max=16384
#pragma HLS PIPELINE II=2 style=stp
        events.trip(isa::loops::rst_degrees);
        const unsigned degree = memories.starts[row + 1] - memories.starts[row];
        if (degree != 0) {
            memories.places[degree - 1] = memories.places[degree - 1] + 1;
            active++;
        }
    }
    events.loop(isa::loops::rst_degrees, rows);
    return active;
}

// Turns the counts of degrees into the places of the first row of each.
template <class D, class Events>
void begin_degrees(unsigned columns, bool most_first, RestructureMemories<D>& memories, Events& events) {
#pragma HLS INLINE
    unsigned next = 0;
degree_places:
    for (unsigned number = 0; number < columns; number++) {
#pragma HLS LOOP_TRIPCOUNT min=1 max=16384
#pragma HLS PIPELINE II=2 style=stp
        events.trip(isa::loops::rst_begin);
        const unsigned degree = most_first ? columns - 1 - number : number;
        const unsigned count = memories.places[degree];
        memories.places[degree] = next;
        next += count;
    }
    events.loop(isa::loops::rst_begin, columns);
}

// Puts each row with edges to its place by degree.
template <class D, class Events>
void sort_rows(unsigned rows, RestructureMemories<D>& memories, Vertex (&seeds)[D::rst_vertices],
               Events& events) {
#pragma HLS INLINE
sorted_rows:
    for (unsigned row = 0; row < rows; row++) {
#pragma HLS LOOP_TRIPCOUNT min=1 max=16384
#pragma HLS PIPELINE II=2 style=stp
        events.trip(isa::loops::rst_sort);
        const unsigned degree = memories.starts[row + 1] - memories.starts[row];
        if (degree != 0) {
            const unsigned place = memories.places[degree - 1];
            memories.places[degree - 1] = place + 1;
            seeds[place] = static_cast<Vertex>(row);
        }
    }
    events.loop(isa::loops::rst_sort, rows);
}

// Counts of each row the columns that are sampled.
template <class Z, unsigned Size, class Mem, class Events>
void sample_column(const GraphArrays& turned, const RowPlace& place, Vertex (&sampled)[Size],
                   RestructureWork& work, Mem mem, Events& events) {
#pragma HLS INLINE
    NumberReader<Z> reader(turned.ids, place.first, place.count);
    reader.start(mem, events);
sampled_rows:
    for (unsigned id = 0; id < place.count; id++) {
#pragma HLS LOOP_TRIPCOUNT min=1 max=1024
#pragma HLS PIPELINE II=1 style=stp
// No row is twice in a column.
#pragma HLS DEPENDENCE variable=sampled type=inter dependent=false
        events.trip(isa::loops::rst_samples);
        const unsigned row = reader.next(mem);
        sampled[row] = static_cast<Vertex>(sampled[row] + 1);
    }
    events.loop(isa::loops::rst_samples, place.count);
    work.edges += place.count;
    work.beats += reader.beats_read();
}

// Lists the sampled columns of a chunk that the tile does not have yet.
template <class Z, unsigned Size, class Mem, class Events>
void enter_tile(const GraphArrays& graph, unsigned first, unsigned count, Vertex tile,
                Vertex (&tile_of_column)[Size], ChunkColumns& chunk, RestructureWork& work, Mem mem,
                Events& events) {
#pragma HLS INLINE
    NumberReader<Z> reader(graph.ids, first, count);
    reader.start(mem, events);
    chunk.count = 0;
inside_columns:
    for (unsigned id = 0; id < count; id++) {
#pragma HLS LOOP_TRIPCOUNT min=1 max=32
#pragma HLS PIPELINE II=1 style=stp
// No column is twice in a row.
#pragma HLS DEPENDENCE variable=tile_of_column type=inter dependent=false
        events.trip(isa::loops::rst_inside);
        const unsigned column = reader.next(mem);
        const Vertex mark = tile_of_column[column];
        if (mark != gone_vertex && mark != tile) {
            tile_of_column[column] = tile;
            chunk.columns[chunk.count] = static_cast<Vertex>(column);
            chunk.count++;
        }
    }
    events.loop(isa::loops::rst_inside, count);
    work.edges += count;
    work.beats += reader.beats_read();
}

// Raises the shares of the rows that a column leads to and no tile has.
template <class Z, class D, class Mem, class Events>
void visit_rows(const GraphArrays& turned, const RowPlace& place, Vertex tile, ShareLists& lists,
                RestructureMemories<D>& memories, RestructureWork& work, Mem mem, Events& events) {
#pragma HLS INLINE
    auto& tile_of_row = memories.second;
    auto& sampled = memories.third;
    auto& overlap = memories.fifth;
    auto& share = memories.sixth;
    NumberReader<Z> reader(turned.ids, place.first, place.count);
    reader.start(mem, events);
visited_rows:
    for (unsigned id = 0; id < place.count; id++) {
#pragma HLS LOOP_TRIPCOUNT min=1 max=1024
#pragma HLS PIPELINE II=4 style=stp
        events.trip(isa::loops::rst_visit);
        const unsigned row = reader.next(mem);
        const Vertex mark = tile_of_row[row];
        if (mark != gone_vertex) {
            const bool fresh = mark != tile;
            const unsigned shared = fresh ? 1 : overlap[row] + 1U;
            const unsigned raised = share_of(shared, sampled[row]);
            const unsigned old = share[row];
            if (!fresh && raised != old) {
                leave_list(lists, row, old, memories.seventh, memories.eighth);
            }
            if (fresh || raised != old) {
                enter_list(lists, row, raised, memories.seventh, memories.eighth);
            }
            tile_of_row[row] = tile;
            overlap[row] = static_cast<Vertex>(shared);
            share[row] = static_cast<Vertex>(raised);
        }
    }
    events.loop(isa::loops::rst_visit, place.count);
    work.edges += place.count;
    work.beats += reader.beats_read();
}

// Takes the row with the largest share, or the next one by degree, and writes it.
template <class Z, class D, class Mem, class Events>
unsigned take_row(ShareLists& lists, unsigned& seed, RestructureMemories<D>& memories, NumberWriter<Z>& order,
                  Mem out, WriteResponses& responses, Events& events) {
#pragma HLS INLINE
    const auto& seeds = memories.first;
    auto& tile_of_row = memories.second;
    unsigned row = 0;
    bool found = false;
    unsigned trips = 0;
next_rows:
    while (!found) {
#pragma HLS LOOP_TRIPCOUNT min=1 max=1024
#pragma HLS PIPELINE II=4 style=stp
        events.trip(isa::loops::rst_next);
        const unsigned share = highest_share(lists);
        if (share < isa::rst_scores) {
            row = lists.heads[share];
            leave_list(lists, row, share, memories.seventh, memories.eighth);
            found = true;
        } else {
            row = seeds[seed];
            found = tile_of_row[row] != gone_vertex;
            seed++;
        }
        if (found) {
            tile_of_row[row] = gone_vertex;
            order.put(out, responses, row);
        }
        trips++;
    }
    events.loop(isa::loops::rst_next, trips);
    return row;
}

// Clears what growing keeps, and samples every few-th column.
template <class D, class Z, class Mem, class Events>
void begin_growing(const RestructureTile& tile, unsigned stride, RestructureMemories<D>& memories,
                   RestructureWork& work, Mem mem, Events& events) {
#pragma HLS INLINE
    auto& tile_of_row = memories.second;
    auto& sampled = memories.third;
    auto& tile_of_column = memories.fourth;
    const unsigned columns = tile.turned.rows;
    const unsigned vertices = tile.graph.rows > columns ? tile.graph.rows : columns;
cleared_vertices:
    for (unsigned vertex = 0; vertex < vertices; vertex++) {
#pragma HLS LOOP_TRIPCOUNT min=1 max=16384
#pragma HLS PIPELINE II=1 style=stp
        events.trip(isa::loops::rst_clear);
        tile_of_row[vertex] = no_vertex;
        sampled[vertex] = 0;
        tile_of_column[vertex] = gone_vertex;
    }
    events.loop(isa::loops::rst_clear, vertices);
sampled_columns:
    for (unsigned column = 0; column < columns; column += stride) {
#pragma HLS LOOP_TRIPCOUNT min=1 max=16384
        tile_of_column[column] = no_vertex;
        sample_column<Z>(tile.turned, row_place(memories.turned_starts, column), sampled, work, mem, events);
    }
}

// Rows with edges, sorted by degree or grown to tiles.
template <class D, class Z, class MemG, class MemO, class Events>
Outcome grow_tiles(const RestructureTile& tile, std::uint64_t address, const TileRule& rule,
                   RestructureMemories<D>& memories, MemG graph_port, MemO out, Events& events) {
#pragma HLS INLINE
    const GraphArrays& graph = tile.graph;
    const GraphArrays& turned = tile.turned;
    RestructureWork work;
    WriteResponses responses;
    ShareLists lists;
#pragma HLS ARRAY_PARTITION variable=lists.filled type=complete dim=0
    read_vertices<Z>(graph.starts, 0, graph.rows + 1, memories.starts, work, graph_port, events);
    read_vertices<Z>(turned.starts, 0, turned.rows + 1, memories.turned_starts, work, graph_port, events);
cleared_places:
    for (unsigned degree = 0; degree < turned.rows; degree++) {
#pragma HLS LOOP_TRIPCOUNT min=1 max=16384
#pragma HLS PIPELINE II=1 style=stp
        events.trip(isa::loops::rst_clear);
        memories.places[degree] = 0;
    }
    events.loop(isa::loops::rst_clear, turned.rows);
    const unsigned active = count_degrees(graph.rows, memories, events);
    begin_degrees(turned.rows, rule.most_edges_first, memories, events);
    sort_rows(graph.rows, memories, memories.first, events);
    if (!rule.grown) {
        const unsigned beats = write_order<Z>(address, active, memories.first, out, responses, events);
        const unsigned waited = responses.drain(out, events);
        return {true, waited, work.edges, work.beats, beats};
    }
    begin_growing<D, Z>(tile, rule.stride, memories, work, graph_port, events);
    NumberWriter<Z> order(address, active + 1);
    order.begin(active + 1);
    order.put(out, responses, active);
    unsigned seed = 0;
    unsigned number = 0;
grown_tiles:
    for (unsigned done = 0; done < active; done += rule.tile_rows) {
#pragma HLS LOOP_TRIPCOUNT min=1 max=128
        const unsigned rest = active - done;
        const unsigned rows = rest < rule.tile_rows ? rest : rule.tile_rows;
        clear_lists(lists);
    tile_rows:
        for (unsigned count = 0; count < rows; count++) {
#pragma HLS LOOP_TRIPCOUNT min=1 max=2048
            const unsigned row = take_row<Z>(lists, seed, memories, order, out, responses, events);
            const RowPlace place = row_place(memories.starts, row);
        row_chunks:
            for (unsigned ids = 0; ids < place.count; ids += isa::rst_chunk) {
#pragma HLS LOOP_TRIPCOUNT min=1 max=512
                ChunkColumns chunk;
                enter_tile<Z>(graph, place.first + ids, chunk_of(place.count, ids),
                              static_cast<Vertex>(number), memories.fourth, chunk, work, graph_port, events);
            chunk_columns:
                for (unsigned inside = 0; inside < chunk.count; inside++) {
#pragma HLS LOOP_TRIPCOUNT min=1 max=32
                    visit_rows<Z>(turned, row_place(memories.turned_starts, chunk.columns[inside]),
                                  static_cast<Vertex>(number), lists, memories, work, graph_port, events);
                }
            }
        }
        number++;
    }
    order.finish(out, responses);
    const unsigned waited = responses.drain(out, events);
    return {true, waited, work.edges, work.beats, order.beats_written()};
}

}  // namespace hetfab
