// SPDX-License-Identifier: Apache-2.0
// What kernels get in builds with host bodies. The inner tile functions have overloads for these types, so
// that a kernel's own call takes them; one that does not match is a compile error, since these types have no
// operator[].
#pragma once

#include "attend.hpp"
#include "copies.hpp"
#include "gather.hpp"
#include "gemm.hpp"
#include "graphs.hpp"
#include "groups.hpp"
#include "memories.hpp"
#include "normalize.hpp"

namespace hetfab {

namespace {

class Bodies {
  public:
    static constexpr const char* name = HostLanes::name;

    template <class Beat>
    HostMemory<Beat> memory(PortModel& port, const Dram& dram) const {
        return {port, dram};
    }
    template <class T>
    HostRam<T> ram(Ram<T>& ram) const {
        return {ram.port()};
    }
    template <class T>
    HostBanks<T> banks(BankedRam<T>& ram) const {
        return {ram.port()};
    }
    template <class T>
    HostWeights<T> weights_d(Ram<T>& ram) {
        return {ram.port(), &panels_d_};
    }
    template <class T>
    HostWeights<T> weights_l(Ram<T>& ram) {
        return {ram.port(), &panels_l_};
    }
    template <class T>
    HostParameters<T> parameters(Ram<T>& ram) {
        return {ram.port(), &channels_};
    }
    // Memories may have been written from outside.
    void forget() {
        channels_.clear();
        panels_d_.clear();
        panels_l_.clear();
    }

  private:
    PanelCache panels_d_;
    PanelCache panels_l_;
    ChannelCache channels_;
};

}  // namespace

}  // namespace hetfab
