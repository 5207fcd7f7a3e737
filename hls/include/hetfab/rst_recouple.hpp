// SPDX-License-Identifier: Apache-2.0
// RST: the edges of a graph in the three subgraphs that a matching's cover makes of it (arXiv:2408.15089).
#pragma once

#include "rst_memory.hpp"

namespace hetfab {

// Which edges a subgraph has, by what covers them, and how they go: edges get their places on the major side
// while the minor side is walked.
struct Subgraph {
    bool row_covers;
    bool column_covers;
    // The major side are columns.
    bool by_column;
};

// Reads a matching, and marks what covers: dead columns of it, and rows whose column is not dead.
template <class Z, unsigned Size, class Mem, class Events>
void read_cover(const RestructureTile& tile, Vertex (&pairs)[Size], Vertex (&dead)[Size],
                Vertex (&row_covers)[Size], Vertex (&column_covers)[Size], RestructureWork& work, Mem mem,
                Events& events) {
#pragma HLS INLINE
    const unsigned rows = tile.matching_of_turned ? tile.turned.rows : tile.graph.rows;
    const unsigned columns = tile.matching_of_turned ? tile.graph.rows : tile.turned.rows;
    read_vertices<Z>(tile.matching, 0, rows, pairs, work, mem, events);
    read_vertices<Z>(tile.matching, rows, columns, dead, work, mem, events);
    const unsigned vertices = rows > columns ? rows : columns;
covered_vertices:
    for (unsigned vertex = 0; vertex < vertices; vertex++) {
#pragma HLS LOOP_TRIPCOUNT min=1 max=16384
#pragma HLS PIPELINE II=1 style=stp
        events.trip(isa::loops::rst_covers);
        const Vertex pair = vertex < rows ? pairs[vertex] : no_vertex;
        const bool by_pair = pair != no_vertex && dead[pair] == 0;
        const bool by_death = vertex < columns && dead[vertex] != 0;
        row_covers[vertex] = static_cast<Vertex>(tile.matching_of_turned ? by_death : by_pair);
        column_covers[vertex] = static_cast<Vertex>(tile.matching_of_turned ? by_pair : by_death);
    }
    events.loop(isa::loops::rst_covers, vertices);
}

// Reads an order; returns the number of its vertices.
template <class Z, unsigned Size, class Mem, class Events>
unsigned read_order(std::uint64_t address, Vertex (&order)[Size], RestructureWork& work, Mem mem,
                    Events& events) {
#pragma HLS INLINE
    unsigned count[1];
    read_vertices<Z>(address, 0, 1, count, work, mem, events);
    read_vertices<Z>(address, 1, count[0], order, work, mem, events);
    return count[0];
}

// A vertex at a place of the walk, and where its ids are.
struct MinorVertex {
    bool wanted;
    RowPlace place;
};

// The vertex of the minor side at a place of its order; it is wanted if it covers as the subgraph says.
template <class D>
MinorVertex minor_vertex(const Subgraph& subgraph, unsigned place, const RestructureMemories<D>& memories) {
#pragma HLS INLINE
    if (subgraph.by_column) {
        const unsigned row = memories.first[place];
        return {(memories.third[row] != 0) == subgraph.row_covers, row_place(memories.starts, row)};
    }
    const unsigned column = memories.second[place];
    return {(memories.fourth[column] != 0) == subgraph.column_covers,
            row_place(memories.turned_starts, column)};
}

// Whether a vertex of the major side covers as the subgraph says.
template <class D>
bool is_major(const Subgraph& subgraph, unsigned vertex, const RestructureMemories<D>& memories) {
#pragma HLS INLINE
    if (subgraph.by_column) return (memories.fourth[vertex] != 0) == subgraph.column_covers;
    return (memories.third[vertex] != 0) == subgraph.row_covers;
}

// Counts the edges of each vertex of the major side that the ids of a minor one lead to.
template <class Z, class D, class Mem, class Events>
void count_edges(const Subgraph& subgraph, std::uint64_t ids, const RowPlace& place,
                 RestructureMemories<D>& memories, RestructureWork& work, Mem mem, Events& events) {
#pragma HLS INLINE
    NumberReader<Z> reader(ids, place.first, place.count);
    reader.start(mem, events);
counted_ids:
    for (unsigned id = 0; id < place.count; id++) {
#pragma HLS LOOP_TRIPCOUNT min=1 max=1024
#pragma HLS PIPELINE II=1 style=stp
// No id is twice in a row.
#pragma HLS DEPENDENCE variable=memories.places type=inter dependent=false
        events.trip(isa::loops::rst_count);
        const unsigned major = reader.next(mem);
        const unsigned count = memories.places[major];
        if (is_major(subgraph, major, memories)) memories.places[major] = count + 1;
    }
    events.loop(isa::loops::rst_count, place.count);
    work.edges += place.count;
    work.beats += reader.beats_read();
}

// Writes each edge to the next place of its major vertex: a beat of its own.
template <class Z, class D, class MemG, class MemO, class Events>
void scatter_edges(const Subgraph& subgraph, std::uint64_t ids, unsigned minor, const RowPlace& place,
                   std::uint64_t edges, RestructureMemories<D>& memories, RestructureWork& work,
                   MemG graph_port, MemO out, WriteResponses& responses, Events& events) {
#pragma HLS INLINE
    NumberReader<Z> reader(ids, place.first, place.count);
    reader.start(graph_port, events);
scattered_edges:
    for (unsigned id = 0; id < place.count; id++) {
#pragma HLS LOOP_TRIPCOUNT min=1 max=1024
#pragma HLS PIPELINE II=1 style=stp
// No id is twice in a row.
#pragma HLS DEPENDENCE variable=memories.places type=inter dependent=false
        events.trip(isa::loops::rst_scatter);
        const unsigned major = reader.next(graph_port);
        const unsigned target = memories.places[major];
        if (is_major(subgraph, major, memories)) {
            memories.places[major] = target + 1;
            Word<Z, 64> beat = zero<Z, 64>();
            set_lane<Z, 32>(beat, 0, subgraph.by_column ? major : minor);
            set_lane<Z, 32>(beat, 1, subgraph.by_column ? minor : major);
            out.write_request(edges / beat_bytes + target, 1);
            out.write(beat);
            responses.expect(out);
        }
    }
    events.loop(isa::loops::rst_scatter, place.count);
    work.edges += place.count;
    work.beats += reader.beats_read();
}

// Clears the counts of the vertices of an order.
template <class D, class Events>
void clear_counts(const Subgraph& subgraph, unsigned count, RestructureMemories<D>& memories,
                  Events& events) {
#pragma HLS INLINE
cleared_counts:
    for (unsigned place = 0; place < count; place++) {
#pragma HLS LOOP_TRIPCOUNT min=1 max=16384
#pragma HLS PIPELINE II=1 style=stp
        events.trip(isa::loops::rst_counts);
        const Vertex row = memories.first[place];
        const Vertex column = memories.second[place];
        memories.places[subgraph.by_column ? column : row] = 0;
    }
    events.loop(isa::loops::rst_counts, count);
}

// Turns the counts of the vertices of an order into the places of their first edges; returns the next place.
template <class D, class Events>
unsigned first_places(const Subgraph& subgraph, unsigned count, unsigned next,
                      RestructureMemories<D>& memories, Events& events) {
#pragma HLS INLINE
first_places:
    for (unsigned place = 0; place < count; place++) {
#pragma HLS LOOP_TRIPCOUNT min=1 max=16384
#pragma HLS PIPELINE II=1 style=stp
// No vertex is twice in an order.
#pragma HLS DEPENDENCE variable=memories.places type=inter dependent=false
        events.trip(isa::loops::rst_first);
        const Vertex row = memories.first[place];
        const Vertex column = memories.second[place];
        const unsigned vertex = subgraph.by_column ? column : row;
        const unsigned edges = memories.places[vertex];
        memories.places[vertex] = next;
        next += edges;
    }
    events.loop(isa::loops::rst_first, count);
    return next;
}

// The edges of a graph in three subgraphs; `first` to `fourth` are the orders of rows and columns and what
// covers of each.
template <class D, class Z, class MemG, class MemO, class Events>
Outcome recouple(const RestructureTile& tile, std::uint64_t address, bool by_column,
                 RestructureMemories<D>& memories, MemG graph_port, MemO out, Events& events) {
#pragma HLS INLINE
    const GraphArrays& graph = tile.graph;
    const GraphArrays& turned = tile.turned;
    RestructureWork work;
    WriteResponses responses;
    read_vertices<Z>(graph.starts, 0, graph.rows + 1, memories.starts, work, graph_port, events);
    read_vertices<Z>(turned.starts, 0, turned.rows + 1, memories.turned_starts, work, graph_port, events);
    read_cover<Z>(tile, memories.fifth, memories.sixth, memories.third, memories.fourth, work, graph_port,
                  events);
    const unsigned rows = read_order<Z>(tile.walk, memories.first, work, graph_port, events);
    const unsigned columns =
        read_order<Z>(column_order(tile.walk, graph.rows), memories.second, work, graph_port, events);
    const Subgraph subgraphs[3] = {{false, true, by_column}, {true, true, by_column}, {true, false, false}};
    unsigned next = 0;
subgraphs:
    for (unsigned number = 0; number < 3; number++) {
        const Subgraph subgraph = subgraphs[number];
        const unsigned majors = subgraph.by_column ? columns : rows;
        const unsigned minors = subgraph.by_column ? rows : columns;
        const std::uint64_t ids = subgraph.by_column ? graph.ids : turned.ids;
        clear_counts(subgraph, majors, memories, events);
    counted_vertices:
        for (unsigned place = 0; place < minors; place++) {
#pragma HLS LOOP_TRIPCOUNT min=1 max=16384
            const MinorVertex minor = minor_vertex(subgraph, place, memories);
            if (minor.wanted) {
                count_edges<Z>(subgraph, ids, minor.place, memories, work, graph_port, events);
            }
        }
        next = first_places(subgraph, majors, next, memories, events);
    scattered_vertices:
        for (unsigned place = 0; place < minors; place++) {
#pragma HLS LOOP_TRIPCOUNT min=1 max=16384
            const MinorVertex minor = minor_vertex(subgraph, place, memories);
            const Vertex row = memories.first[place];
            const Vertex column = memories.second[place];
            if (minor.wanted) {
                scatter_edges<Z>(subgraph, ids, subgraph.by_column ? row : column, minor.place, address,
                                 memories, work, graph_port, out, responses, events);
            }
        }
    }
    const unsigned waited = responses.drain(out, events);
    return {true, waited, work.edges, work.beats, next};
}

}  // namespace hetfab
