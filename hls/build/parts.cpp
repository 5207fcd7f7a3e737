// SPDX-License-Identifier: Apache-2.0
// The C interface of edges in parts, which parts.py calls.
#include "host/parts.hpp"

#include <new>

namespace {

using hetfab::PartLimits;
using hetfab::PartsMaker;

// 0 where memory does not suffice; ids are then as they were.
template <typename Id>
std::uint64_t made(const PartLimits& limits, const std::int64_t* starts, Id* ids, std::uint64_t* degrees) {
    try {
        return PartsMaker<Id>(limits, starts, ids, degrees).make();
    } catch (const std::bad_alloc&) {
        return 0;
    }
}

}  // namespace

extern "C" {

std::uint64_t hetfab_parts_of_2_bytes(const PartLimits* limits, const std::int64_t* starts,
                                      std::uint16_t* ids, std::uint64_t* degrees) {
    return made(*limits, starts, ids, degrees);
}

std::uint64_t hetfab_parts_of_4_bytes(const PartLimits* limits, const std::int64_t* starts,
                                      std::uint32_t* ids, std::uint64_t* degrees) {
    return made(*limits, starts, ids, degrees);
}
}
