// SPDX-License-Identifier: Apache-2.0
// DISPATCH: fetches the program, queues instructions per engine, keeps the semaphores, resolves addresses and
// issues. It serves one engine after the other, so what belongs to engines and semaphores lies in memories
// and one adder serves all. The state is a plain struct and a pass is one turn of every engine, so that
// hardware loops it and the emulator steps it.
#pragma once

#include <cstdint>

#include "counters.hpp"
#include "shim.hpp"
#include "types.hpp"

namespace hetfab {

constexpr unsigned no_instruction = 0xffffffff;
// Instructions of one fetch: two bursts of 16 beats.
constexpr unsigned fetch_words = 16;
constexpr unsigned instruction_bytes = isa::instruction_bits / 8;
constexpr unsigned instruction_beats = instruction_bytes / isa::beat_bytes;

// What the driver writes, as read at the start.
struct DispatchRegisters {
    std::uint32_t program_length;
    std::uint64_t segment_base[isa::segment::count];
    std::uint64_t segment_size[isa::segment::count];
};

// A buffer of power-of-two size, so that the place of a count without end is its low bits.
constexpr unsigned ring_size(unsigned places) {
    unsigned size = 1;
    while (size < places) size *= 2;
    return size;
}

// Instructions of an engine so far, without the high bits.
using Count = std::uint16_t;

inline Count next_count(Count count) { return static_cast<Count>(count + 1); }

inline Count between(Count first, Count last) { return static_cast<Count>(last - first); }

template <class D, class Z>
struct DispatchState {
    static constexpr unsigned engines = isa::engine::count;
    static constexpr unsigned queue_size = ring_size(D::queue_depth);
    static constexpr unsigned issued_size = ring_size(D::engine_fifo_depth);
    static_assert(queue_size < 1U << 16 && issued_size < 1U << 16,
                  "a count tells a full ring from an empty one");

    // Where an engine's instructions are: from `issued` to `queued` they wait, from `retired` to `issued`
    // they are in the engine.
    Count queued[engines];
    Count issued[engines];
    Count done[engines];
    // What waits, and its place in the program.
    Word<Z, isa::instruction_bits> queue_word[engines * queue_size];
    std::uint32_t queue_index[engines * queue_size];
    // The place in the program of what is issued and not yet retired.
    std::uint32_t issued_index[engines * issued_size];
    U<Z, isa::semaphore_bits> semaphore[isa::semaphores + 1];
    std::uint64_t counter[event_counters];
    // The next instruction for a queue, if it was read, and how many more were requested.
    Word<Z, isa::instruction_bits> next;
    bool has_next;
    unsigned requested;
    // Issued to all engines and not yet retired.
    unsigned in_flight;
    std::uint32_t fetched;
    std::uint32_t retired;
    std::uint32_t fault;
    std::uint32_t fault_instruction;

