// SPDX-License-Identifier: Apache-2.0
// The memories of an emulated overlay, which stop at accesses that they cannot serve: DRAM and the RAMs on
// chip.
#pragma once

#include <cinttypes>
#include <cstdint>
#include <cstdio>
#include <map>
#include <stdexcept>
#include <string>
#include <vector>

#include "bank_accesses.hpp"
#include "hetfab/shim.hpp"
#include "sets.hpp"

#ifdef HETFAB_DEBUG
#include "declared_check.hpp"
#endif

namespace hetfab {

// Without a name: a process loads libraries of several designs, and named variables would be one for all.
namespace {

#ifdef HETFAB_DEBUG
thread_local DeclaredCheck declared;
#endif

std::string hexadecimal(std::uint64_t value) {
    char text[24];
    std::snprintf(text, sizeof text, "0x%" PRIx64, value);
    return text;
}

// A place in a mapped buffer, and the bytes from there to its end.
struct MappedBytes {
    unsigned char* bytes;
    std::uint64_t size;
};

// Regions of physical DRAM, each a buffer of the host.
class Dram : public DramModel {
  public:
    void map(std::uint64_t address, unsigned char* bytes, std::uint64_t size) {
        regions_[address] = {bytes, size};
    }
    // Takes the region at an address out, and says what it was; nothing of size 0 where nothing begins there.
    MappedBytes unmap(std::uint64_t address) {
        const auto region = regions_.find(address);
        if (region == regions_.end()) return {nullptr, 0};
        const MappedBytes found = region->second;
        regions_.erase(region);
        return found;
    }

    unsigned char* resolve(std::uint64_t address, std::uint64_t bytes, bool write) override {
#ifdef HETFAB_DEBUG
        declared.burst(address, bytes, write);
#endif
        const MappedBytes found = mapped(address);
        if (found.size != 0 && bytes <= found.size) return found.bytes;
        throw std::out_of_range(std::string(write ? "write" : "read") + " of " + std::to_string(bytes) +
                                " bytes at " + hexadecimal(address) + ", which is not mapped memory");
    }

    // What is mapped at an address; nothing of size 0 where nothing is.
    MappedBytes mapped(std::uint64_t address) const {
        auto region = regions_.upper_bound(address);
        if (region == regions_.begin()) return {nullptr, 0};
        --region;
        const std::uint64_t offset = address - region->first;
        if (offset >= region->second.size) return {nullptr, 0};
        return {region->second.bytes + offset, region->second.size - offset};
    }

  private:
    std::map<std::uint64_t, MappedBytes> regions_;
};

// An on-chip memory seen from outside, as bytes.
class RamModel {
  public:
    virtual ~RamModel() = default;
    virtual bool read(std::uint64_t word, std::uint64_t count, unsigned char* bytes) const = 0;
    virtual bool write(std::uint64_t word, std::uint64_t count, const unsigned char* bytes) = 0;
};

// The port that a kernel gets in place of an array: it stops at a word beyond the depth.
template <class T>
struct RamPort {
    T* words;
    unsigned depth;
    unsigned memory;
    BankAccesses* accesses;
    unsigned bank = 0;

#ifdef HETFAB_DEBUG
    CheckedWord<T> operator[](unsigned word) const { return {declared, memory, word, at(word)}; }
#else
    T& operator[](unsigned word) const { return at(word); }
#endif

  private:
    T& at(unsigned word) const {
        if (word >= depth) {
            throw std::out_of_range("access to word " + std::to_string(word) + " of " +
                                    sets::memory_names[memory] + ", which has " + std::to_string(depth) +
                                    " words");
        }
        accesses->access(memory, bank);
        return words[word];
    }
};

template <class T>
class Ram : public RamModel {
  public:
    Ram(unsigned memory, unsigned depth, BankAccesses& accesses)
        : memory_(memory), accesses_(&accesses), words_(depth) {
        const std::vector<unsigned char> zeros(word_bytes);
        for (T& word : words_) read_bytes(word, zeros.data());
    }

    RamPort<T> port() { return {words_.data(), static_cast<unsigned>(words_.size()), memory_, accesses_}; }

    // The words as they are, for checks: no access of an engine.
    const T* words() const { return words_.data(); }

    bool read(std::uint64_t word, std::uint64_t count, unsigned char* bytes) const override {
        if (word > words_.size() || count > words_.size() - word) return false;
        for (std::uint64_t i = 0; i < count; i++) write_bytes(words_[word + i], bytes + i * word_bytes);
        return true;
    }
    bool write(std::uint64_t word, std::uint64_t count, const unsigned char* bytes) override {
        if (word > words_.size() || count > words_.size() - word) return false;
        for (std::uint64_t i = 0; i < count; i++) read_bytes(words_[word + i], bytes + i * word_bytes);
        return true;
    }

  private:
    static constexpr std::uint64_t word_bytes = bytes_of(static_cast<const T*>(nullptr));
    unsigned memory_;
    BankAccesses* accesses_;
    std::vector<T> words_;
};

// The port to a memory of banks: an array of arrays.
template <class T>
struct BankedPort {
    T* words;
    unsigned depth;
    unsigned memory;
    BankAccesses* accesses;

    RamPort<T> operator[](unsigned bank) const {
        return {words + std::size_t{bank} * depth, depth, memory, accesses, bank};
    }
};

// Seen from outside, a word is what all banks hold in one place.
template <class T>
class BankedRam : public RamModel {
  public:
    BankedRam(unsigned memory, unsigned banks, unsigned depth, BankAccesses& accesses)
        : memory_(memory),
          banks_(banks),
          depth_(depth),
          accesses_(&accesses),
          words_(std::size_t{banks} * depth) {
        const std::vector<unsigned char> zeros(bank_bytes);
        for (T& word : words_) read_bytes(word, zeros.data());
    }

    BankedPort<T> port() { return {words_.data(), depth_, memory_, accesses_}; }

    bool read(std::uint64_t word, std::uint64_t count, unsigned char* bytes) const override {
        if (word > depth_ || count > depth_ - word) return false;
        for (std::uint64_t i = 0; i < count * banks_; i++) {
            write_bytes(words_[i % banks_ * depth_ + word + i / banks_], bytes + i * bank_bytes);
        }
        return true;
    }
    bool write(std::uint64_t word, std::uint64_t count, const unsigned char* bytes) override {
        if (word > depth_ || count > depth_ - word) return false;
        for (std::uint64_t i = 0; i < count * banks_; i++) {
            read_bytes(words_[i % banks_ * depth_ + word + i / banks_], bytes + i * bank_bytes);
        }
        return true;
    }

  private:
    static constexpr std::uint64_t bank_bytes = bytes_of(static_cast<const T*>(nullptr));
    unsigned memory_;
    unsigned banks_;
    unsigned depth_;
    BankAccesses* accesses_;
    std::vector<T> words_;
};

}  // namespace

}  // namespace hetfab
