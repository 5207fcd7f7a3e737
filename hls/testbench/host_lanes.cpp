// SPDX-License-Identifier: Apache-2.0
// Products of the Lanes classes that this build has, called from tests.
#include "host/panels.hpp"

namespace {

using hetfab::Panels;
using hetfab::UnitStep;

// acts is rows x channels, weights is units x steps of 4 channels x 8 columns x 4 channels.
template <class Lanes>
void run(const unsigned char* acts, const unsigned char* weights, unsigned rows, unsigned steps,
         unsigned units, int accumulate, int cut, std::int32_t* sums) {
    Panels<Lanes> panels(steps, units);
    std::vector<UnitStep> unit(steps);
    for (unsigned number = 0; number < units; number++) {
        std::memcpy(unit.data(), weights + number * steps * sizeof(UnitStep), steps * sizeof(UnitStep));
        panels.put(number, [&unit](unsigned step) { return unit[step]; });
    }
    for (unsigned column = 0; column < panels.columns; column++)
        panels.base[column] = static_cast<int>(column);
    std::vector<typename Lanes::Activation> widened(rows * panels.row_length());
    for (unsigned row = 0; row < rows; row++) {
        for (unsigned i = 0; i < panels.channels; i++) {
            widened[row * panels.row_length() + i] = acts[row * panels.channels + i];
        }
    }
    hetfab::multiply(widened.data(), rows, panels, {sums, panels.columns, accumulate != 0, cut});
}

using Run = void (*)(const unsigned char*, const unsigned char*, unsigned, unsigned, unsigned, int, int,
                     std::int32_t*);
struct Named {
    const char* name;
    Run run;
};
const Named lanes[] = {
    {hetfab::PortableLanes::name, run<hetfab::PortableLanes>},
#if defined(__SSE2__)
    {hetfab::SseLanes::name, run<hetfab::SseLanes>},
#endif
#if defined(__AVX2__)
    {hetfab::Avx2Lanes::name, run<hetfab::Avx2Lanes>},
#endif
#if defined(__AVX512VNNI__) && defined(__AVX512F__)
    {hetfab::VnniLanes::name, run<hetfab::VnniLanes>},
#endif
};

}  // namespace

extern "C" unsigned lanes_count() { return sizeof lanes / sizeof lanes[0]; }
extern "C" const char* lanes_name(unsigned number) { return lanes[number].name; }
extern "C" void lanes_run(unsigned number, const unsigned char* acts, const unsigned char* weights,
                          unsigned rows, unsigned steps, unsigned units, int accumulate, int cut,
                          std::int32_t* sums) {
    lanes[number].run(acts, weights, rows, steps, units, accumulate, cut, sums);
}
