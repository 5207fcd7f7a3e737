// SPDX-License-Identifier: Apache-2.0
// DISPATCH's state in words, for runs that end in a fault or a deadlock.
#pragma once

#include <string>

#include "hetfab/dispatch.hpp"

namespace hetfab {

// The state dump: what waits in every queue, and the semaphores that are not zero.
template <class D, class Z>
std::string state_dump(const DispatchState<D, Z>& state, const DispatchRegisters& registers) {
    std::string text = std::to_string(state.retired) + " of " + std::to_string(registers.program_length) +
                       " instructions retired, " + std::to_string(state.fetched) + " fetched";
    for (unsigned engine = 0; engine < isa::engine::count; engine++) {
        if (state.issued[engine] == state.queued[engine]) continue;
        const unsigned place = state.queue_place(engine, state.issued[engine]);
        const auto& word = state.queue_word[place];
        text += std::string("; ") + isa::engine_names[engine] + " holds instruction " +
                std::to_string(state.queue_index[place]);
        for (const unsigned wait :
             {number<Z, isa::Header::Wait0>(word), number<Z, isa::Header::Wait1>(word)}) {
            if (wait == 0) continue;
            text += ", which waits for semaphore " + std::to_string(wait) + " (count " +
                    std::to_string(static_cast<unsigned>(state.semaphore[wait])) + ")";
        }
    }
    return text;
}

template <class D, class Z>
std::string fault_text(const DispatchState<D, Z>& state, const DispatchRegisters& registers) {
    static const char* const texts[] = {
        "no fault", "it names an engine that the design does not have", "its engine does not know the opcode",
        "its address lies outside the segment", "it signals a semaphore that is at its largest count"};
    return "instruction " + std::to_string(state.fault_instruction) + ": " + texts[state.fault] + "; " +
           state_dump(state, registers);
}

}  // namespace hetfab
