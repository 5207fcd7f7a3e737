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
// Instructions of one fetch: two bursts of 16 beats.
constexpr unsigned fetch_words = 16;
constexpr unsigned instruction_bytes = isa::instruction_bits / 8;
constexpr unsigned instruction_beats = instruction_bytes / isa::beat_bytes;

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

// A buffer of power-of-two size, so that the place of a count without end is its low bits.
constexpr unsigned ring_size(unsigned places) {
    unsigned size = 1;
    while (size < places) size *= 2;
    return size;
}

// Where an engine's instructions are: from `issued` to `queued` they wait, from `retired` to `issued` they
// are in the engine. The three count without end.
struct EngineCounts {
    std::uint32_t queued;
    std::uint32_t issued;
    std::uint32_t retired;
    std::uint32_t last_retired;
};

template <class D, class Z>
struct DispatchState {
    static constexpr unsigned engines = isa::engine::count;
    static constexpr unsigned queue_size = ring_size(D::queue_depth);
    static constexpr unsigned issued_size = ring_size(D::engine_fifo_depth);

    EngineCounts engine[engines];
    // What waits, and its place in the program.
    Word<Z, isa::instruction_bits> queue_word[engines][queue_size];
    std::uint32_t queue_index[engines][queue_size];
    // The place in the program of what is issued and not yet retired.
    std::uint32_t issued_index[engines][issued_size];
    U<Z, isa::semaphore_bits> semaphore[isa::semaphores + 1];
    Word<Z, isa::instruction_bits> buffer[fetch_words];
    unsigned buffer_next;
    unsigned buffer_end;
    std::uint32_t fetched;
    std::uint32_t retired;
    std::uint32_t fault;
    std::uint32_t fault_instruction;
    EventCounters counter;

    static unsigned queue_place(std::uint32_t count) { return count & (queue_size - 1); }
    static unsigned issued_place(std::uint32_t count) { return count & (issued_size - 1); }
};

// Where the arrays of the state live. All engines are served in one pass, so each has memories of its own.
// LUT RAM, as queues are short; one write and one read port, as a pass writes one word and reads the head.
template <class Counts, class Words, class Indices, class Issued, class Semaphores, class Buffer>
void dispatch_storage([[maybe_unused]] Counts& engine, [[maybe_unused]] Words& queue_word,
                      [[maybe_unused]] Indices& queue_index, [[maybe_unused]] Issued& issued_index,
                      [[maybe_unused]] Semaphores& semaphore, [[maybe_unused]] Buffer& buffer) {
#pragma HLS INLINE
#pragma HLS ARRAY_PARTITION variable=engine type=complete dim=1
#pragma HLS ARRAY_PARTITION variable=queue_word type=complete dim=1
#pragma HLS ARRAY_PARTITION variable=queue_index type=complete dim=1
#pragma HLS ARRAY_PARTITION variable=issued_index type=complete dim=1
#pragma HLS BIND_STORAGE variable=queue_word type=ram_s2p impl=lutram
#pragma HLS BIND_STORAGE variable=queue_index type=ram_s2p impl=lutram
#pragma HLS BIND_STORAGE variable=issued_index type=ram_s2p impl=lutram
#pragma HLS BIND_STORAGE variable=buffer type=ram_s2p impl=lutram
// Registers: every pass changes any of them and shows all.
#pragma HLS ARRAY_PARTITION variable=semaphore type=complete dim=1
}

