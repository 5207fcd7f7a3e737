// SPDX-License-Identifier: Apache-2.0
// The regions of one issued instruction with a C interface, to be compared with the tables.
#include <algorithm>
#include <cstring>

#include "build/sets.hpp"

using hetfab::sets::Word;

// Returns their number.
extern "C" std::uint32_t hetfab_sets(const Word* word, const Word* contexts,
                                     const hetfab::sets::Constants* design, hetfab::sets::Region* regions) {
    Word slots[hetfab::sets::context_words];
    std::memcpy(slots, contexts, sizeof slots);
    const hetfab::sets::Regions found = hetfab::sets::regions(*word, slots, *design);
    std::copy(found.region, found.region + found.count, regions);
    return found.count;
}
