// SPDX-License-Identifier: Apache-2.0
// RST: a breadth-first walk from row to row of a graph by their columns.
#pragma once

#include "rst_memory.hpp"

namespace hetfab {

// Both orders of a walk, and what it has met.
struct WalkState {
    unsigned rows = 0;
    unsigned columns = 0;
};

// Lists the columns of a chunk that are new.
template <class Z, unsigned Size, class Mem, class Events>
void meet_near(const GraphArrays& graph, unsigned first, unsigned count, Vertex (&met)[Size],
               Vertex (&order)[Size], WalkState& state, ChunkColumns& chunk, RestructureWork& work, Mem mem,
               Events& events) {
#pragma HLS INLINE
    NumberReader<Z> reader(graph.ids, first, count);
    reader.start(mem, events);
    chunk.count = 0;
near_columns:
    for (unsigned id = 0; id < count; id++) {
#pragma HLS LOOP_TRIPCOUNT min=1 max=32
#pragma HLS PIPELINE II=1 style=stp
// No column is twice in a row.
#pragma HLS DEPENDENCE variable=met type=inter dependent=false
        events.trip(isa::loops::rst_near);
        const unsigned column = reader.next(mem);
        if (met[column] == no_vertex) {
            met[column] = 0;
            order[state.columns] = static_cast<Vertex>(column);
            state.columns++;
            chunk.columns[chunk.count] = static_cast<Vertex>(column);
            chunk.count++;
        }
    }
    events.loop(isa::loops::rst_near, count);
    work.edges += count;
    work.beats += reader.beats_read();
}

// Queues the rows of a column that are new.
template <class Z, unsigned Size, class Mem, class Events>
void meet_far(const GraphArrays& turned, const RowPlace& place, Vertex (&met)[Size], Vertex (&order)[Size],
              WalkState& state, RestructureWork& work, Mem mem, Events& events) {
#pragma HLS INLINE
    NumberReader<Z> reader(turned.ids, place.first, place.count);
    reader.start(mem, events);
far_rows:
    for (unsigned id = 0; id < place.count; id++) {
#pragma HLS LOOP_TRIPCOUNT min=1 max=1024
#pragma HLS PIPELINE II=1 style=stp
// No row is twice in a column.
#pragma HLS DEPENDENCE variable=met type=inter dependent=false
        events.trip(isa::loops::rst_far);
        const unsigned row = reader.next(mem);
        if (met[row] == no_vertex) {
            met[row] = 0;
            order[state.rows] = static_cast<Vertex>(row);
            state.rows++;
        }
    }
    events.loop(isa::loops::rst_far, place.count);
    work.edges += place.count;
    work.beats += reader.beats_read();
}

// The next row with edges that is not met, or the number of rows.
template <unsigned Size, unsigned Starts, class Events>
unsigned next_root(unsigned first, unsigned rows, const unsigned (&starts)[Starts], const Vertex (&met)[Size],
                   Events& events) {
#pragma HLS INLINE
    unsigned row = first;
    bool found = false;
    unsigned trips = 0;
walk_roots:
    while (row < rows && !found) {
#pragma HLS LOOP_TRIPCOUNT min=1 max=16384
#pragma HLS PIPELINE II=3 style=stp
        events.trip(isa::loops::rst_roots);
        found = met[row] == no_vertex && starts[row] != starts[row + 1];
        if (!found) row++;
        trips++;
    }
    events.loop(isa::loops::rst_roots, trips);
    return row;
}

// Breadth first from row to row by their columns.
template <class D, class Z, class MemG, class MemO, class Events>
Outcome walk(const RestructureTile& tile, std::uint64_t address, RestructureMemories<D>& memories,
             MemG graph_port, MemO out, Events& events) {
#pragma HLS INLINE
    auto& row_order = memories.first;
    auto& columns = memories.second;
    auto& met_rows = memories.third;
    auto& met_columns = memories.fourth;
    const GraphArrays& graph = tile.graph;
    const GraphArrays& turned = tile.turned;
    RestructureWork work;
    WriteResponses responses;
    WalkState state;
    read_vertices<Z>(graph.starts, 0, graph.rows + 1, memories.starts, work, graph_port, events);
    read_vertices<Z>(turned.starts, 0, turned.rows + 1, memories.turned_starts, work, graph_port, events);
    const unsigned vertices = graph.rows > turned.rows ? graph.rows : turned.rows;
cleared_vertices:
    for (unsigned vertex = 0; vertex < vertices; vertex++) {
#pragma HLS LOOP_TRIPCOUNT min=1 max=16384
#pragma HLS PIPELINE II=1 style=stp
        events.trip(isa::loops::rst_clear);
        met_rows[vertex] = no_vertex;
        met_columns[vertex] = no_vertex;
    }
    events.loop(isa::loops::rst_clear, vertices);
    unsigned head = 0;
    unsigned root = next_root(0, graph.rows, memories.starts, met_rows, events);
walked_roots:
    while (root < graph.rows) {
#pragma HLS LOOP_TRIPCOUNT min=1 max=1024
        met_rows[root] = 0;
        row_order[state.rows] = static_cast<Vertex>(root);
        state.rows++;
    queued_rows:
        while (head < state.rows) {
#pragma HLS LOOP_TRIPCOUNT min=1 max=16384
            const RowPlace place = row_place(memories.starts, row_order[head]);
            head++;
        row_chunks:
            for (unsigned done = 0; done < place.count; done += isa::rst_chunk) {
#pragma HLS LOOP_TRIPCOUNT min=1 max=512
                ChunkColumns chunk;
                meet_near<Z>(graph, place.first + done, chunk_of(place.count, done), met_columns, columns,
                             state, chunk, work, graph_port, events);
            chunk_columns:
                for (unsigned number = 0; number < chunk.count; number++) {
#pragma HLS LOOP_TRIPCOUNT min=1 max=32
                    meet_far<Z>(turned, row_place(memories.turned_starts, chunk.columns[number]), met_rows,
                                row_order, state, work, graph_port, events);
                }
            }
        }
        root = next_root(root + 1, graph.rows, memories.starts, met_rows, events);
    }
    unsigned beats = write_order<Z>(address, state.rows, row_order, out, responses, events);
    beats +=
        write_order<Z>(column_order(address, graph.rows), state.columns, columns, out, responses, events);
    const unsigned waited = responses.drain(out, events);
    return {true, waited, work.edges, work.beats, beats};
}

}  // namespace hetfab
