# SPDX-License-Identifier: Apache-2.0
"""The command line: one file per command, no logic."""

if not __name__.startswith("hetfab."):
    raise ImportError(
        f"imported as '{__name__}', but this package is 'hetfab.cli': "
        "a second copy would have other classes. Write 'import hetfab.cli'."
    )
