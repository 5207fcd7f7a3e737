# SPDX-License-Identifier: Apache-2.0
"""Runs a Python program on the emulated device: ``python -m hetfab.driver.pynq_device program.py [arguments]``."""

import os
import runpy
import sys
from pathlib import Path

from hetfab.driver.pynq_device import EMULATED, VARIABLE, register


def main() -> None:
    """Runs the program that the command line names."""
    if len(sys.argv) < 2:
        sys.exit("usage: python -m hetfab.driver.pynq_device program.py [arguments]")
    os.environ[VARIABLE] = EMULATED
    register()
    del sys.argv[0]
    sys.path[0] = str(Path(sys.argv[0]).resolve().parent)
    runpy.run_path(sys.argv[0], run_name="__main__")


if __name__ == "__main__":
    main()
