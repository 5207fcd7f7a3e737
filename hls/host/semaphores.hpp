// SPDX-License-Identifier: Apache-2.0
// Host bodies of DISPATCH's semaphores: those that a pass names are counted, one after the other. They are
// overloads for native integers, since DISPATCH has no ports that are memories.
#pragma once

#include <algorithm>
#include <cstdint>

#include "hetfab/dispatch.hpp"

namespace hetfab {

template <class D>
void dispatch_signal(DispatchState<D, Native>& state, const Retirement (&retirement)[isa::engine::count]) {
    constexpr std::uint32_t largest = (1U << isa::semaphore_bits) - 1;
    std::uint32_t signals[isa::semaphores + 1] = {};
    for (const Retirement& one : retirement) {
        signals[one.signal0]++;
        signals[one.signal1]++;
    }
    signals[0] = 0;
    for (const Retirement& one : retirement) {
        if (!one.found) continue;
        state.retired++;
        const bool overflows = state.semaphore[one.signal0] + signals[one.signal0] > largest ||
                               state.semaphore[one.signal1] + signals[one.signal1] > largest;
        if (overflows) dispatch_fault(state, isa::fault::semaphore, one.instruction);
        if (one.unknown_opcode) dispatch_fault(state, isa::fault::opcode, one.instruction);
    }
    for (const Retirement& one : retirement) {
        for (const unsigned semaphore : {one.signal0, one.signal1}) {
            const std::uint32_t total = state.semaphore[semaphore] + signals[semaphore];
            state.semaphore[semaphore] = static_cast<std::uint16_t>(std::min(total, largest));
            signals[semaphore] = 0;
        }
    }
}

template <class D>
void dispatch_take(DispatchState<D, Native>& state, const Waits (&waits)[isa::engine::count]) {
    for (const Waits& one : waits) {
        for (const unsigned semaphore : {one.wait0, one.wait1}) {
            if (semaphore != 0) state.semaphore[semaphore]--;
        }
    }
}

}  // namespace hetfab
