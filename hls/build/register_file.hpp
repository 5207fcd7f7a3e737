// SPDX-License-Identifier: Apache-2.0
// DISPATCH's registers by their byte offsets, as a bus reads and writes them.
#pragma once

#include <cstdint>

#include "hetfab/dispatch.hpp"

namespace hetfab {

// A register of an argument array: which argument, which half of 64 bits.
struct Place {
    bool found;
    unsigned position;
    bool high;
    explicit operator bool() const { return found; }
    std::uint32_t half(std::uint64_t value) const {
        return static_cast<std::uint32_t>(high ? value >> 32 : value & 0xffffffff);
    }
    void set_half(std::uint64_t& value, std::uint32_t half_value) const {
        const unsigned shift = high ? 32 : 0;
        value = (value & ~(std::uint64_t{0xffffffff} << shift)) | std::uint64_t{half_value} << shift;
    }
};

inline Place element(const isa::registers::Array& array, unsigned offset) {
    if (offset < array.offset) return {false, 0, false};
    const unsigned position = (offset - array.offset) / array.stride;
    const unsigned rest = (offset - array.offset) % array.stride;
    // A 64-bit argument is 12 bytes: low half, high half, reserved; a 32-bit one is 8: data, reserved.
    const bool exists = position < array.count && (rest == 0 || (rest == 4 && array.stride == 12));
    return {exists, position, rest == 4};
}

// The value of a register other than `control`; 0 where there is none.
inline std::uint32_t read_status(const DispatchRegisters& registers, const DispatchStatus& status,
                                 unsigned offset) {
    namespace reg = isa::registers;
    const std::uint32_t scalars[][2] = {{reg::program_length, registers.program_length},
                                        {reg::isa_version, status.isa_version},
                                        {reg::engines, status.engines},
                                        {reg::gemm_d_shape, status.gemm_d_shape},
                                        {reg::gemm_l_shape, status.gemm_l_shape},
                                        {reg::lanes, status.lanes},
                                        {reg::fetched, status.fetched},
                                        {reg::retired, status.retired},
                                        {reg::fault, status.fault},
                                        {reg::fault_instruction, status.fault_instruction}};
    for (const auto& scalar : scalars) {
        if (scalar[0] == offset) return scalar[1];
    }
    if (const auto place = element(reg::semaphore, offset)) return status.semaphore[place.position];
    if (const auto place = element(reg::queue_head, offset)) return status.queue_head[place.position];
    if (const auto place = element(reg::last_retired, offset)) return status.last_retired[place.position];
    if (const auto place = element(reg::counter, offset)) {
        return place.half(counter_value(status.counter, place.position));
    }
    if (const auto place = element(reg::geometry_hash, offset)) return place.half(status.geometry_hash);
    if (const auto place = element(reg::segment_base, offset)) {
        return place.half(registers.segment_base[place.position]);
    }
    if (const auto place = element(reg::segment_size, offset)) {
        return place.half(registers.segment_size[place.position]);
    }
    return 0;
}

// Sets an argument of the next run; other registers are read only.
inline void write_argument(DispatchRegisters& registers, unsigned offset, std::uint32_t value) {
    namespace reg = isa::registers;
    if (offset == reg::program_length) {
        registers.program_length = value;
    } else if (const auto base = element(reg::segment_base, offset)) {
        base.set_half(registers.segment_base[base.position], value);
    } else if (const auto size = element(reg::segment_size, offset)) {
        size.set_half(registers.segment_size[size.position], value);
    }
}

}  // namespace hetfab
