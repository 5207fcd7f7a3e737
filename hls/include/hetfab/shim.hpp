// SPDX-License-Identifier: Apache-2.0
// What the open HLS headers lack, for builds with a host compiler: a checked hls::burst_maxi, a stream that
// throws, and the fence. Under Vitis HLS the tool's own headers are used.
#pragma once

#if __has_include(<hls_burst_maxi.h>)
#include <hls_burst_maxi.h>
#include <hls_stream.h>
#if __has_include(<hls_fence.h>)
#include <hls_fence.h>
// A full fence: no access to these objects moves across it.
#define HETFAB_FENCE(...) hls::fence(__VA_ARGS__)
#else
#include <ap_utils.h>
// The spelling before hls_fence.h existed.
#define HETFAB_FENCE(...) ap_wait()
#endif
#else

#include <cstdint>
#include <deque>
#include <stdexcept>
#include <string>
#include <vector>

#include "ints.hpp"
#include "isa.hpp"

// A host compiler keeps the order of the source.
#define HETFAB_FENCE(...)

namespace hetfab {

// The DRAM behind the ports of an emulated overlay.
class DramModel {
  public:
    virtual ~DramModel() = default;
    // The host address of `bytes` bytes at a physical address; throws when any of them is not mapped.
    virtual unsigned char* resolve(std::uint64_t address, std::uint64_t bytes, bool write) = 0;
};

// A protocol violation that would hang or corrupt the hardware.
class ProtocolError : public std::logic_error {
  public:
    using std::logic_error::logic_error;
};

// What a port has carried.
struct Traffic {
    std::uint64_t read_bytes = 0;
    std::uint64_t read_bursts = 0;
    std::uint64_t write_bytes = 0;
    std::uint64_t write_bursts = 0;
};

// One AXI port: what is outstanding on it, and its traffic.
struct PortModel {
    struct Burst {
        // Null once its memory was unmapped: whoever moves the next beat looks again what lies there.
        unsigned char* place;
        std::uint64_t end;
        std::uint64_t beats_left;
        std::vector<unsigned char> written;
    };

    explicit PortModel(DramModel& memory) : dram(&memory) {}

    // AXI bursts of a request: the adapter cuts at `burst_beats` beats and at pages.
    std::uint64_t bursts(std::uint64_t address, std::uint64_t bytes, std::uint64_t beat_bytes) const {
        std::uint64_t count = 0;
        while (bytes != 0) {
            const std::uint64_t page = isa::page_bytes - address % isa::page_bytes;
            std::uint64_t length = burst_beats * beat_bytes;
            length = length < page ? length : page;
            length = length < bytes ? length : bytes;
            address += length;
            bytes -= length;
            count++;
        }
        return count;
    }

    // Memory of the host behind some addresses goes away.
    void unmapped(const unsigned char* bytes, std::uint64_t size) {
        for (std::deque<Burst>* bursts : {&reads, &writes}) {
            for (Burst& burst : *bursts) {
                if (burst.place >= bytes && burst.place < bytes + size) burst.place = nullptr;
            }
        }
    }

    void check_idle() const {
        if (!reads.empty()) throw ProtocolError("the instruction ended with beats not yet read");
        if (!writes.empty()) throw ProtocolError("the instruction ended without its write response");
    }

    void reset() {
        reads.clear();
        writes.clear();
        beats_ahead = 0;
    }

    DramModel* dram;
    std::uint64_t burst_beats = isa::burst_beats;
    std::uint64_t outstanding = isa::outstanding_bursts;
    std::deque<Burst> reads;
    std::deque<Burst> writes;
    std::uint64_t beats_ahead = 0;
    Traffic traffic;
};

}  // namespace hetfab

namespace hls {

// A checked model: bursts complete in order, and what is written is visible only after write_response().
template <class T>
class burst_maxi {
  public:
    explicit burst_maxi(hetfab::PortModel& port) : port_(&port) {}

