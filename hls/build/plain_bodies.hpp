// SPDX-License-Identifier: Apache-2.0
// What kernels get in builds with plain bodies: the ports of the memories as they are.
#pragma once

#include "memories.hpp"

namespace hetfab {

namespace {

struct Bodies {
    static constexpr const char* name = "plain";

    template <class Beat>
    hls::burst_maxi<Beat> memory(PortModel& port, const Dram&) const {
        return hls::burst_maxi<Beat>(port);
    }
    template <class T>
    RamPort<T> ram(Ram<T>& ram) const {
        return ram.port();
    }
    template <class T>
    BankedPort<T> banks(BankedRam<T>& ram) const {
        return ram.port();
    }
    template <class T>
    RamPort<T> weights_d(Ram<T>& ram) const {
        return ram.port();
    }
    template <class T>
    RamPort<T> weights_l(Ram<T>& ram) const {
        return ram.port();
    }
    template <class T>
    RamPort<T> parameters(Ram<T>& ram) const {
        return ram.port();
    }
    void forget() const {}
};

}  // namespace

}  // namespace hetfab
