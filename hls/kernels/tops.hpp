// SPDX-License-Identifier: Apache-2.0
// The integer family and the types of the design that the top functions are built for.
#pragma once

#include "design.hpp"
#include "hetfab/events.hpp"
#include "hetfab/shim.hpp"
#include "hetfab/types.hpp"

#ifdef HETFAB_FAMILY_HEADER
#include HETFAB_FAMILY_HEADER
#endif

using hetfab::Design;
namespace isa = hetfab::isa;

#if defined(HETFAB_FAMILY)
using Family = HETFAB_FAMILY;
#elif defined(HETFAB_AP_INT)
using Family = hetfab::Ap;
#elif defined(__SYNTHESIS__)
#error "synthesis needs the exact widths: define HETFAB_AP_INT"
#else
using Family = hetfab::Native;
#endif
using Types = hetfab::DesignTypes<Design, Family>;
