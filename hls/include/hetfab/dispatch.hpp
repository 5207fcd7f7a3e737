// SPDX-License-Identifier: Apache-2.0
// DISPATCH: fetches the program, queues instructions per engine, keeps the semaphores, resolves addresses and
// issues. The state is a plain struct and a pass is one trip of the polling loop, so that hardware loops it
// and the emulator steps it.
#pragma once

#include <cstdint>

#include "counters.hpp"
#include "shim.hpp"
#include "types.hpp"

namespace hetfab {

constexpr unsigned no_instruction = 0xffffffff;
// Instructions of one fetch: 16 beats of 128 bits.
constexpr unsigned fetch_words = 16;
constexpr unsigned instruction_bytes = isa::instruction_bits / 8;

// What the driver writes.
struct DispatchRegisters {
    std::uint32_t program_length;
    std::uint64_t segment_base[isa::segment::count];
    std::uint64_t segment_size[isa::segment::count];
};

// What the driver reads.
struct DispatchStatus {
    std::uint32_t isa_version;
    std::uint64_t geometry_hash;
    std::uint32_t engines;
    std::uint32_t gemm_d_shape;
    std::uint32_t gemm_l_shape;
    std::uint32_t lanes;
    std::uint32_t fetched;
    std::uint32_t retired;
    std::uint32_t fault;
    std::uint32_t fault_instruction;
    std::uint32_t semaphore[(isa::semaphores + 1) / 2];
    std::uint32_t queue_head[isa::engine::count];
    std::uint32_t last_retired[isa::engine::count];
    EventCounters counter;
};

// One engine's queue: entries from `issued` to `queued` wait, entries from `retired` to `issued` are in the
// engine. The three count without end; a place is the count modulo the queue's size.
template <class D, class Z>
struct EngineQueue {
    // Room for what waits and for what is issued and not yet retired.
    static constexpr unsigned size = D::queue_depth + D::engine_fifo_depth;
    Word<Z, isa::instruction_bits> word[size];
    std::uint32_t index[size];
    std::uint32_t queued;
    std::uint32_t issued;
    std::uint32_t retired;
    std::uint32_t last_retired;
};

template <class D, class Z>
struct DispatchState {
    EngineQueue<D, Z> queue[isa::engine::count];
    U<Z, isa::semaphore_bits> semaphore[isa::semaphores + 1];
    Word<Z, isa::instruction_bits> buffer[fetch_words];
    unsigned buffer_next;
    unsigned buffer_end;
    std::uint32_t fetched;
    std::uint32_t retired;
    std::uint32_t fault;
    std::uint32_t fault_instruction;
    EventCounters counter;
};

template <class D, class Z>
void dispatch_reset(DispatchState<D, Z>& state) {
#pragma HLS INLINE
reset_engines:
    for (int engine = 0; engine < isa::engine::count; engine++) {
        EngineQueue<D, Z>& queue = state.queue[engine];
        queue.queued = 0;
        queue.issued = 0;
        queue.retired = 0;
        queue.last_retired = no_instruction;
    }
reset_semaphores:
    for (int semaphore = 0; semaphore <= isa::semaphores; semaphore++) state.semaphore[semaphore] = 0;
    state.buffer_next = 0;
    state.buffer_end = 0;
    state.fetched = 0;
    state.retired = 0;
    state.fault = isa::fault::none;
    state.fault_instruction = no_instruction;
    state.counter = {};
}

// The first fault stays.
template <class D, class Z>
void dispatch_fault(DispatchState<D, Z>& state, int code, std::uint32_t instruction) {
#pragma HLS INLINE
    if (state.fault != isa::fault::none) return;
    state.fault = static_cast<std::uint32_t>(code);
    state.fault_instruction = instruction;
}

// Reads the next instructions of the program; false at its end.
template <class D, class Z, class Mem>
bool dispatch_fetch(DispatchState<D, Z>& state, const DispatchRegisters& registers, Mem program) {
#pragma HLS INLINE
    const unsigned left = registers.program_length - state.fetched;
    const unsigned words = left < fetch_words ? left : fetch_words;
    if (words == 0) return false;
    const std::uint64_t end = (std::uint64_t{state.fetched} + words) * instruction_bytes;
    if (end > registers.segment_size[isa::segment::program]) {
        dispatch_fault(state, isa::fault::segment, state.fetched);
        return true;
    }
    program.read_request(registers.segment_base[isa::segment::program] / instruction_bytes + state.fetched,
                         words);
fetch_beats:
    for (unsigned word = 0; word < words; word++) {
#pragma HLS LOOP_TRIPCOUNT min=1 max=16
#pragma HLS PIPELINE II=1 style=stp
        state.buffer[word] = program.read();
    }
    state.buffer_next = 0;
    state.buffer_end = words;
    return true;
}

// Moves one instruction from the fetch buffer to its queue; only that queue being full holds it back.
template <class D, class Z>
bool dispatch_queue(DispatchState<D, Z>& state) {
#pragma HLS INLINE
    const Word<Z, isa::instruction_bits> word = state.buffer[state.buffer_next];
    const unsigned engine = number<Z, isa::Header::Engine>(word);
    if (engine >= isa::engine::count || (D::engine_mask >> engine & 1) == 0) {
        dispatch_fault(state, isa::fault::engine, state.fetched);
        return true;
    }
    EngineQueue<D, Z>& queue = state.queue[engine];
    if (queue.queued - queue.issued >= D::queue_depth) return false;
    const unsigned place = queue.queued % queue.size;
    queue.word[place] = word;
    queue.index[place] = state.fetched;
    queue.queued++;
    state.buffer_next++;
    state.fetched++;
    return true;
}

template <class D, class Z>
void dispatch_signal(DispatchState<D, Z>& state, unsigned semaphore, std::uint32_t instruction) {
#pragma HLS INLINE
    if (semaphore == 0) return;
    const unsigned count = static_cast<unsigned>(state.semaphore[semaphore]);
    if (count == (1U << isa::semaphore_bits) - 1) {
        dispatch_fault(state, isa::fault::semaphore, instruction);
    } else {
        state.semaphore[semaphore] = static_cast<std::uint16_t>(count + 1);
    }
}

// Takes one token of an engine: its oldest issued instruction is done.
template <class D, class Z>
void dispatch_retire(DispatchState<D, Z>& state, unsigned engine, const Word<Z, isa::token_bits>& token) {
#pragma HLS INLINE
    EngineQueue<D, Z>& queue = state.queue[engine];
    const std::uint32_t instruction = queue.index[queue.retired % queue.size];
    dispatch_signal(state, number<Z, isa::Token::Signal0>(token), instruction);
    dispatch_signal(state, number<Z, isa::Token::Signal1>(token), instruction);
    if (flag<Z, isa::Token::Fault>(token)) dispatch_fault(state, isa::fault::opcode, instruction);
    count_token<D, Z>(state.counter, engine, token);
    queue.retired++;
    queue.last_retired = instruction;
    state.retired++;
}

// Replaces (segment, offset) by the physical address; false when the offset is outside the segment.
template <class D, class Z>
bool dispatch_resolve(const DispatchRegisters& registers, Word<Z, isa::instruction_bits>& word) {
#pragma HLS INLINE
    const int engine = static_cast<int>(number<Z, isa::Header::Engine>(word));
    const int opcode = static_cast<int>(number<Z, isa::Header::Opcode>(word));
    if (!isa::carries_address(engine, opcode)) return true;
    const unsigned segment = number<Z, isa::Address::Segment>(word);
    const std::uint64_t offset = number<Z, isa::Address::Offset>(word);
    const std::uint64_t address = registers.segment_base[segment] + offset;
    if (offset >= registers.segment_size[segment] || address >> isa::Address::Physical::bits != 0)
        return false;
    Z::template set<isa::Address::Physical>(word, address);
    return true;
}

template <class D, class Z>
bool dispatch_ready(const DispatchState<D, Z>& state, unsigned wait0, unsigned wait1) {
#pragma HLS INLINE
    if (wait0 != 0 && wait0 == wait1) return state.semaphore[wait0] >= 2;
    return (wait0 == 0 || state.semaphore[wait0] != 0) && (wait1 == 0 || state.semaphore[wait1] != 0);
}

template <class D, class Z>
void dispatch_take(DispatchState<D, Z>& state, unsigned semaphore) {
#pragma HLS INLINE
    if (semaphore == 0) return;
    state.semaphore[semaphore] =
        static_cast<std::uint16_t>(static_cast<unsigned>(state.semaphore[semaphore]) - 1);
}

// Issues the head of a queue if its waits are satisfied and the engine's FIFO has room.
template <class D, class Z>
bool dispatch_issue(DispatchState<D, Z>& state, const DispatchRegisters& registers, unsigned engine,
                    hls::stream<Word<Z, isa::instruction_bits>>& instructions) {
#pragma HLS INLINE
    EngineQueue<D, Z>& queue = state.queue[engine];
    if (queue.issued == queue.queued || queue.issued - queue.retired >= D::engine_fifo_depth) return false;
    Word<Z, isa::instruction_bits> word = queue.word[queue.issued % queue.size];
    const unsigned wait0 = number<Z, isa::Header::Wait0>(word);
    const unsigned wait1 = number<Z, isa::Header::Wait1>(word);
    if (!dispatch_ready(state, wait0, wait1)) return false;
    if (!dispatch_resolve<D, Z>(registers, word)) {
        dispatch_fault(state, isa::fault::segment, queue.index[queue.issued % queue.size]);
        return true;
    }
    dispatch_take(state, wait0);
    dispatch_take(state, wait1);
    // The credit above makes room certain: this write never blocks.
    instructions.write(word);
    queue.issued++;
    return true;
}

// One trip: tokens first, then one instruction to its queue, then one issue per engine. False: nothing
// changed. After a fault nothing is fetched or issued, and the engines drain.
template <class D, class Z, class Mem>
bool dispatch_pass(DispatchState<D, Z>& state, const DispatchRegisters& registers, Mem program,
                   hls::stream<Word<Z, isa::instruction_bits>> instructions[isa::engine::count],
                   hls::stream<Word<Z, isa::token_bits>> tokens[isa::engine::count]) {
#pragma HLS INLINE
    bool progress = false;
retire_engines:
    for (unsigned engine = 0; engine < isa::engine::count; engine++) {
#pragma HLS UNROLL
        Word<Z, isa::token_bits> token;
        if (tokens[engine].read_nb(token)) {
            dispatch_retire(state, engine, token);
            progress = true;
        }
    }
    if (state.fault != isa::fault::none) return progress;
    if (state.buffer_next == state.buffer_end) {
        progress = dispatch_fetch(state, registers, program) || progress;
    } else {
        progress = dispatch_queue(state) || progress;
    }
issue_engines:
    for (unsigned engine = 0; engine < isa::engine::count; engine++) {
#pragma HLS UNROLL
        if (state.fault == isa::fault::none) {
            progress = dispatch_issue(state, registers, engine, instructions[engine]) || progress;
        }
    }
    return progress;
}

// The program is done, or a fault was met and every issued instruction has retired.
template <class D, class Z>
bool dispatch_finished(const DispatchState<D, Z>& state, const DispatchRegisters& registers) {
#pragma HLS INLINE
    bool drained = true;
drained_engines:
    for (int engine = 0; engine < isa::engine::count; engine++) {
#pragma HLS UNROLL
        drained = drained && state.queue[engine].issued == state.queue[engine].retired;
    }
    return state.retired == registers.program_length || (state.fault != isa::fault::none && drained);
}

template <class D, class Z>
DispatchStatus dispatch_status(const DispatchState<D, Z>& state) {
#pragma HLS INLINE
    DispatchStatus status = {};
    status.isa_version = isa::version_major << 16 | isa::version_minor;
    status.geometry_hash = D::geometry_hash;
    status.engines = D::engine_mask;
    status.gemm_d_shape = D::gemm_d_cols << 16 | D::gemm_d_rows;
    status.gemm_l_shape = D::gemm_l_cols << 16 | D::gemm_l_rows;
    status.lanes = D::lanes;
    status.fetched = state.fetched;
    status.retired = state.retired;
    status.fault = state.fault;
    status.fault_instruction = state.fault_instruction;
    status.counter = state.counter;
status_semaphores:
    for (unsigned pair = 0; pair < (isa::semaphores + 1) / 2; pair++) {
#pragma HLS UNROLL
        status.semaphore[pair] = static_cast<std::uint32_t>(state.semaphore[2 * pair]) |
                                 static_cast<std::uint32_t>(state.semaphore[2 * pair + 1]) << 16;
    }
status_engines:
    for (unsigned engine = 0; engine < isa::engine::count; engine++) {
#pragma HLS UNROLL
        const EngineQueue<D, Z>& queue = state.queue[engine];
        const bool waits = queue.issued != queue.queued;
        status.queue_head[engine] = waits ? queue.index[queue.issued % queue.size] : no_instruction;
        status.last_retired[engine] = queue.last_retired;
    }
    return status;
}

}  // namespace hetfab
