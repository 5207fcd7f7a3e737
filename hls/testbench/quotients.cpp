// SPDX-License-Identifier: Apache-2.0
// Quotients of attention, called from tests.
#include "hetfab/quotients.hpp"

namespace {

#ifdef HETFAB_AP_INT
using Z = hetfab::Ap;
#else
using Z = hetfab::Native;
#endif

}  // namespace

extern "C" void quotients(const std::int64_t* numerators, const std::int64_t* denominators, long count,
                          int is_unsigned, std::int32_t* results) {
    constexpr int bits = hetfab::isa::partial_bits;
    for (long i = 0; i < count; i++) {
        const hetfab::S<Z, bits> denominator = hetfab::wrap<Z, bits>(denominators[i]);
        const hetfab::Divisor<Z> divisor = hetfab::divisor_of<Z>(denominator, is_unsigned != 0);
        const hetfab::S<Z, bits> numerator = hetfab::wrap<Z, bits>(numerators[i]);
        const hetfab::S<Z, 32> quotient = hetfab::attention_q8<Z>(numerator, divisor);
        results[i] = static_cast<std::int32_t>(static_cast<std::int64_t>(quotient));
    }
}
