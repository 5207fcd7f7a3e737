// SPDX-License-Identifier: Apache-2.0
// What RST reads, and what it keeps on chip: the starts of a graph and of the same graph turned, and numbers
// of vertices.
#pragma once

#include "graph_arrays.hpp"
#include "numbers.hpp"

namespace hetfab {

using Vertex = std::uint16_t;
// No vertex has these numbers.
constexpr Vertex no_vertex = 0xFFFF;
constexpr Vertex gone_vertex = 0xFFFE;

// What an instruction of RST reads.
struct RestructureTile {
    GraphArrays graph;
    GraphArrays turned;
    bool matching_of_turned;
    std::uint64_t matching;
    std::uint64_t walk;
};

template <class Z, class ContextRam, class Events>
RestructureTile restructure_tile(ContextRam rst_context, Events& events) {
#pragma HLS INLINE
    Word<Z, isa::instruction_bits> context[isa::rst_words];
#pragma HLS ARRAY_PARTITION variable=context type=complete dim=0
restructure_words:
    for (unsigned word = 0; word < isa::rst_words; word++) {
#pragma HLS PIPELINE II=1 style=stp
        events.trip(isa::loops::rst_context);
        context[word] = rst_context[word];
    }
    events.loop(isa::loops::rst_context, isa::rst_words);
    return {graph_arrays<Z, isa::ConfigureGraph>(context[0]),
            graph_arrays<Z, isa::ConfigureTurned>(context[1]),
            flag<Z, isa::ConfigureMatching::OfTurned>(context[2]),
            static_cast<std::uint64_t>(get<Z, isa::ConfigureMatching::Address>(context[2])),
            static_cast<std::uint64_t>(get<Z, isa::ConfigureWalk::Address>(context[3]))};
}

// What RST keeps on chip: the instructions use the same memories, and their functions name them.
template <class D>
struct RestructureMemories {
    unsigned starts[D::rst_vertices + 1];
    unsigned turned_starts[D::rst_vertices + 1];
    unsigned places[D::rst_vertices];
    Vertex first[D::rst_vertices];
    Vertex second[D::rst_vertices];
    Vertex third[D::rst_vertices];
    Vertex fourth[D::rst_vertices];
    Vertex fifth[D::rst_vertices];
    Vertex sixth[D::rst_vertices];
    Vertex seventh[D::rst_vertices];
    Vertex eighth[D::rst_vertices];
};

// What an instruction of RST has done so far.
struct RestructureWork {
    unsigned edges = 0;
    std::uint64_t beats = 0;
};

// Numbers from DRAM to a memory on chip.
template <class Z, class Element, unsigned Size, class Mem, class Events>
void read_vertices(std::uint64_t array, unsigned first, unsigned count, Element (&numbers)[Size],
                   RestructureWork& work, Mem mem, Events& events) {
#pragma HLS INLINE
    NumberReader<Z> reader(array, first, count);
    reader.start(mem, events);
vertex_numbers:
    for (unsigned place = 0; place < count; place++) {
#pragma HLS LOOP_TRIPCOUNT min=1 max=16385
#pragma HLS PIPELINE II=1 style=stp
        events.trip(isa::loops::rst_numbers);
        numbers[place] = static_cast<Element>(reader.next(mem));
    }
    events.loop(isa::loops::rst_numbers, count);
    work.beats += reader.beats_read();
}

template <unsigned Size>
RowPlace row_place(const unsigned (&starts)[Size], unsigned row) {
#pragma HLS INLINE
    return {starts[row], starts[row + 1] - starts[row]};
}

// Ids of a row that are read at once, from the one that follows `done` of them on.
inline unsigned chunk_of(unsigned count, unsigned done) {
#pragma HLS INLINE
    const unsigned rest = count - done;
    return rest < isa::rst_chunk ? rest : isa::rst_chunk;
}

// Columns of a chunk of ids that were not met before.
struct ChunkColumns {
    unsigned count;
    Vertex columns[isa::rst_chunk];
};

// Writes the number of vertices, and then them.
template <class Z, unsigned Size, class Mem, class Events>
unsigned write_order(std::uint64_t address, unsigned count, const Vertex (&order)[Size], Mem out,
                     WriteResponses& responses, Events& events) {
#pragma HLS INLINE
    NumberWriter<Z> writer(address, count + 1);
    writer.begin(count + 1);
order_numbers:
    for (unsigned number = 0; number <= count; number++) {
#pragma HLS LOOP_TRIPCOUNT min=1 max=16385
#pragma HLS PIPELINE II=1 style=stp
        events.trip(isa::loops::rst_order);
        const Vertex vertex = order[number == 0 ? 0 : number - 1];
        writer.put(out, responses, number == 0 ? count : unsigned{vertex});
    }
    events.loop(isa::loops::rst_order, count + 1);
    writer.finish(out, responses);
    return writer.beats_written();
}

// Where the second order of a walk begins.
inline std::uint64_t column_order(std::uint64_t walk, unsigned rows) {
#pragma HLS INLINE
    constexpr unsigned numbers_per_block = isa::block_bytes / 4;
    return walk + std::uint64_t{isa::block_bytes} * ((rows + numbers_per_block) / numbers_per_block);
}

}  // namespace hetfab
