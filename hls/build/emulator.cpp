// SPDX-License-Identifier: Apache-2.0
// The C interface of the emulated overlay, which emulator.py calls.
#include "overlay.hpp"

#ifdef HETFAB_PLANE_BOXES
#include "verilog/plane_boxes.cpp"
#endif

using hetfab::Overlay;
using hetfab::RamModel;
using hetfab::Record;

extern "C" {

void* hetfab_open() { return new Overlay; }

std::uint64_t hetfab_geometry_hash() { return hetfab::Design::geometry_hash; }

void hetfab_close(void* overlay) { delete static_cast<Overlay*>(overlay); }

void hetfab_map(void* overlay, std::uint64_t address, unsigned char* bytes, std::uint64_t size) {
    static_cast<Overlay*>(overlay)->dram.map(address, bytes, size);
}

void hetfab_unmap(void* overlay, std::uint64_t address) { static_cast<Overlay*>(overlay)->unmap(address); }

std::uint32_t hetfab_read_register(void* overlay, std::uint32_t offset) {
    return static_cast<Overlay*>(overlay)->read_register(offset);
}

void hetfab_write_register(void* overlay, std::uint32_t offset, std::uint32_t value) {
    static_cast<Overlay*>(overlay)->write_register(offset, value);
}

void hetfab_check_order(void* overlay, int check) { static_cast<Overlay*>(overlay)->check_order(check != 0); }

void hetfab_stall(void* overlay, std::uint32_t engine) { static_cast<Overlay*>(overlay)->stall(engine); }

int hetfab_advance(void* overlay, std::uint64_t passes, std::uint32_t seed) {
    return static_cast<int>(static_cast<Overlay*>(overlay)->advance(passes, seed));
}

const char* hetfab_bodies() { return hetfab::Bodies::name; }

const char* hetfab_message(void* overlay) { return static_cast<Overlay*>(overlay)->message().c_str(); }

std::uint64_t hetfab_run_log(void* overlay, void* records, std::uint64_t capacity) {
    return static_cast<Overlay*>(overlay)->log().copy(static_cast<Record*>(records), capacity);
}

// What debug builds have seen of a loop since the overlay was opened.
std::uint64_t hetfab_loop_trips(void* overlay, std::uint32_t loop) {
    return static_cast<Overlay*>(overlay)->bank_accesses().trips(loop);
}

std::uint32_t hetfab_bank_accesses(void* overlay, std::uint32_t loop, const char* memory) {
    return static_cast<Overlay*>(overlay)->bank_accesses().largest(loop, memory);
}

// Copies the oldest words of rows_fifo, and returns how many it has.
std::uint64_t hetfab_read_rows_fifo(void* overlay, std::uint32_t* words, std::uint64_t capacity) {
    const auto& rows_fifo = static_cast<Overlay*>(overlay)->rows_fifo();
    for (std::uint64_t word = 0; word < rows_fifo.size() && word < capacity; word++) {
        words[word] = static_cast<std::uint32_t>(rows_fifo.at(word));
    }
    return rows_fifo.size();
}

int hetfab_read_ram(void* overlay, const char* name, std::uint64_t word, std::uint64_t count,
                    unsigned char* bytes) {
    const RamModel* ram = static_cast<Overlay*>(overlay)->ram(name);
    return ram != nullptr && ram->read(word, count, bytes) ? 0 : 1;
}

int hetfab_write_ram(void* overlay, const char* name, std::uint64_t word, std::uint64_t count,
                     const unsigned char* bytes) {
    RamModel* ram = static_cast<Overlay*>(overlay)->ram(name);
    return ram != nullptr && ram->write(word, count, bytes) ? 0 : 1;
}
}
