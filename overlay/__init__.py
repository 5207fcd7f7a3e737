# SPDX-License-Identifier: Apache-2.0
"""What every part agrees on, and the planner: errors, design, instruction set, models, compiler, binding."""

if not __name__.startswith("hetfab."):
    raise ImportError(
        f"imported as '{__name__}', but this package is 'hetfab.overlay': "
        "a second copy would have other classes. Write 'import hetfab.overlay'."
    )
