// SPDX-License-Identifier: Apache-2.0
// The order check without the kernels, with a C interface: a bound stream is walked in program order. A
// design's constants are arguments, so that one library serves all designs.
#include <cstring>

#include "order_check.hpp"

namespace {

namespace isa = hetfab::isa;
using hetfab::sets::Word;

// The layout of the module's ctypes structure.
struct Finding {
    std::uint32_t status;
    std::uint32_t earlier;
    std::uint32_t later;
    std::uint32_t memory;
    char text[512];
};

enum Status : std::uint32_t { ordered, race, unknown_operation, outside_segment, unsignalled };

struct Segments {
    std::uint64_t base[isa::segment::count];
    std::uint64_t size[isa::segment::count];
};

// What DISPATCH does to an address: false when it lies outside its segment.
bool resolve(const Segments& segments, Word& word) {
    const auto engine = static_cast<int>(hetfab::sets::field<isa::Header::Engine>(word));
    const auto opcode = static_cast<int>(hetfab::sets::field<isa::Header::Opcode>(word));
    if (!isa::carries_address(engine, opcode)) return true;
    const std::uint64_t segment = hetfab::sets::field<isa::Address::Segment>(word);
    const std::uint64_t offset = hetfab::sets::field<isa::Address::Offset>(word);
    const std::uint64_t address = segments.base[segment] + offset;
    if (offset >= segments.size[segment] || address >> isa::Address::Physical::bits != 0) return false;
    constexpr unsigned shift = isa::Address::Physical::lsb % 64;
    word.high = (word.high & ((std::uint64_t{1} << shift) - 1)) | address << shift;
    return true;
}

// Resolves all addresses and names the first instruction that DISPATCH or an engine would refuse.
bool issued(std::vector<Word>& words, const Segments& segments, Finding& finding) {
    for (std::size_t index = 0; index < words.size(); index++) {
        const bool known = hetfab::sets::field<isa::Header::Engine>(words[index]) < isa::engine::count &&
                           hetfab::sets::name_of(words[index]) != nullptr;
        if (known && resolve(segments, words[index])) continue;
        finding.status = known ? outside_segment : unknown_operation;
        finding.later = static_cast<std::uint32_t>(index);
        return false;
    }
    return true;
}

void check(std::vector<Word>& words, const Segments& segments, const hetfab::sets::Constants& design,
           Finding& finding) {
    if (!issued(words, segments, finding)) return;
    hetfab::OrderCheck order(design);
    hetfab::DramUse use = order.dram_use();
    for (const Word& word : words) use.add(word);
    order.start(use.shared());
    for (std::uint32_t index = 0; index < words.size(); index++) {
        if (!order.ready(words[index])) {
            finding.status = unsignalled;
            finding.later = index;
            return;
        }
        order.enter(index, words[index]);
        order.leave(index, words[index]);
    }
}

}  // namespace

extern "C" {

// Walks `count` program words of two halves each.
void hetfab_check_accesses(const std::uint64_t* halves, std::uint64_t count,
                           const hetfab::sets::Constants* design, const Segments* segments,
                           Finding* finding) {
    std::vector<Word> words(count);
    std::memcpy(words.data(), halves, count * sizeof(Word));
    *finding = {};
    try {
        check(words, *segments, *design, *finding);
    } catch (const hetfab::Race& found) {
        finding->status = race;
        finding->earlier = found.earlier;
        finding->later = found.later;
        finding->memory = found.memory;
        std::snprintf(finding->text, sizeof finding->text, "%s", found.what());
    }
}
}
