// SPDX-License-Identifier: Apache-2.0
// hls4ml's own dense layer, 512 int8 inputs and outputs with 32-bit sums, as its generated projects call it with the
// resource strategy: what benchmarks/emulator.py compares the emulator with.
#include <cstdint>

#include "ap_fixed.h"
#include "nnet_utils/nnet_dense.h"

namespace {

constexpr unsigned width = 512;

struct Config : nnet::dense_config {
    static const unsigned n_in = width;
    static const unsigned n_out = width;
    static const unsigned strategy = nnet::resource;
    static const unsigned reuse_factor = width;
    typedef ap_fixed<32, 32> accum_t;
    typedef ap_fixed<32, 32> bias_t;
    typedef ap_fixed<8, 8> weight_t;
    template <class Data, class Result, class Self>
    using kernel = nnet::DenseResource_rf_leq_nin<Data, Result, Self>;
    template <class X, class Y>
    using product = nnet::product::mult<X, Y>;
};

Config::weight_t weight[width * width];
Config::bias_t bias[width];

}  // namespace

// weights is [outputs][inputs], as hls4ml stores it for this strategy.
extern "C" void set_weights(const std::int8_t* weights) {
    for (unsigned i = 0; i < width * width; i++) weight[i] = static_cast<int>(weights[i]);
    for (unsigned i = 0; i < width; i++) bias[i] = 0;
}

extern "C" void dense(const std::int8_t* rows, unsigned count, std::int32_t* results) {
    for (unsigned row = 0; row < count; row++) {
        Config::weight_t data[width];
        Config::accum_t found[width];
        for (unsigned i = 0; i < width; i++) data[i] = static_cast<int>(rows[row * width + i]);
        nnet::dense<Config::weight_t, Config::accum_t, Config>(data, found, weight, bias);
        for (unsigned i = 0; i < width; i++) results[row * width + i] = found[i].to_int();
    }
}