template <class D, class Z>
void dispatch_reset(DispatchState<D, Z>& state) {
#pragma HLS INLINE
    dispatch_storage(state.engine, state.queue_word, state.queue_index, state.issued_index, state.semaphore,
                     state.buffer);
reset_engines:
    for (unsigned engine = 0; engine < isa::engine::count; engine++) {
#pragma HLS UNROLL factor=isa::engine::count
        state.engine[engine] = {0, 0, 0, no_instruction};
    }
reset_semaphores:
    for (unsigned semaphore = 0; semaphore <= isa::semaphores; semaphore++) {
#pragma HLS UNROLL factor=isa::semaphores+1
        state.semaphore[semaphore] = 0;
    }
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
    program.read_request(registers.segment_base[isa::segment::program] / isa::beat_bytes +
                             std::uint64_t{state.fetched} * instruction_beats,
                         words * instruction_beats);
    Word<Z, isa::instruction_bits> word = zero<Z, isa::instruction_bits>();
fetch_beats:
    for (unsigned beat = 0; beat < words * instruction_beats; beat++) {
#pragma HLS LOOP_TRIPCOUNT min=2 max=32
#pragma HLS PIPELINE II=1 style=stp
        const unsigned part = beat % instruction_beats;
        Z::set_beat(word, part, program.read());
        if (part == instruction_beats - 1) state.buffer[beat / instruction_beats] = word;
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
    EngineCounts& counts = state.engine[engine];
    if (counts.queued - counts.issued >= D::queue_depth) return false;
    const unsigned place = state.queue_place(counts.queued);
    state.queue_word[engine][place] = word;
    state.queue_index[engine][place] = state.fetched;
    counts.queued++;
    state.buffer_next++;
    state.fetched++;
    return true;
}

// What an engine's token says; `found` without one.
struct Retirement {
    bool found;
    bool unknown_opcode;
    unsigned signal0;
    unsigned signal1;
    std::uint32_t instruction;
};

// Takes one token of an engine: its oldest issued instruction is done. The signals are left to
// dispatch_signal.
template <class D, class Z>
Retirement dispatch_retire(DispatchState<D, Z>& state, unsigned engine,
                           hls::stream<Word<Z, isa::token_bits>>& tokens) {
#pragma HLS INLINE
    Word<Z, isa::token_bits> token;
    if (!tokens.read_nb(token)) return {false, false, 0, 0, no_instruction};
    EngineCounts& counts = state.engine[engine];
    const std::uint32_t instruction = state.issued_index[engine][state.issued_place(counts.retired)];
    count_token<D, Z>(state.counter, engine, token);
    counts.retired++;
    counts.last_retired = instruction;
    return {true, flag<Z, isa::Token::Fault>(token), number<Z, isa::Token::Signal0>(token),
            number<Z, isa::Token::Signal1>(token), instruction};
}

// Adds the signals of all tokens of a pass. Each semaphore has an adder of its own: one signal after the
// other, through a register file, would take a cycle and a multiplexer of all semaphores each.
template <class D, class Z>
void dispatch_signal(DispatchState<D, Z>& state, const Retirement (&retirement)[isa::engine::count]) {
#pragma HLS INLINE
    constexpr unsigned largest = (1U << isa::semaphore_bits) - 1;
    bool overflow[isa::engine::count] = {};
#pragma HLS ARRAY_PARTITION variable=overflow type=complete dim=1
signal_semaphores:
    for (unsigned semaphore = 1; semaphore <= isa::semaphores; semaphore++) {
#pragma HLS UNROLL factor=isa::semaphores
        unsigned signals = 0;
    count_signals:
        for (unsigned engine = 0; engine < isa::engine::count; engine++) {
#pragma HLS UNROLL factor=isa::engine::count
            const Retirement& one = retirement[engine];
            signals += (one.signal0 == semaphore ? 1U : 0U) + (one.signal1 == semaphore ? 1U : 0U);
        }
        const unsigned total = static_cast<unsigned>(state.semaphore[semaphore]) + signals;
        state.semaphore[semaphore] = static_cast<std::uint16_t>(total > largest ? largest : total);
    find_overflows:
        for (unsigned engine = 0; engine < isa::engine::count; engine++) {
#pragma HLS UNROLL factor=isa::engine::count
            const Retirement& one = retirement[engine];
            overflow[engine] = overflow[engine] ||
                               (total > largest && (one.signal0 == semaphore || one.signal1 == semaphore));
        }
    }
retire_faults:
    for (unsigned engine = 0; engine < isa::engine::count; engine++) {
#pragma HLS UNROLL factor=isa::engine::count
        const Retirement& one = retirement[engine];
        if (one.found) state.retired++;
        if (overflow[engine]) dispatch_fault(state, isa::fault::semaphore, one.instruction);
        if (one.unknown_opcode) dispatch_fault(state, isa::fault::opcode, one.instruction);
    }
}

// Replaces (segment, offset) by the physical address; false when the offset is outside the segment. In the
// unrolled loop over the engines `engine` is a constant, so those without addresses get no adder.
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
    if (wait0 != 0 && wait0 == wait1) return state.semaphore[wait0] >= 2;
    return (wait0 == 0 || state.semaphore[wait0] != 0) && (wait1 == 0 || state.semaphore[wait1] != 0);
}

// The semaphores that an issued instruction waited for; 0 for none.
struct Waits {
    unsigned wait0;
    unsigned wait1;
};