    static unsigned queue_place(unsigned engine, Count count) {
        return engine * queue_size + (count & (queue_size - 1));
    }
    static unsigned issued_place(unsigned engine, Count count) {
        return engine * issued_size + (count & (issued_size - 1));
    }
};

// Where the arrays of the state live. A turn writes one word of each and reads one: one port for either.
template <class Counts, class Words, class Indices, class Issued, class Semaphores, class Counters,
          class Numbers>
void dispatch_storage([[maybe_unused]] Counts& queued, [[maybe_unused]] Counts& issued,
                      [[maybe_unused]] Counts& done, [[maybe_unused]] Words& queue_word,
                      [[maybe_unused]] Indices& queue_index, [[maybe_unused]] Issued& issued_index,
                      [[maybe_unused]] Semaphores& semaphore, [[maybe_unused]] Counters& counter,
                      [[maybe_unused]] Numbers& base, [[maybe_unused]] Numbers& size) {
#pragma HLS INLINE
// The queues of all engines together are wide and deep enough for block RAM; the rest are 64 words or fewer.
#pragma HLS BIND_STORAGE variable=queue_word type=ram_s2p impl=bram
#pragma HLS BIND_STORAGE variable=queue_index type=ram_s2p impl=bram
#pragma HLS BIND_STORAGE variable=queued type=ram_s2p impl=lutram
#pragma HLS BIND_STORAGE variable=issued type=ram_s2p impl=lutram
#pragma HLS BIND_STORAGE variable=done type=ram_s2p impl=lutram
#pragma HLS BIND_STORAGE variable=issued_index type=ram_s2p impl=lutram
#pragma HLS BIND_STORAGE variable=semaphore type=ram_s2p impl=lutram
#pragma HLS BIND_STORAGE variable=counter type=ram_s2p impl=lutram
#pragma HLS BIND_STORAGE variable=base type=ram_s2p impl=lutram
#pragma HLS BIND_STORAGE variable=size type=ram_s2p impl=lutram
}

template <class Words>
std::uint64_t wide_argument(Words arguments, unsigned word) {
#pragma HLS INLINE
    return std::uint64_t{arguments[word]} | std::uint64_t{arguments[word + 1]} << 32;
}

template <class Words>
void dispatch_arguments(DispatchRegisters& registers, Words arguments) {
#pragma HLS INLINE
    registers.program_length = arguments[isa::argument::program_length];
read_segments:
    for (unsigned segment = 0; segment < isa::segment::count; segment++) {
#pragma HLS LOOP_TRIPCOUNT min=8 max=8
        registers.segment_base[segment] = wide_argument(arguments, isa::argument::segment_base + 2 * segment);
        registers.segment_size[segment] = wide_argument(arguments, isa::argument::segment_size + 2 * segment);
    }
}

template <class D, class Z>
void dispatch_reset(DispatchState<D, Z>& state) {
#pragma HLS INLINE
reset_engines:
    for (unsigned engine = 0; engine < isa::engine::count; engine++) {
#pragma HLS PIPELINE II=1 style=stp
        state.queued[engine] = 0;
        state.issued[engine] = 0;
        state.done[engine] = 0;
    }
reset_semaphores:
    for (unsigned semaphore = 0; semaphore <= isa::semaphores; semaphore++) {
#pragma HLS PIPELINE II=1 style=stp
        state.semaphore[semaphore] = 0;
    }
reset_counters:
    for (unsigned counter = 0; counter < event_counters; counter++) {
#pragma HLS PIPELINE II=1 style=stp
        state.counter[counter] = 0;
    }
    state.has_next = false;
    state.requested = 0;
    state.in_flight = 0;
    state.fetched = 0;
    state.retired = 0;
    state.fault = isa::fault::none;
    state.fault_instruction = no_instruction;
}

// What a word of the status shows before the first instruction.
template <class D>
std::uint32_t initial_status(unsigned word) {
#pragma HLS INLINE
    constexpr unsigned indices = isa::engine::count;
    if (word == isa::status::isa_version) return isa::version_major << 16 | isa::version_minor;
    if (word == isa::status::geometry_hash) return static_cast<std::uint32_t>(D::geometry_hash & 0xffffffff);
    if (word == isa::status::geometry_hash + 1) return static_cast<std::uint32_t>(D::geometry_hash >> 32);
    if (word == isa::status::engines) return D::engine_mask;
    if (word == isa::status::gemm_d_shape) return D::gemm_d_cols << 16 | D::gemm_d_rows;
    if (word == isa::status::gemm_l_shape) return D::gemm_l_cols << 16 | D::gemm_l_rows;
    if (word == isa::status::lanes) return D::lanes;
    const bool head = word >= isa::status::queue_head && word < isa::status::queue_head + indices;
    const bool last = word >= isa::status::last_retired && word < isa::status::last_retired + indices;
    return head || last || word == isa::status::fault_instruction ? no_instruction : 0;
}

// The status of the run before stays until the next run begins.
template <class D, class Status>
void dispatch_begin(Status status) {
#pragma HLS INLINE
begin_status:
    for (unsigned word = 0; word < isa::status::count; word++) {
#pragma HLS PIPELINE II=1 style=stp
        status[word] = initial_status<D>(word);
    }
}

// The first fault stays.
template <class D, class Z, class Status>
void dispatch_fault(DispatchState<D, Z>& state, int code, std::uint32_t instruction, Status status) {
#pragma HLS INLINE
    if (state.fault != isa::fault::none) return;
    state.fault = static_cast<std::uint32_t>(code);
    state.fault_instruction = instruction;
    status[isa::status::fault] = state.fault;
    status[isa::status::fault_instruction] = instruction;
}

// Reads the next instruction of the program, and requests more when none is under way; false at its end.
template <class D, class Z, class Mem, class Status>
bool dispatch_fetch(DispatchState<D, Z>& state, const DispatchRegisters& registers, Mem program,
                    Status status) {
#pragma HLS INLINE
    const unsigned left = registers.program_length - state.fetched;
    if (left == 0) return false;
    if (state.requested == 0) {
        const unsigned words = left < fetch_words ? left : fetch_words;
        const std::uint64_t end = (std::uint64_t{state.fetched} + words) * instruction_bytes;
        if (end > registers.segment_size[isa::segment::program]) {
            dispatch_fault(state, isa::fault::segment, state.fetched, status);
            return true;
        }
        program.read_request(registers.segment_base[isa::segment::program] / isa::beat_bytes +
                                 std::uint64_t{state.fetched} * instruction_beats,
                             words * instruction_beats);
        state.requested = words;
    }
fetch_beats:
    for (unsigned beat = 0; beat < instruction_beats; beat++) {
#pragma HLS PIPELINE II=1 style=stp
        Z::set_beat(state.next, beat, program.read());
    }
    state.requested--;
    state.has_next = true;
    return true;
}

// Reads what a fault left in the port's adapter, where the next run would find it.
template <class D, class Z, class Mem>
void dispatch_drain(DispatchState<D, Z>& state, Mem program) {
#pragma HLS INLINE
drain_beats:
    for (unsigned beat = 0; beat < state.requested * instruction_beats; beat++) {
#pragma HLS LOOP_TRIPCOUNT min=1 max=30
#pragma HLS PIPELINE II=1 style=stp
        program.read();
    }
    state.requested = 0;
}

// Moves the next instruction to its queue; only that queue being full holds it back.
template <class D, class Z, class Mem, class Status>
bool dispatch_queue(DispatchState<D, Z>& state, const DispatchRegisters& registers, Mem program,
                    Status status) {
#pragma HLS INLINE
    if (!state.has_next) return dispatch_fetch(state, registers, program, status);
    const unsigned engine = number<Z, isa::Header::Engine>(state.next);
    if (engine >= isa::engine::count || (D::engine_mask >> engine & 1) == 0) {
        dispatch_fault(state, isa::fault::engine, state.fetched, status);
        return true;
    }
    const Count queued = state.queued[engine];
    if (between(state.issued[engine], queued) >= D::queue_depth) return false;
    const unsigned place = state.queue_place(engine, queued);
    state.queue_word[place] = state.next;
    state.queue_index[place] = state.fetched;
    state.queued[engine] = next_count(queued);
    state.has_next = false;
    state.fetched++;
    status[isa::status::fetched] = state.fetched;
    return true;
}

// Takes a token of the engine whose turn it is. Of engines with one count the second half is never read, so
// that no multiplexer has it.
template <class D, class Z>
bool take_token(hls::stream<Word<Z, isa::token_bits>> tokens[isa::engine::count], unsigned turn,
                Word<Z, isa::token_bits>& token) {
#pragma HLS INLINE
    bool found = false;
token_engines:
    for (unsigned engine = 0; engine < isa::engine::count; engine++) {
#pragma HLS UNROLL factor=isa::engine::count
        Word<Z, isa::token_bits> one;
        if (engine == turn && tokens[engine].read_nb(one)) {
            Z::set_beat(token, 0, Z::beat(one, 0));
            if (reports_more_than_one_count(engine)) Z::set_beat(token, 1, Z::beat(one, 1));
            found = true;
        }
    }
    return found;
}

template <class D, class Z, class Status>
void dispatch_count(DispatchState<D, Z>& state, unsigned engine, const Word<Z, isa::token_bits>& token,
                    Status status) {
#pragma HLS INLINE
count_additions:
    for (unsigned part = 0; part < counter_additions(engine); part++) {
#pragma HLS LOOP_TRIPCOUNT min=1 max=4
        const Addition addition = counter_addition<D, Z>(engine, part, token);
        const std::uint64_t total = state.counter[addition.counter] + addition.amount;
        state.counter[addition.counter] = total;
        status[isa::status::counter + 2 * addition.counter] = static_cast<std::uint32_t>(total & 0xffffffff);
        status[isa::status::counter + 2 * addition.counter + 1] = static_cast<std::uint32_t>(total >> 32);
    }
}

template <class D, class Z, class Status>
void dispatch_signal(DispatchState<D, Z>& state, unsigned semaphore, std::uint32_t instruction,
                     Status status) {
#pragma HLS INLINE
    constexpr unsigned largest = (1U << isa::semaphore_bits) - 1;
    if (semaphore == 0) return;
    const unsigned count = static_cast<unsigned>(state.semaphore[semaphore]);
    if (count == largest) {
        dispatch_fault(state, isa::fault::semaphore, instruction, status);
        return;
    }
    state.semaphore[semaphore] = static_cast<std::uint16_t>(count + 1);
    status[isa::status::semaphore + semaphore] = count + 1;
}

// Takes one token of an engine: its oldest issued instruction is done.
template <class D, class Z, class Status>
bool dispatch_retire(DispatchState<D, Z>& state, unsigned engine,
                     hls::stream<Word<Z, isa::token_bits>> tokens[isa::engine::count], Status status) {
#pragma HLS INLINE
    Word<Z, isa::token_bits> token = zero<Z, isa::token_bits>();
    if (!take_token<D, Z>(tokens, engine, token)) return false;
    const Count done = state.done[engine];
    const std::uint32_t instruction = state.issued_index[state.issued_place(engine, done)];
    state.done[engine] = next_count(done);
    state.in_flight--;
    state.retired++;
    status[isa::status::retired] = state.retired;
    status[isa::status::last_retired + engine] = instruction;
    dispatch_signal(state, number<Z, isa::Token::Signal0>(token), instruction, status);
    dispatch_signal(state, number<Z, isa::Token::Signal1>(token), instruction, status);
    if (flag<Z, isa::Token::Fault>(token)) dispatch_fault(state, isa::fault::opcode, instruction, status);
    dispatch_count(state, engine, token, status);
    return true;
}

// Replaces (segment, offset) by the physical address; false when the offset is outside the segment.
template <class D, class Z>
bool dispatch_resolve(const DispatchRegisters& registers, unsigned engine,
                      Word<Z, isa::instruction_bits>& word) {
#pragma HLS INLINE
    const int opcode = static_cast<int>(number<Z, isa::Header::Opcode>(word));
    if (!isa::carries_address(static_cast<int>(engine), opcode)) return true;
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
    const unsigned needed0 = wait0 == 0 ? 0 : wait0 == wait1 ? 2 : 1;
    const unsigned needed1 = wait1 == 0 ? 0 : 1;
    return static_cast<unsigned>(state.semaphore[wait0]) >= needed0 &&
           static_cast<unsigned>(state.semaphore[wait1]) >= needed1;
}

template <class D, class Z, class Status>
void dispatch_take(DispatchState<D, Z>& state, unsigned semaphore, Status status) {
#pragma HLS INLINE
    if (semaphore == 0) return;
    const unsigned count = static_cast<unsigned>(state.semaphore[semaphore]) - 1;
    state.semaphore[semaphore] = static_cast<std::uint16_t>(count);
    status[isa::status::semaphore + semaphore] = count;
}

template <class D, class Z>
void put_instruction(hls::stream<Word<Z, isa::instruction_bits>> instructions[isa::engine::count],
                     unsigned turn, const Word<Z, isa::instruction_bits>& word) {
#pragma HLS INLINE
instruction_engines:
    for (unsigned engine = 0; engine < isa::engine::count; engine++) {
#pragma HLS UNROLL factor=isa::engine::count
        if (engine == turn) instructions[engine].write(word);
    }
}

// Issues the head of a queue if its waits are satisfied and the engine's FIFO has room. False: nothing
// changed.
template <class D, class Z, class Status>
bool dispatch_issue(DispatchState<D, Z>& state, const DispatchRegisters& registers, unsigned engine,
                    hls::stream<Word<Z, isa::instruction_bits>> instructions[isa::engine::count],
                    Status status) {
#pragma HLS INLINE
    const Count issued = state.issued[engine];
    const unsigned place = state.queue_place(engine, issued);
    Word<Z, isa::instruction_bits> word = state.queue_word[place];
    const std::uint32_t index = state.queue_index[place];
    const bool empty = issued == state.queued[engine];
    status[isa::status::queue_head + engine] = empty ? no_instruction : index;
    if (empty || state.fault != isa::fault::none) return false;
    if (between(state.done[engine], issued) >= D::engine_fifo_depth) return false;
    const unsigned wait0 = number<Z, isa::Header::Wait0>(word);
    const unsigned wait1 = number<Z, isa::Header::Wait1>(word);
    if (!dispatch_ready(state, wait0, wait1)) return false;
    if (!dispatch_resolve<D, Z>(registers, engine, word)) {
        dispatch_fault(state, isa::fault::segment, index, status);
        return true;
    }
    dispatch_take(state, wait0, status);
    dispatch_take(state, wait1, status);
    // The credit above makes room certain: this write never blocks.
    put_instruction<D, Z>(instructions, engine, word);
    state.issued_index[state.issued_place(engine, issued)] = index;
    state.issued[engine] = next_count(issued);
    state.in_flight++;
    return true;
}

// A turn of each engine: its token, the program's next instruction to its queue, the head of the engine's
// queue. False: nothing changed. After a fault nothing is fetched or issued, and the engines drain.
template <class D, class Z, class Mem, class Status>
bool dispatch_pass(DispatchState<D, Z>& state, const DispatchRegisters& registers, Mem program,
                   hls::stream<Word<Z, isa::instruction_bits>> instructions[isa::engine::count],
                   hls::stream<Word<Z, isa::token_bits>> tokens[isa::engine::count], Status status) {
#pragma HLS INLINE
    bool progress = false;
turns:
    for (unsigned engine = 0; engine < isa::engine::count; engine++) {
        const bool present = (D::engine_mask >> engine & 1) != 0;
        if (present) progress = dispatch_retire(state, engine, tokens, status) || progress;
        if (state.fault == isa::fault::none)
            progress = dispatch_queue(state, registers, program, status) || progress;
        if (present) progress = dispatch_issue(state, registers, engine, instructions, status) || progress;
    }
    return progress;
}

// The program is done, or a fault was met and every issued instruction has retired.
template <class D, class Z>
bool dispatch_finished(const DispatchState<D, Z>& state, const DispatchRegisters& registers) {
#pragma HLS INLINE
    return state.retired == registers.program_length ||
           (state.fault != isa::fault::none && state.in_flight == 0);
}

}  // namespace hetfab
