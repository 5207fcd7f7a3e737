// SPDX-License-Identifier: Apache-2.0
// A careless integer family: its `wrap` and `saturate` only convert. With it, results depend on how many bits
// a type really has, which shows that comparing native integers with ap_int finds such an error.
#pragma once

#include "hetfab/ints.hpp"

namespace hetfab {

template <class Base>
struct Careless : Base {
    template <int Width, class Value>
    static S<Base, Width> wrap(Value value) {
        return static_cast<S<Base, Width>>(value);
    }
    template <int Width, class Value>
    static S<Base, Width> saturate(Value value) {
        return static_cast<S<Base, Width>>(value);
    }
};

}  // namespace hetfab
