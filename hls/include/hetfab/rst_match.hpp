// SPDX-License-Identifier: Apache-2.0
// RST: a maximum matching by augmenting paths (H. W. Kuhn, 1955), breadth first. Columns that a search
// without success has met are dead for good.
#pragma once

#include "rst_memory.hpp"

namespace hetfab {

// Joins a row with the first of its columns that is free. Says whether there is one.
template <class Z, unsigned Size, class Mem, class Events>
bool take_free_column(const GraphArrays& graph, const RowPlace& place, unsigned row,
                      Vertex (&column_of_row)[Size], Vertex (&row_of_column)[Size], RestructureWork& work,
                      Mem mem, Events& events) {
#pragma HLS INLINE
    bool found = false;
row_chunks:
    for (unsigned done = 0; done < place.count && !found; done += isa::rst_chunk) {
#pragma HLS LOOP_TRIPCOUNT min=1 max=512
        const unsigned count = chunk_of(place.count, done);
        NumberReader<Z> reader(graph.ids, place.first + done, count);
        reader.start(mem, events);
    tried_columns:
        for (unsigned id = 0; id < count; id++) {
#pragma HLS LOOP_TRIPCOUNT min=1 max=32
#pragma HLS PIPELINE II=1 style=stp
// Nothing that is written is read again: no column is twice in a row.
#pragma HLS DEPENDENCE variable=row_of_column type=inter dependent=false
            events.trip(isa::loops::rst_try);
            // What is left of the chunk is read all the same.
            const unsigned column = reader.next(mem);
            if (!found) {
                work.edges++;
                found = row_of_column[column] == no_vertex;
                if (found) {
                    row_of_column[column] = static_cast<Vertex>(row);
                    column_of_row[row] = static_cast<Vertex>(column);
                }
            }
        }
        events.loop(isa::loops::rst_try, count);
        work.beats += reader.beats_read();
    }
    return found;
}

// A queue of a search, and the free column that it has met.
struct SearchState {
    unsigned head;
    unsigned tail;
    bool found;
    unsigned column;
};

// Meets the columns of a row; rows behind them join the queue.
template <class Z, unsigned Size, class Mem, class Events>
void explore_row(const GraphArrays& graph, const RowPlace& place, unsigned row, unsigned root,
                 SearchState& state, Vertex (&row_of_column)[Size], Vertex (&met_by)[Size],
                 Vertex (&parent)[Size], Vertex (&queue)[Size], RestructureWork& work, Mem mem,
                 Events& events) {
#pragma HLS INLINE
row_chunks:
    for (unsigned done = 0; done < place.count && !state.found; done += isa::rst_chunk) {
#pragma HLS LOOP_TRIPCOUNT min=1 max=512
        const unsigned count = chunk_of(place.count, done);
        NumberReader<Z> reader(graph.ids, place.first + done, count);
        reader.start(mem, events);
    met_columns:
        for (unsigned id = 0; id < count; id++) {
#pragma HLS LOOP_TRIPCOUNT min=1 max=32
#pragma HLS PIPELINE II=1 style=stp
// No column is twice in a row.
#pragma HLS DEPENDENCE variable=met_by type=inter dependent=false
            events.trip(isa::loops::rst_meet);
            const unsigned column = reader.next(mem);
            const Vertex mark = met_by[column];
            const Vertex pair = row_of_column[column];
            const bool looks = !state.found;
            if (looks) work.edges++;
            if (looks && mark != gone_vertex && mark != root) {
                met_by[column] = static_cast<Vertex>(root);
                parent[column] = static_cast<Vertex>(row);
                if (pair == no_vertex) {
                    state.found = true;
                    state.column = column;
                } else {
                    queue[state.tail] = pair;
                    state.tail++;
                }
            }
        }
        events.loop(isa::loops::rst_meet, count);
        work.beats += reader.beats_read();
    }
}

// Turns the pairs of a path from a free column back to the root.
template <unsigned Size, class Events>
void flip_path(unsigned free, unsigned root, Vertex (&column_of_row)[Size], Vertex (&row_of_column)[Size],
               const Vertex (&parent)[Size], Events& events) {
#pragma HLS INLINE
    unsigned column = free;
    bool more = true;
    unsigned trips = 0;
flipped_pairs:
    while (more) {
#pragma HLS LOOP_TRIPCOUNT min=1 max=1024
#pragma HLS PIPELINE II=5 style=stp
        events.trip(isa::loops::rst_flip);
        const unsigned row = parent[column];
        const unsigned given_up = column_of_row[row];
        column_of_row[row] = static_cast<Vertex>(column);
        row_of_column[column] = static_cast<Vertex>(row);
        more = row != root;
        column = given_up;
        trips++;
    }
    events.loop(isa::loops::rst_flip, trips);
}

// The columns of the rows that a search without success has queued are dead.
template <unsigned Size, class Events>
void kill_columns(unsigned tail, const Vertex (&queue)[Size], const Vertex (&column_of_row)[Size],
                  Vertex (&met_by)[Size], Events& events) {
#pragma HLS INLINE
dead_columns:
    for (unsigned place = 1; place < tail; place++) {
#pragma HLS LOOP_TRIPCOUNT min=1 max=16384
#pragma HLS PIPELINE II=1 style=stp
        events.trip(isa::loops::rst_dead);
        met_by[column_of_row[queue[place]]] = gone_vertex;
    }
    events.loop(isa::loops::rst_dead, tail - 1);
}

// Writes the column of each row, and of each column whether it is dead.
template <class Z, unsigned Size, class Mem, class Events>
unsigned write_pairs(std::uint64_t address, unsigned rows, unsigned columns,
                     const Vertex (&column_of_row)[Size], const Vertex (&met_by)[Size], Mem out,
                     WriteResponses& responses, Events& events) {
#pragma HLS INLINE
    NumberWriter<Z> writer(address, rows + columns);
    writer.begin(rows + columns);
written_pairs:
    for (unsigned vertex = 0; vertex < rows + columns; vertex++) {
#pragma HLS LOOP_TRIPCOUNT min=1 max=32768
#pragma HLS PIPELINE II=1 style=stp
        events.trip(isa::loops::rst_pairs);
        const bool is_row = vertex < rows;
        const Vertex pair = column_of_row[is_row ? vertex : 0];
        const Vertex mark = met_by[is_row ? 0 : vertex - rows];
        const unsigned of_row = pair == no_vertex ? ~0U : pair;
        writer.put(out, responses, is_row ? of_row : mark == gone_vertex ? 1U : 0U);
    }
    events.loop(isa::loops::rst_pairs, rows + columns);
    writer.finish(out, responses);
    return writer.beats_written();
}

// A maximum matching from the rows: each takes a free column first, then the rest search.
template <class D, class Z, class MemG, class MemO, class Events>
Outcome match(const RestructureTile& tile, std::uint64_t address, unsigned columns,
              RestructureMemories<D>& memories, MemG graph_port, MemO out, Events& events) {
#pragma HLS INLINE
    auto& column_of_row = memories.first;
    auto& row_of_column = memories.second;
    auto& met_by = memories.third;
    auto& parent = memories.fourth;
    auto& queue = memories.fifth;
    auto& free_rows = memories.sixth;
    const GraphArrays& graph = tile.graph;
    RestructureWork work;
    WriteResponses responses;
    read_vertices<Z>(graph.starts, 0, graph.rows + 1, memories.starts, work, graph_port, events);
    const unsigned vertices = graph.rows > columns ? graph.rows : columns;
cleared_vertices:
    for (unsigned vertex = 0; vertex < vertices; vertex++) {
#pragma HLS LOOP_TRIPCOUNT min=1 max=16384
#pragma HLS PIPELINE II=1 style=stp
        events.trip(isa::loops::rst_clear);
        column_of_row[vertex] = no_vertex;
        row_of_column[vertex] = no_vertex;
        met_by[vertex] = no_vertex;
    }
    events.loop(isa::loops::rst_clear, vertices);
    unsigned free_count = 0;
tried_rows:
    for (unsigned row = 0; row < graph.rows; row++) {
#pragma HLS LOOP_TRIPCOUNT min=1 max=16384
        const RowPlace place = row_place(memories.starts, row);
        if (place.count == 0) continue;
        if (take_free_column<Z>(graph, place, row, column_of_row, row_of_column, work, graph_port, events)) {
            continue;
        }
        free_rows[free_count] = static_cast<Vertex>(row);
        free_count++;
    }
searched_rows:
    for (unsigned number = 0; number < free_count; number++) {
#pragma HLS LOOP_TRIPCOUNT min=1 max=16384
        const unsigned root = free_rows[number];
        SearchState state = {0, 1, false, 0};
        queue[0] = static_cast<Vertex>(root);
    queued_rows:
        while (state.head < state.tail && !state.found) {
#pragma HLS LOOP_TRIPCOUNT min=1 max=16384
            const unsigned row = queue[state.head];
            state.head++;
            explore_row<Z>(graph, row_place(memories.starts, row), row, root, state, row_of_column, met_by,
                           parent, queue, work, graph_port, events);
        }
        if (state.found) {
            flip_path(state.column, root, column_of_row, row_of_column, parent, events);
        } else {
            kill_columns(state.tail, queue, column_of_row, met_by, events);
        }
    }
    const unsigned beats =
        write_pairs<Z>(address, graph.rows, columns, column_of_row, met_by, out, responses, events);
    const unsigned waited = responses.drain(out, events);
    return {true, waited, work.edges, work.beats, beats};
}

}  // namespace hetfab
