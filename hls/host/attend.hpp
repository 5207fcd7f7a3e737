// SPDX-License-Identifier: Apache-2.0
// Host body of attention.
#pragma once

#include "gather.hpp"
#include "hetfab/attention.hpp"

namespace hetfab {

namespace {

template <class D, class Z, class Beat, class F, class TagRam, class T, class Fifo, class Events>
Outcome attend_rows(const AttendTile& tile, HostMemory<Beat> features, HostMemory<Beat> graph,
                    HostRam<F> feature_ram, TagRam tag_ram, HostRam<T> sum_ram, Fifo& rows_fifo,
                    AggMemories<D, Z>& memories, Events& events) {
    return attend_rows<D, Z>(tile, features.plain(), graph.plain(), feature_ram.plain, tag_ram, sum_ram.plain,
                             rows_fifo, memories, events);
}

}  // namespace

}  // namespace hetfab
