# SPDX-License-Identifier: Apache-2.0
"""An emulated board as a PYNQ device: unmodified ``pynq.Overlay`` and the rest of pynq reach the emulated overlay.

``HETFAB_DEVICE=emulated`` selects it, for programs that import hetfab's driver. Any other program runs on it by
``python -m hetfab.driver.pynq_device program.py``. pynq itself is imported only when ``register`` is called.
"""

import os

#: Environment variable that selects the device, and its value.
VARIABLE, EMULATED = "HETFAB_DEVICE", "emulated"


def selected() -> bool:
    """Whether the environment asks for the emulated device."""
    return os.environ.get(VARIABLE) == EMULATED


def register() -> None:
    """Makes the device known to pynq, which then finds it if it is selected.

    Raises:
        ImportError: pynq is not installed.
    """
    import hetfab.driver.pynq_device.device  # noqa: F401  pynq keeps a list of device classes