// Takes the semaphores of all issued instructions, in an adder each as dispatch_signal. Only one engine
// waits for a semaphore (bind checks it), so no two instructions of a pass can take the same signal.
template <class D, class Z>
void dispatch_take(DispatchState<D, Z>& state, const Waits (&waits)[isa::engine::count]) {
#pragma HLS INLINE
take_semaphores:
    for (unsigned semaphore = 1; semaphore <= isa::semaphores; semaphore++) {
#pragma HLS UNROLL factor=isa::semaphores
        unsigned taken = 0;
    count_waits:
        for (unsigned engine = 0; engine < isa::engine::count; engine++) {
#pragma HLS UNROLL factor=isa::engine::count
            taken +=
                (waits[engine].wait0 == semaphore ? 1U : 0U) + (waits[engine].wait1 == semaphore ? 1U : 0U);
        }
        state.semaphore[semaphore] =
            static_cast<std::uint16_t>(static_cast<unsigned>(state.semaphore[semaphore]) - taken);
    }
}

// Issues the head of a queue if its waits are satisfied and the engine's FIFO has room. The semaphores are
// left to dispatch_take. False: nothing changed.
template <class D, class Z>
bool dispatch_issue(DispatchState<D, Z>& state, const DispatchRegisters& registers, unsigned engine,
                    hls::stream<Word<Z, isa::instruction_bits>>& instructions, Waits& waits) {
#pragma HLS INLINE
    EngineCounts& counts = state.engine[engine];
    waits = {0, 0};
    if (counts.issued == counts.queued || counts.issued - counts.retired >= D::engine_fifo_depth)
        return false;
    const unsigned place = state.queue_place(counts.issued);
    Word<Z, isa::instruction_bits> word = state.queue_word[engine][place];
    const unsigned wait0 = number<Z, isa::Header::Wait0>(word);
    const unsigned wait1 = number<Z, isa::Header::Wait1>(word);
    if (!dispatch_ready(state, wait0, wait1)) return false;
    const std::uint32_t index = state.queue_index[engine][place];
    if (!dispatch_resolve<D, Z>(registers, engine, word)) {
        dispatch_fault(state, isa::fault::segment, index);
        return true;
    }
    waits = {wait0, wait1};
    // The credit above makes room certain: this write never blocks.
    instructions.write(word);
    state.issued_index[engine][state.issued_place(counts.issued)] = index;
    counts.issued++;
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
    Retirement retirement[isa::engine::count];
#pragma HLS ARRAY_PARTITION variable=retirement type=complete dim=1
retire_engines:
    for (unsigned engine = 0; engine < isa::engine::count; engine++) {
#pragma HLS UNROLL factor=isa::engine::count
        retirement[engine] = dispatch_retire(state, engine, tokens[engine]);
        progress = progress || retirement[engine].found;
    }
    dispatch_signal(state, retirement);
    if (state.fault != isa::fault::none) return progress;
    if (state.buffer_next == state.buffer_end) {
        progress = dispatch_fetch(state, registers, program) || progress;
    } else {
        progress = dispatch_queue(state) || progress;
    }
    if (state.fault != isa::fault::none) return progress;
    Waits waits[isa::engine::count];
#pragma HLS ARRAY_PARTITION variable=waits type=complete dim=1
issue_engines:
    for (unsigned engine = 0; engine < isa::engine::count; engine++) {
#pragma HLS UNROLL factor=isa::engine::count
        progress = dispatch_issue(state, registers, engine, instructions[engine], waits[engine]) || progress;
    }
    dispatch_take(state, waits);
    return progress;
}

// The program is done, or a fault was met and every issued instruction has retired.
template <class D, class Z>
bool dispatch_finished(const DispatchState<D, Z>& state, const DispatchRegisters& registers) {
#pragma HLS INLINE
    bool drained = true;
drained_engines:
    for (unsigned engine = 0; engine < isa::engine::count; engine++) {
#pragma HLS UNROLL factor=isa::engine::count
        drained = drained && state.engine[engine].issued == state.engine[engine].retired;
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
#pragma HLS UNROLL factor=(isa::semaphores+1)/2
        status.semaphore[pair] = static_cast<std::uint32_t>(state.semaphore[2 * pair]) |
                                 static_cast<std::uint32_t>(state.semaphore[2 * pair + 1]) << 16;
    }
status_engines:
    for (unsigned engine = 0; engine < isa::engine::count; engine++) {
#pragma HLS UNROLL factor=isa::engine::count
        const EngineCounts& counts = state.engine[engine];
        const std::uint32_t head = state.queue_index[engine][state.queue_place(counts.issued)];
        status.queue_head[engine] = counts.issued != counts.queued ? head : no_instruction;
        status.last_retired[engine] = counts.last_retired;
    }
    return status;
}

}  // namespace hetfab
