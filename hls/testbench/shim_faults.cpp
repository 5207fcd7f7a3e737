// SPDX-License-Identifier: Apache-2.0
// Violates the protocol of the port and stream models, or the width of a field or lane in a debug build, in
// one way, named by the first argument; prints what stops it. `none` follows the protocol and prints what
// memory holds before and after the write response, `none-wide` sets the largest values that fit.
#include <cstdio>
#include <functional>
#include <map>
#include <string>

#include "hetfab/isa.hpp"
#include "hetfab/shim.hpp"

namespace {

using Beat = hetfab::WordBytes<64>;
using Port = hls::burst_maxi<Beat>;

// 64 beats from address 0.
class SmallDram : public hetfab::DramModel {
  public:
    unsigned char* resolve(std::uint64_t address, std::uint64_t bytes, bool) override {
        if (address + bytes > sizeof bytes_) throw std::out_of_range("not mapped");
        return bytes_ + address;
    }

  private:
    unsigned char bytes_[512] = {};
};

Beat beat_of(unsigned char value) {
    Beat beat = {};
    beat.bytes[0] = value;
    return beat;
}

void follow_protocol(Port port) {
    port.write_request(3, 2);
    port.write(beat_of(1));
    port.write(beat_of(2));
    port.read_request(3, 1);
    const int before = port.read().bytes[0];
    port.write_response();
    port.read_request(3, 2);
    const int first = port.read().bytes[0];
    std::printf("before %d, after %d %d\n", before, first, port.read().bytes[0]);
}

using Nibble = hetfab::isa::Field<4, 4>;

template <class Value>
void set_nibble(Value value) {
    Beat beat = {};
    hetfab::Native::set<Nibble>(beat, value);
    std::printf("bytes %d %d\n", beat.bytes[0], beat.bytes[1]);
}

template <class Value>
void set_byte(Value value) {
    Beat beat = {};
    hetfab::set_lane<hetfab::Native, 8>(beat, 1, value);
    std::printf("bytes %d %d\n", beat.bytes[0], beat.bytes[1]);
}

const std::map<std::string, std::function<void(Port)>> violations = {
    {"none", follow_protocol},
    {"empty-read", [](Port port) { port.read_request(0, 0); }},
    {"empty-write", [](Port port) { port.write_request(0, 0); }},
    {"read-without-request", [](Port port) { port.read(); }},
    {"read-past-request",
     [](Port port) {
         port.read_request(0, 1);
         port.read();
         port.read();
     }},
    {"beats-ahead",
     [](Port port) {
         for (int request = 0; request < 5; request++) port.read_request(0, 64);
     }},
    {"requests-ahead",
     [](Port port) {
         for (int request = 0; request < 17; request++) port.read_request(0, 1);
     }},
    {"write-without-request", [](Port port) { port.write(beat_of(1)); }},
    {"write-past-request",
     [](Port port) {
         port.write_request(0, 1);
         port.write(beat_of(1));
         port.write(beat_of(2));
     }},
    {"response-without-request", [](Port port) { port.write_response(); }},
    {"response-before-beats",
     [](Port port) {
         port.write_request(0, 2);
         port.write(beat_of(1));
         port.write_response();
     }},
    {"writes-outstanding",
     [](Port port) {
         for (int request = 0; request < 17; request++) port.write_request(0, 1);
     }},
    {"beats-left-unread", [](Port port) { port.read_request(0, 1); }},
    {"response-missing",
     [](Port port) {
         port.write_request(0, 1);
         port.write(beat_of(1));
     }},
    {"none-wide",
     [](Port) {
         set_nibble(15U);
         set_byte(255U);
         set_byte(-128);
     }},
    {"field-too-large", [](Port) { set_nibble(16U); }},
    {"field-negative", [](Port) { set_nibble(-1); }},
    {"lane-too-large", [](Port) { set_byte(256U); }},
    {"signed-lane-too-large", [](Port) { set_byte(128); }},
    {"signed-lane-too-small", [](Port) { set_byte(-129); }},
    {"read-empty-stream", [](Port) { hls::stream<int>().read(); }},
    {"write-full-stream",
     [](Port) {
         hls::stream<int, 1> stream;
         stream.write(1);
         stream.write(2);
     }},
};

}  // namespace

int main(int, char** arguments) {
    SmallDram dram;
    hetfab::PortModel port(dram);
    try {
        violations.at(arguments[1])(Port(port));
        port.check_idle();
    } catch (const hetfab::ProtocolError& error) {
        std::printf("%s\n", error.what());
    } catch (const std::range_error& error) {
        std::printf("%s\n", error.what());
    }
    return 0;
}
