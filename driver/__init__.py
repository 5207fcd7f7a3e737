# SPDX-License-Identifier: Apache-2.0
"""Runs programs: graphs, feeds, the transport protocol, sessions, targets."""

if not __name__.startswith("hetfab."):
    raise ImportError(
        f"imported as '{__name__}', but this package is 'hetfab.driver': "
        "a second copy would have other classes. Write 'import hetfab.driver'."
    )
