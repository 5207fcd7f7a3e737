# SPDX-License-Identifier: Apache-2.0
"""The HLS C++ kernels and what turns a design into something that executes."""

if not __name__.startswith("hetfab."):
    raise ImportError(
        f"imported as '{__name__}', but this package is 'hetfab.hls': "
        "a second copy would have other classes. Write 'import hetfab.hls'."
    )