    void read_request(std::uint64_t offset, std::uint64_t length) {
        if (length == 0) throw hetfab::ProtocolError("a read request of zero beats");
        hetfab::PortModel& port = *port_;
        if (!port.reads.empty() && (port.beats_ahead + length > port.outstanding * port.burst_beats ||
                                    port.reads.size() >= port.outstanding)) {
            throw hetfab::ProtocolError("more beats requested ahead than the adapter keeps outstanding");
        }
        port.reads.push_back(open(offset, length, false));
        port.beats_ahead += length;
        port.traffic.read_bytes += length * beat_bytes;
        port.traffic.read_bursts += port.bursts(offset * beat_bytes, length * beat_bytes, beat_bytes);
    }

    T read() {
        hetfab::PortModel& port = *port_;
        if (port.reads.empty()) throw hetfab::ProtocolError("a beat read without a request");
        hetfab::PortModel::Burst& burst = port.reads.front();
        if (burst.place == nullptr) {
            const std::uint64_t bytes = burst.beats_left * beat_bytes;
            burst.place = port.dram->resolve(burst.end - bytes, bytes, false);
        }
        T value;
        hetfab::read_bytes(value, burst.place);
        burst.place += beat_bytes;
        port.beats_ahead--;
        if (--burst.beats_left == 0) port.reads.pop_front();
        return value;
    }

    void write_request(std::uint64_t offset, std::uint64_t length) {
        if (length == 0) throw hetfab::ProtocolError("a write request of zero beats");
        hetfab::PortModel& port = *port_;
        if (port.writes.size() >= port.outstanding) {
            throw hetfab::ProtocolError("more write bursts outstanding than the adapter keeps");
        }
        port.writes.push_back(open(offset, length, true));
        port.traffic.write_bytes += length * beat_bytes;
        port.traffic.write_bursts += port.bursts(offset * beat_bytes, length * beat_bytes, beat_bytes);
    }

    void write(const T& value) {
        for (hetfab::PortModel::Burst& burst : port_->writes) {
            if (burst.beats_left == 0) continue;
            burst.written.resize(burst.written.size() + beat_bytes);
            hetfab::write_bytes(value, burst.written.data() + burst.written.size() - beat_bytes);
            burst.beats_left--;
            return;
        }
        throw hetfab::ProtocolError("a beat written without a request, or past its request");
    }

    void write_response() {
        hetfab::PortModel& port = *port_;
        if (port.writes.empty()) throw hetfab::ProtocolError("a write response without a request");
        hetfab::PortModel::Burst& burst = port.writes.front();
        if (burst.beats_left != 0) throw hetfab::ProtocolError("a write response before all beats");
        const std::uint64_t bytes = burst.written.size();
        if (burst.place == nullptr) burst.place = port.dram->resolve(burst.end - bytes, bytes, true);
        std::memcpy(burst.place, burst.written.data(), burst.written.size());
        port.writes.pop_front();
    }

  private:
    static constexpr std::uint64_t beat_bytes = hetfab::bytes_of(static_cast<const T*>(nullptr));

    hetfab::PortModel::Burst open(std::uint64_t offset, std::uint64_t length, bool write) {
        const std::uint64_t bytes = length * beat_bytes;
        return {
            port_->dram->resolve(offset * beat_bytes, bytes, write), offset * beat_bytes + bytes, length, {}};
    }

    hetfab::PortModel* port_;
};

// A FIFO that throws where hardware would wait for ever.
template <class T, int Depth = 0>
class stream {
  public:
    T read() {
        if (values_.empty()) throw hetfab::ProtocolError("a blocking read of an empty stream");
        T value = values_.front();
        values_.pop_front();
        return value;
    }
    bool read_nb(T& value) {
        if (values_.empty()) return false;
        value = read();
        return true;
    }
    void write(const T& value) {
        if (Depth > 0 && values_.size() >= static_cast<std::size_t>(Depth)) {
            throw hetfab::ProtocolError("a write to a full stream");
        }
        values_.push_back(value);
    }
    bool empty() const { return values_.empty(); }
    const T& front() const { return values_.front(); }
    std::size_t size() const { return values_.size(); }
    // The oldest value is number 0.
    const T& at(std::size_t number) const { return values_.at(number); }

  private:
    std::deque<T> values_;
};

}  // namespace hls
#endif
