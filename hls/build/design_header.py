# SPDX-License-Identifier: Apache-2.0
"""Writes a geometry as the C++ constants that the kernels are templates over."""

import dataclasses

from hetfab.overlay.design import Geometry
from hetfab.overlay.isa.spec import isa


def design_header(geometry: Geometry, identity: str = "") -> str:
    """The text of ``design.hpp``: ``struct hetfab::Design`` with one constant per parameter.

    Args:
        geometry: The parameters.
        identity: What the overlay's registers show, 64 bits in hexadecimal; the geometry's own without.
    """
    numbers = {
        field.name: getattr(geometry, field.name) for field in dataclasses.fields(geometry) if field.name != "engines"
    }
    numbers["lanes"] = geometry.lanes
    numbers["engine_mask"] = sum(1 << isa().engine(name).id for name in geometry.engines)
    lines = [f"    static constexpr unsigned {name} = {value};" for name, value in numbers.items()]
    return "\n".join(
        [
            "// SPDX-License-Identifier: Apache-2.0",
            "// Generated from a design: do not edit.",
            "#pragma once\n\n#include <cstdint>\n\nnamespace hetfab {\n",
            "struct Design {",
            *lines,
            f"    static constexpr std::uint64_t geometry_hash = 0x{identity or geometry.hash()[:16]};",
            "};\n\n}  // namespace hetfab\n",
        ]
    )
