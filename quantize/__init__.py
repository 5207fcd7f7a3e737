# SPDX-License-Identifier: Apache-2.0
"""Post-training quantization: chooses the numbers and writes them into the ONNX file."""

if not __name__.startswith("hetfab."):
    raise ImportError(
        f"imported as '{__name__}', but this package is 'hetfab.quantize': "
        "a second copy would have other classes. Write 'import hetfab.quantize'."
    )
